//! The test receiver: the far end of a delivery, on loopback. It owns everything that a test needs to see or
//! to provoke there: certificates good and bad, a log of what arrived, and each way a server or a proxy can
//! misbehave, chosen by the first segment of the request's path or, for a whole connection, by `--fault`. It
//! shares no code with the crate, so that an error in one cannot hide the same error in the other; a thread
//! per connection and blocking I/O keep it readable. Nothing of it is in the shipped binary.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{mem, thread};

use lexopt::{Arg, ValueExt};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa};
use rcgen::{Issuer, KeyPair, date_time_ymd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustls::{ServerConfig, ServerConnection, Stream};
use serde_json::json;

const USAGE: &str = "\
receiver: an HTTPS server for tests, which records what it gets and misbehaves on request

usage: receiver --dir DIR [options]

  --dir DIR         where it writes; created when missing
  --address IP      listen there; repeatable, one port for all (default 127.0.0.1)
  --port N          default 0: any free port
  --san NAME        a further name or IP address in the certificate; repeatable
                    (always: localhost, 127.0.0.1, ::1)
  --plain           HTTP without TLS
  --cert KIND       good (default), expired, future, wrong-host, self-signed, unknown-ca,
                    forged (it names one of the web's authorities as its issuer)
  --tls VERSION     1.2 or 1.3 only; 1.1: refuse every ClientHello with a protocol_version alert
  --proxy           be a plain HTTP proxy instead: CONNECT HOST:PORT leads to PORT on loopback,
                    whatever HOST is
  --fault NAME      do this to every connection:
                      stall-accept      accept, never read          stall-handshake   read once, never answer
                      reset-accept      RST at once                 reset-handshake   read once, then RST
                      close-accept      FIN at once                 garbage-handshake read once, answer junk
                    or, with --proxy, to every CONNECT:
                      proxy-407         ask for credentials         proxy-stall       never answer
                      proxy-drip        answer one byte per second
  --answer TEXT     the body of every answer that has one (default {})
  --exit-after N    exit when N requests are dealt with
  --help

The first segment of a request's path chooses the answer; what follows it is free (/stall/v1/anything):
  /status/NNN[?retry-after=S]     that status
  /204                            204, no body
  /redirect/NNN[?to=URL]          NNN with `Location: URL` (URL: the rest, as it is); default: itself
  /slow?ms=N                      200 after N milliseconds (default 1000)
  /drip[?ms=N]                    200, one byte every N milliseconds (default 1000)
  /continue                       100, then 200
  /headers/N                      200 with N KiB of headers
  /hang-up                        200, and then FIN without having said so
  /stall                          no answer, until the client hangs up
  /endless-headers, /endless-body an answer without an end [?ms=N: pause between its 4 KiB pieces]
  /garbage                        something that is not HTTP
  /close, /reset                  FIN, RST in place of an answer
  /reset-headers, /reset-body     RST in the middle of that part of the answer
  /stall-body                     200 and the beginning of a body, then nothing
  anything else                   200 with the body {} (see --answer)

Written to DIR:
  ca.pem          the CA that clients must trust; new at every start
  connections     one line per accepted connection: NUMBER TIME LOCAL-ADDRESS PEER-ADDRESS FAULT-OR-DASH
  requests.jsonl  one JSON object per completely received request, there before it is answered:
                  number, time, method, path, headers (names in lower case), body, tls, sni, connection
  body-NUMBER     the exact body of that request
  events          how connections ended, when not in the ordinary way: NUMBER TIME TEXT
  port            the port, written last: ready
";

/// A head or a body beyond this size is refused.
const REQUEST_LIMIT: usize = 1 << 20;
/// How long a peer may be silent, or not read, before its thread is taken back.
const IDLE_LIMIT: Duration = Duration::from_secs(120);
/// How long a closed connection is read on, so that unread bytes do not turn its FIN into a RST.
const LINGER_LIMIT: Duration = Duration::from_secs(2);
/// A fatal `protocol_version` alert in a TLS 1.1 record.
const TLS11_REFUSAL: &[u8] = &[0x15, 0x03, 0x02, 0x00, 0x02, 0x02, 0x46];
const GARBAGE: &[u8] = b"220 not the protocol you are looking for\r\n\x00\xff\xfe\r\n";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const ENDLESS_PIECE: usize = 4096;

const CERTIFICATES: &str = "good expired future wrong-host self-signed unknown-ca forged";
const TLS_LIMITS: &str = "1.1 1.2 1.3";
const FAULTS: &str = "stall-accept reset-accept close-accept stall-handshake reset-handshake \
    garbage-handshake proxy-407 proxy-stall proxy-drip";

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let options = match Options::parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = io::stdout().write_all(USAGE.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "receiver: {error} (see --help)");
            return ExitCode::from(2);
        }
    };
    let dir = options.dir.display().to_string();
    if let Err(error) = serve(options) {
        let _ = writeln!(io::stderr(), "receiver: {dir}: {error}");
    }
    ExitCode::FAILURE
}

