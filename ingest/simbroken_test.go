package ingest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"billdrop/client"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
)

// lyingAPI is an API as a wrong program would use it.
type lyingAPI struct {
	delivery.API
	create  func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer
	bill    func(client.Answer) client.Answer
	account func(client.Answer) client.Answer
}

func (a *lyingAPI) CreateBill(ctx context.Context, key, reference string, body []byte) client.Answer {
	if a.create == nil {
		return a.API.CreateBill(ctx, key, reference, body)
	}
	return a.create(a.API, ctx, key, reference, body)
}

func (a *lyingAPI) GetBill(ctx context.Context, reference string) client.Answer {
	answer := a.API.GetBill(ctx, reference)
	if a.bill != nil {
		answer = a.bill(answer)
	}
	return answer
}

func (a *lyingAPI) GetAccount(ctx context.Context, reference string) client.Answer {
	answer := a.API.GetAccount(ctx, reference)
	if a.account != nil {
		answer = a.account(answer)
	}
	return answer
}

// lyingLedger is a ledger as a wrong program would use it.
type lyingLedger struct {
	ledger.Ledger
	begin func(real ledger.Ledger, ctx context.Context, s ledger.Scope, b *ledger.Bill) error
	bills func(map[string]*ledger.Bill)
	entry func(*ledger.Entry)
	file  func(*ledger.File)
}

func (l *lyingLedger) File(ctx context.Context, id string) (*ledger.File, error) {
	f, err := l.Ledger.File(ctx, id)
	if err == nil && l.file != nil {
		l.file(f)
	}
	return f, err
}

func (l *lyingLedger) Files(ctx context.Context, q ledger.Query) ([]*ledger.File, error) {
	files, err := l.Ledger.Files(ctx, q)
	for _, f := range files {
		if l.file != nil {
			l.file(f)
		}
	}
	return files, err
}

func (l *lyingLedger) Begin(ctx context.Context, s ledger.Scope, b *ledger.Bill, leads ...ledger.PartyRef) error {
	if l.begin == nil {
		return l.Ledger.Begin(ctx, s, b, leads...)
	}
	return l.begin(l.Ledger, ctx, s, b)
}

func (l *lyingLedger) Bills(ctx context.Context, s ledger.Scope, refs []string) (map[string]*ledger.Bill, error) {
	known, err := l.Ledger.Bills(ctx, s, refs)
	if l.bills != nil {
		l.bills(known)
	}
	return known, err
}

func (l *lyingLedger) Record(ctx context.Context, e ledger.Entry) error {
	if l.entry != nil {
		l.entry(&e)
	}
	return l.Ledger.Record(ctx, e)
}

