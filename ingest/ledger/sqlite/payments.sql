-- Times are microseconds since 1970 UTC; NULL is the zero time. Texts that are not known are ''.

CREATE TABLE scopes (
    id       INTEGER PRIMARY KEY,
    merchant TEXT NOT NULL,
    mode     TEXT NOT NULL,
    UNIQUE (merchant, mode)
) STRICT;

CREATE TABLE reports (
    id        INTEGER PRIMARY KEY,
    scope     INTEGER NOT NULL, -- of scopes
    name      TEXT NOT NULL,
    up_to     INTEGER NOT NULL, -- seq of payments
    sha256    TEXT NOT NULL DEFAULT '',
    row_count INTEGER NOT NULL DEFAULT 0,
    begun     INTEGER,
    published INTEGER,
    UNIQUE (scope, name)
) STRICT;

-- One row an event, in order of receipt. What follows report is set together with it.
CREATE TABLE payments (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT, -- a number is never used again
    scope         INTEGER NOT NULL,
    webhook_id    TEXT NOT NULL,
    event_id      TEXT NOT NULL,
    type          TEXT NOT NULL,
    obligation_id TEXT NOT NULL,
    payment_id    TEXT NOT NULL,
    currency      TEXT NOT NULL,
    amount        INTEGER NOT NULL, -- minor units
    bill_id       TEXT NOT NULL,
    account_id    TEXT NOT NULL,
    customer_id   TEXT NOT NULL,
    received      INTEGER NOT NULL,
    report        INTEGER,          -- of reports; NULL = in none yet
    matched_by    TEXT NOT NULL DEFAULT '',
    reference     TEXT NOT NULL DEFAULT '',
    bill_status   TEXT NOT NULL DEFAULT '',
    due           INTEGER,
    paid          INTEGER,
    remaining     INTEGER
) STRICT;
CREATE UNIQUE INDEX payments_event ON payments (event_id, scope);
CREATE UNIQUE INDEX payments_webhook ON payments (webhook_id, scope);
CREATE INDEX payments_unreported ON payments (scope, seq) WHERE report IS NULL;
CREATE INDEX payments_report ON payments (report, seq) WHERE report IS NOT NULL;
CREATE INDEX payments_reference ON payments (reference) WHERE reference <> '';

-- What is accounted for of each bill that a payment was matched with.
CREATE TABLE accounts (
    scope     INTEGER NOT NULL,
    reference TEXT NOT NULL,
    accounted INTEGER NOT NULL, -- minor units
    closed    INTEGER NOT NULL,
    paid_at   INTEGER,
    PRIMARY KEY (scope, reference)
) STRICT, WITHOUT ROWID;

-- Which bills an account has, or a customer without one: found in the outcomes of files.
CREATE TABLE party_bills (
    scope     INTEGER NOT NULL,
    party     TEXT NOT NULL,
    reference TEXT NOT NULL,
    PRIMARY KEY (scope, party, reference)
) STRICT, WITHOUT ROWID;

CREATE TABLE marks (
    scope INTEGER NOT NULL,
    file  TEXT NOT NULL, -- id
    mark  TEXT NOT NULL,
    PRIMARY KEY (scope, file)
) STRICT, WITHOUT ROWID;

-- Which process reports a merchant's payments.
CREATE TABLE leaders (
    scope  INTEGER PRIMARY KEY,
    holder TEXT NOT NULL,
    until  INTEGER NOT NULL
) STRICT;

PRAGMA application_id = 0x62647065; -- "bdpe"
PRAGMA user_version = 1;
