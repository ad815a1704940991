//! Streams: JSON progress messages, and the frames in which stdout and stderr share a connection.
//!
//! A frame is a stream byte, three zeros, the payload's length as big-endian `u32`, and the payload.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::is_default;

/// Content type of a raw stream: a terminal's bytes.
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Content type of a stream of frames, since 1.42; before, [`RAW_STREAM`] for both.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 8;

/// One message of a progress stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct JsonMessage {
    /// Plain output of a build.
    #[serde(skip_serializing_if = "is_default")]
    pub stream: String,
    /// What goes on.
    #[serde(skip_serializing_if = "is_default")]
    pub status: String,
    /// How far; an empty one is written `{}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<Progress>,
    /// A drawn bar, for old clients.
    #[serde(skip_serializing_if = "is_default")]
    pub progress: String,
    /// What it is about, such as a layer.
    #[serde(skip_serializing_if = "is_default")]
    pub id: String,
    /// Why it failed, for old clients.
    #[serde(skip_serializing_if = "is_default")]
    pub error: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// For programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

impl JsonMessage {
    /// Returns the message that ends a stream which failed.
    #[must_use]
    pub fn failed(text: impl Into<String>) -> Self {
        let message = text.into();
        Self { error: message.clone(), error_detail: Some(ErrorDetail { code: 0, message }), ..Self::default() }
    }
}

/// How far something is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Done.
    #[serde(skip_serializing_if = "is_default")]
    pub current: i64,
    /// Of how many.
    #[serde(skip_serializing_if = "is_default")]
    pub total: i64,
    /// Unix seconds of the begin.
    #[serde(skip_serializing_if = "is_default")]
    pub start: i64,
    /// Draw no numbers.
    #[serde(skip_serializing_if = "is_default")]
    pub hidecounts: bool,
    /// Unit; empty is bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub units: String,
}

/// Why a stream failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// A code.
    #[serde(skip_serializing_if = "is_default")]
    pub code: i64,
    /// The text.
    #[serde(skip_serializing_if = "is_default")]
    pub message: String,
}

/// Which stream a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// stdin; never sent by a daemon.
    Stdin,
    /// stdout.
    Stdout,
    /// stderr.
    Stderr,
    /// An error of the daemon, in the middle of the stream.
    SystemError,
}

impl StreamKind {
    /// Returns its byte.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::SystemError => 3,
        }
    }

    /// Returns the stream of a byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Stdin),
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::SystemError),
            _ => None,
        }
    }
}

/// Returns the header of a frame with that many bytes of payload.
#[must_use]
pub fn frame_header(kind: StreamKind, payload_len: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = payload_len.to_be_bytes();
    [kind.byte(), 0, 0, 0, a, b, c, d]
}

/// A stream byte that means nothing: the bytes are no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownStream(
    /// The byte.
    pub u8,
);

impl std::fmt::Display for UnknownStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unrecognized stream: {}", self.0)
    }
}

impl std::error::Error for UnknownStream {}

/// Takes a header apart.
///
/// # Errors
/// When the first byte names no stream.
pub fn parse_header(header: [u8; HEADER_LEN]) -> Result<(StreamKind, u32), UnknownStream> {
    let [stream, _, _, _, a, b, c, d] = header;
    let kind = StreamKind::from_byte(stream).ok_or(UnknownStream(stream))?;
    Ok((kind, u32::from_be_bytes([a, b, c, d])))
}

/// Takes a stream of frames apart as its bytes arrive; keeps at most a header, never a payload.
#[derive(Debug, Default)]
pub struct Demultiplexer {
    header: [u8; HEADER_LEN],
    header_len: usize,
    current: Option<(StreamKind, u32)>,
}

impl Demultiplexer {
    /// Returns one at the start of a frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells whether the stream may end here: no frame has begun.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.current.is_none() && self.header_len == 0
    }

    /// Hands each piece of payload in `bytes` to `sink`, in order.
    ///
    /// # Errors
    /// When a header names no stream.
    pub fn push(&mut self, mut bytes: &[u8], mut sink: impl FnMut(StreamKind, &[u8])) -> Result<(), UnknownStream> {
        while !bytes.is_empty() {
            if let Some((kind, left)) = self.current {
                let take = bytes.len().min(left as usize);
                let (piece, rest) = bytes.split_at(take);
                sink(kind, piece);
                bytes = rest;
                let left = left - u32::try_from(take).unwrap_or(left);
                self.current = (left > 0).then_some((kind, left));
                continue;
            }
            let take = bytes.len().min(HEADER_LEN - self.header_len);
            let (piece, rest) = bytes.split_at(take);
            self.header[self.header_len..self.header_len + take].copy_from_slice(piece);
            self.header_len += take;
            bytes = rest;
            if self.header_len == HEADER_LEN {
                self.header_len = 0;
                let (kind, len) = parse_header(self.header)?;
                self.current = (len > 0).then_some((kind, len));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut wire = frame_header(StreamKind::Stdout, 5).to_vec();
        wire.extend_from_slice(b"hello");
        wire.extend_from_slice(&frame_header(StreamKind::Stderr, 0));
        wire.extend_from_slice(&frame_header(StreamKind::Stderr, 2));
        wire.extend_from_slice(b"no");
        for cut in 1..wire.len() {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut demultiplexer = Demultiplexer::new();
            for part in wire.chunks(cut) {
                demultiplexer
                    .push(part, |kind, bytes| match kind {
                        StreamKind::Stdout => out.extend_from_slice(bytes),
                        _ => err.extend_from_slice(bytes),
                    })
                    .unwrap();
            }
            assert_eq!((out.as_slice(), err.as_slice()), (b"hello".as_slice(), b"no".as_slice()), "cut at {cut}");
            assert!(demultiplexer.is_at_boundary());
        }
    }

    #[test]
    fn a_byte_that_is_no_stream_is_an_error() {
        let error = Demultiplexer::new().push(b"plain text", |_, _| ()).unwrap_err();
        assert_eq!(error.to_string(), "unrecognized stream: 112");
    }

    #[test]
    fn messages_look_like_those_of_docker() {
        let message = JsonMessage {
            status: "Downloading".into(),
            progress_detail: Some(Progress { current: 1, total: 2, ..Progress::default() }),
            id: "abc".into(),
            ..JsonMessage::default()
        };
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(text, r#"{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"abc"}"#);
        assert_eq!(
            serde_json::to_string(&JsonMessage::failed("no")).unwrap(),
            r#"{"error":"no","errorDetail":{"message":"no"}}"#
        );
    }
}
