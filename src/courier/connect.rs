//! The connections that ureq posts over: IPv4 before IPv6, a proxy's tunnel, TLS, all within the connect timeout.
//!
//! ureq has connectors of its own, but they restart a proxy's time with every byte that it sends, resolve a name before
//! each request, also when a connection is kept, and do not say in which phase they are. Here, a connection is a chain
//! of lines, and the socket at its end keeps the deadline for all of them.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};

use super::Progress;
use super::message::{Job, Phase};
use super::names::{Kind, Names};
use super::proxy::Proxy;
use super::tls::TrustError;

/// Sizes of ureq's buffers for what comes in, which is at least the 64 KiB of headers that it accepts, and for what goes
/// out.
const BUFFERS: (usize, usize) = (72 << 10, 4 << 10);

/// Makes connections.
#[derive(Debug)]
pub struct Dialer {
    /// What the connections are for.
    pub job: Arc<Job>,
    /// How a server is verified.
    pub tls: Result<Arc<ClientConfig>, TrustError>,
    /// Who knows addresses.
    pub names: Names,
    /// Who hears of the phases.
    pub progress: Progress,
    /// How many connections were begun.
    pub begun: Arc<AtomicUsize>,
}

impl Connector for Dialer {
    type Out = Connection;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Connection>, ureq::Error> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let is_tls = details.needs_tls();
        let host = details.uri.host().unwrap_or_default();
        let port = details.uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let line = if is_tls { self.dial_securely(host, port)? } else { Box::new(self.dial(host, port)?) };
        let buffers = LazyBuffers::new(BUFFERS.0, BUFFERS.1);
        Ok(Some(Connection { line, is_tls, buffers, progress: self.progress.clone() }))
    }
}

impl Dialer {
    /// By way of the proxy where there is one; plain http is loopback's, which a proxy would take to its own.
    fn dial_securely(&self, host: &str, port: u16) -> io::Result<Box<dyn Line>> {
        let failed = |phase, why: String| {
            self.progress.phase(phase);
            io::Error::other(why)
        };
        let proxy = Proxy::find(&self.job, host).map_err(|error| failed(Phase::Proxy, error.to_string()))?;
        let tls = self.tls.as_ref().map_err(|error| failed(Phase::Tls, error.to_string()))?;
        let line = match proxy {
            Some(proxy) => self
                .dial_through(&proxy, tls, host, port)
                .map_err(|error| io::Error::other(format!("{}: {}", proxy.host(), described(&error))))?,
            None => Box::new(self.dial(host, port)?),
        };
        self.progress.phase(Phase::Tls);
        secure(tls, line, host)
    }

    /// To `host` through the proxy: whatever goes wrong on the way is the proxy's phase.
    fn dial_through(&self, proxy: &Proxy, tls: &Arc<ClientConfig>, host: &str, port: u16) -> io::Result<Box<dyn Line>> {
        self.progress.phase(Phase::Proxy);
        let mut line: Box<dyn Line> = Box::new(self.socket(proxy.host(), proxy.port(), || ())?);
        if proxy.is_https() {
            line = secure(tls, line, proxy.host())?;
        }
        proxy.tunnel(&mut *line, &format!("{host}:{port}"), &self.job.user_agent)?;
        Ok(line)
    }

    fn dial(&self, host: &str, port: u16) -> io::Result<Socket> {
        self.progress.phase(Phase::Resolve);
        self.socket(host, port, || self.progress.phase(Phase::Connect))
    }

    /// A socket to the first of the host's addresses that takes the connection. DNS is asked for IPv6 where IPv4 has given no
    /// connection. Each address has its share of the time, and IPv6 as a whole has one while it is not known.
    fn socket(&self, host: &str, port: u16, resolved: impl Fn()) -> io::Result<Socket> {
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
            resolved();
            for (after, address) in (0..addresses.len() as u32).rev().zip(addresses) {
                let began = Instant::now();
                match connected(address, port, left / (1 + after + later)) {
                    Ok(stream) => return Ok(Socket { stream, deadline: Some(began + left) }),
                    Err(error) => why = Some(error),
                }
                left = left.saturating_sub(began.elapsed());
            }
        }
        Err(why.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }
}

fn connected(address: IpAddr, port: u16, time: Duration) -> io::Result<TcpStream> {
    let address = SocketAddr::new(address, port);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {}", described(&error)));
    // No time at all is an error of its own kind to std.
    let stream = TcpStream::connect_timeout(&address, time.max(Duration::from_millis(1))).map_err(named)?;
    // What is written is complete, and waiting for more would cost a round trip.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// TLS over `line`, agreed on now and not with the first byte that is sent, so that its trouble is known as its own.
fn secure(tls: &Arc<ClientConfig>, line: Box<dyn Line>, host: &str) -> io::Result<Box<dyn Line>> {
    if tls.time_provider.current_time().is_none() {
        return Err(io::Error::other("the clock is before 1970, when no certificate is valid"));
    }
    let bare = host.trim_start_matches('[').trim_end_matches([']', '.']);
    let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
    let client = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(client, line);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Box::new(stream))
}

/// An error for a person, where the library's own words are none or are meant for a programmer.
pub fn described(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock if error.get_ref().is_none() => "timed out".to_owned(),
        io::ErrorKind::UnexpectedEof => "the other side hung up".to_owned(),
        _ => error.to_string(),
    }
}

/// Bytes both ways, by a deadline.
trait Line: Read + Write + Debug + Send + Sync {
    /// What it ends in.
    fn socket(&mut self) -> &mut Socket;
}

impl Line for StreamOwned<ClientConnection, Box<dyn Line>> {
    fn socket(&mut self) -> &mut Socket {
        self.sock.socket()
    }
}

/// A socket whose every wait ends at the deadline.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    /// `None`: never; somebody else keeps one.
    deadline: Option<Instant>,
}

impl Socket {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Line for Socket {
    fn socket(&mut self) -> &mut Socket {
        self
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection as ureq uses it.
#[derive(Debug)]
pub struct Connection {
    line: Box<dyn Line>,
    is_tls: bool,
    buffers: LazyBuffers,
    progress: Progress,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.progress.phase(Phase::Send);
        self.line.socket().deadline = Instant::now().checked_add(*timeout.after);
        self.line.write_all(&self.buffers.output()[..amount])?;
        Ok(self.line.flush()?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.progress.phase(Phase::Receive);
        self.line.socket().deadline = Instant::now().checked_add(*timeout.after);
        let count = self.line.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    /// Whether a further request can be sent: nobody hung up, and nothing came that was not asked for.
    fn is_open(&mut self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.line.socket().stream, PollFlags::IN)], Some(&at_once)) == Ok(0)
    }

    fn is_tls(&self) -> bool {
        self.is_tls
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn what_refuses_and_what_is_silent_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let open = listener.local_addr().unwrap();
        let long = Duration::from_secs(30);
        assert_eq!(connected(open.ip(), open.port(), long).unwrap().peer_addr().unwrap(), open);
        // Another address of loopback, on which nobody has that port.
        let refused = connected([127, 1, 2, 3].into(), open.port(), long).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("127.1.2.3:{}: Connection refused", open.port())), "{refused}");
        // A listener whose queue is full drops what comes after.
        rustix::net::listen(&listener, 0).unwrap();
        let short = Duration::from_millis(100);
        let _queued: Vec<_> = (0..3).map_while(|_| connected(open.ip(), open.port(), short).ok()).collect();
        let silent = connected(open.ip(), open.port(), short).unwrap_err();
        assert!(silent.to_string().contains("timed out"), "{silent}");
    }
}
