-- An account's vault. Encrypted as a whole (SQLCipher); one writer. Times are Unix milliseconds.

CREATE TABLE identity (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    account_secret BLOB NOT NULL,
    device_secret BLOB NOT NULL,
    peer_secret BLOB NOT NULL,
    letter_secret BLOB NOT NULL,
    certificate BLOB NOT NULL,
    username TEXT NOT NULL,
    display_name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- The router's TCP port, kept across restarts; 0 until it first listened.
    listen_port INTEGER NOT NULL DEFAULT 0,
    -- Counter of the newest signed Tip.
    tip_counter INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Names of logins, which the server database must not know.
CREATE TABLE login (
    session_id BLOB PRIMARY KEY,
    device_name TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- What was answered to a client's request_id; kept 30 days.
CREATE TABLE request (
    request_id BLOB PRIMARY KEY,
    method TEXT NOT NULL,
    payload_hash BLOB NOT NULL,
    answer BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What happened, in order: the event stream. Refers to its subject, never copies content.
CREATE TABLE feed (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    -- 1 message | 2 delivery | 3 member | 4 space | 5 space gone | 6 channel | 7 join | 8 peer | 9 health
    kind INTEGER NOT NULL,
    subject BLOB NOT NULL,
    detail TEXT NOT NULL DEFAULT ''
) STRICT;

-- ---- MLS ------------------------------------------------------------------

CREATE TABLE mls_group (
    gid BLOB PRIMARY KEY,
    -- active | leaving | left | removed
    status TEXT NOT NULL,
    root_sid BLOB NOT NULL,
    -- THE pointer: which state this device is in.
    head_sid BLOB NOT NULL,
    -- This device's own event log in the group.
    own_log BLOB NOT NULL,
    -- ok | forked | stalled | resyncing | removed
    health TEXT NOT NULL DEFAULT 'ok',
    health_detail TEXT NOT NULL DEFAULT '',
    health_since INTEGER NOT NULL DEFAULT 0,
    joined_at INTEGER NOT NULL
) STRICT;

CREATE TABLE mls_state (
    gid BLOB NOT NULL,
    sid BLOB NOT NULL,
    parent_sid BLOB,
    epoch INTEGER NOT NULL,
    commit_id BLOB,
    committer BLOB,
    -- 16 bytes: names the state's frames.
    env_tag BLOB NOT NULL,
    -- 8 bytes: what two members compare.
    check_value BLOB NOT NULL,
    adopted_at INTEGER NOT NULL,
    -- Set when its secrets are gone; the row stays as a skeleton.
    pruned_at INTEGER,
    PRIMARY KEY (gid, sid)
) STRICT;
CREATE INDEX mls_state_tag ON mls_state (env_tag);
CREATE INDEX mls_state_parent ON mls_state (gid, parent_sid);

-- openmls rows of one state.
CREATE TABLE mls_row (
    gid BLOB NOT NULL,
    sid BLOB NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (gid, sid, key)
) STRICT, WITHOUT ROWID;

-- openmls rows of the device: the KeyPackage of an open join.
CREATE TABLE device_row (
    gid BLOB NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (gid, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE mls_commit (
    gid BLOB NOT NULL,
    commit_id BLOB NOT NULL,
    parent_sid BLOB NOT NULL,
    child_sid BLOB,
    frame_id BLOB NOT NULL,
    -- valid: on this device's chain | parked: did not fit and was set aside
    status TEXT NOT NULL,
    PRIMARY KEY (gid, commit_id)
) STRICT;
CREATE INDEX mls_commit_parent ON mls_commit (gid, parent_sid);

-- Sealed bytes: own frames until delivered, commits for those who were away, parked ones until they open.
CREATE TABLE frame (
    frame_id BLOB PRIMARY KEY,
    gid BLOB,
    env_tag BLOB NOT NULL,
    -- NULL once nobody needs them; the row stays against repeats.
    bytes BLOB,
    -- own | commit | parked | done
    status TEXT NOT NULL,
    -- The peer that carried it here; NULL for own.
    carrier BLOB,
    received_at INTEGER NOT NULL
) STRICT;
CREATE INDEX frame_parked ON frame (env_tag) WHERE status = 'parked';
CREATE INDEX frame_age ON frame (received_at);

-- Every (state, leaf, counter) ever opened: another message with the same one is a reused key.
CREATE TABLE opened_generation (
    sid BLOB NOT NULL,
    leaf INTEGER NOT NULL,
    counter INTEGER NOT NULL,
    -- SHA-256 of the MLSMessage: whoever seals it once more makes another frame.
    message_hash BLOB NOT NULL,
    PRIMARY KEY (sid, leaf, counter)
) STRICT, WITHOUT ROWID;

-- ---- events ---------------------------------------------------------------

CREATE TABLE event_log (
    gid BLOB NOT NULL,
    log BLOB NOT NULL,
    -- Device key of its author.
    device BLOB NOT NULL,
    -- Everything up to this seq is processed: the ack vector.
    contiguous INTEGER NOT NULL,
    hash_there BLOB NOT NULL,
    lamport_there INTEGER NOT NULL,
    -- Where this device's knowledge begins; lamport at that point.
    floor INTEGER NOT NULL,
    floor_lamport INTEGER NOT NULL,
    -- An event of its author was refused: what others refer to there may never come.
    broken INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (gid, log)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    event_id BLOB PRIMARY KEY,
    gid BLOB NOT NULL,
    log BLOB NOT NULL,
    seq INTEGER NOT NULL,
    lamport INTEGER NOT NULL,
    author BLOB NOT NULL,
    kind INTEGER NOT NULL,
    -- The SignedEvent as received; NULL when withheld.
    signed BLOB,
    seen_sid BLOB NOT NULL,
    -- The epoch it was sealed in, as far as this device knows; NULL while queued.
    via_epoch INTEGER,
    -- processed | parked | withheld
    status TEXT NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;
CREATE INDEX event_position ON event (gid, log, seq);
CREATE INDEX event_parked ON event (gid, log, seq) WHERE status = 'parked';

-- Events that nothing known refers to yet: the deps of the next own event.
CREATE TABLE event_head (
    gid BLOB NOT NULL,
    log BLOB NOT NULL,
    seq INTEGER NOT NULL,
    event_id BLOB NOT NULL,
    lamport INTEGER NOT NULL,
    PRIMARY KEY (gid, log)
) STRICT, WITHOUT ROWID;

-- The winning state event of each register.
CREATE TABLE register (
    gid BLOB NOT NULL,
    kind INTEGER NOT NULL,
    key BLOB NOT NULL,
    event_id BLOB NOT NULL,
    lamport INTEGER NOT NULL,
    log BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (gid, kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE change_request (
    gid BLOB NOT NULL,
    request_id BLOB NOT NULL,
    author BLOB NOT NULL,
    generation INTEGER NOT NULL,
    -- remove | leave
    kind TEXT NOT NULL,
    target BLOB NOT NULL,
    -- open | settled | stale
    status TEXT NOT NULL,
    PRIMARY KEY (gid, request_id)
) STRICT;

-- ---- what people see (projections) ----------------------------------------

CREATE TABLE space (
    gid BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE channel (
    channel_id BLOB PRIMARY KEY,
    gid BLOB NOT NULL,
    name TEXT NOT NULL,
    topic TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX channel_space ON channel (gid, created_at, channel_id);

-- Devices that are or were leaves of the group.
CREATE TABLE member (
    gid BLOB NOT NULL,
    device BLOB NOT NULL,
    account BLOB NOT NULL,
    certificate BLOB NOT NULL,
    role INTEGER NOT NULL,
    display_name TEXT NOT NULL DEFAULT '',
    joined_epoch INTEGER NOT NULL,
    joined_at INTEGER NOT NULL,
    -- NULL while a member.
    left_epoch INTEGER,
    PRIMARY KEY (gid, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_account ON member (gid, account);

CREATE TABLE message (
    event_id BLOB PRIMARY KEY,
    gid BLOB NOT NULL,
    channel_id BLOB NOT NULL,
    lamport INTEGER NOT NULL,
    log BLOB NOT NULL,
    seq INTEGER NOT NULL,
    account BLOB NOT NULL,
    text TEXT NOT NULL,
    reply_to BLOB,
    sent_at INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    -- Own messages only: 1 queued, 2 sent, 3 delivered, 5 failed; NULL on others'.
    state INTEGER,
    sealed_epoch INTEGER,
    recipients INTEGER NOT NULL DEFAULT 0,
    delivered_to INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX message_order ON message (channel_id, lamport, log, seq);
CREATE INDEX message_own ON message (gid, log, seq) WHERE state IS NOT NULL;

-- Invites this account made, with their secret links.
CREATE TABLE invite (
    invite_id BLOB PRIMARY KEY,
    gid BLOB NOT NULL,
    link TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    max_uses INTEGER NOT NULL
) STRICT;

-- Joins this account asked for.
CREATE TABLE join_attempt (
    gid BLOB PRIMARY KEY,
    link TEXT NOT NULL,
    key_package BLOB NOT NULL,
    key_package_hash BLOB NOT NULL,
    -- pending | joined | failed
    status TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    started_at INTEGER NOT NULL
) STRICT;

-- ---- delivery -------------------------------------------------------------

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    gid BLOB NOT NULL,
    -- event: a sealed event on its way | letter: a JoinBundle | farewell: the commit that removed a device
    kind TEXT NOT NULL,
    -- event_id, or the device key of the one recipient
    ref BLOB NOT NULL,
    -- the event's place in one's own log; 0 for others
    seq INTEGER NOT NULL DEFAULT 0,
    frame_id BLOB,
    letter BLOB,
    -- queued | sealed; the row goes once another member's server holds it
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_status ON outbox (status, gid, id);
CREATE INDEX outbox_frame ON outbox (frame_id);
CREATE INDEX outbox_ref ON outbox (ref) WHERE kind <> 'event';

-- How far each other device said it is: its newest Tip.
CREATE TABLE peer_tip (
    gid BLOB NOT NULL,
    device BLOB NOT NULL,
    counter INTEGER NOT NULL,
    head_sid BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (gid, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE peer_cursor (
    gid BLOB NOT NULL,
    device BLOB NOT NULL,
    log BLOB NOT NULL,
    contiguous INTEGER NOT NULL,
    PRIMARY KEY (gid, device, log)
) STRICT, WITHOUT ROWID;

-- ---- peers ----------------------------------------------------------------

CREATE TABLE peer (
    peer_id BLOB PRIMARY KEY,
    account BLOB,
    device BLOB,
    certificate BLOB,
    -- 1: asked for by ConnectPeer, kept until DisconnectPeer.
    pinned INTEGER NOT NULL DEFAULT 0,
    outbound INTEGER NOT NULL DEFAULT 0,
    last_seen_at INTEGER
) STRICT;
CREATE INDEX peer_device ON peer (device);

CREATE TABLE peer_address (
    peer_id BLOB NOT NULL,
    address BLOB NOT NULL,
    learnt_at INTEGER NOT NULL,
    PRIMARY KEY (peer_id, address)
) STRICT, WITHOUT ROWID;
