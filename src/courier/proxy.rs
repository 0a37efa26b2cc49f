//! The proxy between the courier and an https endpoint: which one, and when it is not used. ureq makes the tunnel.

use std::{io, net::IpAddr};

use ureq::{Proxy, ProxyProtocol, http::uri::Authority};

use super::message::Job;
use crate::endpoint::{Endpoint, has_host_and_port};

/// The proxy on the way to `endpoint`, if there is one. Plain http goes to loopback only, and a proxy would take it to its
/// own loopback. The value itself is in no message, as it may hold a password.
///
/// # Errors
/// When it cannot be used. To go around the proxy is not what an administrator meant.
pub fn find(job: &Job, endpoint: &Endpoint) -> io::Result<Option<Proxy>> {
    let given = job.proxy.trim();
    if given.is_empty() || !endpoint.is_https() || is_bypassed(job, endpoint.host()) {
        return Ok(None);
    }
    let (kind, rest) = given.split_once("://").unwrap_or(("http", given));
    // The authority has to be all of the rest. In a password that is not encoded, a `/`, `?` or `#` would end it early,
    // and a part of the password would be taken for the host.
    let is_whole = |it: &Authority| it.as_str() == rest.trim_end_matches('/') && has_host_and_port(it);
    match Proxy::new(&format!("{kind}://{rest}")).ok().filter(|it| it.uri().authority().is_some_and(is_whole)) {
        Some(proxy) if [ProxyProtocol::Http, ProxyProtocol::Https].contains(&proxy.protocol()) => Ok(Some(proxy)),
        Some(_) => Err(io::Error::other(format!("{kind}:// proxies are not supported, use http:// or https://"))),
        None => Err(io::Error::other("HTTPS_PROXY or ALL_PROXY is no valid proxy URL (a password must be %-encoded)")),
    }
}

/// Whether NO_PROXY exempts `host`: by its name, by a domain that it is in, by its address or a network that it is in,
/// or all hosts by `*`. As with curl, a dot at either end changes nothing, and spaces separate as commas do.
fn is_bypassed(job: &Job, host: &str) -> bool {
    let bare = |host: &str| host.trim_start_matches(['[', '.']).trim_end_matches([']', '.']).to_ascii_lowercase();
    let host = bare(host);
    let address = host.parse::<IpAddr>().ok();
    job.no_proxy.split([',', ' ', '\t']).filter(|pattern| !pattern.is_empty()).any(|pattern| {
        let domain = bare(pattern.strip_prefix('*').unwrap_or(pattern));
        match address {
            _ if pattern == "*" => true,
            Some(address) => is_in_network(address, &domain),
            None => !domain.is_empty() && format!(".{host}").ends_with(&format!(".{domain}")),
        }
    })
}

/// Whether `address` is in `network`, in CIDR notation (RFC 4632, 3.1), or is that very address.
fn is_in_network(address: IpAddr, network: &str) -> bool {
    let (first, length) = network.split_once('/').map_or((network, None), |(first, length)| (first, Some(length)));
    let bits = |address| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let (Ok((first, size)), (address, own)) = (first.parse().map(bits), bits(address)) else { return false };
    let number = |text: &str| text.parse().ok().filter(|length| *length <= size && !text.starts_with('+'));
    let is_same = |length| (address ^ first).leading_zeros() >= length;
    own == size && length.map_or(Some(size), number).is_some_and(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(proxy: &str) -> io::Result<Option<Proxy>> {
        let endpoint = Endpoint::new("https://host.test/").unwrap();
        find(&Job { proxy: proxy.to_owned(), ..Job::default() }, &endpoint)
    }

    #[test]
    fn proxies_that_can_be_used_and_those_that_cannot() {
        assert!(proxy("").unwrap().is_none());
        for (url, expected) in [
            ("http://proxy.example:3128", ("proxy.example", 3128, false)),
            ("proxy.example:3128", ("proxy.example", 3128, false)),
            ("proxy.example:3128/", ("proxy.example", 3128, false)),
            ("proxy.example", ("proxy.example", 80, false)),
            ("HTTPS://proxy.example/", ("proxy.example", 443, true)),
            ("http://user:pass@[2001:db8::1]:8080/", ("[2001:db8::1]", 8080, false)),
            ("http://user:pass@proxy.example", ("proxy.example", 80, false)),
            ("http://proxy.example:/", ("proxy.example", 80, false)),
        ] {
            let proxy = proxy(url).unwrap().unwrap();
            assert_eq!((proxy.host(), proxy.port(), proxy.protocol() == ProxyProtocol::Https), expected, "{url}");
        }
        for (url, named) in [
            ("socks5://proxy:1080", "socks5://"),
            ("socks5h://proxy:1080", "socks5h://"),
            ("socks4://proxy:1080", "socks4://"),
            ("ftp://proxy", "HTTPS_PROXY"),
            ("socks5://user:s3cret@proxy:1080", "socks5://"),
            ("s3cret://proxy", "HTTPS_PROXY"),
            ("user:s3cret@pro xy", "HTTPS_PROXY"),
            ("http://user:s3cret@", "HTTPS_PROXY"),
            ("http://", "HTTPS_PROXY"),
            ("http://:3128", "HTTPS_PROXY"),
            ("a proxy", "HTTPS_PROXY"),
            ("http://proxy:s3cret", "HTTPS_PROXY"),
            ("http://s3cret:s3cret", "HTTPS_PROXY"),
            ("http://proxy:99999", "HTTPS_PROXY"),
            ("http://user:pass@proxy:31x8", "HTTPS_PROXY"),
            ("http://proxy:3128/s3cret", "HTTPS_PROXY"),
            ("http://proxy:3128/?s3cret", "HTTPS_PROXY"),
            ("http://proxy:3128#s3cret", "HTTPS_PROXY"),
            ("http://user:s3/cret@proxy:3128", "HTTPS_PROXY"),
            ("http://user:12/s3cret@proxy:3128", "HTTPS_PROXY"),
            ("http://user:s3?cret@proxy:3128", "HTTPS_PROXY"),
            ("user:12#s3cret@proxy:3128", "HTTPS_PROXY"),
        ] {
            let why = proxy(url).unwrap_err().to_string();
            assert!(why.contains(named) && !why.contains("s3cret"), "{url}: {why}");
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
            ("10.0.0.0/+8", "10.1.2.3", false),
            ("10.0.0.0/", "10.1.2.3", false),
            ("2001:db8::/32", "[2001:db8:1::1]", true),
            ("2001:db8::/32", "[2001:db9::1]", false),
            ("::/0", "[2001:db9::1]", true),
            ("0:0:0:0:0:0:0:1", "[::1]", true),
            ("10.0.0.0/8", "10.example.com", false),
            (".", "example.com", false),
            (",,", "example.com", false),
        ] {
            let job = Job { no_proxy: no_proxy.to_owned(), ..Job::default() };
            assert_eq!(is_bypassed(&job, host), expected, "{no_proxy} {host}");
        }
    }
}
