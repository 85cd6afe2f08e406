package billfile

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCrossRow(t *testing.T) {
	const header = "bill_reference,amount_due,account_reference,account_name,customer_reference,customer_id,customer_name,customer_phone\n"
	for _, tt := range []struct {
		name string
		rows []string
		want []string // codes of each row
		says []string // part of each row's first detail
	}{
		{"all different", []string{"A,1,,,C1,,Ann,", "B,1,,,C2,,Ann,"}, []string{"", ""}, nil},
		{"same row twice", []string{"A,1,,,C1,,Ann,", "B,1,,,C1,,Ann,", "A,1,,,C1,,Ann,", " A ,001,,,C1,, Ann,"},
			[]string{"", "", "bill_reference:duplicate_reference", "bill_reference:duplicate_reference"}, []string{"", "", "line 2", "line 2"}},
		{"contradiction", []string{"A,1,,,C1,,Ann,", "A,2,,,C1,,Ann,", "A,1,,,C1,,Ann,"},
			[]string{"bill_reference:contradicting_reference", "bill_reference:contradicting_reference", "bill_reference:contradicting_reference"}, []string{"line 3", "line 2", "line 3"}},
		{"contradiction with an invalid row", []string{"A,1,,,C1,,Ann,", "A,x,,,C1,,Ann,"},
			[]string{"bill_reference:contradicting_reference", "bill_reference:contradicting_reference amount_due:invalid_amount"}, []string{"line 3", "line 2"}},
		{"invalid row twice", []string{"A,x,,,C1,,Ann,", "A,x,,,C1,,Ann,"},
			[]string{"amount_due:invalid_amount", "bill_reference:duplicate_reference amount_due:invalid_amount"}, []string{"", "line 2"}},
		{"case matters", []string{"A,1,,,C1,,,", "a,2,,,c1,,Bo,", "b,2,,,C1,,Ann,"}, []string{"", "", ""}, nil},
		{"unreadable references are not compared", []string{"A B,1,,,C1,,,", "A B,2,,,C1,,,"}, []string{"bill_reference:invalid_reference", "bill_reference:invalid_reference"}, nil},
		{"customer with two names", []string{"A,1,,,C1,,Ann,", "B,1,,,C1,,Bo,", "C,1,,,C1,,,", "D,1,,,C2,,Bo,"},
			[]string{"customer_reference:conflicting_party", "customer_reference:conflicting_party", "customer_reference:conflicting_party", ""}, []string{"line 3", "line 2", "line 2", ""}},
		{"customer with two phones", []string{"A,1,,,C1,,Ann,0821234567", "B,1,,,C1,,Ann,0821234568"},
			[]string{"customer_reference:conflicting_party", "customer_reference:conflicting_party"}, []string{"customer_phone on line 3", "customer_phone on line 2"}},
		{"one phone written in two ways", []string{"A,1,,,C1,,Ann,0821234567", "B,1,,,C1,,Ann,+27 82 123 4567"}, []string{"", ""}, nil},
		{"details given once", []string{"A,1,,,C1,,,", "B,1,,,C1,,Ann,", "C,1,,,C1,,,0821234567", "D,1,,,C1,,Ann,0821234567"}, []string{"", "", "", ""}, nil},
		{"account with two names", []string{"A,1,X,Main,C1,,,", "B,1,X,Other,C1,,,"},
			[]string{"account_reference:conflicting_party", "account_reference:conflicting_party"}, []string{"account_name on line 3", "account_name on line 2"}},
		{"account of two customers", []string{"A,1,X,,C1,,,", "B,1,X,,C2,,,", "C,1,X,,,,,"},
			[]string{"account_reference:conflicting_party", "account_reference:conflicting_party", "account_reference:conflicting_party"}, []string{"customer_reference on line 3", "customer_reference on line 2", "line 2"}},
		{"account and customer of one name", []string{"A,1,X,Main,,,,", "B,1,,,X,,Ann,"}, []string{"", ""}, nil},
		{"account's customer by reference and by id", []string{"A,1,X,,C1,,,", "B,1,X,,,bcus_1,,"}, []string{"", ""}, nil},
		{"party of an invalid row", []string{"A,x,,,C1,,Ann,", "B,1,,,C1,,Bo,"},
			[]string{"amount_due:invalid_amount customer_reference:conflicting_party", "customer_reference:conflicting_party"}, nil},
		{"everything at once", []string{"A,1,X,M,C1,,Ann,", "A,2,X,N,C1,,Bo,"},
			[]string{"bill_reference:contradicting_reference account_reference:conflicting_party customer_reference:conflicting_party", "bill_reference:contradicting_reference account_reference:conflicting_party customer_reference:conflicting_party"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, all := records(t, header+strings.Join(tt.rows, "\n")+"\n", zar)
			for i, r := range all {
				if got := codes(r); got != tt.want[i] {
					t.Errorf("row %d: got %q, want %q", i+1, got, tt.want[i])
				}
				if tt.says != nil && tt.says[i] != "" && !strings.Contains(r.Problems[0].Detail, tt.says[i]) {
					t.Errorf("row %d: detail %q does not say %q", i+1, r.Problems[0].Detail, tt.says[i])
				}
			}
		})
	}
}

