package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/transfer"
	"billdrop/ingest/watch"
)

// watched is a worker on simulated servers that polls every minute, and its log.
type watched struct {
	*Worker
	files *simFiles
	log   *lines
}

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// watching runs a test beside a worker that polls; edit may change its feed first.
func watching(t *testing.T, edit func(*Feed), test func(w *watched)) {
	synctest.Test(t, func(t *testing.T) {
		world := newWorld(t, simConfig{})
		clear(world.files.files)
		w := &watched{files: world.files, log: new(lines)}
		o := world.worker(t, alive()).Options
		o.Log = slog.New(slog.NewTextHandler(w.log, nil))
		edit(o.Feeds[0])
		var err error
		if w.Worker, err = New(o); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx, time.Minute) }()
		test(w)
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the worker ended with %v", err)
		}
	})
}

// after lets time pass, and waits for the worker to rest.
func (w *watched) after(d time.Duration) watch.State {
	time.Sleep(d)
	synctest.Wait()
	return w.Inboxes()[0]
}

// warned counts the warnings that hold all of the texts.
func (w *watched) warned(texts ...string) int {
	n := 0
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, "level=WARN") && !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(line, s) }) {
			n++
		}
	}
	return n
}

func kinds(remarks []watch.Remark) string {
	var list []string
	for _, r := range remarks {
		list = append(list, r.Kind+" "+r.Name)
	}
	return strings.Join(list, ", ")
}

// A directory that was there and is gone, such as one of a disk that the server has not mounted
// yet, does not end the feed: it goes on when the directory is back.
func TestDirectoryGoneForAWhile(t *testing.T) {
	watching(t, func(*Feed) {}, func(w *watched) {
		w.after(2 * time.Minute)
		w.files.lose("/results")
		w.after(10 * time.Minute)
		if !strings.Contains(w.log.String(), "no such directory on the SFTP server: /results") {
			t.Errorf("the log does not name it:\n%s", w.log)
		}
		w.files.lose("")
		w.files.put("/inbox/a.csv", []byte(simMore))
		w.after(10 * time.Minute)
		if in := w.files.in("/archive"); len(in) != 1 {
			t.Errorf("the file was not taken up: %v\n%s", in, w.log)
		}
	})
}

// At the start, a directory that is not there is a wrong set-up.
func TestDirectoryMissingAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{})
		w.files.lose("/results")
		if err := w.worker(t, alive()).Run(t.Context(), time.Minute); !errors.Is(err, ErrDirectories) {
			t.Errorf("the worker ended with %v", err)
		}
	})
}

// A stranger is named in the log once, however many polls see it, and again when it comes
// back.
func TestStrangers(t *testing.T) {
	watching(t, func(*Feed) {}, func(w *watched) {
		start := time.Now()
		w.files.put("/inbox/notes.txt", []byte("x"))
		w.files.put("/processing/left.csv", []byte("x"))
		s := w.after(10 * time.Minute)
		if kinds(s.Remarks) != "stranger notes.txt, stranger left.csv" || !s.Remarks[0].Since.Equal(start.Add(time.Minute)) && !s.Remarks[0].Since.Equal(start) {
			t.Errorf("%+v", s)
		}
		if w.warned("notes.txt") != 1 || w.warned("left.csv") != 1 {
			t.Errorf("log:\n%s", w.log)
		}
		w.files.remove("/inbox/notes.txt")
		if s := w.after(2 * time.Minute); kinds(s.Remarks) != "stranger left.csv" {
			t.Errorf("gone: %+v", s.Remarks)
		}
		w.files.put("/inbox/notes.txt", []byte("x"))
		if w.after(2 * time.Minute); w.warned("notes.txt") != 2 {
			t.Errorf("back, log:\n%s", w.log)
		}
	})
}

