//! Which port to listen on, taken so that no two routers share one.
//!
//! The transport binds with SO_REUSEPORT, which lets a second listener in silently. So a port is
//! first claimed through sockets that do not share: UDP on the same number keeps other routers of
//! any process away while TCP is tried.

use std::{
    io,
    net::{IpAddr, TcpListener, UdpSocket},
};

/// Ports tried from a fixed first one on.
pub(super) const RANGE: u16 = 1000;
/// Free ports tried when any will do.
const ANY_TRIES: usize = 32;

/// A port that is this router's to listen on for as long as the claim lives.
pub(super) struct Claim {
    _guard: UdpSocket,
    pub(super) port: u16,
}

/// The ports to try in order; 0 stands for any free one.
pub(super) fn candidates(wanted: u16, kept: u16) -> Vec<u16> {
    let range = match wanted {
        0 => vec![0; ANY_TRIES],
        first => (first..=first.saturating_add(RANGE - 1)).collect(),
    };
    let keep = kept != 0 && (wanted == 0 || range.contains(&kept));
    keep.then_some(kept).into_iter().chain(range).collect()
}

/// Claims the port if no one listens there.
pub(super) fn claim(ip: IpAddr, port: u16) -> io::Result<Claim> {
    let guard = UdpSocket::bind((ip, port))?;
    let port = guard.local_addr()?.port();
    TcpListener::bind((ip, port))?;
    Ok(Claim { _guard: guard, port })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn order_of_candidates() {
        assert_eq!(candidates(0, 0).first(), Some(&0));
        assert_eq!(candidates(0, 700)[..2], [700, 0]);
        assert_eq!(candidates(4000, 0)[..3], [4000, 4001, 4002]);
        assert_eq!(candidates(4000, 0).len(), 1000);
        assert_eq!(candidates(4000, 4999)[..2], [4999, 4000]);
        assert_eq!(candidates(4000, 5000)[0], 4000);
        assert_eq!(candidates(4000, 3999)[0], 4000);
        assert_eq!(candidates(65535, 0), [65535]);
    }

    #[test]
    fn a_port_is_claimed_once() {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let first = claim(ip, 0).unwrap();
        assert!(claim(ip, first.port).is_err(), "claimed by another router");
        let port = first.port;
        let listener = TcpListener::bind((ip, port)).unwrap();
        drop(first);
        assert!(claim(ip, port).is_err(), "someone listens there");
        drop(listener);
        assert_eq!(claim(ip, port).unwrap().port, port);
    }
}
