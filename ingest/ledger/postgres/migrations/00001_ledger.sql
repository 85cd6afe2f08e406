-- +goose Up

-- Tables keep numbers where the views below, which are made to be read, have words.
-- Times of bills and files are microseconds since 1970 UTC; NULL is the zero time. Those of workers,
-- orders and paces are the server's own. Texts that are not known are ''; they sort by their bytes.

CREATE TABLE scopes (
    id       integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    merchant text COLLATE "C" NOT NULL,
    mode     text COLLATE "C" NOT NULL,
    base_url text NOT NULL DEFAULT '', -- of the API that its bills were sent to; '' before the first
    UNIQUE (merchant, mode)
);

-- File ids are long and stand in many rows; there they are numbers. A number outlives its file
-- (see Prune), because the latest sends of bills refer to it.
CREATE TABLE file_numbers (
    number bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    id     text COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE files (
    number       bigint PRIMARY KEY,  -- of file_numbers
    id           text COLLATE "C" NOT NULL,
    feed         text COLLATE "C" NOT NULL,
    scope        integer NOT NULL,    -- of scopes
    origin       text NOT NULL,
    name         text NOT NULL,
    path         text NOT NULL,
    results      text COLLATE "C" NOT NULL,
    stem         text COLLATE "C" NOT NULL,
    size         bigint NOT NULL,
    mod_time     bigint,
    sha256       text COLLATE "C" NOT NULL,
    state        text COLLATE "C" NOT NULL,
    outcome      text NOT NULL,
    code         text NOT NULL,
    detail       text NOT NULL,
    line         bigint NOT NULL,
    approved     boolean NOT NULL,
    retried      bigint NOT NULL,
    row_count    bigint NOT NULL,
    lines_total  bigint NOT NULL,
    lines_header bigint NOT NULL,
    lines_blank  bigint NOT NULL,
    lines_data   bigint NOT NULL,
    format       text NOT NULL,
    rows_read    boolean NOT NULL,
    run_id       text NOT NULL,
    version      text NOT NULL,
    received     bigint,
    started      bigint,
    finished     bigint,
    sums         text NOT NULL,       -- ledger.Totals as JSON; '' before it was settled
    published    jsonb NOT NULL,      -- ledger.Reports
    publishing   jsonb NOT NULL,      -- likewise
    machine      text NOT NULL,
    revision     bigint NOT NULL,     -- as in bills
    gets         bigint NOT NULL,
    throttled    bigint NOT NULL
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX files_stem ON files (results, stem) WHERE stem <> '';
CREATE INDEX files_newest ON files (received DESC NULLS LAST, id DESC);
CREATE INDEX files_feed ON files (feed, received DESC NULLS LAST, id DESC);
CREATE INDEX files_content ON files (sha256, received DESC NULLS LAST, id DESC) WHERE sha256 <> '';
CREATE INDEX files_rejects ON files ((published ->> 'rejects'), received DESC NULLS LAST, id DESC);
CREATE INDEX files_unfinished ON files (received DESC NULLS LAST, id DESC) WHERE state NOT IN ('done', 'dropped');

-- One row a bill reference: what the API is known to hold, and the latest send. In a clean run it is
-- inserted by the commit that allows its request, and updated once, by the answer; the room that the
-- fill factor leaves keeps the second version beside the first.
CREATE TABLE bills (
    reference        text COLLATE "C" NOT NULL,
    scope            integer NOT NULL,  -- of scopes
    state            smallint NOT NULL, -- ledger.BillState: 0 pending, 1 exists, 2 gone
    doubt            boolean NOT NULL,
    bill_id          text NOT NULL,
    customer_id      text NOT NULL,
    account_id       text NOT NULL,
    currency         text NOT NULL,
    amount_due       bigint NOT NULL,   -- minor units
    bill_date        text NOT NULL,
    due_date         text NOT NULL,
    voided           boolean NOT NULL,
    file             bigint,            -- of file_numbers; NULL when nothing was sent, and the columns below are empty
    row_no           bigint NOT NULL,
    generation       bigint NOT NULL,
    form             smallint NOT NULL, -- ledger.Form
    sent_customer_id text NOT NULL,
    sent_account_id  text NOT NULL,
    content          bytea NOT NULL,
    body             bytea NOT NULL,
    key              text NOT NULL,
    key_first_used   bigint,
    sent_at          bigint,
    sends            bigint NOT NULL,   -- for file
    answer           text NOT NULL,
    unanswered       boolean NOT NULL,
    -- What names this state of the row, and the state that it replaced: 0 = none. The upper half is
    -- the session that wrote it.
    revision         bigint NOT NULL,
    replaced         bigint NOT NULL,
    attempts         bigint NOT NULL DEFAULT 0, -- rows of the table attempts
    sum              bigint NOT NULL,   -- of the row's content, and of the send alone: see ledger.SumBill
    send_sum         bigint NOT NULL,
    PRIMARY KEY (reference, scope)
) WITH (fillfactor = 60);

-- Earlier sends of a bill.
CREATE TABLE attempts (
    id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    reference  text COLLATE "C" NOT NULL, -- of bills, as scope
    scope      integer NOT NULL,
    file       bigint NOT NULL, -- of file_numbers
    row_no     bigint NOT NULL,
    generation bigint NOT NULL,
    key        text NOT NULL,
    sent_at    bigint,
    answer     text NOT NULL,
    sum        bigint NOT NULL
);
CREATE INDEX attempts_reference ON attempts (reference, scope);
CREATE INDEX attempts_file ON attempts (file);

-- No send is lost: whatever replaces the latest send of a bill moves it to attempts. A change of the
-- send's own answer does not replace it.
-- +goose StatementBegin
CREATE FUNCTION keep_send() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO attempts (reference, scope, file, row_no, generation, key, sent_at, answer, sum)
    VALUES (OLD.reference, OLD.scope, OLD.file, OLD.row_no, OLD.generation, OLD.key, OLD.sent_at, OLD.answer, OLD.send_sum);
    NEW.attempts := OLD.attempts + 1;
    RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER bills_keep_send BEFORE UPDATE ON bills FOR EACH ROW WHEN (
    OLD.file IS NOT NULL AND (
        NEW.sends > OLD.sends OR NEW.sent_at IS DISTINCT FROM OLD.sent_at OR NEW.key <> OLD.key OR NEW.generation <> OLD.generation
        OR NEW.file IS DISTINCT FROM OLD.file OR NEW.row_no <> OLD.row_no
    )
) EXECUTE FUNCTION keep_send();

-- How rows ended.
CREATE TABLE outcomes (
    file        bigint NOT NULL,   -- of file_numbers
    row_no      bigint NOT NULL,
    line        bigint NOT NULL,
    reference   text COLLATE "C" NOT NULL,
    status      smallint NOT NULL, -- as in statusCodes; the first two need no attention
    code        text NOT NULL,
    detail      text NOT NULL,
    bill_id     text NOT NULL,
    customer_id text NOT NULL,
    account_id  text NOT NULL,
    currency    text COLLATE "C" NOT NULL,
    amount_due  bigint NOT NULL,   -- minor units; 0 where it could not be read
    attempts    bigint NOT NULL,
    key         text NOT NULL,
    customers   bigint NOT NULL,   -- that sends of the row created
    accounts    bigint NOT NULL,
    sum         bigint NOT NULL,   -- of the row's content: see ledger.SumOutcome
    PRIMARY KEY (file, row_no)
);
CREATE INDEX outcomes_reference ON outcomes (reference);
CREATE INDEX outcomes_attention ON outcomes (file, row_no) WHERE status > 2;

-- Known customers and accounts, by a digest of scope, kind and reference. The reference itself is
-- nowhere. One whose id is '' is not known yet; a send that may be creating it leads it.
CREATE TABLE parties (
    digest      bytea PRIMARY KEY,
    scope       integer NOT NULL,  -- of scopes
    kind        smallint NOT NULL, -- ledger.PartyKind: 1 customer, 2 account
    id          text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL, -- of an account: whose it is
    since       bigint,            -- when this id was first recorded
    lead_worker bigint,            -- of workers: who made the send; NULL = nobody leads it
    lead_file   bigint,            -- of file_numbers
    lead_row    bigint
) WITH (fillfactor = 60);

-- A session is what writes: a handle, and after each Join another one. last is the latest batch that it
-- committed, and results is what became of that batch's operations: a batch whose commit got no
-- answer is looked up here before it is tried again. bills counts the rows that it added to bills.
CREATE TABLE sessions (
    id      bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    last    bigint NOT NULL DEFAULT 0,
    results jsonb NOT NULL DEFAULT '{}',
    bills   bigint NOT NULL DEFAULT 0,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- A worker is a session that has joined. It is live until lost_at is set, which takes a lock that no
-- batch of the worker can hold at the same time.
CREATE TABLE workers (
    id         bigint PRIMARY KEY, -- of sessions
    name       text NOT NULL,
    machine    text NOT NULL,
    role       text NOT NULL,
    token      text NOT NULL,      -- tells a Join that is tried again from that of another
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    heard_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    lost_after interval NOT NULL,
    in_flight  bigint NOT NULL DEFAULT 0,
    formats    jsonb NOT NULL,     -- feed → key of its configuration → value
    backend    integer NOT NULL DEFAULT 0, -- process of the server that runs its batches, and when it began
    backend_start timestamptz,
    lost_at    timestamptz
) WITH (fillfactor = 50);
CREATE INDEX workers_live ON workers (name) WHERE lost_at IS NULL;

CREATE TABLE leases (
    name   text COLLATE "C" PRIMARY KEY,
    worker bigint NOT NULL -- of workers
);
CREATE INDEX leases_worker ON leases (worker);

-- How a file's rows are divided. worker, if live, has the part in hand.
CREATE TABLE parts (
    file     bigint NOT NULL, -- of file_numbers
    no       bigint NOT NULL,
    from_row bigint NOT NULL,
    to_row   bigint NOT NULL,
    done     boolean NOT NULL,
    failed   boolean NOT NULL DEFAULT false,
    reason   text NOT NULL DEFAULT '',
    hint     text NOT NULL DEFAULT '',
    setup    boolean NOT NULL DEFAULT false,
    worker   bigint,          -- of workers
    PRIMARY KEY (file, no)
);
CREATE INDEX parts_worker ON parts (worker) WHERE worker IS NOT NULL;

CREATE TABLE orders (
    file  text COLLATE "C" PRIMARY KEY, -- id
    what  text NOT NULL,
    at    timestamptz NOT NULL
);

-- When the next request may leave, and until when none may.
CREATE TABLE paces (
    scope  integer PRIMARY KEY, -- of scopes
    next   timestamptz NOT NULL DEFAULT '-infinity',
    paused timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

-- What holds for the whole ledger: 'copying' while it is being filled from another one.
CREATE TABLE marks (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- elsewhere reports whether another live worker than me has a row of a file in hand: the part that it
-- is in, or, when the file is not divided, the lease file/ID.
-- +goose StatementBegin
CREATE FUNCTION elsewhere(file_number bigint, row_number bigint, me bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM parts AS p JOIN workers AS w ON w.id = p.worker
        WHERE p.file = file_number AND p.from_row <= row_number AND row_number < p.to_row AND p.worker <> me
            AND w.lost_at IS NULL AND w.heard_at + w.lost_after > clock_timestamp()
    ) OR EXISTS (
        SELECT FROM file_numbers AS n JOIN leases AS l ON l.name = 'file/' || n.id JOIN workers AS w ON w.id = l.worker
        WHERE n.number = file_number AND l.worker <> me AND w.lost_at IS NULL AND w.heard_at + w.lost_after > clock_timestamp()
            AND NOT EXISTS (SELECT FROM parts AS p WHERE p.file = file_number)
    )
$$;
-- +goose StatementEnd

-- led_elsewhere reports whether another live worker than me leads a party by a send for a row of a file:
-- it has done so since, unless the part that the row is in is not in its hand any more.
-- +goose StatementBegin
CREATE FUNCTION led_elsewhere(leader bigint, file_number bigint, row_number bigint, me bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT leader <> me AND EXISTS (SELECT FROM workers AS w WHERE w.id = leader AND w.lost_at IS NULL AND w.heard_at + w.lost_after > clock_timestamp())
        AND NOT EXISTS (
            SELECT FROM parts AS p WHERE p.file = file_number AND p.from_row <= row_number AND row_number < p.to_row
                AND p.worker IS DISTINCT FROM leader
        )
$$;
-- +goose StatementEnd

-- divided reports whether a file has parts. It is volatile, so that it sees what was committed while its
-- statement waited for a lock.
-- +goose StatementBegin
CREATE FUNCTION divided(file_number bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM parts WHERE file = file_number);
END
$$;
-- +goose StatementEnd

-- The ledger, read by hand. These views are the same whatever the engine: names may be added at their
-- ends, never changed.

-- +goose StatementBegin
CREATE FUNCTION iso(micros bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT to_char(timestamp '1970-01-01' + (micros + 500) / 1000 * interval '1 millisecond', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;
-- +goose StatementEnd

CREATE VIEW file AS
SELECT n.id AS file_id, f.name, f.sha256, f.state, f.outcome, iso(f.received) AS received_at, iso(f.finished) AS finished_at,
    s.merchant, s.mode, f.feed, f.origin, f.path, f.results, f.stem, f.size, f.code, f.detail, f.line,
    f.row_count AS rows, f.approved::integer AS approved, f.retried, f.run_id, f.version,
    iso(f.started) AS started_at, f.gets, f.throttled, f.machine
FROM files AS f JOIN file_numbers AS n ON n.number = f.number JOIN scopes AS s ON s.id = f.scope;

CREATE VIEW bill AS
SELECT b.reference, CASE b.state WHEN 0 THEN 'pending' WHEN 1 THEN 'exists' WHEN 2 THEN 'gone' END AS status,
    b.bill_id, b.customer_id, b.account_id, nullif(b.amount_due, 0) AS amount_due, b.currency,
    b.bill_date, b.due_date, b.voided::integer AS voided, b.doubt::integer AS in_doubt, s.merchant, s.mode,
    n.id AS file_id,
    CASE WHEN b.file IS NOT NULL THEN b.row_no END AS row,
    CASE WHEN b.file IS NOT NULL THEN b.sends END AS sends,
    CASE WHEN b.file IS NOT NULL THEN b.generation END AS generation,
    nullif(b.key, '') AS idempotency_key,
    iso(b.key_first_used) AS key_first_used_at, iso(b.sent_at) AS sent_at,
    CASE WHEN b.file IS NOT NULL THEN b.answer END AS answer
FROM bills AS b JOIN scopes AS s ON s.id = b.scope LEFT JOIN file_numbers AS n ON n.number = b.file;

CREATE VIEW outcome AS
SELECT n.id AS file_id, o.line, o.reference,
    CASE o.status WHEN 1 THEN 'created' WHEN 2 THEN 'existing' WHEN 3 THEN 'conflict' WHEN 4 THEN 'invalid'
        WHEN 5 THEN 'rejected' WHEN 6 THEN 'failed' WHEN 7 THEN 'unknown' WHEN 8 THEN 'not_sent' END AS status,
    o.code, o.bill_id, nullif(o.amount_due, 0) AS amount_due, o.currency,
    o.customer_id, o.account_id, o.detail, o.row_no AS row, o.attempts, nullif(o.key, '') AS idempotency_key,
    o.customers AS customers_created, o.accounts AS accounts_created, f.name, s.merchant, s.mode
FROM outcomes AS o JOIN file_numbers AS n ON n.number = o.file
    JOIN files AS f ON f.number = o.file JOIN scopes AS s ON s.id = f.scope;

CREATE VIEW attempt AS
SELECT a.reference, n.id AS file_id, iso(a.sent_at) AS at, a.generation, nullif(a.key, '') AS idempotency_key,
    a.answer, a.row_no AS row, a.latest, s.merchant, s.mode
FROM (
    SELECT reference, scope, file, row_no, generation, key, sent_at, answer, 0 AS latest FROM attempts
    UNION ALL
    SELECT reference, scope, file, row_no, generation, key, sent_at, answer, 1 FROM bills WHERE file IS NOT NULL
) AS a JOIN file_numbers AS n ON n.number = a.file JOIN scopes AS s ON s.id = a.scope;