// A file that keeps changing is remarked on after ten minutes, once, until it has been
// claimed.
func TestUnsettled(t *testing.T) {
	watching(t, func(f *Feed) { f.Watch.Settle = 10 * time.Second }, func(w *watched) {
		start := time.Now()
		var s watch.State
		for i := range 150 {
			w.files.put("/inbox/a.csv", bytes.Repeat([]byte("x"), i))
			s = w.after(5 * time.Second)
			if early := time.Since(start) < 10*time.Minute; early && len(s.Remarks) > 0 {
				t.Fatalf("after %v: %+v", time.Since(start), s.Remarks)
			}
		}
		if kinds(s.Remarks) != "unsettled a.csv" || s.Waiting != 1 || s.OldestWaiting.Sub(start) > time.Minute || !s.Remarks[0].Since.Equal(s.OldestWaiting) {
			t.Errorf("%+v", s)
		}
		if w.warned("a.csv") != 1 {
			t.Errorf("log:\n%s", w.log)
		}
		w.files.put("/inbox/a.csv", []byte(simMore))
		if s := w.after(3 * time.Minute); len(s.Remarks) != 0 || s.Waiting != 0 || !s.OldestWaiting.IsZero() || s.Failed != "" {
			t.Errorf("taken: %+v", s)
		}
	})
}

// A file without its marker, and companions without their file, are remarked on after an
// hour.
func TestCompanionsAlone(t *testing.T) {
	watching(t, func(f *Feed) { f.Watch.Marker = ".done" }, func(w *watched) {
		w.files.put("/inbox/a.csv", []byte("x"))
		w.files.put("/inbox/b.csv.done", nil)
		w.files.put("/inbox/c.csv.sha256", []byte("x"))
		if s := w.after(59 * time.Minute); len(s.Remarks) != 0 || s.Waiting != 1 {
			t.Errorf("early: %+v", s)
		}
		s := w.after(3 * time.Minute)
		if kinds(s.Remarks) != "unsettled a.csv, stranger b.csv.done, stranger c.csv.sha256" {
			t.Errorf("late: %+v", s.Remarks)
		}
		if w.after(time.Hour); w.warned("a.csv") != 1 || w.warned("b.csv.done") != 1 || w.warned("c.csv.sha256") != 1 {
			t.Errorf("log:\n%s", w.log)
		}
		w.files.put("/inbox/a.csv.done", nil)
		w.files.put("/inbox/b.csv", []byte(simMore))
		if s := w.after(10 * time.Minute); kinds(s.Remarks) != "stranger c.csv.sha256" || s.Waiting != 0 {
			t.Errorf("complete: %+v", s)
		}
	})
}

// A missing file is remarked on once for each day on which it is missing, until it has
// come.
func TestExpectedFile(t *testing.T) {
	watching(t, func(f *Feed) {
		f.Expect = &watch.Expect{Pattern: "daily-*.csv", By: 6*time.Hour + 30*time.Minute, Zone: time.UTC}
	}, func(w *watched) {
		midnight := time.Now().UTC().Truncate(24 * time.Hour)
		due := midnight.Add(6*time.Hour + 30*time.Minute)
		w.files.put("/inbox/daily-0.csv", []byte(simMore))
		if s := w.after(time.Until(due.Add(90 * time.Second))); len(s.Remarks) != 0 {
			t.Fatalf("it has come: %+v", s.Remarks)
		}
		w.files.put("/inbox/other.csv", []byte(simMore))
		if s := w.after(time.Until(due.Add(24*time.Hour - time.Second))); len(s.Remarks) != 0 {
			t.Fatalf("before it is due: %+v", s.Remarks)
		}
		s := w.after(2 * time.Minute)
		if kinds(s.Remarks) != "missing daily-*.csv" || !s.Remarks[0].Since.Equal(due.Add(24*time.Hour)) || w.warned("daily-*.csv") != 1 {
			t.Errorf("missing: %+v\n%s", s.Remarks, w.log)
		}
		if s := w.after(24 * time.Hour); !s.Remarks[0].Since.Equal(due.Add(48*time.Hour)) || w.warned("daily-*.csv") != 2 {
			t.Errorf("missing the day after: %+v\n%s", s.Remarks, w.log)
		}
		w.files.put("/inbox/daily-1.csv", []byte(simMore))
		if s := w.after(3 * time.Minute); len(s.Remarks) != 0 || w.warned("daily-*.csv") != 2 || !strings.Contains(w.log.String(), "no more: expected file is missing") {
			t.Errorf("come late: %+v\n%s", s.Remarks, w.log)
		}
	})
}

