//go:build unix

package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres/pgtest"
	"billdrop/ingest/report"
)

const (
	// clusterRows are enough for a file that all workers send together, for some seconds.
	clusterRows = 6000
	// clusterLost is short, so that the others take over soon.
	clusterLost = 3 * time.Second
	// clusterPatience bounds each thing that is waited for.
	clusterPatience = 2 * time.Minute
	// lookEvery is how often is looked whether it has happened.
	lookEvery = 100 * time.Millisecond
)

// Cluster shows several workers that share a ledger, one of which is killed. It is called from one
// goroutine.
type Cluster struct {
	Box    *sandbox.Sandbox
	Out    io.Writer
	Binary string // billdrop, which the workers run

	workers []*worker
}

// worker is a process of `billdrop run`.
type worker struct {
	name, config string
	cmd          *exec.Cmd
	ended        chan struct{} // closed when the process has ended
	log          bytes.Buffer  // complete once it has ended
}

func (c *Cluster) printf(format string, args ...any) { fmt.Fprintf(c.Out, format, args...) }

// Show starts PostgreSQL and three workers, kills one in the middle of a file, and shows that
// the others finish it: every row is one bill, and the report says so. It fails if a part does
// not end as described. All processes have ended when it returns.
func (c *Cluster) Show(ctx context.Context) (err error) {
	server, err := pgtest.Run(pgtest.Config{})
	if errors.Is(err, pgtest.ErrMissing) {
		return describe.Advise(errors.New("there is no PostgreSQL on this machine, which the workers of a cluster share"),
			"install its server and try again; on Debian and Ubuntu: apt-get install postgresql")
	}
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	defer c.stop()
	place, err := config.ParsePlace(server.URL("postgres"))
	if err != nil {
		return err
	}
	c.printf("PostgreSQL runs at %s, an SFTP server at %s, a Billing API at %s.\n", place, c.Box.SFTP.Addr(), c.Box.APIURL)
	for _, name := range []string{"north", "east", "south"} {
		if err := c.start(name, server.URL("postgres")); err != nil {
			return err
		}
	}
	if err := c.await(ctx, "three workers are up", func() bool { return len(c.alive(ctx)) == 3 }); err != nil {
		return err
	}
	began := time.Now()
	if err := sandbox.WritePrivate(c.Box.Path("inbox/bills.csv"), string(clusterFile())); err != nil {
		return err
	}
	c.printf("\nThree workers run, and a file of %s rows is in the inbox.\n\n", describe.Number(clusterRows))
	if err := c.await(ctx, "a third of the file is sent", func() bool { return c.Box.Requests() > clusterRows/3 }); err != nil {
		return err
	}
	if err := c.showStatus(ctx); err != nil {
		return err
	}
	if err := c.kill(ctx, c.workers[1]); err != nil {
		return err
	}
	return c.outcome(ctx, began)
}

// clusterFile has rows whose customers each get two bills.
func clusterFile() []byte {
	var b bytes.Buffer
	b.WriteString("bill_reference,amount_due,account_reference,customer_reference,customer_name\n")
	for i := range clusterRows {
		fmt.Fprintf(&b, "CLUSTER-%05d,%d,ACC-%05d,CUS-%05d,Naledi Dube\n", i, 10_000+i, i/2, i/2)
	}
	return b.Bytes()
}

// start runs a worker with a spool of its own, as on a machine of its own.
func (c *Cluster) start(name, database string) error {
	path, err := c.Box.WriteWorker(name, database, clusterLost)
	if err != nil {
		return err
	}
	w := &worker{name: name, config: path, ended: make(chan struct{})}
	// Not CommandContext: an interrupt of the demo ends workers softly, by stop.
	w.cmd = exec.Command(c.Binary, "run", "--no-progress", "--log-level", "warn", "--config", path)
	w.cmd.Env = config.WithoutKey(os.Environ()) // which may be a live one
	w.cmd.Stdout, w.cmd.Stderr = &w.log, &w.log
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a ^C is for the demo
	if err := w.cmd.Start(); err != nil {
		return fmt.Errorf("start a worker: %w", err)
	}
	c.workers = append(c.workers, w)
	go func() {
		_ = w.cmd.Wait() // what came of it is in its log
		close(w.ended)
	}()
	return nil
}

