-- When the group's head last left this state, milliseconds; null while it is the head, and for one that never was.
-- A state's age counts from then: of however old a state someone comes back to, rivals of what follows may still
-- be on their way.
ALTER TABLE mls_state ADD COLUMN left_at INTEGER;
