//! Bytes as a series of small choices, and as changes to something valid: what a fuzzer cannot guess, like a
//! signature or a tag, is made for it.

/// Changes of one input; more are not made.
const MAX_EDITS: usize = 64;

/// Choices, one after the other.
pub(super) struct Script<'a>(pub(super) &'a [u8]);

impl Script<'_> {
    /// The next byte, while there is one.
    pub(super) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number below `many`, 0 at the end.
    pub(super) fn below(&mut self, many: u8) -> u8 {
        self.next().unwrap_or(0).checked_rem(many).unwrap_or(0)
    }
}

/// Something valid with the changes that a script asks for, four bytes each: what, where (two), with what.
/// An empty script changes nothing.
pub(super) fn edited(valid: &[u8], script: &[u8]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for edit in script.chunks(4).take(MAX_EDITS) {
        let [what, high, low, with] = *edit else { break };
        let at = usize::from(u16::from_be_bytes([high, low])).checked_rem(bytes.len()).unwrap_or(0);
        match what % 6 {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = with),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (with % 8)),
            2 => bytes.truncate(at),
            3 => bytes.insert(at.min(bytes.len()), with),
            4 => {
                bytes.drain(at..bytes.len().min(at + 1));
            }
            _ => {
                let piece: Vec<u8> = bytes.iter().skip(at).take(usize::from(with)).copied().collect();
                bytes.extend(piece);
            }
        }
    }
    bytes
}
