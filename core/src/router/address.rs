//! Where a router can be reached, and which addresses are taken from peers. No IO.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::PeerId;

/// Addresses kept, dialled or taken from a peer, at most.
pub const MAX_ADDRESSES: usize = 16;

/// Longest multiaddr read, in bytes of either form: a DNS name takes 253 of them.
const MAX_ADDRESS_BYTES: usize = 512;

/// Why an address was refused; the text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(pub &'static str);

const NOT_A_MULTIADDR: AddressError = AddressError("not a multiaddr such as /ip4/192.0.2.1/tcp/4001");
const UNSUPPORTED: AddressError = AddressError("only ip4, ip6, dns, dns4 and dns6 with tcp are supported");

/// Longest address told to others, bytes: more does not fit an event.
const MAX_TOLD_BYTES: usize = 256;

/// Which addresses a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Family {
    Any,
    V4,
    V6,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Host {
    Ip(IpAddr),
    Name(Family, String),
}

/// A TCP address as a multiaddr, without the peer id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Address {
    /// The address of this IP address and port.
    pub fn tcp(ip: IpAddr, port: u16) -> Self {
        // An IPv4 address in IPv6 clothes must not pass for a public one.
        Self { host: Host::Ip(ip.to_canonical()), port }
    }

    /// Reads the text form, `/ip4/192.0.2.1/tcp/4001`.
    ///
    /// # Errors
    /// When it is no multiaddr, or none of the supported kinds.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        Self::from_multiaddr(&multiaddr(text)?)
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// When it is no multiaddr, or none of the supported kinds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AddressError> {
        if bytes.len() > MAX_ADDRESS_BYTES {
            return Err(NOT_A_MULTIADDR);
        }
        let address = Multiaddr::try_from(bytes.to_vec()).map_err(|_| NOT_A_MULTIADDR)?;
        Self::from_multiaddr(&address)
    }

    /// The binary form.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_multiaddr().to_vec()
    }

    /// The TCP port; 0 only where a listener may choose.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.is_loopback(),
            Host::Name(_, name) => name == "localhost" || name.ends_with(".localhost"),
        }
    }

    /// Only this machine's networks can reach it: RFC 1918, RFC 6598, link-local, unique local.
    pub fn is_private(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => is_link_local(ip) || is_site_private(ip),
            Host::Name(_, name) => name.ends_with(".local"),
        }
    }

    /// Anyone may reach it, as far as the address tells.
    pub fn is_public(&self) -> bool {
        !self.is_loopback() && !self.is_private() && self.is_dialable()
    }

    /// It names one host and a port.
    pub fn is_dialable(&self) -> bool {
        let host = match &self.host {
            Host::Ip(ip) => is_unicast(ip),
            Host::Name(..) => true,
        };
        host && self.port != 0
    }

    /// Loopback or link-local: never to be followed on a stranger's word.
    pub(super) fn is_machine_local(&self) -> bool {
        self.is_loopback() || matches!(&self.host, Host::Ip(ip) if is_link_local(ip))
    }

    pub(super) fn from_multiaddr(address: &Multiaddr) -> Result<Self, AddressError> {
        let mut parts = address.iter();
        let host = parts.next().ok_or(NOT_A_MULTIADDR)?;
        let Some(Protocol::Tcp(port)) = parts.next() else {
            return Err(UNSUPPORTED);
        };
        if parts.next().is_some() {
            return Err(AddressError("the address goes on after its tcp port"));
        }
        match host {
            Protocol::Ip4(ip) => Ok(Self::tcp(ip.into(), port)),
            Protocol::Ip6(ip) => Ok(Self::tcp(ip.into(), port)),
            Protocol::Dns(name) => Self::named(Family::Any, &name, port),
            Protocol::Dns4(name) => Self::named(Family::V4, &name, port),
            Protocol::Dns6(name) => Self::named(Family::V6, &name, port),
            _ => Err(UNSUPPORTED),
        }
    }

    fn named(family: Family, name: &str, port: u16) -> Result<Self, AddressError> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if name.len() > 253 || numeric || !name.split('.').all(label) {
            return Err(AddressError("not a host name"));
        }
        Ok(Self { host: Host::Name(family, name), port })
    }

    pub(super) fn to_multiaddr(&self) -> Multiaddr {
        let host = match &self.host {
            Host::Ip(IpAddr::V4(ip)) => Protocol::Ip4(*ip),
            Host::Ip(IpAddr::V6(ip)) => Protocol::Ip6(*ip),
            Host::Name(Family::Any, name) => Protocol::Dns(name.into()),
            Host::Name(Family::V4, name) => Protocol::Dns4(name.into()),
            Host::Name(Family::V6, name) => Protocol::Dns6(name.into()),
        };
        Multiaddr::empty().with(host).with(Protocol::Tcp(self.port))
    }
}

