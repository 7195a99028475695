//! Where something listens in this network namespace, as the system's tables say: to connect would be
//! counted by whoever listens, and to bind could be in its way as it starts.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// How the tables call sockets that listen.
const LISTENS: &str = "0A";

/// The addresses at which something listens at a port of TCP.
///
/// # Errors
/// The system does not say.
pub(super) fn at(port: u16) -> io::Result<Vec<IpAddr>> {
    let mut found = of("/proc/net/tcp", port)?;
    // Where there is no IPv6, there is no table either.
    found.extend(of("/proc/net/tcp6", port).unwrap_or_default());
    Ok(found)
}

fn of(table: &str, port: u16) -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for line in BufReader::new(File::open(table)?).lines() {
        let listener = listener(&line?);
        if let Some((address, _)) = listener.filter(|(_, at)| *at == port) {
            found.push(address);
        }
    }
    Ok(found)
}

/// Who listens by a line of a table: its number, its own end, the other end, its state, and more.
fn listener(line: &str) -> Option<(IpAddr, u16)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    if fields.nth(1)? != LISTENS {
        return None;
    }
    Some((ip(address)?, u16::from_str_radix(port, 16).ok()?))
}

/// An address as numbers of 32 bits, each as it lies in this machine's memory.
fn ip(hexadecimal: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hexadecimal.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hexadecimal.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let [a, b, c, d] = [word(0)?, word(1)?, word(2)?, word(3)?];
            let octets: [u8; 16] = [a, b, c, d].concat().try_into().ok()?;
            Some(Ipv6Addr::from(octets).to_canonical())
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_listens_is_found_and_what_is_connected_is_not() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let bound = listener.local_addr().unwrap();
            assert_eq!(at(bound.port()).unwrap(), [bound.ip()]);
            let connected = TcpStream::connect(bound).unwrap();
            let client = connected.local_addr().unwrap().port();
            assert!(at(client).unwrap().is_empty());
        }
    }
}
