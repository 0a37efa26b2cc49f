//! One TCP connection to whichever of a host's addresses answers first: a dead family costs a moment, not the budget.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// How long an address is alone before the next one is tried as well (RFC 8305, 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to one of `addresses` within `timeout`: they are tried one after the other, the families in turns, each next
/// one as soon as the one before has failed or its moment is over, and none is given up before the time is. The socket
/// does not block.
///
/// # Errors
/// Why the last address failed, with the address; `TimedOut` when any was still silent.
pub fn connect(addresses: &[SocketAddr], timeout: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + timeout;
    // Of a short time, every address gets its share.
    let stagger = STAGGER.min(timeout / (addresses.len() as u32 + 2));
    let mut waiting = in_turns(addresses).into_iter();
    let mut attempts: Vec<(OwnedFd, SocketAddr)> = Vec::new();
    let mut next_at = Instant::now();
    let mut why = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let now = Instant::now();
        if now >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if now >= next_at
            && let Some(address) = waiting.next()
        {
            match begin(address) {
                Ok(socket) => {
                    attempts.push((socket, address));
                    next_at = now + stagger;
                }
                Err(error) => why = failed(address, error.into()),
            }
            continue;
        }
        if attempts.is_empty() {
            return Err(why);
        }
        let until = if waiting.len() > 0 { next_at.min(deadline) } else { deadline };
        let ready = wait(&attempts, until - now)?;
        for index in ready.into_iter().rev() {
            let (socket, address) = attempts.remove(index);
            match socket_error(&socket)? {
                Ok(()) => return Ok(socket.into()),
                Err(error) => why = failed(address, error.into()),
            }
            next_at = now;
        }
    }
}

/// The addresses in their order of preference, but the families in turns (RFC 8305, 4): what is wrong with the one is
/// wrong with all of its addresses.
fn in_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_like_first = |address: &&SocketAddr| address.is_ipv6() == addresses[0].is_ipv6();
    let (first, second): (Vec<&SocketAddr>, Vec<&SocketAddr>) = addresses.iter().partition(is_like_first);
    let mut second = second.into_iter();
    let turns = first.into_iter().flat_map(|address| [Some(address), second.next()]);
    let mut ordered: Vec<SocketAddr> = turns.flatten().copied().collect();
    ordered.extend(second);
    ordered
}

fn begin(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Which of the attempts have come to an end, by the end of `time`.
fn wait(attempts: &[(OwnedFd, SocketAddr)], time: Duration) -> io::Result<Vec<usize>> {
    let mut sockets: Vec<PollFd> = attempts.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::OUT)).collect();
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    match poll(&mut sockets, Some(&time)) {
        Ok(_) => Ok((0..sockets.len()).filter(|index| !sockets[*index].revents().is_empty()).collect()),
        Err(Errno::INTR) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn failed(address: SocketAddr, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{address}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn families_take_turns_and_keep_their_order() {
        let addresses = |text: &str| text.split_whitespace().map(|it| it.parse().unwrap()).collect::<Vec<SocketAddr>>();
        for (given, expected) in [
            ("", ""),
            ("1.1.1.1:1", "1.1.1.1:1"),
            ("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1 1.1.1.2:1", "[::1]:1 1.1.1.1:1 [::2]:1 1.1.1.2:1 [::3]:1"),
            ("1.1.1.1:1 1.1.1.2:1 [::1]:1", "1.1.1.1:1 [::1]:1 1.1.1.2:1"),
            ("1.1.1.1:1 [::1]:1 [::2]:1 [::3]:1", "1.1.1.1:1 [::1]:1 [::2]:1 [::3]:1"),
        ] {
            assert_eq!(in_turns(&addresses(given)), addresses(expected), "{given}");
        }
    }

    #[test]
    fn what_refuses_is_passed_over_and_named_when_there_is_nothing_else() {
        let time = Duration::from_secs(30);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let open = listener.local_addr().unwrap();
        // Another address of loopback, on which nobody has that port.
        let closed = SocketAddr::from(([127, 1, 2, 3], open.port()));
        let started = Instant::now();
        assert_eq!(connect(&[closed, open], time).unwrap().peer_addr().unwrap(), open);
        let refused = connect(&[closed], time).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(refused.to_string().starts_with(&closed.to_string()), "{refused}");
        assert_eq!(connect(&[], time).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
        assert!(started.elapsed() < time, "nothing of this waits");
    }

    #[test]
    fn silence_lasts_as_long_as_the_timeout() {
        // A listener whose queue is full drops what comes after.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let silent = listener.local_addr().unwrap();
        let _queued: Vec<_> = (0..3).map_while(|_| connect(&[silent], Duration::from_millis(300)).ok()).collect();
        assert_eq!(connect(&[silent], Duration::from_millis(100)).unwrap_err().kind(), io::ErrorKind::TimedOut);
        // And the one after it is not kept waiting.
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let listener = TcpListener::bind(other).unwrap();
        let started = Instant::now();
        let connected = connect(&[silent, listener.local_addr().unwrap()], Duration::from_secs(60)).unwrap();
        assert_eq!(connected.peer_addr().unwrap(), other);
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }
}
