//! Names to addresses, by the system's resolver, which is asked only when somebody could answer it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;

use rustix::io::Errno;

use crate::host::Host;

/// The DNS port; resolv.conf(5) knows no other.
const DNS: u16 = 53;

/// As many name servers as the resolver looks at (MAXNS in resolv.h).
const MAX_NAME_SERVERS: usize = 3;

/// Some have a list of all the hosts in hosts(5) that they never want to reach.
const MAX_FILE: usize = 32 << 20;

/// The addresses of `host`, a name or an address (in brackets, where it is IPv6), in their order of preference.
///
/// It is asked for in this thread: a thread of its own for it could be refused, and could not be stopped either. The
/// parent's deadline is the limit.
///
/// # Errors
/// What the resolver said, or that nobody is there to be asked: musl's resolver would wait for its full time on a machine
/// without a route, or where the port of a name server on loopback is closed.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let system = Host::new(None);
    let read = |path: &str| system.read(Path::new(path), MAX_FILE).bytes().unwrap_or_default();
    let servers = name_servers(&String::from_utf8_lossy(&read("etc/resolv.conf")));
    if !servers.iter().any(is_reachable) && !is_in_hosts(&String::from_utf8_lossy(&read("etc/hosts")), host) {
        let kind = io::ErrorKind::NetworkUnreachable;
        return Err(io::Error::new(kind, format!("no name server can be reached that could know {host}")));
    }
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Whose answer the resolver would wait for: the name servers of resolv.conf(5), this machine where it names none.
/// `None` in place of an address that we cannot read, but musl may.
fn name_servers(resolv_conf: &str) -> Vec<Option<IpAddr>> {
    let values = resolv_conf.lines().filter_map(|line| {
        let value = line.strip_prefix("nameserver").filter(|value| value.starts_with(char::is_whitespace))?;
        value.split_whitespace().next()
    });
    let servers: Vec<_> = values.take(MAX_NAME_SERVERS).map(|value| value.parse().ok()).collect();
    if servers.is_empty() { vec![Some(Ipv4Addr::LOCALHOST.into())] } else { servers }
}

/// Whether hosts(5) may know `name`; the resolver itself then reads the address.
fn is_in_hosts(hosts: &str, name: &str) -> bool {
    hosts.lines().any(|line| {
        let names = line.split('#').next().unwrap_or_default().split_whitespace().skip(1);
        names.into_iter().any(|known| known.eq_ignore_ascii_case(name))
    })
}

/// Whether an answer of `server` is possible, as far as this machine can tell at once. When in doubt, it is.
///
/// Connecting a UDP socket sends nothing and fails where there is no route. A loopback address always has one, but there a
/// closed port is reported at once: an empty datagram, which never leaves the machine and which every name server
/// drops, brings it out.
fn is_reachable(server: &Option<IpAddr>) -> bool {
    let Some(server) = *server else { return true };
    let asked = || {
        let any: IpAddr = if server.is_ipv6() { [0; 16].into() } else { [0; 4].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((server, DNS))?;
        if server.is_loopback() {
            socket.set_nonblocking(true)?;
            socket.send(&[])?;
            socket.recv(&mut [0])?;
        }
        io::Result::Ok(())
    };
    // No such family of addresses, no address of it on this machine, no route, nobody at the port.
    let hopeless = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::CONNREFUSED];
    !asked().is_err_and(|error| Errno::from_io_error(&error).is_some_and(|errno| hopeless.contains(&errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_servers_that_count() {
        let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (text, expected) in [
            ("", vec![address("127.0.0.1")]),
            ("# nameserver 192.0.2.1\nsearch example.com\noptions ndots:5\n", vec![address("127.0.0.1")]),
            ("nameserver 192.0.2.1\n", vec![address("192.0.2.1")]),
            ("nameserver\t192.0.2.1 # the first\r\n", vec![address("192.0.2.1")]),
            ("nameserver 2001:db8::53", vec![address("2001:db8::53")]),
            ("nameserver fe80::1%eth0\nnameserver 127.0.0.53\n", vec![None, address("127.0.0.53")]),
            ("nameserver\nnameservers 192.0.2.1\n nameserver 192.0.2.1\n", vec![address("127.0.0.1")]),
            (
                "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n",
                vec![address("192.0.2.1"), address("192.0.2.2"), address("192.0.2.3")],
            ),
        ] {
            assert_eq!(name_servers(text), expected, "{text}");
        }
    }

    #[test]
    fn names_in_hosts() {
        let hosts = "127.0.0.1 localhost\n192.0.2.7\tproxy.example Proxy # intern.example\n#192.0.2.8 off.example\n::1";
        for (name, expected) in [
            ("localhost", true),
            ("proxy.example", true),
            ("PROXY.EXAMPLE", true),
            ("proxy", true),
            ("127.0.0.1", false),
            ("intern.example", false),
            ("off.example", false),
            ("example", false),
            ("", false),
        ] {
            assert_eq!(is_in_hosts(hosts, name), expected, "{name}");
        }
    }

    #[test]
    fn addresses_are_not_looked_up() {
        for (host, expected) in [("192.0.2.1", "192.0.2.1:443"), ("[2001:db8::1]", "[2001:db8::1]:443")] {
            assert_eq!(resolve(host, 443).unwrap(), [expected.parse::<SocketAddr>().unwrap()], "{host}");
        }
    }
}
