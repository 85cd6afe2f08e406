package billfile

import (
	"io"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Encoder returns a writer that takes UTF-8 and writes the file's own encoding to w,
// after a byte order mark if the file had one. What was read from the file comes back
// byte for byte. A Write may end inside a character; Close, which does not close w, fails
// if the last character is incomplete. A character that the encoding does not have is an
// error: nothing is replaced. It is not safe for concurrent use.
func (l Layout) Encoder(w io.Writer) io.WriteCloser {
	return transform.NewWriter(w, transform.Chain(encoding.UTF8Validator, l.encoding().NewEncoder()))
}

func (l Layout) encoding() encoding.Encoding {
	mark := unicode.IgnoreBOM
	if l.BOM {
		mark = unicode.UseBOM
	}
	switch {
	case l.Encoding == enc1252:
		return charmap.Windows1252
	case l.Encoding == encUTF16LE:
		return unicode.UTF16(unicode.LittleEndian, mark)
	case l.Encoding == encUTF16BE:
		return unicode.UTF16(unicode.BigEndian, mark)
	case l.BOM:
		return unicode.UTF8BOM
	}
	return encoding.Nop
}
