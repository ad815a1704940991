//! Compression of a body for a client that says it can take it so, as Docker negotiates it for archives.
//!
//! Docker's clients ask for none over a unix socket, and for gzip over TCP.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

use super::body::{BodySender, Gone};

/// A way to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    /// Without the zlib frame that its name stands for: Docker sends it so.
    Deflate,
}

impl Encoding {
    /// Chooses by an `Accept-Encoding`; nothing when the body is to be left as it is.
    pub(crate) fn accepted(header: &str) -> Option<Self> {
        let mut best = None;
        let mut best_quality = 0.0;
        for offer in [Self::Gzip, Self::Deflate] {
            for (value, quality) in header.split(',').filter_map(quality) {
                if quality > best_quality && (value == "*" || value == offer.name()) {
                    (best, best_quality) = (Some(offer), quality);
                }
            }
        }
        best
    }

    /// Its `Content-Encoding`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }
}

/// Reads `gzip;q=0.5`.
fn quality(item: &str) -> Option<(&str, f64)> {
    let (value, parameter) = item.split_once(';').map_or((item, ""), |(value, parameter)| (value, parameter.trim()));
    let quality = match parameter.strip_prefix("q=") {
        Some(number) => number.trim().parse().ok()?,
        None => 1.0,
    };
    Some((value.trim(), quality))
}

/// Sends the pieces of a body, compressed where that was chosen.
pub(crate) struct Packer {
    sender: BodySender,
    encoder: Option<Encoder>,
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(DeflateEncoder<Vec<u8>>),
}

impl Packer {
    pub(crate) fn new(sender: BodySender, encoding: Option<Encoding>) -> Self {
        let encoder = encoding.map(|encoding| match encoding {
            Encoding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::default())),
            Encoding::Deflate => Encoder::Deflate(DeflateEncoder::new(Vec::new(), Compression::default())),
        });
        Self { sender, encoder }
    }

    /// Sends a piece, which may stay in here for a while.
    pub(crate) async fn send(&mut self, piece: Bytes) -> Result<(), Gone> {
        let Some(encoder) = self.encoder.take() else { return self.sender.send(piece).await };
        let (encoder, packed) = off_thread(move || encoder.push(&piece)).await?;
        self.encoder = Some(encoder);
        self.sender.send(packed).await
    }

    /// Sends what is left.
    pub(crate) async fn finish(mut self) -> Result<(), Gone> {
        let Some(encoder) = self.encoder.take() else { return Ok(()) };
        let rest = off_thread(move || encoder.finish()).await?;
        self.sender.send(rest).await
    }
}

/// Compresses where nobody else waits; writing into memory does not fail.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Gone> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}

impl Encoder {
    fn push(mut self, piece: &[u8]) -> io::Result<(Self, Vec<u8>)> {
        let packed = match &mut self {
            Self::Gzip(encoder) => encoder.write_all(piece).map(|()| std::mem::take(encoder.get_mut())),
            Self::Deflate(encoder) => encoder.write_all(piece).map(|()| std::mem::take(encoder.get_mut())),
        }?;
        Ok((self, packed))
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_best_of_what_is_accepted_is_chosen_as_docker_does() {
        let cases = [
            ("", None),
            ("identity", None),
            ("gzip", Some(Encoding::Gzip)),
            ("deflate", Some(Encoding::Deflate)),
            ("gzip, deflate", Some(Encoding::Gzip)),
            ("deflate, gzip;q=0.5", Some(Encoding::Deflate)),
            ("gzip;q=0", None),
            ("*", Some(Encoding::Gzip)),
            ("br, gzip;q=0.8, *;q=0.1", Some(Encoding::Gzip)),
            ("gzip;q=nonsense", None),
        ];
        for (header, chosen) in cases {
            assert_eq!(Encoding::accepted(header), chosen, "{header}");
        }
    }

    #[test]
    fn what_was_packed_in_pieces_is_whole() {
        let bytes: Vec<u8> = (0..500_000_u32).map(|number| (number % 251) as u8).collect();
        let packed = |mut encoder: Encoder| {
            let mut packed = Vec::new();
            for piece in bytes.chunks(70_000) {
                let (next, some) = encoder.push(piece).unwrap();
                packed.extend(some);
                encoder = next;
            }
            packed.extend(encoder.finish().unwrap());
            assert!(packed.len() < bytes.len() / 10);
            packed
        };
        let mut unpacked = Vec::new();
        let gzip = packed(Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::default())));
        flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == bytes);
        unpacked.clear();
        let deflate = packed(Encoder::Deflate(DeflateEncoder::new(Vec::new(), Compression::default())));
        flate2::read::DeflateDecoder::new(&deflate[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == bytes);
    }
}
