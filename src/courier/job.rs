//! What the parent and the courier tell each other: a job in, frames out, both in one tiny binary form.
//!
//! Length-prefixed fields (32 bits, little-endian) instead of JSON, because both ends must be simple to bound: the
//! parent reads what comes from a process that has talked to the network.

use std::time::Duration;

use super::success::{Expected, Success};

/// The longest single field; a record is at most 8 KiB.
const MAX_FIELD: usize = 64 << 10;

/// The longest pause that a server can ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// One record to post.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parcel {
    /// Where to.
    pub url: String,
    /// Request headers, in order.
    pub headers: Vec<(String, String)>,
    /// The exact bytes.
    pub body: Vec<u8>,
}

/// All that a courier is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// How long one connection may take to be made.
    pub connect_timeout: Duration,
    /// `User-Agent`.
    pub user_agent: String,
    /// The proxy for https, from HTTPS_PROXY or ALL_PROXY; empty for none.
    pub proxy: String,
    /// NO_PROXY.
    pub no_proxy: String,
    /// SSL_CERT_FILE; empty for the usual places.
    pub certificates_file: String,
    /// SSL_CERT_DIR; empty for the usual places.
    pub certificates_directory: String,
    /// Which answers mean that a parcel arrived.
    pub success: Success,
    /// What to post, in this order.
    pub parcels: Vec<Parcel>,
}

/// Where a delivery is, and where it was when it failed: "resolve" and "receive" send an administrator to
/// different people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Before anything else.
    #[default]
    Start,
    /// Looking the name up.
    Resolve,
    /// Making the connection.
    Connect,
    /// Reaching the endpoint through a proxy: the proxy's name, the way to it and its answer.
    Proxy,
    /// Agreeing on TLS: the server's certificate, above all.
    Tls,
    /// Sending the request and waiting for the answer.
    Receive,
}

impl Phase {
    const ALL: [Phase; 6] = [Phase::Start, Phase::Resolve, Phase::Connect, Phase::Proxy, Phase::Tls, Phase::Receive];

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Start => "start",
            Phase::Resolve => "resolve",
            Phase::Connect => "connect",
            Phase::Proxy => "proxy",
            Phase::Tls => "tls",
            Phase::Receive => "receive",
        }
    }
}

/// How the delivery of one parcel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server answered.
    Answered {
        /// HTTP status.
        status: u16,
        /// Whether the answer means that the parcel arrived.
        accepted: bool,
        /// The beginning of the answer's body.
        answer: String,
        /// How long the server asks to be left alone (429, 503): whole seconds, at most [`MAX_RETRY_AFTER`].
        retry_after: Option<Duration>,
    },
    /// It did not.
    Failed {
        /// Until when it went well.
        phase: Phase,
        /// What happened then.
        why: String,
    },
}

/// What a courier tells while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Something an administrator may want to know, under --verbose.
    Note(String),
    /// The current parcel has come to this phase.
    Phase(Phase),
    /// The current parcel is done; the next one begins.
    Verdict(Verdict),
}

