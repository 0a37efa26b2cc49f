//! Which kind of environment a product runs in, by the convention of Node's world: `NODE_ENV`.

use std::ffi::OsString;

/// The kind of environment if `NODE_ENV` is not set.
const DEFAULT: &str = "development";

/// The longest name. No kind of environment has a longer one.
const MAX_NAME: usize = 32;

/// The value of `NODE_ENV`, `development` where it is not set. Only a word of letters, digits, `-` and `_` is taken:
/// everything else (an address, a path, a domain) is no kind of environment, and absent.
pub fn name(node_env: Option<OsString>) -> Option<String> {
    let value = node_env.filter(|value| !value.is_empty()).unwrap_or(DEFAULT.into()).into_string().ok()?;
    let is_word = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    (is_word && value.len() <= MAX_NAME).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_only() {
        for (value, word) in [(None, "development"), (Some(""), "development"), (Some("staging-2"), "staging-2")] {
            assert_eq!(name(value.map(OsString::from)).as_deref(), Some(word), "{value:?}");
        }
        for value in ["db1.example.org", "192.0.2.1", "/srv/www", "a@b", "two words", "\u{e9}", &"x".repeat(33)] {
            assert_eq!(name(Some(value.into())), None, "{value}");
        }
    }
}
