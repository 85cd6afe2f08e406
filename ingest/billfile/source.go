package billfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Encodings, as Layout.Encoding names them.
const (
	encUTF8    = "utf-8"
	encUTF16LE = "utf-16le"
	encUTF16BE = "utf-16be"
	enc1252    = "windows-1252"
)

// sniffSize is how many bytes of a file's beginning decide what it is.
const sniffSize = 4096

// magics are beginnings of files that are not text, and what such files are called.
var magics = [...]struct{ magic, name string }{
	{"PK\x03\x04", "a zip archive or an Excel workbook (xlsx)"},
	{"PK\x05\x06", "an empty zip archive"},
	{"\x1f\x8b", "gzip-compressed"},
	{"%PDF-", "a PDF document"},
	{"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (xls)"},
	{"BZh91AY&SY", "bzip2-compressed"},
	{"\xfd7zXZ\x00", "xz-compressed"},
	{"\x28\xb5\x2f\xfd", "zstd-compressed"},
	{"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"},
	{"\x89PNG", "a picture"},
	{"{\\rtf", "a rich-text document"},
	{"<?xml", "an XML document"},
	{"<!DOCTYPE", "a web page"},
	{"<html", "a web page"},
}

// isBinary returns what a file is that is not text, by its first bytes; "" for text.
func isBinary(head []byte) string {
	for _, m := range magics {
		if len(head) >= len(m.magic) && strings.EqualFold(string(head[:len(m.magic)]), m.magic) {
			if m.magic == "PK\x03\x04" && (bytes.Contains(head, []byte("xl/")) || bytes.Contains(head, []byte("[Content_Types].xml"))) {
				return "an Excel workbook (xlsx)"
			}
			return m.name
		}
	}
	return ""
}

// source is a bill file as a stream of valid UTF-8 without a byte order mark. It returns
// a *FileError if the file is at fault, and any other error if reading failed.
type source struct {
	r        io.Reader
	encoding string // utf-8, utf-16le, …
	bom      bool
	max      int64 // bytes; 0 = no limit
	allowCut bool  // AllowNoFinalNewline
	read     int64 // bytes of the file so far, byte order mark included
	lines    int   // line feeds delivered so far
	in       []byte
	raw      []byte // undecoded bytes: the rest of in
	err      error  // sticky
	western  mojibake
}

// newSource finds the encoding of a file and returns its text. configured is
// Format.Encoding.
func newSource(r io.Reader, configured string, maxSize int64, allowCut bool) (*source, error) {
	s := &source{r: r, max: maxSize, allowCut: allowCut, in: make([]byte, 64<<10)}
	n, err := io.ReadFull(r, s.in[:sniffSize])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read bill file: %w", err)
	}
	head := s.in[:n]
	s.raw, s.read = head, int64(n)
	if n == 0 {
		return nil, &FileError{Code: CodeEmptyFile, Detail: "the file is empty: send a file with a header row"}
	}
	if err := s.tooLarge(); err != nil {
		return nil, err
	}
	if what := isBinary(head); what != "" {
		return nil, &FileError{Code: CodeNotCSV, Detail: "the file is " + what + ", not CSV text: export or unpack it as CSV"}
	}
	if err := s.choose(head, configured); err != nil {
		return nil, err
	}
	return s, nil
}

