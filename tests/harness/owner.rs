//! Which process owns the other end of a loopback TCP connection, from `/proc` (Linux).
//!
//! It must never guess: no certain owner is `None`.

use std::{
    fs,
    net::{SocketAddr, SocketAddrV4},
};

/// The process among `candidates` whose socket goes from `client` to `server`.
///
/// Both ends are compared: a libp2p node may dial from the port it listens on.
pub(crate) fn owner(client: SocketAddr, server: SocketAddr, candidates: &[u32]) -> Option<u32> {
    let (SocketAddr::V4(client), SocketAddr::V4(server)) = (client, server) else { return None };
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = inode(&table, &kernel_text(client), &kernel_text(server))?;
    let link = format!("socket:[{inode}]");
    candidates.iter().copied().find(|pid| holds(*pid, &link))
}

/// The inode of the socket with these local and remote addresses.
fn inode<'a>(table: &'a str, local: &str, remote: &str) -> Option<&'a str> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next()? == local && words.next()? == remote).then(|| words.nth(6)).flatten()
    })
}

/// The kernel's way of writing an address: the IPv4 word as this machine stores it, in hex.
fn kernel_text(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

fn holds(pid: u32, link: &str) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == link))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn finds_the_process_of_a_connection_and_nobody_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let client = TcpStream::connect(server).unwrap();
        let _accepted = listener.accept().unwrap();
        let client = client.local_addr().unwrap();

        let me = std::process::id();
        assert_eq!(owner(client, server, &[1, me]), Some(me));
        assert_eq!(owner(client, server, &[]), None);
        let mut elsewhere = client;
        elsewhere.set_port(1);
        assert_eq!(owner(elsewhere, server, &[me]), None);
    }
}