// A file is read once, also where parties come again and again; twice more only where
// rows have to be compared.
func TestPasses(t *testing.T) {
	for text, want := range map[string]int{
		head + "A,1,C1\nB,1,C1\nC,1,C1\n":   1,
		head + "A,1,C1\nA,1,C1\n":           3,
		head + "A,1,C1\nB,x,C1\n":           1,
		head + "A,1,C1\nB,\"1\nC,1,C1\"x\n": 1,
		rowHeader + row(nil) + row(nil)[:5] + "9" + row(map[string]string{"customer_name": "Ann"})[5:]: 1,
	} {
		opened := 0
		_, err := TakeSurvey(t.Context(), func() (r readCloser, err error) { opened++; return opener(text)() }, zar, nil)
		if err != nil || opened != want {
			t.Errorf("%q: opened %d times, want %d (%v)", text, opened, want, err)
		}
	}
}

// What the second pass finds does not depend on how many parties it looks at in one
// round.
func TestRounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := func(name string, most int) string {
			if n := rapid.IntRange(0, most).Draw(t, name); n > 0 {
				return fmt.Sprint(name, n)
			}
			return ""
		}
		h := newHasher()
		items := make([]item, rapid.IntRange(1, 40).Draw(t, "rows"))
		var seen sightings
		for i := range items {
			it := &items[i]
			it.Line = i + 2
			it.Bill = Bill{
				Reference: some("bill", 20), CustomerReference: some("customer", 8), CustomerName: some("name", 2), CustomerPhone: some("phone", 2),
				AccountReference: some("account", 8), AccountName: some("title", 2),
			}
			it.reference, it.customer, it.account = it.Bill.Reference != "", it.Bill.CustomerReference != "", it.Bill.AccountReference != ""
			it.id = h.identity(it)
			seen.add(&it.id)
		}
		found := seen.suspects()
		for most := 1; most <= found.parties(); most++ {
			f := *found
			f.repeated, f.disputed = slices.Clone(found.repeated), slices.Clone(found.disputed)
			rounds := 0
			for from := 0; !f.complete; rounds++ {
				r := newRound(&f, from, most)
				for i := range items {
					items[i].member = f.membership(&items[i], h, true)
					r.observe(&items[i])
				}
				from = r.end()
			}
			all := *found
			all.repeated, all.disputed = slices.Clone(found.repeated), slices.Clone(found.disputed)
			r := newRound(&all, 0, maxDisputes)
			for i := range items {
				r.observe(&items[i])
			}
			r.end()
			if want := (f.parties() + most - 1) / most; rounds != want || !slices.Equal(f.repeated, all.repeated) || !slices.Equal(f.disputed, all.disputed) {
				t.Fatalf("%d rounds of %d parties (want %d) found %v %v, one round %v %v", rounds, most, want, f.repeated, f.disputed, all.repeated, all.disputed)
			}
		}
	})
}

