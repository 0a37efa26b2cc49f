//! The proxy between the courier and an https endpoint: which one, when it is not used, and the tunnel through it.

use std::io::{self, Read, Write};
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use memchr::memmem;

use super::job::Job;

/// The largest answer to CONNECT, headers included.
const MAX_ANSWER: usize = 8 << 10;

/// The end of its headers.
const END: &[u8] = b"\r\n\r\n";

/// An HTTP proxy.
#[derive(Debug)]
pub struct Proxy {
    url: ureq::Proxy,
    bypassed: String,
    user_agent: String,
}

impl Proxy {
    /// The proxy that the job names.
    ///
    /// # Errors
    /// When it names one that cannot be used: going round a proxy is not what an administrator meant.
    pub fn new(job: &Job) -> Result<Option<Proxy>, String> {
        if job.proxy.is_empty() {
            return Ok(None);
        }
        let scheme = job.proxy.split_once("://").map_or("http", |(scheme, _)| scheme);
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(format!("proxies of the kind {scheme}:// are not supported, use http:// or https://"));
        }
        let url = ureq::Proxy::new(&job.proxy)
            .ok()
            .filter(|url| !url.host().is_empty())
            .ok_or("HTTPS_PROXY or ALL_PROXY is no URL of a proxy")?;
        Ok(Some(Proxy { url, bypassed: job.no_proxy.clone(), user_agent: job.user_agent.clone() }))
    }

    /// Its name or address.
    pub fn host(&self) -> &str {
        self.url.host()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.url.port()
    }

    /// Whether it is to be talked to over TLS itself.
    pub fn is_https(&self) -> bool {
        self.url.protocol() == ureq::ProxyProtocol::Https
    }

    /// Whether NO_PROXY exempts `host`: by its name, by a domain that it is in, or all hosts by `*`. As with curl, a
    /// leading dot changes nothing, and spaces separate as commas do.
    pub fn is_bypassed(&self, host: &str) -> bool {
        let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let host = bare(host);
        let is_address = host.parse::<IpAddr>().is_ok();
        let mut patterns = self.bypassed.split([',', ' ', '\t']).filter(|pattern| !pattern.is_empty());
        patterns.any(|pattern| {
            let domain = bare(pattern.strip_prefix('*').unwrap_or(pattern).trim_start_matches('.'));
            let above = host.strip_suffix(&domain);
            let is_in = |above: &str| above.is_empty() || (above.ends_with('.') && !is_address);
            pattern == "*" || (!domain.is_empty() && above.is_some_and(is_in))
        })
    }

    /// Has the proxy connect `line` through to `target`, a host and a port (RFC 9110, 9.3.6).
    ///
    /// # Errors
    /// Those of the line, and what the proxy answered instead.
    pub fn tunnel(&self, line: &mut (impl Read + Write + ?Sized), target: &str) -> io::Result<()> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {}\r\n", self.user_agent);
        if self.url.username().is_some() || self.url.password().is_some() {
            let (user, password) = (self.url.username().unwrap_or_default(), self.url.password().unwrap_or_default());
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

/// The status in an answer's first line (RFC 9112, 4).
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.strip_prefix(b"HTTP/1.")?;
    let digits = line.get(2..5).filter(|_| line[1] == b' ')?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(proxy: &str, no_proxy: &str) -> Result<Option<Proxy>, String> {
        let (proxy, no_proxy) = (proxy.to_owned(), no_proxy.to_owned());
        Proxy::new(&Job { proxy, no_proxy, user_agent: "test".to_owned(), ..Job::default() })
    }

    #[test]
    fn proxies_that_can_be_used_and_those_that_cannot() {
        assert!(proxy("", "").unwrap().is_none());
        for (url, expected) in [
            ("http://proxy.example:3128", ("proxy.example", 3128, false)),
            ("proxy.example:3128", ("proxy.example", 3128, false)),
            ("proxy.example", ("proxy.example", 80, false)),
            ("HTTPS://proxy.example/", ("proxy.example", 443, true)),
            ("http://user:pass@[2001:db8::1]:8080/", ("[2001:db8::1]", 8080, false)),
        ] {
            let proxy = proxy(url, "").unwrap().unwrap();
            assert_eq!((proxy.host(), proxy.port(), proxy.is_https()), expected, "{url}");
        }
        for (url, named) in [
            ("socks5://proxy:1080", "socks5://"),
            ("socks5h://proxy:1080", "socks5h://"),
            ("socks4://proxy:1080", "socks4://"),
            ("ftp://proxy", "ftp://"),
            ("http://", "HTTPS_PROXY"),
            ("http://:3128", "HTTPS_PROXY"),
            ("a proxy", "HTTPS_PROXY"),
        ] {
            let why = proxy(url, "").unwrap_err();
            assert!(why.contains(named), "{url}: {why}");
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
            (".", "example.com", false),
            (",,", "example.com", false),
        ] {
            let proxy = proxy("http://proxy", no_proxy).unwrap().unwrap();
            assert_eq!(proxy.is_bypassed(host), expected, "{no_proxy} {host}");
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
            let proxy = proxy("http://user:p%40ss@proxy", "").unwrap().unwrap();
            let mut far = Far(io::Cursor::new(answer.as_bytes().to_vec()), Vec::new(), 1000);
            let why = proxy.tunnel(&mut far, "host:443").err().map(|error| error.to_string()).unwrap_or_default();
            assert!(why.contains(expected) && why.is_empty() == expected.is_empty(), "{answer}: {why}");
            // Byte by byte, what follows the headers is not read any more.
            let mut dripping = Far(io::Cursor::new(answer.as_bytes().to_vec()), Vec::new(), 1);
            assert!(proxy.tunnel(&mut dripping, "host:443").is_ok() == why.is_empty() || expected == "has a body");
            let asked = "CONNECT host:443 HTTP/1.1\r\nHost: host:443\r\nUser-Agent: test\r\n\
                Proxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n";
            assert_eq!(String::from_utf8_lossy(&far.1), asked);
        }
    }
}