impl Job {
    /// The job's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, u32::try_from(self.connect_timeout.as_millis()).unwrap_or(u32::MAX));
        for text in
            [&self.user_agent, &self.proxy, &self.no_proxy, &self.certificates_file, &self.certificates_directory]
        {
            put(&mut out, text.as_bytes());
        }
        put_number(&mut out, self.success.status.unwrap_or_default().into());
        put_number(&mut out, self.success.any.len() as u32);
        for expected in &self.success.any {
            let (kind, pointer) = match expected {
                Expected::True(pointer) => (TRUE, pointer),
                Expected::Absent(pointer) => (ABSENT, pointer),
            };
            put_number(&mut out, kind);
            put(&mut out, pointer.as_bytes());
        }
        put_number(&mut out, self.parcels.len() as u32);
        for parcel in &self.parcels {
            put(&mut out, parcel.url.as_bytes());
            put_number(&mut out, parcel.headers.len() as u32);
            for (name, value) in &parcel.headers {
                put(&mut out, name.as_bytes());
                put(&mut out, value.as_bytes());
            }
            put(&mut out, &parcel.body);
        }
        out
    }

    /// Reads a job; `None` when the bytes are not exactly one.
    pub fn decode(bytes: &[u8]) -> Option<Job> {
        let mut rest = bytes;
        let mut job = Job { connect_timeout: Duration::from_millis(take_number(&mut rest)?.into()), ..Job::default() };
        for text in [
            &mut job.user_agent,
            &mut job.proxy,
            &mut job.no_proxy,
            &mut job.certificates_file,
            &mut job.certificates_directory,
        ] {
            *text = take_text(&mut rest)?;
        }
        job.success.status = u16::try_from(take_number(&mut rest)?).ok().filter(|status| *status > 0);
        for _ in 0..take_number(&mut rest)? {
            let kind = take_number(&mut rest)?;
            let pointer = take_text(&mut rest)?;
            job.success.any.push(if kind == TRUE { Expected::True(pointer) } else { Expected::Absent(pointer) });
        }
        for _ in 0..take_number(&mut rest)? {
            let url = take_text(&mut rest)?;
            let mut headers = Vec::new();
            for _ in 0..take_number(&mut rest)? {
                headers.push((take_text(&mut rest)?, take_text(&mut rest)?));
            }
            job.parcels.push(Parcel { url, headers, body: take(&mut rest)?.to_vec() });
        }
        rest.is_empty().then_some(job)
    }
}

const TRUE: u32 = 1;
const ABSENT: u32 = 0;

const NOTE: u8 = b'n';
const PHASE: u8 = b'p';
const ACCEPTED: u8 = b'y';
const ANSWERED: u8 = b'a';
const FAILED: u8 = b'f';

/// What stands before a frame's text.
const HEAD: usize = 11;

/// In place of seconds: the server asks for no pause.
const NO_PAUSE: u32 = u32::MAX;

impl Frame {
    /// The frame's bytes: its kind, a number (16 bits: phase or status), seconds (32 bits) and a text.
    pub fn encode(&self) -> Vec<u8> {
        let mut seconds = NO_PAUSE;
        let (kind, number, text) = match self {
            Frame::Note(text) => (NOTE, 0, text.as_str()),
            Frame::Phase(phase) => (PHASE, *phase as u16, ""),
            Frame::Verdict(Verdict::Answered { status, accepted, answer, retry_after }) => {
                seconds = retry_after.map_or(NO_PAUSE, |pause| pause.min(MAX_RETRY_AFTER).as_secs() as u32);
                (if *accepted { ACCEPTED } else { ANSWERED }, *status, answer.as_str())
            }
            Frame::Verdict(Verdict::Failed { phase, why }) => (FAILED, *phase as u16, why.as_str()),
        };
        let mut out = vec![kind];
        out.extend_from_slice(&number.to_le_bytes());
        put_number(&mut out, seconds);
        put(&mut out, text.as_bytes());
        out
    }

    /// Takes one whole frame from the front of `bytes`; `Ok(None)` when more has to come first.
    ///
    /// # Errors
    /// When what is there is no frame: nothing after it can be trusted either.
    pub fn decode(bytes: &mut Vec<u8>) -> Result<Option<Frame>, NotAFrame> {
        let [kind, low, high, rest @ ..] = bytes.as_slice() else { return Ok(None) };
        let mut rest = rest;
        let (Some(seconds), Some(length)) = (take_number(&mut rest), take_number(&mut rest)) else { return Ok(None) };
        if length as usize > MAX_FIELD {
            return Err(NotAFrame);
        }
        let Some(text) = rest.get(..length as usize) else { return Ok(None) };
        let text = String::from_utf8_lossy(text).into_owned();
        let number = u16::from_le_bytes([*low, *high]);
        let phase = || Phase::ALL.get(usize::from(number)).copied().ok_or(NotAFrame);
        let frame = match *kind {
            NOTE => Frame::Note(text),
            PHASE => Frame::Phase(phase()?),
            ACCEPTED | ANSWERED => Frame::Verdict(Verdict::Answered {
                status: number,
                accepted: *kind == ACCEPTED,
                answer: text,
                // Bounded here as well: a courier that was taken over could ask for anything.
                retry_after: (seconds != NO_PAUSE).then(|| Duration::from_secs(seconds.into()).min(MAX_RETRY_AFTER)),
            }),
            FAILED => Frame::Verdict(Verdict::Failed { phase: phase()?, why: text }),
            _ => return Err(NotAFrame),
        };
        bytes.drain(..HEAD + length as usize);
        Ok(Some(frame))
    }
}

