//! The courier: an endpoint and opaque bytes in, an HTTPS POST, a verdict out.
//!
//! It runs as a process of its own without privileges, because it is the only part that reads what comes from the
//! network, and it may block wherever the resolver, TLS or HTTP blocks, because its parent holds the deadline and
//! kills it. It knows nothing of profiles, consent or what a record means.

pub mod job;
mod retry_after;
mod sandbox;
pub mod success;
mod trust;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, KeyProvider};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use ureq::config::Config;
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport};
use ureq::{Agent, Body, Proxy};

use crate::endpoint::Endpoint;
use crate::host::Host;
use job::{Frame, Job, Parcel, Phase, Verdict};
use success::Success;
use trust::Trust;

/// The argument that makes the program a courier. Not a word that a user would type.
pub const COMMAND: &str = "--courier";

/// The largest job: 64 records of 8 KiB, their URLs and headers.
const MAX_JOB: u64 = 4 << 20;

/// How much of an answer is kept for the receipt.
const MAX_ANSWER: usize = 1024;

/// How much of an answer is read where its text decides.
const MAX_DECISIVE_ANSWER: usize = 64 << 10;

/// How long the rest of an answer may take: its status has come, and the receipt is not worth the budget.
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);

const MAX_REDIRECTS: usize = 3;

/// Reads a job from `input`, carries it out, and tells `output` how it goes.
///
/// # Errors
/// Those of `input` and `output`: there is nobody left to tell anything else.
pub fn run(mut input: impl Read, output: impl Write + Send + 'static) -> io::Result<()> {
    let mut bytes = Vec::new();
    input.by_ref().take(MAX_JOB).read_to_end(&mut bytes)?;
    let job = Job::decode(&bytes).ok_or(io::ErrorKind::InvalidData)?;
    let teller = Teller(Arc::new(Mutex::new(Box::new(output))));
    let trust = Trust::read(&job);
    for lost in sandbox::enter() {
        teller.tell(&Frame::Note(lost))?;
    }
    let agent = trust.roots().and_then(|roots| agent(&job, roots, teller.clone()));
    for parcel in &job.parcels {
        teller.tell(&Frame::Phase(Phase::Start))?;
        let verdict = match &agent {
            Ok(agent) => deliver(agent, parcel, &job.success, &teller),
            Err(why) => Verdict::Failed { phase: Phase::Start, why: why.clone() },
        };
        teller.tell(&Frame::Verdict(verdict))?;
    }
    Ok(())
}

/// The last link of ureq's chain of connectors: it only tells that there is a connection, TLS and all.
#[derive(Debug)]
struct Connected(Teller);

impl<In: Transport> Connector<In> for Connected {
    type Out = In;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<In>, ureq::Error> {
        self.0.phase(Phase::Receive);
        Ok(chained)
    }
}

/// The way back to the parent, shared with the parts of ureq that know where a delivery is.
#[derive(Clone)]
struct Teller(Arc<Mutex<Box<dyn Write + Send>>>);

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller")
    }
}

impl Teller {
    fn tell(&self, frame: &Frame) -> io::Result<()> {
        let mut output = self.0.lock().map_err(|_| io::ErrorKind::Other)?;
        output.write_all(&frame.encode())?;
        output.flush()
    }

    fn phase(&self, phase: Phase) {
        PHASE.with_borrow_mut(|current| *current = phase);
        // A parent that is gone has no use for it, and the verdict will find out.
        let _ = self.tell(&Frame::Phase(phase));
    }
}

thread_local! {
    static PHASE: RefCell<Phase> = const { RefCell::new(Phase::Start) };
}

fn agent(job: &Job, roots: ureq::tls::RootCerts, teller: Teller) -> Result<Agent, String> {
    let config = Config::builder()
        .proxy(proxy(job)?)
        .tls_config(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(cryptography()).build())
        .user_agent(job.user_agent.as_str())
        .accept("")
        .accept_encoding("")
        // Redirects are followed below, where method, body and https are kept.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_connect(Some(job.connect_timeout))
        .timeout_recv_body(Some(ANSWER_PATIENCE))
        // ureq's own 128 KiB buffers are zeroed byte by byte at opt-level z: 3 of 6 million instructions.
        .input_buffer_size(8 << 10)
        .output_buffer_size(4 << 10)
        .max_idle_connections(1)
        .max_idle_connections_per_host(1)
        .build();
    let connector = DefaultConnector::new().chain(Connected(teller.clone()));
    Ok(Agent::with_parts(config, connector, SystemResolver(teller)))
}

/// ring without private keys: we have no certificate of our own, and the linker drops the code for signing.
fn cryptography() -> Arc<CryptoProvider> {
    #[derive(Debug)]
    struct NoKeys;
    impl KeyProvider for NoKeys {
        fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
            Err(rustls::Error::General("no client certificates".to_owned()))
        }
    }
    Arc::new(CryptoProvider { key_provider: &NoKeys, ..rustls::crypto::ring::default_provider() })
}

