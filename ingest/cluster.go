package ingest

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"billdrop/ingest/ledger"
)

// Member is what a Worker is among those that share its ledger. Zero fields have defaults.
type Member struct {
	Name    string // "" = host name and process id
	Machine string // "" = host name
	// Role is "run" for Run and Poll, and "command" for what ends with its command. "" = run.
	Role string
	// LostAfter is how long the worker may be unheard of before its work goes to others. 0 = 30 s.
	LostAfter time.Duration
	// Formats: by feed, the value of each key of the configuration that says how its files are
	// read. A live worker with other values refuses this one.
	Formats map[string]map[string]string
	// Dispatcher hands out work faster than the workers find it by looking. nil: they only look.
	Dispatcher Dispatcher
}

const (
	RoleRun     = "run"
	RoleCommand = "command"
)

// withDefaults fills in what is not set.
func (m Member) withDefaults() (Member, error) {
	if m.Machine == "" {
		host, err := os.Hostname()
		if err != nil {
			return m, fmt.Errorf("name of this machine: %w", err)
		}
		m.Machine = host
	}
	m.Name = cmp.Or(m.Name, fmt.Sprintf("%s-%d", m.Machine, os.Getpid()))
	m.Role = cmp.Or(m.Role, RoleRun)
	m.LostAfter = cmp.Or(m.LostAfter, 30*time.Second)
	return m, nil
}

// Dispatcher hands out work among the workers of a cluster. What it hands out are hints, and
// prove nothing: one may come twice, late or never, and for work that is done or in another
// worker's hand.
type Dispatcher interface {
	// Run hands out work until ctx ends, and returns once no function of w is being called. It
	// returns earlier only with an error. It may be called again.
	Run(ctx context.Context, w Work) error
	// Offer hints that parts of a file of the feed wait for a worker.
	Offer(ctx context.Context, feed, file string, parts []int) error
}

// Work is what a Dispatcher hands out to one worker. The functions may be called concurrently.
// They return once the work is done, or at once if it is not this worker's to do.
type Work struct {
	Feeds    []string      // that the worker serves; it gets no others
	Interval time.Duration // how often each feed is to be looked at; 0 = only when it is offered
	AtOnce   int           // parts of one feed at a time
	Look     func(ctx context.Context, feed string)
	Part     func(ctx context.Context, feed, file string, no int)
}

// Left is the error of an order that was left for a worker that has the file in hand, which carries
// it out within about a second; or for the machine that the file was imported on, because the file
// is there.
type Left struct {
	Order   Order
	File    *ledger.File // as it was when the order lay there
	Machine string       // "" = a worker has the file in hand
}

// Advice returns what to do about it.
func (l *Left) Advice() string { return "see: billdrop status " + l.File.ID }

func (l *Left) Error() string {
	if l.Machine != "" {
		return fmt.Sprintf("%s (%s) was imported on the machine %s, and the next billdrop run or import there is told to %s it", l.File.Name, l.File.ID, l.Machine, l.Order)
	}
	return fmt.Sprintf("another worker is at work on %s (%s), and is told to %s it", l.File.Name, l.File.ID, l.Order)
}
