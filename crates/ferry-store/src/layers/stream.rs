//! From compressed bytes to a bounded, hashed stream of tar bytes, on two threads.
//!
//! The calling thread reads and inflates; a thread of its own hashes, parses and writes. That thread has its own umask, so files get
//! the mode of their entry in one call. Buffers go round between the two, so memory stays bounded whatever comes.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use ferry_spec::digest::{Algorithm, Digest, Hasher};
use ferry_spec::tar;

use super::LayerError;
use super::limits::Limits;
use super::recipe::RecipeWriter;

const CHUNK: usize = 256 * 1024;
const CHUNKS: usize = 8;
/// zstd frames that want a larger window than 128 MiB are refused.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Most memory that the decoder of an xz stream may want, in bytes: that of its highest preset and some more.
const XZ_MEMORY_LIMIT: u64 = 128 << 20;

/// Runs `consume` over the uncompressed bytes of `compressed` and returns its result and the digest of those bytes.
pub(crate) fn inflate<T: Send>(
    compressed: impl Read,
    limits: Limits,
    consume: impl FnOnce(&mut Stream) -> Result<T, LayerError> + Send,
) -> Result<(T, Digest), LayerError> {
    let aside = Aside { hasher: Some(Hasher::new(Algorithm::Sha256)), recipe: None };
    let (result, aside, _) = run(Source::Guessed(compressed), limits, aside, consume)?;
    Ok((result, aside.hasher.expect("it was given").finish()))
}

/// What is known of a plain tar when all of it was read.
pub(crate) struct Written {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    pub(crate) recipe: Vec<u8>,
}

/// Runs `consume` over a tar that is known not to be compressed, and writes down how it is made again.
pub(crate) fn write_down<T: Send>(
    tar: impl Read,
    limits: Limits,
    consume: impl FnOnce(&mut Stream) -> Result<T, LayerError> + Send,
) -> Result<(T, Written), LayerError> {
    let recipe = Some(RecipeWriter::new().map_err(LayerError::Recipe)?);
    let aside = Aside { hasher: Some(Hasher::new(Algorithm::Sha256)), recipe };
    let (result, aside, bytes) = run(Source::Plain(tar), limits, aside, consume)?;
    let recipe = aside.recipe.expect("it was given").finish().map_err(LayerError::Recipe)?;
    Ok((result, Written { digest: aside.hasher.expect("it was given").finish(), bytes, recipe }))
}

/// As [`inflate`], where nobody needs the digest of the whole.
pub(crate) fn inflate_unhashed<T: Send>(
    compressed: impl Read,
    limits: Limits,
    consume: impl FnOnce(&mut Stream) -> Result<T, LayerError> + Send,
) -> Result<T, LayerError> {
    run(Source::Guessed(compressed), limits, Aside::default(), consume).map(|(result, ..)| result)
}

/// What bytes come from.
enum Source<R> {
    /// Compressed as their beginning says.
    Guessed(R),
    /// Not compressed, whatever they begin with.
    Plain(R),
}

/// What becomes of bytes besides being unpacked.
#[derive(Default)]
struct Aside {
    hasher: Option<Hasher>,
    recipe: Option<RecipeWriter>,
}

fn run<T: Send>(
    source: Source<impl Read>,
    limits: Limits,
    aside: Aside,
    consume: impl FnOnce(&mut Stream) -> Result<T, LayerError> + Send,
) -> Result<(T, Aside, u64), LayerError> {
    let compressed_bytes = Arc::new(AtomicU64::new(0));
    let (full_sender, full_receiver) = sync_channel(CHUNKS);
    let (empty_sender, empty_receiver) = channel();
    let mut stream = Stream {
        full: full_receiver,
        empty: empty_sender,
        chunk: Vec::new(),
        position: 0,
        ended: false,
        aside,
        total: 0,
        compressed_bytes: Arc::clone(&compressed_bytes),
        limits,
    };
    std::thread::scope(|scope| {
        let consumer = std::thread::Builder::new()
            .name("unpack".to_owned())
            .spawn_scoped(scope, move || {
                let result = consume(&mut stream)?;
                stream.drain()?;
                Ok((result, std::mem::take(&mut stream.aside), stream.total))
            })
            .map_err(LayerError::Thread)?;
        let count = compressed_bytes;
        let decoder = match source {
            Source::Guessed(inner) => Decoder::new(Counted { inner, count }),
            Source::Plain(inner) => Ok(Decoder::plain(Counted { inner, count })),
        };
        produce(decoder, &full_sender, &empty_receiver);
        drop(full_sender);
        consumer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Inflates until the end, an error, or until nobody listens; errors go to the other side.
fn produce<R: Read>(
    decoder: io::Result<Decoder<R>>,
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) {
    let mut decoder = match decoder {
        Ok(decoder) => decoder,
        Err(error) => {
            // A consumer that has ended has its own reason.
            let _ = full.send(Err(error));
            return;
        }
    };
    loop {
        let mut chunk = empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        chunk.clear();
        let read = (&mut decoder).take(CHUNK as u64).read_to_end(&mut chunk);
        let message = match read {
            Ok(0) => return,
            Ok(_) => Ok(chunk),
            Err(error) => Err(error),
        };
        let failed = message.is_err();
        if full.send(message).is_err() || failed {
            return;
        }
    }
}

struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Decompresses what the first bytes say it is; media types lie more often.
pub(crate) enum Decoder<R: Read> {
    Plain(Peeked<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<io::BufReader<Peeked<R>>>>),
    Zstd(Box<zstd::Decoder<'static, io::BufReader<Peeked<R>>>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<io::BufReader<Peeked<R>>>>),
    Xz(Box<liblzma::bufread::XzDecoder<io::BufReader<Peeked<R>>>>),
}

impl<R: Read> Decoder<R> {
    fn plain(inner: R) -> Self {
        Self::Plain(Peeked { head: io::Cursor::default(), inner })
    }

    pub(crate) fn new(mut inner: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(6);
        (&mut inner).take(6).read_to_end(&mut head)?;
        let magic = head.clone();
        let peeked = Peeked { head: io::Cursor::new(head), inner };
        match magic[..] {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(buffered(peeked))))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let mut decoder = zstd::Decoder::with_buffer(buffered(peeked))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Ok(Self::Zstd(Box::new(decoder)))
            }
            [b'B', b'Z', b'h', ..] => Ok(Self::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(peeked))))),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_LIMIT, liblzma::stream::CONCATENATED)?;
                Ok(Self::Xz(Box::new(liblzma::bufread::XzDecoder::new_stream(buffered(peeked), stream))))
            }
            _ => Ok(Self::Plain(peeked)),
        }
    }
}

