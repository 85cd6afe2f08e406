-- +goose Up

-- The payment request of each bill that has one, or was to have one. state: 0 asked, 1 made, 2 none, 3 failed.
CREATE TABLE links (
    scope          integer NOT NULL,          -- of scopes
    reference      text COLLATE "C" NOT NULL, -- of the bill
    bill_id        text NOT NULL,
    state          smallint NOT NULL,
    key            text NOT NULL,             -- idempotency key
    key_first_used bigint,
    expires_at     bigint,
    body           bytea NOT NULL,            -- digest
    answer         text NOT NULL,
    request_id     text NOT NULL,
    url            text NOT NULL,
    sum            bigint NOT NULL,           -- see ledger.SumLink
    PRIMARY KEY (reference, scope)
);

CREATE VIEW link AS
SELECT l.reference, s.merchant, s.mode, l.bill_id,
    CASE l.state WHEN 0 THEN 'asked' WHEN 1 THEN 'made' WHEN 2 THEN 'none' WHEN 3 THEN 'failed' END AS state,
    l.request_id AS payment_request_id, l.url AS payment_link, l.answer,
    iso(l.key_first_used) AS key_first_used_at, iso(l.expires_at) AS expires_at
FROM links AS l JOIN scopes AS s ON s.id = l.scope;