/// The bytes are no [`Frame`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the courier said something that is no message")]
pub struct NotAFrame;

fn put_number(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    let field = &field[..field.len().min(MAX_FIELD)];
    put_number(out, field.len() as u32);
    out.extend_from_slice(field);
}

fn take_number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(*number))
}

fn take<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = take_number(rest)? as usize;
    let field = rest.get(..length).filter(|field| field.len() <= MAX_FIELD)?;
    *rest = &rest[length..];
    Some(field)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(take(rest)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            connect_timeout: Duration::from_millis(1500),
            user_agent: "install-record/0.1.0".to_owned(),
            proxy: "http://proxy:3128".to_owned(),
            no_proxy: "localhost".to_owned(),
            certificates_file: "/ca.pem".to_owned(),
            certificates_directory: String::new(),
            success: Success {
                status: Some(200),
                any: vec![Expected::True("/ok".to_owned()), Expected::Absent("/errors".to_owned())],
            },
            parcels: vec![
                Parcel {
                    url: "https://localhost/".to_owned(),
                    headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
                    body: b"{}\0\xff".to_vec(),
                },
                Parcel::default(),
            ],
        }
    }

    #[test]
    fn jobs_come_back_whole_or_not_at_all() {
        let bytes = job().encode();
        assert_eq!(Job::decode(&bytes), Some(job()));
        for end in 0..bytes.len() {
            assert_eq!(Job::decode(&bytes[..end]), None);
        }
        assert_eq!(Job::decode(&[bytes, vec![0]].concat()), None);
    }

    #[test]
    fn a_job_that_promises_more_than_it_has_is_none() {
        for bytes in [&[0xff; 64][..], &[0; 23], &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f]] {
            assert_eq!(Job::decode(bytes), None);
        }
    }

    #[test]
    fn frames_come_back_in_order_however_they_are_cut() {
        let frames = [
            Frame::Note("degraded".to_owned()),
            Frame::Phase(Phase::Receive),
            Frame::Verdict(Verdict::Answered {
                status: 200,
                accepted: true,
                answer: "{}".to_owned(),
                retry_after: None,
            }),
            Frame::Verdict(Verdict::Answered {
                status: 429,
                accepted: false,
                answer: String::new(),
                retry_after: Some(Duration::from_secs(120)),
            }),
            Frame::Verdict(Verdict::Failed { phase: Phase::Resolve, why: String::new() }),
        ];
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        for byte in frames.iter().flat_map(Frame::encode) {
            buffer.push(byte);
            while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                seen.push(frame);
            }
        }
        assert_eq!(seen, frames);
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for bytes in [&b"x\0\0\0\0\0\0\0\0\0\0"[..], b"n\0\0\0\0\0\0\xff\xff\xff\xff", b"p\x09\0\0\0\0\0\0\0\0\0"] {
            assert_eq!(Frame::decode(&mut bytes.to_vec()), Err(NotAFrame));
        }
    }

    #[test]
    fn no_frame_asks_for_more_than_the_longest_pause() {
        let decoded = Frame::decode(&mut b"a\xad\x01\xfe\xff\xff\xff\0\0\0\0".to_vec()).unwrap();
        let retry_after = Some(MAX_RETRY_AFTER);
        assert_eq!(
            decoded,
            Some(Frame::Verdict(Verdict::Answered {
                status: 429,
                accepted: false,
                answer: String::new(),
                retry_after
            }))
        );
    }
}
