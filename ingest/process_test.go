package ingest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"billdrop/client"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
)

// errDead is what everything answers to a process that was killed: it can do nothing more.
var errDead = errors.New("the process is dead")

// dice decides by seed and by what is asked, never by the order of asking, so that a seed
// gives the same run whatever the scheduler does.
type dice struct{ seed uint64 }

// roll gives a number that looks random for these words.
func (d dice) roll(words ...any) uint64 {
	h := fnv.New64a()
	binary.Write(h, binary.LittleEndian, d.seed)
	fmt.Fprintln(h, words...)
	x := h.Sum64() // FNV leaves patterns in near inputs: mix, as splitmix64 does
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// oneIn is true once in n rolls.
func (d dice) oneIn(n uint64, words ...any) bool { return n > 0 && d.roll(words...)%n == 0 }

// process is one life of the program: from its start to its end or its death. It stands
// between the worker and the world and kills the worker before or after any step.
type process struct {
	dice   dice
	deadly uint64                     // one step in so many kills; 0 = none
	before func(step string, nth int) // if set, called before each step
	died   func()                     // if set, called once when it dies
	stops  bool                       // nothing leaves while it is asleep

	mu      sync.Mutex
	steps   map[string]int
	posts   int
	dead    bool
	refused bool // the API refuses its key
	where   string
	asleep  chan struct{} // closed when the machine wakes; nil = it is awake
}

// sleep suspends the process for d of the true time. Requests that have left are answered
// meanwhile.
func (p *process) sleep(d time.Duration) {
	p.mu.Lock()
	if p.asleep != nil {
		p.mu.Unlock()
		return
	}
	wakes := make(chan struct{})
	p.asleep = wakes
	p.mu.Unlock()
	time.Sleep(d)
	p.mu.Lock()
	p.asleep = nil
	p.mu.Unlock()
	close(wakes)
}

// awake waits until the machine is awake.
func (p *process) awake() {
	p.mu.Lock()
	asleep := p.asleep
	p.mu.Unlock()
	if asleep != nil {
		<-asleep
	}
}

// enter counts a step, and returns how often it was taken.
func (p *process) enter(name string) (nth int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if strings.HasPrefix(name, "post ") {
		p.posts++
	}
	p.steps[name]++
	return p.steps[name]
}

// step does one thing to the world, unless the process is dead or dies before. A process
// that dies after it has done it, and never learns what came of it.
func (p *process) step(name string, do func() error) error {
	nth := p.enter(name)
	// A suspend between the last look at a key's age and the request cannot be seen, so a request
	// leaves before it.
	if p.stops || !strings.HasPrefix(name, "post ") {
		if p.before != nil {
			p.before(name, nth)
		}
		p.awake()
	}
	p.mu.Lock()
	if p.dice.oneIn(p.deadly, "before", name, nth) {
		p.die("before " + name)
	}
	dead := p.dead
	p.mu.Unlock()
	if dead {
		return errDead
	}
	err := do()
	p.awake()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dice.oneIn(p.deadly, "after", name, nth) {
		p.die("after " + name)
	}
	if p.dead {
		return errDead
	}
	return err
}

// pause lets different rows arrive at different moments of the fake clock, so that their
// order is the seed's, not the scheduler's.
func (p *process) pause(words ...any) {
	time.Sleep(time.Duration(p.dice.roll(append([]any{"pause"}, words...)...)%1_000_003) * time.Nanosecond)
}

// simLedger is the ledger as a mortal process sees it.
type simLedger struct {
	ledger.Ledger
	p *process
}

func (l *simLedger) AddFile(ctx context.Context, f *ledger.File) error {
	return l.p.step("add "+f.Name, func() error { return l.Ledger.AddFile(ctx, f) })
}

func (l *simLedger) SaveFile(ctx context.Context, f *ledger.File) error {
	return l.p.step("save "+f.Name+" "+string(f.State), func() error { return l.Ledger.SaveFile(ctx, f) })
}

func (l *simLedger) Begin(ctx context.Context, s ledger.Scope, b *ledger.Bill, leads ...ledger.PartyRef) error {
	l.p.pause("begin", b.Reference, b.Send.Count, b.Send.Generation)
	return l.p.step("begin "+b.Reference, func() error { return l.Ledger.Begin(ctx, s, b, leads...) })
}

func (l *simLedger) Record(ctx context.Context, e ledger.Entry) error {
	name := "record"
	if e.Bill != nil {
		name += " " + e.Bill.Reference
	}
	return l.p.step(name, func() error { return l.Ledger.Record(ctx, e) })
}

func (l *simLedger) SaveLinks(ctx context.Context, s ledger.Scope, links []ledger.Link) error {
	return l.p.step("save links", func() error { return l.Ledger.SaveLinks(ctx, s, links) })
}

func (l *simLedger) Flush(ctx context.Context) error {
	return l.p.step("flush", func() error { return l.Ledger.Flush(ctx) })
}

// simAPI is the Billing API as a mortal process sees it.
type simAPI struct {
	delivery.API
	p *process
	w *world
}

func (a *simAPI) ask(name string, do func(delivery.API) client.Answer) client.Answer {
	api := a.API
	a.p.mu.Lock()
	refused := a.p.refused
	a.p.mu.Unlock()
	if refused {
		return client.Answer{Kind: client.KeyRefused, Status: 401}
	}
	if a.w.unreachable(name) {
		api = a.w.severed
	}
	var answer client.Answer
	if err := a.p.step(name, func() error { answer = do(api); return nil }); err != nil {
		return client.Answer{Kind: client.Lost, Err: err}
	}
	if *simSeed != 0 {
		fmt.Fprintln(os.Stderr, time.Now().Format("02 15:04:05.000"), "   ", name, answer.Label())
	}
	return answer
}

func (a *simAPI) CreateBill(ctx context.Context, key, reference string, body []byte) client.Answer {
	return a.ask("post "+reference, func(api delivery.API) client.Answer { return api.CreateBill(ctx, key, reference, body) })
}

func (a *simAPI) CreatePaymentRequest(ctx context.Context, key, reference string, body []byte) client.Answer {
	a.p.pause("link", reference)
	return a.ask("post link "+reference, func(api delivery.API) client.Answer { return api.CreatePaymentRequest(ctx, key, reference, body) })
}

func (a *simAPI) GetBill(ctx context.Context, reference string) client.Answer {
	a.p.pause("get", reference)
	return a.ask("get "+reference, func(api delivery.API) client.Answer { return api.GetBill(ctx, reference) })
}

func (a *simAPI) GetCustomer(ctx context.Context, reference string) client.Answer {
	a.p.pause("customer", reference)
	return a.ask("get customer "+reference, func(api delivery.API) client.Answer { return api.GetCustomer(ctx, reference) })
}

func (a *simAPI) GetAccount(ctx context.Context, reference string) client.Answer {
	a.p.pause("account", reference)
	return a.ask("get account "+reference, func(api delivery.API) client.Answer { return api.GetAccount(ctx, reference) })
}

// simFiles is an SFTP account that outlives the processes that use it.
type simFiles struct {
	mu    sync.Mutex
	files map[string]simFile
	// overwritten are the reports that were replaced by others.
	overwritten []string
	gone        string // a directory that is not there
}

type simFile struct {
	content []byte
	mtime   time.Time
}

func (f *simFiles) put(name string, content []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name] = simFile{content, time.Now().Truncate(time.Second)}
}