// ---- command line ----

/// The words in `certificate`, `tls` and `fault` are of the lists above; an empty one and `-` mean: as usual.
#[derive(Default)]
struct Options {
    dir: PathBuf,
    addresses: Vec<IpAddr>,
    port: u16,
    names: Vec<String>,
    plain: bool,
    proxy: bool,
    certificate: String,
    tls: String,
    fault: String,
    answer: String,
    exit_after: usize,
}

impl Options {
    /// `None`: help was asked for.
    fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
        let mut options = Options {
            names: ["localhost", "127.0.0.1", "::1"].map(String::from).into(),
            fault: "-".to_owned(),
            answer: "{}".to_owned(),
            exit_after: usize::MAX,
            ..Options::default()
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("dir") => options.dir = parser.value()?.into(),
                Arg::Long("address") => options.addresses.push(parser.value()?.parse()?),
                Arg::Long("port") => options.port = parser.value()?.parse()?,
                Arg::Long("san") => options.names.push(parser.value()?.string()?),
                Arg::Long("plain") => options.plain = true,
                Arg::Long("proxy") => options.proxy = true,
                Arg::Long("cert") => options.certificate = one_of(CERTIFICATES, parser.value()?)?,
                Arg::Long("tls") => options.tls = one_of(TLS_LIMITS, parser.value()?)?,
                Arg::Long("fault") => options.fault = one_of(FAULTS, parser.value()?)?,
                Arg::Long("answer") => options.answer = parser.value()?.string()?,
                Arg::Long("exit-after") => options.exit_after = parser.value()?.parse()?,
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        if options.dir.as_os_str().is_empty() {
            return Err("--dir is missing".into());
        }
        if options.fault.starts_with("proxy-") && !options.proxy {
            return Err("this fault needs --proxy".into());
        }
        if options.addresses.is_empty() {
            options.addresses.push(Ipv4Addr::LOCALHOST.into());
        }
        Ok(Some(options))
    }
}

fn one_of(names: &str, wanted: OsString) -> Result<String, lexopt::Error> {
    let wanted = wanted.string()?;
    match names.split(' ').any(|name| name == wanted) {
        true => Ok(wanted),
        false => Err(format!("`{wanted}` is none of: {names}").into()),
    }
}

// ---- start ----

struct Receiver {
    options: Options,
    /// `None`: speak plain HTTP.
    tls: Option<Arc<ServerConfig>>,
    connections: AtomicUsize,
    requests: AtomicUsize,
    dealt_with: AtomicUsize,
    /// Held while a line is written, so that lines stay whole.
    writing: Mutex<()>,
}

/// Returns only when something went wrong.
fn serve(options: Options) -> Result<(), Failure> {
    let dir = options.dir.clone();
    fs::create_dir_all(&dir)?;
    if dir.join("port").exists() {
        fs::remove_file(dir.join("port"))?;
    }
    let tls = certificates(&options)?;
    // The port that was free on the first address can be in use on another: some tries, then the error.
    let found = (0..20).find_map(|_| listen(&options).ok());
    let listeners = found.map_or_else(|| listen(&options), Ok)?;
    let port = listeners[0].local_addr()?.port();
    let receiver = Arc::new(Receiver {
        tls: (!options.plain && !options.proxy).then_some(tls),
        options,
        connections: AtomicUsize::new(0),
        requests: AtomicUsize::new(0),
        dealt_with: AtomicUsize::new(0),
        writing: Mutex::new(()),
    });
    for file in ["connections", "requests.jsonl", "events"] {
        receiver.append(file, "")?;
    }
    let mut acceptors = Vec::new();
    for listener in listeners {
        let receiver = Arc::clone(&receiver);
        acceptors.push(thread::Builder::new().spawn(move || receiver.accept(&listener))?);
    }
    fs::write(dir.join("port.new"), format!("{port}\n"))?;
    fs::rename(dir.join("port.new"), dir.join("port"))?;
    for acceptor in acceptors {
        let _ = acceptor.join();
    }
    Ok(())
}

