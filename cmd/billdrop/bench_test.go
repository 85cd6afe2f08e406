//go:build bench

package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"billdrop/ingest/inbox/sftpserver/opensshtest"
)

// Benchmarks of the whole program, from the outside: the real binary against a fast API and a
// real OpenSSH server. Each figure stands beside that of the plainest program that does the
// same. The two run in turn and in one run, so the ratio holds on any machine. Nothing fails
// here for being slow: the table shows each figure beside the bar that the project sets itself.

var (
	benchRuns = flag.Int("bench.runs", 3, "how often each pair is run; the table shows medians")
	benchHuge = flag.Bool("bench.huge", false, "also files of 8,000,000 rows")
	benchOnly = flag.String("bench.only", "", "only the benchmarks whose name contains this")
)

func TestBench(t *testing.T) {
	b := newBench(t)
	b.delivery()
	b.again()
	b.validation()
	b.fetching()
	b.start()
	t.Logf("medians of %d\n%s", *benchRuns, b.table.Render())
}

// bench holds the real binary and the table of results.
type bench struct {
	t      *testing.T
	binary string
	table  table.Writer
	files  int // dropped so far
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, binary: filepath.Join(t.TempDir(), "billdrop"), table: table.NewWriter()}
	build := exec.Command("go", "build", "-trimpath", "-o", b.binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b.table.AppendHeader(table.Row{"what", "billdrop", "CPU", "peak RSS", "compared with", "takes", "CPU", "rate", "bar", "CPU ratio", "bar", "also"})
	return b
}

// bars are what a result should reach; "" = no bar.
type bars struct{ rate, cpu string }

// row adds a result. Rate is how many times as fast as the other billdrop is; more is better.
// The CPU ratio is billdrop's processor time over the other's; less is better.
func (b *bench) row(name string, r result, other string, want bars, also string) {
	cpu := ""
	if r.theirs.cpu > 0 {
		cpu = fmt.Sprintf("%.2f", r.cpu)
	}
	b.table.AppendRow(table.Row{name, seconds(r.ours.wall), seconds(r.ours.cpu), fmt.Sprintf("%d MiB", r.ours.rss>>10),
		other, seconds(r.theirs.wall), seconds(r.theirs.cpu), fmt.Sprintf("%.3f", r.rate), want.rate, cpu, want.cpu, also})
	b.t.Logf("%s: %s, CPU %s, %d MiB; %s: %s, CPU %s; rate %.3f (bar %s), CPU ratio %s (bar %s) %s", name, seconds(r.ours.wall), seconds(r.ours.cpu),
		r.ours.rss>>10, other, seconds(r.theirs.wall), seconds(r.theirs.cpu), r.rate, want.rate, cpu, want.cpu, also)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// skip reports whether the flags leave a benchmark out.
func (b *bench) skip(name string) bool { return !strings.Contains(name, *benchOnly) }

// delivery raises bills: beside a loop that posts the same bodies with net/http and keeps
// nothing.
func (b *bench) delivery() {
	for _, c := range []struct {
		name          string
		rows, senders int
		latency       time.Duration
		tls           bool
		want          bars
	}{
		{"run, 50,000 rows, 50 ms, 64 senders", 50_000, 64, 50 * time.Millisecond, false, bars{"≥ 0.98", "≤ 2.6"}},
		{"run, 100,000 rows, 50 ms, 256 senders, TLS", 100_000, 256, 50 * time.Millisecond, true, bars{"≥ 0.95", "≤ 2.6"}},
		{"run, 100,000 rows, new parties, latency 0", 100_000, 32, 0, false, bars{"≥ 0.38", "≤ 2.6"}},
	} {
		if b.skip(c.name) {
			continue
		}
		s := b.site(c.latency, c.tls, c.senders)
		r := pairs(*benchRuns,
			func() figure { return b.once(s, c.rows) },
			func() figure {
				return b.measure(b.command("bareloop", s.url, s.certificate, strconv.Itoa(c.rows), strconv.Itoa(c.senders)))
			})
		b.row(c.name, r, "bare posting loop", c.want, "")
	}
}

// again delivers one file twice: the second time, every bill exists and nothing is sent.
func (b *bench) again() {
	sizes := []struct{ rows, memory int }{{1_000_000, 128}}
	if *benchHuge {
		sizes = append(sizes, struct{ rows, memory int }{8_000_000, 256})
	}
	for _, size := range sizes {
		name := fmt.Sprintf("the same %d rows again", size.rows)
		if b.skip(name) {
			continue
		}
		s := b.site(0, false, 32)
		first := b.once(s, size.rows)
		file := filepath.Join(s.root, "archive", fmt.Sprintf("b%d.csv", b.files))
		ledger := fmt.Sprintf("ledger: %d bytes a row (bar ≤ 700)", ledgerBytes(filepath.Dir(s.config))/int64(size.rows))
		if err := os.Rename(file, filepath.Join(s.root, "inbox", "again.csv")); err != nil {
			b.t.Fatal(err)
		}
		second := b.run(s)
		rate := float64(size.rows) / second.wall.Seconds()
		b.row(name, result{ours: second, theirs: first, rate: first.wall.Seconds() / second.wall.Seconds(), cpu: second.cpu.Seconds() / first.cpu.Seconds()},
			"the first time", bars{}, fmt.Sprintf("%.0f rows/s (bar ≥ 60,000); memory of the first %d MiB (bar ≤ %d); %s", rate, first.rss>>10, size.memory, ledger))
	}
}

// ledgerBytes is how large the ledger in dir is, its write-ahead log included.
func ledgerBytes(dir string) (total int64) {
	must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(filepath.Base(path), "ledger.db") {
			info, err := d.Info()
			must(err)
			total += info.Size()
		}
		return err
	}))
	return total
}

