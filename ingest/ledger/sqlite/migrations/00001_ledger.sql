-- +goose Up

-- Marks the file as a billdrop ledger ("bdrp"), so that no other SQLite database is taken for one.
PRAGMA application_id = 0x62647270;

CREATE TABLE scopes (
    id       INTEGER PRIMARY KEY,
    merchant TEXT NOT NULL,
    mode     TEXT NOT NULL,
    UNIQUE (merchant, mode)
) STRICT;

-- File ids are long and stand in every row below; there they are numbers.
CREATE TABLE file_numbers (
    number INTEGER PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE
) STRICT;

-- Times everywhere are microseconds since 1970 UTC; NULL is the zero time.
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
    gets         INTEGER NOT NULL,
    throttled    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX files_stem ON files (results, stem) WHERE stem <> '';
CREATE INDEX files_newest ON files (received DESC, id DESC);
CREATE INDEX files_feed ON files (feed, received DESC, id DESC);
CREATE INDEX files_content ON files (sha256, received DESC, id DESC) WHERE sha256 <> '';
CREATE INDEX files_unfinished ON files (received DESC, id DESC) WHERE state NOT IN ('done', 'dropped');

-- One row a bill reference. In a clean run it is inserted once, by the commit that allows its request, and updated
-- once, by its answer. The record (pack.go) holds what the API is known to hold, and the latest send.
CREATE TABLE bills (
    id        INTEGER PRIMARY KEY,
    scope     INTEGER NOT NULL, -- of scopes
    reference TEXT NOT NULL,
    record    BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX bills_reference ON bills (scope, reference);

-- Earlier sends of a bill: a send moves here when the next one begins.
CREATE TABLE attempts (
    id         INTEGER PRIMARY KEY,
    bill       INTEGER NOT NULL, -- of bills
    file       INTEGER NOT NULL, -- of file_numbers
    row        INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    key        ANY,              -- a UUID as its 16 bytes, anything else as text
    sent_at    INTEGER,
    answer     TEXT NOT NULL
) STRICT;
CREATE INDEX attempts_bill ON attempts (bill);
CREATE INDEX attempts_file ON attempts (file);

-- How rows ended. The id is the file's number << 32 | the row, so that a file's outcomes lie together in row
-- order and inserts append. Columns are what is summed up and searched; the record (pack.go) holds the rest.
CREATE TABLE outcomes (
    id        INTEGER PRIMARY KEY,
    status    INTEGER NOT NULL, -- statusCodes
    currency  TEXT NOT NULL,
    amount    INTEGER NOT NULL, -- minor units
    attempts  INTEGER NOT NULL,
    customers INTEGER NOT NULL, -- that sends of the row created
    accounts  INTEGER NOT NULL,
    reference TEXT,             -- NULL: the send of a bill or an attempt leads here (file and row)
    record    BLOB NOT NULL
) STRICT;
CREATE INDEX outcomes_reference ON outcomes (reference) WHERE reference IS NOT NULL;
CREATE INDEX outcomes_attention ON outcomes (id) WHERE status > 2;

-- Known customers and accounts, in the order in which they were learnt, by a digest of scope, kind and reference. The
-- reference itself is nowhere.
CREATE TABLE parties (
    id       INTEGER PRIMARY KEY,
    digest   BLOB NOT NULL,
    party_id TEXT NOT NULL
) STRICT;

-- The latest of parties by the first 64 bits of the digest, up to the id in party_indexed. Digests scatter, and each costs a
-- page: so the index lags behind, and is brought up to date for very many at a time, in their order. Should two digests
-- begin alike, the earlier party is not found any more, and its id is asked for again.
CREATE TABLE party_index (
    hash  INTEGER PRIMARY KEY,
    party INTEGER NOT NULL      -- of parties
) STRICT;
CREATE TABLE party_indexed (
    upto     INTEGER NOT NULL,  -- of parties
    filtered INTEGER NOT NULL   -- digests that were put into party_filters, those for which there was no room included
) STRICT;
INSERT INTO party_indexed VALUES (0, 0);
-- Bloom filters of the digests in the index (partyfilter.go).
CREATE TABLE party_filters (
    level INTEGER PRIMARY KEY,  -- each takes twice as many as the one before
    held  INTEGER NOT NULL,
    bits  BLOB NOT NULL
) STRICT;
