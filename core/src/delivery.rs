//! Delivery decisions: plain functions over what each side says it has. No IO, no clock.

use std::{collections::HashMap, time::Duration};

use crate::{id::LogId, model::SendTiming};

/// Mean and greatest delay of [`SendTiming::Balanced`].
const BALANCED: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(2)];
/// Mean and greatest delay of [`SendTiming::Strict`].
const STRICT: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

/// How long what was just written stays here: exponentially distributed, capped. Whoever sees it leave learns
/// from the time only that it was written in the seconds before; not when within them, for however long it
/// has waited, it waits as long again on average.
///
/// `uniform` is a random number from 0 up to 1, exclusive.
pub fn send_delay(timing: SendTiming, uniform: f64) -> Duration {
    let [mean, most] = match timing {
        SendTiming::Fast => return Duration::ZERO,
        SendTiming::Balanced => BALANCED,
        SendTiming::Strict => STRICT,
    };
    let means = -(1.0 - uniform.clamp(0.0, 1.0)).ln();
    // Never more means than the cap has: also where the logarithm is infinite.
    mean.mul_f64(means.min(most.div_duration_f64(mean))).min(most)
}

/// Part of a log that another device lacks and this one holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogGap {
    /// The log.
    pub log: LogId,
    /// The other has everything up to here.
    pub after: u64,
    /// This device has everything up to here.
    pub up_to: u64,
}

/// What `theirs` lacks of `held` (log, floor, contiguous). A log they do not name they have nothing of;
/// what lies below the floor this device does not have either.
pub fn gaps(held: &[(LogId, u64, u64)], theirs: &HashMap<LogId, u64>) -> Vec<LogGap> {
    held.iter()
        .map(|(log, floor, contiguous)| {
            let after = theirs.get(log).copied().unwrap_or(0);
            (LogGap { log: *log, after, up_to: *contiguous }, *floor)
        })
        .filter(|(gap, floor)| gap.after >= *floor && gap.after < gap.up_to)
        .map(|(gap, _)| gap)
        .collect()
}

/// Whether a member may have an event's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It concerns everyone, or was written for those who were members then.
    Entitled,
    /// It was written before the member came.
    Withheld,
    /// This device cannot tell.
    Unknown,
}

/// Access to an event that was sealed in `via_epoch` and written in `seen_epoch`, as far as this device
/// knows, for a member who joined in `joined_epoch`.
pub fn access(is_state: bool, via_epoch: Option<u64>, seen_epoch: Option<u64>, joined_epoch: u64) -> Access {
    let reaches = |epoch: Option<u64>| epoch.is_some_and(|epoch| epoch >= joined_epoch);
    if is_state || reaches(via_epoch) || reaches(seen_epoch) {
        Access::Entitled
    } else if seen_epoch.is_some() {
        Access::Withheld
    } else {
        Access::Unknown
    }
}

/// Splits items into chunks of at most `limit` bytes; an item larger than that stands alone.
pub fn chunks<T>(items: Vec<T>, limit: usize, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut chunks: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for item in items {
        let bytes = size(&item);
        match chunks.last_mut() {
            Some(chunk) if bytes <= room => {
                room -= bytes;
                chunk.push(item);
            }
            _ => {
                room = limit.saturating_sub(bytes);
                chunks.push(vec![item]);
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LogId = LogId([1; 16]);
    const B: LogId = LogId([2; 16]);

    #[test]
    fn a_gap_is_what_we_have_and_they_lack() {
        let theirs = HashMap::from([(A, 3), (B, 9)]);
        let found = gaps(&[(A, 0, 5), (B, 0, 9)], &theirs);
        assert_eq!(found, [LogGap { log: A, after: 3, up_to: 5 }]);
    }

    #[test]
    fn an_unnamed_log_is_lacking_whole() {
        assert_eq!(gaps(&[(A, 0, 2)], &HashMap::new()), [LogGap { log: A, after: 0, up_to: 2 }]);
    }

    #[test]
    fn below_our_own_floor_there_is_nothing_to_give() {
        assert_eq!(gaps(&[(A, 4, 6)], &HashMap::from([(A, 2)])), []);
        assert_eq!(gaps(&[(A, 4, 6)], &HashMap::from([(A, 4)])).len(), 1);
    }

    #[test]
    fn being_ahead_is_no_gap() {
        assert_eq!(gaps(&[(A, 0, 2)], &HashMap::from([(A, 7)])), []);
    }

    #[test]
    fn content_is_for_those_who_were_members_when_it_was_written_or_sealed() {
        assert_eq!(access(false, None, Some(4), 5), Access::Withheld);
        assert_eq!(access(false, None, Some(5), 5), Access::Entitled);
        assert_eq!(access(false, Some(5), Some(4), 5), Access::Entitled);
        assert_eq!(access(true, None, None, 5), Access::Entitled);
    }

    #[test]
    fn what_cannot_be_told_is_not_withheld() {
        assert_eq!(access(false, None, None, 5), Access::Unknown);
        assert_eq!(access(false, Some(4), None, 5), Access::Unknown);
    }

    #[test]
    fn chunks_keep_order_and_limit() {
        let split = chunks(vec![4, 4, 4, 20, 1, 9], 10, |n| *n);
        assert_eq!(split, [vec![4, 4], vec![4], vec![20], vec![1, 9]]);
    }

    /// The quantiles of a distribution, at even steps.
    fn delays(timing: SendTiming) -> Vec<Duration> {
        (0..10_000).map(|n| send_delay(timing, f64::from(n) / 10_000.0)).collect()
    }

    #[test]
    fn delays_are_exponential_and_capped() {
        for (timing, [mean, most]) in [(SendTiming::Balanced, BALANCED), (SendTiming::Strict, STRICT)] {
            let delays = delays(timing);
            assert_eq!(delays[0], Duration::ZERO);
            assert!(delays.is_sorted(), "{timing:?}");
            let median = delays[5_000].as_secs_f64() / mean.as_secs_f64();
            assert!((median - std::f64::consts::LN_2).abs() < 0.001, "{timing:?}: {median}");
            let sum: f64 = delays.iter().map(Duration::as_secs_f64).sum();
            let ratio = sum / 10_000.0 / mean.as_secs_f64();
            assert!((0.98..1.01).contains(&ratio), "{timing:?}: mean {ratio}");
            assert_eq!(send_delay(timing, 1.0), most);
            assert!(send_delay(timing, 0.999_999_999) <= most);
        }
    }

    #[test]
    fn fast_waits_for_nothing_and_odd_numbers_do_no_harm() {
        assert!(delays(SendTiming::Fast).iter().all(Duration::is_zero));
        for odd in [-1.0, 2.0, f64::INFINITY, f64::NAN] {
            assert!(send_delay(SendTiming::Balanced, odd) <= BALANCED[1], "{odd}");
        }
    }
}
