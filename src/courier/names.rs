//! Names to addresses: hosts(5) first, then DNS (RFC 1035) by a stub resolver of our own.
//!
//! libc's resolver is not used. It opens /etc/resolv.conf itself, which the courier may no longer be able to read. It
//! asks for A and AAAA at once, so that one bad answer spoils the other. It waits for seconds where no answer is
//! possible. Here, both files are read before privileges are dropped, one kind of address is asked for at a time, and a
//! name server that cannot be reached is left out at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::{hash::BuildHasher, hash::RandomState, io, mem, path::Path, time::Duration};

use crate::{endpoint::is_localhost, host::Host, kernel};

/// The DNS port; resolv.conf(5) knows no other.
pub const DNS: u16 = 53;

/// As many name servers as libc's resolver looks at (MAXNS in resolv.h).
const MAX_NAME_SERVERS: usize = 3;

/// The largest file that is read. Some people list all the hosts in hosts(5) that they want to block.
const MAX_FILE: usize = 32 << 20;

/// How often a question is sent, and how long each time the answers of all name servers together are waited for.
pub const TRIES: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(1);

/// The largest answer over UDP (RFC 1035, 4.2.1). Even one that was cut has room for more addresses than are needed.
const MAX_ANSWER: usize = 512;
const HEADER: usize = 12;

/// Names of the error codes that a server answers (RFC 1035, 4.1.1). The first is ours: an answer that was cut before
/// any address.
const CODES: [&str; 6] = ["TRUNCATED", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];

/// The type of a record that holds an IPv4 address (RFC 1035, 3.2.2).
pub const A: u8 = 1;
/// The type of a record that holds an IPv6 address (RFC 3596, 2.1).
pub const AAAA: u8 = 28;

/// What the system knows about names.
#[derive(Debug)]
pub struct Names {
    hosts: String,
    servers: Vec<SocketAddr>,
}

impl Names {
    /// Reads hosts(5) and resolv.conf(5). To be called before privileges are dropped, because only root may be able to
    /// read them.
    pub fn read() -> Names {
        let host = Host::new(None);
        let text = |path| String::from_utf8_lossy(&host.read_or_empty(Path::new(path), MAX_FILE)).into_owned();
        Names { hosts: text("etc/hosts"), servers: name_servers(&text("etc/resolv.conf")) }
    }

    /// The addresses of `host` of the type `kind`, [`A`] or [`AAAA`]: those that need no name server, else those of DNS.
    ///
    /// # Errors
    /// When the name is not valid, or no name server has answered.
    pub fn find(&self, host: &str, kind: u8, tries: u32) -> io::Result<Vec<IpAddr>> {
        let found = self.local(host).map_or_else(|| self.ask(host, kind, tries), Ok)?;
        // ureq connects to no more than 16.
        Ok(found.into_iter().filter(|address| address.is_ipv4() == (kind == A)).take(16).collect())
    }

