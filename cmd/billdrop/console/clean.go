package console

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"billdrop/ingest/report"
)

// maxText is how much of one text is logged, in bytes. Servers and APIs word their errors as
// they like.
const maxText = 16 << 10

// Clean makes a text of several lines safe for a terminal. Texts of others (an API, a server,
// names of files, arguments) may hold control characters, which move the cursor, and
// bidirectional ones, which show something else than there is.
func Clean(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = report.Visible(line)
	}
	return strings.Join(lines, "\n")
}

// CleanJSON escapes what Clean replaces, so that a JSON document keeps its meaning.
func CleanJSON(doc []byte) []byte {
	if !bytes.ContainsFunc(doc, func(r rune) bool { return r > '~' && report.Hidden(r) }) {
		return doc
	}
	var b bytes.Buffer
	for _, r := range string(doc) {
		switch {
		case r <= '~' || r == utf8.RuneError || !report.Hidden(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

// logText is a text as one clean line of a log.
func logText(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + " …"
	}
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) > 1 {
		s = strings.Join(lines, "; ")
	}
	return report.Visible(s)
}

// cleanHandler cleans everything that is logged, in any format.
type cleanHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h cleanHandler) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, logText(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(cleanAttr(a))
		return true
	})
	return h.Handler.Handle(ctx, clean)
}

// WithAttrs implements slog.Handler.
func (h cleanHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = cleanAttr(a)
	}
	return cleanHandler{h.Handler.WithAttrs(clean)}
}

// WithGroup implements slog.Handler.
func (h cleanHandler) WithGroup(name string) slog.Handler {
	return cleanHandler{h.Handler.WithGroup(name)}
}

func cleanAttr(a slog.Attr) slog.Attr {
	return slog.Attr{Key: report.Visible(a.Key), Value: cleanValue(a.Value)}
}

func cleanValue(v slog.Value) slog.Value {
	v = v.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return slog.StringValue(logText(v.String()))
	case slog.KindGroup:
		group := v.Group()
		clean := make([]slog.Attr, len(group))
		for i, a := range group {
			clean[i] = cleanAttr(a)
		}
		return slog.GroupValue(clean...)
	case slog.KindAny:
		if list, ok := v.Any().([]string); ok {
			clean := make([]string, len(list))
			for i, s := range list {
				clean[i] = logText(s)
			}
			return slog.AnyValue(clean)
		}
		return slog.StringValue(logText(fmt.Sprint(v.Any())))
	}
	return v
}
