//! Where time and randomness come in: the one place that reads the wall clock.
//!
//! Nothing is ordered or authorised by the clock: it is shown, and it ages things.

#[cfg(feature = "testing")]
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

#[cfg(feature = "testing")]
static AHEAD_MS: AtomicI64 = AtomicI64::new(0);

/// Milliseconds since the Unix epoch, now.
pub fn now_ms() -> i64 {
    let now = ms_from_time(SystemTime::now());
    #[cfg(feature = "testing")]
    let now = now.saturating_add(AHEAD_MS.load(Ordering::Relaxed));
    now
}

/// Puts the wall clock of this process ahead of the machine's, for tests of what days do. Timers go on as they
/// are, and so do the lifetimes of KeyPackages, which the MLS library reads from the machine's clock.
#[cfg(feature = "testing")]
pub fn put_ahead(by: Duration) {
    AHEAD_MS.store(duration_ms(by), Ordering::Relaxed);
}

/// Milliseconds since the Unix epoch; negative before it, saturating.
pub fn ms_from_time(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => duration_ms(after),
        Err(before) => -duration_ms(before.duration()),
    }
}

/// The time that [`ms_from_time`] tells; what no clock can show is the epoch.
pub fn time_from_ms(ms: i64) -> SystemTime {
    let distance = Duration::from_millis(ms.unsigned_abs());
    let time = if ms < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// A span in milliseconds, saturating.
pub fn duration_ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Fresh random bytes, fit for keys.
pub fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    rand::fill(bytes.as_mut_slice());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_round_trip() {
        for ms in [-1_500, 0, 1, 1_763_000_000_123] {
            assert_eq!(ms_from_time(time_from_ms(ms)), ms);
        }
        assert_eq!(time_from_ms(1_500), UNIX_EPOCH + Duration::from_millis(1_500));
    }

    #[test]
    fn absurd_values_do_not_panic() {
        let _ = (time_from_ms(i64::MIN), time_from_ms(i64::MAX));
        assert_eq!(duration_ms(Duration::MAX), i64::MAX);
    }
}
