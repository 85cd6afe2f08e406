//go:build bench

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver/opensshtest"
)

// Benchmarks of the whole program, from the outside: the real binary against a fast API and a real OpenSSH server, each
// figure beside that of the plainest program that does the same, in turn and in one run, so that the ratio holds
// on any machine. Nothing fails here for being slow. `make bench` runs them.

var (
	benchRuns    = flag.Int("bench.runs", 5, "how often each is run; the medians are told")
	benchMillion = flag.Bool("bench.million", false, "also 1,000,000 rows end to end")
	benchOnly    = flag.String("bench.only", "", "only the benchmarks whose name contains this")
)

// benchCommands are the plain programs; the test binary is all of them.
func benchCommands() map[string]func() {
	return map[string]func(){"fastapi": fastAPI, "bareloop": bareLoop, "barecsv": bareCSV, "slowreader": slowReader, "fetchfile": fetchFile}
}

// fastAPI answers every POST with the bill it asks for, after a latency, and holds nothing.
func fastAPI() {
	latency, err := time.ParseDuration(os.Args[1])
	must(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	fmt.Println(listener.Addr())
	must(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		ref := member(body, `"external_reference":"`)
		account := member(body, `"account":"`)
		if account == "" {
			account = "bacc_" + strings.ReplaceAll(ref, "-", "")
		}
		if latency > 0 {
			time.Sleep(latency)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"id":"bill_%[1]s","external_reference":%[2]q,"customer_id":"bcus_%[1]s","account_id":%[5]q,"status":"unpaid","currency":%[3]q,"amount_due":%[4]s,"amount_paid":0,"bill_date":"2026-11-23","due_date":"2026-12-31"}`,
			strings.ReplaceAll(ref, "-", ""), ref, member(body, `"currency":"`), number(body, `"amount_due":`), account)
	})))
}

func member(body []byte, name string) string {
	_, rest, _ := bytes.Cut(body, []byte(name))
	value, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(value)
}

func number(body []byte, name string) string {
	_, rest, _ := bytes.Cut(body, []byte(name))
	return string(rest[:max(0, bytes.IndexAny(rest, ",}"))])
}

// bareLoop posts bodies like billdrop's as fast as it can: ADDRESS ROWS SENDERS.
func bareLoop() {
	rows, err := strconv.Atoi(os.Args[2])
	must(err)
	senders, err := strconv.Atoi(os.Args[3])
	must(err)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders, MaxConnsPerHost: senders}}
	next := make(chan int)
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for i := range next {
				body := fmt.Sprintf(`{"external_reference":"INV-%07[1]d","currency":"ZAR","amount_due":%[2]d,"due_date":"2026-12-31","account":{"external_reference":"ACC-%07[1]d","name":"Account %[1]d","customer":{"external_reference":"CUS-%07[1]d","name":"Naledi Dube %[1]d","email":"n%[1]d@example.com","phone":"+27821234567"}}}`, i, 1000+i%90000)
				req, err := http.NewRequest("POST", "http://"+os.Args[1]+"/billing/bills", strings.NewReader(body))
				must(err)
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("Authorization", "Bearer sk_test_bench")
				req.Header.Set("Idempotency-Key", fmt.Sprintf("00000000-0000-4000-8000-%012d", i))
				resp, err := client.Do(req)
				must(err)
				_, err = io.Copy(io.Discard, resp.Body)
				must(err)
				resp.Body.Close()
			}
		})
	}
	for i := range rows {
		next <- i
	}
	close(next)
	wg.Wait()
}

// bareCSV reads a file with encoding/csv and nothing else: FILE.
func bareCSV() {
	f, err := os.Open(os.Args[1])
	must(err)
	r := csv.NewReader(bufio.NewReaderSize(f, 1<<16))
	r.ReuseRecord = true
	for {
		if _, err := r.Read(); errors.Is(err, io.EOF) {
			return
		} else {
			must(err)
		}
	}
}