// A poll that fails records why, and the remarks of earlier ones stand until one can look
// again. A missing file is remarked on all the same.
func TestInboxOutOfReach(t *testing.T) {
	var down atomic.Bool
	watching(t, func(f *Feed) {
		f.Expect = &watch.Expect{Pattern: "*.csv", By: 30 * time.Minute, Zone: time.UTC}
		connect := f.Connect
		f.Connect = func(ctx context.Context) (transfer.Remote, error) {
			if down.Load() {
				return nil, fmt.Errorf("%w: one thing\nand another", inbox.ErrUnreachable)
			}
			return connect(ctx)
		}
	}, func(w *watched) {
		w.files.put("/inbox/notes.txt", []byte("x"))
		s := w.after(time.Minute)
		if s.Polled.IsZero() || s.Failed != "" || kinds(s.Remarks) != "missing *.csv, stranger notes.txt" {
			t.Fatalf("%+v", s)
		}
		polled := s.Polled
		down.Store(true)
		w.files.remove("/inbox/notes.txt")
		s = w.after(2 * time.Minute)
		if !s.Polled.After(polled) || !strings.HasSuffix(s.Failed, "one thing; and another") || kinds(s.Remarks) != "missing *.csv, stranger notes.txt" {
			t.Errorf("out of reach: %+v", s)
		}
		down.Store(false)
		if s = w.after(2 * time.Minute); s.Failed != "" || kinds(s.Remarks) != "missing *.csv" {
			t.Errorf("in reach again: %+v", s)
		}
	})
}

// A single poll remarks on each thing once. How long a file has waited for its marker is
// judged by the file's own time.
func TestOnePoll(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		r.feed.Watch.Marker = ".done"
		for _, name := range []string{"old.csv", "new.csv", "old-alone.csv.sha256"} {
			r.drop(t, name, "x")
			if strings.HasPrefix(name, "old") {
				day := time.Now().Add(-24 * time.Hour)
				if err := os.Chtimes(filepath.Join(r.root, "inbox", name), day, day); err != nil {
					t.Fatal(err)
				}
			}
		}
		var log bytes.Buffer
		w := r.worker(t, &log, r.feed)
		if _, err := w.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := w.Inboxes()[0]; kinds(s.Remarks) != "unsettled old.csv, stranger old-alone.csv.sha256" || s.Waiting != 2 {
			t.Errorf("%+v", s)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 2 {
			t.Errorf("%d warnings:\n%s", n, &log)
		}
	})
}

// What is not claimed is remarked on: links, directories, odd names, and files in
// processing/ that are not in the ledger.
func TestOddities(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		var log bytes.Buffer
		inboxDir := filepath.Join(r.root, "inbox")
		mkdir(t, filepath.Join(inboxDir, "dir.csv"))
		if err := os.Symlink("/etc/passwd", filepath.Join(inboxDir, "link.csv")); err != nil {
			t.Fatal(err)
		}
		r.drop(t, "odd;name.csv", "x")
		r.drop(t, "notes.txt", "x")
		write(t, filepath.Join(r.root, "processing", "stranger.csv"), manyBills(0, 1, 1))
		r.drop(t, "stranger.csv", manyBills(0, 1, 1))
		led, err := sqlite.Open(t.Context(), filepath.Join(r.base, "ledger.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer led.Close()
		w, err := New(Options{Ledger: led, Spool: filepath.Join(r.base, "spool"), Feeds: []*Feed{r.feed}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		summaries, err := w.Poll(t.Context())
		if err != nil || len(summaries) != 0 {
			t.Errorf("%v, %+v", err, summaries)
		}
		for _, name := range []string{"dir.csv", "link.csv", "odd;name.csv", "notes.txt", "stranger.csv"} {
			if !strings.Contains(log.String(), name) {
				t.Errorf("%s is not named in the log", name)
			}
		}
		if state := r.api.State(); state.Posts != 0 {
			t.Errorf("%d POSTs", state.Posts)
		}
	})
}
