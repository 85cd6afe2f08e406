package billfile

import (
	"bytes"
	"testing"
)

func TestEncoder(t *testing.T) {
	for _, tt := range []struct {
		layout Layout
		text   string
		want   string
		bad    bool // Write or Close fails
	}{
		{Layout{}, "é,1\r\n", "é,1\r\n", false},
		{Layout{Encoding: encUTF8, BOM: true}, "é\n", "\ufeffé\n", false},
		{Layout{Encoding: enc1252}, "é €\n", "\xe9 \x80\n", false},
		{Layout{Encoding: enc1252}, "Ngũgĩ\n", "", true},
		{Layout{Encoding: encUTF16LE, BOM: true}, "é𝄞", "\xff\xfe\xe9\x00\x34\xd8\x1e\xdd", false},
		{Layout{Encoding: encUTF16BE, BOM: true}, "é𝄞", "\xfe\xff\x00\xe9\xd8\x34\xdd\x1e", false},
		{Layout{Encoding: encUTF16LE}, "\ufeffé", "\xff\xfe\xe9\x00", false},
		{Layout{}, "a\xc3", "", true},
		{Layout{Encoding: encUTF16LE}, "a\xc3", "", true},
		{Layout{Encoding: enc1252}, "\xe9", "", true},
	} {
		for step := 1; step < 4; step++ {
			var out bytes.Buffer
			w := tt.layout.Encoder(&out)
			bad := false
			for rest := []byte(tt.text); len(rest) > 0; {
				n := min(step, len(rest))
				_, err := w.Write(rest[:n])
				bad, rest = bad || err != nil, rest[n:]
			}
			bad = w.Close() != nil || bad
			if bad != tt.bad || !bad && out.String() != tt.want {
				t.Errorf("%s, %q in steps of %d: got %q, failed %v, want %q, %v", tt.layout.Encoding, tt.text, step, out.String(), bad, tt.want, tt.bad)
			}
		}
	}
}
