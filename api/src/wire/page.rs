//! Pages of lists that come whole and in a fixed order.
//!
//! A token says where the next page starts and which item stood before it, so that a list that
//! changed in between is continued behind that item, and not by count.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::status::Refusal;

const DEFAULT_SIZE: usize = 50;
const MAX_SIZE: usize = 200;

/// First byte of a token, in case its form has to change.
const VERSION: u8 = 1;
const MARK_LENGTH: usize = 8;
const TOKEN_LENGTH: usize = 1 + 4 + MARK_LENGTH;

type Mark = [u8; MARK_LENGTH];

/// How many items a page has: 0 for the default, never more than 200.
pub(crate) fn size(asked: u32) -> usize {
    match asked {
        0 => DEFAULT_SIZE,
        asked => usize::try_from(asked).map_or(MAX_SIZE, |asked| asked.min(MAX_SIZE)),
    }
}

/// Cuts one page out of a list; the second value is the next page's token, empty on the last.
///
/// # Errors
/// A refusal of `page_token` when it is not one of ours.
pub(crate) fn cut<T>(
    items: Vec<T>,
    page_size: u32,
    page_token: &str,
    key: impl Fn(&T) -> String,
) -> Result<(Vec<T>, String), Refusal> {
    let start = start(&items, page_token, &key)?;
    let end = start.saturating_add(size(page_size)).min(items.len());
    let more = end < items.len();
    let page: Vec<T> = items.into_iter().take(end).skip(start).collect();
    let next = match page.last().filter(|_| more) {
        Some(last) => token(end, mark(&key(last)))?,
        None => String::new(),
    };
    Ok((page, next))
}

fn start<T>(items: &[T], token: &str, key: &impl Fn(&T) -> String) -> Result<usize, Refusal> {
    if token.is_empty() {
        return Ok(0);
    }
    let (offset, last) = read(token).ok_or_else(refusal)?;
    let found = items.iter().position(|item| mark(&key(item)) == last);
    // When that item is gone, what followed it has moved up by one.
    Ok(found.map_or(offset.saturating_sub(1), |at| at + 1).min(items.len()))
}

fn token(offset: usize, last: Mark) -> Result<String, Refusal> {
    let offset = u32::try_from(offset).map_err(|_| refusal())?;
    let mut bytes = vec![VERSION];
    bytes.extend(offset.to_be_bytes());
    bytes.extend(last);
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn read(token: &str) -> Option<(usize, Mark)> {
    // Decoding makes room for what it reads: look at the length first.
    if token.len() > TOKEN_LENGTH * 2 {
        return None;
    }
    let bytes: [u8; TOKEN_LENGTH] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
    let [VERSION, a, b, c, d, last @ ..] = bytes else { return None };
    Some((usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?, last))
}

fn mark(key: &str) -> Mark {
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = Sha256::digest(key).into();
    [a, b, c, d, e, f, g, h]
}

fn refusal() -> Refusal {
    Refusal::field("page_token", "is not a token of this list")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::field::refused_field;

    fn numbers(page: &[u32], size: u32, token: &str) -> Result<(Vec<u32>, String), Refusal> {
        cut(page.to_vec(), size, token, ToString::to_string)
    }

    #[test]
    fn sizes_have_a_default_and_a_limit() {
        assert_eq!([0, 1, 200, 201, u32::MAX].map(size), [50, 1, 200, 200, 200]);
    }

    #[test]
    fn pages_give_every_item_once() {
        let all: Vec<u32> = (0..23).collect();
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let (page, next) = numbers(&all, 5, &token).unwrap();
            seen.extend(page);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_whole_last_page_has_no_next() {
        let (page, next) = numbers(&[1, 2, 3], 3, "").unwrap();
        assert_eq!((page.len(), next.as_str()), (3, ""));
    }

    #[test]
    fn a_list_that_changed_is_continued_behind_the_same_item() {
        let (_, token) = numbers(&[1, 2, 3, 4, 5], 2, "").unwrap();
        assert_eq!(numbers(&[0, 1, 2, 3, 4, 5], 2, &token).unwrap().0, [3, 4], "one came in before");
        assert_eq!(numbers(&[2, 3, 4, 5], 2, &token).unwrap().0, [3, 4], "one went before");
        assert_eq!(numbers(&[1, 3, 4, 5], 2, &token).unwrap().0, [3, 4], "the item itself went");
        assert_eq!(numbers(&[], 2, &token).unwrap().0, [0; 0], "everything went");
    }

    #[test]
    fn foreign_tokens_are_refused() {
        for bad in ["x", "====", "AAAA", &"A".repeat(1 << 20), &URL_SAFE_NO_PAD.encode([2; TOKEN_LENGTH])] {
            assert_eq!(refused_field(numbers(&[1], 1, bad)), "page_token");
        }
    }

    proptest! {
        #[test]
        fn no_token_breaks_it(token in "\\PC{0,40}", count in 0u32..5, size in any::<u32>()) {
            let _ = numbers(&(0..count).collect::<Vec<_>>(), size, &token);
        }

        #[test]
        fn forged_offsets_stay_inside(offset in any::<u32>(), last in any::<Mark>()) {
            let token = token(offset as usize, last).unwrap();
            prop_assert!(numbers(&[1, 2, 3], 2, &token).unwrap().0.len() <= 2);
        }
    }
}
