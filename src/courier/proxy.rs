//! The proxy between the courier and an https endpoint: which one, when it is not used, and the tunnel through it.

use std::io::{self, Read, Write};
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use memchr::memmem;

use super::message::Job;

/// The largest answer to CONNECT, headers included.
const MAX_ANSWER: usize = 8 << 10;

/// The end of its headers.
const END: &[u8] = b"\r\n\r\n";

/// Why a connection cannot be made although a proxy is configured: going round it is not what an administrator meant.
/// The value itself is in no message, as it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Of a kind that is not supported.
    #[error("proxies of the kind {0}:// are not supported, use http:// or https://")]
    Kind(String),
    /// No URL.
    #[error("HTTPS_PROXY or ALL_PROXY is no URL of a proxy")]
    NoUrl,
}

/// An HTTP proxy.
#[derive(Debug)]
pub struct Proxy(ureq::Proxy);

impl Proxy {
    /// The proxy through which `host` is reached; `None` where there is none for it. Whether NO_PROXY exempts the host is
    /// decided first: a proxy that is not used may be anything.
    ///
    /// # Errors
    /// When the proxy cannot be used.
    pub fn find(job: &Job, host: &str) -> Result<Option<Proxy>, ProxyError> {
        let given = job.proxy.trim();
        if given.is_empty() || is_bypassed(&job.no_proxy, host) {
            return Ok(None);
        }
        let (kind, rest) = given.split_once("://").unwrap_or(("http", given));
        let kind = kind.to_ascii_lowercase();
        if kind.starts_with("socks") || kind == "ftp" {
            return Err(ProxyError::Kind(kind));
        }
        let proxy = ureq::Proxy::new(&format!("{kind}://{}", rest.trim_end_matches('/')));
        let proxy = proxy.ok().filter(|proxy| !proxy.host().is_empty() && ["http", "https"].contains(&&*kind));
        proxy.map(|proxy| Some(Proxy(proxy))).ok_or(ProxyError::NoUrl)
    }

    /// Its name or address.
    pub fn host(&self) -> &str {
        self.0.host()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Whether it is to be talked to over TLS itself.
    pub fn is_https(&self) -> bool {
        self.0.protocol() == ureq::ProxyProtocol::Https
    }

    /// Has the proxy connect `line` through to `target`, a host and a port (RFC 9110, 9.3.6).
    ///
    /// # Errors
    /// Those of the line, and what the proxy answered instead.
    pub fn tunnel(&self, line: &mut (impl Read + Write + ?Sized), target: &str, user_agent: &str) -> io::Result<()> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {user_agent}\r\n");
        if self.0.username().is_some() || self.0.password().is_some() {
            let (user, password) = (self.0.username().unwrap_or_default(), self.0.password().unwrap_or_default());
            let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
            request += &format!("Proxy-Authorization: Basic {credentials}\r\n");
        }
        line.write_all((request + "\r\n").as_bytes())?;
        line.flush()?;
        let mut answer = Vec::new();
        while memmem::find(&answer, END).is_none() {
            let mut piece = [0; 1024];
            match line.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&piece[..count]),
            }
            if answer.len() > MAX_ANSWER {
                return Err(io::Error::other("its answer has no end"));
            }
        }
        match status(&answer) {
            // Nobody on the far side speaks before we do.
            Some(200..=299) if !answer.ends_with(END) => Err(io::Error::other("its answer has a body")),
            Some(200..=299) => Ok(()),
            Some(407) => Err(io::Error::other(
                "it asks for a user name and a password (407): http://USER:PASSWORD@HOST:PORT in HTTPS_PROXY",
            )),
            Some(status) => Err(io::Error::other(format!("it answered {status} to CONNECT {target}"))),
            None => Err(io::Error::other("it does not speak HTTP")),
        }
    }
}

/// Whether NO_PROXY exempts `host`: by its name, by a domain that it is in, by its address or a network that it is in, or
/// all hosts by `*`. As with curl, a dot at either end changes nothing, and spaces separate as commas do.
fn is_bypassed(no_proxy: &str, host: &str) -> bool {
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches([']', '.']).to_ascii_lowercase();
    let host = bare(host);
    let address = host.parse::<IpAddr>().ok();
    no_proxy.split([',', ' ', '\t']).filter(|pattern| !pattern.is_empty()).any(|pattern| {
        let domain = bare(pattern.strip_prefix('*').unwrap_or(pattern).trim_start_matches('.'));
        match address {
            _ if pattern == "*" => true,
            Some(address) => domain.parse() == Ok(address) || is_in_network(address, &domain),
            None => host
                .strip_suffix(&domain)
                .is_some_and(|above| !domain.is_empty() && (above.is_empty() || above.ends_with('.'))),
        }
    })
}

