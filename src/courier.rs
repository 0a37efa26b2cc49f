//! The courier takes one record, posts it over HTTPS, and tells how that ended.
//!
//! It is a process of its own without privileges, because it is the only part that reads what comes from the network.
//! It may block wherever names, TLS or HTTP block, because its parent watches the deadline and kills it. It knows
//! nothing of consent or of what a record means, and of profiles only [`crate::profile::success`].

mod connect;
pub mod message;
pub mod names;
mod proxy;
pub mod sandbox;
mod tls;

use std::io::{self, Read, Write};
use std::{borrow::Cow, cell::Cell, mem::ManuallyDrop, time::Duration, time::SystemTime};

use chrono::DateTime;
use memchr::memmem;
use ureq::http::{HeaderName, Response, StatusCode, Uri, header};
use ureq::unversioned::{resolver::ResolvedSocketAddrs, resolver::Resolver, transport::NextTimeout};
use ureq::{Agent, Body, Error, Proxy, config::Config, tls::TlsConfig};

use crate::endpoint::{Endpoint, may_hold_a_password};
use crate::facts::process::duration;
use connect::{Dialer, described};
use message::{Delivery, Frame, Job, Phase};
use names::Names;

/// The argument that makes the program a courier. Not a word that a user would type.
pub const COMMAND: &str = "--courier";

/// Reads a job from stdin, carries it out, and tells stdout how it goes.
///
/// # Errors
/// Those of reading and writing. There is nobody left who could be told.
pub fn run() -> io::Result<()> {
    // By from_slice, as everywhere: `from_str` would be another parser in the binary.
    let job: Job = serde_json::from_slice(io::read_to_string(io::stdin())?.as_bytes())?;
    // It was checked when the record was made.
    let endpoint = Endpoint::new(&job.url).ok_or(io::ErrorKind::InvalidInput)?;
    // Files that only root may read are read now. After this, no file of the system is read.
    let (proxy, names) = (proxy::find(&job, &endpoint), Names::read());
    let trust = if endpoint.is_https() { tls::trust(&job) } else { Ok(TlsConfig::default()) };
    let port = proxy.as_ref().ok().and_then(Option::as_ref).map_or(endpoint.port(), Proxy::port);
    tell(&Frame::Note(sandbox::enter(&[port])))?;
    let delivery = match (trust, proxy) {
        (Err(error), _) => Delivery::Failed { phase: Phase::Tls, why: error.to_string() },
        (_, Err(error)) => Delivery::Failed { phase: Phase::Proxy, why: error.to_string() },
        (Ok(tls), Ok(proxy)) => deliver(&job, &endpoint, config(&job, tls, proxy), names),
    };
    tell(&Frame::Delivery(delivery).bounded())
}

fn config(job: &Job, tls: TlsConfig, proxy: Option<Proxy>) -> Config {
    Config::builder()
        .tls_config(tls)
        .proxy(proxy)
        .timeout_connect(Some(job.connect_timeout))
        .user_agent(concat!("install-record/", env!("CARGO_PKG_VERSION")))
        // It has to hold the 64 KiB of headers that ureq accepts.
        .input_buffer_size(72 << 10)
        .output_buffer_size(12 << 10)
        .accept("")
        .max_redirects(0)
        .http_status_as_error(false)
        // The status has arrived by then, so no time is lost on a body that stalls, unless the body decides.
        .timeout_recv_body((!job.success.asks_body()).then_some(Duration::from_millis(100)))
        .build()
}

fn tell(frame: &Frame) -> io::Result<()> {
    // stdout is flushed at the end of each line.
    io::stdout().write_all((serde_json::to_string(frame)? + "\n").as_bytes())
}

// The courier has one thread.
thread_local! {
    /// The phase of the delivery.
    static PHASE: Cell<Phase> = const { Cell::new(Phase::Start) };
    /// The status at the beginning of its answer.
    static STATUS: Cell<Option<u16>> = const { Cell::new(None) };
}

