//go:build !windows

package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

// The test binary, started again with these in its environment, is a worker to be killed
// or starved.
const (
	workerLedger = "BILLDROP_TEST_WORKER_LEDGER" // path; set: be a worker
	workerRun    = "BILLDROP_TEST_WORKER_RUN"    // number of the run: part of its references
	workerLimit  = "BILLDROP_TEST_WORKER_LIMIT"  // bytes that a file may have at most; 0 = no limit
)

func TestMain(m *testing.M) {
	if path := os.Getenv(workerLedger); path != "" {
		if err := worker(path); err != nil {
			fmt.Println("failed", strings.ReplaceAll(sqlite.Printed(err), "\n", "; "))
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// worker begins and records rows from several goroutines, and prints a line for each
// Begin once it has returned and for each Record before it is tried, until it is killed
// or a write fails.
func worker(path string) error {
	if limit, _ := strconv.ParseUint(os.Getenv(workerLimit), 10, 64); limit > 0 {
		signal.Ignore(syscall.SIGXFSZ) // a write over the limit then fails with EFBIG
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	ctx := context.Background()
	l, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	run := os.Getenv(workerRun)
	file := "file-" + run
	if err := l.AddFile(ctx, &ledger.File{ID: file, Scope: scope}); err != nil {
		return err
	}
	const senders = 16
	errs := make(chan error, senders)
	for s := range senders {
		go func() {
			for row := s + 1; ; row += senders {
				if err := workerRow(ctx, l, file, run, row); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	err = <-errs
	for range senders - 1 { // the failure must be everybody's, or this waits until the test is over
		err = errors.Join(err, <-errs)
	}
	return errors.Join(err, l.Close())
}

func workerRow(ctx context.Context, l *sqlite.Ledger, file, run string, row int) error {
	b := killBill(run, row)
	if err := l.Begin(ctx, scope, b); err != nil {
		return err
	}
	fmt.Println("begun", row) // one write(2): whole lines, in any order
	b.State, b.Send.Answer, b.Observed = ledger.Exists, "201", ledger.Observed{BillID: "bill_" + b.Reference, Currency: "ZAR", Amount: int64(row)}
	return l.Record(ctx, ledger.Entry{Scope: scope, Bill: b, File: file, Gets: 1,
		Outcome: &ledger.Outcome{Row: row, Line: row + 1, Reference: b.Reference, Status: ledger.Created, Currency: "ZAR", Amount: int64(row), Attempts: 1}})
}

func killBill(run string, row int) *ledger.Bill {
	ref := fmt.Sprintf("run-%s-row-%06d", run, row)
	return &ledger.Bill{Reference: ref, Send: ledger.Send{File: "file-" + run, Row: row, Generation: 1, Count: 1, Key: ref,
		Content: ledger.DigestOf([]byte(ref)), At: time.UnixMicro(int64(row)).UTC(), KeyFirstUsed: time.UnixMicro(int64(row)).UTC()}}
}

// startWorker starts a worker and returns it with what it prints.
func startWorker(t *testing.T, path string, run int, limit uint64) (*exec.Cmd, io.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^$")
	cmd.Env = append(os.Environ(), workerLedger+"="+path, fmt.Sprintf("%s=%d", workerRun, run), fmt.Sprintf("%s=%d", workerLimit, limit))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// readWorker reads what a worker prints to its end, and calls each after every line.
func readWorker(t *testing.T, out io.Reader, each func(begun int)) (begun []int, failure string) {
	t.Helper()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "begun":
			row, err := strconv.Atoi(rest)
			if err != nil {
				t.Fatalf("worker printed %q", lines.Text())
			}
			begun = append(begun, row)
			each(len(begun))
		case "failed":
			failure = rest
		}
	}
	return begun, failure
}

// TestKill kills a worker at random moments, again and again on one ledger: every Begin
// that returned is there, every Record is there whole or not at all, and the lock is
// free.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for run := range rounds {
		cmd, out := startWorker(t, path, run, 0)
		at := 1 + rand.IntN(600) // rows
		var once sync.Once
		begun, failure := readWorker(t, out, func(n int) {
			if n == at {
				once.Do(func() {
					if err := cmd.Process.Kill(); err != nil {
						t.Error(err)
					}
				})
			}
		})
		if err := cmd.Wait(); cmd.ProcessState.Exited() {
			t.Fatalf("run %d ended by itself: %v, %s", run, err, failure)
		}
		checkReadOnly(t, path, run, begun)
		checkWorker(t, path, run, begun)
	}
}

// checkReadOnly: a reader sees what was acknowledged, between the crash and the next
// start.
func checkReadOnly(t *testing.T, path string, run int, begun []int) {
	t.Helper()
	l, err := sqlite.OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatalf("open for reading after a kill: %v", err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	name := strconv.Itoa(run)
	var refs []string
	for _, row := range begun {
		refs = append(refs, killBill(name, row).Reference)
	}
	bills, err := l.Bills(t.Context(), scope, refs)
	if err != nil || len(bills) != len(begun) {
		t.Errorf("run %d: %d bills are seen after a kill (%v), %d were begun", run, len(bills), err, len(begun))
	}
}

// checkWorker holds what a dead worker left against what it said.
func checkWorker(t *testing.T, path string, run int, begun []int) {
	t.Helper()
	l := open(t, path)
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	name := strconv.Itoa(run)
	refs := make([]string, len(begun))
	for i, row := range begun {
		refs[i] = killBill(name, row).Reference
	}
	bills, err := l.Bills(t.Context(), scope, refs)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range begun {
		want := killBill(name, row)
		got := bills[want.Reference]
		if got == nil {
			t.Fatalf("run %d: row %d was begun and is gone", run, row)
		}
		if got.State == ledger.Exists {
			want.State, want.Send.Answer = ledger.Exists, "201"
			want.Observed = ledger.Observed{BillID: "bill_" + want.Reference, Currency: "ZAR", Amount: int64(row)}
		}
		if *got != *want {
			t.Errorf("run %d: row %d reads %+v, want %+v", run, row, got, want)
		}
	}
	checkWhole(t, l, name)
}

// checkWhole: there are as many answered bills as outcomes and counted look-ups, because
// they were recorded together.
func checkWhole(t *testing.T, l *sqlite.Ledger, run string) {
	t.Helper()
	outcomes, err := l.Outcomes(t.Context(), "file-"+run, 1, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, o := range outcomes {
		refs = append(refs, o.Reference)
	}
	bills, err := l.Bills(t.Context(), scope, refs)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		if b := bills[o.Reference]; b == nil || b.State != ledger.Exists {
			t.Errorf("run %s: row %d has an outcome, its bill is %+v", run, o.Row, b)
		}
	}
	f, err := l.File(t.Context(), "file-"+run)
	if errors.Is(err, ledger.ErrNotFound) && len(outcomes) == 0 {
		return // killed before it had recorded the file
	}
	if err != nil {
		t.Fatal(err)
	}
	if f.Gets != len(outcomes) {
		t.Errorf("run %s: %d look-ups counted, %d outcomes", run, f.Gets, len(outcomes))
	}
}

// TestFileSizeLimit starves a worker: its writes fail in the middle of a commit, as on a
// full disk. Every caller gets the error, what was acknowledged is there afterwards, and
// the next run, with room again, goes on.
func TestFileSizeLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	cmd, out := startWorker(t, path, 0, 1<<20)
	begun, failure := readWorker(t, out, func(int) {})
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("the worker ended with %v, want exit status 3", err)
	}
	if !strings.Contains(failure, ledger.ErrUnusable.Error()) || !strings.Contains(failure, "disk") {
		t.Errorf("the worker said %q, want %q and what to do", failure, ledger.ErrUnusable)
	}
	if len(begun) == 0 {
		t.Fatal("nothing was begun before the limit was met")
	}
	checkWorker(t, path, 0, begun)
}
