package billfile

import (
	"strings"
	"testing"
)

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