/// All addresses on one port.
fn listen(options: &Options) -> Result<Vec<TcpListener>, Failure> {
    let mut port = options.port;
    let mut listeners = Vec::new();
    for address in &options.addresses {
        let listener =
            TcpListener::bind((*address, port)).map_err(|error| format!("{address} port {port}: {error}"))?;
        // The standard library's backlog of 128 can cost the 129th client of a burst a second.
        rustix::net::listen(&listener, 1024)?;
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Writes ca.pem and gives the server a chain that leads there, or one that has something wrong with it.
fn certificates(options: &Options) -> Result<Arc<ServerConfig>, Failure> {
    let (trusted, pem) = authority(named("receiver test CA"))?;
    fs::write(options.dir.join("ca.pem"), pem)?;

    let mut leaf = CertificateParams::new(match options.certificate.as_str() {
        "wrong-host" => vec!["wrong-host.invalid".to_owned()],
        _ => options.names.clone(),
    })?;
    let (from, until) = match options.certificate.as_str() {
        "expired" => (2000, 2001),
        "future" => (4000, 4096),
        // Clocks from 1970 on find it valid: a wrong clock is a case of its own.
        _ => (1970, 4096),
    };
    leaf.not_before = date_time_ymd(from, 1, 1);
    leaf.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate()?;
    let certificate = match options.certificate.as_str() {
        "self-signed" => leaf.self_signed(&key)?,
        "unknown-ca" => leaf.signed_by(&key, &authority(named("another CA"))?.0)?,
        "forged" => leaf.signed_by(&key, &authority(isrg_root_x2())?.0)?,
        _ => leaf.signed_by(&key, &trusted)?,
    };

    let versions: &[_] = match options.tls.as_str() {
        "1.2" => &[&rustls::version::TLS12],
        "1.3" => &[&rustls::version::TLS13],
        _ => rustls::ALL_VERSIONS,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key.into())?;
    Ok(Arc::new(config))
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// The name of one of the web's authorities, byte for byte.
fn isrg_root_x2() -> DistinguishedName {
    let mut names = DistinguishedName::new();
    let text = |text: &str| DnValue::PrintableString(text.try_into().expect("printable"));
    names.push(DnType::CountryName, text("US"));
    names.push(DnType::OrganizationName, text("Internet Security Research Group"));
    names.push(DnType::CommonName, text("ISRG Root X2"));
    names
}

/// A fresh CA, and its certificate as PEM.
fn authority(name: DistinguishedName) -> Result<(Issuer<'static, KeyPair>, String), rcgen::Error> {
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(4096, 1, 1);
    params.distinguished_name = name;
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

// ---- connections ----

impl Receiver {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let (tcp, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.event(0, error);
                    thread::sleep(Duration::from_millis(20));
                    continue;
                }
            };
            let number = self.connections.fetch_add(1, Ordering::SeqCst) + 1;
            let local = tcp.local_addr().map_or("-".into(), |it| it.to_string());
            let (time, fault) = (now(), &self.options.fault);
            let line = format!("{number} {time:.6} {local} {peer} {fault}\n");
            let _ = self.append("connections", &line);

            let receiver = Arc::clone(self);
            let spawned = thread::Builder::new().spawn(move || {
                if let Err(error) = receiver.connection(number, tcp) {
                    receiver.event(number, error);
                }
            });
            if let Err(error) = spawned {
                self.event(number, error);
            }
        }
    }

    fn connection(&self, number: usize, mut tcp: TcpStream) -> Result<(), Failure> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(IDLE_LIMIT))?;
        tcp.set_write_timeout(Some(IDLE_LIMIT))?;
        let fault = self.options.fault.as_str();
        if fault.ends_with("-handshake") || self.options.tls == "1.1" {
            let got = tcp.read(&mut [0; 4096])?;
            self.event(number, format!("first read: {got} bytes"));
        }
        match fault {
            "stall-accept" | "stall-handshake" => return wait_for_hangup(&tcp),
            "reset-accept" | "reset-handshake" => return reset_on_close(&tcp),
            "close-accept" => return close(&mut tcp),
            "garbage-handshake" => {
                tcp.write_all(GARBAGE)?;
                return close(&mut tcp);
            }
            _ => {}
        }
        if self.options.tls == "1.1" {
            tcp.write_all(TLS11_REFUSAL)?;
            return close(&mut tcp);
        }
        let mut tls = match &self.tls {
            Some(config) => Some(ServerConnection::new(Arc::clone(config))?),
            None => None,
        };
        while let Some(handshake) = tls.as_mut().filter(|it| it.is_handshaking()) {
            if let Err(error) = handshake.complete_io(&mut tcp) {
                self.event(number, format!("handshake: {error}"));
                return close(&mut tcp);
            }
        }
        self.requests(&mut Connection { number, tcp, tls, unread: Vec::new() })
    }

    fn requests(&self, connection: &mut Connection) -> Result<(), Failure> {
        loop {
            let request = match connection.request() {
                Ok(Some(request)) => request,
                Ok(None) => return connection.finish(),
                Err(Broken::Io(error)) => return Err(error.into()),
                Err(Broken::Refused(status)) => {
                    self.event(connection.number, format!("request refused: {status}"));
                    connection.send(&answer(status, &[], false, "{}"))?;
                    return connection.finish();
                }
            };
            self.record(connection, &request)?;
            let next = match self.options.proxy {
                true => self.tunnel(connection, &request),
                false => respond(connection, &request, &self.options.answer),
            };
            if let Ok(Next::Close) = next {
                connection.finish()?;
            }
            let dealt_with = self.dealt_with.fetch_add(1, Ordering::SeqCst) + 1;
            if dealt_with >= self.options.exit_after {
                process::exit(0);
            }
            if next? != Next::KeepAlive {
                return Ok(());
            }
        }
    }

    fn tunnel(&self, near: &mut Connection, request: &Request) -> Result<Next, Failure> {
        let port = request.target.rsplit(':').next();
        let port = port.and_then(|it| it.parse().ok());
        let (Some(port), "CONNECT") = (port, request.method.as_str()) else {
            near.send(&answer(501, &[], false, "{}"))?;
            return Ok(Next::Close);
        };
        match self.options.fault.as_str() {
            "proxy-407" => {
                let ask = [("Proxy-Authenticate", "Basic realm=\"test\"")];
                near.send(&answer(407, &ask, false, "{}"))?;
                return Ok(Next::Close);
            }
            "proxy-stall" => {
                wait_for_hangup(&near.tcp)?;
                return Ok(Next::Gone);
            }
            _ => {}
        }
        // Only ever loopback: no test can reach a real endpoint through here, whatever name it asks for.
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let loopback = loopback.map(|it| SocketAddr::new(it, port));
        let Ok(mut far) = TcpStream::connect(&loopback[..]) else {
            near.send(&answer(502, &[], false, "{}"))?;
            return Ok(Next::Close);
        };
        far.set_nodelay(true)?;
        far.set_write_timeout(Some(IDLE_LIMIT))?;
        let pause = Duration::from_secs(u64::from(self.options.fault == "proxy-drip"));
        near.drip(b"HTTP/1.1 200 Connected\r\n\r\n", pause)?;
        far.write_all(&near.unread)?;

        let (mut upload_from, mut upload_to) = (near.tcp.try_clone()?, far.try_clone()?);
        let upload = thread::Builder::new().spawn(move || {
            let _ = io::copy(&mut upload_from, &mut upload_to);
            let _ = upload_to.shutdown(Shutdown::Write);
        })?;
        let _ = io::copy(&mut far, &mut near.tcp);
        let _ = near.tcp.shutdown(Shutdown::Write);
        let _ = upload.join();
        Ok(Next::Gone)
    }

    fn record(&self, connection: &Connection, request: &Request) -> Result<(), Failure> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let tls = connection.tls.as_ref();
        let line = json!({
            "number": number,
            "time": now(),
            "method": request.method,
            "path": request.target,
            "headers": request.headers,
            "body": String::from_utf8_lossy(&request.body),
            "tls": tls.and_then(|it| it.protocol_version()).map(|it| format!("{it:?}")),
            "sni": tls.and_then(|it| it.server_name()),
            "connection": connection.number,
        });
        let body = self.options.dir.join(format!("body-{number}"));
        fs::write(body, &request.body)?;
        Ok(self.append("requests.jsonl", &format!("{line}\n"))?)
    }

    fn event(&self, connection: usize, text: impl Display) {
        let _ = self.append("events", &format!("{connection} {:.6} {text}\n", now()));
    }

    fn append(&self, file: &str, line: &str) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.options.dir.join(file);
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(line.as_bytes())
    }
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// Returns when the peer closes or resets, without reading a byte of what it may have sent.
fn wait_for_hangup(tcp: &TcpStream) -> Result<(), Failure> {
    while poll(&mut [PollFd::new(tcp, PollFlags::RDHUP)], None) == Err(Errno::INTR) {}
    Ok(())
}

