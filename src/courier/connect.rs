//! Makes the connections that ureq posts over: IPv4 before IPv6, through a proxy where there is one, and TLS.
//!
//! ureq's own connectors do the work. This module decides when IPv6 is tried, and how long each step may take. It also
//! tells the phase that a delivery is in.

use std::{fmt::Display, io, net::SocketAddr, time::Duration, time::Instant};

use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};
use ureq::{Error, Proxy};

use super::names::{A, AAAA, Names, TRIES};
use super::{PHASE, STATUS, informational, message::Phase, reach, status_of};
use crate::endpoint::port;

/// Makes connections.
#[derive(Debug)]
pub struct Dialer {
    /// How long a connection may take to be made, and then its TLS handshake.
    pub connect_timeout: Duration,
    /// Turns names into addresses.
    pub names: Names,
    /// ureq's TLS connector.
    pub tls: RustlsConnector,
}

impl Connector for Dialer {
    type Out = Box<dyn Transport>;

    /// ureq calls this again for the connection to a proxy, with settings that name no proxy. Whatever goes wrong there
    /// belongs to the phase `proxy`.
    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        let proxy = details.config.proxy();
        let is_to_proxy = proxy.is_none() && PHASE.get() == Phase::Proxy;
        reach(if proxy.is_some() { Phase::Proxy } else { Phase::Resolve });
        let tunnel = ConnectProxyConnector::default().connect(details, None::<()>);
        let line = match tunnel.map_err(|error| named(proxy.map_or("", Proxy::host), &error))? {
            None => self.dial(details)?,
            tunnel => tunnel.map(Transport::boxed),
        };
        if details.needs_tls() && !is_to_proxy {
            reach(Phase::Tls);
        }
        let line = self.tls.connect(&from_now(details, self.connect_timeout), line)?.map(Transport::boxed);
        Ok(if is_to_proxy { line } else { line.map(|line| Line(line).boxed()) })
    }
}

impl Dialer {
    /// Connects by IPv4, or by IPv6 if no IPv4 address accepts. DNS is asked for IPv6 only then. IPv4 has three quarters
    /// of the connect timeout, which suffices for a first packet that was lost, and IPv6 has the rest. ureq divides the
    /// time among the addresses of a kind.
    fn dial(&self, details: &ConnectionDetails) -> Result<Option<Box<dyn Transport>>, Error> {
        let (host, port) = (details.uri.host().unwrap_or_default(), port(details.uri));
        let (mut left, mut why) = (self.connect_timeout, None);
        for kind in [A, AAAA] {
            // Once something has failed, a silent name server is not asked again and again.
            let addresses = self.names.find(host, kind, if why.is_none() { TRIES } else { 1 });
            // The reason why a connection failed says more than the reason why there is no further address.
            let addresses = addresses.map_err(|error| _ = why.get_or_insert(error.into())).unwrap_or_default();
            let Some(last) = addresses.last().map(|last| SocketAddr::new(*last, port)) else { continue };
            reach(Phase::Connect);
            let began = Instant::now();
            let mut details = from_now(details, if kind == A { left * 3 / 4 } else { left });
            addresses.iter().for_each(|address| details.addrs.push(SocketAddr::new(*address, port)));
            match TcpConnector::default().connect(&details, None::<()>) {
                Ok(line) => return Ok(line.map(Transport::boxed)),
                Err(error) => why = Some(named(last, &error)),
            }
            left = left.saturating_sub(began.elapsed());
        }
        Err(why.unwrap_or_else(|| io::Error::other(format!("{host} has no address")).into()))
    }
}

/// The same details for one step, which begins now and may take `time`. ureq itself counts from the beginning of the
/// connection.
fn from_now<'a>(details: &ConnectionDetails<'a>, time: Duration) -> ConnectionDetails<'a> {
    ConnectionDetails {
        addrs: details.resolver.empty(),
        timeout: NextTimeout { after: time.into(), ..details.timeout },
        now: (details.current_time)(),
        current_time: details.current_time.clone(),
        run_connector: details.run_connector.clone(),
        register_shutdown: details.register_shutdown.clone(),
        ..*details
    }
}

/// The error of a connection to `name`.
fn named(name: impl Display, error: &Error) -> Error {
    io::Error::other(format!("{name}: {}", described(error))).into()
}

/// A connection to an endpoint. It tells when it sends and when it waits for the answer.
#[derive(Debug)]
struct Line(Box<dyn Transport>);

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        reach(Phase::Send);
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        reach(Phase::Receive);
        let found = self.0.await_input(timeout)?;
        // ureq refuses some that are valid, such as `100 Continue` with header fields.
        while let Some(length) = informational(self.0.buffers().input()) {
            self.0.buffers().input_consume(length);
        }
        STATUS.set(status_of(self.0.buffers().input()));
        Ok(found)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

/// An error in words for a person, where the library has no words or writes for programmers.
pub fn described(error: &Error) -> String {
    match error {
        Error::Timeout(_) => "timed out".to_owned(),
        // rustls's own words name a page for programmers.
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => "the other side hung up".to_owned(),
        Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ureq::unversioned::transport::LazyBuffers;

    use super::*;

    /// A connection that takes nothing and answers nothing.
    #[derive(Debug)]
    struct Broken(LazyBuffers);

    impl Transport for Broken {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.0
        }

        fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), Error> {
            Err(Error::ConnectionFailed)
        }

        fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
            Ok(false)
        }

        fn is_open(&mut self) -> bool {
            true
        }
    }

    #[test]
    fn what_fails_while_the_request_is_sent_has_a_phase_of_its_own() {
        let mut line = Line(Box::new(Broken(LazyBuffers::new(1, 1))));
        PHASE.set(Phase::Tls);
        let timeout = NextTimeout { after: Duration::from_millis(1).into(), ..NextTimeout::default() };
        assert!(line.transmit_output(1, timeout).is_err());
        assert_eq!(PHASE.get(), Phase::Send);
        assert!(!line.await_input(timeout).unwrap());
        assert_eq!(PHASE.get(), Phase::Receive);
    }
}
