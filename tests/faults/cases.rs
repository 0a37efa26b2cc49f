//! The matrix: every fault of the network that a run has to survive, and what must come of it. One line a case.

use crate::name_server::Names;
use Left::{Delivered, Pending, Refused};
use Time::{AtOnce, Budget, DeadAddress};

/// What a run leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The family is marked, nothing waits, and there is a receipt.
    Delivered,
    /// The record waits; the family is not marked.
    Pending,
    /// The server does not want it: nothing waits, and the family is not marked.
    Refused,
}

/// How long a run may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// As long as its budget.
    Budget,
    /// There is nothing to wait for.
    AtOnce,
    /// Half of the connect timeout, which is the budget's at most, for the address that is dead.
    DeadAddress,
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What the table calls it.
    pub name: &'static str,
    /// `-t`, in seconds; `None`: not given, which means 3.
    pub timeout: Option<u32>,
    /// The name server.
    pub names: Names,
    /// What nftables drops, as rules of the chains input (as if it had never been sent) and output.
    pub dropped: &'static [&'static str],
    /// Options of the receiver for far.test, port 8443; `None`: nobody is there.
    pub far: Option<&'static [&'static str]>,
    /// Options of the receiver for other.test, and how many requests it gets from a run; `None`: nobody is there.
    pub other: Option<(&'static [&'static str], usize)>,
    /// Where the record goes.
    pub url: &'static str,
    /// HTTPS_PROXY.
    pub proxy: &'static str,
    /// How long it may take.
    pub time: Time,
    /// What must be left.
    pub left: Left,
    /// What the line on stderr must say.
    pub said: &'static str,
}

const URL: &str = "https://far.test:8443/v1";
const BUDGET: Case = Case {
    name: "",
    timeout: Some(1),
    names: Names::Hosts,
    dropped: &[],
    far: Some(&[]),
    other: None,
    url: URL,
    proxy: "",
    time: Budget,
    left: Pending,
    said: "pending",
};
const AT_ONCE: Case = Case { timeout: None, time: AtOnce, ..BUDGET };
const ANSWER: Case = Case { said: "receive: ", ..AT_ONCE };
const SENT: Case = Case { left: Delivered, said: "sent one install record", ..AT_ONCE };
const RESOLVE: Case = Case { said: "resolve: ", ..BUDGET };
const TWO_ADDRESSES: Case = Case { names: Names::Good, time: DeadAddress, far: Some(BOTH), ..SENT };
const PROXY: Case =
    Case { proxy: "http://far.test:8443", other: Some((&[], 0)), url: OTHER, said: "proxy: ", ..BUDGET };

const ONLY_V6: &[&str] = &["--address", "::1"];
const BOTH: &[&str] = &["--address", "127.0.0.1", "--address", "::1"];
const OTHER: &str = "https://other.test:8444/v1";
/// Where a redirect leads: another machine, and the same port.
const ELSEWHERE: &[&str] = &["--address", "127.0.0.2", "--port", "8443"];
const PLAIN: &[&str] = &["--address", "127.0.0.2", "--port", "8443", "--plain"];
const V4: &str = "input ip daddr 127.0.0.1 tcp dport 8443 drop";
const V6: &str = "input ip6 daddr ::1 tcp dport 8443 drop";

macro_rules! url {
    ($path:literal) => {
        concat!("https://far.test:8443", $path)
    };
}

macro_rules! to_other {
    ($path:literal, $scheme:literal) => {
        concat!("https://far.test:8443", $path, "?to=", $scheme, "://other.test:8443/v1")
    };
}