// choose sets the encoding by the byte order mark and the configuration. It guesses
// nothing.
func (s *source) choose(head []byte, configured string) error {
	mark, size := "", 0
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		mark, size = encUTF8, 3
	case bytes.HasPrefix(head, []byte("\xff\xfe")):
		mark, size = encUTF16LE, 2
	case bytes.HasPrefix(head, []byte("\xfe\xff")):
		mark, size = encUTF16BE, 2
	}
	undecodable := func(detail string) error {
		return &FileError{Code: CodeUndecodable, Line: 1, Detail: detail}
	}
	zeros := zeroPattern(head)
	switch configured {
	case "", "auto":
		if mark == "" {
			if zeros != "" {
				return undecodable("the file looks like UTF-16 but has no byte order mark: set encoding: utf-16, or save it as UTF-8")
			}
			mark = encUTF8
		}
	case "utf-8":
		if mark == encUTF16LE || mark == encUTF16BE {
			return undecodable("the file has the byte order mark of UTF-16, but encoding: is utf-8: set encoding: auto, or save it as UTF-8")
		}
		mark = encUTF8
	case "utf-16":
		switch {
		case mark == encUTF8 || mark == "" && zeros == "":
			return undecodable("the file does not look like UTF-16, but encoding: is utf-16: set encoding: auto, or save it as UTF-16")
		case mark == "" && zeros == encUTF16BE:
			return undecodable("the file looks like big-endian UTF-16 and has no byte order mark: save it with one, or as UTF-8")
		case mark == "":
			mark = encUTF16LE
		}
	case "windows-1252":
		if mark != "" {
			return undecodable("the file has a byte order mark of Unicode, but encoding: is windows-1252: set encoding: auto")
		}
		mark = enc1252
	default:
		return fmt.Errorf("read bill file: encoding %q is not known: use auto, utf-8, utf-16 or windows-1252", configured)
	}
	s.encoding, s.bom, s.raw = mark, size > 0, s.raw[size:]
	if len(s.raw) == 0 && s.read < sniffSize {
		return &FileError{Code: CodeEmptyFile, Detail: "the file has nothing but a byte order mark: send a file with a header row"}
	}
	return nil
}

// zeroPattern recognises UTF-16 without a byte order mark by the zero bytes of its first
// eight letters. It returns "" for anything else.
func zeroPattern(head []byte) string {
	n := min(len(head), 16) &^ 1
	if n == 0 {
		return ""
	}
	even, odd := 0, 0
	for i := 0; i < n; i += 2 {
		if head[i] == 0 {
			even++
		}
		if head[i+1] == 0 {
			odd++
		}
	}
	switch half := n / 4; {
	case odd > half && even == 0:
		return encUTF16LE
	case even > half && odd == 0:
		return encUTF16BE
	}
	return ""
}

// undefined1252 are the bytes that Windows-1252 does not define. The library decodes them
// as control characters, which is a guess.
const undefined1252 = "\x81\x8d\x8f\x90\x9d"

func (s *source) tooLarge() error {
	if s.max > 0 && s.read > s.max {
		return TooLarge(s.max)
	}
	return nil
}

// TooLarge is the refusal of a file with more bytes than max_file_size.
func TooLarge(limit int64) *FileError {
	return &FileError{Code: CodeFileTooLarge, Detail: fmt.Sprintf("the file has more than %d bytes, the limit that max_file_size sets: split the file, or raise the limit", limit)}
}

// fill reads more of the file behind what is left in raw. It returns io.EOF at the end.
func (s *source) fill() error {
	n := copy(s.in, s.raw)
	m, err := 0, error(nil)
	for tries := 0; m == 0 && err == nil; tries++ {
		if tries == 100 {
			err = io.ErrNoProgress
			break
		}
		m, err = s.r.Read(s.in[n:])
	}
	s.raw = s.in[:n+m]
	s.read += int64(m)
	if e := s.tooLarge(); e != nil {
		return e
	}
	if m > 0 {
		return nil // an error comes again with the next call
	}
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return fmt.Errorf("read bill file: %w", err)
}

// Read returns valid UTF-8 without NUL. No character is split between two calls. len(p)
// must be 16 or more.
func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	for {
		n, err := s.decode(p)
		if err == nil && n > 0 {
			if i := bytes.IndexByte(p[:n], 0); i >= 0 {
				line := s.lines + bytes.Count(p[:i], []byte{'\n'}) + 1
				err = &FileError{Code: CodeNotCSV, Line: line, Detail: lineText(line) + " has a NUL byte, so the file is not text or was damaged on the way: send it again as CSV"}
			} else {
				s.lines += bytes.Count(p[:n], []byte{'\n'})
				return n, nil
			}
		}
		if err == nil {
			if err = s.fill(); err == nil {
				continue
			}
		}
		if errors.Is(err, io.EOF) && len(s.raw) > 0 {
			err = s.cutCharacter()
		}
		s.err = err
		return 0, err
	}
}

// cutCharacter returns the error of a file that ends inside a character.
func (s *source) cutCharacter() error {
	line := s.lines + 1
	if s.allowCut && s.encoding == encUTF8 {
		return s.undecodable(line)
	}
	return &FileError{Code: CodeTruncated, Line: line, Detail: lineText(line) + " ends in the middle of a character, so the upload was cut off: send the whole file again"}
}