// brokenVariants are programs that break one rule each.
var brokenVariants = map[string]func(*ledgerAndAPI){
	"random key per try": func(p *ledgerAndAPI) {
		var mu sync.Mutex
		n := 0
		p.API = &lyingAPI{API: p.API, create: func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer {
			mu.Lock()
			n++
			key = fmt.Sprintf("%s-%d", key[:20], n)
			mu.Unlock()
			return real.CreateBill(ctx, key, reference, body)
		}}
	},
	"new key after every restart": func(p *ledgerAndAPI) {
		life := time.Now().Unix()
		p.API = &lyingAPI{API: p.API, create: func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer {
			return real.CreateBill(ctx, fmt.Sprintf("%s-%d", key[:20], life), reference, body)
		}}
	},
	"no ledger before the send": func(p *ledgerAndAPI) {
		p.Ledger = &lyingLedger{Ledger: p.Ledger, begin: func(real ledger.Ledger, ctx context.Context, s ledger.Scope, b *ledger.Bill) error {
			copied := *b
			return real.Record(ctx, ledger.Entry{Scope: s, Bill: &copied}) // written, but not waited for
		}}
	},
	"restart forgets what was pending": func(p *ledgerAndAPI) {
		p.Ledger = &lyingLedger{Ledger: p.Ledger, bills: func(known map[string]*ledger.Bill) {
			for ref, b := range known {
				if b.State == ledger.Pending {
					delete(known, ref)
				}
			}
		}}
	},
	"key reused after its expiry": func(p *ledgerAndAPI) {
		p.Ledger = &lyingLedger{Ledger: p.Ledger, bills: func(known map[string]*ledger.Bill) {
			for _, b := range known {
				b.Send.KeyFirstUsed = time.Now()
			}
		}}
	},
	"success by default": func(p *ledgerAndAPI) {
		p.API = &lyingAPI{API: p.API, create: func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer {
			a := real.CreateBill(ctx, key, reference, body)
			if a.Kind == client.Lost {
				a = client.Answer{Kind: client.Created, Status: 201, Bill: &client.Bill{ID: "bill_" + reference, ExternalReference: reference}}
			}
			return a
		}}
	},
	"look-up failure read as absence": func(p *ledgerAndAPI) {
		p.API = &lyingAPI{API: p.API, bill: func(a client.Answer) client.Answer {
			if a.Kind != client.Found {
				a.Kind = client.Absent
			}
			return a
		}}
		p.Policy.LookupSettle = 0
	},
	"one 404 read as absence": func(p *ledgerAndAPI) { p.Policy.LookupSettle = 0 },
	"everything found is the same": func(p *ledgerAndAPI) {
		p.API = &lyingAPI{API: p.API, create: func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer {
			a := real.CreateBill(ctx, key, reference, body)
			if a.Kind == client.Taken {
				a = client.Answer{Kind: client.Created, Status: 201, Bill: &client.Bill{ID: "bill_" + reference, ExternalReference: reference}}
			}
			return a
		}}
	},
	"refusals taken for final": func(p *ledgerAndAPI) {
		p.API = &lyingAPI{API: p.API, create: func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer {
			a := real.CreateBill(ctx, key, reference, body)
			if a.Kind == client.ServerFault {
				a.Kind, a.Replayed = client.Refused, false
			}
			return a
		}}
	},
	"stored failures read as fresh": func(p *ledgerAndAPI) {
		p.API = &lyingAPI{API: p.API, create: func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer {
			a := real.CreateBill(ctx, key, reference, body)
			a.Replayed = false
			return a
		}}
	},
	"hidden re-send": func(p *ledgerAndAPI) {
		p.API = &lyingAPI{API: p.API, create: func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer {
			a := real.CreateBill(ctx, key, reference, body)
			if a.Kind == client.Lost || a.Kind == client.ServerFault {
				a = real.CreateBill(ctx, key+"-2", reference, body)
			}
			return a
		}}
	},
	"unanswered sends forgotten": func(p *ledgerAndAPI) {
		p.Ledger = &lyingLedger{Ledger: p.Ledger, entry: func(e *ledger.Entry) {
			if e.Bill != nil && e.Bill.State == ledger.Pending {
				e.Bill.State, e.Bill.Doubt = ledger.Gone, false
			}
		}}
	},
	"bills whoever has the account": func(p *ledgerAndAPI) {
		p.API = &lyingAPI{API: p.API, account: func(a client.Answer) client.Answer {
			if a.Account != nil {
				a.Account.CustomerID = ""
			}
			return a
		}}
		p.Ledger = &lyingLedger{Ledger: p.Ledger, entry: func(e *ledger.Entry) {
			e.Parties = slices.Clone(e.Parties)
			for i := range e.Parties {
				e.Parties[i].CustomerID = ""
			}
		}}
	},
	"monotonic age": func(p *ledgerAndAPI) {
		real := p.Policy.Now
		began := real()
		p.Policy.Now = func() time.Time { return began.Round(0).Add(real().Sub(began)) }
	},
	"no scope check": func(p *ledgerAndAPI) {
		p.Ledger = &lyingLedger{Ledger: p.Ledger, file: func(f *ledger.File) { f.Scope = p.Scope }}
	},
	"orders not obeyed": func(p *ledgerAndAPI) {
		os.RemoveAll(filepath.Join(p.Spool, OrdersDir))
	},
	"spool not hashed": func(p *ledgerAndAPI) {
		p.Ledger = &lyingLedger{Ledger: p.Ledger, file: func(f *ledger.File) {
			if b, err := os.ReadFile(spool{p.Spool}.path(f.ID)); err == nil {
				f.SHA256 = sha256Hex(string(b))
			}
		}}
	},
	"parties not recorded": func(p *ledgerAndAPI) {
		p.Ledger = &lyingLedger{Ledger: p.Ledger, entry: func(e *ledger.Entry) { e.Parties = nil }}
	},
}

