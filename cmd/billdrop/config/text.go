package config

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// WithoutKey removes the API key from an environment. Other programs do not need it.
func WithoutKey(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.EqualFold(name, EnvAPIKey) // names ignore letter case on Windows
	})
}

// ShellWord writes a path so that it can be pasted into a shell.
func ShellWord(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-+@%:,=", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

// Duration writes a duration as in the file: 1m, where time.Duration writes 1m0s.
func Duration(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

func feedPath(i int) string { return indexed("feeds", i) }

func indexed(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }
