package billfile

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// Encoder returns a writer that takes UTF-8 and writes the file's own encoding to w, its byte order mark first
// where the file had one. What a file's reading gave comes back byte for byte. Writes may cut a character;
// Close, which does not close w, fails where the last one was left unfinished. A character that the encoding
// does not have is an error: nothing is replaced. Not for concurrent use.
func (l Layout) Encoder(w io.Writer) io.WriteCloser {
	return &encoder{w: w, encoding: l.Encoding, bom: l.BOM}
}

type encoder struct {
	w        io.Writer
	encoding string
	bom      bool   // still to be written
	rest     []byte // beginning of a character that is not complete yet; at most 3 bytes
	out      []byte
}

func (e *encoder) Write(p []byte) (int, error) {
	e.out = e.out[:0]
	if e.bom && len(p) > 0 {
		e.out = e.append(e.out, '\ufeff')
		e.bom = false
	}
	taken := 0
	for len(e.rest) > 0 && taken < len(p) && !utf8.FullRune(e.rest) {
		e.rest = append(e.rest, p[taken])
		taken++
	}
	if len(e.rest) > 0 && utf8.FullRune(e.rest) {
		if err := e.encode(e.rest); err != nil {
			return 0, err
		}
		e.rest = e.rest[:0]
	}
	text := p[taken:]
	if len(e.rest) == 0 {
		end := len(text)
		for back := 1; back <= min(3, len(text)); back++ {
			if c := text[len(text)-back]; utf8.RuneStart(c) {
				if !utf8.FullRune(text[len(text)-back:]) {
					end -= back
				}
				break
			}
		}
		e.rest = append(e.rest, text[end:]...)
		if err := e.encode(text[:end]); err != nil {
			return 0, err
		}
	}
	if _, err := e.w.Write(e.out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// encode appends whole characters to out.
func (e *encoder) encode(text []byte) error {
	if e.encoding == encUTF8 || e.encoding == "" {
		e.out = append(e.out, text...)
		return nil
	}
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size <= 1 {
			return errors.New("encode bill file: the text is not valid UTF-8")
		}
		before := len(e.out)
		if e.out = e.append(e.out, r); len(e.out) == before {
			return fmt.Errorf("encode bill file: %s has no character %U", e.encoding, r)
		}
		text = text[size:]
	}
	return nil
}

// append appends one character; nothing where the encoding does not have it.
func (e *encoder) append(b []byte, r rune) []byte {
	switch e.encoding {
	case enc1252:
		if c, ok := charmap.Windows1252.EncodeRune(r); ok {
			return append(b, c)
		}
		return b
	case encUTF16LE, encUTF16BE:
		if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			return e.unit(e.unit(b, hi), lo)
		}
		return e.unit(b, r)
	default:
		return utf8.AppendRune(b, r)
	}
}

func (e *encoder) unit(b []byte, u rune) []byte {
	if e.encoding == encUTF16BE {
		return append(b, byte(u>>8), byte(u))
	}
	return append(b, byte(u), byte(u>>8))
}

func (e *encoder) Close() error {
	if len(e.rest) > 0 {
		return errors.New("encode bill file: the text ends in the middle of a character")
	}
	return nil
}