    /// The addresses of `host` that need no name server. `host` can be an address (an IPv6 one in brackets),
    /// `localhost` or a name below it (RFC 6761, 6.3), or a name in hosts(5). `None` means that DNS may know.
    fn local(&self, host: &str) -> Option<Vec<IpAddr>> {
        let bare = host.trim_start_matches('[').trim_end_matches([']', '.']).to_ascii_lowercase();
        if let Ok(address) = bare.parse() {
            return Some(vec![address]);
        }
        if is_localhost(&bare) {
            return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let line = |line: &str| {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let address = words.next()?.parse::<IpAddr>().ok()?;
            words.any(|name| name.trim_end_matches('.').eq_ignore_ascii_case(&bare)).then_some(address)
        };
        Some(self.hosts.lines().filter_map(line).collect()).filter(|addresses: &Vec<_>| !addresses.is_empty())
    }

    /// The addresses that DNS has for `name`. The name is absolute: no search domain is added. All name servers are asked
    /// at once, and the first answer counts. A server that cannot be reached, or that answers with an error, is not asked
    /// again.
    ///
    /// # Errors
    /// When the name is not valid, or no name server has answered.
    fn ask(&self, name: &str, kind: u8, tries: u32) -> io::Result<Vec<IpAddr>> {
        let query = query(name, kind)?;
        let mut why = format!("no name server can be reached to look up {name}");
        let mut sockets: Vec<UdpSocket> = self.servers.iter().filter_map(|server| connected(*server).ok()).collect();
        for _ in 0..tries {
            sockets.retain(|socket| socket.send(&query).is_ok());
            let patience = PATIENCE / sockets.len().max(1) as u32;
            for socket in mem::take(&mut sockets) {
                let mut answer = [0; MAX_ANSWER];
                socket.set_read_timeout(Some(patience))?;
                match socket.recv(&mut answer).map(|length| addresses(&answer[..length], &query)) {
                    Ok(Some(Ok(addresses))) => return Ok(addresses),
                    Ok(Some(Err(code))) => why = format!("the name server answers {code} for {name}"),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
                    // Nothing yet, or not an answer to this question.
                    Ok(None) | Err(_) => sockets.push(socket),
                }
            }
        }
        Err(io::Error::other(if sockets.is_empty() { why } else { format!("no name server has answered for {name}") }))
    }
}

/// A UDP socket that is connected to a name server. Connecting sends nothing, and fails where there is no route.
/// Messages that come back, such as "nobody is at this port" or a router's "no route", then become errors of the
/// socket.
fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    kernel::hear_routers(&socket);
    socket.connect(server).map(|()| socket)
}

/// The name servers of resolv.conf(5), or this machine where it names none.
fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let rest = line.strip_prefix("nameserver").filter(|rest| rest.starts_with(char::is_whitespace))?;
        let address = rest.split_whitespace().next()?;
        let Some((address, scope)) = address.split_once('%') else {
            return Some(SocketAddr::new(address.parse().ok()?, DNS));
        };
        // An interface, by its name or its number.
        let index = Host::new(None).line(format!("sys/class/net/{scope}/ifindex"));
        format!("[{address}%{}]:{DNS}", index.as_deref().unwrap_or(scope)).parse().ok()
    };
    let servers: Vec<_> = resolv_conf.lines().filter_map(server).take(MAX_NAME_SERVERS).collect();
    if servers.is_empty() { vec![(Ipv4Addr::LOCALHOST, DNS).into()] } else { servers }
}

/// A query (RFC 1035, 4.1) for the absolute name, with an ID that nobody can guess.
fn query(name: &str, kind: u8) -> io::Result<Vec<u8>> {
    // `RandomState` is the randomness that std offers.
    let id = (RandomState::new().hash_one(name) as u16).to_be_bytes();
    // Recursion desired; one question.
    let mut query = [&id, &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..]].concat();
    for label in name.trim_end_matches('.').split('.') {
        // A name has 253 characters at most, and a label 63 (RFC 1035, 2.3.4).
        if label.is_empty() || label.len() > 63 || query.len() + label.len() > HEADER + 253 {
            return Err(io::Error::other(format!("{name} is not a valid host name")));
        }
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, kind, 0, 1]);
    Ok(query)
}

/// The addresses in an answer to `query`, those of its aliases included. `Err` is the error code that the server
/// answers. `None` means that this is no answer to `query`.
pub fn addresses(answer: &[u8], query: &[u8]) -> Option<Result<Vec<IpAddr>, &'static str>> {
    let header = answer.get(..HEADER)?;
    let is_answer = header[2] & 0x80 != 0 && header[..2] == query[..2];
    let (question, mut rest) = answer[HEADER..].split_at_checked(query.len() - HEADER).unwrap_or_default();
    let is_to_query = header[4..6] == query[4..6] && question.eq_ignore_ascii_case(&query[HEADER..]);
    // Code 0 is no error, and code 3 means that there is no such name. Another error may come without the question.
    let code = header[3] & 0xf;
    let is_error = ![0, 3].contains(&code);
    if !is_answer || !(is_to_query || is_error && header[4..6] == [0, 0]) {
        return None;
    }
    if is_error {
        return Some(Err(CODES.get(usize::from(code)).unwrap_or(&"an error")));
    }
    let mut addresses = Vec::new();
    for _ in 0..u16::from_be_bytes([header[6], header[7]]) {
        // In an answer that was cut off, the last record may be incomplete.
        let Some((record, data, after)) = record(rest) else { break };
        // Four bytes are IPv4, and sixteen are IPv6. `find` drops the other kind.
        let address = <[u8; 4]>::try_from(data).map(IpAddr::from);
        let address = address.or_else(|_| <[u8; 16]>::try_from(data).map(IpAddr::from)).ok();
        // The record counts if it has the question's type and class. The question ends with these.
        addresses.extend(address.filter(|_| question.ends_with(&record)));
        rest = after;
    }
    // The third byte's second bit says that the answer was cut.
    Some(if header[2] & 2 != 0 && addresses.is_empty() { Err(CODES[0]) } else { Ok(addresses) })
}

