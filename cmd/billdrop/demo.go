package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/demo"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/cmd/billdrop/webhook"
	"billdrop/cmd/billdrop/wiring"
)

type demoCmd struct {
	Latency time.Duration `placeholder:"TIME" default:"120ms" help:"How long the local API takes to answer (default: 120ms)."`
	Cluster bool          `help:"Show three workers that share a ledger in PostgreSQL, of which one is killed."`
}

func (demoCmd) Help() string {
	return `Starts a local SFTP server and a local Billing API, drops sample bill files into the inbox, does what "billdrop run --once" does, and shows what became of the files. Nothing leaves this machine. The directory is kept; the output says how to delete it.

With --cluster it starts PostgreSQL too, which must be installed, and three workers. One of them is killed in the middle of a file, and the others finish it. The directory is removed.

Example: billdrop demo`
}

// Run shows a run from end to end.
func (c *demoCmd) Run(ctx context.Context, s *session) error {
	if s.json() {
		return usagef("demo has no JSON form, because it is for reading").Hint("leave --output out")
	}
	dir, err := os.MkdirTemp("", "billdrop-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	o := sandbox.Options{Dir: dir, SFTPAddr: "127.0.0.1:0", APIAddr: "127.0.0.1:0", API: emulator.Config{Latency: c.Latency, Seed: 1}}
	if c.Cluster {
		box, err := sandbox.Open(ctx, o)
		if err != nil {
			return err
		}
		return errors.Join(showCluster(ctx, s, box), box.Close(), os.RemoveAll(dir))
	}
	listener, err := webhook.Listen(ctx, "127.0.0.1:0", "", "")
	if err != nil {
		return err
	}
	defer listener.Close() // a second time, once the receiver has ended
	o.Hooks.URL = "http://" + listener.Addr().String() + webhook.PathPrefix + sandbox.User
	box, err := sandbox.Open(ctx, o)
	if err != nil {
		return err
	}
	quiet := s.forDemo(box)
	d := &demo.Demo{Box: box, Out: s.stdout, Run: func(ctx context.Context) ([]describe.Finished, error) {
		conf, err := loadConfig(quiet, config.Needs{Key: true, SFTP: true})
		if err != nil {
			return nil, err
		}
		return runOnce(ctx, quiet, conf)
	}}
	d.Receive = func(ctx context.Context) (stop func() error, err error) { return receiveFor(ctx, quiet, listener) }
	return errors.Join(d.Show(ctx), box.Close())
}

// receiveFor does what `billdrop receive` does, at an address that is open already.
func receiveFor(ctx context.Context, s *session, l net.Listener) (stop func() error, err error) {
	conf, err := loadConfig(s, config.Needs{Webhooks: true})
	if err != nil {
		return nil, err
	}
	reception, err := wiring.ReceptionAt(l, conf)
	if err != nil {
		return nil, err
	}
	stop, _, err = reception.Receive(ctx, s.kit(), conf)
	return stop, err
}

// showCluster shows several workers, which are processes of this program.
func showCluster(ctx context.Context, s *session, box *sandbox.Sandbox) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	return (&demo.Cluster{Box: box, Out: s.stdout, Binary: binary}).Show(ctx)
}

// forDemo is a session on the sandbox's configuration. It hides an API key in the
// environment, which may be a live one, and logs only errors unless the user chose a level.
func (s *session) forDemo(box *sandbox.Sandbox) *session {
	quiet := *s
	quiet.Config = box.Path("config.yaml")
	quiet.env = func(name string) (string, bool) {
		if name == config.EnvAPIKey {
			return "", false
		}
		return s.env(name)
	}
	if s.LogLevel == "info" {
		quiet.log = s.screen.Logger(slog.LevelError.String(), s.LogFormat, s.env)
	}
	return &quiet
}
