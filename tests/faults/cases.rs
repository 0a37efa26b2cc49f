//! The matrix: every fault of the network that a run has to survive, and what must come of it. One line a case.

use crate::name_server::Server;
use Left::{Delivered, Pending, Refused};
use Server::{Code, Garbage, Good, LateV6, Mute, MuteV6, Nobody, OnlyV4, OnlyV6, Slow};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The family is marked, nothing waits, and there is a receipt of what was accepted.
    Delivered,
    /// The record waits; the family is not marked.
    Pending,
    /// The server does not want it: nothing waits, and the family is not marked.
    Refused,
}

#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    /// `-t` and `-c`, which are 3 and 2 where they are not given.
    pub limits: &'static str,
    /// /etc/hosts and /etc/resolv.conf.
    pub hosts: &'static str,
    pub resolv_conf: &'static str,
    pub server: Server,
    /// Commands for sh, before anything else.
    pub prepare: &'static [&'static str],
    /// Options of the receiver for far.test, port 8443; `None`: nobody is there.
    pub far: Option<&'static [&'static str]>,
    /// Options of the receiver for other.test, and how many requests it gets from a run; `None`: nobody is there.
    pub other: Option<(&'static [&'static str], usize)>,
    /// Where the record goes, and HTTPS_PROXY.
    pub url: &'static str,
    pub proxy: &'static str,
    /// How many seconds a run may take: all of its budget, the connect timeout (2), a share of that for one address, or no
    /// time at all, which is one second here. And how many it takes at least.
    pub time: f64,
    pub least: f64,
    pub left: Left,
    /// What the line on stderr must say.
    pub said: &'static str,
}

const BUDGET: Case = Case {
    name: "",
    limits: "-t 1",
    hosts: "127.0.0.1 far.test\n127.0.0.2 other.test\n",
    resolv_conf: LOOPBACK,
    server: Nobody,
    prepare: &[],
    far: Some(&[]),
    other: None,
    url: "https://far.test:8443/v1",
    proxy: "",
    time: 1.0,
    least: 0.0,
    left: Pending,
    said: "pending",
};
const AT_ONCE: Case = Case { limits: "", ..BUDGET };
const ANSWER: Case = Case { said: "(receive: Connection reset", ..AT_ONCE };
const SENT: Case = Case { left: Delivered, said: "sent one install record", ..AT_ONCE };
const DNS: Case = Case { hosts: "", server: Good, ..SENT };
const MUTE: Case = Case { hosts: "", server: Mute, said: "(resolve: ", ..BUDGET };
const UNREACHABLE: Case =
    Case { hosts: "", resolv_conf: ELSEWHERE, said: "(resolve: no name server can be reached", ..AT_ONCE };
const REJECTED: Case = Case { resolv_conf: LOOPBACK, ..UNREACHABLE };
const TLS: Case = Case { said: "(tls: ", ..AT_ONCE };
const DUAL: Case = Case { far: Some(BOTH), time: 1.5, ..DNS };
const REFUSED: Case = Case { said: "(connect: 127.0.0.1:8443: Connection refused", far: None, ..AT_ONCE };
const REDIRECT: Case = Case { other: Some((OTHER, 0)), ..AT_ONCE };
/// Only the proxy looks the endpoint's name up.
const PROXY: Case =
    Case { proxy: "http://far.test:8443", other: Some((&[], 0)), url: "https://nowhere.test:8444/v1", ..AT_ONCE };
const SLOW_PROXY: Case = Case { time: 2.0, said: "(proxy: far.test: timed out)", ..PROXY };

const LOOPBACK: &str = "nameserver 127.0.0.1\n";
const LOOPBACK_V6: &str = "nameserver ::1\n";
const ELSEWHERE: &str = "nameserver 192.0.2.53\n";
const THREE: &str = "nameserver 192.0.2.53\nnameserver ::1\nnameserver 127.0.0.1\n";
const OPTIONS: &str = "search a.test b.test\noptions ndots:3 timeout:1 attempts:1 rotate edns0\nnameserver 127.0.0.1\n";
const ONLY_V6: Option<&[&str]> = Some(&["--address", "::1"]);
const BOTH: &[&str] = &["--address", "127.0.0.1", "--address", "::1"];
/// Where a redirect leads: another machine, and the same port.
const OTHER: &[&str] = &["--address", "127.0.0.2", "--port", "8443"];
const PLAIN: &[&str] = &["--address", "127.0.0.2", "--port", "8443", "--plain"];

