package monitor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
	"golang.org/x/time/rate"

	"billdrop/client"
	"billdrop/cmd/billdrop/describe"
)

const (
	headerTimeout = 5 * time.Second
	// answerTimeout bounds a whole answer. The first page after a start adds up large files.
	answerTimeout = 30 * time.Second
	// idleTimeout is longer than refreshAfter, and short, because connections are few.
	idleTimeout = 15 * time.Second
	// maxConns bounds the connections, idle ones included. Others wait to be accepted.
	maxConns = 64
	// pagesPerSecond bounds the answers of each kind, and so what a flood of requests costs
	// the worker. pagesAtOnce is how many may come in one burst.
	pagesPerSecond, pagesAtOnce = 20, 100
	// closeTimeout is how long answers under way may take after the worker has ended.
	closeTimeout   = 3 * time.Second
	maxHeaderBytes = 16 << 10
)

// ErrAddress is in every error of Listen.
var ErrAddress = errors.New("--listen")

// Listen opens the address of --listen. A port alone ("9310", ":9310") is on loopback. Other
// machines reach it only if the address names a host.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	host, port, err := splitAddress(address)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err := fmt.Errorf("%w %s: the port is taken by another program, perhaps another billdrop", ErrAddress, address)
		return nil, describe.Advise(err, "stop that program, or name another port")
	case err != nil:
		err := fmt.Errorf("%w %s: %w", ErrAddress, address, err)
		return nil, describe.Advise(err, "name a port of this machine, such as 9310, or an address with a port")
	}
	return listener, nil
}

func splitAddress(address string) (host, port string, err error) {
	port = strings.TrimPrefix(address, ":")
	if strings.Contains(port, ":") {
		if host, port, err = net.SplitHostPort(address); err != nil || host == "" {
			err := fmt.Errorf("%w %s: not an address with a port", ErrAddress, address)
			return "", "", describe.Advise(err, "write a port such as 9310, or an address with a port such as 192.0.2.7:9310")
		}
	} else {
		host = "127.0.0.1"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		err := fmt.Errorf("%w %s: %q is not a port", ErrAddress, address, port)
		return "", "", describe.Advise(err, "write a number from 1 to 65535, such as 9310")
	}
	return host, port, nil
}

// IsLoopback reports whether only this machine reaches a listener.
func IsLoopback(l net.Listener) bool {
	a, err := netip.ParseAddrPort(l.Addr().String())
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// Server answers for a site until it is closed.
type Server struct {
	view     *view
	server   *http.Server
	serving  sync.WaitGroup
	patience time.Duration // closeTimeout; shorter in tests
}

// Serve answers on the listener and owns it from now on. Progress must have been called. The
// caller closes the server.
func (m *Monitor) Serve(l net.Listener, s Site) (*Server, error) {
	s.Loopback = IsLoopback(l)
	handler, v, err := m.handler(s)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	server := &Server{view: v, patience: closeTimeout, server: &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: answerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}}
	server.serving.Go(func() {
		if err := server.server.Serve(netutil.LimitListener(l, maxConns)); !errors.Is(err, http.ErrServerClosed) {
			s.Log.Error("the status page has ended, and the worker continues; restart billdrop to get the page back", "error", err)
		}
	})
	address := l.Addr().String()
	s.Log.Info("status page", "url", "http://"+address+"/", "metrics", "/metrics", "health", "/healthz, /readyz")
	if !s.Loopback {
		s.Log.Warn("the status page has no login: everyone who reaches this address can read file names, bill references and sums; restrict access to it, or listen on loopback",
			"address", address)
	}
	return server, nil
}

// Close ends the server after the worker has ended. Answers under way have closeTimeout to
// finish. Close of a nil Server does nothing.
func (s *Server) Close() {
	if s == nil {
		return
	}
	s.view.over.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close() // breaks off what is left
	}
	s.serving.Wait()
}

// handler routes the requests of a site.
func (m *Monitor) handler(s Site) (http.Handler, *view, error) {
	if m.files == nil {
		return nil, nil, errUnwired
	}
	v := &view{Site: s, Monitor: m, good: &goodPolls{at: make(map[string]time.Time)}, shared: newShared(s.Ledger)}
	if err := m.metrics.registry.Register(v); err != nil {
		return nil, nil, fmt.Errorf("register the metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", bounded(v.overview))
	mux.Handle("GET /files/{id}", bounded(v.file))
	mux.HandleFunc("GET /healthz", v.healthz)
	mux.Handle("GET /readyz", bounded(v.readyz))
	mux.Handle("GET /metrics", bounded(promhttp.HandlerFor(m.metrics.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn), MaxRequestsInFlight: 4,
	}).ServeHTTP))
	return v.guard(mux), v, nil
}

// answer is an answer that is written once it is whole, so that a client that reads slowly
// keeps no other one waiting.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = cmp.Or(a.code, code) }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// bounded answers at most pagesPerSecond requests, few at a time. More are refused at once.
func bounded(next http.HandlerFunc) http.Handler {
	limit := rate.NewLimiter(pagesPerSecond, pagesAtOnce)
	turns := make(chan struct{}, 2)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !limit.Allow() {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests; wait a second", http.StatusTooManyRequests)
			return
		}
		a := answer{header: w.Header()}
		select {
		case turns <- struct{}{}:
			func() {
				defer func() { <-turns }()
				next(&a, r)
			}()
		case <-r.Context().Done(): // the client has gone
			return
		}
		w.WriteHeader(cmp.Or(a.code, http.StatusOK))
		_, _ = w.Write(a.body.Bytes()) // the client may have gone
	})
}

// guard sets the headers of every answer. On loopback it refuses requests that name another
// host. Otherwise a web page whose name resolves to 127.0.0.1 (DNS rebinding) could read this
// one through the browser of an operator.
func (v *view) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if v.Loopback && !isLocalHost(r.Host) {
			http.Error(w, "use localhost or 127.0.0.1 in the address; a proxy in front has to send one of these as Host", http.StatusMisdirectedRequest)
			return
		}
		if path.Clean(r.URL.Path) != r.URL.Path {
			http.NotFound(w, r) // a redirect would repeat what was asked for
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLocalHost reports whether a Host header names this machine.
func isLocalHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return client.IsLoopback(strings.Trim(host, "[]"))
}
