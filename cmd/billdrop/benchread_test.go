//go:build bench

package main

import (
	"io"
	"os"

	"github.com/pkg/sftp"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

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