func (s *source) undecodable(line int) error {
	hint := ""
	switch s.encoding {
	case encUTF8:
		hint = " is not valid UTF-8: save the file as UTF-8, or set encoding: to the file's encoding (Excel's plain CSV is often windows-1252)"
	case enc1252:
		hint = " has a byte that Windows-1252 does not define: set encoding: to the file's encoding, or save it as UTF-8"
	default:
		hint = " is not valid UTF-16: save the file as UTF-8"
	}
	return &FileError{Code: CodeUndecodable, Line: line, Detail: lineText(line) + hint}
}

// decode moves as many whole characters as fit from raw to p.
func (s *source) decode(p []byte) (int, error) {
	switch s.encoding {
	case encUTF8:
		return s.decodeUTF8(p)
	case enc1252:
		return s.decode1252(p)
	default:
		return s.decodeUTF16(p)
	}
}

func (s *source) decodeUTF8(p []byte) (int, error) {
	n := min(len(s.raw), len(p))
	// A character that the end of the chunk cuts is left for the next call.
	for back := 1; back <= min(3, n); back++ {
		if c := s.raw[n-back]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(s.raw[n-back:n]) {
				n -= back
			}
			break
		}
	}
	if !utf8.Valid(s.raw[:n]) {
		good := 0
		for good < n {
			r, size := utf8.DecodeRune(s.raw[good:n])
			if r == utf8.RuneError && size == 1 {
				break
			}
			good += size
		}
		if bytes.IndexByte(s.raw[:n], 0) >= 0 {
			line := s.lines + 1
			return 0, &FileError{Code: CodeNotCSV, Line: line, Detail: "the file has NUL bytes, so it is not text or was damaged on the way: send it again as CSV"}
		}
		return 0, s.undecodable(s.lines + bytes.Count(s.raw[:good], []byte{'\n'}) + 1)
	}
	copy(p, s.raw[:n])
	s.raw = s.raw[n:]
	return n, nil
}

func (s *source) decode1252(p []byte) (int, error) {
	n, i := 0, 0
	for i < len(s.raw) && n+utf8.UTFMax <= len(p) {
		c := s.raw[i]
		if s.western.step(c) {
			return 0, s.utf8InWestern(s.lines + bytes.Count(p[:n], []byte{'\n'}) + 1)
		}
		if strings.IndexByte(undefined1252, c) >= 0 {
			return 0, s.undecodable(s.lines + bytes.Count(p[:n], []byte{'\n'}) + 1)
		}
		n += utf8.EncodeRune(p[n:], charmap.Windows1252.DecodeByte(c))
		i++
	}
	s.raw = s.raw[i:]
	return n, nil
}

// utf8InWestern is the error of a file in UTF-8 for a feed of Windows-1252, where each accented
// letter would become two wrong ones, and stay so in the names of customers.
func (s *source) utf8InWestern(line int) error {
	return &FileError{Code: CodeUndecodable, Line: line, Detail: lineText(line) + " has letters in UTF-8, and this feed's files are Windows-1252 (names would come out as \"ZoÃ«\"): " +
		"save the file as Windows-1252 (ANSI); if the feed's files are UTF-8 from now on, set encoding: auto"}
}

func (s *source) decodeUTF16(p []byte) (int, error) {
	unit := func(b []byte) rune { return rune(b[0]) | rune(b[1])<<8 }
	if s.encoding == encUTF16BE {
		unit = func(b []byte) rune { return rune(b[1]) | rune(b[0])<<8 }
	}
	n, i := 0, 0
	for i+2 <= len(s.raw) && n+utf8.UTFMax <= len(p) {
		r, size := unit(s.raw[i:]), 2
		if utf16.IsSurrogate(r) {
			if r < 0xdc00 && i+4 > len(s.raw) {
				break // the second half is still to come
			}
			if r < 0xdc00 {
				r, size = utf16.DecodeRune(r, unit(s.raw[i+2:])), 4
			} else {
				r = utf8.RuneError
			}
			if r == utf8.RuneError {
				return 0, s.undecodable(s.lines + bytes.Count(p[:n], []byte{'\n'}) + 1)
			}
		}
		n += utf8.EncodeRune(p[n:], r)
		i += size
	}
	s.raw = s.raw[i:]
	return n, nil
}

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
