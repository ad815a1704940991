//! Random identifiers.

use rand::RngCore;

/// 32 random bytes in hex, as Docker's ids.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

/// Whether `text` may be the beginning of an id.
pub(crate) fn is_id_prefix(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
