package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"billdrop/client"
	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/console"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/notify"
	"billdrop/ingest"
	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/transfer"
	"billdrop/ingest/watch"
)

// loadConfig finds and reads the configuration. Each of its errors is a usage error.
func loadConfig(s *session, needs config.Needs) (*config.Config, error) {
	path, err := config.Find(s.Config)
	if err != nil {
		return nil, usageError{err}
	}
	c, err := config.Load(path, s.env, needs)
	if err != nil {
		return nil, usageError{err}
	}
	if err := config.CheckFileRights(path); err != nil {
		return nil, usageError{err}
	}
	if key, _ := s.env(config.EnvAPIKey); key != "" && c.API.KeyFile != "" && needs.Key {
		s.screen.Warnf("%s is set and is used in place of api.key_file; unset one of the two", config.EnvAPIKey)
	}
	return c, nil
}

// machine is a worker with everything that it needs.
type machine struct {
	worker   *ingest.Worker
	ledger   ledger.Ledger
	progress *console.Progress
	notifier *notify.Notifier // nil if no feed has on_finish
	feeds    []*ingest.Feed   // in the order of the configuration
	server   *inbox.Pool      // the SFTP account, which all feeds share; nil if the command needs none
}

// assemble builds the worker that the configuration describes. It checks the whole set-up
// before it opens the ledger, so a mistake changes nothing. The caller closes the machine.
func assemble(ctx context.Context, s *session, c *config.Config, remote bool) (*machine, error) {
	lanes, err := buildLanes(s, c)
	if remote {
		err = errors.Join(err, c.SFTP.CheckFiles())
	}
	if err = errors.Join(err, c.CheckRights()); err != nil {
		return nil, usageError{err}
	}
	var server *inbox.Pool
	if remote {
		server = inbox.NewPool(c.SFTP.Account())
		if c.SFTP.LegacyAlgorithms {
			s.screen.Warnf("sftp.legacy_algorithms is true: the connection may use algorithms that can be broken; ask the server's operator for current ones")
		}
	}
	feeds := make([]*ingest.Feed, len(c.Feeds))
	for i := range c.Feeds {
		feeds[i] = buildFeed(&c.Feeds[i], lanes[i])
		if remote {
			feeds[i].Connect = func(ctx context.Context) (transfer.Remote, error) { return server.Open(ctx) }
		}
	}
	// The directory of orders too: another user who left the first order would own it.
	if err := os.MkdirAll(filepath.Join(c.SpoolDir, ingest.OrdersDir), 0o700); err != nil {
		return nil, usagef("spool_dir: %w", err).hint("make the directory, writable for the user that billdrop runs as")
	}
	l, err := openLedger(ctx, c.LedgerPath())
	if err != nil {
		return nil, err
	}
	m := &machine{
		ledger: l, progress: console.NewProgress(s.screen, s.log, !s.NoProgress), notifier: notify.New(s.log, c), feeds: feeds,
		server: server,
	}
	progress, err := s.monitor.Progress(ctx, l, feeds, m.progress)
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	m.worker, err = ingest.New(ingest.Options{
		Ledger: l, Spool: c.SpoolDir, Feeds: feeds, Log: s.log, Progress: progress,
		Finished: m.notifier.Finished, Version: buildVersion(),
	})
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// close takes the progress bar off the screen, ends the connection to the SFTP server and
// releases the ledger. It then waits for the commands of on_finish, which may use the ledger
// through another billdrop.
func (m *machine) close() error {
	m.progress.Close()
	if m.server != nil {
		_ = m.server.Close() // returns nil
	}
	err := m.ledger.Close()
	m.notifier.Close()
	if err != nil {
		return fmt.Errorf("close the ledger: %w", err)
	}
	return nil
}

// openLedger opens the ledger for writing. It does not make the ledger's directory: a
// disk that is not mounted must not look like a ledger without bills.
func openLedger(ctx context.Context, path string) (ledger.Ledger, error) {
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, describe.Advise(fmt.Errorf("%w: there is no directory %s for it", ledger.ErrUnusable, dir),
			"make it (mkdir -p -m 700 %s), or mount the disk that it is on", config.ShellWord(dir))
	}
	l, err := sqlite.Open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open the ledger %s: %w", path, err)
	}
	return l, nil
}

// readLedger opens the ledger for reading, also while a worker uses it.
func readLedger(ctx context.Context, c *config.Config) (*sqlite.Ledger, error) {
	path := c.LedgerPath()
	led, err := sqlite.OpenReadOnly(ctx, path)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, describe.Advise(fmt.Errorf("%w: there is no ledger %s", ledger.ErrUnusable, path),
			"the first run makes it; if there was one, mount or restore the disk that it is on")
	}
	return led, err
}

// buildLanes makes a lane for each merchant account and returns the lane of each feed. It
// returns the errors of all keys at once.
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
			lane, _, err := buildLane(s, c, f)
			wrong = append(wrong, err)
			shared[a] = lane // also if it failed, so that each error is returned once
		}
		lanes[i] = shared[a]
	}
	return lanes, errors.Join(wrong...)
}