fn buffered<R: Read>(inner: R) -> io::BufReader<R> {
    io::BufReader::with_capacity(128 * 1024, inner)
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(inner) => inner.read(buffer),
            Self::Gzip(inner) => inner.read(buffer),
            Self::Zstd(inner) => inner.read(buffer),
            Self::Bzip2(inner) => inner.read(buffer),
            Self::Xz(inner) => inner.read(buffer),
        }
    }
}

/// A reader whose first bytes were already looked at.
pub(crate) struct Peeked<R> {
    head: io::Cursor<Vec<u8>>,
    inner: R,
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buffer)? {
            0 => self.inner.read(buffer),
            read => Ok(read),
        }
    }
}

/// Uncompressed bytes, counted, bounded and hashed as they come.
pub(crate) struct Stream {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
    ended: bool,
    aside: Aside,
    total: u64,
    compressed_bytes: Arc<AtomicU64>,
    limits: Limits,
}

impl Stream {
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the bytes at hand, at least one; none at the end.
    pub(crate) fn fill(&mut self) -> Result<&[u8], LayerError> {
        while self.position == self.chunk.len() && !self.ended {
            let used = std::mem::take(&mut self.chunk);
            self.position = 0;
            if used.capacity() > 0 {
                // The producer may have ended already.
                let _ = self.empty.send(used);
            }
            match self.full.recv() {
                Err(_) => self.ended = true,
                Ok(Err(error)) => {
                    self.ended = true;
                    return Err(LayerError::Decompress(error));
                }
                Ok(Ok(chunk)) => {
                    if let Some(hasher) = &mut self.aside.hasher {
                        hasher.update(&chunk);
                    }
                    self.total += chunk.len() as u64;
                    self.limits.check_bytes(self.total, self.compressed_bytes.load(Ordering::Relaxed))?;
                    self.chunk = chunk;
                    self.position = 0;
                }
            }
        }
        Ok(&self.chunk[self.position..])
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.position += count;
        debug_assert!(self.position <= self.chunk.len(), "no more than fill() gave");
    }

    /// Hands out the next `length` bytes piece by piece.
    pub(crate) fn pieces(
        &mut self,
        mut length: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        while length > 0 {
            let piece = self.fill()?;
            if piece.is_empty() {
                return Err(LayerError::Truncated);
            }
            let count = piece.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            take(&piece[..count])?;
            self.note(count)?;
            self.consume(count);
            length -= count as u64;
        }
        Ok(())
    }

    /// Hands out the content of a file, which is found at this path afterwards.
    pub(crate) fn content(
        &mut self,
        path: &[u8],
        length: u64,
        take: impl FnMut(&[u8]) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let mut recipe = self.aside.recipe.take();
        if let Some(recipe) = recipe.as_mut().filter(|_| length > 0) {
            recipe.file(path, length).map_err(LayerError::Recipe)?;
        }
        let handed_out = self.pieces(length, take);
        self.aside.recipe = recipe;
        handed_out
    }

    /// Writes the next bytes at hand down.
    fn note(&mut self, count: usize) -> Result<(), LayerError> {
        let Some(recipe) = &mut self.aside.recipe else { return Ok(()) };
        recipe.bytes(&self.chunk[self.position..self.position + count]).map_err(LayerError::Recipe)
    }

    /// Reads to the end: padding counts for the digest too.
    pub(crate) fn drain(&mut self) -> Result<(), LayerError> {
        loop {
            let length = self.fill()?.len();
            if length == 0 {
                return Ok(());
            }
            self.note(length)?;
            self.consume(length);
        }
    }
}

impl tar::Source for Stream {
    type Error = LayerError;

    fn block(&mut self) -> Result<Option<[u8; 512]>, LayerError> {
        if self.fill()?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; 512];
        let mut filled = 0;
        self.pieces(512, |piece| {
            block[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
            Ok(())
        })?;
        Ok(Some(block))
    }

    fn read_vec(&mut self, length: usize) -> Result<Vec<u8>, LayerError> {
        let mut bytes = Vec::with_capacity(length);
        self.pieces(length as u64, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn skip(&mut self, length: u64) -> Result<(), LayerError> {
        self.pieces(length, |_| Ok(()))
    }

    fn header_limit(&self) -> u64 {
        self.limits.header_bytes
    }

    fn file_limit(&self) -> u64 {
        self.limits.unpacked_bytes
    }
}
