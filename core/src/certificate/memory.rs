//! Remembers signatures that held: in a simulation every member checks the same bytes again.
//!
//! Only for tests (feature `testing`), and only in threads that ask for it.

use std::{cell::RefCell, collections::HashSet};

use sha2::{Digest as _, Sha256};

#[derive(Default)]
struct Memory {
    capacity: usize,
    held: HashSet<[u8; 32]>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// From now on this thread remembers up to `capacity` signatures that held, and does not compute them
/// again; full, it forgets all of them. 0 forgets them and ends it.
pub fn remember_signatures(capacity: usize) {
    MEMORY.with_borrow_mut(|memory| *memory = Memory { capacity, held: HashSet::new() });
}

/// What `check` says, unless it is remembered that it held.
pub(super) fn once(
    public_key: &[u8; 32],
    message: &[u8],
    signature: &[u8],
    check: impl FnOnce() -> Result<(), ()>,
) -> Result<(), ()> {
    if MEMORY.with_borrow(|memory| memory.capacity == 0) {
        return check();
    }
    let digest = Sha256::new()
        .chain_update(public_key)
        .chain_update((signature.len() as u64).to_be_bytes())
        .chain_update(signature)
        .chain_update(message)
        .finalize()
        .into();
    if MEMORY.with_borrow(|memory| memory.held.contains(&digest)) {
        return Ok(());
    }
    check()?;
    MEMORY.with_borrow_mut(|memory| {
        if memory.held.len() >= memory.capacity {
            memory.held.clear();
        }
        memory.held.insert(digest);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_held_is_not_computed_again_and_what_did_not_is() {
        let computed = Cell::new(0);
        let check = |message: &[u8], holds: Result<(), ()>| {
            once(&[1; 32], message, b"signature", || {
                computed.set(computed.get() + 1);
                holds
            })
        };
        let expect = |message: &[u8], holds, times| {
            assert_eq!(check(message, holds), holds);
            assert_eq!(computed.replace(0), times, "{message:?}");
        };
        expect(b"a", Ok(()), 1);
        expect(b"a", Ok(()), 1);
        remember_signatures(2);
        expect(b"a", Ok(()), 1);
        expect(b"a", Ok(()), 0);
        expect(b"b", Err(()), 1);
        expect(b"b", Err(()), 1);
        expect(b"b", Ok(()), 1);
        expect(b"c", Ok(()), 1);
        expect(b"a", Ok(()), 1);
        remember_signatures(0);
        expect(b"a", Ok(()), 1);
    }
}