// validation reads a million rows: beside a loop that reads the file with encoding/csv.
func (b *bench) validation() {
	rows := 1_000_000
	for _, c := range []struct {
		name string
		kind kind
		want string
	}{
		{"validate, 1,000,000 rows", kind{currency: "ZAR"}, "≥ 0.25"},
		{"validate, 1,000,000 bad rows", kind{currency: "XXX"}, "≥ 0.25"},
		{"validate, 1,000,000 rows of parties in conflict", kind{currency: "ZAR", conflict: true}, "≥ 0.1"},
	} {
		b.validate(c.name, rows, c.kind, c.want, "bar ≤ 128 MiB", *benchRuns)
		if *benchHuge {
			name := strings.Replace(c.name, "1,000,000", "8,000,000", 1)
			b.validate(name, 8*rows, c.kind, "", "bar ≤ 256 MiB", 1)
		}
	}
	if *benchHuge {
		b.validate("validate, 8,000,000 rows of parties that repeat", 8*rows, kind{currency: "ZAR", repeat: true}, "", "bar ≤ 256 MiB", 1)
	}
}

func (b *bench) validate(name string, rows int, k kind, want, also string, runs int) {
	if b.skip(name) {
		return
	}
	file := filepath.Join(b.t.TempDir(), "rows.csv")
	writeBills(file, "V", rows, k)
	defer os.Remove(file)
	r := pairs(runs, func() figure {
		return b.measure(b.command("sh", "-c", `"$0" "$@" > /dev/null; test $? -le 1`, b.binary, "validate", "--amounts", "minor", "--currency", "ZAR", "--no-progress", file))
	}, func() figure { return b.measure(b.command("barecsv", file)) })
	b.row(name, r, "bare encoding/csv loop", bars{rate: want}, also)
}

// start runs a file of ten rows from start to end: beside an SSH handshake and a fetch of one
// byte.
func (b *bench) start() {
	const name = "start to end of a 10-row file"
	if b.skip(name) {
		return
	}
	s := b.site(0, false, 32)
	one := filepath.Join(s.root, "one")
	must(os.WriteFile(one, []byte("x"), 0o600))
	r := pairs(*benchRuns, func() figure { return b.once(s, 10) }, func() figure {
		return b.measure(b.command("fetchfile", s.ssh.Address, s.ssh.User, s.ssh.PrivateKeyFile, s.ssh.KnownHostsFile, one, filepath.Join(b.t.TempDir(), "one")))
	})
	b.row(name, r, "SSH handshake and a 1-byte fetch", bars{}, "")
}

// site is an OpenSSH server, a fast API and a configuration for both.
type site struct {
	ssh         *opensshtest.Server
	root        string // the server's directory
	config      string
	url         string // of the API
	certificate string // file; "" without TLS
}

func (b *bench) site(latency time.Duration, tls bool, concurrency int) *site {
	b.t.Helper()
	dir := b.t.TempDir()
	s := &site{ssh: opensshtest.Start(b.t, dir), config: filepath.Join(dir, "config.yaml")}
	s.root = s.ssh.Root
	if tls {
		s.certificate = filepath.Join(dir, "api.pem")
	}
	s.url = b.api(latency, s.certificate)
	feed := ""
	for _, name := range []string{"inbox", "processing", "archive", "rejected", "results"} {
		must(os.Mkdir(filepath.Join(s.root, name), 0o700))
		feed += fmt.Sprintf("    %s: %s\n", name, filepath.Join(s.root, name))
	}
	must(os.WriteFile(filepath.Join(dir, "api.key"), []byte("sk_test_bench"), 0o600))
	must(os.WriteFile(s.config, fmt.Appendf(nil, `merchant: bench
api: {base_url: "%s", key_file: %s/api.key, concurrency: %d}
sftp: {address: "%s", user: %s, private_key_file: %s, known_hosts_file: %s}
ledger: sqlite:%s/ledger.db
spool_dir: %s/spool
feeds:
  - name: bills
    amounts: minor
    max_rows: 0
    settle: 0s
%s`, s.url, dir, concurrency, s.ssh.Address, s.ssh.User, s.ssh.PrivateKeyFile, s.ssh.KnownHostsFile, dir, dir, feed), 0o600))
	return s
}

