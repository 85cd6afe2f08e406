package config

import (
	"errors"
	"os"

	"billdrop/client"
	"billdrop/ingest/durable"
)

// maxPublic bounds a file of certificates, in bytes.
const maxPublic = 1 << 20

// checkNetwork checks the way to the API.
func (k *checker) checkNetwork(at string, a *API) {
	var wrong *client.Error
	if errors.As(client.CheckProxy(a.Proxy), &wrong) {
		k.problem(join(at, "proxy"), "%s; %s", wrong.Problem, wrong.Hint)
	}
	if a.ProxyPasswordFile != "" && a.Proxy == "" {
		k.problem(join(at, "proxy_password_file"), "needs proxy; write http://USER@HOST:PORT there")
	}
	if a.ClientCertFile != "" && a.ClientKeyFile == "" {
		k.problem(join(at, "client_cert_file"), "needs client_key_file; name the certificate's key there")
	}
	if a.ClientKeyFile != "" && a.ClientCertFile == "" {
		k.problem(join(at, "client_key_file"), "needs client_cert_file; name the key's certificate there")
	}
}

// Network returns the part of a client's configuration that is about the way to the API. It reads
// the files that this needs, and returns all errors at once.
func (a *API) Network() (client.Config, error) {
	c := client.Config{Proxy: a.Proxy}
	var wrong []error
	secret := func(key, path string) client.Secret {
		if path == "" {
			return ""
		}
		text, err := ReadSecret(key, path)
		wrong = append(wrong, err)
		return client.Secret(text)
	}
	public := func(key, path string) []byte {
		if path == "" {
			return nil
		}
		b, err := readPublic(key, path)
		wrong = append(wrong, err)
		return b
	}
	c.ProxyPassword = secret("api.proxy_password_file", a.ProxyPasswordFile)
	c.CA = public("api.ca_file", a.CAFile)
	c.ClientCert = public("api.client_cert_file", a.ClientCertFile)
	c.ClientKey = secret("api.client_key_file", a.ClientKeyFile)
	return c, errors.Join(wrong...)
}

// readPublic returns the content of the file that key names, which anybody may read.
func readPublic(key, path string) ([]byte, error) {
	b, _, err := durable.ReadRegular(path, maxPublic)
	switch {
	case errors.Is(err, durable.ErrNotRegular):
		return nil, refuse("name the file that holds the certificates", "%s: %s is not a file", key, path)
	case errors.Is(err, os.ErrNotExist):
		return nil, refuse("create the file, or name another", "%s: cannot read %s: %v", key, path, reason(err))
	case err != nil && !errors.Is(err, durable.ErrTooLarge):
		return nil, refuse("let the user that billdrop runs as read it", "%s: cannot read %s: %v", key, path, reason(err))
	case err != nil, len(b) == 0:
		return nil, refuse("write certificates in PEM form into it", "%s: %s is empty, or far too long", key, path)
	}
	return b, nil
}