/// Tells the parent a phase that is further on the way.
fn reach(phase: Phase) {
    if phase > PHASE.get() {
        PHASE.set(phase);
        // If this fails, the parent is gone. Telling the end of the delivery will show that.
        let _ = tell(&Frame::Phase(phase));
    }
}

/// The status of the answer that has arrived so far.
fn status_of(input: &[u8]) -> Option<u16> {
    StatusCode::from_bytes(input.strip_prefix(b"HTTP/1.")?.get(2..6)?.trim_ascii_end()).ok().map(|it| it.as_u16())
}

/// The length of the informational answer (1xx; RFC 9110, 15.2) that `input` begins with, if all of it is there. Nobody
/// has asked for another protocol (101), so that is an answer like any other.
fn informational(input: &[u8]) -> Option<usize> {
    status_of(input).filter(|status| (100..=199).contains(status) && *status != 101)?;
    // A line may end without a CR (RFC 9112, 2.2).
    let end = |empty: &&[u8]| Some(memmem::find(input, empty)? + empty.len());
    [&b"\n\r\n"[..], b"\n\n"].iter().filter_map(end).min()
}

fn deliver(job: &Job, endpoint: &Endpoint, config: Config, names: Names) -> Delivery {
    let dialer = Dialer { connect_timeout: job.connect_timeout, names, tls: Default::default() };
    // The process ends after this, so 150 authorities are not freed one by one.
    let agent = ManuallyDrop::new(Agent::with_parts(config, dialer, NoResolver));
    let post = job.headers.iter().fold(agent.post(&job.url), |post, (name, value)| post.header(name, value));
    match (post.send(&job.body), STATUS.get()) {
        (Ok(response), _) => answered(response, job, endpoint),
        // There were too many header fields, or one that ureq cannot read. The status counts alone.
        (Err(Error::Protocol(_)), Some(status)) => Delivery::Answered {
            status,
            accepted: job.success.is(status, None),
            answer: String::new(),
            retry_after: None,
        },
        (Err(error), _) => Delivery::Failed { phase: PHASE.get(), why: described(&error) },
    }
}

fn header(response: &Response<Body>, name: HeaderName) -> Option<Cow<'_, str>> {
    Some(String::from_utf8_lossy(response.headers().get(name)?.as_bytes()))
}

fn answered(response: Response<Body>, job: &Job, endpoint: &Endpoint) -> Delivery {
    let status = response.status().as_u16();
    // A record goes to the endpoint that is shown, and nowhere else.
    if response.status().is_redirection() {
        let location = header(&response, header::LOCATION).filter(|it| !it.is_empty()).unwrap_or("nowhere".into());
        let location = if may_hold_a_password(&location) { "another place" } else { &location };
        let why = format!("{} answered {status} and points to {location}", endpoint.host());
        return Delivery::Failed { phase: PHASE.get(), why };
    }
    let retry_after = retry_after(&response).filter(|pause| !pause.is_zero());
    let mut answer = Vec::new();
    // A body that never ends or breaks off does not change the status. If bodies can decide, only that of a 2xx is read.
    let limit = if !job.success.asks_body() || response.status().is_success() { 64 << 10 } else { 0 };
    let _ = response.into_body().into_reader().take(limit).read_to_end(&mut answer);
    let accepted = job.success.is(status, Some(&answer));
    Delivery::Answered { status, accepted, answer: String::from_utf8_lossy(&answer).into_owned(), retry_after }
}

/// How long a busy server asks to be left alone (RFC 6585, 4; RFC 9110, 10.2.3): a number of seconds, or a date. A date
/// is compared with the server's own clock, because ours may be far from it. If the server shows no clock, ours counts.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let pause = header(response, header::RETRY_AFTER).filter(|_| matches!(response.status().as_u16(), 429 | 503))?;
    let date = |text: &str| Some(DateTime::parse_from_rfc2822(text).ok()?.timestamp());
    let now = header(response, header::DATE).and_then(|text| date(&text));
    let now = now.unwrap_or_else(|| DateTime::from(SystemTime::now()).timestamp());
    duration(pause.trim()).or_else(|| Some(Duration::from_secs((date(&pause)? - now).max(0).unsigned_abs())))
}

