-- +goose Up

-- Requests for payment links that were sent for a file, and how many of them were not the first of their bill.
ALTER TABLE files ADD COLUMN link_posts bigint NOT NULL DEFAULT 0, ADD COLUMN link_retries bigint NOT NULL DEFAULT 0;
