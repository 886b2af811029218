//! How often one may guess a password or make an account. Pure: the time is an argument.
//!
//! Only failures count against logins, so asking and counting are two calls (a limiter that counts
//! when asked would lock out people who log in often).

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;

/// Keys remembered a limit; beyond, the one that failed longest ago is forgotten.
const MAX_KEYS: usize = 16_384;

/// So many at once, then one an interval.
#[derive(Clone, Copy)]
struct Limit {
    burst: u32,
    interval: Duration,
}

const ACCOUNT_FAILURES: Limit = Limit { burst: 10, interval: Duration::from_secs(30) };
const ADDRESS_FAILURES: Limit = Limit { burst: 30, interval: Duration::from_secs(10) };
const ADDRESS_CREATIONS: Limit = Limit { burst: 20, interval: Duration::from_secs(10) };

/// What was tried lately, by account and by address.
pub(super) struct Attempts {
    accounts: Buckets<[u8; 32]>,
    addresses: Buckets<IpAddr>,
    creations: Buckets<IpAddr>,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self {
            accounts: Buckets::new(ACCOUNT_FAILURES),
            addresses: Buckets::new(ADDRESS_FAILURES),
            creations: Buckets::new(ADDRESS_CREATIONS),
        }
    }

    /// How long to wait before another login may be tried; `None` when it may.
    pub(super) fn login_wait(
        &self,
        username_hmac: &[u8; 32],
        from: Option<IpAddr>,
        now: Instant,
    ) -> Option<Duration> {
        let address = from.and_then(|from| self.addresses.wait(&network_of(from), now));
        self.accounts.wait(username_hmac, now).max(address)
    }

    /// Counts a wrong name or password.
    pub(super) fn login_failed(&self, username_hmac: &[u8; 32], from: Option<IpAddr>, now: Instant) {
        self.accounts.take(*username_hmac, now);
        if let Some(from) = from {
            self.addresses.take(network_of(from), now);
        }
    }

    /// Counts an account to be made from this address, or says how long to wait. The machine itself may
    /// make as many as it likes.
    pub(super) fn creation_wait(&self, from: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let from = from.map(network_of).filter(|from| !from.is_loopback())?;
        let wait = self.creations.wait(&from, now);
        if wait.is_none() {
            self.creations.take(from, now);
        }
        wait
    }
}

/// One user of IPv6 has at least a /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        other => other,
    }
}

/// A limit kept for each key (GCRA: one instant a key).
struct Buckets<K> {
    limit: Limit,
    /// When the key would be as good as new.
    free_at: Mutex<LruCache<K, Instant>>,
}

impl<K: Hash + Eq> Buckets<K> {
    fn new(limit: Limit) -> Self {
        Self { limit, free_at: Mutex::new(LruCache::unbounded()) }
    }

    fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let free_at = *self.free_at.lock().unwrap_or_else(PoisonError::into_inner).peek(key)?;
        let credit = self.limit.interval * self.limit.burst.saturating_sub(1);
        let wait = free_at.saturating_duration_since(now).saturating_sub(credit);
        (!wait.is_zero()).then_some(wait)
    }

    fn take(&self, key: K, now: Instant) {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let from = free_at.peek(&key).copied().unwrap_or(now).max(now);
        free_at.put(key, from + self.limit.interval);
        if free_at.len() > MAX_KEYS {
            free_at.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: [u8; 32] = [1; 32];
    const BEN: [u8; 32] = [2; 32];

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_account_is_closed_after_ten_failures_and_opens_one_by_one() {
        let (attempts, start) = (Attempts::new(), Instant::now());
        for _ in 0..10 {
            assert_eq!(attempts.login_wait(&ANN, None, start), None);
            attempts.login_failed(&ANN, None, start);
        }
        assert_eq!(attempts.login_wait(&ANN, None, start), Some(Duration::from_secs(30)));
        assert_eq!(attempts.login_wait(&BEN, None, start), None);
        let later = start + Duration::from_secs(30);
        assert_eq!(attempts.login_wait(&ANN, None, later), None);
        attempts.login_failed(&ANN, None, later);
        assert_eq!(attempts.login_wait(&ANN, None, later), Some(Duration::from_secs(30)));
        assert_eq!(attempts.login_wait(&ANN, None, start + Duration::from_secs(3_600)), None);
    }

    #[test]
    fn an_address_is_closed_whatever_accounts_it_tries() {
        let (attempts, now) = (Attempts::new(), Instant::now());
        for number in 0..30 {
            let address = address(&format!("2001:db8::{number}"));
            assert_eq!(attempts.login_wait(&[number; 32], address, now), None);
            attempts.login_failed(&[number; 32], address, now);
        }
        let wait = attempts.login_wait(&[99; 32], address("2001:db8::ffff"), now);
        assert_eq!(wait, Some(Duration::from_secs(10)));
        assert_eq!(attempts.login_wait(&[99; 32], address("2001:db8:0:1::1"), now), None);
    }

    #[test]
    fn creations_are_limited_except_from_the_machine_itself() {
        let (attempts, now) = (Attempts::new(), Instant::now());
        for _ in 0..20 {
            assert_eq!(attempts.creation_wait(address("203.0.113.5"), now), None);
        }
        let same = address("::ffff:203.0.113.5");
        assert_eq!(attempts.creation_wait(same, now), Some(Duration::from_secs(10)));
        assert_eq!(attempts.creation_wait(same, now + Duration::from_secs(10)), None);
        for local in [None, address("127.0.0.1"), address("::1"), address("::ffff:127.0.0.1")] {
            for _ in 0..100 {
                assert_eq!(attempts.creation_wait(local, now), None);
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_kept() {
        let (buckets, now) =
            (Buckets::new(Limit { burst: 1, interval: Duration::from_secs(9) }), Instant::now());
        for key in 0..=MAX_KEYS {
            buckets.take(key, now);
        }
        assert_eq!(buckets.wait(&0, now), None);
        assert!(buckets.wait(&1, now).is_some() && buckets.wait(&MAX_KEYS, now).is_some());
        assert_eq!(buckets.free_at.lock().unwrap().len(), MAX_KEYS);
    }
}
