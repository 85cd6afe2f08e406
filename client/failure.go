package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
)

// untrusted reports whether err means that this side refused the server's certificate.
func untrusted(err error) bool {
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

// failure gives a transport's error a text that quotes nothing.
type failure struct {
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// describe returns err under a text that is safe to log. Errors of net, tls and x509 keep
// their texts, which name addresses and reasons. Others of net/http may quote a malformed
// answer, and an answer may repeat a request, with people's data in it.
func describe(err error) error {
	var op *net.OpError
	var dns *net.DNSError
	var proxy *proxyError
	var timeout net.Error
	switch {
	case errors.Is(err, errTooLarge):
		return err
	case errors.Is(err, context.Canceled):
		return &failure{"interrupted", err}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{"timed out", err}
	case untrusted(err):
		return &failure{"certificate refused: " + cleanText(err.Error(), maxDetail), err}
	case errors.As(err, &proxy):
		return &failure{proxy.Error(), err}
	case errors.As(err, &op) && op.Op == "proxyconnect": // how net/http marks a proxy that it cannot reach
		return &failure{"proxy: " + describe(op.Err).Error(), err}
	case errors.As(err, &op):
		return &failure{cleanText(op.Error(), maxDetail), err}
	case errors.As(err, &dns):
		return &failure{cleanText(dns.Error(), maxDetail), err}
	case errors.As(err, &timeout) && timeout.Timeout():
		return &failure{"timed out", err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &failure{"connection closed before the answer was complete", err}
	case answersPlainly(err):
		return &failure{"server answers plain HTTP to https", err}
	case strings.HasPrefix(err.Error(), "tls: "):
		return &failure{cleanText(err.Error(), maxDetail), err}
	case strings.Contains(err.Error(), "response headers exceeded"):
		return &failure{"answer has a header larger than 64 KiB", err}
	case strings.Contains(err.Error(), "malformed"):
		return &failure{"answer is not HTTP", err}
	}
	return &failure{"connection failed", err}
}

// answersPlainly reports whether a server answered plain HTTP to a TLS handshake.
func answersPlainly(err error) bool {
	var record tls.RecordHeaderError
	return errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/"
}

// reasonOf returns the text of an Answer's error without the request that it was about.
func reasonOf(err error) string {
	if inner := errors.Unwrap(err); inner != nil {
		return inner.Error()
	}
	return err.Error()
}

// causeOf returns why nothing was sent, as one of a few fixed texts.
func causeOf(err error) string {
	var op *net.OpError
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, errBadKey), errors.Is(err, errNoReference), errors.Is(err, errDotReference):
		return "not a request"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host"
	case errors.As(err, &timeout) && timeout.Timeout(): // context.DeadlineExceeded is one
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to host"
	case errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Error(), "certificate required"):
		return "certificate required"
	case errors.As(err, &op) && op.Op == "remote error", answersPlainly(err), strings.HasPrefix(reasonOf(err), "tls: "):
		return "no TLS"
	}
	return "no connection"
}
