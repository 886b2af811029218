-- Another copy of this device was let in anew in its place: this one does not ask for a place any more.
ALTER TABLE restored ADD COLUMN succeeded INTEGER NOT NULL DEFAULT 0;