// buildLane returns the lane of a feed's bills, and where its API key comes from.
func buildLane(s *session, c *config.Config, f *config.Feed) (lane *delivery.Lane, from string, err error) {
	key, from, err := readKey(s, c, f)
	if err != nil {
		return nil, from, err
	}
	if live := key.Mode() == "live"; live && !f.API.Live {
		return nil, from, describe.Advise(fmt.Errorf("%s holds a live key, which moves money, and api.live is false", from),
			"use a test key (sk_test_…), or set api.live: true")
	} else if !live && f.API.Live {
		return nil, from, describe.Advise(fmt.Errorf("%s holds a test key, and api.live is true", from),
			"use the live key, or set api.live: false")
	}
	conf, err := f.API.Network()
	if err != nil {
		return nil, from, err
	}
	conf.BaseURL, conf.Key, conf.Timeout, conf.MaxConns = f.API.BaseURL, key, f.API.Timeout, f.API.Concurrency
	conf.UserAgent = "billdrop/" + buildVersion()
	api, err := client.New(conf)
	if err != nil {
		return nil, from, fmt.Errorf("api: %w", err)
	}
	policy := delivery.Policy{
		Concurrency: f.API.Concurrency, RateLimit: f.API.RateLimit, MaxAttempts: f.API.MaxAttempts,
		BackoffMin: f.API.BackoffMin, BackoffMax: f.API.BackoffMax, LookupSettle: f.API.LookupSettle, GiveUpAfter: f.API.GiveUpAfter,
	}
	scope := ledger.Scope{Merchant: f.Merchant, Mode: key.Mode()}
	lane = delivery.NewLane(scope, s.monitor.API(scope, api), policy)
	lane.Warn = func(reason string) {
		s.log.Warn("waiting for the API", "merchant", f.Merchant, "reason", reason)
	}
	return lane, from, nil
}

// readKey returns a feed's API key and where it was found: in the feed's own file, else
// in the environment, else in the top-level file.
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

// dial logs in to the SFTP server.
func dial(ctx context.Context, c *config.SFTP) (*inbox.Account, error) {
	return inbox.Dial(ctx, c.Account())
}

func buildFeed(f *config.Feed, lane *delivery.Lane) *ingest.Feed {
	return &ingest.Feed{
		Name:           f.Name,
		Lane:           lane,
		BaseURL:        spellURL(f.API.BaseURL),
		Dirs:           transfer.Dirs{Inbox: f.Inbox, Processing: f.Processing, Archive: f.Archive, Rejected: f.Rejected, Results: f.Results},
		Watch:          inbox.Watch{Pattern: f.Pattern, Ignore: f.Ignore, Settle: f.Settle, Marker: f.Marker},
		Format:         buildFormat(f),
		RejectInvalid:  f.OnInvalid == "reject",
		MaxInvalidRows: f.MaxInvalidRows,
		Hold:           ingest.Hold{MaxInvalidPercent: f.Hold.MaxInvalidPercent, MaxRows: f.Hold.MaxRows, MaxTotal: f.Hold.MaxTotal},
		Expect:         buildExpect(f),
	}
}

// spellURL spells an address of the API always in the same way, for comparison.
func spellURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	u.Scheme, u.Host, u.Path = strings.ToLower(u.Scheme), strings.ToLower(u.Host), strings.TrimRight(u.Path, "/")
	for scheme, port := range map[string]string{"https": ":443", "http": ":80"} {
		if u.Scheme == scheme {
			u.Host = strings.TrimSuffix(u.Host, port)
		}
	}
	return u.String()
}

// buildExpect returns the file that a feed expects; nil if it expects none. The
// configuration was checked.
func buildExpect(f *config.Feed) *watch.Expect {
	by, ok := f.Expect.Clock()
	zone, err := f.Expect.Zone()
	if !ok || err != nil {
		return nil
	}
	return &watch.Expect{Pattern: cmp.Or(f.Expect.Pattern, f.Pattern), By: by, Zone: zone, Days: f.Expect.Weekdays()}
}

// buildFormat returns the format of a feed's files. The configuration was checked.
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
		DecimalComma:        f.DecimalSeparator == ",",
		ShortRows:           f.ShortRows == "blank",
		AllowTotalRow:       f.TotalRow == "allow",
		MaxFileSize:         int64(f.MaxFileSize),
		MaxRows:             f.MaxRows,
		MaxColumns:          f.MaxColumns,
	}
}

// chooseFeed returns the index of the feed that --feed names, or of the only feed.
func chooseFeed(c *config.Config, name string) (int, error) {
	for i := range c.Feeds {
		if c.Feeds[i].Name == name || name == "" && len(c.Feeds) == 1 {
			return i, nil
		}
	}
	err := usagef("there is no feed of that name")
	if name == "" {
		err = usagef("there are several feeds")
	}
	return 0, err.hint("name one with --feed: %s", strings.Join(c.FeedNames(), ", "))
}
