//! Makes the connections that ureq posts over: IPv4 before IPv6, through a proxy where there is one, and TLS.
//!
//! ureq's own connectors do the work. This module decides in which order and for how long addresses are tried, and
//! whether a proxy is used. It also tells the phase that a delivery is in.

use std::{io, mem, net::SocketAddr, time::Duration, time::Instant};

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};

use super::names::{Kind, Names, TRIES};
use super::{IS_KEPT, PHASE, STATUS, informational, message::Job, message::Phase, proxy, reach, status_of};

/// The least share of the first address, if half of the time suffices for it. A server on the other side of the world
/// answers within that, however many addresses it has.
const LEAST: Duration = Duration::from_millis(400);

/// Makes connections.
#[derive(Debug)]
pub struct Dialer {
    /// The job that the connections are for.
    pub job: Job,
    /// Why no TLS server can be trusted, if there are no certificate authorities.
    pub trust: io::Result<()>,
    /// Turns names into addresses.
    pub names: Names,
    /// ureq's TLS connector, which keeps the authorities that it has parsed.
    pub tls: RustlsConnector,
}

impl Connector for Dialer {
    type Out = Line;

    /// ureq calls this again for the connection to a proxy. Whatever goes wrong there belongs to the phase `proxy`.
    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Line>, Error> {
        IS_KEPT.set(false);
        let is_to_proxy = PHASE.get() == Phase::Proxy;
        let reach = |phase| if is_to_proxy { reach(Phase::Proxy) } else { reach(phase) };
        let host = details.uri.host().unwrap_or_default();
        if let (true, Err(error)) = (details.needs_tls(), &self.trust) {
            reach(Phase::Tls);
            return Err(io::Error::other(error.to_string()).into());
        }
        // Plain http goes to loopback only, and a proxy would take it to its own loopback.
        let is_direct = is_to_proxy || !details.needs_tls() || proxy::is_bypassed(&self.job, host);
        let line = if is_direct { None } else { self.tunnel(details)? };
        let line = line.map_or_else(|| self.dial(details, host, reach), Ok)?;
        if details.needs_tls() {
            reach(Phase::Tls);
        }
        let line = self.tls.connect(&from_now(details, self.job.connect_timeout), Some(line))?.map(Transport::boxed);
        let proxy_deadline = is_to_proxy.then(|| Instant::now() + self.job.connect_timeout);
        Ok(line.map(|line| Line { line, proxy_deadline }))
    }
}

impl Dialer {
    /// The connection through the proxy, where there is one.
    fn tunnel(&self, details: &ConnectionDetails) -> io::Result<Option<Box<dyn Transport>>> {
        if !self.job.proxy.is_empty() {
            reach(Phase::Proxy);
        }
        let Some(proxy) = proxy::find(&self.job)? else { return Ok(None) };
        let tunnel = ConnectProxyConnector::default().connect(details, None::<()>);
        let tunnel = tunnel.map_err(|error| io::Error::other(format!("{}: {}", proxy.host(), described(&error))))?;
        Ok(tunnel.map(Transport::boxed))
    }

    /// Connects to the first of the host's addresses that accepts. DNS is asked for IPv6 only if no IPv4 address
    /// accepted. Each address gets a share of the time, and one share is kept for IPv6 until its addresses are known.
    /// What is left in the end is for the addresses that have not answered.
    fn dial(&self, details: &ConnectionDetails, host: &str, reach: impl Fn(Phase)) -> io::Result<Box<dyn Transport>> {
        let port = details.uri.port_u16().unwrap_or(if details.needs_tls() { 443 } else { 80 });
        reach(Phase::Resolve);
        let mut left = self.job.connect_timeout;
        let local = self.names.local(host);
        let rounds: &[_] = if local.is_some() { &[None, None] } else { &[Some(Kind::A), Some(Kind::Aaaa), None] };
        // Addresses that are known and have not answered so far.
        let (mut silent, mut why, mut tries) = (local.unwrap_or_default(), None, TRIES);
        for kind in rounds {
            let addresses = kind.map_or_else(|| Ok(mem::take(&mut silent)), |kind| self.names.ask(host, kind, tries));
            // The reason why a connection failed says more than the reason why there is no further address.
            let addresses = addresses.map_err(|error| _ = why.get_or_insert(error)).unwrap_or_default();
            let later = u32::from(*kind == Some(Kind::A));
            for (after, address) in (0..addresses.len() as u32).rev().zip(addresses) {
                // Less than a millisecond is too short for a try, and ureq would take 0 for a whole second.
                if left.as_millis() == 0 {
                    break;
                }
                reach(Phase::Connect);
                let (began, at) = (Instant::now(), SocketAddr::new(address, port));
                // Nothing has failed so far.
                let is_first = tries == TRIES;
                let mut details = from_now(details, share(left, after + later, is_first));
                details.addrs.push(at);
                let error = match TcpConnector::default().connect(&details, None::<()>) {
                    Ok(line) => return line.map(Transport::boxed).ok_or_else(|| io::ErrorKind::NotConnected.into()),
                    Err(error) => error,
                };
                // There is an address already, so a silent name server is asked only once from now on.
                tries = 1;
                silent.extend(matches!(error, Error::Timeout(_)).then_some(address));
                why = Some(io::Error::other(format!("{at}: {}", described(&error))));
                left = left.saturating_sub(began.elapsed());
            }
        }
        Err(why.unwrap_or_else(|| io::ErrorKind::TimedOut.into()))
    }
}

