//! A name server for one case, on 127.0.0.1 port 53 (RFC 1035), which answers well or in one of the bad ways.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::thread;
use std::time::Duration;

/// What the name server does. A good answer is loopback's address of the family that is asked for. A code is 2 SERVFAIL,
/// 3 NXDOMAIN, 5 REFUSED, or 0 without an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Nobody,
    Good,
    Mute,
    Code(u8),
    /// It answers well after these many seconds.
    Slow(u64),
    /// It answers with bytes that are no answer.
    Garbage,
    /// It answers well for IPv4, and with this code for IPv6.
    OnlyV4(u8),
    /// It answers well for IPv4, and never for IPv6.
    MuteV6,
    /// It answers well for IPv6, and with this code for IPv4.
    OnlyV6(u8),
    /// It answers well for IPv6 after a second and a half, and at once without an address for IPv4.
    LateV6,
}

impl Server {
    pub fn serve(self) {
        if self == Server::Nobody {
            return;
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).expect("port 53");
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut query) {
                let Some(answer) = self.answer(&query[..length]) else { continue };
                if let Server::Slow(seconds) = self {
                    thread::sleep(Duration::from_secs(seconds));
                }
                // The seventh and the eighth byte count what is in the answer.
                if self == Server::LateV6 && answer[7] > 0 {
                    thread::sleep(Duration::from_millis(1500));
                }
                let _ = socket.send_to(&answer, peer);
            }
        });
    }

    fn answer(self, query: &[u8]) -> Option<Vec<u8>> {
        const HEADER: usize = 12;
        let kind = HEADER + query.get(HEADER..)?.iter().position(|b| *b == 0)? + 1;
        let question = query.get(HEADER..kind + 4)?;
        let address: &[u8] = match query[kind..kind + 2] {
            [0, 1] => &Ipv4Addr::LOCALHOST.octets(),
            [0, 28] => &Ipv6Addr::LOCALHOST.octets(),
            _ => &[],
        };
        let (code, address) = match self {
            Server::Mute => return None,
            Server::MuteV6 if address.len() != 4 => return None,
            Server::Garbage => return Some([&query[..2], &[0xff; 40]].concat()),
            Server::Code(code) => (code, &[][..]),
            Server::OnlyV4(code) if address.len() != 4 => (code, &[][..]),
            Server::LateV6 if address.len() != 16 => (0, &[][..]),
            Server::OnlyV6(code) if address.len() != 16 => (code, &[][..]),
            _ => (0, address),
        };
        let answers = u8::from(!address.is_empty());
        // The same ID; a response, recursion desired and available; one question.
        let mut answer = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0];
        answer.extend_from_slice(question);
        if answers > 0 {
            // The question's name, type and class, for a minute.
            let length = address.len() as u8;
            answer.extend([&[0xc0, HEADER as u8], &query[kind..kind + 4], &[0, 0, 0, 60, 0, length], address].concat());
        }
        Some(answer)
    }
}
