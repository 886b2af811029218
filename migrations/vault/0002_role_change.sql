-- Roles that commits changed, by the state that each led to: a state event is judged by the role that
-- its author had in the state it saw.
CREATE TABLE role_change (
    gid BLOB NOT NULL,
    account BLOB NOT NULL,
    sid BLOB NOT NULL,
    was INTEGER NOT NULL,
    role INTEGER NOT NULL,
    PRIMARY KEY (gid, account, sid)
) STRICT, WITHOUT ROWID;
