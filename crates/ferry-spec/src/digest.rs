//! Content digests and the two identities of a layer.
//!
//! A [`Digest`] is only ever made from checked text or from bytes, so it may become a file name without another look.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

/// Why a text is no digest; the texts are Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not of the form `algorithm:hex`.
    #[error("invalid checksum digest format")]
    Format,
    /// The hex part has the wrong length for its algorithm.
    #[error("invalid checksum digest length")]
    Length,
    /// Neither sha256 nor sha512.
    #[error("unsupported digest algorithm")]
    Unsupported,
}

/// The algorithm of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Returns the name as it stands before the colon.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Returns how many hex digits a digest of this algorithm has.
    #[must_use]
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A verified-by-form content digest, `sha256:<64 hex>` or `sha512:<128 hex>`, lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Box<str>);

impl Digest {
    /// Parses `algorithm:hex`.
    ///
    /// # Errors
    /// [`DigestError`] for anything that is not exactly a lower-case sha256 or sha512 digest.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or(DigestError::Format)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ if is_algorithm_name(name) && is_encoded(hex) => return Err(DigestError::Unsupported),
            _ => return Err(DigestError::Format),
        };
        if hex.is_empty() {
            return Err(DigestError::Format);
        }
        if hex.len() != algorithm.hex_len() {
            return Err(DigestError::Length);
        }
        if !is_lower_hex(hex) {
            return Err(DigestError::Format);
        }
        Ok(Self(text.into()))
    }

    /// Returns the SHA-256 digest of `bytes`.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns the sha256 digest with these 64 lower-case hex digits.
    ///
    /// # Errors
    /// [`DigestError`] when they are not that.
    pub fn from_sha256_hex(hex: &str) -> Result<Self, DigestError> {
        Self::parse(&format!("sha256:{hex}"))
    }

    /// Returns the algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha256:") { Algorithm::Sha256 } else { Algorithm::Sha512 }
    }

    /// Returns the hex digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0[7..]
    }

    /// Returns the whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether `bytes` have this digest.
    #[must_use]
    pub fn verifies(&self, bytes: &[u8]) -> bool {
        let mut hasher = Hasher::new(self.algorithm());
        hasher.update(bytes);
        hasher.finish() == *self
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_algorithm_name(name: &str) -> bool {
    name.split(['.', '+', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

fn is_encoded(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-'))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::parse(text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Starts a digest of nothing.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// Returns the digest of everything added.
    #[must_use]
    pub fn finish(self) -> Digest {
        let text = match self.0 {
            State::Sha256(state) => format!("sha256:{}", hex::encode(state.finalize())),
            State::Sha512(state) => format!("sha512:{}", hex::encode(state.finalize())),
        };
        Digest(text.into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// Returns the digest inside.
            #[must_use]
            pub fn digest(&self) -> &Digest {
                &self.0
            }

            /// Returns the hex digits.
            #[must_use]
            pub fn hex(&self) -> &str {
                self.0.hex()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                Digest::parse(text).map(Self)
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }
    };
}

digest_newtype!(
    /// Digest of one layer's uncompressed tar.
    DiffId
);
digest_newtype!(
    /// Digest that names a layer together with everything below it.
    ///
    /// Spec: OCI image configuration, layer ChainID.
    ChainId
);

impl ChainId {
    /// Returns the chain id of a layer on its parent's chain.
    #[must_use]
    pub fn child(parent: Option<&ChainId>, diff_id: &DiffId) -> Self {
        match parent {
            None => Self(diff_id.0.clone()),
            Some(parent) => Self(Digest::sha256(format!("{parent} {diff_id}").as_bytes())),
        }
    }

    /// Returns the chain id of a whole stack, lowest layer first; `None` when it is empty.
    #[must_use]
    pub fn from_diff_ids(diff_ids: &[DiffId]) -> Option<Self> {
        Self::each_of(diff_ids).pop()
    }

    /// Returns the chain id of every layer of a stack, lowest first.
    #[must_use]
    pub fn each_of(diff_ids: &[DiffId]) -> Vec<Self> {
        let mut chain: Vec<Self> = Vec::with_capacity(diff_ids.len());
        for diff_id in diff_ids {
            chain.push(Self::child(chain.last(), diff_id));
        }
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_digests_parse() {
        let hex64 = "a".repeat(64);
        let cases: &[(String, Result<(), DigestError>)] = &[
            (format!("sha256:{hex64}"), Ok(())),
            (format!("sha512:{hex64}{hex64}"), Ok(())),
            (format!("sha512:{hex64}"), Err(DigestError::Length)),
            (format!("sha256:{}", &hex64[1..]), Err(DigestError::Length)),
            (format!("sha256:{}", hex64.to_uppercase()), Err(DigestError::Format)),
            (format!("SHA256:{hex64}"), Err(DigestError::Format)),
            (format!("sha384:{hex64}"), Err(DigestError::Unsupported)),
            (format!("md5:{hex64}"), Err(DigestError::Unsupported)),
            (format!("sha256:../{}", &hex64[3..]), Err(DigestError::Format)),
            (format!("sha256:{hex64}\n"), Err(DigestError::Length)),
            ("sha256:".to_owned(), Err(DigestError::Format)),
            (hex64.clone(), Err(DigestError::Format)),
            (String::new(), Err(DigestError::Format)),
        ];
        for (text, expected) in cases {
            assert_eq!(Digest::parse(text).map(|_| ()), *expected, "{text:?}");
        }
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let a: DiffId = Digest::sha256(b"a").into();
        let b: DiffId = Digest::sha256(b"b").into();
        assert_eq!(ChainId::from_diff_ids(&[]), None);
        assert_eq!(ChainId::from_diff_ids(std::slice::from_ref(&a)), Some(ChainId(a.0.clone())));
        let expected = Digest::sha256(format!("{a} {b}").as_bytes());
        assert_eq!(ChainId::from_diff_ids(&[a, b]), Some(ChainId(expected)));
    }

    #[test]
    fn serde_refuses_what_is_no_digest() {
        assert!(serde_json::from_str::<Digest>("\"sha256:../../etc/passwd\"").is_err());
        let digest = Digest::sha256(b"");
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        assert_eq!(digest.hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
