-- What a device needs to find its way back into a group that went on without it.

-- The committer's signature of the skeleton; NULL where it is not known.
ALTER TABLE mls_state ADD COLUMN skeleton_signature BLOB;
-- The state that a letter admits to.
ALTER TABLE outbox ADD COLUMN sid BLOB;

-- This device asked for a fresh leaf; the KeyPackage's private keys are in device_row.
CREATE TABLE rejoin (
    gid BLOB PRIMARY KEY,
    key_package BLOB NOT NULL,
    key_package_hash BLOB NOT NULL,
    started_at INTEGER NOT NULL
) STRICT;

-- Members who asked this device for a fresh leaf; the newest request of each.
CREATE TABLE rejoin_request (
    gid BLOB NOT NULL,
    device BLOB NOT NULL,
    -- SignedEvent
    signed BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (gid, device)
) STRICT, WITHOUT ROWID;

-- Own logs of former leaves whose events others may still lack.
CREATE TABLE former_log (
    gid BLOB NOT NULL,
    log BLOB NOT NULL,
    PRIMARY KEY (gid, log)
) STRICT, WITHOUT ROWID;
