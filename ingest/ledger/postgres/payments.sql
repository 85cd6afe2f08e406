-- Payments stand beside the ledger's tables; scopes are those of the ledger. Times are microseconds
-- since 1970 UTC; NULL is the zero time. Texts that are not known are ''. Columns may be added later.

CREATE TABLE IF NOT EXISTS payment_reports (
    id        bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    scope     integer NOT NULL,
    name      text COLLATE "C" NOT NULL,
    up_to     bigint NOT NULL,
    sha256    text NOT NULL DEFAULT '',
    row_count bigint NOT NULL DEFAULT 0,
    begun     bigint,
    published bigint,
    UNIQUE (scope, name)
);
-- One report of a merchant at a time.
CREATE UNIQUE INDEX IF NOT EXISTS payment_reports_open ON payment_reports (scope) WHERE published IS NULL;

CREATE TABLE IF NOT EXISTS payments (
    seq           bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    scope         integer NOT NULL,
    webhook_id    text COLLATE "C" NOT NULL,
    event_id      text COLLATE "C" NOT NULL,
    type          text NOT NULL,
    obligation_id text NOT NULL,
    payment_id    text NOT NULL,
    currency      text NOT NULL,
    amount        bigint NOT NULL, -- minor units
    bill_id       text NOT NULL,
    account_id    text NOT NULL,
    customer_id   text NOT NULL,
    received      bigint NOT NULL,
    report        bigint,          -- of payment_reports; NULL = in none yet
    matched_by    text NOT NULL DEFAULT '',
    reference     text COLLATE "C" NOT NULL DEFAULT '',
    bill_status   text NOT NULL DEFAULT '',
    due           bigint,
    paid          bigint,
    remaining     bigint
);
CREATE UNIQUE INDEX IF NOT EXISTS payments_event ON payments (event_id, scope);
CREATE UNIQUE INDEX IF NOT EXISTS payments_webhook ON payments (webhook_id, scope);
CREATE INDEX IF NOT EXISTS payments_unreported ON payments (scope, seq) WHERE report IS NULL;
CREATE INDEX IF NOT EXISTS payments_report ON payments (report, seq) WHERE report IS NOT NULL;
CREATE INDEX IF NOT EXISTS payments_reference ON payments (reference) WHERE reference <> '';

CREATE TABLE IF NOT EXISTS payment_accounts (
    scope     integer NOT NULL,
    reference text COLLATE "C" NOT NULL,
    accounted bigint NOT NULL, -- minor units
    closed    boolean NOT NULL,
    paid_at   bigint,
    PRIMARY KEY (scope, reference)
);

CREATE TABLE IF NOT EXISTS payment_bills (
    scope     integer NOT NULL,
    party     text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    PRIMARY KEY (scope, party, reference)
);

-- Which process reports a merchant's payments, by the server's clock.
CREATE TABLE IF NOT EXISTS payment_leaders (
    scope  integer PRIMARY KEY,
    holder text NOT NULL,
    until  timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS payment_marks (
    scope integer NOT NULL,
    file  text COLLATE "C" NOT NULL, -- id
    mark  text NOT NULL,
    PRIMARY KEY (scope, file)
);
