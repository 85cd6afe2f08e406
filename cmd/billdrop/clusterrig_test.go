//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/ingest/ledger/postgres/pgtest"
	"billdrop/ingest/report"
)

// cluster is a sandbox whose ledger is a database of a real PostgreSQL, and workers on it that
// are real processes. Each worker has a configuration and a spool of its own, as on a machine
// of its own, and reaches the database through a link that can be cut.
type cluster struct {
	t         *testing.T
	pg        *pgtest.Server
	database  string // URL, with the password
	box       *sandbox.Sandbox
	lostAfter time.Duration
}

// newCluster makes a database on the server and a sandbox.
func newCluster(t *testing.T, pg *pgtest.Server, api emulator.Config, lostAfter time.Duration) *cluster {
	t.Helper()
	return &cluster{t: t, pg: pg, database: pg.Database(t), box: startSite(t, api), lostAfter: lostAfter}
}

// config writes the configuration of a worker that reaches the database at address; "" = directly.
// An empty name in it stands for the host name and process id. oldNew are texts to replace.
func (c *cluster) config(slot, name, address string, oldNew ...string) string {
	c.t.Helper()
	database := c.database
	if address != "" {
		u, err := url.Parse(database)
		if err != nil {
			c.t.Fatal(err)
		}
		u.Host = address
		database = u.String()
	}
	path, err := c.box.WriteWorker(slot, database, c.lostAfter)
	if err != nil {
		c.t.Fatal(err)
	}
	replace := append([]string{
		fmt.Sprintf("name: %q, lost_after", slot), fmt.Sprintf("name: %q, lost_after", name),
		"backoff_min: 50ms", "backoff_min: 5ms", "backoff_max: 2s", "backoff_max: 50ms", "lookup_settle: 1s", "lookup_settle: 300ms",
		"poll_interval: 2s", "poll_interval: 300ms",
	}, oldNew...)
	text := strings.NewReplacer(replace...).Replace(string(readAll(c.t, path)))
	dropped(c.t, path, text)
	return path
}

// process is a worker.
type process struct {
	t      *testing.T
	name   string // as `status` lists it
	cmd    *exec.Cmd
	stderr *output
	ended  chan struct{} // closed when it has ended
	err    error         // of Wait
}

// run starts `billdrop run` with a configuration, until the test ends.
func (c *cluster) run(conf, name string, more ...string) *process {
	c.t.Helper()
	p := &process{t: c.t, name: name, stderr: new(output), ended: make(chan struct{})}
	p.cmd = billdrop(c.t, append([]string{"run", "--no-progress", "--config", conf}, more...)...)
	p.cmd.Stderr = p.stderr
	if err := p.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			c.t.Fatal(err)
		}
		p.name = fmt.Sprintf("%s-%d", host, p.cmd.Process.Pid)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	c.t.Cleanup(func() {
		p.kill()
		if c.t.Failed() {
			c.t.Logf("worker %s said:\n%s", p.name, lastLines(p.stderr.String(), 40))
		}
	})
	return p
}

// output is what a process has written so far. It may be used concurrently.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

func (p *process) signal(s os.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
}

// kill ends it at once, if it has not ended.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// stop ends it softly, and expects that nothing is wrong.
func (p *process) stop() {
	p.t.Helper()
	// Before its first line it may not listen for signals yet.
	await(p.t, func() bool { return p.over() || p.stderr.String() != "" })
	p.signal(syscall.SIGTERM)
	p.expect(143)
}

// expect waits until it has ended, with this exit code.
func (p *process) expect(code int) {
	p.t.Helper()
	await(p.t, p.over)
	got := 0
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		got = exit.ExitCode()
	}
	if got != code {
		p.t.Errorf("worker %s exited with %d, want %d; it said:\n%s", p.name, got, code, lastLines(p.stderr.String(), 30))
	}
}

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// workers are those that `status` lists, by name; none while there is no ledger.
func (c *cluster) workers(conf string) map[string]describe.Worker {
	c.t.Helper()
	workers := make(map[string]describe.Worker)
	out, err := billdrop(c.t, "status", "--limit", "1", "--output", "json", "--config", conf).Output()
	if err != nil {
		return workers
	}
	var doc struct{ Workers []describe.Worker }
	if err := json.Unmarshal(out, &doc); err != nil {
		c.t.Fatal(err)
	}
	for _, w := range doc.Workers {
		workers[w.Name] = w
	}
	return workers
}

// up waits until workers are up.
func (c *cluster) up(conf string, all ...*process) {
	c.t.Helper()
	await(c.t, func() bool {
		live := c.workers(conf)
		for _, p := range all {
			if p.over() {
				c.t.Fatalf("worker %s ended: %v\n%s", p.name, p.err, p.stderr)
			}
			if _, ok := live[p.name]; !ok {
				return false
			}
		}
		return true
	})
}

func databaseName(t *testing.T, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

// finished waits for the summary of a file.
func (c *cluster) finished(name string) report.Summary {
	c.t.Helper()
	await(c.t, func() bool { return len(summaries(c.t, c.box, name)) == 1 })
	return summaries(c.t, c.box, name)[0]
}

// dbLink carries connections to a server, until it is cut.
type dbLink struct {
	listener net.Listener
	to       string

	mu     sync.Mutex
	closed bool // no new connections are carried
	conns  map[net.Conn]bool
	served sync.WaitGroup
}

// newDBLink listens on loopback until the test ends.
func newDBLink(t *testing.T, to string) *dbLink {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &dbLink{listener: listener, to: to, conns: make(map[net.Conn]bool)}
	l.served.Go(l.serve)
	t.Cleanup(func() {
		listener.Close()
		l.cut()
		l.served.Wait()
	})
	return l
}

func (l *dbLink) address() string { return l.listener.Addr().String() }

func (l *dbLink) serve() {
	for {
		in, err := l.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", l.to)
		if err != nil {
			in.Close()
			continue
		}
		l.mu.Lock()
		if l.closed {
			in.Close()
			out.Close()
		} else {
			l.conns[in], l.conns[out] = true, true
			l.served.Go(func() { l.carry(in, out) })
			l.served.Go(func() { l.carry(out, in) })
		}
		l.mu.Unlock()
	}
}

func (l *dbLink) carry(from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	from.Close()
	to.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, from)
	delete(l.conns, to)
}

// cut breaks all connections off, without a word, and lets none be made until it is mended.
func (l *dbLink) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset: what was under way is lost
		}
		c.Close()
	}
}

func (l *dbLink) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = false
}