// fetchFile fetches a remote file as billdrop does: ADDRESS USER KEY KNOWN_HOSTS REMOTE LOCAL.
func fetchFile() {
	a, err := inbox.Dial(context.Background(), inbox.Config{Address: os.Args[1], User: os.Args[2], PrivateKeyFile: os.Args[3], KnownHostsFile: os.Args[4]})
	must(err)
	f, err := os.Create(os.Args[6])
	must(err)
	_, err = a.Fetch(context.Background(), os.Args[5], f)
	must(err)
	must(f.Close())
	must(a.Close())
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// figure is what one run took.
type figure struct {
	wall time.Duration
	rss  int64 // KiB
}

// measure runs a command to its end.
func measure(t *testing.T, cmd *exec.Cmd) figure {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, &stderr)
	}
	return figure{time.Since(begun), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss}
}

// medians runs two things in turn and returns their median figures, and the median of the ratio other/ours (more is better for ours).
func medians(runs int, ours, other func() figure) (a, b figure, ratio float64) {
	var as, bs []figure
	var ratios []float64
	for range runs {
		x := ours()
		y := other()
		as, bs = append(as, x), append(bs, y)
		ratios = append(ratios, y.wall.Seconds()/x.wall.Seconds())
	}
	median := func(f []figure) figure {
		slices.SortFunc(f, func(x, y figure) int { return int(x.wall - y.wall) })
		return figure{f[len(f)/2].wall, slices.MaxFunc(f, func(x, y figure) int { return int(x.rss - y.rss) }).rss}
	}
	slices.Sort(ratios)
	return median(as), median(bs), ratios[len(ratios)/2]
}

// benchBills writes a bill file of rows; each party has so many bills. It is streamed: a process that is started counts the
// memory of the one that starts it as its own peak.
func benchBills(name, prefix, currency string, rows, each int) {
	f, err := os.Create(name)
	must(err)
	b := bufio.NewWriter(f)
	b.WriteString("bill_reference,amount_due,currency,bill_date,due_date,account_reference,account_name,customer_reference,customer_name,customer_email,customer_phone,metadata.period,metadata.tariff,metadata.region,metadata.meter\n")
	for i := range rows {
		p := i / each
		fmt.Fprintf(b, "%[1]s-INV-%07[2]d,%[3]d,%[5]s,2026-11-23,2026-12-31,%[1]s-ACC-%07[4]d,Account %[4]d,%[1]s-CUS-%07[4]d,Naledi Dube %[4]d,n%[4]d@example.com,082%07[4]d,2026-11,T2,North,M%07[4]d\n", prefix, i, 1000+i%90000, p, currency)
	}
	must(b.Flush())
	must(f.Close())
}

// bench is a site with OpenSSH, a fast API and the real binary.
type bench struct {
	t      *testing.T
	binary string
	n      int // files dropped so far
}

func (b *bench) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.t.Context(), name, args...)
	cmd.Env = cleanEnv()
	return cmd
}

// api starts the fast API and returns its address.
func (b *bench) api(latency time.Duration) string {
	cmd := b.command("fastapi", latency.String())
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimSpace(address)
}

// site makes a directory with a configuration for an API and an OpenSSH server over it.
func (b *bench) site(address string, concurrency int) (dir, conf string) {
	b.t.Helper()
	dir = b.t.TempDir()
	s := opensshtest.Start(b.t, dir)
	feed := ""
	for _, name := range []string{"inbox", "processing", "archive", "rejected", "results"} {
		if err := os.Mkdir(filepath.Join(s.Root, name), 0o700); err != nil {
			b.t.Fatal(err)
		}
		feed += fmt.Sprintf("    %s: %s\n", name, filepath.Join(s.Root, name))
	}
	must(os.WriteFile(filepath.Join(dir, "api.key"), []byte("sk_test_bench"), 0o600))
	conf = filepath.Join(dir, "config.yaml")
	must(os.WriteFile(conf, fmt.Appendf(nil, `merchant: bench
api: {base_url: "http://%s", key_file: %s/api.key, concurrency: %d}
sftp: {address: "%s", user: %s, private_key_file: %s, known_hosts_file: %s}
ledger: sqlite:%s/ledger.db
spool_dir: %s/spool
feeds:
  - name: bills
    amounts: minor
    settle: 0s
%s`, address, dir, concurrency, s.Address, s.User, s.PrivateKeyFile, s.KnownHostsFile, dir, dir, feed), 0o600))
	return s.Root, conf
}

