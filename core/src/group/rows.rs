//! The stored rows of one MLS state: plain bytes in, plain bytes out, with a record of what changed.
//! No database and no MLS here; keys and values are opaque.

use std::collections::{BTreeMap, BTreeSet};

/// Every row of one state (or of an unused KeyPackage), in memory.
///
/// Holds secrets: no `Debug`.
#[derive(Clone, Default)]
pub struct Rows {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    dirty: BTreeSet<Vec<u8>>,
}

/// What to write so that the stored rows equal those in memory.
#[derive(Default, Clone, PartialEq, Eq)]
pub struct RowChanges {
    /// Key and new value.
    pub upserts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys to delete; some may never have been stored.
    pub deletes: Vec<Vec<u8>>,
}

impl Rows {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows as they are stored: nothing has changed yet.
    pub fn from_rows(rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        Self { rows: rows.into_iter().collect(), dirty: BTreeSet::new() }
    }

    /// Every row, by key.
    pub fn all(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> RowChanges {
        let mut changes = RowChanges::default();
        for key in std::mem::take(&mut self.dirty) {
            match self.rows.get(&key) {
                Some(value) => changes.upserts.push((key, value.clone())),
                None => changes.deletes.push(key),
            }
        }
        changes
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.rows.get(key).map(Vec::as_slice)
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.dirty.insert(key.clone());
        self.rows.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        if self.rows.remove(key).is_some() {
            self.dirty.insert(key.to_vec());
        }
    }

    /// Keeps only rows that `keep` accepts.
    pub(super) fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let dropped: Vec<_> = self.rows.keys().filter(|key| !keep(key)).cloned().collect();
        dropped.iter().for_each(|key| self.remove(key));
    }

    /// The same rows, none of them stored yet: a new state's.
    pub(super) fn into_unstored(self) -> Self {
        let dirty = self.rows.keys().cloned().collect();
        Self { rows: self.rows, dirty }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
        (key.into(), value.into())
    }

    #[test]
    fn only_what_changed_is_taken_and_only_once() {
        let mut rows = Rows::from_rows([row("a", "1"), row("b", "2"), row("c", "3")]);
        assert!(rows.take_changes() == RowChanges::default());
        rows.put(b"a".to_vec(), b"4".to_vec());
        rows.remove(b"b");
        rows.remove(b"never there");
        let expected = RowChanges { upserts: vec![row("a", "4")], deletes: vec![b"b".to_vec()] };
        assert!(rows.take_changes() == expected);
        assert!(rows.take_changes() == RowChanges::default());
        assert_eq!(rows.all().count(), 2);
    }

    #[test]
    fn unstored_rows_are_all_upserts() {
        let mut rows = Rows::from_rows([row("a", "1"), row("b", "2")]);
        rows.remove(b"b");
        let changes = rows.into_unstored().take_changes();
        assert!(changes.upserts == vec![row("a", "1")] && changes.deletes.is_empty());
    }
}
