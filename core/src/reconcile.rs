//! Which frames of a group two members know: compared by fingerprints of ranges, so that equal sets cost one
//! short message and unequal ones little more than the names of what differs.
//!
//! Pure. The comparison is the Negentropy protocol, version 1, over *places*: 32 bytes that begin with the
//! epoch, so that what was missed lies together, and sorted ascending are the order to take frames in. Sealed
//! bytes are not seen here.

use negentropy::{Id, Negentropy, NegentropyStorageVector};

use crate::id::{FrameId, FramePlace};

/// Longest message of a comparison, bytes.
pub const MAX_MESSAGE_BYTES: usize = 512 * 1024;
/// Places of one comparison: the newest ones, where there are more. A group's quota holds about as many of
/// the smallest frames.
pub const MAX_PLACES: usize = 131_072;

/// The peer's message is none of this protocol, or names more than can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message of a comparison")]
pub struct Malformed;

impl From<negentropy::Error> for Malformed {
    fn from(_: negentropy::Error) -> Self {
        Self
    }
}

/// The place of a commit made in `epoch`: after all that was written in it.
pub fn place_of_commit(epoch: u64, frame: FrameId) -> FramePlace {
    place(epoch.saturating_mul(2).saturating_add(1), 0, frame)
}

/// The place of an application frame sealed in `epoch` whose first event has this lamport: what an event
/// refers to comes before it, and one author's messages come in the order of their keys.
pub fn place_of_events(epoch: u64, lamport: u64, frame: FrameId) -> FramePlace {
    place(epoch.saturating_mul(2), lamport, frame)
}

/// Where the frames of an epoch begin.
pub fn first_place(epoch: u64) -> FramePlace {
    place(epoch.saturating_mul(2), 0, FrameId([0; 32]))
}

fn place(stage: u64, lamport: u64, frame: FrameId) -> FramePlace {
    let mut bytes = [0; 32];
    let parts = stage.to_be_bytes().into_iter().chain(lamport.to_be_bytes()).chain(frame.0);
    bytes.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
    FramePlace(bytes)
}

impl FramePlace {
    /// Whether it is said to be a commit's.
    pub fn is_commit(&self) -> bool {
        let [_, _, _, _, _, _, _, last, ..] = self.0;
        last % 2 == 1
    }

    /// The least and the greatest id that a frame in this place can have.
    pub fn frame_ids(&self) -> (FrameId, FrameId) {
        let with = |rest: u8| {
            let mut id = [rest; 32];
            id.iter_mut().zip(self.0.iter().skip(16)).for_each(|(byte, part)| *byte = *part);
            FrameId(id)
        };
        (with(0), with(u8::MAX))
    }
}

/// The places that one side knows.
pub struct FrameSet(NegentropyStorageVector);

impl FrameSet {
    /// A set of places.
    ///
    /// # Errors
    /// [`Malformed`]: never, unless the crate changes.
    pub fn new(places: &[FramePlace]) -> Result<Self, Malformed> {
        let mut set = NegentropyStorageVector::with_capacity(places.len());
        for place in places {
            set.insert(0, Id::from_byte_array(place.0))?;
        }
        set.seal()?;
        Ok(Self(set))
    }

    /// Answers a message of whoever compares its set with this one.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn answer(&self, message: &[u8]) -> Result<Vec<u8>, Malformed> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(Malformed);
        }
        Ok(Negentropy::borrowed(&self.0, MAX_MESSAGE_BYTES as u64)?.reconcile(message)?)
    }

    /// Begins to compare this set with a peer's; gives the first message to it.
    ///
    /// # Errors
    /// [`Malformed`]: never, unless the crate changes.
    pub fn compare(&self) -> Result<(Comparison<'_>, Vec<u8>), Malformed> {
        let mut negentropy = Negentropy::borrowed(&self.0, MAX_MESSAGE_BYTES as u64)?;
        let first = negentropy.initiate()?;
        Ok((Comparison { negentropy, lacking: Vec::new() }, first))
    }
}

/// A comparison under way.
pub struct Comparison<'a> {
    negentropy: Negentropy<'a, NegentropyStorageVector>,
    lacking: Vec<FramePlace>,
}

