//! Which machine this is, by machine-id(5): the ID itself stays in this process.

use ring::digest;

use crate::host::Host;

/// The machine-id in lower case; `None` where there is none yet, as in most containers and freshly made images. Its
/// page, machine-id(5), calls it confidential, so no fact, record or file may hold it.
pub fn id(host: &Host) -> Option<String> {
    first(host, ["etc/machine-id", "var/lib/dbus/machine-id"])
}

/// SHA-256 (FIPS 180-4) of the machine-id's 32 characters in lower-case hexadecimal digits. D-Bus's file comes first,
/// as in the npm package node-machine-id, whose hashes the services know.
pub fn id_hash(host: &Host) -> Option<String> {
    first(host, ["var/lib/dbus/machine-id", "etc/machine-id"]).map(|id| hash_of(&id))
}

fn first(host: &Host, paths: [&str; 2]) -> Option<String> {
    paths.iter().find_map(|path| checked(&host.line(path)?))
}

/// Anything but 32 hexadecimal digits (`uninitialized`, a host name) is no machine-id, nor are zeros.
fn checked(id: &str) -> Option<String> {
    let is_id = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0');
    is_id.then(|| id.to_ascii_lowercase())
}

/// SHA-256 (FIPS 180-4) in hexadecimal digits.
pub fn hash_of(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

/// The bytes of a hash, 16 or a multiple of them, as lower-case hexadecimal digits.
pub fn hex(hash: &[u8]) -> String {
    let (words, _) = hash.as_chunks();
    words.iter().map(|word| format!("{:032x}", u128::from_be_bytes(*word))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of Strapi's own device IDs.
    #[test]
    fn a_known_hash_and_what_is_no_machine_id() {
        let expected = "3eb1bd439947eb762998e566ccc2e099c791118b2f40579cc4f7da2b5061b7f9";
        for id in ["0123456789abcdef0123456789abcdef", "0123456789ABCDEF0123456789ABCDEF"] {
            assert_eq!(hash_of(&checked(id).unwrap()), expected);
        }
        for text in "|uninitialized|db1.example.org|00000000000000000000000000000000|0123456789abcdef|\
            0123456789abcdef0123456789abcdeg"
            .split('|')
        {
            assert_eq!(checked(text), None, "{text}");
        }
    }
}
