//! What an ID looks like, and how a fresh one is made.
//!
//! KSUIDs, 27 digits of base 62, are made by hand. The crate for them (svix-ksuid) would bring four crates into a
//! binary that runs as root. A test compares ours with that crate.

use ring::rand::{self, Random, SystemRandom};
use serde::Deserialize;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const KSUID_EPOCH: i64 = 1_400_000_000;
const KSUID_LENGTH: usize = 27;

/// A kind of ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdFormat {
    /// RFC 9562, section 4: 8-4-4-4-12 hexadecimal digits, any case.
    #[default]
    Uuid,
    /// 27 digits of base 62 (0-9, A-Z, a-z) of 20 bytes: seconds since 2014-05-13T16:53:20Z, big-endian in 32 bits,
    /// and 16 random ones (github.com/segmentio/ksuid).
    Ksuid,
}

impl IdFormat {
    /// Whether `text` is such an ID.
    pub fn holds(self, text: &str) -> bool {
        match self {
            IdFormat::Uuid => {
                let lengths = text.split('-').map(str::len);
                lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
            }
            IdFormat::Ksuid => text.len() == KSUID_LENGTH && text.bytes().all(|b| b.is_ascii_alphanumeric()),
        }
    }

    /// A new one, made at `now` (seconds since 1970).
    pub fn fresh(self, now: i64) -> String {
        match self {
            IdFormat::Uuid => fresh_uuid(),
            IdFormat::Ksuid => ksuid((now - KSUID_EPOCH).clamp(0, u32::MAX.into()) as u32, random()),
        }
    }
}

/// A random UUID, version 4 (RFC 9562, section 5.4).
pub fn fresh_uuid() -> String {
    let mut bytes = random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// getrandom(2) fails on no kernel that this runs on. If it did, machines would share one ID and be counted once.
fn random() -> [u8; 16] {
    rand::generate(&SystemRandom::new()).map(Random::expose).unwrap_or_default()
}

fn ksuid(seconds: u32, payload: [u8; 16]) -> String {
    let mut digits = [0; KSUID_LENGTH];
    for byte in seconds.to_be_bytes().into_iter().chain(payload) {
        let mut carry = usize::from(byte);
        for digit in digits.iter_mut().rev() {
            carry += *digit * 256;
            (*digit, carry) = (carry % 62, carry / 62);
        }
    }
    digits.iter().map(|digit| char::from(DIGITS[*digit])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use svix_ksuid::{Ksuid, KsuidLike};

    /// WunderGraph's own example.
    const TEXT: &str = "2Ie8ynG6f1hTKs3EVjItsy0DBcn";
    const PAYLOAD: [u8; 16] =
        [0x18, 0xcf, 0xa8, 0x43, 0xa4, 0x7e, 0xe9, 0x48, 0x44, 0x5c, 0xed, 0xd4, 0xcd, 0xc9, 0x73, 0xa9];

    #[test]
    fn the_ksuid_of_the_documentation() {
        // 2022-12-08T20:22:25Z
        let seconds = u32::try_from(1_670_530_945 - KSUID_EPOCH).unwrap();
        assert_eq!(ksuid(seconds, PAYLOAD), TEXT);
    }

    #[test]
    fn ksuids_as_the_reference_crate_has_them() {
        for seed in 0..1000_u32 {
            let bytes: [u8; 20] = std::array::from_fn(|index| {
                seed.wrapping_mul(2_654_435_761).rotate_left(u32::try_from(index).unwrap() * 7).to_be_bytes()[index % 4]
            });
            let text = ksuid(u32::from_be_bytes(*bytes.first_chunk().unwrap()), *bytes.last_chunk().unwrap());
            assert_eq!(Ksuid::from_bytes(bytes).to_string(), text);
            assert!(IdFormat::Ksuid.holds(&text));
        }
        assert_eq!(ksuid(u32::MAX, [0xff; 16]), "aWgEPTl1tmebfsQzFP4bxwgy80V");
    }

    #[test]
    fn what_is_no_id() {
        let uuid = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
        for (text, is_uuid, is_ksuid) in [
            (uuid, true, false),
            (&uuid.to_uppercase(), true, false),
            (&uuid.replace('-', ""), false, false),
            (TEXT, false, true),
            (&TEXT[1..], false, false),
            ("aWgEPTl1tmebfsQzFP4bxwgy80V", false, true),
            ("2Ie8ynG6f1hTKs3EVjItsy0DBc-", false, false),
            ("", false, false),
            ("ééééééééééééé1", false, false),
        ] {
            assert_eq!(
                [IdFormat::Uuid, IdFormat::Ksuid].map(|format| format.holds(text)),
                [is_uuid, is_ksuid],
                "{text}"
            );
        }
    }

    #[test]
    fn a_fresh_uuid_is_random_and_of_version_4() {
        let ids: Vec<uuid::Uuid> = (0..100).map(|_| uuid::Uuid::try_parse(&fresh_uuid()).unwrap()).collect();
        for id in &ids {
            assert_eq!((id.get_version_num(), id.get_variant()), (4, uuid::Variant::RFC4122));
            assert_eq!(ids.iter().filter(|other| *other == id).count(), 1);
        }
    }

    #[test]
    fn fresh_ids_are_of_their_format_at_any_time() {
        for now in [i64::MIN / 2, 0, KSUID_EPOCH, 1_700_000_000, 7_258_118_400, i64::MAX] {
            for format in [IdFormat::Uuid, IdFormat::Ksuid] {
                assert!(format.holds(&format.fresh(now)), "{now}");
            }
        }
    }
}