fn proxy(job: &Job) -> Result<Option<Proxy>, String> {
    if job.proxy.is_empty() {
        return Ok(None);
    }
    // ureq would ignore a SOCKS proxy that it was built without, and go round it.
    let scheme = job.proxy.split_once("://").map_or("http", |(scheme, _)| scheme);
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(format!("proxies of the kind {scheme}:// are not supported, use http:// or https://"));
    }
    let unusable = |_| "HTTPS_PROXY or ALL_PROXY is no URL of a proxy".to_owned();
    let given = Proxy::new(&job.proxy).map_err(unusable)?;
    let mut builder = Proxy::builder(given.protocol()).host(given.host()).port(given.port()).resolve_target(false);
    if let Some(user) = given.username() {
        builder = builder.username(user);
    }
    if let Some(password) = given.password() {
        builder = builder.password(password);
    }
    for pattern in job.no_proxy.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()) {
        builder = builder.no_proxy(pattern);
    }
    builder.build().map(Some).map_err(unusable)
}

fn deliver(agent: &Agent, parcel: &Parcel, success: &Success, teller: &Teller) -> Verdict {
    let failed = |why: String| Verdict::Failed { phase: PHASE.with_borrow(|phase| *phase), why };
    let Some(mut endpoint) = Endpoint::new(&parcel.url) else {
        return failed("its URL is neither https nor http to a loopback address".to_owned());
    };
    for _ in 0..=MAX_REDIRECTS {
        let response = match post(agent, &endpoint, parcel) {
            Ok(response) => response,
            Err(error) => return failed(described(&error)),
        };
        // RFC 9110, 15.4.8 and 15.4.9: only these keep the method and the body.
        let keeps_body = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT];
        if !keeps_body.contains(&response.status()) {
            return answered(response, success);
        }
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        match location.and_then(|location| endpoint.redirected(location)) {
            Some(next) => endpoint = next,
            None => return failed("redirected to what is not https".to_owned()),
        }
        let _ = teller.tell(&Frame::Note(format!("redirected to {}", endpoint.host())));
    }
    failed(format!("redirected more than {MAX_REDIRECTS} times"))
}

fn post(agent: &Agent, endpoint: &Endpoint, parcel: &Parcel) -> Result<Response<Body>, ureq::Error> {
    let mut request = agent.post(endpoint.url());
    for (name, value) in &parcel.headers {
        request = request.header(name, value);
    }
    if !endpoint.is_https() {
        // Loopback: a proxy would take it to another machine's.
        request = request.config().proxy(None).build();
    }
    request.send(&parcel.body[..])
}

fn answered(response: Response<Body>, success: &Success) -> Verdict {
    let status = response.status().as_u16();
    let retry_after = retry_after(&response);
    let mut answer = Vec::new();
    // The status is the answer; a body that never ends or breaks off does not change it.
    let limit = if success.any.is_empty() { MAX_ANSWER } else { MAX_DECISIVE_ANSWER };
    let _ = response.into_body().into_reader().take(limit as u64).read_to_end(&mut answer);
    let accepted = success.is(status, &answer);
    answer.truncate(MAX_ANSWER);
    Verdict::Answered { status, accepted, answer: String::from_utf8_lossy(&answer).into_owned(), retry_after }
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    // RFC 6585, 4, and RFC 9110, 15.6.4.
    if ![StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&response.status()) {
        return None;
    }
    let header = |name| response.headers().get(name)?.to_str().ok();
    // A date is one of the server's clock, which ours may be far from.
    let server_time = header(header::DATE).and_then(retry_after::http_date);
    let now = server_time.unwrap_or_else(|| Host::new(None).now());
    retry_after::parse(header(header::RETRY_AFTER)?, now)
}

fn described(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "no such host".to_owned(),
        ureq::Error::Timeout(_) => "timed out".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// The system's resolver, asked in this thread: ureq's own starts a thread for it, which is one more thing that can
/// be refused, and which nobody could stop anyway. The parent's deadline is the limit.
#[derive(Debug)]
struct SystemResolver(Teller);

impl Resolver for SystemResolver {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.0.phase(Phase::Resolve);
        let is_https = uri.scheme_str() == Some("https");
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> = match bare.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => (host, port).to_socket_addrs()?.collect(),
        };
        let mut addresses = self.empty();
        for address in found.into_iter().take(16) {
            addresses.push(address);
        }
        if addresses.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        self.0.phase(Phase::Connect);
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_heard_where_the_server_is_busy_and_by_its_own_clock() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let later = "Sun, 06 Nov 1994 08:51:37 GMT";
        for (status, pause, clock, expected) in [
            (429, "60", None, Some(60)),
            (503, "60", None, Some(60)),
            (429, later, Some(date), Some(120)),
            (429, later, Some("no date"), Some(0)),
            (429, later, None, Some(0)),
            (429, "soon", Some(date), None),
            (200, "60", None, None),
            (500, "60", None, None),
        ] {
            let mut response = Response::builder().status(status).header(header::RETRY_AFTER, pause);
            if let Some(clock) = clock {
                response = response.header(header::DATE, clock);
            }
            let response = response.body(Body::builder().data("{}")).unwrap();
            let expected = Verdict::Answered {
                status,
                accepted: status == 200,
                answer: "{}".to_owned(),
                retry_after: expected.map(Duration::from_secs),
            };
            assert_eq!(answered(response, &Success::default()), expected, "{status} {pause} {clock:?}");
        }
    }
}
