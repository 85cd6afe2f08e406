package ingest

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/watch"
)

// BenchmarkPoll is one poll of an inbox with 5,000 names beside a ledger with 10,000 files:
// of bill files that have not settled, of names that match no pattern, and with 200 files
// that are held.
func BenchmarkPoll(b *testing.B) {
	const files, names = 10_000, 5_000
	for _, c := range []struct {
		name string
		file string // in the inbox, by number
		held int
	}{{"unsettled", "bills-%04d.csv", 0}, {"strangers", "notes-%04d.txt", 0}, {"held", "bills-%04d.csv", 200}} {
		b.Run(c.name, func(b *testing.B) {
			root, home := b.TempDir(), b.TempDir()
			s, err := sftpserver.Start(b.Context(), sftpserver.Config{Dir: root, User: "acme", Password: "secret"})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			write(b, filepath.Join(home, "password"), "secret")
			write(b, filepath.Join(home, "known_hosts"), s.KnownHostsLine())
			r := newRig(b, root, "", inbox.Config{
				Address: s.Addr(), User: "acme", PasswordFile: filepath.Join(home, "password"), KnownHostsFile: filepath.Join(home, "known_hosts"),
			})
			r.feed.Watch.Settle = time.Hour
			r.feed.Expect = &watch.Expect{Pattern: "none-*.csv", By: 6 * time.Hour}
			for i := range names {
				write(b, filepath.Join(root, "inbox", fmt.Sprintf(c.file, i)), "x")
			}
			led, err := sqlite.Open(b.Context(), filepath.Join(r.base, "ledger.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer led.Close()
			addFiles(b, led, r.feed, files, c.held)
			w, err := New(Options{Ledger: led, Spool: filepath.Join(r.base, "spool"), Feeds: []*Feed{r.feed}, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				one := round{Worker: w, feed: r.feed}
				if err := one.run(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			if state := w.Inboxes()[0]; state.Waiting+len(state.Remarks) < names {
				b.Errorf("%d names wait and %d are remarked on, of %d", state.Waiting, len(state.Remarks), names)
			}
		})
	}
}