const INPUT: &str = "nft 'add table inet t; add chain inet t input { type filter hook input priority 0; }'";
const OUTPUT: &str = "nft 'add table inet t; add chain inet t output { type filter hook output priority 0; }'";
const V4: &str = "nft add rule inet t input ip daddr 127.0.0.1 tcp dport 8443 drop";
const V4_OTHERS: &str = "nft add rule inet t input ip daddr 127.0.0.8/29 tcp dport 8443 drop";
const FIVE_DEAD: &str = "127.0.0.9 far.test\n127.0.0.10 far.test\n127.0.0.11 far.test\n127.0.0.12 far.test\n127.0.0.13 far.test\n::1 far.test\n";
/// 17, of which the first one accepts.
const MANY: &str = "127.0.0.1 far.test\n127.0.0.2 far.test\n127.0.0.3 far.test\n127.0.0.4 far.test\n127.0.0.5 far.test\n127.0.0.6 far.test\n127.0.0.7 far.test\n127.0.0.8 far.test\n127.0.0.9 far.test\n127.0.0.10 far.test\n127.0.0.11 far.test\n127.0.0.12 far.test\n127.0.0.13 far.test\n127.0.0.14 far.test\n127.0.0.15 far.test\n127.0.0.16 far.test\n127.0.0.17 far.test\n";
const V6: &str = "nft add rule inet t input ip6 daddr ::1 tcp dport 8443 drop";
const ASKED: &str = "nft add rule inet t output udp dport 53 drop";
const NO_HOST: &str = "nft add rule inet t input udp dport 53 reject with icmp host-unreachable";
const NO_ROUTE_V6: &str = "nft add rule inet t input udp dport 53 reject with icmpv6 no-route";

