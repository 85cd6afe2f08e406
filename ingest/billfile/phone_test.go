package billfile

import (
	"math/rand/v2"
	"strconv"
	"testing"
)

// Where the tables say yes, the library says the same. Where they say no, they cost time only; but for plain numbers
// of South Africa they must not say no.
func TestPhonePlansAgreeWithLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	plans := 0
	for _, region := range []string{"ZA", "KE", "NG", "BW", "NA", "ZW", "ZM", "MZ", "DE", "FR", "NL", "GH", "TZ", "UG", "EG", "IN", "SE", "CH"} {
		r := newPhoneReader(region)
		r.once.Do(r.load)
		if r.plan == nil {
			continue
		}
		plans++
		yes := 0
		for range 400 {
			s := strconv.Itoa(random.IntN(9) + 1)
			for range 5 + random.IntN(7) {
				s += strconv.Itoa(random.IntN(10))
			}
			switch random.IntN(3) {
			case 0:
				s = "0" + s
			case 1:
				s = r.plan.code + s
			}
			if random.IntN(3) == 0 {
				at := 1 + random.IntN(len(s)-1)
				s = s[:at] + " " + s[at:]
			}
			fast := r.plan.parse(s)
			if fast == "" {
				continue
			}
			yes++
			if slow, f := r.slow(s); slow != fast {
				t.Errorf("%s %q: table %s, library %s %v", region, s, fast, slow, f)
			}
		}
		if yes == 0 {
			t.Errorf("%s: not one of 400 numbers was recognised, the test tests nothing", region)
		}
	}
	if plans < 3 {
		t.Errorf("only %d regions have tables", plans)
	}
	za := newPhoneReader("ZA")
	za.once.Do(za.load)
	for _, s := range []string{"0821234567", "082 123 4567", "082-123-4567", "+27821234567", "+27 82 123 4567", "0211234567", "0800123456"} {
		if za.plan.parse(s) == "" {
			t.Errorf("%s is left to the library", s)
		}
	}
	for _, s := range []string{"0", "+", "+27", "00", "0 ", " 0821234567", "0821234567 ", "082  1234567", "+270821234567", "082123456", "08212345678", "8", "-0821234567"} {
		if got := za.plan.parse(s); got != "" {
			t.Errorf("%q: got %s", s, got)
		}
	}
}