// lose removes a directory, or brings it back with "".
func (f *simFiles) lose(dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = dir
}

func (f *simFiles) find(name string) (simFile, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, there := f.files[name]
	return file, there
}

// in lists the names in a directory.
func (f *simFiles) in(dir string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.files {
		if path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names
}

// simRemote is that account as a mortal process sees it.
type simRemote struct {
	*simFiles
	p *process
}

func (r *simRemote) step(op, name string, do func() error) error {
	return r.p.step(op+" "+name, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		return do()
	})
}

func (f simFile) entry(name string) inbox.Entry {
	return inbox.Entry{Name: path.Base(name), Size: int64(len(f.content)), ModTime: f.mtime, Regular: true}
}

func (r *simRemote) List(_ context.Context, dir string) (entries []inbox.Entry, err error) {
	err = r.step("list", dir, func() error {
		for name, f := range r.files {
			if path.Dir(name) == dir {
				entries = append(entries, f.entry(name))
			}
		}
		slices.SortFunc(entries, func(a, b inbox.Entry) int {
			return cmp.Or(a.ModTime.Compare(b.ModTime), strings.Compare(a.Name, b.Name))
		})
		return nil
	})
	return entries, err
}

func (r *simRemote) Lstat(_ context.Context, name string) (e inbox.Entry, err error) {
	err = r.step("lstat", name, func() error {
		if path.Dir(name) == "/" && name != r.gone {
			e = inbox.Entry{Name: path.Base(name), Dir: true}
			return nil
		}
		f, ok := r.files[name]
		if !ok {
			return fmt.Errorf("%s: %w", name, inbox.ErrNotExist)
		}
		e = f.entry(name)
		return nil
	})
	return e, err
}

func (r *simRemote) Rename(_ context.Context, from, to string) error {
	return r.step("rename", from, func() error {
		f, ok := r.files[from]
		if !ok {
			return fmt.Errorf("%s: %w", from, inbox.ErrNotExist)
		}
		if _, taken := r.files[to]; taken {
			return fmt.Errorf("%s: %w", to, inbox.ErrExists)
		}
		delete(r.files, from)
		r.files[to] = f
		return nil
	})
}

func (r *simRemote) Fetch(_ context.Context, name string, w io.Writer) (n int64, err error) {
	err = r.step("fetch", name, func() error {
		f, ok := r.files[name]
		if !ok {
			return fmt.Errorf("%s: %w", name, inbox.ErrNotExist)
		}
		written, err := w.Write(f.content)
		n = int64(written)
		return err
	})
	return n, err
}

// Publish may leave its temporary file behind when the process dies, and so may the real
// one.
func (r *simRemote) Publish(_ context.Context, dir, name string, content io.ReadSeeker) error {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	b, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	temporary, final := path.Join(dir, "."+name+".part"), path.Join(dir, name)
	if err := r.step("write", temporary, func() error {
		r.files[temporary] = simFile{bytes.Clone(b), time.Now()}
		return nil
	}); err != nil {
		return err
	}
	return r.step("publish", final, func() error {
		if _, there := r.files[temporary]; !there { // another worker has renamed it
			return fmt.Errorf("%s: %w", temporary, inbox.ErrNotExist)
		}
		if old, exists := r.files[final]; exists && !bytes.Equal(old.content, b) {
			r.overwritten = append(r.overwritten, name)
		}
		r.files[final] = r.files[temporary]
		delete(r.files, temporary)
		return nil
	})
}

func (r *simRemote) Remove(_ context.Context, name string) error {
	return r.step("remove", name, func() error {
		delete(r.files, name)
		return nil
	})
}

func (r *simRemote) Close() error { return nil }

var _ ledger.Ledger = (*ledgertest.Memory)(nil)

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// alive is a process that nothing kills.
func alive() *process { return &process{steps: make(map[string]int)} }

func (f *simFiles) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.files, name)
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.die("killed")
}

// die ends the process. p.mu is held.
func (p *process) die(where string) {
	if p.dead {
		return
	}
	p.dead, p.where = true, where
	if p.died != nil {
		p.died()
	}
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}
