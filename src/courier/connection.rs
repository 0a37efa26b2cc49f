//! The connections that ureq posts over: addresses raced, a proxy's tunnel, TLS, all within the connect timeout.
//!
//! ureq has connectors of its own, but they try one address after the other, restart a proxy's time with every byte that
//! it sends, and resolve a name before each request, also when a connection is kept. Here, a connection is a chain of
//! lines, and the socket at its end keeps the deadline for all of them.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};

use super::Teller;
use super::job::Phase;
use super::proxy::Proxy;
use super::race;
use super::resolve::resolve;

/// Sizes of ureq's buffers for what comes in and what goes out. Its own 128 KiB are zeroed byte by byte.
const BUFFERS: (usize, usize) = (8 << 10, 4 << 10);

/// Makes connections.
#[derive(Debug)]
pub struct Dialer {
    /// How a server is verified.
    pub tls: Arc<ClientConfig>,
    /// What https goes through.
    pub proxy: Option<Proxy>,
    /// How long a connection may take to be made, once the name is resolved.
    pub connect_timeout: Duration,
    /// Who hears of its phases.
    pub teller: Teller,
    /// How many were begun.
    pub begun: Arc<AtomicUsize>,
}

impl Connector for Dialer {
    type Out = Connection;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Connection>, ureq::Error> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let is_https = details.needs_tls();
        let host = details.uri.host().unwrap_or_default();
        let port = details.uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        // Plain http is loopback's, and a proxy would take it to its own.
        let proxy = self.proxy.as_ref().filter(|proxy| is_https && !proxy.is_bypassed(host));
        let mut line = match proxy {
            Some(proxy) => self
                .dial_through(proxy, host, port)
                .map_err(|error| io::Error::other(format!("{}: {}", proxy.host(), described(&error))))?,
            None => self.dial(host, port, is_https)?,
        };
        if is_https {
            self.teller.phase(Phase::Tls);
            line = self.secure(line, host)?;
        }
        Ok(Some(Connection {
            line,
            is_tls: is_https,
            buffers: LazyBuffers::new(BUFFERS.0, BUFFERS.1),
            teller: self.teller.clone(),
        }))
    }
}

impl Dialer {
    fn dial(&self, host: &str, port: u16, is_https: bool) -> io::Result<Box<dyn Line>> {
        self.teller.phase(Phase::Resolve);
        let mut addresses = resolve(host, port)?;
        // Nothing leaves this machine in the clear, wherever its hosts(5) says that localhost is.
        addresses.retain(|address| is_https || address.ip().is_loopback());
        if addresses.is_empty() {
            return Err(io::Error::other(format!("{host} is no loopback address here")));
        }
        self.teller.phase(Phase::Connect);
        self.socket(&addresses)
    }

    /// To `host` through the proxy: whatever goes wrong on the way is the proxy's phase.
    fn dial_through(&self, proxy: &Proxy, host: &str, port: u16) -> io::Result<Box<dyn Line>> {
        self.teller.phase(Phase::Proxy);
        let mut line = self.socket(&resolve(proxy.host(), proxy.port())?)?;
        if proxy.is_https() {
            line = self.secure(line, proxy.host())?;
        }
        proxy.tunnel(&mut *line, &format!("{host}:{port}"))?;
        Ok(line)
    }

    fn socket(&self, addresses: &[SocketAddr]) -> io::Result<Box<dyn Line>> {
        let deadline = Instant::now() + self.connect_timeout;
        let stream = race::connect(addresses, self.connect_timeout)?;
        // What is written is complete, and waiting for more would cost a round trip.
        stream.set_nodelay(true)?;
        Ok(Box::new(Socket { stream, deadline: Some(deadline) }))
    }

    fn secure(&self, line: Box<dyn Line>, host: &str) -> io::Result<Box<dyn Line>> {
        if self.tls.time_provider.current_time().is_none() {
            return Err(io::Error::other("the clock is before 1970, when no certificate is valid"));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
        let client = ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(client, line);
        // Now, and not with the first byte that is sent, so that its trouble is known as its own.
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Box::new(stream))
    }
}

/// An error for a person, where the library's own words are none or are meant for a programmer.
pub fn described(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut if error.get_ref().is_none() => "timed out".to_owned(),
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

/// A socket that does not block, and whose every wait ends at the deadline.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    /// `None`: never; somebody else keeps one.
    deadline: Option<Instant>,
}

impl Line for Socket {
    fn socket(&mut self) -> &mut Socket {
        self
    }
}

impl Socket {
    /// Does what can be done at once, or else when the socket is ready for it.
    fn when<T>(&mut self, ready: PollFlags, mut act: impl FnMut(&mut TcpStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match act(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(ready)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn wait(&self, ready: PollFlags) -> io::Result<()> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match poll(&mut [PollFd::new(&self.stream, ready)], left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.when(PollFlags::IN, |stream| stream.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.when(PollFlags::OUT, |stream| stream.write(bytes))
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
    teller: Teller,
}

impl Connection {
    fn limit(&mut self, timeout: NextTimeout) {
        self.line.socket().deadline = Instant::now().checked_add(*timeout.after);
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.teller.phase(Phase::Receive);
        self.limit(timeout);
        self.line.write_all(&self.buffers.output()[..amount])?;
        Ok(self.line.flush()?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.limit(timeout);
        let room = self.buffers.input_append_buf();
        if room.is_empty() {
            return Err(io::Error::other("the headers of the answer have no end").into());
        }
        let count = self.line.read(room)?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    /// Whether a further request can be sent: nobody hung up, and nothing came that was not asked for.
    fn is_open(&mut self) -> bool {
        self.line.socket().deadline = Some(Instant::now());
        self.line.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    fn is_tls(&self) -> bool {
        self.is_tls
    }
}