// The compact tables find what plain maps find.
func TestCrossRowAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type line struct{ ref, amount, account, accountName, customer, name, phone string }
		pick := func(of ...string) *rapid.Generator[string] { return rapid.SampledFrom(of) }
		var lines []line
		text := "bill_reference,amount_due,account_reference,account_name,customer_reference,customer_name,customer_phone\n"
		for i := range rapid.IntRange(1, 30).Draw(t, "rows") {
			l := line{
				ref:    rapid.OneOf(pick("A", "B", "C", "c"), rapid.Just(fmt.Sprint("U", i))).Draw(t, "ref"),
				amount: pick("1", "1", "2", "x").Draw(t, "amount"), account: pick("", "X", "Y").Draw(t, "account"),
				accountName: pick("", "Main", "Main", "Other").Draw(t, "accountName"), customer: pick("P", "Q", "R", "S").Draw(t, "customer"),
				name: pick("", "Ann", "Ann", "Ann", "Bo").Draw(t, "name"), phone: pick("", "", "0821234567", "12").Draw(t, "phone"),
			}
			lines = append(lines, l)
			text += strings.Join([]string{l.ref, l.amount, l.account, l.accountName, l.customer, l.name, l.phone}, ",") + "\n"
		}
		sets := map[string]map[string]bool{}
		put := func(key, value string) {
			if sets[key] == nil {
				sets[key] = map[string]bool{}
			}
			if value != "" {
				sets[key][value] = true
			}
		}
		for _, l := range lines {
			put("bill "+l.ref, fmt.Sprint(l))
			put("name "+l.customer, l.name)
			put("account "+l.account, l.accountName)
			put("owner "+l.account, l.customer)
		}
		seen := map[string]bool{}
		feed := zar
		feed.AllowTotalRow = true
		survey, all := records(t, text, feed)
		similar := 0
		if sets["bill C"] != nil && sets["bill c"] != nil {
			for _, l := range lines {
				if strings.EqualFold(l.ref, "c") {
					similar++
				}
			}
		}
		i := slices.IndexFunc(survey.Warnings, func(w Warning) bool { return w.Code == WarnSimilarReferences })
		if (i >= 0) != (similar > 0) || i >= 0 && survey.Warnings[i].Count != similar {
			t.Fatalf("%q: warnings %v, want %d similar references", text, survey.Warnings, similar)
		}
		for i, l := range lines {
			var want []string
			if len(sets["bill "+l.ref]) > 1 {
				want = append(want, "bill_reference:contradicting_reference")
			} else if seen[l.ref] {
				want = append(want, "bill_reference:duplicate_reference")
			}
			seen[l.ref] = true
			if l.amount == "x" {
				want = append(want, "amount_due:invalid_amount")
			}
			if l.account != "" && (len(sets["account "+l.account]) > 1 || len(sets["owner "+l.account]) > 1) {
				want = append(want, "account_reference:conflicting_party")
			}
			if len(sets["name "+l.customer]) > 1 {
				want = append(want, "customer_reference:conflicting_party")
			}
			if l.phone == "12" {
				want = append(want, "customer_phone:invalid_phone")
			}
			if got := codes(all[i]); got != strings.Join(want, " ") {
				t.Fatalf("row %d of %q: got %q, want %q", i+1, text, got, want)
			}
			for _, p := range all[i].Problems {
				if strings.Contains(p.Detail, " "+lineText(all[i].Line)+" ") || strings.Contains(p.Detail, " "+lineText(all[i].Line)+":") {
					t.Fatalf("row %d names its own line: %q", i+1, p.Detail)
				}
			}
		}
	})
}
