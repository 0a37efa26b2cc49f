//! What the parent and the courier tell each other: one JSON job in, one JSON line for each step out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::profile::success::Success;

/// How much of an answer is kept for the receipt, in bytes.
pub const MAX_ANSWER: usize = 1024;

/// The longest reason, in bytes. It becomes part of a line for people.
pub const MAX_REASON: usize = 300;

/// The longest pause that a server can ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// All that a courier is told: one record, and how to post it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Where to.
    pub url: String,
    /// Request headers, in order.
    pub headers: Vec<(String, String)>,
    /// The exact body.
    pub body: String,
    /// Which answers mean that the record arrived.
    pub success: Success,
    /// How long the connection may take to be made, and then its TLS handshake.
    pub connect_timeout: Duration,
    /// The proxy for https, from HTTPS_PROXY or ALL_PROXY; empty for none.
    pub proxy: String,
    /// NO_PROXY.
    pub no_proxy: String,
    /// SSL_CERT_FILE; where neither it nor SSL_CERT_DIR is set, CURL_CA_BUNDLE; empty for the usual places.
    pub certificates_file: String,
    /// SSL_CERT_DIR, directories separated by colons; empty for the usual places.
    pub certificates_directories: String,
}

/// The phase that a delivery is in, or in which it failed, in the order of the way. It tells an administrator whom to
/// ask: other people can help with "resolve" than with "receive".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Serialize, Deserialize)]
pub enum Phase {
    /// Before anything else.
    Start,
    /// Looking the name up.
    Resolve,
    /// Making the connection.
    Connect,
    /// Reaching the endpoint through a proxy: the proxy's name, the way to it and its answer.
    Proxy,
    /// The TLS handshake, above all the check of the server's certificate.
    Tls,
    /// Sending the request.
    Send,
    /// Waiting for the answer.
    Receive,
}

impl Phase {
    /// Its name in messages.
    pub fn name(self) -> String {
        format!("{self:?}").to_ascii_lowercase()
    }
}

/// How the delivery ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// The server answered, and not with a redirect.
    Answered {
        /// HTTP status.
        status: u16,
        /// Whether the answer means that the record arrived.
        accepted: bool,
        /// The beginning of the answer's body, at most [`MAX_ANSWER`] bytes.
        answer: String,
        /// How long the server asks to be left alone (429, 503): whole seconds, at most [`MAX_RETRY_AFTER`].
        retry_after: Option<Duration>,
    },
    /// It was not delivered. In [`Phase::Start`], it was not tried either.
    Failed {
        /// The phase that failed.
        phase: Phase,
        /// Why.
        why: String,
    },
}

/// What a courier tells while it works, one a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// What an administrator may want to know, under --verbose.
    Note(String),
    /// The delivery has come to this phase.
    Phase(Phase),
    /// How it ended. Nothing follows.
    Delivery(Delivery),
}

impl Frame {
    /// The same frame, with its texts and its pause cut to their limits, and without control characters in notes and
    /// reasons.
    pub fn bounded(mut self) -> Frame {
        match &mut self {
            Frame::Delivery(Delivery::Answered { answer, retry_after, .. }) => {
                answer.truncate(answer.floor_char_boundary(MAX_ANSWER));
                *retry_after = retry_after.map(|pause| pause.min(MAX_RETRY_AFTER));
            }
            Frame::Note(text) | Frame::Delivery(Delivery::Failed { why: text, .. }) => {
                text.retain(|sign| !sign.is_control());
                text.truncate(text.floor_char_boundary(MAX_REASON));
            }
            Frame::Phase(_) => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_courier_says_is_cut_to_its_limits() {
        let long = "ä".repeat(MAX_ANSWER);
        let retry_after = Some(Duration::MAX);
        let answered = Delivery::Answered { status: 429, accepted: false, answer: long.clone(), retry_after };
        let Frame::Delivery(Delivery::Answered { answer, retry_after, .. }) = Frame::Delivery(answered).bounded()
        else {
            panic!("another kind")
        };
        assert_eq!((answer.len(), retry_after), (MAX_ANSWER, Some(MAX_RETRY_AFTER)));
        let failed = Frame::Delivery(Delivery::Failed { phase: Phase::Tls, why: format!("x{long}") }).bounded();
        let Frame::Delivery(Delivery::Failed { phase: Phase::Tls, why }) = failed else { panic!("another kind") };
        assert_eq!(why.len(), MAX_REASON - 1);
        let Frame::Note(note) = Frame::Note("a\u{1b}[2Jb\nc\u{9b}d\u{7f}\tä".to_owned()).bounded() else {
            panic!("another kind")
        };
        assert_eq!(note, "a[2Jbcdä");
    }

    #[test]
    fn the_longest_answer_fits_into_a_line() {
        // Control characters are the longest when they are escaped.
        let answer = "\u{1}".repeat(MAX_ANSWER);
        let delivery = Delivery::Answered { status: 503, accepted: false, answer, retry_after: Some(MAX_RETRY_AFTER) };
        let line = serde_json::to_vec(&Frame::Delivery(delivery.clone())).unwrap();
        assert!(line.len() < crate::dispatch::MAX_LINE, "{}", line.len());
        assert_eq!(serde_json::from_slice::<Frame>(&line).unwrap(), Frame::Delivery(delivery));
    }
}
