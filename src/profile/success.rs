//! Which answers of a receiving service mean that a record arrived.
//!
//! The courier decides, because an answer is text from the network. The parent only hears the result.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::form::Pointer;

/// A service's way to say that it took a record, as a profile has it. The default is any status from 200 to 299.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Success {
    /// The one status from 200 to 299 that counts.
    pub status: Option<u16>,
    /// What the answer's body must say: any one of these. An empty list asks for nothing.
    pub any: Vec<Expected>,
}

/// What an answer's JSON body is expected to have, by a JSON Pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// `true` at this place.
    True(Pointer),
    /// Nothing (or `null`, or an empty list) at this place of an object.
    Absent(Pointer),
}

impl Success {
    /// Whether an answer with this status and body means that a record arrived.
    pub fn is(&self, status: u16, body: &[u8]) -> bool {
        let is_status = (200..=299).contains(&status) && self.status.is_none_or(|only| status == only);
        if !is_status || self.any.is_empty() {
            return is_status;
        }
        let Ok(body @ Value::Object(_)) = serde_json::from_slice(body) else { return false };
        let is_nothing = |found: &Value| found.is_null() || found.as_array().is_some_and(Vec::is_empty);
        self.any.iter().any(|expected| match expected {
            Expected::True(pointer) => body.pointer(pointer) == Some(&Value::Bool(true)),
            Expected::Absent(pointer) => body.pointer(pointer).is_none_or(is_nothing),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_by_the_services_own_rules() {
        let only_200 = Success { status: Some(200), any: Vec::new() };
        let graphql = Success {
            status: Some(200),
            any: serde_json::from_str(r#"[{"true":"/data/x/success"},{"absent":"/errors"}]"#).unwrap(),
        };
        for (status, body, any_2xx, is_200, is_graphql) in [
            (200, "{}", true, true, true),
            (200, "", true, true, false),
            (200, "<html>", true, true, false),
            (200, "[]", true, true, false),
            (201, "{}", true, false, false),
            (204, "", true, false, false),
            (302, "{}", false, false, false),
            (500, "{}", false, false, false),
            (200, r#"{"data":{"x":{"success":true}},"errors":[{}]}"#, true, true, true),
            (200, r#"{"data":{"x":{"success":false}}}"#, true, true, true),
            (200, r#"{"data":{"x":{"success":false}},"errors":[{"message":"no"}]}"#, true, true, false),
            (200, r#"{"errors":[]}"#, true, true, true),
        ] {
            let found = [&Success::default(), &only_200, &graphql].map(|rule| rule.is(status, body.as_bytes()));
            assert_eq!(found, [any_2xx, is_200, is_graphql], "{status} {body}");
        }
    }
}