/// The time for one address, of what is `left` for it and for `others`.
fn share(left: Duration, others: u32, is_first: bool) -> Duration {
    let least = if is_first { LEAST.min(left / 2) } else { Duration::ZERO };
    (left / (1 + others)).max(least)
}

/// The same details for one step, which begins now and may take `time`. ureq itself counts from the beginning of the
/// request.
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

/// A connection that tells when it sends and when it waits for the answer.
#[derive(Debug)]
pub struct Line {
    line: Box<dyn Transport>,
    /// Only for a connection to a proxy: when the proxy's answer must be there. ureq would give each read of it the
    /// whole connect timeout.
    proxy_deadline: Option<Instant>,
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.line.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.proxy_deadline.is_none() {
            reach(Phase::Send);
        }
        self.line.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, mut timeout: NextTimeout) -> Result<bool, Error> {
        loop {
            match self.proxy_deadline {
                None => reach(Phase::Receive),
                Some(deadline) if PHASE.get() == Phase::Proxy => {
                    timeout.after = deadline.saturating_duration_since(Instant::now()).into();
                }
                Some(_) => {}
            }
            let found = self.line.await_input(timeout)?;
            // ureq takes no informational answer that has header fields.
            while let Some(length) = informational(self.line.buffers().input()) {
                self.line.buffers().input_consume(length);
            }
            let input = self.line.buffers().input();
            STATUS.set(status_of(input));
            if !found || !input.is_empty() {
                return Ok(found);
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.line.is_open()
    }

    fn is_tls(&self) -> bool {
        self.line.is_tls()
    }
}

/// An error in words for a person, where the library has no words or writes for programmers.
pub fn described(error: &Error) -> String {
    match error {
        Error::Timeout(_) => "timed out".to_owned(),
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => "timed out".to_owned(),
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => "the other side hung up".to_owned(),
        Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use ureq::unversioned::transport::LazyBuffers;

    use super::*;
    use crate::courier::NoResolver;

    #[test]
    fn where_no_time_is_left_no_address_is_tried() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let dialer = Dialer { job: Job::default(), trust: Ok(()), names: Names::read(), tls: Default::default() };
        let config = ureq::config::Config::builder().timeout_global(Some(Duration::from_secs(1))).build();
        let agent = ureq::Agent::with_parts(config, dialer, NoResolver);
        let sent = agent.post(format!("http://{}/", listener.local_addr().unwrap())).send("");
        assert_eq!(described(&sent.unwrap_err()), "timed out");
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    /// A connection that takes nothing and answers nothing.
    #[derive(Debug)]
    struct Broken(LazyBuffers);

    fn broken() -> Box<Broken> {
        Box::new(Broken(LazyBuffers::new(1, 1)))
    }

    impl Transport for Broken {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.0
        }

        fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), Error> {
            Err(Error::ConnectionFailed)
        }

        fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
            assert!(timeout.after <= Duration::from_secs(1).into(), "{timeout:?}");
            Ok(false)
        }

        fn is_open(&mut self) -> bool {
            true
        }
    }

    #[test]
    fn what_fails_while_the_request_is_sent_has_a_phase_of_its_own() {
        let mut line = Line { line: broken(), proxy_deadline: None };
        PHASE.set(Phase::Tls);
        let timeout = NextTimeout { after: Duration::from_millis(1).into(), ..NextTimeout::default() };
        assert!(line.transmit_output(1, timeout).is_err());
        assert_eq!(PHASE.get(), Phase::Send);
        assert!(!line.await_input(timeout).unwrap());
        assert_eq!(PHASE.get(), Phase::Receive);
    }

    #[test]
    fn all_of_a_proxys_answer_has_one_connect_timeout() {
        let mut line = Line { line: broken(), proxy_deadline: Some(Instant::now() + Duration::from_secs(1)) };
        PHASE.set(Phase::Proxy);
        let timeout = NextTimeout { after: Duration::from_secs(60).into(), ..NextTimeout::default() };
        assert!(!line.await_input(timeout).unwrap());
        assert_eq!(PHASE.get(), Phase::Proxy);
    }

    #[test]
    fn the_first_address_is_reached_from_far_away_and_others_have_their_share() {
        for (left, others, is_first, expected) in [
            (2000, 1, true, 1000),
            (2000, 8, true, 400),
            (2000, 8, false, 222),
            (600, 8, true, 300),
            (600, 0, true, 600),
            (100, 4, false, 20),
        ] {
            let found = share(Duration::from_millis(left), others, is_first);
            assert_eq!(found.as_millis(), expected, "{left} {others} {is_first}");
        }
    }
}
