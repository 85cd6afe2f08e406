//go:build unix

package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"billdrop/ingest/durable"
	"billdrop/ingest/inbox"
)

// TestPipesAndDevices: whatever file the configuration names, and the configuration itself, is
// read only if it is a file. Nothing is waited for: one of the pipes has a writer that stays.
func TestPipesAndDevices(t *testing.T) {
	dir := t.TempDir()
	pipe, written := filepath.Join(dir, "pipe"), filepath.Join(dir, "written")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), syscall.Mkfifo(written, 0o600)); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(written, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := os.ReadFile("../../../ingest/inbox/testdata/encrypted_key")
	if err != nil {
		t.Fatal(err)
	}
	known, private, passphrase, text := file("known_hosts", ""), file("key", string(key)), file("passphrase", "sesame\n"), file("text", "x\n")
	api := func(change func(*API, string)) func(string) error {
		return func(path string) error {
			var a API
			change(&a, path)
			_, err := a.Network()
			return err
		}
	}
	login := func(change func(*SFTP, string)) func(string) error {
		return func(path string) error {
			s := SFTP{Address: "sftp.example.com:22", User: "acme", KnownHostsFile: known, PrivateKeyFile: private, PassphraseFile: passphrase, PasswordFile: text}
			change(&s, path)
			return s.CheckFiles()
		}
	}
	for name, read := range map[string]func(path string) error{
		"the configuration":                func(path string) error { _, err := Load(path, os.LookupEnv, Needs{}); return err },
		"api.key_file":                     func(path string) error { _, err := ReadSecret("api.key_file", path); return err },
		"api.proxy_password_file":          api(func(a *API, path string) { a.ProxyPasswordFile = path }),
		"api.ca_file":                      api(func(a *API, path string) { a.CAFile = path }),
		"api.client_cert_file":             api(func(a *API, path string) { a.ClientCertFile = path }),
		"api.client_key_file":              api(func(a *API, path string) { a.ClientKeyFile = path }),
		"sftp.known_hosts_file":            login(func(s *SFTP, path string) { s.KnownHostsFile = path }),
		"sftp.private_key_file":            login(func(s *SFTP, path string) { s.PrivateKeyFile = path }),
		"sftp.private_key_passphrase_file": login(func(s *SFTP, path string) { s.PassphraseFile = path }),
		"sftp.password_file":               login(func(s *SFTP, path string) { s.PasswordFile = path }),
		"sftp.certificate_file":            login(func(s *SFTP, path string) { s.CertificateFile = path }),
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{pipe, written, "/dev/zero", dir} {
				err := read(path)
				if !errors.Is(err, ErrSecret) && !errors.Is(err, durable.ErrNotRegular) && !errors.Is(err, inbox.ErrConfig) {
					t.Errorf("%s: error %v", path, err)
				} else if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "not a regular file") && !strings.Contains(err.Error(), "is not a file") {
					t.Errorf("%s: error %v does not say what is wrong", path, err)
				}
			}
		})
	}
}
