-- +goose Up

-- Marks the file as a billdrop ledger ("bdrp"), so that no other SQLite database is taken for one.
PRAGMA application_id = 0x62647270;

-- Tables keep numbers where the views below, which are made to be read, have words.
-- Times are microseconds since 1970 UTC; NULL is the zero time. Texts that are not known are ''.

CREATE TABLE scopes (
    id       INTEGER PRIMARY KEY,
    merchant TEXT NOT NULL,
    mode     TEXT NOT NULL,
    base_url TEXT NOT NULL DEFAULT '', -- of the API that its bills were sent to; '' before the first
    UNIQUE (merchant, mode)
) STRICT;

-- File ids are long and stand in many rows; there they are numbers. A number outlives its file
-- (see Prune), because the latest sends of bills refer to it.
CREATE TABLE file_numbers (
    number INTEGER PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE files (
    number       INTEGER PRIMARY KEY, -- of file_numbers
    id           TEXT NOT NULL,
    feed         TEXT NOT NULL,
    scope        INTEGER NOT NULL,    -- of scopes
    origin       TEXT NOT NULL,
    name         TEXT NOT NULL,
    path         TEXT NOT NULL,
    results      TEXT NOT NULL,
    stem         TEXT NOT NULL,
    size         INTEGER NOT NULL,
    mod_time     INTEGER,
    sha256       TEXT NOT NULL,
    state        TEXT NOT NULL,
    outcome      TEXT NOT NULL,
    code         TEXT NOT NULL,
    detail       TEXT NOT NULL,
    line         INTEGER NOT NULL,
    approved     INTEGER NOT NULL,
    retried      INTEGER NOT NULL,
    row_count    INTEGER NOT NULL,
    lines_total  INTEGER NOT NULL,
    lines_header INTEGER NOT NULL,
    lines_blank  INTEGER NOT NULL,
    lines_data   INTEGER NOT NULL,
    format       TEXT NOT NULL,
    rows_read    INTEGER NOT NULL,
    run_id       TEXT NOT NULL,
    version      TEXT NOT NULL,
    received     INTEGER,
    started      INTEGER,
    finished     INTEGER,
    sums         TEXT NOT NULL,       -- ledger.Totals as JSON; '' before it was settled
    published    TEXT NOT NULL,       -- ledger.Reports as JSON
    publishing   TEXT NOT NULL,       -- likewise
    gets         INTEGER NOT NULL,
    throttled    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX files_stem ON files (results, stem) WHERE stem <> '';
CREATE INDEX files_newest ON files (received DESC, id DESC);
CREATE INDEX files_feed ON files (feed, received DESC, id DESC);
CREATE INDEX files_content ON files (sha256, received DESC, id DESC) WHERE sha256 <> '';
CREATE INDEX files_rejects ON files (json_extract(published, '$.rejects'), received DESC, id DESC);
CREATE INDEX files_unfinished ON files (received DESC, id DESC) WHERE state NOT IN ('done', 'dropped');

-- One row a bill reference: what the API is known to hold, and the latest send. In a clean run it is
-- inserted by the commit that allows its request, and updated once, by the answer.
CREATE TABLE bills (
    id               INTEGER PRIMARY KEY,
    scope            INTEGER NOT NULL, -- of scopes
    reference        TEXT NOT NULL,
    state            INTEGER NOT NULL, -- ledger.BillState: 0 pending, 1 exists, 2 gone
    doubt            INTEGER NOT NULL,
    bill_id          TEXT NOT NULL,
    customer_id      TEXT NOT NULL,
    account_id       TEXT NOT NULL,
    currency         TEXT NOT NULL,
    amount_due       INTEGER NOT NULL, -- minor units
    bill_date        TEXT NOT NULL,
    due_date         TEXT NOT NULL,
    voided           INTEGER NOT NULL,
    file             INTEGER,          -- of file_numbers; NULL here and below when nothing was sent
    row              INTEGER,
    generation       INTEGER,
    form             INTEGER,          -- ledger.Form
    sent_customer_id TEXT,
    sent_account_id  TEXT,
    content          BLOB,
    body             BLOB,
    key              ANY,              -- a UUID as its 16 bytes, anything else as text
    key_first_used   INTEGER,
    sent_at          INTEGER,
    sends            INTEGER,          -- for file
    answer           TEXT,
    unanswered       INTEGER
) STRICT;
CREATE UNIQUE INDEX bills_reference ON bills (reference, scope);

-- Earlier sends of a bill.
CREATE TABLE attempts (
    id         INTEGER PRIMARY KEY,
    bill       INTEGER NOT NULL, -- of bills
    file       INTEGER NOT NULL, -- of file_numbers
    row        INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    key        ANY,              -- as in bills
    sent_at    INTEGER,
    answer     TEXT NOT NULL
) STRICT;
CREATE INDEX attempts_bill ON attempts (bill);
CREATE INDEX attempts_file ON attempts (file);

-- No send is lost: whatever replaces the latest send of a bill moves it to attempts. A change of the
-- send's own answer does not replace it.
-- +goose StatementBegin
CREATE TRIGGER bills_keep_send BEFORE UPDATE ON bills
WHEN OLD.file IS NOT NULL AND (
    NEW.sends > OLD.sends OR NEW.sent_at IS NOT OLD.sent_at OR NEW.key IS NOT OLD.key
    OR NEW.generation IS NOT OLD.generation OR NEW.file IS NOT OLD.file OR NEW.row IS NOT OLD.row
)
BEGIN
    INSERT INTO attempts (bill, file, row, generation, key, sent_at, answer)
    VALUES (OLD.id, OLD.file, OLD.row, OLD.generation, OLD.key, OLD.sent_at, OLD.answer);
END;
-- +goose StatementEnd

-- How rows ended.
CREATE TABLE outcomes (
    file        INTEGER NOT NULL, -- of file_numbers
    row         INTEGER NOT NULL,
    line        INTEGER NOT NULL,
    reference   TEXT NOT NULL,
    status      INTEGER NOT NULL, -- as in statusCodes; the first two need no attention
    code        TEXT NOT NULL,
    detail      TEXT NOT NULL,
    bill_id     TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    account_id  TEXT NOT NULL,
    currency    TEXT NOT NULL,
    amount_due  INTEGER NOT NULL, -- minor units; 0 where it could not be read
    attempts    INTEGER NOT NULL,
    key         ANY,              -- as in bills
    customers   INTEGER NOT NULL, -- that sends of the row created
    accounts    INTEGER NOT NULL,
    PRIMARY KEY (file, row)
) STRICT, WITHOUT ROWID;
CREATE INDEX outcomes_reference ON outcomes (reference);
CREATE INDEX outcomes_attention ON outcomes (file, row) WHERE status > 2;

-- Known customers and accounts, by a digest of scope, kind and reference. The reference itself is nowhere.
CREATE TABLE parties (
    digest      BLOB PRIMARY KEY,
    scope       INTEGER NOT NULL, -- of scopes
    kind        INTEGER NOT NULL, -- ledger.PartyKind: 1 customer, 2 account
    id          TEXT NOT NULL,
    customer_id TEXT NOT NULL,    -- of an account: whose it is
    since       INTEGER           -- when this id was first recorded
) STRICT, WITHOUT ROWID;

-- The ledger, read by hand. These views are the same whatever the engine: names may be added at their
-- ends, never changed.

CREATE VIEW file AS
SELECT n.id AS file_id, f.name, f.sha256, f.state, f.outcome,
    strftime('%Y-%m-%dT%H:%M:%fZ', f.received / 1e6, 'unixepoch') AS received_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', f.finished / 1e6, 'unixepoch') AS finished_at,
    s.merchant, s.mode, f.feed, f.origin, f.path, f.results, f.stem, f.size, f.code, f.detail, f.line,
    f.row_count AS rows, f.approved, f.retried, f.run_id, f.version,
    strftime('%Y-%m-%dT%H:%M:%fZ', f.started / 1e6, 'unixepoch') AS started_at,
    f.gets, f.throttled
FROM files AS f JOIN file_numbers AS n ON n.number = f.number JOIN scopes AS s ON s.id = f.scope;

CREATE VIEW bill AS
SELECT b.reference, CASE b.state WHEN 0 THEN 'pending' WHEN 1 THEN 'exists' WHEN 2 THEN 'gone' END AS status,
    b.bill_id, b.customer_id, b.account_id, nullif(b.amount_due, 0) AS amount_due, b.currency,
    b.bill_date, b.due_date, b.voided, b.doubt AS in_doubt, s.merchant, s.mode,
    n.id AS file_id, b.row, b.sends, b.generation,
    CASE typeof(b.key) WHEN 'blob' THEN lower(substr(hex(b.key), 1, 8) || '-' || substr(hex(b.key), 9, 4) || '-' ||
        substr(hex(b.key), 13, 4) || '-' || substr(hex(b.key), 17, 4) || '-' || substr(hex(b.key), 21)) ELSE b.key END AS idempotency_key,
    strftime('%Y-%m-%dT%H:%M:%fZ', b.key_first_used / 1e6, 'unixepoch') AS key_first_used_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', b.sent_at / 1e6, 'unixepoch') AS sent_at,
    b.answer
FROM bills AS b JOIN scopes AS s ON s.id = b.scope LEFT JOIN file_numbers AS n ON n.number = b.file;

CREATE VIEW outcome AS
SELECT n.id AS file_id, o.line, o.reference,
    CASE o.status WHEN 1 THEN 'created' WHEN 2 THEN 'existing' WHEN 3 THEN 'conflict' WHEN 4 THEN 'invalid'
        WHEN 5 THEN 'rejected' WHEN 6 THEN 'failed' WHEN 7 THEN 'unknown' WHEN 8 THEN 'not_sent' END AS status,
    o.code, o.bill_id, nullif(o.amount_due, 0) AS amount_due, o.currency,
    o.customer_id, o.account_id, o.detail, o.row, o.attempts,
    CASE typeof(o.key) WHEN 'blob' THEN lower(substr(hex(o.key), 1, 8) || '-' || substr(hex(o.key), 9, 4) || '-' ||
        substr(hex(o.key), 13, 4) || '-' || substr(hex(o.key), 17, 4) || '-' || substr(hex(o.key), 21)) ELSE o.key END AS idempotency_key,
    o.customers AS customers_created, o.accounts AS accounts_created, f.name, s.merchant, s.mode
FROM outcomes AS o JOIN file_numbers AS n ON n.number = o.file
    JOIN files AS f ON f.number = o.file JOIN scopes AS s ON s.id = f.scope;

CREATE VIEW attempt AS
SELECT a.reference, n.id AS file_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', a.sent_at / 1e6, 'unixepoch') AS at, a.generation,
    CASE typeof(a.key) WHEN 'blob' THEN lower(substr(hex(a.key), 1, 8) || '-' || substr(hex(a.key), 9, 4) || '-' ||
        substr(hex(a.key), 13, 4) || '-' || substr(hex(a.key), 17, 4) || '-' || substr(hex(a.key), 21)) ELSE a.key END AS idempotency_key,
    a.answer, a.row, a.latest, s.merchant, s.mode
FROM (
    SELECT b.reference, b.scope, e.file, e.row, e.generation, e.key, e.sent_at, e.answer, 0 AS latest
    FROM attempts AS e JOIN bills AS b ON b.id = e.bill
    UNION ALL
    SELECT reference, scope, file, row, generation, key, sent_at, answer, 1 FROM bills WHERE file IS NOT NULL
) AS a JOIN file_numbers AS n ON n.number = a.file JOIN scopes AS s ON s.id = a.scope;
