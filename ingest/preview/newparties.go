package preview

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
)

// WarnNewParties is the code of a plan's warning of customers and accounts that would be created,
// though one is known whose reference differs by zeros at its beginning or letter case alone. A
// spreadsheet takes such zeros away.
const WarnNewParties = "new_parties"

// addedZeros is how many zeros a reference may have lost.
const addedZeros = 4

// newParties counts such parties, each once.
type newParties struct{ count, line int }

// add looks for known parties that are like the new ones of a chunk. The ledger keeps digests of
// references, so each spelling is asked for.
func (n *newParties) add(ctx context.Context, led ledger.Ledger, scope ledger.Scope, chunk []plannedRow, would []delivery.Prospect) error {
	var asked []ledger.PartyRef
	type found struct{ line, from, to int } // of the spellings in asked
	var parties []found
	for i := range chunk {
		b := &chunk[i].bill
		for _, party := range []struct {
			kind      ledger.PartyKind
			reference string
			isNew     int
		}{{ledger.Customer, b.CustomerReference, would[i].Customers}, {ledger.Account, b.AccountReference, would[i].Accounts}} {
			if party.isNew == 0 || party.reference == "" {
				continue
			}
			from := len(asked)
			for _, s := range spellings(party.reference) {
				asked = append(asked, ledger.PartyRef{Kind: party.kind, Reference: s})
			}
			parties = append(parties, found{chunk[i].line, from, len(asked)})
		}
	}
	if len(asked) == 0 {
		return nil
	}
	known, err := led.Parties(ctx, scope, asked)
	if err != nil {
		return err
	}
	for _, p := range parties {
		for _, ref := range asked[p.from:p.to] {
			if _, ok := known[ref]; ok {
				if n.count++; n.count == 1 {
					n.line = p.line
				}
				break
			}
		}
	}
	return nil
}

// warning returns what was found, if anything was.
func (n *newParties) warning() []billfile.Warning {
	if n.count == 0 {
		return nil
	}
	return []billfile.Warning{{Code: WarnNewParties, Count: n.count, Line: n.line, Detail: strconv.Itoa(n.count) +
		" new customers or accounts (first on line " + strconv.Itoa(n.line) + ") differ from known ones by zeros at the beginning or by capital and small letters alone: if they are the same, " +
		"write the reference as before (format the column as text, so that no zeros are lost), or a second one is created"}}
}

// spellings are references that are like s, but for zeros at the beginning or letter case.
func spellings(s string) []string {
	bare := strings.TrimLeft(s, "0")
	var all []string
	for _, text := range []string{bare, strings.ToLower(bare), strings.ToUpper(bare)} {
		for zeros := range len(s) - len(bare) + addedZeros + 1 {
			if t := strings.Repeat("0", zeros) + text; t != s && text != "" && !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	return all
}