/// The multiaddr's text form.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_multiaddr().fmt(f)
    }
}

/// Only the kind of address: where people are stays out of logs.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.is_loopback(), self.is_private()) {
            (true, _) => "Address(loopback)",
            (_, true) => "Address(private)",
            _ => "Address(…)",
        })
    }
}

/// An address and who is expected there: `/ip4/192.0.2.1/tcp/4001/p2p/12D3Koo...`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerAddress {
    /// Who.
    pub peer: PeerId,
    /// Where.
    pub address: Address,
}

impl PeerAddress {
    /// Reads the text form.
    ///
    /// # Errors
    /// When it is no multiaddr, of no supported kind, without a peer id, or not to be dialled.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let mut address = multiaddr(text)?;
        let Some(Protocol::P2p(peer)) = address.pop() else {
            return Err(AddressError("the address does not end in /p2p/ and a peer id"));
        };
        let address = Address::from_multiaddr(&address)?;
        if !address.is_dialable() {
            return Err(AddressError("the address names no single host and port"));
        }
        Ok(Self { peer: PeerId(peer), address })
    }
}

/// The multiaddr's text form.
impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/p2p/{}", self.address, self.peer)
    }
}

/// Those of a router's own addresses that others are told: public ones first, loopback last, at most 16.
///
/// In a fixed order, so that the same interfaces give the same ones after a restart.
pub fn told(own: Vec<Address>) -> Vec<Address> {
    let mut told = own;
    told.retain(|address| address.to_bytes().len() <= MAX_TOLD_BYTES);
    told.sort_by_cached_key(|address| (address.is_loopback(), address.is_private(), address.clone()));
    told.dedup();
    told.truncate(MAX_ADDRESSES);
    told
}

/// Those of a peer's own claims that may be dialled, in their order, at most 16.
///
/// Loopback and link-local ones would lead to services of this machine; they count only where
/// this router itself is for this machine only.
pub fn acceptable(learnt: &[Address], own_listener_is_loopback: bool) -> Vec<Address> {
    let mut accepted: Vec<Address> = Vec::new();
    for address in learnt {
        let allowed = address.is_dialable() && (own_listener_is_loopback || !address.is_machine_local());
        if allowed && !accepted.contains(address) {
            accepted.push(address.clone());
        }
        if accepted.len() == MAX_ADDRESSES {
            break;
        }
    }
    accepted
}

