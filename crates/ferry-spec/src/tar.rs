//! Tar archives as streams: headers in and out, in the dialect of Go's reader and writer.
//!
//! Reading takes ustar, GNU and PAX, from untrusted bytes and within bounds; writing gives ustar, with PAX records where that does not hold what
//! there is to say. Nothing here touches a file system: paths come out as written, and what becomes of them is the caller's.
//!
//! Spec: POSIX.1-2001 pax; OCI image layer.

use std::io::{self, Read};

mod read;
mod write;

pub use read::{next_entry, skip_padding};
pub use write::{END, header};

/// Bytes of a header, and what data is padded to.
pub const BLOCK: u64 = 512;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A folder.
    Folder,
    /// A named pipe.
    Fifo,
}

/// One entry; its data, `stored_bytes` of it, follows in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it makes.
    pub kind: Kind,
    /// As written.
    pub path: Vec<u8>,
    /// Target of a link, as written.
    pub link: Vec<u8>,
    /// The twelve bits of permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Unix time: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes: name, value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Length of the file it makes.
    pub size: u64,
    /// Bytes that follow in the stream, padding excluded.
    pub stored_bytes: u64,
    /// Where the stored bytes belong; `None` is one piece.
    pub sparse: Option<Vec<Piece>>,
}

impl Entry {
    /// Makes an entry without data, owned by root.
    #[must_use]
    pub fn new(kind: Kind, path: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self {
            kind,
            path: path.into(),
            link: Vec::new(),
            mode,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
            size: 0,
            stored_bytes: 0,
            sparse: None,
        }
    }
}

/// A piece of a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it lies in the file.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// Why headers cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The archive ends in the middle.
    #[error("archive is truncated")]
    Truncated,
    /// A header makes no sense.
    #[error("invalid tar header: {0}")]
    Header(&'static str),
    /// Past a limit.
    #[error("archive has more than the {limit} {what} allowed")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// The stream itself.
    #[error("cannot read the archive")]
    Io(#[from] io::Error),
}

/// Where headers are read from.
pub trait Source {
    /// What its reads fail with.
    type Error: From<ReadError>;

    /// Reads one block; `None` at a clean end.
    ///
    /// # Errors
    /// When it ends within the block.
    fn block(&mut self) -> Result<Option<[u8; 512]>, Self::Error>;

    /// Reads so many bytes.
    ///
    /// # Errors
    /// When there are not so many.
    fn read_vec(&mut self, length: usize) -> Result<Vec<u8>, Self::Error>;

    /// Passes over so many bytes.
    ///
    /// # Errors
    /// When there are not so many.
    fn skip(&mut self, length: u64) -> Result<(), Self::Error>;

    /// The most bytes of one extended header or long name.
    fn header_limit(&self) -> u64;

    /// The most bytes of one file, holes included.
    fn file_limit(&self) -> u64;
}

/// An uncompressed archive in any reader; limits are those of a copy into a container.
#[derive(Debug)]
pub struct Reader<R>(pub R);

impl<R: Read> Reader<R> {
    /// Hands out the next `length` bytes piece by piece.
    ///
    /// # Errors
    /// [`ReadError::Truncated`], or what `take` answers.
    pub fn pieces<E: From<ReadError>>(
        &mut self,
        mut length: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = vec![0; 64 * 1024];
        while length > 0 {
            let wanted = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            let read = self.some(&mut buffer[..wanted])?;
            if read == 0 {
                return Err(ReadError::Truncated.into());
            }
            take(&buffer[..read])?;
            length -= read as u64;
        }
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Ok(done?),
            }
        }
    }
}

impl<R: Read> Source for Reader<R> {
    type Error = ReadError;

    fn block(&mut self) -> Result<Option<[u8; 512]>, ReadError> {
        let mut block = [0; 512];
        let mut filled = 0;
        while filled < block.len() {
            match self.some(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(ReadError::Truncated),
                read => filled += read,
            }
        }
        Ok(Some(block))
    }

    fn read_vec(&mut self, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        self.pieces(length as u64, |piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), ReadError>(())
        })?;
        Ok(bytes)
    }

    fn skip(&mut self, length: u64) -> Result<(), ReadError> {
        self.pieces(length, |_| Ok(()))
    }

    fn header_limit(&self) -> u64 {
        1 << 20
    }

    fn file_limit(&self) -> u64 {
        1 << 60
    }
}

/// How many bytes pad data of this length.
#[must_use]
pub fn padding(length: u64) -> u64 {
    (BLOCK - length % BLOCK) % BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(entry: &Entry) -> Entry {
        let bytes = [&header(entry)[..], &END].concat();
        let mut reader = Reader(&bytes[..]);
        let read = next_entry(&mut reader).unwrap().unwrap();
        assert!(next_entry(&mut reader).unwrap().is_none());
        read
    }

    #[test]
    fn what_is_written_is_read_again() {
        let plain = Entry { uid: 7, gid: 8, mtime: (1_700_000_000, 0), ..Entry::new(Kind::Folder, *b"etc/", 0o755) };
        assert_eq!(header(&plain).len(), 512, "fits without records");
        assert_eq!(round_trip(&plain), plain);
        let long = Entry {
            link: vec![b'l'; 300],
            uid: 3_000_000,
            mtime: (-5, 123),
            xattrs: vec![(b"security.capability".to_vec(), vec![1, 0, b'\n', 2])],
            ..Entry::new(Kind::Symlink, [b'n'; 250], 0o777)
        };
        assert_eq!(round_trip(&long), long);
        let device = Entry { device: (254, 3), ..Entry::new(Kind::BlockDevice, *b"d", 0o6640) };
        assert_eq!(round_trip(&device), device);
    }

    #[test]
    fn sizes_past_the_octal_field_are_records() {
        let big = Entry { size: 9 << 30, stored_bytes: 9 << 30, ..Entry::new(Kind::File, *b"big", 0o600) };
        let bytes = header(&big);
        let read = next_entry(&mut Reader(&bytes[..])).unwrap().unwrap();
        assert_eq!((read.size, read.stored_bytes), (9 << 30, 9 << 30));
    }

    #[test]
    fn broken_archives_are_refused() {
        let mut bytes = header(&Entry::new(Kind::File, *b"a", 0o600));
        bytes[148] ^= 1;
        assert!(matches!(next_entry(&mut Reader(&bytes[..])), Err(ReadError::Header(_))));
        assert!(matches!(next_entry(&mut Reader(&b"short"[..])), Err(ReadError::Truncated)));
        let huge = "9".repeat(20);
        let mut bytes = header(&Entry::new(Kind::File, *b"a", 0o600));
        bytes[124..136].copy_from_slice(&huge.as_bytes()[..12]);
        assert!(next_entry(&mut Reader(&bytes[..])).is_err());
    }
}
