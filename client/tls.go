package client

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"strings"
)

// tlsConfig returns how a client proves who it is, and whom it trusts: TLS 1.2 or later, the
// machine's own roots and those of Config.CA, and the client certificate if there is one.
func (cfg *Config) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if len(cfg.CA) > 0 {
		roots, err := x509.SystemCertPool()
		if err != nil { // there is none on this machine
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(cfg.CA) {
			return nil, &Error{"CA file", "has no certificate in PEM form in it", "put the roots there, each from -----BEGIN CERTIFICATE----- to its end"}
		}
		config.RootCAs = roots
	}
	switch {
	case len(cfg.ClientCert) == 0 && cfg.ClientKey == "":
		return config, nil
	case len(cfg.ClientCert) == 0:
		return nil, &Error{"client key", "has no certificate beside it", "name the client certificate too"}
	case cfg.ClientKey == "":
		return nil, &Error{"client certificate", "has no key beside it", "name the client key too"}
	case encrypted(cfg.ClientKey):
		return nil, &Error{"client key", "is encrypted", "write it without a passphrase (openssl pkey -in KEY -out PLAIN), readable by its owner alone"}
	}
	pair, err := tls.X509KeyPair(cfg.ClientCert, []byte(cfg.ClientKey))
	if err != nil { // its text names what is wrong and quotes neither file
		return nil, &Error{"client certificate", "cannot be used: " + cleanText(strings.TrimPrefix(err.Error(), "tls: "), maxDetail),
			"both have to be PEM, and the key has to be the certificate's"}
	}
	// The certificate is sent whatever authorities the server names. A server that does not
	// want it says so, which explains more than an empty certificate.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return config, nil
}

// encrypted reports whether a private key in PEM form is protected by a passphrase.
func encrypted(key Secret) bool {
	for rest := []byte(key); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return false
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return true
		}
	}
}
