-- States of every branch, not of one chain only: what the choice of the head is made from.

-- What the commit does: 0 removal or role, 1 addition or context, 2 fresh keys only.
ALTER TABLE mls_state ADD COLUMN class INTEGER NOT NULL DEFAULT 2;
-- Account and device key of every leaf, 64 bytes each.
ALTER TABLE mls_state ADD COLUMN roster BLOB NOT NULL DEFAULT x'';
-- 1: the commit is right, but its secret does not open here.
ALTER TABLE mls_state ADD COLUMN opaque INTEGER NOT NULL DEFAULT 0;

-- The newest signed word of each device for the state it follows, this device's own included.
CREATE TABLE support (
    gid BLOB NOT NULL,
    device BLOB NOT NULL,
    counter INTEGER NOT NULL,
    sid BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (gid, device)
) STRICT, WITHOUT ROWID;

-- Devices that followed two states under one counter, and the proof.
CREATE TABLE equivocation (
    gid BLOB NOT NULL,
    device BLOB NOT NULL,
    counter INTEGER NOT NULL,
    first_sid BLOB NOT NULL,
    first_signature BLOB NOT NULL,
    second_sid BLOB NOT NULL,
    second_signature BLOB NOT NULL,
    PRIMARY KEY (gid, device)
) STRICT, WITHOUT ROWID;

-- Which requests the commit that led to a state acted on: on another branch they are open again.
CREATE TABLE inclusion (
    gid BLOB NOT NULL,
    sid BLOB NOT NULL,
    request_id BLOB NOT NULL,
    PRIMARY KEY (gid, sid, request_id)
) STRICT, WITHOUT ROWID;

-- change_request.status knows one more: `ahead`, of a standing that the head has not reached.
