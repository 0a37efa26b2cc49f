//! Which answers of a receiving service mean that a record arrived.
//!
//! The courier decides, because an answer is text from the network. The parent only hears the result.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::form::Pointer;

/// A service's way to say that it took a record, as a profile has it. The default is any status from 200 to 299. With
/// one or both places, the answer must be a JSON object in which one of them is as expected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Success {
    /// The one status from 200 to 299 that counts.
    pub status: Option<u16>,
    /// Where `true` is.
    #[serde(rename = "true")]
    pub is_true: Option<Pointer>,
    /// Where nothing is (or `null`, or an empty list).
    pub absent: Option<Pointer>,
}

impl Success {
    /// Whether the status alone does not tell.
    pub fn asks_body(&self) -> bool {
        self.is_true.is_some() || self.absent.is_some()
    }

    /// Whether an answer with this status and body means that a record arrived. Without a body, the status counts alone.
    pub fn is(&self, status: u16, body: Option<&[u8]>) -> bool {
        let is_status = (200..=299).contains(&status) && self.status.is_none_or(|only| status == only);
        let Some(body) = body.filter(|_| is_status && self.asks_body()) else { return is_status };
        let Ok(body @ Value::Object(_)) = serde_json::from_slice(body) else { return false };
        let is_nothing = |found: &Value| found.is_null() || found.as_array().is_some_and(Vec::is_empty);
        self.is_true.iter().any(|place| body.pointer(place) == Some(&Value::Bool(true)))
            || self.absent.iter().any(|place| body.pointer(place).is_none_or(is_nothing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_by_the_services_own_rules() {
        let only_200 = Success { status: Some(200), ..Success::default() };
        let graphql = r#"{"status":200,"true":"/data/x/success","absent":"/errors"}"#;
        let graphql: Success = serde_json::from_str(graphql).unwrap();
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
            let found = [&Success::default(), &only_200, &graphql].map(|rule| rule.is(status, Some(body.as_bytes())));
            assert_eq!(found, [any_2xx, is_200, is_graphql], "{status} {body}");
        }
        assert!(graphql.is(200, None) && !graphql.is(201, None) && !graphql.is(500, None));
    }
}
