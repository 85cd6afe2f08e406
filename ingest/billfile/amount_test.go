package billfile

import (
	"flag"
	"math/big"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"
)

// allAmounts has every amount that the API takes go round, which takes minutes.
var allAmounts = flag.Bool("amounts.all", false, "check all 99,999,999 amounts, not a sample of them")

// Every amount that can be written is read back exactly, in minor units and with any
// number of decimals.
func TestAmountsRoundTrip(t *testing.T) {
	if !*allAmounts {
		var text []byte
		for v := int64(1); v <= maxAmount; v = v + 1 + v/1000 {
			text = roundTripAmount(t, text, v)
		}
		roundTripAmount(t, text, maxAmount)
		return
	}
	const part = 100_000
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	checked := make([]int64, 0, maxAmount/part+1)
	for from := int64(1); from <= maxAmount; from += part {
		checked = append(checked, 0)
		n := &checked[len(checked)-1]
		group.Go(func() error {
			var text []byte
			for v := from; v < from+part && v <= maxAmount && !t.Failed(); v++ {
				text = roundTripAmount(t, text, v)
				*n++
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, n := range checked {
		total += n
	}
	if total != maxAmount {
		t.Errorf("%d amounts were checked, not %d", total, maxAmount)
	}
}

// roundTripAmount writes v in all ways that there are, in the space of text, and reads it
// back.
func roundTripAmount(t *testing.T, text []byte, v int64) []byte {
	check := func(unit Amounts, decimals int) {
		if got, f := parseAmount(string(text), unit, decimals, maxAmount); got != v || f.code != "" {
			t.Errorf("%s with %d decimals: got %d, %v, want %d", text, decimals, got, f, v)
		}
	}
	text = strconv.AppendInt(text[:0], v, 10)
	check(Minor, 2)
	check(Major, 0)
	for decimals, scale := 1, int64(10); decimals <= 4; decimals, scale = decimals+1, scale*10 {
		text = append(strconv.AppendInt(text[:0], v/scale, 10), '.')
		for unit := scale / 10; unit > 0; unit /= 10 {
			text = append(text, byte('0'+v/unit%10))
		}
		check(Major, decimals)
	}
	return text
}

// Whatever the text: it is refused, or it is the exact amount by the rules of arithmetic.
func TestAmountsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.StringMatching(`[0-9]{0,9}(\.[0-9]{0,5})?`), rapid.StringMatching(`[-+ ]?[0-9]{1,6}[.,' eE+-]{0,2}[0-9]{0,6}`), rapid.String()).Draw(t, "text")
		decimals := rapid.IntRange(0, 4).Draw(t, "decimals")
		v, f := parseAmount(s, Major, decimals, maxAmount)
		if f.code != "" {
			if v != 0 && (f.code != CodeAmountOutOfRange || v <= maxAmount) {
				t.Fatalf("%q: %s, and an amount of %d", s, f.code, v)
			}
			return
		}
		want, ok := new(big.Rat).SetString(s)
		if !ok {
			t.Fatalf("%q was read as %d", s, v)
		}
		for range decimals {
			want.Mul(want, big.NewRat(10, 1))
		}
		if want.Cmp(big.NewRat(v, 1)) != 0 {
			t.Fatalf("%q: got %d minor units, want %s", s, v, want)
		}
	})
}
