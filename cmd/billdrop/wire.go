package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"billdrop/client"
	"billdrop/cmd/billdrop/config"
	"billdrop/ingest"
	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/transfer"
	"billdrop/ingest/watch"
)

// loadConfig finds and reads the configuration. Every error of it is one of usage.
func loadConfig(s *session, needs config.Needs) (*config.Config, error) {
	path, err := config.Find(s.Config)
	if err != nil {
		return nil, usageError{err}
	}
	c, err := config.Load(path, s.env, needs)
	if err != nil {
		return nil, usageError{err}
	}
	if key, _ := s.env(config.EnvAPIKey); key != "" && c.API.KeyFile != "" && needs.Key {
		s.screen.warnf("%s is set and is used in place of api.key_file; unset one of the two", config.EnvAPIKey)
	}
	return c, nil
}

// machine is a worker with everything it stands on.
type machine struct {
	worker   *ingest.Worker
	ledger   ledger.Ledger
	progress *progress
	teller   *teller        // nil where nobody is to be told
	feeds    []*ingest.Feed // in the order of the configuration
}

// assemble builds the worker that the configuration describes. Everything that can be wrong with the set-up is
// found before the ledger is opened, so that a mistake touches nothing. The caller closes the machine.
func assemble(ctx context.Context, s *session, c *config.Config, remote bool) (*machine, error) {
	lanes, err := buildLanes(s, c)
	if remote {
		err = errors.Join(err, checkLogin(&c.SFTP))
	}
	if err != nil {
		return nil, err
	}
	feeds := make([]*ingest.Feed, len(c.Feeds))
	for i := range c.Feeds {
		feeds[i] = buildFeed(&c.Feeds[i], lanes[i])
		if remote {
			feeds[i].Connect = dialer(c.SFTP)
		}
	}
	// The directory of the orders, too: made by whoever leaves the first one, it could be closed to this user.
	if err := os.MkdirAll(filepath.Join(c.SpoolDir, ingest.OrdersDir), 0o700); err != nil {
		return nil, usagef("spool_dir: %w; make the directory, writable for the user that billdrop runs as", err)
	}
	l, err := openLedger(ctx, c.LedgerPath())
	if err != nil {
		return nil, err
	}
	m := &machine{ledger: l, progress: newProgress(s), teller: newTeller(s, c), feeds: feeds}
	watched, err := s.monitor.Progress(ctx, l, feeds, m.progress)
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	options := ingest.Options{
		Ledger: l, Spool: c.SpoolDir, Feeds: feeds, Log: s.log, Progress: watched, Version: buildVersion(),
	}
	if m.teller != nil {
		options.Finished = m.teller.finished
	}
	m.worker, err = ingest.New(options)
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// close takes the progress bar off the screen and gives the ledger back. The ledger is free before it waits for the commands
// of on_finish, which may be billdrop's own.
func (m *machine) close() error {
	m.progress.close()
	err := m.ledger.Close()
	m.teller.close()
	if err != nil {
		return fmt.Errorf("close the ledger: %w", err)
	}
	return nil
}

// openLedger does not make the ledger's directory: a disk that is not mounted must not look like a ledger that
// has never seen a bill.
func openLedger(ctx context.Context, path string) (ledger.Ledger, error) {
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%w: there is no directory %s for it; make it (mkdir -p -m 700 %s), or mount the disk that it is on", ledger.ErrUnusable, dir, dir)
	}
	l, err := sqlite.Open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open the ledger %s: %w", path, err)
	}
	return l, nil
}

// buildLanes makes a lane for each merchant account and returns each feed's. All that is wrong with any key is
// told at once.
func buildLanes(s *session, c *config.Config) ([]*delivery.Lane, error) {
	type account struct {
		merchant string
		live     bool
	}
	shared := make(map[account]*delivery.Lane)
	lanes := make([]*delivery.Lane, len(c.Feeds))
	var wrong []error
	for i := range c.Feeds {
		f := &c.Feeds[i]
		a := account{f.Merchant, f.API.Live}
		if _, built := shared[a]; !built {
			lane, err := buildLane(s, c, f)
			if err != nil {
				wrong = append(wrong, err)
			}
			shared[a] = lane // also when it failed: told once is enough
		}
		lanes[i] = shared[a]
	}
	if len(wrong) > 0 {
		return nil, usageError{errors.Join(wrong...)}
	}
	return lanes, nil
}

func buildLane(s *session, c *config.Config, f *config.Feed) (*delivery.Lane, error) {
	key, from, err := readKey(s, c, f)
	if err != nil {
		return nil, err
	}
	if live := key.Mode() == "live"; live && !f.API.Live {
		return nil, fmt.Errorf("%s holds a live key, which moves money, and api.live is false; use a test key (sk_test_…), or say api.live: true", from)
	} else if !live && f.API.Live {
		return nil, fmt.Errorf("%s holds a test key, and api.live is true; use the live key, or say api.live: false", from)
	}
	api, err := client.New(client.Config{
		BaseURL: f.API.BaseURL, Key: key, Timeout: f.API.Timeout, MaxConns: f.API.Concurrency, UserAgent: "billdrop/" + buildVersion(),
	})
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	policy := delivery.Policy{
		Concurrency: f.API.Concurrency, RateLimit: f.API.RateLimit, MaxAttempts: f.API.MaxAttempts,
		BackoffMin: f.API.BackoffMin, BackoffMax: f.API.BackoffMax, LookupSettle: f.API.LookupSettle, GiveUpAfter: f.API.GiveUpAfter,
	}
	scope := ledger.Scope{Merchant: f.Merchant, Mode: key.Mode()}
	return delivery.NewLane(scope, s.monitor.API(scope, api), policy), nil
}

