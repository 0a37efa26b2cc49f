//! Where a record may go: https anywhere, http only to this machine.

use ureq::{http::Uri, http::uri::Authority};

/// The longest URL, in bytes. It goes out in one buffer with the request's headers.
const MAX_URL: usize = 8 << 10;

/// A URL that records may be posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL as it was given.
    pub url: String,
    uri: Uri,
}

impl Endpoint {
    /// Checks `url`; `None` when it is neither https nor http to a loopback address.
    pub fn new(url: &str) -> Option<Endpoint> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority()?;
        // A user in front of the host would be sent as a credential, or hide the real host from a reader.
        let is_there = has_host_and_port(authority) && url.is_ascii() && !authority.as_str().contains('@');
        let scheme = uri.scheme_str()?;
        let is_safe = scheme == "https" || scheme == "http" && is_loopback(authority.host());
        (is_there && is_safe && url.len() <= MAX_URL).then(|| Endpoint { url: url.to_owned(), uri })
    }

    /// Why `url` is no endpoint. A secret in it is not repeated.
    pub fn problem_of(url: &str) -> String {
        if may_hold_a_password(url) {
            return "a URL with a user or a password in it is refused; give it without".to_owned();
        }
        let shown: String = url.chars().take(80).collect();
        format!("'{shown}' must be an https URL, or http to a loopback address, of at most {MAX_URL} bytes, all ASCII")
    }

    /// Its host, for messages.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// Whether it is https; otherwise its host is a loopback address, or `localhost`, which always is one.
    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        port(&self.uri)
    }
}

/// The port of a URL, or the default one of its scheme.
pub fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 })
}

/// Whether a text may be a URL with a user and a password in it, which a message must not repeat.
pub fn may_hold_a_password(text: &str) -> bool {
    text.contains('@') || text.contains("%40")
}

/// Whether there are a host and a port. A port that is left out is the default one. A port that is no number must not
/// become the default one.
pub fn has_host_and_port(authority: &Authority) -> bool {
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    let port = host.strip_prefix(authority.host()).filter(|_| !authority.host().is_empty());
    port.is_some_and(|port| matches!(port, "" | ":") || authority.port_u16().is_some())
}

/// Whether a name always means this machine (RFC 6761, 6.3). It must be in lower case and have no dot at its end.
pub fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches([']', '.']).to_ascii_lowercase();
    is_localhost(&bare) || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_http_to_loopback() {
        for (url, allowed) in [
            ("https://check.percona.com/v1/telemetry/GenericReport", true),
            ("https://check.percona.com", true),
            ("https://[2001:db8::1]:8443/x", true),
            ("http://localhost:8080/", true),
            ("http://LOCALHOST/", true),
            ("http://127.0.0.1/", true),
            ("http://127.8.9.10:1/", true),
            ("http://[::1]:99/x", true),
            ("http://localhost./", true),
            ("http://foo.localhost:8080/", true),
            ("http://Foo.LOCALHOST./", true),
            ("http://notlocalhost/", false),
            ("http://localhost.example.com/", false),
            ("http://check.percona.com/", false),
            ("http://127.0.0.1.example.com/", false),
            ("http://localhost@example.com/", false),
            ("https://user:secret@example.com/", false),
            ("ftp://example.com/", false),
            ("example.com", false),
            ("/v1", false),
            ("https://", false),
            ("https://127.0.0.1:99999/", false),
            ("https://example.com:example.com/", false),
            ("https://[::1]:8443/", true),
            ("https://example.com:/", true),
            ("https:///x", false),
            ("https://a b/", false),
            ("", false),
        ] {
            assert_eq!(Endpoint::new(url).is_some(), allowed, "{url}");
        }
    }
}