/// In the order of the way through: names, connections, TLS, HTTP, redirects, answers, proxies.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    Case { name: "no fault at all", ..SENT },
    Case { name: "no fault at all, names by DNS", names: Names::Good, ..SENT },

    Case { name: "DNS: mute", timeout: None, names: Names::Mute, ..RESOLVE },
    Case { name: "DNS: nobody on its port", names: Names::Nobody, timeout: None, time: AtOnce, ..RESOLVE },
    Case { name: "DNS: REFUSED", names: Names::Code(5), ..RESOLVE },
    Case { name: "DNS: SERVFAIL", names: Names::Code(2), ..RESOLVE },
    Case { name: "DNS: NXDOMAIN", names: Names::Code(3), timeout: None, time: AtOnce, ..RESOLVE },
    Case { name: "DNS: slow, 5 s", names: Names::Slow(5), ..RESOLVE },
    Case { name: "DNS: garbage", names: Names::Garbage, ..RESOLVE },
    Case { name: "DNS: no resolv.conf", names: Names::NotConfigured, timeout: None, time: AtOnce, ..RESOLVE },
    Case { name: "DNS: no route to the server", names: Names::NoRoute, timeout: None, time: AtOnce, ..RESOLVE },

    Case { name: "DNS: route prohibit", names: Names::Route("prohibit"), timeout: None, time: AtOnce, ..RESOLVE },
    Case { name: "DNS: route blackhole", names: Names::Route("blackhole"), timeout: None, time: AtOnce, ..RESOLVE },
    Case { name: "DNS: route unreachable", names: Names::Route("unreachable"), timeout: None, time: AtOnce, ..RESOLVE },
    Case { name: "DNS: a firewall lets no question out", names: Names::Good, dropped: &["output udp dport 53 drop"], timeout: None, time: AtOnce, ..RESOLVE },
    Case { name: "DNS: IPv6 is NXDOMAIN", names: Names::OnlyV4(3), ..SENT },
    Case { name: "DNS: IPv6 is SERVFAIL", names: Names::OnlyV4(2), ..SENT },
    Case { name: "DNS: IPv6 is REFUSED", names: Names::OnlyV4(5), ..SENT },
    Case { name: "DNS: IPv6 is mute, so it must not be asked for", names: Names::MuteV6, ..SENT },
    Case { name: "DNS: IPv6 only", names: Names::OnlyV6(0), far: Some(ONLY_V6), ..SENT },
    Case { name: "DNS: IPv6 only, IPv4 is SERVFAIL", names: Names::OnlyV6(2), far: Some(ONLY_V6), ..SENT },
    Case { name: "DNS: IPv6 only, IPv4 is NXDOMAIN", names: Names::OnlyV6(3), far: Some(ONLY_V6), ..SENT },
    Case { name: "DNS: resolv.conf is root's alone", names: Names::Private, ..SENT },
    Case { name: "hosts: capitals, no last line end", names: Names::HostsBare, ..SENT },

    Case { name: "connect: refused", far: None, said: "connect: ", ..AT_ONCE },
    Case { name: "connect: refused, both families", names: Names::Good, far: None, said: "connect: ", ..AT_ONCE },
    Case { name: "connect: no route", url: "https://192.0.2.1:8443/v1", said: "connect: ", ..AT_ONCE },
    Case { name: "connect: black hole, IPv4", dropped: &[V4], said: "connect: ", ..BUDGET },
    Case { name: "connect: black hole, IPv6", dropped: &[V6], url: "https://[::1]:8443/v1", said: "connect: ", ..BUDGET },
    Case { name: "connect: black hole, both", timeout: None, names: Names::Good, dropped: &[V4, V6], said: "connect: ", ..BUDGET },
    Case { name: "connect: IPv4 dead of two", dropped: &[V4], ..TWO_ADDRESSES },
    Case { name: "connect: IPv6 dead of two", dropped: &[V6], time: AtOnce, ..TWO_ADDRESSES },
    Case { name: "connect: IPv4 refused of two", far: Some(&["--address", "::1"]), time: AtOnce, ..TWO_ADDRESSES },
    Case { name: "connect: IPv6 refused of two", far: Some(&["--address", "127.0.0.1"]), time: AtOnce, ..TWO_ADDRESSES },

    Case { name: "TLS: reset after accept", far: Some(&["--fault", "reset-accept"]), said: "reset by peer", ..AT_ONCE },
    Case { name: "TLS: closed after accept", far: Some(&["--fault", "close-accept"]), said: "tls: ", ..AT_ONCE },
    Case { name: "TLS: stall after accept", far: Some(&["--fault", "stall-accept"]), said: "tls: ", ..BUDGET },
    Case { name: "TLS: reset in the handshake", far: Some(&["--fault", "reset-handshake"]), said: "tls: ", ..AT_ONCE },
    Case { name: "TLS: stall in the handshake", far: Some(&["--fault", "stall-handshake"]), said: "tls: ", ..BUDGET },
    Case { name: "TLS: garbage", far: Some(&["--fault", "garbage-handshake"]), said: "tls: ", ..AT_ONCE },
    Case { name: "TLS: plain HTTP on its port", far: Some(&["--plain"]), said: "tls: ", ..BUDGET },
    Case { name: "TLS: 1.1 only", far: Some(&["--tls", "1.1"]), said: "tls: ", ..AT_ONCE },
    Case { name: "TLS: 1.2 only", far: Some(&["--tls", "1.2"]), ..SENT },
    Case { name: "certificate: expired", far: Some(&["--cert", "expired"]), said: "certificate expired", ..AT_ONCE },
    Case { name: "certificate: not yet valid", far: Some(&["--cert", "future"]), said: "not valid yet", ..AT_ONCE },
    Case { name: "certificate: wrong host", far: Some(&["--cert", "wrong-host"]), said: "not valid for name", ..AT_ONCE },
    Case { name: "certificate: self-signed", far: Some(&["--cert", "self-signed"]), said: "UnknownIssuer", ..AT_ONCE },
    Case { name: "certificate: unknown CA", far: Some(&["--cert", "unknown-ca"]), said: "UnknownIssuer", ..AT_ONCE },

    Case { name: "HTTP: reset after the request", url: url!("/reset"), ..ANSWER },
    Case { name: "HTTP: closed after the request", url: url!("/close"), ..ANSWER },
    Case { name: "HTTP: stall after the request", timeout: None, url: url!("/stall"), said: "receive: ", ..BUDGET },
    Case { name: "HTTP: reset in the headers", url: url!("/reset-headers"), ..ANSWER },
    Case { name: "HTTP: reset in the body", url: url!("/reset-body"), ..SENT },
    Case { name: "HTTP: a byte a second", url: url!("/drip"), said: "receive: ", ..BUDGET },
    Case { name: "HTTP: endless headers", url: url!("/endless-headers"), ..ANSWER },
    Case { name: "HTTP: 20 KiB of headers", url: url!("/headers/20"), ..SENT },
    Case { name: "HTTP: 60 KiB of headers", url: url!("/headers/60"), ..SENT },
    Case { name: "HTTP: 80 KiB of headers", url: url!("/headers/80"), ..ANSWER },
    Case { name: "HTTP: endless body", url: url!("/endless-body"), ..SENT },
    Case { name: "HTTP: stall in the body", url: url!("/stall-body"), ..SENT },
    Case { name: "HTTP: 100-continue", url: url!("/continue"), ..SENT },
    Case { name: "HTTP: garbage", url: url!("/garbage"), ..ANSWER },

    Case { name: "redirect: 301", url: to_other!("/redirect/301", "https"), other: Some((ELSEWHERE, 0)), said: "answered 301 and points to https://other.test:8443/v1", ..AT_ONCE },
    Case { name: "redirect: 302", url: to_other!("/redirect/302", "https"), other: Some((ELSEWHERE, 0)), said: "answered 302 and points to https://other.test:8443/v1", ..AT_ONCE },
    Case { name: "redirect: 303", url: to_other!("/redirect/303", "https"), other: Some((ELSEWHERE, 0)), said: "answered 303 and points to https://other.test:8443/v1", ..AT_ONCE },
    Case { name: "redirect: 307", url: to_other!("/redirect/307", "https"), other: Some((ELSEWHERE, 0)), said: "answered 307 and points to https://other.test:8443/v1", ..AT_ONCE },
    Case { name: "redirect: 308", url: to_other!("/redirect/308", "https"), other: Some((ELSEWHERE, 0)), said: "answered 308 and points to https://other.test:8443/v1", ..AT_ONCE },
    Case { name: "redirect: 307 to http", url: to_other!("/redirect/307", "http"), other: Some((PLAIN, 0)), said: "points to http://other.test", ..AT_ONCE },
    Case { name: "redirect: loop", url: url!("/redirect/307"), said: "points to /redirect/307", ..AT_ONCE },

    Case { name: "answer: 204", url: url!("/204"), ..SENT },
    Case { name: "answer: 400", url: url!("/status/400"), left: Refused, said: "400", ..AT_ONCE },
    Case { name: "answer: 404", url: url!("/status/404"), left: Refused, said: "404", ..AT_ONCE },
    Case { name: "answer: 408", url: url!("/status/408"), said: "408", ..AT_ONCE },
    Case { name: "answer: 413", url: url!("/status/413"), left: Refused, said: "413", ..AT_ONCE },
    Case { name: "answer: 425", url: url!("/status/425"), said: "425", ..AT_ONCE },
    Case { name: "answer: 429, Retry-After", url: url!("/status/429?retry-after=3600"), said: "429", ..AT_ONCE },
    Case { name: "answer: 500", url: url!("/status/500"), said: "500", ..AT_ONCE },
    Case { name: "answer: 503", url: url!("/status/503"), said: "503", ..AT_ONCE },

    Case { name: "proxy: no fault at all", far: Some(&["--proxy"]), other: Some((&[], 1)), time: AtOnce, left: Delivered, said: "sent", ..PROXY },
    Case { name: "proxy: 407", far: Some(&["--proxy", "--fault", "proxy-407"]), timeout: None, time: AtOnce, ..PROXY },
    Case { name: "proxy: stall after accept", far: Some(&["--proxy", "--fault", "stall-accept"]), ..PROXY },
    Case { name: "proxy: stall in the CONNECT reply", far: Some(&["--proxy", "--fault", "proxy-stall"]), ..PROXY },
    Case { name: "proxy: drips the CONNECT reply", far: Some(&["--proxy", "--fault", "proxy-drip"]), ..PROXY },
    Case { name: "proxy: refused", far: None, timeout: None, time: AtOnce, ..PROXY },
    Case { name: "proxy: black hole", far: Some(&["--proxy"]), dropped: &[V4], ..PROXY },
    Case { name: "proxy: NXDOMAIN", names: Names::Code(3), timeout: None, time: AtOnce, ..PROXY },
    Case { name: "proxy: mute DNS", names: Names::Mute, ..PROXY },
    Case { name: "proxy: socks5://", proxy: "socks5://far.test:8443", timeout: None, time: AtOnce, said: "socks5://", ..PROXY },
];
