//go:build unix

package client

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkExchange is a POST of a bill and the verdict on it, from 32 senders to a
// server in another process. The figure that counts is cpu-µs/op, the processor time of
// this process, because the server takes its own share of the machine.
func BenchmarkExchange(b *testing.B) {
	c, err := New(Config{BaseURL: "http://" + startFastServer(b), Key: secret, MaxConns: 32})
	if err != nil {
		b.Fatal(err)
	}
	defer c.transport.CloseIdleConnections()
	body := EncodeBill(benchBill())
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(16) // times GOMAXPROCS, 2 as a rule
	before := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			key := fmt.Sprintf("00000000-0000-8000-8000-%012d", n.Add(1))
			if a := c.CreateBill(context.Background(), key, "INV-0001234", body); a.Kind != Created {
				b.Error(a.Kind, a.Err)
				return
			}
		}
	})
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// startFastServer starts a process that is serveFast, ended with the benchmark.
func startFastServer(b *testing.B) string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveFast+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // its listener was closed under it: it says so
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// cpuTime is what this process has used so far, in user and system.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