// TestSimulatorSees proves that the simulator would notice: each wrong program is caught
// within a few seeds.
func TestSimulatorSees(t *testing.T) {
	for name, broken := range brokenVariants {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 600; seed++ {
				cfg := simOf(seed)
				cfg.Break = broken
				if _, wrong := simulate(t, cfg); len(wrong) > 0 {
					t.Logf("caught with seed %d: %s", seed, wrong[0])
					return
				}
			}
			t.Error("not caught")
		})
	}
}

// lyingShared is a shared ledger as a wrong program would use it.
type lyingShared struct {
	ledger.Shared
	noLeads  bool // parties are created by whoever comes
	allParts bool // every part counts as in hand
	certain  bool // this worker never counts as lost
}

func (l *lyingShared) Begin(ctx context.Context, s ledger.Scope, b *ledger.Bill, leads ...ledger.PartyRef) error {
	if l.noLeads {
		leads = nil
		// Another worker takes a part meanwhile, and reads, too, that the parties are unknown.
		time.Sleep(3 * time.Second)
	}
	return l.Shared.Begin(ctx, s, b, leads...)
}

func (l *lyingShared) AcquirePart(ctx context.Context, file string, no int) (bool, error) {
	held, err := l.Shared.AcquirePart(ctx, file, no)
	return held || l.allParts && err == nil, err
}

func (l *lyingShared) Current() error {
	if l.certain {
		return nil
	}
	return l.Shared.Current()
}

// brokenCluster is a program of several workers that breaks one rule, and the worlds in which that
// shows.
type brokenCluster struct {
	program func(*clusterParts)
	world   func(*clusterConfig)
}

var brokenClusters = map[string]brokenCluster{
	"no fence": {
		func(p *clusterParts) { p.Handle.Unfence() },
		func(c *clusterConfig) { c.Slow, c.Frozen, c.Deadly = true, 40, 0 },
	},
	"a lease not renewed": {
		func(p *clusterParts) { p.Handle.Silence(); p.Ledger = &lyingShared{Shared: p.Ledger, certain: true} },
		func(c *clusterConfig) { *c = clusterConfig{Seed: c.Seed, Workers: c.Workers, Weak: c.Weak, Slow: true} },
	},
	"two leaders": {
		func(p *clusterParts) { p.Ledger = &lyingShared{Shared: p.Ledger, noLeads: true} },
		func(c *clusterConfig) { *c = clusterConfig{Seed: c.Seed, Workers: c.Workers, Weak: true} },
	},
	"a part settled twice": {
		func(p *clusterParts) { p.Ledger = &lyingShared{Shared: p.Ledger, allParts: true} },
		func(*clusterConfig) {},
	},
	"take-over without a look-up": {
		func(p *clusterParts) {
			p.API = &lyingAPI{API: p.API, create: func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer {
				return real.CreateBill(ctx, key[:20]+"-"+p.Name, reference, body)
			}}
		},
		func(*clusterConfig) {},
	},
}

// TestClusterSimulatorSees is TestSimulatorSees for several workers. The right program passes
// in the world in which the wrong one is caught.
func TestClusterSimulatorSees(t *testing.T) {
	for name, broken := range brokenClusters {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 600; seed++ {
				cfg := clusterOf(seed)
				broken.world(&cfg)
				cfg.Break = broken.program
				_, wrong := simulateCluster(t, cfg)
				if len(wrong) == 0 {
					continue
				}
				t.Logf("caught with seed %d: %s", seed, wrong[0])
				cfg.Break = nil
				if _, wrong := simulateCluster(t, cfg); len(wrong) > 0 {
					t.Errorf("the right program with seed %d: %s", seed, strings.Join(wrong, "\n"))
				}
				return
			}
			t.Error("not caught")
		})
	}
}
