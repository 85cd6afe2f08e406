package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"billdrop/cmd/billdrop/describe"
)

const (
	// A sender has this long for its headers, and then for the whole request.
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	// answerTimeout covers reading, and waiting for the disk.
	answerTimeout = 20 * time.Second
	idleTimeout   = 30 * time.Second
	// maxConns bounds the connections, idle ones included, and so the memory: each reads
	// maxBody at most. Others wait to be accepted.
	maxConns       = 256
	maxHeaderBytes = 8 << 10
	// closeTimeout is how long deliveries under way may take when the server is closed.
	closeTimeout = 5 * time.Second
)

// ErrAddress is in every error of Listen.
var ErrAddress = errors.New("webhooks.listen")

// Listen opens the address for deliveries, with TLS if there is a certificate.
func Listen(ctx context.Context, address, certFile, keyFile string) (net.Listener, error) {
	var conf *tls.Config
	if certFile != "" {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, describe.Advise(fmt.Errorf("%w: the certificate cannot be used: %w", ErrAddress, err),
				"name the certificate with its chain in webhooks.cert_file, and its key in webhooks.key_file, both PEM")
		}
		conf = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, describe.Advise(fmt.Errorf("%w %s: the port is taken by another program, perhaps another billdrop", ErrAddress, address),
			"stop that program, or name another port; \"billdrop run\" receives by itself and needs no \"billdrop receive\" beside it")
	case err != nil:
		return nil, describe.Advise(fmt.Errorf("%w %s: %w", ErrAddress, address, err), "name an address of this machine with a port, such as 127.0.0.1:8081")
	}
	l = netutil.LimitListener(l, maxConns)
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	return l, nil
}

// Server answers deliveries until it is closed.
type Server struct {
	server  *http.Server
	serving sync.WaitGroup
	failed  chan error
}

// Serve answers on the listener, which Listen opened, and owns it from now on.
func Serve(l net.Listener, h *Handler) *Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // HTTP/2 would let one connection carry many requests
	s := &Server{failed: make(chan error, 1), server: &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: answerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, Protocols: protocols,
		ErrorLog: log.New(io.Discard, "", 0), // its lines may quote what a sender sent
	}}
	s.serving.Go(func() {
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("receive webhooks: %w", err)
		}
	})
	return s
}

// Failed returns a channel on which the reason comes if the server ends by itself.
func (s *Server) Failed() <-chan error { return s.failed }

// Close lets deliveries under way end, and stops. Close of a nil Server does nothing.
func (s *Server) Close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close() // breaks off what is left
	}
	s.serving.Wait()
}
