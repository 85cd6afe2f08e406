package billfile

import (
	"encoding/hex"
	"flag"
	"fmt"
	"math/big"
	"net/mail"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"
)

// Idempotency keys rest on these values: they never change.
func TestContentDigestGolden(t *testing.T) {
	full := Bill{
		Reference: "INV-1", Currency: "ZAR", Amount: 2000, BillDate: "2026-10-01", DueDate: "2026-10-31",
		AccountReference: "A1", AccountID: "bacc_1", CustomerReference: "C1", CustomerID: "bcus_1",
		AccountName: "Main", CustomerName: "Zoë", CustomerEmail: "zoe@example.com", CustomerPhone: "+27821234567",
		Metadata: []Pair{{"branch", "Cape Town"}, {"period", "2026-10"}},
	}
	swapped := full
	swapped.Metadata = []Pair{{"period", "2026-10"}, {"branch", "Cape Town"}}
	for _, tt := range []struct {
		name string
		bill Bill
		want string
	}{
		{"empty", Bill{}, "84ccba7ec4ce32eb6e7e631e3e7cd93e3979998d230e386c1ad6785ef53e9fef"},
		{"small", Bill{Reference: "A", Currency: "ZAR", Amount: 1, CustomerReference: "C"}, "e5a9f6cfb953c2d2c292a6bc732e2db6db15f3d7c5470aad030b83b52b125c01"},
		{"full", full, "7c71546107294e88bc0bb460eb16c997c669cf84bd34905918c3a8900b0fad7e"},
		{"full, columns in another order", swapped, "7c71546107294e88bc0bb460eb16c997c669cf84bd34905918c3a8900b0fad7e"},
	} {
		if got := ContentDigest(&tt.bill); hex.EncodeToString(got[:]) != tt.want {
			t.Errorf("%s: got %x, want %s", tt.name, got, tt.want)
		}
	}
	if swapped.Metadata[0].Key != "period" {
		t.Error("the bill was changed")
	}
}

// Every field counts, and no field's end can pass for another's beginning.
func TestContentDigestTellsApart(t *testing.T) {
	seen := map[[32]byte]int{}
	for i, b := range []Bill{
		{}, {Reference: "A"}, {Currency: "A"}, {Amount: 1}, {BillDate: "A"}, {DueDate: "A"}, {AccountReference: "A"}, {AccountID: "A"},
		{CustomerReference: "A"}, {CustomerID: "A"}, {AccountName: "A"}, {CustomerName: "A"}, {CustomerEmail: "A"}, {CustomerPhone: "A"},
		{Metadata: []Pair{{"A", ""}}}, {Metadata: []Pair{{"", "A"}}}, {Metadata: []Pair{{"A", "B"}}}, {Metadata: []Pair{{"AB", ""}}},
		{AccountName: "AB"}, {AccountName: "A", CustomerName: "B"}, {Metadata: []Pair{{"A", "B"}, {"C", "D"}}}, {Metadata: []Pair{{"A", "D"}, {"C", "B"}}},
	} {
		d := ContentDigest(&b)
		if j, ok := seen[d]; ok {
			t.Errorf("bills %d and %d have one digest", j, i)
		}
		seen[d] = i
	}
}