/// Resolves nothing. ureq asks for all addresses of a name at once; the dialer asks for IPv6 only where IPv4 fails.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_an_answer_and_the_end_of_one_that_only_informs() {
        for (input, status, length) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Some(200), None),
            ("HTTP/1.1 204\r\n", Some(204), None),
            ("HTTP/1.0 404\nno field", Some(404), None),
            ("HTTP/1.1 100 Continue\r\n\r\n", Some(100), Some(25)),
            ("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n", Some(103), Some(37)),
            ("HTTP/1.1 103 Early Hints\r\nLink: a\r\n", Some(103), None),
            ("HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\r\n\r\n", Some(100), Some(23)),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Some(101), None),
            ("HTTP/1.1 20", None, None),
            ("HTTP/1.1 2000 OK\r\n", None, None),
            ("HTTP/1.1 +20 OK\r\n", None, None),
            ("HTTP/1.1 099 OK\r\n", None, None),
            ("HTTP/2 103 Hints\r\n\r\n", None, None),
            ("X: HTTP/1.1 200 OK\r\n", None, None),
            ("garbage\r\nHTTP/1.1 200 OK\r\n", None, None),
            ("", None, None),
        ] {
            let found = (status_of(input.as_bytes()), informational(input.as_bytes()));
            assert_eq!(found, (status, length), "{input}");
        }
    }

    #[test]
    fn a_pause_is_heard_where_the_server_is_busy_and_by_its_own_clock() {
        let endpoint = Endpoint::new("https://far.test/").unwrap();
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (status, pause, clock, expected) in [
            (429, "60", None, Some(60)),
            (503, " 60 ", None, Some(60)),
            (429, "Sun, 06 Nov 1994 08:51:37 GMT", Some(date), Some(120)),
            (429, "Sun, 06 Nov 1994 08:51:37 +0000", Some("Sun, 06 Nov 1994 08:49:37 -0000"), Some(120)),
            (429, "Sat, 06 Nov 2094 08:49:37 GMT", Some(date), Some(3_155_760_000)),
            (429, "Sat, 05 Nov 1994 08:49:37 GMT", Some(date), None),
            // Where the server shows no clock, ours counts, which is years later.
            (429, "Sun, 06 Nov 1994 08:51:37 GMT", Some("no date"), None),
            (429, "Sun, 06 Nov 1994 08:51:37 GMT", None, None),
            (429, "18446744073709551615", None, Some(u64::MAX)),
            (429, "18446744073709551616", None, Some(u64::MAX)),
            (429, "+60", None, None),
            (429, "soon", Some(date), None),
            (429, "-1", None, None),
            (429, "", None, None),
            (200, "60", None, None),
            (500, "60", None, None),
        ] {
            let mut response = Response::builder().status(status).header(header::RETRY_AFTER, pause);
            if let Some(clock) = clock {
                response = response.header(header::DATE, clock);
            }
            let response = response.body(Body::builder().data("{}")).unwrap();
            let expected = Delivery::Answered {
                status,
                accepted: status == 200,
                answer: "{}".to_owned(),
                retry_after: expected.map(Duration::from_secs),
            };
            assert_eq!(answered(response, &Job::default(), &endpoint), expected, "{status} {pause} {clock:?}");
        }
        let far = Response::builder().status(503).header(header::RETRY_AFTER, "Sat, 06 Nov 2094 08:49:37 GMT");
        let pause = retry_after(&far.body(Body::builder().data("")).unwrap());
        assert!(pause > Some(message::MAX_RETRY_AFTER), "{pause:?}");
    }
}