impl Comparison<'_> {
    /// Takes the peer's answer; gives the next message, or nothing when all is compared.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn hear(&mut self, answer: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
        if answer.len() > MAX_MESSAGE_BYTES {
            return Err(Malformed);
        }
        let (mut held, mut lacking) = (Vec::new(), Vec::new());
        let next = self.negentropy.reconcile_with_ids(answer, &mut held, &mut lacking)?;
        self.lacking.extend(lacking.iter().map(|id| FramePlace(id.to_bytes())));
        if self.lacking.len() > MAX_PLACES {
            return Err(Malformed);
        }
        Ok(next)
    }

    /// What the peer knows and this side does not, in the order to take it in.
    pub fn lacking(mut self) -> Vec<FramePlace> {
        self.lacking.sort_unstable();
        self.lacking.dedup();
        self.lacking
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(number: u64) -> FrameId {
        FrameId::of(&number.to_be_bytes())
    }

    fn events(range: std::ops::Range<u64>) -> Vec<FramePlace> {
        range.map(|number| place_of_events(number / 30, number, frame(number))).collect()
    }

    /// What `ours` lacks of `theirs`, and the bytes of all messages.
    fn compared(ours: &[FramePlace], theirs: &[FramePlace]) -> (Vec<FramePlace>, usize) {
        let (ours, theirs) = (FrameSet::new(ours).unwrap(), FrameSet::new(theirs).unwrap());
        let (mut comparison, mut message) = ours.compare().unwrap();
        let mut bytes = 0;
        loop {
            let answer = theirs.answer(&message).unwrap();
            bytes += message.len() + answer.len();
            match comparison.hear(&answer).unwrap() {
                Some(next) => message = next,
                None => return (comparison.lacking(), bytes),
            }
        }
    }

    #[test]
    fn places_sort_by_epoch_then_commits_last_then_lamport() {
        let sorted = [
            first_place(7),
            place_of_events(7, 1, frame(9)),
            place_of_events(7, 2, frame(1)),
            place_of_events(7, u64::MAX, frame(1)),
            place_of_commit(7, frame(0)),
            first_place(8),
        ];
        assert!(sorted.is_sorted());
        assert_eq!(sorted.map(|place| place.is_commit()), [false, false, false, false, true, false]);
        let (least, most) = place_of_commit(7, frame(5)).frame_ids();
        assert!(least < frame(5) && frame(5) < most);
        assert!(!(least..most).contains(&frame(6)));
    }

    #[test]
    fn equal_sets_cost_one_short_exchange() {
        let places = events(0..10_000);
        let (lacking, bytes) = compared(&places, &places);
        assert!(lacking.is_empty());
        assert!(bytes < 1_024, "{bytes}");
    }

    #[test]
    fn who_was_away_learns_the_names_of_all_that_it_missed_and_not_much_more() {
        let all = events(0..12_000);
        let (lacking, bytes) = compared(&all[..2_000], &all);
        assert_eq!(lacking, all[2_000..]);
        assert!(bytes < 10_000 * 32 * 11 / 10, "{bytes}");
    }

    #[test]
    fn no_message_is_longer_than_allowed() {
        let ours = FrameSet::new(&[]).unwrap();
        let theirs = FrameSet::new(&events(0..40_000)).unwrap();
        let (mut comparison, mut message) = ours.compare().unwrap();
        let mut rounds = 0;
        loop {
            let answer = theirs.answer(&message).unwrap();
            assert!(answer.len() <= MAX_MESSAGE_BYTES);
            rounds += 1;
            match comparison.hear(&answer).unwrap() {
                Some(next) => message = next,
                None => break,
            }
        }
        assert_eq!(comparison.lacking().len(), 40_000);
        assert!(rounds < 8, "{rounds}");
        assert_eq!(theirs.answer(&vec![0x61; MAX_MESSAGE_BYTES + 1]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_is_lacking_is_the_difference(ours in proptest::collection::btree_set(0..400_u64, 0..200),
                                             theirs in proptest::collection::btree_set(0..400_u64, 0..200)) {
            let places = |numbers: &std::collections::BTreeSet<u64>| -> Vec<_> {
                numbers.iter().map(|n| place_of_events(n / 50, n % 50, frame(*n))).collect()
            };
            let mut wanted = places(&theirs.difference(&ours).copied().collect());
            wanted.sort_unstable();
            prop_assert_eq!(compared(&places(&ours), &places(&theirs)).0, wanted);
        }

        #[test]
        fn foreign_bytes_are_answered_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let set = FrameSet::new(&events(0..100)).unwrap();
            for bytes in [bytes.clone(), [&[0x61], &*bytes].concat()] {
                let _ = set.answer(&bytes);
                let (mut comparison, _) = set.compare().unwrap();
                let _ = comparison.hear(&bytes);
            }
        }
    }
}
