//! How JSON documents follow one another in a stream.

use super::call::Call;

/// Media types of such streams, the preferred first.
const MEDIA_TYPES: [&str; 3] = ["application/jsonl", "application/x-ndjson", "application/json-seq"];

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A document a line.
    Lines,
    /// RFC 7464: each document after a record separator.
    Sequence,
}

impl Framing {
    /// Chooses what the client takes by name, with its media type; wildcards say nothing.
    pub(crate) fn negotiate(call: &Call) -> Option<(&'static str, Self)> {
        let media_type = call
            .header("accept")
            .split(',')
            .map(|range| range.split(';').next().unwrap_or_default().trim())
            .find_map(|range| MEDIA_TYPES.into_iter().find(|media_type| *media_type == range))?;
        let framing = if media_type == "application/json-seq" { Self::Sequence } else { Self::Lines };
        Some((media_type, framing))
    }
}
