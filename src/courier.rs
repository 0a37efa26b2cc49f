//! The courier: an endpoint and opaque bytes in, an HTTPS POST, a verdict out.
//!
//! It runs as a process of its own without privileges, because it is the only part that reads what comes from the
//! network, and it may block wherever the resolver, TLS or HTTP blocks, because its parent holds the deadline and
//! kills it. It knows nothing of profiles, consent or what a record means.

mod connection;
pub mod job;
mod proxy;
mod race;
mod resolve;
mod retry_after;
pub mod sandbox;
pub mod success;
mod trust;

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Agent, Body};

use crate::endpoint::Endpoint;
use crate::host::Host;
use connection::Dialer;
use job::{Frame, Job, Parcel, Phase, Verdict};
use proxy::Proxy;
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
    let teller = Teller(Arc::new(Mutex::new(Told { output: Box::new(output), phase: Phase::Start })));
    let trust = Trust::read(&job);
    for note in sandbox::enter() {
        teller.tell(&Frame::Note(note))?;
    }
    let courier = Courier::new(&job, trust, teller.clone());
    for parcel in &job.parcels {
        teller.phase(Phase::Start);
        let verdict = match &courier {
            Ok(courier) => courier.deliver(parcel, &job.success),
            Err(why) => Verdict::Failed { phase: Phase::Start, why: why.clone() },
        };
        teller.tell(&Frame::Verdict(verdict))?;
    }
    Ok(())
}

/// The way back to the parent, shared with the connections, which know where a delivery is.
#[derive(Clone)]
struct Teller(Arc<Mutex<Told>>);

struct Told {
    output: Box<dyn Write + Send>,
    phase: Phase,
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller")
    }
}

impl Teller {
    fn tell(&self, frame: &Frame) -> io::Result<()> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.output.write_all(&frame.encode())?;
        told.output.flush()
    }

    /// Tells a phase that is a new one.
    fn phase(&self, phase: Phase) {
        if self.current() != phase {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).phase = phase;
            // A parent that is gone has no use for it, and the verdict will find out.
            let _ = self.tell(&Frame::Phase(phase));
        }
    }

    /// The phase that was told last.
    fn current(&self) -> Phase {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).phase
    }
}

/// What a job's parcels have in common.
struct Courier {
    agent: Agent,
    teller: Teller,
    /// How many connections were begun.
    begun: Arc<AtomicUsize>,
}

impl Courier {
    fn new(job: &Job, trust: Trust, teller: Teller) -> Result<Courier, String> {
        let begun = Arc::new(AtomicUsize::new(0));
        let dialer = Dialer {
            tls: trust.config()?,
            proxy: Proxy::new(job)?,
            connect_timeout: job.connect_timeout,
            teller: teller.clone(),
            begun: Arc::clone(&begun),
        };
        let config = Config::builder()
            // The proxy is the dialer's.
            .proxy(None)
            .user_agent(job.user_agent.as_str())
            .accept("")
            .accept_encoding("")
            // Redirects are followed below, where method, body and https are kept.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_recv_body(Some(ANSWER_PATIENCE))
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .build();
        Ok(Courier { agent: Agent::with_parts(config, dialer, NoResolver), teller, begun })
    }

    fn deliver(&self, parcel: &Parcel, success: &Success) -> Verdict {
        let failed = |why: String| Verdict::Failed { phase: self.teller.current(), why };
        let Some(mut endpoint) = Endpoint::new(&parcel.url) else {
            return failed("its URL is neither https nor http to a loopback address".to_owned());
        };
        for _ in 0..=MAX_REDIRECTS {
            let response = match self.post(&endpoint, parcel) {
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
            let _ = self.teller.tell(&Frame::Note(format!("redirected to {}", endpoint.host())));
        }
        failed(format!("redirected more than {MAX_REDIRECTS} times"))
    }

    fn post(&self, endpoint: &Endpoint, parcel: &Parcel) -> Result<Response<Body>, ureq::Error> {
        let send = || {
            let mut request = self.agent.post(endpoint.url());
            for (name, value) in &parcel.headers {
                request = request.header(name, value);
            }
            request.send(&parcel.body[..])
        };
        let begun = self.begun.load(Ordering::Relaxed);
        match send() {
            // A server may end a kept connection at any time (RFC 9112, 9.3.1). A record may be sent twice, as it has an ID.
            Err(ureq::Error::Io(_)) if begun == self.begun.load(Ordering::Relaxed) => send(),
            sent => sent,
        }
    }
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
        ureq::Error::Timeout(_) => "timed out".to_owned(),
        ureq::Error::Io(error) => connection::described(error),
        other => other.to_string(),
    }
}

/// ureq resolves a name before each request; the dialer does it where it makes a connection.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
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
