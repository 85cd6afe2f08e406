package config

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestNetwork: files are taken from the configuration's directory and read; secrets that others may
// read are refused, and all errors come at once.
func TestNetwork(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("password", "pw\n", 0o600)
	write("ca.pem", "CA", 0o644)
	write("cert.pem", "CERT", 0o644)
	write("key.pem", "KEY", 0o600)
	write("config.yaml", strings.Replace(base, "  key_file: api.key", `  key_file: api.key
  proxy: http://clerk@proxy.example.com:3128
  proxy_password_file: password
  ca_file: ca.pem
  client_cert_file: cert.pem
  client_key_file: key.pem`, 1), 0o600)
	conf, err := Load(filepath.Join(dir, "config.yaml"), noEnv, all)
	if err != nil {
		t.Fatal(err)
	}
	c, err := conf.Feeds[0].API.Network()
	if err != nil || c.Proxy != "http://clerk@proxy.example.com:3128" || string(c.ProxyPassword) != "pw" ||
		string(c.CA) != "CA" || string(c.ClientCert) != "CERT" || string(c.ClientKey) != "KEY" {
		t.Errorf("%v, %+v", err, c)
	}
	if runtime.GOOS == "windows" {
		return // rights are not looked at there
	}
	for _, name := range []string{"password", "key.pem"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	_, err = conf.API.Network()
	if !errors.Is(err, ErrSecret) {
		t.Fatalf("files that others may read: %v", err)
	}
	for _, want := range []string{"api.proxy_password_file: others may read", "api.client_key_file: others may read", "api.ca_file: cannot read"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}
