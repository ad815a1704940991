//! Length-prefixed JSON: `u32` little-endian, then that many bytes.
//!
//! Pure: no I/O. The largest frame is [`MAX_FRAME_BYTES`], so a peer that speaks something else cannot make us allocate much.

use serde::Serialize;
use thiserror::Error;

/// Largest payload accepted. A `Start` with a large specification stays far below.
pub const MAX_FRAME_BYTES: usize = 16 << 20;

/// Bytes of the length.
pub const HEADER_BYTES: usize = 4;

/// A frame that cannot be right.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("frame of {length} bytes is larger than {MAX_FRAME_BYTES}")]
pub struct FrameTooLarge {
    /// As announced.
    pub length: usize,
}

/// Serialises a value as one frame.
///
/// # Panics
/// When the value cannot be JSON (a map with keys that are not strings), which no protocol type is.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, value).expect("protocol types serialise");
    let length = u32::try_from(frame.len() - HEADER_BYTES).expect("frames are far below 4 GiB");
    frame[..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    frame
}

/// The length that a header announces.
///
/// # Errors
/// [`FrameTooLarge`].
pub fn decode_header(header: [u8; HEADER_BYTES]) -> Result<usize, FrameTooLarge> {
    let length = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
    if length > MAX_FRAME_BYTES { Err(FrameTooLarge { length }) } else { Ok(length) }
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    bytes: Vec<u8>,
    taken: usize,
}

impl FrameDecoder {
    /// Makes an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes as they came, cut anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken == self.bytes.len() {
            self.bytes.clear();
        } else if self.taken > 0 {
            self.bytes.drain(..self.taken);
        }
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The payload of the next whole frame, `None` until more bytes come.
    ///
    /// # Errors
    /// [`FrameTooLarge`]; the stream cannot be read on after it.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameTooLarge> {
        let rest = &self.bytes[self.taken..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = decode_header(*header)?;
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.taken += HEADER_BYTES + length;
        Ok(Some(payload))
    }

    /// Whether bytes of an unfinished frame are held: at the end of the stream that means it was cut.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut stream = encode(&"one");
        stream.extend(encode(&vec![1, 2, 3]));
        for cut in 0..=stream.len() {
            let mut decoder = FrameDecoder::new();
            let mut frames = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().expect("small") {
                    frames.push(String::from_utf8(frame).expect("text"));
                }
            }
            assert_eq!(frames, ["\"one\"", "[1,2,3]"], "cut at {cut}");
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn a_stream_of_something_else_is_refused_at_its_header() {
        let mut decoder = FrameDecoder::new();
        decoder.push(b"GET / HTTP/1.1\r\n");
        assert_eq!(decoder.next_frame(), Err(FrameTooLarge { length: 0x2054_4547 }));
    }

    #[test]
    fn an_unfinished_frame_is_seen() {
        let mut decoder = FrameDecoder::new();
        decoder.push(&encode(&"one")[..6]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(!decoder.is_empty());
    }
}
