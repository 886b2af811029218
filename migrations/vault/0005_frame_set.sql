-- Frames stay after they were opened: members fill each other's gaps with them.

-- Where the frame stands among those of its group, 32 bytes; NULL: it takes no part in comparisons.
ALTER TABLE frame ADD COLUMN place BLOB;
-- Length of `bytes`; 0 when they are not kept.
ALTER TABLE frame ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
-- Everything that a comparison and the quota ask for, without the bytes.
CREATE INDEX frame_set ON frame (gid, place, size, received_at) WHERE place IS NOT NULL;

-- frame.status since then: own stays own; what is still to be handed over is told by the outbox.