// once drops a file and runs billdrop over it.
func (b *bench) once(root, conf string, rows, each int) figure {
	b.n++
	benchBills(filepath.Join(root, "inbox", fmt.Sprintf("b%d.csv", b.n)), fmt.Sprint("R", b.n), "ZAR", rows, each)
	return measure(b.t, b.command(b.binary, "run", "--once", "--no-progress", "--log-level", "error", "--config", conf))
}

func TestBench(t *testing.T) {
	b := &bench{t: t, binary: filepath.Join(t.TempDir(), "billdrop")}
	build := exec.Command("go", "build", "-trimpath", "-o", b.binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tw := table.NewWriter()
	tw.AppendHeader(table.Row{"what", "billdrop", "peak RSS", "compared with", "takes", "ratio"})
	row := func(name string, ours figure, what string, other figure, ratio float64) {
		tw.AppendRow(table.Row{name, ours.wall.Round(time.Millisecond), fmt.Sprintf("%d MiB", ours.rss>>10), what, other.wall.Round(time.Millisecond), fmt.Sprintf("%.2f", ratio)})
		t.Logf("%s: %v, %d MiB; %s: %v; ratio %.2f", name, ours.wall, ours.rss>>10, what, other.wall, ratio)
	}
	for _, c := range []struct {
		name                    string
		rows, each, concurrency int
		latency                 time.Duration
	}{
		{"run, 100,000 rows, new parties, API latency 0", 100_000, 1, 32, 0},
		{"run, 10,000 rows, API latency 50 ms, 64 senders", 10_000, 1, 64, 50 * time.Millisecond},
		{"run, 625 accounts of 16 bills, 50 ms, 64 senders", 10_000, 16, 64, 50 * time.Millisecond},
	} {
		if !strings.Contains(c.name, *benchOnly) {
			continue
		}
		address := b.api(c.latency)
		root, conf := b.site(address, c.concurrency)
		ours, other, ratio := medians(*benchRuns,
			func() figure { return b.once(root, conf, c.rows, c.each) },
			func() figure {
				return measure(t, b.command("bareloop", address, strconv.Itoa(c.rows), strconv.Itoa(c.concurrency)))
			})
		row(c.name, ours, "bare posting loop", other, ratio)
	}
	if name := "run, 1,000,000 rows against 100,000"; *benchMillion && strings.Contains(name, *benchOnly) {
		root, conf := b.site(b.api(0), 32)
		small := b.once(root, conf, 100_000, 1)
		big := b.once(root, conf, 1_000_000, 1)
		row(name, big, "100,000 rows (ratio: how many times as long)", small, big.wall.Seconds()/small.wall.Seconds())
	}
	b.validation(row)
	b.fetching(row)
	b.start(row)
	t.Logf("medians of %d\n%s", *benchRuns, tw.Render())
}

// validation reads a million rows, good ones and bad ones.
func (b *bench) validation(row func(string, figure, string, figure, float64)) {
	for _, c := range []struct{ name, currency string }{{"validate, 1,000,000 rows", "ZAR"}, {"validate, 1,000,000 bad rows", "XXX"}} {
		if !strings.Contains(c.name, *benchOnly) {
			continue
		}
		file := filepath.Join(b.t.TempDir(), "million.csv")
		benchBills(file, "V", c.currency, 1_000_000, 1)
		ours, other, ratio := medians(*benchRuns, func() figure {
			cmd := b.command("sh", "-c", `"$0" "$@" > /dev/null; test $? -le 1`, b.binary, "validate", "--amounts", "minor", "--currency", "ZAR", "--no-progress", file)
			return measure(b.t, cmd)
		}, func() figure { return measure(b.t, b.command("barecsv", file)) })
		row(c.name, ours, "bare encoding/csv loop", other, ratio)
	}
}

// fetching gets 200 MB over SSH, beside OpenSSH's own client, and 4 MB over a line with 50 ms round trip, beside a reader that asks
// for one block at a time.
func (b *bench) fetching(row func(string, figure, string, figure, float64)) {
	root := b.t.TempDir()
	s := opensshtest.Start(b.t, root)
	local := filepath.Join(b.t.TempDir(), "got")
	fetch := func(address, command, remote string) figure {
		return measure(b.t, b.command(command, address, s.User, s.PrivateKeyFile, s.KnownHostsFile, remote, local))
	}
	if name := "SFTP fetch, 200 MB"; strings.Contains(name, *benchOnly) {
		remote := filepath.Join(s.Root, "big")
		f, err := os.Create(remote)
		must(err)
		for range 200 {
			_, err := f.Write(bytes.Repeat([]byte("0123456789abcdef"), 1_000_000/16))
			must(err)
		}
		must(f.Close())
		host, port, err := net.SplitHostPort(s.Address)
		must(err)
		ours, other, ratio := medians(*benchRuns, func() figure { return fetch(s.Address, "fetchfile", remote) }, func() figure {
			return measure(b.t, b.command("sftp", "-q", "-P", port, "-i", s.PrivateKeyFile, "-o", "UserKnownHostsFile="+s.KnownHostsFile, "-o", "IdentitiesOnly=yes", s.User+"@"+host+":"+remote, local))
		})
		row(name, ours, "OpenSSH sftp", other, ratio)
	}
	if name := "SFTP fetch, 4 MB, 50 ms round trip"; strings.Contains(name, *benchOnly) {
		remote := filepath.Join(s.Root, "small")
		must(os.WriteFile(remote, bytes.Repeat([]byte("0123456789abcdef"), 4_000_000/16), 0o600))
		far := delayed(b.t, s.Address, 25*time.Millisecond)
		known, err := os.ReadFile(s.KnownHostsFile)
		must(err)
		_, oldPort, _ := net.SplitHostPort(s.Address)
		_, newPort, _ := net.SplitHostPort(far)
		s.KnownHostsFile = filepath.Join(b.t.TempDir(), "known_hosts")
		must(os.WriteFile(s.KnownHostsFile, bytes.ReplaceAll(known, []byte(":"+oldPort), []byte(":"+newPort)), 0o600))
		ours, other, ratio := medians(*benchRuns, func() figure { return fetch(far, "fetchfile", remote) }, func() figure { return fetch(far, "slowreader", remote) })
		row(name, ours, "one request at a time", other, ratio)
	}
}

// start is how long a run takes to its first POST, beside a bare SSH handshake with listing.
func (b *bench) start(row func(string, figure, string, figure, float64)) {
	const name = "start to end of a 10-row file"
	if !strings.Contains(name, *benchOnly) {
		return
	}
	root, conf := b.site(b.api(0), 32)
	raw, err := os.ReadFile(conf)
	must(err)
	word := func(key string) string {
		_, rest, _ := strings.Cut(string(raw), key+": ")
		return strings.Trim(rest[:strings.IndexAny(rest, ",}")], `"`)
	}
	must(os.WriteFile(filepath.Join(root, "one"), []byte("x"), 0o600))
	ours, other, ratio := medians(*benchRuns, func() figure { return b.once(root, conf, 10, 1) }, func() figure {
		return measure(b.t, b.command("fetchfile", word("address"), word("user"), word("private_key_file"), word("known_hosts_file"), filepath.Join(root, "one"), filepath.Join(b.t.TempDir(), "one")))
	})
	row(name, ours, "SSH handshake and a 1-byte fetch", other, ratio)
}

// slowReader fetches a file with one request at a time: the arguments of fetchFile.
func slowReader() { must(readOneByOne(os.Args[1:])) }

// delayed is a proxy that holds every byte back for d in each direction, however many there are.
func delayed(t *testing.T, address string, d time.Duration) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", address)
			must(err)
			go late(near, far, d)
			go late(far, near, d)
		}
	}()
	return listener.Addr().String()
}

func late(from, to net.Conn, d time.Duration) {
	type chunk struct {
		due time.Time
		b   []byte
	}
	chunks := make(chan chunk, 4096)
	go func() {
		defer to.Close()
		for c := range chunks {
			time.Sleep(time.Until(c.due))
			if _, err := to.Write(c.b); err != nil {
				return
			}
		}
	}()
	defer close(chunks)
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			chunks <- chunk{time.Now().Add(d), bytes.Clone(buf[:n])}
		}
		if err != nil {
			return
		}
	}
}
