//! Image references in Docker's grammar.
//!
//! ```text
//! reference := name [ ":" tag ] [ "@" digest ]
//! name      := [ domain "/" ] path
//! domain    := ( domain-name | "[" IPv6 "]" ) [ ":" port ]
//! path      := component { "/" component }
//! component := [a-z0-9]+ { ( "." | "_" | "__" | "-"+ ) [a-z0-9]+ }
//! tag       := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}
//! ```
//!
//! One parser for every entrance (command line, API, archives), so a reference that exists is one that was checked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, DigestError};

/// The longest path of a repository, in characters.
pub const MAX_PATH_LEN: usize = 255;
/// The domain of names without one.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag of names without one.
pub const DEFAULT_TAG: &str = "latest";

const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";

/// Why a text is no reference; clients match on these texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// It would follow the grammar in lower case.
    #[error("repository name must be lowercase")]
    Uppercase,
    /// The repository, named, is not in lower case.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    NameUppercase(String),
    /// Nothing at all.
    #[error("repository name must have at least one component")]
    Empty,
    /// Longer than [`MAX_PATH_LEN`].
    #[error("repository name must not be more than {MAX_PATH_LEN} characters")]
    TooLong,
    /// 64 hex digits alone could be an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The part after `@` is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The tag to set is none.
    #[error("invalid tag format")]
    Tag,
}

/// A normalised reference: it always has a domain and a path, and may have a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// What a user may type where an image is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyReference {
    /// A whole digest, or 64 hex digits.
    Digest(Digest),
    /// A name.
    Named(Reference),
}

impl AnyReference {
    /// Parses an identifier, a digest or a familiar name, in this order.
    ///
    /// # Errors
    /// [`ReferenceError`] when it is none of them.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if is_identifier(text) {
            return Ok(Self::Digest(Digest::from_sha256_hex(text)?));
        }
        match Digest::parse(text) {
            Ok(digest) => Ok(Self::Digest(digest)),
            Err(_) => Reference::parse(text).map(Self::Named),
        }
    }
}

/// A name as it may be told: nothing in it plays with a terminal.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

impl Reference {
    /// Parses a name as typed and normalises it: `hello-world` becomes `docker.io/library/hello-world`. No tag is added; see
    /// [`Reference::with_default_tag`].
    ///
    /// # Errors
    /// [`ReferenceError`], with Docker's texts.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if is_identifier(text) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (domain, remainder) = split_familiar(text);
        let remote = remainder.split(':').next().unwrap_or_default();
        if remote.to_lowercase() != remote {
            return Err(ReferenceError::NameUppercase(printable(remote)));
        }
        let whole = format!("{domain}/{remainder}");
        let parts = parse_parts(&whole)?;
        // "domain/" may turn out to be no domain when the whole reads as a path; Docker then has a reference without one.
        Ok(Self {
            domain: parts.domain.unwrap_or_default().to_owned(),
            path: parts.path.to_owned(),
            tag: parts.tag.map(str::to_owned),
            digest: parts.digest,
        })
    }

    /// Parses and adds `:latest` to a name that has neither tag nor digest.
    ///
    /// # Errors
    /// As [`Reference::parse`].
    pub fn parse_with_default_tag(text: &str) -> Result<Self, ReferenceError> {
        Ok(Self::parse(text)?.with_default_tag())
    }

    /// Returns it with `:latest` when it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// Returns it with this tag in place of its own.
    ///
    /// # Errors
    /// [`ReferenceError::Tag`] when `tag` is none.
    pub fn with_tag(mut self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        self.tag = Some(tag.to_owned());
        Ok(self)
    }

    /// Returns it with this digest in place of its own.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Returns the repository alone, without tag and digest.
    #[must_use]
    pub fn repository(&self) -> Self {
        Self { domain: self.domain.clone(), path: self.path.clone(), tag: None, digest: None }
    }

    /// Returns it without its tag, when it has a digest: what is pulled when both are given.
    #[must_use]
    pub fn digest_over_tag(mut self) -> Self {
        if self.digest.is_some() {
            self.tag = None;
        }
        self
    }

    /// Returns the registry's name, `docker.io` for the Hub.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the repository within the registry, such as `library/debian`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns `domain/path`.
    #[must_use]
    pub fn name(&self) -> String {
        if self.domain.is_empty() {
            return self.path.clone();
        }
        format!("{}/{}", self.domain, self.path)
    }

    /// Returns the name as users see it: `debian`, `user/app`, `host:5000/app`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(official) if !official.contains('/') => official.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// Returns the familiar name with tag and digest.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest.as_str());
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Tells whether a text is a valid tag.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    bytes.next().is_some_and(word) && text.len() <= 128 && bytes.all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Splits what a user typed into a registry and the rest, filling in the Hub's names.
fn split_familiar(text: &str) -> (String, String) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN.to_owned(), format!("{OFFICIAL_PREFIX}{text}"));
    };
    let is_domain = first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first;
    let (domain, remainder) = match first {
        LEGACY_DEFAULT_DOMAIN => (DEFAULT_DOMAIN, rest),
        _ if is_domain => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL_PREFIX}{remainder}"));
    }
    (domain.to_owned(), remainder.to_owned())
}

struct Parts<'a> {
    domain: Option<&'a str>,
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<Digest>,
}

fn parse_parts(text: &str) -> Result<Parts<'_>, ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError::Empty);
    }
    let Some((domain, path, tag, digest)) = split_grammar(text) else {
        let lower = text.to_lowercase();
        if lower != text && split_grammar(&lower).is_some() {
            return Err(ReferenceError::Uppercase);
        }
        return Err(ReferenceError::Format);
    };
    if path.len() > MAX_PATH_LEN {
        return Err(ReferenceError::TooLong);
    }
    let digest = digest.map(Digest::parse).transpose()?;
    Ok(Parts { domain, path, tag, digest })
}

type Split<'a> = (Option<&'a str>, &'a str, Option<&'a str>, Option<&'a str>);

/// Applies the grammar; none of its parts can contain the character that ends it, so a split is a parse.
fn split_grammar(text: &str) -> Option<Split<'_>> {
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) => (text, Some(digest)),
        None => (text, None),
    };
    let last = text.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match text[last..].rfind(':') {
        Some(colon) => (&text[..last + colon], Some(&text[last + colon + 1..])),
        None => (text, None),
    };
    if !tag.is_none_or(is_tag) || !digest.is_none_or(is_loose_digest) {
        return None;
    }
    if let Some((domain, path)) = name.split_once('/')
        && is_domain(domain)
        && is_path(path)
    {
        return Some((Some(domain), path, tag, digest));
    }
    is_path(name).then_some((None, name, tag, digest))
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(first)
        && alphanumeric(last)
        && bytes
            .split(alphanumeric)
            .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

fn is_domain(text: &str) -> bool {
    let (host, port) = if text.starts_with('[') {
        let Some(end) = text.find(']') else { return false };
        let host = &text[1..end];
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return false;
        }
        match &text[end + 1..] {
            "" => return true,
            rest => ("", rest.strip_prefix(':')),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => return is_domain_name(text),
        }
    };
    let port_fits = port.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    port_fits && (text.starts_with('[') || is_domain_name(host))
}

fn is_domain_name(text: &str) -> bool {
    text.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// The grammar's digest is wider than the digests that are supported, which decides the error.
fn is_loose_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let component = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(component)
        && hex.len() >= 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
