-- The server's own database. Not encrypted, so it holds no name, text, address or usable key.
-- Times are Unix milliseconds.

CREATE TABLE server (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Keys the HMAC of user names.
    salt BLOB NOT NULL
) STRICT;

CREATE TABLE account (
    -- Names the vault file; unrelated to the account key.
    vault_id BLOB PRIMARY KEY,
    username_hmac BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    -- The vault key, wrapped under the password and under the recovery phrase.
    password_wrap BLOB NOT NULL,
    recovery_wrap BLOB NOT NULL,
    -- Under the machine's unlock key; NULL unless the operator asked for it.
    machine_wrap BLOB,
    -- The request_id that created it, and an HMAC of the rest of that request.
    request_id BLOB UNIQUE,
    request_hmac BLOB
) STRICT;

CREATE TABLE session_token (
    -- SHA-256 of the token.
    token_hash BLOB PRIMARY KEY,
    session_id BLOB NOT NULL UNIQUE,
    vault_id BLOB NOT NULL REFERENCES account (vault_id) ON DELETE CASCADE,
    -- The vault key, wrapped under a key derived from the token.
    wrap BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL
) STRICT;
CREATE INDEX session_token_vault ON session_token (vault_id);
CREATE INDEX session_token_idle ON session_token (last_used_at);

-- Made by the operator; each admits one account.
CREATE TABLE registration_token (
    token_hash BLOB PRIMARY KEY,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