/// In the order of the way through: names, connections, TLS, HTTP, redirects, answers, proxies.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    Case { name: "no fault at all", ..SENT },
    Case { name: "DNS: no fault at all", ..DNS },
    Case { name: "DNS: mute", limits: "", time: 3.0, ..MUTE },
    Case { name: "DNS: slower than a connection may be", limits: "-t 20 -c 1", server: Slow(2), time: 20.0, least: 2.0, ..DNS },
    Case { name: "DNS: slow, 5 s", server: Slow(5), ..MUTE },
    Case { name: "DNS: REFUSED", server: Code(5), said: "REFUSED for far.test", ..MUTE },
    Case { name: "DNS: SERVFAIL", server: Code(2), said: "SERVFAIL for far.test", ..MUTE },
    Case { name: "DNS: NXDOMAIN", server: Code(3), said: "(resolve: far.test has no address", ..MUTE },
    Case { name: "DNS: garbage", server: Garbage, ..MUTE },
    Case { name: "DNS: nobody on its port", resolv_conf: OPTIONS, ..UNREACHABLE },
    Case { name: "DNS: none of three", resolv_conf: THREE, ..UNREACHABLE },
    Case { name: "DNS: the third of three", resolv_conf: THREE, ..DNS },
    Case { name: "DNS: one with a scope, and one that answers", resolv_conf: "nameserver fe80::1%lo\nnameserver 127.0.0.1\n", ..DNS },
    Case { name: "DNS: no resolv.conf, one that answers", prepare: &["rm /etc/resolv.conf"], ..DNS },
    Case { name: "DNS: resolv.conf is root's alone", prepare: &["chmod 600 /etc/resolv.conf"], ..DNS },
    Case { name: "DNS: no interface", prepare: &["ip link set lo down"], far: None, ..UNREACHABLE },
    Case { name: "DNS: no route", ..UNREACHABLE },
    Case { name: "DNS: route prohibit", prepare: &["ip route add prohibit 192.0.2.0/24"], ..UNREACHABLE },
    Case { name: "DNS: route blackhole", prepare: &["ip route add blackhole 192.0.2.0/24"], ..UNREACHABLE },
    Case { name: "DNS: route unreachable", prepare: &["ip route add unreachable 192.0.2.0/24"], ..UNREACHABLE },
    Case { name: "DNS: a firewall lets no question out", server: Good, prepare: &[OUTPUT, ASKED], ..REJECTED },
    Case { name: "DNS: a router reaches no such host", prepare: &[INPUT, NO_HOST], ..REJECTED },
    Case { name: "DNS: a router has no route, IPv6", prepare: &[INPUT, NO_ROUTE_V6], resolv_conf: LOOPBACK_V6, ..REJECTED },
    Case { name: "DNS: IPv6 is NXDOMAIN", server: OnlyV4(3), ..DNS },
    Case { name: "DNS: IPv6 is SERVFAIL", server: OnlyV4(2), ..DNS },
    Case { name: "DNS: IPv6 is REFUSED", server: OnlyV4(5), ..DNS },
    Case { name: "DNS: IPv6 is mute, so it must not be asked for", server: MuteV6, ..DNS },
    Case { name: "DNS: IPv6 only", server: OnlyV6(0), far: ONLY_V6, ..DNS },
    Case { name: "DNS: IPv6 only, IPv4 is SERVFAIL", server: OnlyV6(2), far: ONLY_V6, ..DNS },
    Case { name: "DNS: IPv6 only, IPv4 is NXDOMAIN", server: OnlyV6(3), far: ONLY_V6, ..DNS },
    Case { name: "DNS: IPv6 only, later than in the first second", limits: "-t 20", server: LateV6, far: ONLY_V6, time: 20.0, least: 1.4, ..DNS },
    Case { name: "connect: refused", ..REFUSED },
    Case { name: "connect: refused, IPv6", url: "https://[::1]:8443/v1", said: "(connect: [::1]:8443: Connection refused", ..REFUSED },
    Case { name: "connect: more addresses than are tried", hosts: MANY, ..SENT },
    Case { name: "connect: no route", url: "https://192.0.2.1:8443/v1", said: "(connect: 192.0.2.1:8443: Network ", ..AT_ONCE },
    Case { name: "connect: black hole, IPv4", prepare: &[INPUT, V4], said: "(connect: ", ..BUDGET },
    Case { name: "connect: black hole, IPv6", prepare: &[INPUT, V6], url: "https://[::1]:8443/v1", said: "(connect: ", ..BUDGET },
    Case { name: "connect: black hole, both", prepare: &[INPUT, V4, V6], left: Pending, said: "(connect: [::1]:8443: timed out)", time: 2.0, least: 1.9, ..DUAL },
    Case { name: "connect: black hole, IPv4, and no IPv6", limits: "-t 20", server: OnlyV4(0), hosts: "", prepare: &[INPUT, V4], said: "(connect: 127.0.0.1:8443: timed out)", time: 1.5, least: 1.4, ..AT_ONCE },
    Case { name: "connect: IPv4 dead of two", prepare: &[INPUT, V4], ..DUAL },
    Case { name: "connect: IPv6 dead of two", prepare: &[INPUT, V6], ..DUAL },
    Case { name: "connect: five dead of six", hosts: FIVE_DEAD, server: Nobody, prepare: &[INPUT, V4_OTHERS], far: ONLY_V6, time: 2.0, ..SENT },
    Case { name: "connect: IPv4 first, in whatever order", hosts: "::1 far.test\n127.0.0.1 far.test\n", other: Some((&["--address", "::1", "--port", "8443"], 0)), ..SENT },
    Case { name: "connect: IPv4 refused of two", far: ONLY_V6, ..DUAL },
    Case { name: "TLS: reset after accept", far: Some(&["--fault", "reset-accept"]), said: "reset by peer", ..TLS },
    Case { name: "TLS: closed after accept", far: Some(&["--fault", "close-accept"]), ..TLS },
    Case { name: "TLS: stall after accept", limits: "-t 1", far: Some(&["--fault", "stall-accept"]), ..TLS },
    Case { name: "TLS: reset in the handshake", far: Some(&["--fault", "reset-handshake"]), ..TLS },
    Case { name: "TLS: stall in the handshake", far: Some(&["--fault", "stall-handshake"]), said: "(tls: timed out)", time: 2.0, least: 1.9, ..TLS },
    Case { name: "TLS: garbage", far: Some(&["--fault", "garbage-handshake"]), ..TLS },
    Case { name: "TLS: plain HTTP on its port", limits: "-t 1", far: Some(&["--plain"]), ..TLS },
    Case { name: "TLS: 1.1 only", far: Some(&["--tls", "1.1"]), ..TLS },
    Case { name: "TLS: 1.2 only", far: Some(&["--tls", "1.2"]), ..SENT },
    Case { name: "certificate: expired", far: Some(&["--cert", "expired"]), said: "certificate expired", ..TLS },
    Case { name: "certificate: not yet valid", far: Some(&["--cert", "future"]), said: "not valid yet", ..TLS },
    Case { name: "certificate: wrong host", far: Some(&["--cert", "wrong-host"]), said: "not valid for name", ..TLS },
    Case { name: "certificate: self-signed", far: Some(&["--cert", "self-signed"]), said: "UnknownIssuer", ..TLS },
    Case { name: "certificate: unknown CA", far: Some(&["--cert", "unknown-ca"]), said: "UnknownIssuer", ..TLS },
    Case { name: "HTTP: reset after the request", url: "https://far.test:8443/reset", ..ANSWER },
    Case { name: "HTTP: closed after the request", url: "https://far.test:8443/close", said: "(receive: the other side hung up)", ..ANSWER },
    Case { name: "HTTP: stall after the request", url: "https://far.test:8443/stall", said: "(receive: ", time: 3.0, ..ANSWER },
    Case { name: "HTTP: reset in the headers", url: "https://far.test:8443/reset-headers", ..ANSWER },
    Case { name: "HTTP: reset in the body", url: "https://far.test:8443/reset-body", ..SENT },
    Case { name: "HTTP: a byte a second", url: "https://far.test:8443/drip", said: "(receive: ", ..BUDGET },
    Case { name: "HTTP: endless headers", url: "https://far.test:8443/endless-headers", said: "(receive: response header is too big: ", ..ANSWER },
    Case { name: "HTTP: 60 KiB of headers", url: "https://far.test:8443/headers/60", ..SENT },
    Case { name: "HTTP: 80 KiB of headers", url: "https://far.test:8443/headers/80", said: "(receive: response header is too big: ", ..ANSWER },
    Case { name: "HTTP: endless body", url: "https://far.test:8443/endless-body", ..SENT },
    Case { name: "HTTP: stall in the body", url: "https://far.test:8443/stall-body", ..SENT },
    Case { name: "HTTP: 100-continue", url: "https://far.test:8443/continue", ..SENT },
    Case { name: "HTTP: garbage", url: "https://far.test:8443/garbage", said: "(receive: protocol: ", ..ANSWER },
    Case { name: "redirect: 301", url: "https://far.test:8443/redirect/301?to=https://other.test:8443/v1", said: "answered 301 and points to https://other.test:8443/v1", ..REDIRECT },
    Case { name: "redirect: 303", url: "https://far.test:8443/redirect/303?to=https://other.test:8443/v1", said: "answered 303 and points to https://other.test:8443/v1", ..REDIRECT },
    Case { name: "redirect: 307", url: "https://far.test:8443/redirect/307?to=https://other.test:8443/v1", said: "answered 307 and points to https://other.test:8443/v1", ..REDIRECT },
    Case { name: "redirect: 308", url: "https://far.test:8443/redirect/308?to=https://other.test:8443/v1", said: "answered 308 and points to https://other.test:8443/v1", ..REDIRECT },
    Case { name: "redirect: 307 to http", url: "https://far.test:8443/redirect/307?to=http://other.test:8443/v1", other: Some((PLAIN, 0)), said: "points to http://other.test", ..REDIRECT },
    Case { name: "redirect: what may be a password is not said", url: "https://far.test:8443/redirect/307?to=/user:s3cret@final", said: "(receive: far.test answered 307 and points to another place)", ..REDIRECT },
    Case { name: "redirect: loop", url: "https://far.test:8443/redirect/307", said: "points to /redirect/307", ..REDIRECT },
    Case { name: "answer: 204", url: "https://far.test:8443/204", ..SENT },
    Case { name: "answer: 400", url: "https://far.test:8443/status/400", left: Refused, said: "answered 400", ..AT_ONCE },
    Case { name: "answer: 408", url: "https://far.test:8443/status/408", said: "answered 408", ..AT_ONCE },
    Case { name: "answer: 413", url: "https://far.test:8443/status/413", left: Refused, said: "answered 413", ..AT_ONCE },
    Case { name: "answer: 425", url: "https://far.test:8443/status/425", said: "answered 425", ..AT_ONCE },
    Case { name: "answer: 429, Retry-After", url: "https://far.test:8443/status/429?retry-after=3600", said: "answered 429", ..AT_ONCE },
    Case { name: "answer: 500", url: "https://far.test:8443/status/500", said: "answered 500", ..AT_ONCE },
    Case { name: "answer: 503", url: "https://far.test:8443/status/503", said: "answered 503", ..AT_ONCE },
    Case { name: "proxy: no fault at all", far: Some(&["--proxy"]), other: Some((&[], 1)), left: Delivered, said: "sent one install record", ..PROXY },
    Case { name: "proxy: over TLS, and no proxy", proxy: "https://far.test:8443", said: "(proxy: far.test: CONNECT proxy failed: proxy server responded 405", ..PROXY },
    Case { name: "proxy: 407", far: Some(&["--proxy", "--fault", "proxy-407"]), said: "(proxy: far.test: CONNECT proxy failed: proxy server responded 407", ..PROXY },
    Case { name: "proxy: 407, by IPv6 alone", hosts: "::1 far.test\n", far: Some(&["--address", "::1", "--proxy", "--fault", "proxy-407"]), said: "(proxy: far.test: CONNECT proxy failed: proxy server responded 407", ..PROXY },
    Case { name: "proxy: 407 by IPv4, so IPv6 is not asked", hosts: "127.0.0.1 far.test\n::1 far.test\n", far: Some(&["--proxy", "--fault", "proxy-407"]), other: Some((&["--address", "::1", "--port", "8443", "--plain"], 0)), said: "(proxy: far.test: CONNECT proxy failed: proxy server responded 407", ..PROXY },
    Case { name: "proxy: closed after accept", far: Some(&["--proxy", "--fault", "close-accept"]), said: "(proxy: far.test: CONNECT proxy failed: proxy server did not respond)", ..PROXY },
    Case { name: "proxy: stall after accept", far: Some(&["--proxy", "--fault", "stall-accept"]), ..SLOW_PROXY },
    Case { name: "proxy: stall in the CONNECT reply", far: Some(&["--proxy", "--fault", "proxy-stall"]), ..SLOW_PROXY },
    Case { name: "proxy: drips the CONNECT reply", far: Some(&["--proxy", "--fault", "proxy-drip"]), said: "(proxy: ", time: 3.0, ..PROXY },
    Case { name: "proxy: refused", far: None, said: "(proxy: far.test: 127.0.0.1:8443: Connection refused", ..PROXY },
    Case { name: "proxy: black hole", far: Some(&["--proxy"]), prepare: &[INPUT, V4], said: "(proxy: far.test: 127.0.0.1:8443: timed out)", time: 1.5, ..PROXY },
    Case { name: "proxy: NXDOMAIN", hosts: "", server: Code(3), said: "(proxy: far.test: far.test has no address", ..PROXY },
    Case { name: "proxy: mute DNS", limits: "-t 1", hosts: "", server: Mute, said: "(proxy: ", ..PROXY },
];