// api starts the fast API and returns its URL. With a certificate file, it writes its own
// there and serves HTTPS.
func (b *bench) api(latency time.Duration, certificate string) string {
	cmd := b.command("fastapi", latency.String(), certificate)
	out, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	url, err := bufio.NewReader(out).ReadString('\n')
	must(err)
	return strings.TrimSpace(url)
}

// once drops a new file and runs billdrop over it.
func (b *bench) once(s *site, rows int) figure {
	b.files++
	writeBills(filepath.Join(s.root, "inbox", fmt.Sprintf("b%d.csv", b.files)), fmt.Sprint("R", b.files), rows, kind{currency: "ZAR"})
	return b.run(s)
}

func (b *bench) run(s *site) figure {
	cmd := b.command(b.binary, "run", "--once", "--no-progress", "--log-level", "error", "--config", s.config)
	if s.certificate != "" {
		cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+s.certificate)
	}
	return b.measure(cmd)
}

func (b *bench) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.t.Context(), name, args...)
	cmd.Env = cleanEnv()
	return cmd
}

// figure is what one run took.
type figure struct {
	wall, cpu time.Duration // cpu: user and system
	rss       int64         // KiB at the peak
}

// measure runs a command to its end.
func (b *bench) measure(cmd *exec.Cmd) figure {
	b.t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("%v: %v\n%s", cmd.Args, err, &stderr)
	}
	p := cmd.ProcessState
	return figure{time.Since(begun), p.UserTime() + p.SystemTime(), p.SysUsage().(*syscall.Rusage).Maxrss}
}

// result is a comparison of two programs.
type result struct {
	ours, theirs figure  // medians, memory: the peak of all runs
	rate, cpu    float64 // medians of the pairs
}

// pairs runs two programs in turn, so that a change in the machine's speed strikes both.
func pairs(runs int, ours, theirs func() figure) result {
	var as, bs []figure
	var rates, cpus []float64
	for range runs {
		a, b := ours(), theirs()
		as, bs = append(as, a), append(bs, b)
		rates = append(rates, b.wall.Seconds()/a.wall.Seconds())
		cpus = append(cpus, a.cpu.Seconds()/b.cpu.Seconds())
	}
	return result{ours: median(as), theirs: median(bs), rate: middle(rates), cpu: middle(cpus)}
}

func median(runs []figure) (m figure) {
	var walls, cpus []time.Duration
	for _, f := range runs {
		walls, cpus, m.rss = append(walls, f.wall), append(cpus, f.cpu), max(m.rss, f.rss)
	}
	m.wall, m.cpu = middle(walls), middle(cpus)
	return m
}

func middle[N float64 | time.Duration](of []N) N {
	slices.Sort(of)
	return of[len(of)/2]
}

// kind is what the rows of a generated file are like.
type kind struct {
	currency string
	repeat   bool // every account twice and every customer four times
	conflict bool // every account twice and every customer three times, each time with another name
}

// writeBills writes a bill file, row by row, because a process that is started counts the
// memory of its parent as its own peak.
func writeBills(name, prefix string, rows int, k kind) {
	f, err := os.Create(name)
	must(err)
	w := bufio.NewWriter(f)
	w.WriteString("bill_reference,amount_due,currency,bill_date,due_date,account_reference,account_name,customer_reference,customer_name,customer_email,customer_phone,metadata.period,metadata.tariff,metadata.region,metadata.meter\n")
	for i := range rows {
		account, customer, name := i, i, i
		switch {
		case k.repeat:
			account, customer, name = i/2, i/4, i/4
		case k.conflict:
			account, customer = i/6*3+i%3, i/6*2+i%2
		}
		fmt.Fprintf(w, "%[1]s-INV-%07[2]d,%[3]d,%[4]s,2026-11-23,2026-12-31,%[1]s-ACC-%07[5]d,Account %[7]d,%[1]s-CUS-%07[6]d,Naledi Dube %[7]d,n%[7]d@example.com,082%07[6]d,2026-11,T2,North,M%07[5]d\n",
			prefix, i, 1000+i%90000, k.currency, account, customer, name)
	}
	must(w.Flush())
	must(f.Close())
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
