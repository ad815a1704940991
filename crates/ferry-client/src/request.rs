//! Parts of a request: path, query and body.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};
use std::io;

/// A request body.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What a request carries.
pub(crate) enum Payload {
    /// Bytes that can be sent again.
    Whole(Bytes),
    /// A stream, which cannot.
    Streamed(Body),
}

impl Payload {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Self::Whole(Bytes::new())
    }
}

/// Makes a body of bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Makes a body that is produced while it is sent.
pub(crate) fn streamed(chunks: impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static) -> Payload {
    use futures_util::TryStreamExt;
    Payload::Streamed(http_body_util::StreamBody::new(chunks.map_ok(hyper::body::Frame::data)).boxed_unsync())
}

/// Characters that Go's `QueryEscape` leaves alone besides letters and digits.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Characters that would end or change a path.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'%').add(b'\\');

/// Writes a name into a path; slashes and colons stay, as the daemon expects them.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, PATH).to_string()
}

/// Query parameters, written sorted by name.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// No parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a parameter unless it is empty.
    #[must_use]
    pub fn with_text(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.with(name, value) }
    }

    /// Adds `name=1` when true.
    #[must_use]
    pub fn with_flag(self, name: &str, on: bool) -> Self {
        if on { self.with(name, "1") } else { self }
    }

    /// The text after the question mark, with it; empty for no parameters.
    pub(crate) fn to_suffix(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort_by(|left, right| left.0.cmp(&right.0));
        let escape = |text: &str| percent_encode(text.as_bytes(), QUERY).to_string().replace("%20", "+");
        let pairs: Vec<String> =
            sorted.into_iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        format!("?{}", pairs.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_written_as_go_writes_them() {
        let query = Query::new().with("t", "5").with("name", "a b&c").with_flag("v", false).with_text("x", "");
        assert_eq!(query.to_suffix(), "?name=a+b%26c&t=5");
        assert_eq!(segment("host:5/a/b c?"), "host:5/a/b%20c%3F");
    }
}