// kill ends a worker at once, and waits until the others have noticed.
func (c *Cluster) kill(ctx context.Context, w *worker) error {
	sent := c.Box.Requests()
	if err := w.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill a worker: %w", err)
	}
	killed := time.Now()
	<-w.ended
	c.printf("\nWorker %s is killed (SIGKILL) after %s, its own requests unanswered.\n", w.name, describe.Count(int(sent), "request"))
	if err := c.await(ctx, "the killed worker is taken for lost", func() bool { return !c.isAlive(ctx, w.name) }); err != nil {
		return err
	}
	c.printf("After %.1f s (lost_after is %s) it is taken for lost, and the others have its rows.\n", time.Since(killed).Seconds(), clusterLost)
	return nil
}

// outcome waits for the report, and compares it with what the API holds.
func (c *Cluster) outcome(ctx context.Context, began time.Time) error {
	var summary report.Summary
	err := c.await(ctx, "the reports are published", func() bool {
		paths, err := filepath.Glob(c.Box.Path("results/bills-*.summary.json"))
		if err != nil || len(paths) != 1 {
			return false
		}
		b, err := os.ReadFile(paths[0])
		if err == nil {
			summary, err = report.Parse(b)
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	c.printf("\nThe report is published after %.1f s:\n\n%s\n", time.Since(began).Seconds(), describe.StatusTable(summary))
	state := c.Box.API.State()
	bills := make(map[string]int)
	for _, b := range state.Bills {
		bills[b.ExternalReference]++
	}
	duplicates := len(state.Bills) - len(bills)
	c.printf("\nThe API holds %s for %s: %s.\n", describe.Count(len(state.Bills), "bill"), describe.Count(clusterRows, "row"),
		describe.Count(duplicates, "duplicate"))
	if created := summary.Rows.By[ledger.Created]; created != clusterRows || len(bills) != clusterRows || duplicates != 0 {
		return fmt.Errorf("%d rows should be %d bills: the report says %d created, and the API holds %d of which %d are duplicates",
			clusterRows, clusterRows, created, len(state.Bills), duplicates)
	}
	return nil
}

// status runs `billdrop status`, as any machine with the configuration can.
func (c *Cluster) status(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.Binary, append([]string{"status", "--config", c.workers[0].config}, args...)...)
	cmd.Env = config.WithoutKey(os.Environ())
	return cmd.Output()
}

func (c *Cluster) showStatus(ctx context.Context) error {
	text, err := c.status(ctx)
	if err != nil {
		return fmt.Errorf("billdrop status: %w", err)
	}
	c.printf("billdrop status says, on any of the machines:\n\n%s", text)
	return nil
}

// alive are the names of the workers that are alive, as `billdrop status` lists them; none while
// there is no ledger yet.
func (c *Cluster) alive(ctx context.Context) []string {
	text, err := c.status(ctx, "--output", "json")
	var doc struct{ Workers []describe.Worker }
	if err != nil || json.Unmarshal(text, &doc) != nil {
		return nil
	}
	names := make([]string, len(doc.Workers))
	for i, w := range doc.Workers {
		names[i] = w.Name
	}
	return names
}

func (c *Cluster) isAlive(ctx context.Context, name string) bool {
	names := c.alive(ctx)
	return slices.Contains(names, name) || len(names) == 0 // the list could not be read
}

// await looks until something holds. It fails with what the workers logged.
func (c *Cluster) await(ctx context.Context, what string, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
				return cause
			}
			c.stop()
			for _, w := range c.workers {
				c.printf("\nWorker %s logged:\n%s", w.name, w.log.String())
			}
			return fmt.Errorf("waited %s, and it is not so that %s", clusterPatience, what)
		}
	}
	return nil
}

// stop ends the workers softly, and at once those that do not end.
func (c *Cluster) stop() {
	for _, w := range c.workers {
		_ = w.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	for _, w := range c.workers {
		select {
		case <-w.ended:
		case <-time.After(15 * time.Second):
			_ = w.cmd.Process.Kill()
			<-w.ended
		}
	}
}
