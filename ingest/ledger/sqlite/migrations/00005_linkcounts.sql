-- +goose Up

-- Requests for payment links that were sent for a file, and how many of them were not the first of their bill.
ALTER TABLE files ADD COLUMN link_posts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE files ADD COLUMN link_retries INTEGER NOT NULL DEFAULT 0;
