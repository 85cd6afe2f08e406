package billfile

import (
	"math/rand/v2"
	"regexp"
	"strconv"
	"testing"
)

// What is recognised without the library, the library takes for the same number. What is
// not, costs time only; but plain numbers of South Africa must be recognised.
func TestPlainNumbersAgreeWithLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	plans := 0
	for _, region := range []string{"ZA", "KE", "NG", "BW", "NA", "ZW", "ZM", "MZ", "DE", "FR", "NL", "GH", "TZ", "UG", "EG", "IN", "SE", "CH"} {
		r := newPhoneReader(region)
		r.once.Do(r.load)
		if r.plain == nil {
			continue
		}
		plans++
		yes := 0
		for range 4000 {
			s := strconv.Itoa(random.IntN(9) + 1)
			for range 5 + random.IntN(7) {
				s += strconv.Itoa(random.IntN(10))
			}
			switch random.IntN(3) {
			case 0:
				s = "0" + s
			case 1:
				s = r.plain.code + s
			}
			if random.IntN(3) == 0 {
				at := 1 + random.IntN(len(s)-1)
				s = s[:at] + string(" -+(/"[random.IntN(5)]) + s[at:]
			}
			fast := r.plain.parse(s)
			if fast == "" {
				continue
			}
			yes++
			if slow, f := r.any(s); slow != fast {
				t.Errorf("%s %q: recognised as %s, the library says %s %v", region, s, fast, slow, f)
			}
		}
		if yes == 0 {
			t.Errorf("%s: not one of 4000 numbers was recognised, the test tests nothing", region)
		}
	}
	if plans < 3 {
		t.Errorf("only %d regions have plain numbers", plans)
	}
	za := newPhoneReader("ZA")
	za.once.Do(za.load)
	for _, s := range []string{"0821234567", "082 123 4567", "082-123-4567", "+27821234567", "+27 82 123 4567", "0211234567", "0800123456"} {
		if za.plain.parse(s) == "" {
			t.Errorf("%s is left to the library", s)
		}
	}
	for _, s := range []string{"0", "+", "+27", "00", "0 ", " 0821234567", "0821234567 ", "082  1234567", "+270821234567", "082123456", "08212345678", "8", "-0821234567"} {
		if got := za.plain.parse(s); got != "" {
			t.Errorf("%q: got %s", s, got)
		}
	}
}

// A set of digits holds what the pattern matches as a whole.
func TestDigitSet(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for pattern, length := range map[string]int{
		`8[1-4]\d{3,7}`: 9, `1(?:3492[0-25]|4495[0235])\d{3}|4[34]492[01]\d{3}`: 9, `[1-79]\d{8}|8\d{4,9}`: 5, `(?:1|22)*3?`: 4, `7`: 2, ``: 3,
	} {
		set, err := newDigitSet(pattern, length)
		if err != nil {
			t.Fatal(err)
		}
		re := regexp.MustCompile("^(?:" + pattern + ")$")
		for range 20_000 {
			number := make([]byte, length)
			for i := range number {
				number[i] = "1234849205"[random.IntN(10)]
			}
			if got := set.has(number); got != re.Match(number) {
				t.Fatalf("%s: %s is in the set: %v", pattern, number, got)
			}
		}
	}
	if _, err := newDigitSet(`^1`, 1); err == nil {
		t.Error("an anchor is taken for a digit")
	}
}