fn multiaddr(text: &str) -> Result<Multiaddr, AddressError> {
    if text.len() > MAX_ADDRESS_BYTES {
        return Err(NOT_A_MULTIADDR);
    }
    Multiaddr::from_str(text).map_err(|_| NOT_A_MULTIADDR)
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_site_private(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_private() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

fn is_unicast(ip: &IpAddr) -> bool {
    let this_network = matches!(ip, IpAddr::V4(ip) if matches!(ip.octets(), [0, ..]));
    let broadcast = *ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    let unspecified = *ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    !(this_network || broadcast || unspecified || ip.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn supported_kinds_round_trip_in_both_forms() {
        for text in [
            "/ip4/192.0.2.1/tcp/4001",
            "/ip6/2001:db8::1/tcp/1",
            "/dns/example.org/tcp/65535",
            "/dns4/a.example.org/tcp/80",
            "/dns6/xn--bcher-kva.example/tcp/80",
            "/ip4/0.0.0.0/tcp/0",
        ] {
            let parsed = address(text);
            assert_eq!(parsed.to_string(), text);
            assert_eq!(Address::from_bytes(&parsed.to_bytes()), Ok(parsed));
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        for text in [
            "",
            "example.org:80",
            "/ip4/192.0.2.1",
            "/ip4/192.0.2.1/udp/4001/quic-v1",
            "/ip4/192.0.2.1/tcp/4001/ws",
            "/ip4/300.0.2.1/tcp/4001",
            "/unix/%2Ftmp%2Fx",
            "/dnsaddr/example.org/tcp/1",
            "/dns4/exa mple/tcp/1",
            "/dns4/127.1/tcp/1",
            "/dns4/2130706433/tcp/1",
            "/tcp/4001/ip4/192.0.2.1",
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(!error.to_string().is_empty());
        }
        assert!(Address::from_bytes(&[0; 4096]).is_err());
        assert!(Address::from_bytes(&[4, 127, 0]).is_err());
    }

    #[test]
    fn scopes() {
        for (text, loopback, private, public) in [
            ("/ip4/127.9.9.9/tcp/1", true, false, false),
            ("/ip6/::1/tcp/1", true, false, false),
            ("/ip6/::ffff:127.0.0.1/tcp/1", true, false, false),
            ("/dns4/localhost/tcp/1", true, false, false),
            ("/ip4/10.0.0.1/tcp/1", false, true, false),
            ("/ip4/172.31.0.1/tcp/1", false, true, false),
            ("/ip4/192.168.0.1/tcp/1", false, true, false),
            ("/ip4/169.254.1.1/tcp/1", false, true, false),
            ("/ip4/100.64.0.1/tcp/1", false, true, false),
            ("/ip6/fe80::1/tcp/1", false, true, false),
            ("/ip6/fd00::1/tcp/1", false, true, false),
            ("/ip4/0.0.0.0/tcp/1", false, false, false),
            ("/ip4/224.0.0.1/tcp/1", false, false, false),
            ("/ip4/8.8.8.8/tcp/1", false, false, true),
            ("/ip4/8.8.8.8/tcp/0", false, false, false),
            ("/ip6/2606:4700::1/tcp/1", false, false, true),
            ("/dns/example.org/tcp/1", false, false, true),
        ] {
            let parsed = address(text);
            assert_eq!(
                (parsed.is_loopback(), parsed.is_private(), parsed.is_public()),
                (loopback, private, public),
                "{text}"
            );
        }
    }

    #[test]
    fn peer_addresses_need_a_peer_and_a_place() {
        let text = format!("/ip4/127.0.0.1/tcp/4001/p2p/{PEER}");
        let parsed = PeerAddress::parse(&text).unwrap();
        assert_eq!(parsed.peer.to_string(), PEER);
        assert_eq!(parsed.to_string(), text);
        for bad in [
            "/ip4/127.0.0.1/tcp/4001".to_owned(),
            format!("/ip4/0.0.0.0/tcp/4001/p2p/{PEER}"),
            format!("/ip4/127.0.0.1/tcp/0/p2p/{PEER}"),
            format!("/ip4/127.0.0.1/tcp/4001/p2p/{PEER}/p2p-circuit"),
            format!("/p2p/{PEER}"),
            "/ip4/127.0.0.1/tcp/4001/p2p/nobody".to_owned(),
        ] {
            assert!(PeerAddress::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn learnt_addresses_are_filtered() {
        let learnt: Vec<_> = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip6/::ffff:127.0.0.1/tcp/2",
            "/ip4/169.254.1.1/tcp/3",
            "/dns4/localhost/tcp/4",
            "/ip4/0.0.0.0/tcp/5",
            "/ip4/192.168.1.2/tcp/6",
            "/ip4/8.8.8.8/tcp/7",
            "/ip4/8.8.8.8/tcp/7",
        ]
        .map(address)
        .to_vec();
        let ports = |own| acceptable(&learnt, own).iter().map(Address::port).collect::<Vec<_>>();
        assert_eq!(ports(false), [6, 7]);
        assert_eq!(ports(true), [1, 2, 3, 4, 6, 7]);
        let many: Vec<_> = (1..100).map(|port| Address::tcp([8, 8, 8, 8].into(), port)).collect();
        assert_eq!(acceptable(&many, false).len(), MAX_ADDRESSES);
    }

    #[test]
    fn debug_hides_where_people_are() {
        assert!(!format!("{:?}", address("/ip4/8.8.8.8/tcp/7")).contains('8'));
        assert!(!format!("{:?}", address("/ip4/10.1.2.3/tcp/7")).contains('1'));
    }

    #[test]
    fn too_many_own_addresses_lose_loopback_first_and_public_last() {
        let ip = |text: &str| Address::tcp(text.parse().unwrap(), 4001);
        let mut own = vec![ip("127.0.0.1"), ip("::1"), ip("192.168.0.1")];
        own.extend((0..14).map(|n| ip(&format!("10.0.0.{n}"))));
        own.extend([ip("198.51.100.7"), ip("203.0.113.9"), ip("198.51.100.7")]);
        let told = told(own.clone());
        assert_eq!(told.len(), MAX_ADDRESSES);
        assert_eq!(told[..2], [ip("198.51.100.7"), ip("203.0.113.9")]);
        assert!(!told.iter().any(Address::is_loopback));
        own.reverse();
        assert_eq!(super::told(own), told, "whatever order they come in");
        assert_eq!(super::told(vec![ip("127.0.0.1")]), [ip("127.0.0.1")]);
    }
}