/// Whether `address` is in `network`, in CIDR notation (RFC 4632, 3.1).
fn is_in_network(address: IpAddr, network: &str) -> bool {
    let Some((first, length)) = network.split_once('/') else { return false };
    let (Ok(first), Ok(length)) = (first.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    let (address, first, size) = match (address, first) {
        (IpAddr::V4(address), IpAddr::V4(first)) => (u32::from(address).into(), u32::from(first).into(), 32),
        (IpAddr::V6(address), IpAddr::V6(first)) => (u128::from(address), u128::from(first), 128),
        _ => return false,
    };
    length <= size && (address ^ first).checked_shr(size - length).unwrap_or(0) == 0
}

/// The status in an answer's first line (RFC 9112, 4).
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.strip_prefix(b"HTTP/1.")?;
    let digits = line.get(2..5).filter(|_| line[1] == b' ')?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(proxy: &str, no_proxy: &str, host: &str) -> Result<Option<Proxy>, ProxyError> {
        Proxy::find(&Job { proxy: proxy.to_owned(), no_proxy: no_proxy.to_owned(), ..Job::default() }, host)
    }

    #[test]
    fn proxies_that_can_be_used_and_those_that_cannot() {
        assert!(proxy("", "", "host").unwrap().is_none());
        for (url, expected) in [
            ("http://proxy.example:3128", ("proxy.example", 3128, false)),
            ("proxy.example:3128", ("proxy.example", 3128, false)),
            ("proxy.example:3128/", ("proxy.example", 3128, false)),
            ("proxy.example", ("proxy.example", 80, false)),
            ("HTTPS://proxy.example/", ("proxy.example", 443, true)),
            ("http://user:pass@[2001:db8::1]:8080/", ("[2001:db8::1]", 8080, false)),
        ] {
            let proxy = proxy(url, "", "host").unwrap().unwrap();
            assert_eq!((proxy.host(), proxy.port(), proxy.is_https()), expected, "{url}");
        }
        for (url, named) in [
            ("socks5://proxy:1080", "socks5://"),
            ("socks5h://proxy:1080", "socks5h://"),
            ("socks4://proxy:1080", "socks4://"),
            ("ftp://proxy", "ftp://"),
            ("socks5://user:s3cret@proxy:1080", "socks5://"),
            ("s3cret://proxy", "HTTPS_PROXY"),
            ("user:s3cret@pro xy", "HTTPS_PROXY"),
            ("http://user:s3cret@", "HTTPS_PROXY"),
            ("http://", "HTTPS_PROXY"),
            ("http://:3128", "HTTPS_PROXY"),
            ("a proxy", "HTTPS_PROXY"),
        ] {
            let why = proxy(url, "", "host").unwrap_err().to_string();
            assert!(why.contains(named) && !why.contains("s3cret"), "{url}: {why}");
            // One that is not used may be anything.
            assert!(proxy(url, "*", "host").unwrap().is_none());
        }
    }

    #[test]
    fn hosts_that_are_reached_without_it() {
        for (no_proxy, host, expected) in [
            ("", "example.com", false),
            ("*", "example.com", true),
            ("example.com", "example.com", true),
            ("Example.COM", "eXample.com", true),
            ("example.com", "check.example.com", true),
            ("example.com", "notexample.com", false),
            (".example.com", "check.example.com", true),
            (".example.com", "example.com", true),
            ("*.example.com", "check.example.com", true),
            ("*.example.com", "notexample.com", false),
            ("check.example.com", "example.com", false),
            ("localhost, 127.0.0.1 ,example.com", "example.com", true),
            ("localhost example.com", "example.com", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("0.0.1", "127.0.0.1", false),
            ("2001:db8::1", "[2001:db8::1]", true),
            ("[2001:db8::1]", "[2001:db8::1]", true),
            ("host.test.", "host.test", true),
            ("host.test", "host.test.", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("0.0.0.0/0", "10.1.2.3", true),
            ("0.0.0.0/0", "::1", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.2/32", "10.1.2.3", false),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("2001:db8::/32", "[2001:db8:1::1]", true),
            ("2001:db8::/32", "[2001:db9::1]", false),
            ("::/0", "[2001:db9::1]", true),
            ("0:0:0:0:0:0:0:1", "[::1]", true),
            ("10.0.0.0/8", "10.example.com", false),
            (".", "example.com", false),
            (",,", "example.com", false),
        ] {
            assert_eq!(is_bypassed(no_proxy, host), expected, "{no_proxy} {host}");
        }
    }

    /// Answers with what it was made with, so many bytes at a time, and keeps what it is told.
    struct Far(io::Cursor<Vec<u8>>, Vec<u8>, usize);

    impl Read for Far {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(&mut buffer[..self.2])
        }
    }

    impl Write for Far {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_proxy_answers() {
        for (answer, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", ""),
            ("HTTP/1.0 200\r\nVia: x\r\n\r\n", ""),
            ("HTTP/1.1 204 fine\r\n\r\n", ""),
            ("HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n", "user name and a password (407)"),
            ("HTTP/1.1 403 Forbidden\r\n\r\n<html>No.", "answered 403 to CONNECT host:443"),
            ("HTTP/1.1 200 OK\r\n\r\nx", "has a body"),
            ("HTTP/1.1 100 Continue\r\n\r\n", "answered 100"),
            ("HTTP/1.1 2x0 ?\r\n\r\n", "does not speak HTTP"),
            ("HTTP/1.1200 OK\r\n\r\n", "does not speak HTTP"),
            ("SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
            ("HTTP/1.1 200 OK\r\n", "unexpected end of file"),
            ("", "unexpected end of file"),
            (&"x".repeat(MAX_ANSWER + 1), "no end"),
        ] {
            let proxy = proxy("http://user:p%40ss@proxy", "", "host").unwrap().unwrap();
            let mut far = Far(io::Cursor::new(answer.as_bytes().to_vec()), Vec::new(), 1000);
            let why =
                proxy.tunnel(&mut far, "host:443", "test").err().map(|error| error.to_string()).unwrap_or_default();
            assert!(why.contains(expected) && why.is_empty() == expected.is_empty(), "{answer}: {why}");
            // Byte by byte, what follows the headers is not read any more.
            let mut dripping = Far(io::Cursor::new(answer.as_bytes().to_vec()), Vec::new(), 1);
            assert!(
                proxy.tunnel(&mut dripping, "host:443", "test").is_ok() == why.is_empty() || expected == "has a body"
            );
            let asked = "CONNECT host:443 HTTP/1.1\r\nHost: host:443\r\nUser-Agent: test\r\n\
                Proxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n";
            assert_eq!(String::from_utf8_lossy(&far.1), asked);
        }
    }
}
