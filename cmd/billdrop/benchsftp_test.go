//go:build bench

package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"

	"billdrop/ingest/inbox/sftpserver/opensshtest"
)

// fetching fetches 200 MB over SSH, beside OpenSSH's own client, and 4 MB over a line with a
// round trip of 50 ms, beside a reader that asks for one block at a time.
func (b *bench) fetching() {
	root := b.t.TempDir()
	s := opensshtest.Start(b.t, root)
	local := filepath.Join(b.t.TempDir(), "got")
	fetch := func(address, command, remote string) figure {
		return b.measure(b.command(command, address, s.User, s.PrivateKeyFile, s.KnownHostsFile, remote, local))
	}
	if name := "SFTP fetch, 200 MB"; !b.skip(name) {
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
		r := pairs(*benchRuns, func() figure { return fetch(s.Address, "fetchfile", remote) }, func() figure {
			return b.measure(b.command("sftp", "-q", "-P", port, "-i", s.PrivateKeyFile, "-o", "UserKnownHostsFile="+s.KnownHostsFile, "-o", "IdentitiesOnly=yes", s.User+"@"+host+":"+remote, local))
		})
		b.row(name, r, "OpenSSH sftp", bars{}, "")
	}
	if name := "SFTP fetch, 4 MB, 50 ms round trip"; !b.skip(name) {
		remote := filepath.Join(s.Root, "small")
		must(os.WriteFile(remote, bytes.Repeat([]byte("0123456789abcdef"), 4_000_000/16), 0o600))
		far := delayed(b.t, s.Address, 25*time.Millisecond)
		known, err := os.ReadFile(s.KnownHostsFile)
		must(err)
		_, oldPort, _ := net.SplitHostPort(s.Address)
		_, newPort, _ := net.SplitHostPort(far)
		s.KnownHostsFile = filepath.Join(b.t.TempDir(), "known_hosts")
		must(os.WriteFile(s.KnownHostsFile, bytes.ReplaceAll(known, []byte(":"+oldPort), []byte(":"+newPort)), 0o600))
		r := pairs(*benchRuns, func() figure { return fetch(far, "fetchfile", remote) }, func() figure { return fetch(far, "slowreader", remote) })
		b.row(name, r, "one request at a time", bars{}, "")
	}
}

// readOneByOne fetches a remote file the plainest way: one read, one answer, the next read.
func readOneByOne(args []string) error {
	key, err := os.ReadFile(args[2])
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return err
	}
	known, err := knownhosts.NewDB(args[3])
	if err != nil {
		return err
	}
	conn, err := ssh.Dial("tcp", args[0], &ssh.ClientConfig{
		User: args[1], Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: known.HostKeyCallback(), HostKeyAlgorithms: known.HostKeyAlgorithms(args[0]),
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	c, err := sftp.NewClient(conn, sftp.UseConcurrentReads(false))
	if err != nil {
		return err
	}
	defer c.Close()
	from, err := c.Open(args[4])
	if err != nil {
		return err
	}
	to, err := os.Create(args[5])
	if err != nil {
		return err
	}
	if _, err := io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from}); err != nil {
		return err
	}
	return to.Close()
}

// delayed is a proxy that holds every byte back for d in each direction.
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
