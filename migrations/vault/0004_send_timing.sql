-- How long what this account writes waits before it leaves: fast | balanced | strict.
ALTER TABLE mls_group ADD COLUMN send_timing TEXT NOT NULL DEFAULT 'balanced';