fn reset_on_close(tcp: &TcpStream) -> Result<(), Failure> {
    set_socket_linger(tcp, Some(Duration::ZERO))?;
    Ok(())
}

/// FIN, and then reading on for a moment: a close with unread bytes would be a RST and take the answer along.
fn close(tcp: &mut TcpStream) -> Result<(), Failure> {
    tcp.set_read_timeout(Some(LINGER_LIMIT))?;
    let _ = tcp.shutdown(Shutdown::Write);
    let _ = io::copy(&mut tcp.take(4 * REQUEST_LIMIT as u64), &mut io::sink());
    Ok(())
}

// ---- requests ----

struct Request {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    keep_alive: bool,
}

enum Broken {
    /// The client is told so.
    Refused(u16),
    Io(io::Error),
}

struct Connection {
    number: usize,
    tcp: TcpStream,
    tls: Option<ServerConnection>,
    unread: Vec<u8>,
}

impl Connection {
    /// `None`: the client closed where a request would have begun.
    fn request(&mut self) -> Result<Option<Request>, Broken> {
        let head = match self.take_head() {
            Err(Broken::Io(_)) if self.unread.is_empty() => return Ok(None),
            head => head?,
        };
        let mut lines = head.trim_end().split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version @ ("HTTP/1.1" | "HTTP/1.0")), None) =
            (first.next(), first.next(), first.next(), first.next())
        else {
            return Err(Broken::Refused(400));
        };
        let mut headers = BTreeMap::<String, String>::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(Broken::Refused(400))?;
            let all = headers.entry(name.to_ascii_lowercase()).or_default();
            let separator = if all.is_empty() { "" } else { ", " };
            *all += &format!("{separator}{}", value.trim());
        }
        let says = |header: &str, word: &str| {
            let mut words = headers.get(header).into_iter().flat_map(|it| it.split(','));
            words.any(|it| it.trim().eq_ignore_ascii_case(word))
        };
        if headers.contains_key("transfer-encoding") {
            return Err(Broken::Refused(411));
        }
        if says("expect", "100-continue") && self.unread.is_empty() {
            self.send(CONTINUE).map_err(Broken::Io)?;
        }
        let length = headers.get("content-length").map_or("0", String::as_str);
        let length = length.parse().map_err(|_| Broken::Refused(400))?;
        Ok(Some(Request {
            method: method.to_owned(),
            target: target.to_owned(),
            keep_alive: version == "HTTP/1.1" && !says("connection", "close"),
            body: self.take(length)?,
            headers,
        }))
    }

    /// Up to and including the empty line.
    fn take_head(&mut self) -> Result<String, Broken> {
        const END: &[u8] = b"\r\n\r\n";
        let mut searched = 0;
        loop {
            let mut windows = self.unread[searched..].windows(END.len());
            let found = windows.position(|it| it == END);
            if let Some(found) = found {
                let head = self.take(searched + found + END.len())?;
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            searched = self.unread.len().saturating_sub(END.len() - 1);
            self.receive()?;
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, Broken> {
        if length > REQUEST_LIMIT {
            return Err(Broken::Refused(413));
        }
        while self.unread.len() < length {
            self.receive()?;
        }
        let rest = self.unread.split_off(length);
        Ok(mem::replace(&mut self.unread, rest))
    }

    fn receive(&mut self) -> Result<(), Broken> {
        if self.unread.len() > REQUEST_LIMIT {
            return Err(Broken::Refused(413));
        }
        let mut piece = [0; 16384];
        let got = match &mut self.tls {
            Some(tls) => Stream::new(tls, &mut self.tcp).read(&mut piece),
            None => self.tcp.read(&mut piece),
        };
        match got.map_err(Broken::Io)? {
            0 => Err(Broken::Io(ErrorKind::UnexpectedEof.into())),
            got => {
                self.unread.extend_from_slice(&piece[..got]);
                Ok(())
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => {
                let mut tls = Stream::new(tls, &mut self.tcp);
                tls.write_all(bytes)?;
                tls.flush()
            }
            None => self.tcp.write_all(bytes),
        }
    }

    /// All at once without a pause, else byte by byte (over TLS: a record for each).
    fn drip(&mut self, bytes: &[u8], pause: Duration) -> io::Result<()> {
        let size = if pause.is_zero() { bytes.len() } else { 1 };
        for piece in bytes.chunks(size) {
            self.send(piece)?;
            thread::sleep(pause);
        }
        Ok(())
    }

    fn send_for_ever(&mut self, piece: &[u8], pause: Duration) -> Result<Next, Failure> {
        loop {
            self.send(piece)?;
            thread::sleep(pause);
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.tcp);
        }
        close(&mut self.tcp)
    }
}

// ---- answers ----

#[derive(PartialEq)]
enum Next {
    KeepAlive,
    /// Close in the orderly way.
    Close,
    /// Nothing more to say: drop the connection as it is.
    Gone,
}

fn respond(connection: &mut Connection, request: &Request, body: &str) -> Result<Next, Failure> {
    let target = request.target.as_str();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut segments = path.trim_start_matches('/').split('/');
    let behaviour = segments.next().unwrap_or_default();
    let asked = segments.next().and_then(|it| it.parse().ok());
    let (status, header) = match behaviour {
        _ if request.method == "CONNECT" => (405, None),
        "status" => {
            let seconds = query.strip_prefix("retry-after=");
            (asked.unwrap_or(400), seconds.map(|it| ("Retry-After", it)))
        }
        "redirect" => {
            let to = query.strip_prefix("to=").unwrap_or(target);
            (asked.unwrap_or(307), Some(("Location", to)))
        }
        "204" => (204, None),
        _ => (200, None),
    };
    let long = "a".repeat(1024 - "X-Long: \r\n".len());
    let count = if behaviour == "headers" { asked.unwrap_or(1).into() } else { 0 };
    let headers: Vec<_> = header.into_iter().chain(std::iter::repeat_n(("X-Long", &*long), count)).collect();
    let answer = answer(status, &headers, request.keep_alive, body);
    let chosen = query.strip_prefix("ms=").and_then(|it| it.parse().ok());
    let pause = |default| Duration::from_millis(chosen.unwrap_or(default));
    match behaviour {
        "stall" => {
            wait_for_hangup(&connection.tcp)?;
            return Ok(Next::Gone);
        }
        "close" => {
            // No close_notify: the truncation that a crashed server leaves behind.
            close(&mut connection.tcp)?;
            return Ok(Next::Gone);
        }
        "reset" => {
            reset_on_close(&connection.tcp)?;
            return Ok(Next::Gone);
        }
        "reset-headers" | "reset-body" | "stall-body" => {
            let begun = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
            let end = if behaviour == "reset-headers" { begun.len() / 2 } else { begun.len() };
            connection.send(&begun.as_bytes()[..end])?;
            if behaviour == "stall-body" {
                wait_for_hangup(&connection.tcp)?;
                return Ok(Next::Gone);
            }
            // A RST takes along what the client has not read yet.
            thread::sleep(Duration::from_millis(200));
            reset_on_close(&connection.tcp)?;
            return Ok(Next::Gone);
        }
        "garbage" => {
            connection.send(GARBAGE)?;
            return Ok(Next::Close);
        }
        "endless-headers" => {
            let line = format!("X-Endless: {}\r\n", "a".repeat(ENDLESS_PIECE - 13));
            connection.send(b"HTTP/1.1 200 OK\r\n")?;
            return connection.send_for_ever(line.as_bytes(), pause(0));
        }
        "endless-body" => {
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}")?;
            return connection.send_for_ever(&[b' '; ENDLESS_PIECE], pause(0));
        }
        "drip" => connection.drip(&answer, pause(1000))?,
        "slow" => {
            thread::sleep(pause(1000));
            connection.send(&answer)?;
        }
        "continue" => {
            connection.send(CONTINUE)?;
            connection.send(&answer)?;
        }
        _ => connection.send(&answer)?,
    }
    Ok(match request.keep_alive && behaviour != "hang-up" {
        true => Next::KeepAlive,
        false => Next::Close,
    })
}

fn answer(status: u16, headers: &[(&str, &str)], keep_alive: bool, body: &str) -> Vec<u8> {
    let reason = if status == 200 { "OK" } else { "As Asked" };
    let mut text = format!("HTTP/1.1 {status} {reason}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !keep_alive {
        text += "Connection: close\r\n";
    }
    text += &match status {
        100..=199 | 204 | 304 => "\r\n".to_owned(),
        _ => format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    };
    text.into_bytes()
}
