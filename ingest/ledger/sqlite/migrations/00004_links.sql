-- +goose Up

-- The payment request of each bill that has one, or was to have one. state: 0 asked, 1 made, 2 none, 3 failed.
CREATE TABLE links (
    scope          INTEGER NOT NULL, -- of scopes
    reference      TEXT NOT NULL,    -- of the bill
    bill_id        TEXT NOT NULL,
    state          INTEGER NOT NULL,
    key            ANY,              -- idempotency key: a UUID as 16 bytes
    key_first_used INTEGER,
    expires_at     INTEGER,
    body           BLOB NOT NULL,    -- digest
    answer         TEXT NOT NULL,
    request_id     TEXT NOT NULL,
    url            TEXT NOT NULL,
    sum            INTEGER NOT NULL, -- see ledger.SumLink
    PRIMARY KEY (reference, scope)
) STRICT, WITHOUT ROWID;

CREATE VIEW link AS
SELECT l.reference, s.merchant, s.mode, l.bill_id,
    CASE l.state WHEN 0 THEN 'asked' WHEN 1 THEN 'made' WHEN 2 THEN 'none' WHEN 3 THEN 'failed' END AS state,
    l.request_id AS payment_request_id, l.url AS payment_link, l.answer,
    strftime('%Y-%m-%dT%H:%M:%fZ', l.key_first_used / 1e6, 'unixepoch') AS key_first_used_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', l.expires_at / 1e6, 'unixepoch') AS expires_at
FROM links AS l JOIN scopes AS s ON s.id = l.scope;
