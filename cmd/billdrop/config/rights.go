package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Whoever may write to the files and directories below can change what is sent, where to, or
// what is known of it. So none of them may be writable by the group or by all.

// CheckFileRights checks the rights of the configuration itself.
func CheckFileRights(path string) error { return checkRights("the configuration", path) }

// CheckRights checks the rights of everything on this machine that a worker relies on. What
// does not exist is passed over. It returns all errors at once.
func (c *Config) CheckRights() error {
	wrong := []error{checkRights("spool_dir", c.SpoolDir), checkRights("spool_dir", filepath.Join(c.SpoolDir, "orders"))}
	if ledger := c.LedgerPlace(); !ledger.Shared() {
		wrong = append(wrong, checkRights("ledger", filepath.Dir(ledger.Path)))
		for _, suffix := range []string{"", "-wal", "-events", "-events-wal"} {
			wrong = append(wrong, checkRights("ledger", ledger.Path+suffix))
		}
	}
	if c.SFTP.Address != "" {
		wrong = append(wrong, checkRights("sftp.known_hosts_file", c.SFTP.KnownHostsFile))
	}
	return errors.Join(wrong...)
}

// checkRights returns an error if others may write to a file or directory. Where mode bits do
// not say who may, it returns none.
func checkRights(what, path string) error {
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" || !info.IsDir() && !info.Mode().IsRegular() {
		return nil // opening it fails, and says what is wrong
	}
	if info.Mode().Perm()&0o022 == 0 {
		return nil
	}
	return &Error{
		What: fmt.Sprintf("%s: others may write to %s (mode %04o)", what, path, info.Mode().Perm()),
		Hint: "close it: chmod go-w " + ShellWord(path), kind: fs.ErrPermission,
	}
}