func TestMinorUnits(t *testing.T) {
	for code, want := range map[string]int{"ZAR": 2, "USD": 2, "JPY": 0, "BHD": 3, "CLF": 4, "IDR": 2, "PKR": 2, "COP": 2, "ISK": 0, "UGX": 0, "KWD": 3, "UYW": 4, "MRU": 2, "XAF": 0} {
		if got, ok := MinorUnits(code); !ok || got != want {
			t.Errorf("%s: got %d, %v, want %d", code, got, ok, want)
		}
	}
	for _, code := range []string{"", "zar", "ZA", "ZARS", "ED ", " AF", "ZZZ", "XAU", "XXX", "XTS", "DEM", "HRK"} {
		if got, ok := MinorUnits(code); ok {
			t.Errorf("%q: got %d, want none", code, got)
		}
	}
	// The decimals that are not 2, all of them, and codes that were withdrawn.
	for list, want := range map[string]int{
		"BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF": 0, "BHD IQD JOD KWD LYD OMR TND": 3, "CLF UYW": 4,
		"AFN ALL AMD COP CRC HUF IDR IRR KHR KPW LAK LBP MGA MMK MNT MRU PKR RSD SLE SOS SYP TWD TZS UZS YER XAD XCG ZWG USN MXV COU CHE CHW BOV": 2,
	} {
		for code := range strings.FieldsSeq(list) {
			if got, ok := MinorUnits(code); !ok || got != want {
				t.Errorf("%s: got %d, %v, want %d", code, got, ok, want)
			}
		}
	}
	if n := len(strings.Fields(decimals0)) + len(strings.Fields(decimals3)) + len(strings.Fields(decimals4)); n != 26 {
		t.Errorf("%d currencies have other than 2 decimals, not 26", n)
	}
	for code := range strings.FieldsSeq("ANG BGN BYR CUC HRK LTL MRO SLL STD VEF ZWL XAG XDR XSU XUA CLE") {
		if _, ok := MinorUnits(code); ok {
			t.Errorf("%s is known, though nobody is billed in it", code)
		}
	}
	all := map[string]bool{}
	for _, list := range []string{decimals0, decimals2, decimals3, decimals4} {
		for code := range strings.FieldsSeq(list) {
			if len(code) != 3 || strings.ToUpper(code) != code || all[code] {
				t.Errorf("%q is wrong, or there twice", code)
			}
			all[code] = true
		}
	}
}

// allAmounts has every amount that the API takes go round, which takes minutes.
var allAmounts = flag.Bool("amounts.all", false, "check all 99,999,999 amounts, not a sample of them")

// Every amount that can be written is read back exactly, in minor units and with any number of decimals.
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

// roundTripAmount writes v in all ways that there are, in the space of text, and reads it back.
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
			if v != 0 {
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

// The hand-written reader of ISO dates agrees with the calendar.
func TestISODates(t *testing.T) {
	for day := time.Date(1899, 12, 1, 0, 0, 0, 0, time.UTC); day.Year() < 2110; day = day.AddDate(0, 0, 1) {
		s := day.Format(isoDate)
		if got := isISO(s); got != (day.Year() >= minYear) {
			t.Fatalf("%s: got %v", s, got)
		}
	}
	for year := 1999; year < 2009; year++ {
		for month := range 14 {
			for day := range 33 {
				s := fmt.Sprintf("%04d-%02d-%02d", year, month, day)
				_, err := time.Parse(isoDate, s)
				if got := isISO(s); got != (err == nil) {
					t.Fatalf("%s: got %v, the calendar says %v", s, got, err)
				}
			}
		}
	}
}

func TestDateHints(t *testing.T) {
	for cell, want := range map[string]string{
		"46053": "serial number", "31/01/2026": "another date format", "2026-31-01": "the other way round", "2026-01-31T00:00:00Z": "time",
	} {
		if _, f := newDateFormat(isoDate).parse(cell); f.code != CodeInvalidDate || !strings.Contains(f.detail, want) {
			t.Errorf("%s: got %v, want a hint at %q", cell, f, want)
		}
	}
}

// isAddress and net/mail are of one mind on addresses without quoted parts and with a dotted domain.
func FuzzIsAddress(f *testing.F) {
	for _, s := range []string{
		"a@b.c", "a.b+c%d_e-f@g-h.i.j", "-a@b.c", "a@-b.c", "a@1.2", ".a@b.c", "a.@b.c", "a@b..c", "@b.c", "a@b.c@d.e", "o'neil@b.c", "zoë@b.c", "a@bücher.de", "a@b", "a@[1.2]",
		"\"a\"@b.c", "a@ b.c", " a@b.c", "a@b.c ", "a b@c.d", "A <a@b.c>", "<a@b.c>", "a@b.c (x)", "(x)a@b.c", "a@b.c,d@e.f", "g:a@b.c;", "=?utf-8?q?a?=@b.c", "a@b.c\x7f", "a@b\u00a0.c", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return // no cell of a file that was read
		}
		addr, err := mail.ParseAddress(s)
		_, domain, _ := strings.Cut(s, "@")
		want := err == nil && addr.Address == s && addr.Name == "" && strings.Contains(domain, ".") && domain[0] != '['
		if got := isAddress(s); got != want {
			t.Errorf("%q: got %v, the library says %v, %v", s, got, addr, err)
		}
	})
}