// readKey returns a feed's API key and where it was found: the feed's own file, else the environment, else the
// top-level file.
func readKey(s *session, c *config.Config, f *config.Feed) (key client.Key, from string, err error) {
	secret, _ := s.env(config.EnvAPIKey)
	if own := f.API.KeyFile != "" && f.API.KeyFile != c.API.KeyFile; own || secret == "" {
		from = "api.key_file"
		if secret, err = config.ReadSecret(from, f.API.KeyFile); err != nil {
			return "", from, err
		}
	} else {
		from = config.EnvAPIKey
	}
	if key, err = client.ParseKey(secret); err != nil {
		return "", from, fmt.Errorf("%s: %w", from, err)
	}
	return key, from, nil
}

// checkLogin looks at the files that the SFTP login needs, before anything is dialled or opened.
func checkLogin(c *config.SFTP) error {
	var wrong []error
	if c.PrivateKeyFile != "" {
		wrong = append(wrong, config.CheckSecret("sftp.private_key_file", c.PrivateKeyFile))
	}
	if c.PasswordFile != "" {
		wrong = append(wrong, config.CheckSecret("sftp.password_file", c.PasswordFile))
	}
	f, err := os.Open(c.KnownHostsFile)
	if err != nil {
		wrong = append(wrong, fmt.Errorf("sftp.known_hosts_file: %w; write the server's host key into it (ssh-keyscan prints it; compare the fingerprint with what the server's operator says)", err))
	} else {
		f.Close()
	}
	if err := errors.Join(wrong...); err != nil {
		return usageError{err}
	}
	return nil
}

// dialer logs in afresh each time it is called.
func dialer(c config.SFTP) func(context.Context) (transfer.Remote, error) {
	return func(ctx context.Context) (transfer.Remote, error) {
		account, err := dial(ctx, &c)
		if err != nil {
			return nil, err // not account: a nil *Account in the interface would not be nil
		}
		return account, nil
	}
}

func dial(ctx context.Context, c *config.SFTP) (*inbox.Account, error) {
	return inbox.Dial(ctx, inbox.Config{
		Address: c.Address, User: c.User, PrivateKeyFile: c.PrivateKeyFile, PasswordFile: c.PasswordFile,
		KnownHostsFile: c.KnownHostsFile, Timeout: c.Timeout,
	})
}

func buildFeed(f *config.Feed, lane *delivery.Lane) *ingest.Feed {
	return &ingest.Feed{
		Name: f.Name,
		Lane: lane,
		Dirs: transfer.Dirs{Inbox: f.Inbox, Processing: f.Processing, Archive: f.Archive, Rejected: f.Rejected, Results: f.Results},
		Watch: inbox.Watch{
			Pattern: f.Pattern, Ignore: f.Ignore, Settle: f.Settle, Marker: f.Marker,
		},
		Format:        buildFormat(f),
		RejectInvalid: f.OnInvalid == "reject",
		Hold:          ingest.Hold{MaxInvalidPercent: f.Hold.MaxInvalidPercent, MaxRows: f.Hold.MaxRows, MaxTotal: f.Hold.MaxTotal},
		Expect:        buildExpect(f),
	}
}

// buildExpect is what file a feed expects; nil = none. It relies on the configuration's checks.
func buildExpect(f *config.Feed) *watch.Expect {
	by, ok := f.Expect.Clock()
	zone, err := f.Expect.Zone()
	if !ok || err != nil {
		return nil
	}
	return &watch.Expect{Pattern: cmp.Or(f.Expect.Pattern, f.Pattern), By: by, Zone: zone, Days: f.Expect.Weekdays()}
}

// buildFormat relies on the configuration's checks: every value is one of those listed there.
func buildFormat(f *config.Feed) billfile.Format {
	return billfile.Format{
		Preset:              f.Preset,
		BillReference:       f.BillReference,
		Amounts:             map[string]billfile.Amounts{"minor": billfile.Minor, "major": billfile.Major}[f.Amounts],
		Currency:            f.Currency,
		Currencies:          f.Currencies,
		Delimiter:           map[string]rune{"auto": 0, ",": ',', ";": ';', "tab": '\t', "|": '|'}[f.Delimiter],
		Encoding:            f.Encoding,
		DateFormat:          f.DateFormat,
		PhoneRegion:         f.PhoneRegion,
		Columns:             f.Columns,
		IgnoreColumns:       f.IgnoreColumns,
		AllowNoFinalNewline: !f.RequireFinalNewline,
		MaxAmountDue:        f.MaxAmountDue,
		MaxFileSize:         int64(f.MaxFileSize),
	}
}

// chooseFeed is the feed of --feed, else the only one.
func chooseFeed(c *config.Config, name string) (int, error) {
	if f, ok := c.Feed(name); ok {
		for i := range c.Feeds {
			if f == &c.Feeds[i] {
				return i, nil
			}
		}
	}
	if name == "" {
		return 0, usagef("there are several feeds; name one with --feed: %s", list(c.FeedNames()))
	}
	return 0, usagef("there is no feed of that name; name one with --feed: %s", list(c.FeedNames()))
}