/// The type and class of the first record (RFC 1035, 4.1.3), its data, and what follows.
fn record(rest: &[u8]) -> Option<([u8; 4], &[u8], &[u8])> {
    // Its name is skipped: labels up to an empty one or a pointer. An answer has room for no more than 256 labels.
    let rest = match *rest.first()? {
        0 => &rest[1..],
        0xc0.. => rest.get(2..)?,
        length => return record(rest.get(1 + usize::from(length)..)?),
    };
    let (head, rest) = rest.split_first_chunk::<10>()?;
    let (data, after) = rest.split_at_checked(u16::from_be_bytes([head[8], head[9]]).into())?;
    Some(([head[0], head[1], head[2], head[3]], data, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_servers_that_count() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), DNS);
        let local = || vec![address("127.0.0.1")];
        for (text, expected) in [
            ("", local()),
            ("# nameserver 192.0.2.1\nsearch example.com\noptions ndots:5\n", local()),
            ("nameserver 192.0.2.1\n", vec![address("192.0.2.1")]),
            ("nameserver\t192.0.2.1 # the first\r\n", vec![address("192.0.2.1")]),
            ("nameserver 2001:db8::53", vec![address("2001:db8::53")]),
            ("nameserver fe80::1%7\n", vec!["[fe80::1%7]:53".parse().unwrap()]),
            // Loopback is the first interface of every network namespace.
            ("nameserver fe80::1%lo\n", vec!["[fe80::1%1]:53".parse().unwrap()]),
            ("nameserver fe80::1%none\nnameserver 127.0.0.53\n", vec![address("127.0.0.53")]),
            ("nameserver\nnameservers 192.0.2.1\n nameserver 192.0.2.1\n", local()),
            (
                "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n",
                ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(address).into(),
            ),
        ] {
            assert_eq!(name_servers(text), expected, "{text}");
        }
    }

    #[test]
    fn what_needs_no_name_server() {
        let hosts = "127.0.0.1 other\n::7 dual.example\n192.0.2.7\tproxy.example Proxy dual.example # intern.example\n\
            #192.0.2.8 off.example\nfe80::1%lo scoped.example\n192.0.2.9 localhost\n192.0.2.10  LAST.example";
        let names = Names { hosts: hosts.to_owned(), servers: Vec::new() };
        for (name, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("localhost", "127.0.0.1 ::1"),
            ("LOCALHOST.", "127.0.0.1 ::1"),
            ("a.localhost", "127.0.0.1 ::1"),
            ("proxy.example", "192.0.2.7"),
            ("PROXY.EXAMPLE.", "192.0.2.7"),
            ("proxy", "192.0.2.7"),
            ("dual.example", "::7 192.0.2.7"),
            ("last.example", "192.0.2.10"),
            ("notlocalhost", ""),
            ("intern.example", ""),
            ("off.example", ""),
            ("example", ""),
        ] {
            let found: Vec<String> = names.local(name).unwrap_or_default().iter().map(IpAddr::to_string).collect();
            assert_eq!(found.join(" "), expected, "{name}");
        }
    }

    /// An answer to `query`, from its header on.
    fn answer(query: &[u8], flags: [u8; 2], records: &[&[u8]]) -> Vec<u8> {
        let head = [&query[..2], &flags, &[0, 1, 0, records.len() as u8, 0, 0, 0, 0]].concat();
        [&head[..], &query[HEADER..], &records.concat()].concat()
    }

    #[test]
    fn what_an_answer_says() {
        let query = query("Check.example", A).unwrap();
        let alias: &[u8] = b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x0c";
        let first: &[u8] = b"\x01a\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";
        let second: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x02";
        let (ok, loopback) = ([0x81, 0x80], |last| IpAddr::from([192, 0, 2, last]));
        let of = |bytes: &[u8]| addresses(bytes, &query);
        assert_eq!(of(&answer(&query, ok, &[second])), Some(Ok(vec![loopback(2)])));
        assert_eq!(of(&answer(&query, ok, &[alias, first, second])), Some(Ok(vec![loopback(1), loopback(2)])));
        assert_eq!(of(&answer(&query, ok, &[])), Some(Ok(Vec::new())));
        assert_eq!(of(&answer(&query, [0x81, 0x83], &[])), Some(Ok(Vec::new())));
        assert_eq!(of(&answer(&query, [0x81, 0x82], &[])), Some(Err("SERVFAIL")));
        // A server that refuses may leave the question out. No other answer may.
        let bare = |code| [&query[..2], &[0x81, code, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!([of(&bare(5)), of(&bare(0)), of(&bare(3))], [Some(Err("REFUSED")), None, None]);
        // An answer that was cut off: the addresses in it suffice, and without any it is an error.
        assert_eq!(of(&answer(&query, [0x83, 0x80], &[second])), Some(Ok(vec![loopback(2)])));
        assert_eq!(of(&answer(&query, [0x83, 0x80], &[alias])), Some(Err("TRUNCATED")));
        assert_eq!(of(&answer(&query, [0x83, 0x80], &[])), Some(Err("TRUNCATED")));
        // A server may change the case of the name.
        let mut lower = answer(&query, ok, &[second]);
        // The random ID stays, as it may hold capitals.
        lower[2..].make_ascii_lowercase();
        assert_eq!(of(&lower), Some(Ok(vec![loopback(2)])));
        // IPv4 is no answer to the question for IPv6.
        let v6 = super::query("Check.example", AAAA).unwrap();
        let mixed = answer(
            &v6,
            ok,
            &[second, b"\xc0\x0c\0\x1c\0\x01\0\0\0\x3c\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"],
        );
        assert_eq!(addresses(&mixed, &v6), Some(Ok(vec!["2001:db8::1".parse().unwrap()])));
        // Another's ID, a question in place of an answer, another name.
        let other = [&query[..HEADER], &super::query("other.example", A).unwrap()[HEADER..]].concat();
        for foreign in
            [answer(&[&[!query[0], 9], &query[2..]].concat(), ok, &[second]), query.clone(), answer(&other, ok, &[])]
        {
            assert_eq!(of(&foreign), None, "{foreign:?}");
        }
        // Whatever is cut off, what came before it stays, and nothing is read that is not there.
        let whole = answer(&query, ok, &[first, second]);
        for end in 0..whole.len() {
            let found = of(&whole[..end]);
            let first_is_whole = end >= query.len() + first.len();
            assert_eq!(found.is_some(), end >= query.len(), "{end}");
            assert_eq!(found.is_some_and(|it| it == Ok(vec![loopback(1)])), first_is_whole, "{end}");
        }
    }

    #[test]
    fn what_can_be_asked_for() {
        assert_eq!(query("a.bc.", AAAA).unwrap()[HEADER..], *b"\x01a\x02bc\0\0\x1c\0\x01");
        let longest = format!("{}bc", "a.".repeat(125) + "a");
        assert_eq!((longest.len(), query(&longest, A).is_ok()), (253, true));
        assert!(query(&format!("{longest}d"), A).is_err());
        let long = format!("{}.example", "a".repeat(64));
        for name in ["", ".", "a..b", ".a", &long, &"a.".repeat(130)] {
            assert!(query(name, A).is_err(), "{name}");
        }
    }
}
