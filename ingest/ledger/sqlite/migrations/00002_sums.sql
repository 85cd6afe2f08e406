-- +goose Up

-- Sums of the content of rows, which show what was changed by another program: see ledger.SumBill. Those
-- of rows that are there already are computed by the next step, in Go.
ALTER TABLE bills ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE bills ADD COLUMN send_sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE bills ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0; -- rows of the table attempts
ALTER TABLE attempts ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outcomes ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE files ADD COLUMN machine TEXT NOT NULL DEFAULT '';

-- What holds for the whole ledger: 'copying' while it is being filled from another one.
CREATE TABLE marks (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

UPDATE bills SET attempts = n FROM (SELECT bill, count(*) AS n FROM attempts GROUP BY bill) AS a WHERE a.bill = bills.id;

-- As before, with the sum.
DROP TRIGGER bills_keep_send;
-- +goose StatementBegin
CREATE TRIGGER bills_keep_send BEFORE UPDATE ON bills
WHEN OLD.file IS NOT NULL AND (
    NEW.sends > OLD.sends OR NEW.sent_at IS NOT OLD.sent_at OR NEW.key IS NOT OLD.key
    OR NEW.generation IS NOT OLD.generation OR NEW.file IS NOT OLD.file OR NEW.row IS NOT OLD.row
)
BEGIN
    INSERT INTO attempts (bill, file, row, generation, key, sent_at, answer, sum)
    VALUES (OLD.id, OLD.file, OLD.row, OLD.generation, OLD.key, OLD.sent_at, OLD.answer, OLD.send_sum);
END;
-- +goose StatementEnd
-- After the update, because a change of a row before its update would be lost.
-- +goose StatementBegin
CREATE TRIGGER bills_count_send AFTER UPDATE ON bills
WHEN OLD.file IS NOT NULL AND (
    NEW.sends > OLD.sends OR NEW.sent_at IS NOT OLD.sent_at OR NEW.key IS NOT OLD.key
    OR NEW.generation IS NOT OLD.generation OR NEW.file IS NOT OLD.file OR NEW.row IS NOT OLD.row
)
BEGIN
    UPDATE bills SET attempts = attempts + 1 WHERE id = NEW.id;
END;
-- +goose StatementEnd

-- A column at the end.
DROP VIEW file;
CREATE VIEW file AS
SELECT n.id AS file_id, f.name, f.sha256, f.state, f.outcome,
    strftime('%Y-%m-%dT%H:%M:%fZ', f.received / 1e6, 'unixepoch') AS received_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', f.finished / 1e6, 'unixepoch') AS finished_at,
    s.merchant, s.mode, f.feed, f.origin, f.path, f.results, f.stem, f.size, f.code, f.detail, f.line,
    f.row_count AS rows, f.approved, f.retried, f.run_id, f.version,
    strftime('%Y-%m-%dT%H:%M:%fZ', f.started / 1e6, 'unixepoch') AS started_at,
    f.gets, f.throttled, f.machine
FROM files AS f JOIN file_numbers AS n ON n.number = f.number JOIN scopes AS s ON s.id = f.scope;
