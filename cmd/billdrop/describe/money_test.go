package describe

import "testing"

func TestMoney(t *testing.T) {
	for _, c := range []struct {
		currency string
		minor    int64
		want     string
	}{
		{"ZAR", 0, "0.00"}, {"ZAR", 5, "0.05"}, {"ZAR", 2000, "20.00"}, {"ZAR", 123456789, "1,234,567.89"},
		{"ZAR", -150, "-1.50"}, {"JPY", 1500, "1,500"}, {"BHD", 1234, "1.234"}, {"???", 2000, "2,000"},
	} {
		if got := Money(c.currency, c.minor); got != c.want {
			t.Errorf("%d minor units of %s are %s, want %s", c.minor, c.currency, got, c.want)
		}
	}
}

func TestCount(t *testing.T) {
	for _, c := range []struct {
		n     int
		thing string
		want  string
	}{
		{0, "row", "0 rows"}, {1, "row", "1 row"}, {1234, "look-up", "1,234 look-ups"}, {2, "entry", "2 entries"}, {1, "entry", "1 entry"},
	} {
		if got := Count(c.n, c.thing); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if got, want := more(3, "row", "--max-rows"), "  … and 3 more rows; --max-rows 0 lists all\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
