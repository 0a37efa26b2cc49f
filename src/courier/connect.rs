//! The connections that ureq posts over: IPv4 before IPv6, by way of a proxy where there is one, and TLS.
//!
//! ureq's own connectors make them. What is here is in which order and for how long addresses are tried, whether a proxy
//! is used, and which phase a delivery is in.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use ureq::Error;
use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};

use super::message::{Job, Phase};
use super::names::{Kind, Names};
use super::tls::TrustError;
use super::{PHASE, proxy, reach};
use crate::host::Host;

/// Makes connections.
#[derive(Debug)]
pub struct Dialer {
    /// What the connections are for.
    pub job: Job,
    /// Whether any server can be believed.
    pub trust: Result<(), TrustError>,
    /// Who knows addresses.
    pub names: Names,
    /// ureq's own, which keeps the authorities that it has parsed.
    pub tls: RustlsConnector,
}

impl Connector for Dialer {
    type Out = Box<dyn Transport>;

    /// Called again for the connection to a proxy, by `tunnel`. Whatever goes wrong there is the proxy's phase.
    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        let host = details.uri.host().unwrap_or_default();
        let is_to_proxy = PHASE.get() == Phase::Proxy;
        let reach = |phase| {
            if !is_to_proxy {
                reach(phase)
            }
        };
        if details.needs_tls() {
            self.judge().inspect_err(|_| reach(Phase::Tls))?;
        }
        // Plain http is loopback's, and a proxy would take it to its own.
        let is_direct = is_to_proxy || !details.needs_tls();
        let proxy = if is_direct { Ok(None) } else { proxy::find(&self.job, host) };
        let proxy = proxy.map_err(io::Error::other).inspect_err(|_| reach(Phase::Proxy))?;
        let line = match proxy {
            Some(proxy) => {
                reach(Phase::Proxy);
                let named = |error| io::Error::other(format!("{}: {}", proxy.host(), described(&error)));
                ConnectProxyConnector::default().connect(details, None::<()>).map_err(named)?.map(Transport::boxed)
            }
            None => Some(self.dial(details, host, reach)?),
        };
        if details.needs_tls() {
            reach(Phase::Tls);
        }
        let line = self.tls.connect(details, line)?.map(Transport::boxed);
        reach(Phase::Receive);
        Ok(line)
    }
}

impl Dialer {
    /// Whether TLS can be had at all.
    fn judge(&self) -> io::Result<()> {
        self.trust.as_ref().map_err(|error| io::Error::other(error.to_string()))?;
        // rustls takes such a clock for impossible, and panics.
        let is_possible = Host::new(None).now() >= 0;
        let why = "the clock is before 1970, when no certificate is valid";
        is_possible.then_some(()).ok_or_else(|| io::Error::other(why))
    }

    /// The first of the host's addresses that takes a connection. DNS is asked for IPv6 where IPv4 has given no connection.
    /// Each address has its share of the time, and IPv6 as a whole has one while it is not known.
    fn dial(&self, details: &ConnectionDetails, host: &str, reach: impl Fn(Phase)) -> io::Result<Box<dyn Transport>> {
        let port = details.uri.port_u16().unwrap_or(if details.needs_tls() { 443 } else { 80 });
        reach(Phase::Resolve);
        let mut left = self.job.connect_timeout;
        let mut why = None;
        let local = self.names.local(host);
        let kinds: &[Kind] = if local.is_some() { &[Kind::A] } else { &[Kind::A, Kind::Aaaa] };
        for (later, kind) in (0..kinds.len() as u32).rev().zip(kinds) {
            let addresses = match local.clone().map_or_else(|| self.names.ask(host, *kind), Ok) {
                Ok(addresses) => addresses,
                // Why there is no connection says more than why there is no other address.
                Err(error) => {
                    why.get_or_insert(error);
                    continue;
                }
            };
            reach(Phase::Connect);
            for (after, address) in (0..addresses.len() as u32).rev().zip(addresses) {
                let address = SocketAddr::new(address, port);
                let began = Instant::now();
                let time = left / (1 + after + later);
                let timeout = NextTimeout { after: time.into(), ..details.timeout };
                match TcpConnector::default().connect(&only(details, address, timeout), None::<()>) {
                    Ok(line) => return line.map(Transport::boxed).ok_or_else(|| io::ErrorKind::NotConnected.into()),
                    Err(error) => why = Some(io::Error::other(format!("{address}: {}", described(&error)))),
                }
                left = left.saturating_sub(began.elapsed());
            }
        }
        Err(why.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }
}

/// The same connection to one address.
fn only<'d>(details: &ConnectionDetails<'d>, address: SocketAddr, timeout: NextTimeout) -> ConnectionDetails<'d> {
    let mut addrs = details.resolver.empty();
    addrs.push(address);
    ConnectionDetails {
        addrs,
        timeout,
        now: (details.current_time)(),
        current_time: details.current_time.clone(),
        run_connector: details.run_connector.clone(),
        register_shutdown: details.register_shutdown.clone(),
        ..*details
    }
}

/// An error for a person, where the library's own words are none or are meant for a programmer.
pub fn described(error: &Error) -> String {
    match error {
        Error::Timeout(_) => "timed out".to_owned(),
        Error::Io(error) => match error.kind() {
            io::ErrorKind::TimedOut => "timed out".to_owned(),
            io::ErrorKind::UnexpectedEof => "the other side hung up".to_owned(),
            _ => error.to_string(),
        },
        Error::ConnectProxyFailed(why) if why.contains("407") => {
            "it asks for a user name and a password (407): http://USER:PASSWORD@HOST:PORT in HTTPS_PROXY".to_owned()
        }
        Error::ConnectProxyFailed(why) => why.clone(),
        Error::LargeResponseHeader(..) => "the headers of the answer have no end".to_owned(),
        other => other.to_string(),
    }
}
