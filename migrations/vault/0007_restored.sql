-- Groups in which other members know more of this device than it does: an old copy of the vault was put back,
-- or two copies run. Nothing is sealed there until this device has entered anew.
CREATE TABLE restored (
    gid BLOB PRIMARY KEY,
    noticed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Own Tips up to this counter are of a membership before this one.
ALTER TABLE mls_group ADD COLUMN tip_floor INTEGER NOT NULL DEFAULT 0;
