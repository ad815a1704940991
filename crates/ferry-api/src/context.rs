//! What a client's directories hold, told before any of it travels; ferry's own.
//!
//! The body of such a build begins with a list: of each entry the length and the bytes of its path, the length and the bytes of what is told of
//! it, and at the end [`END`]. The daemon answers with messages [`WANTED`], and the body goes on with the files that each of them names, one after the
//! other: the length and the bytes of what is told of the file now, and as much content as that says. A message that names none is the last
//! one; the body ends. Numbers are little-endian.

use std::io::{self, Read};

/// The id of messages that tell which files are wanted: pairs of a place in the list and a count.
pub const WANTED: &str = "ferry.build.wanted";

/// What stands in place of a length after the last entry.
pub const END: u32 = u32::MAX;

/// The longest path or description.
const LONGEST: u32 = 1 << 20;

/// What a directory is called that stands for a named context: as the context, but for names that mean something else there. A slash, which
/// would lead below, is written as `%2F`.
#[must_use]
pub fn directory_of(context: &str) -> String {
    match context {
        "context" | "dockerfile" | "" | "." | ".." => format!("_{context}"),
        name => name.replace('%', "%25").replace('/', "%2F"),
    }
}

/// The name of such a directory as it is shown.
#[must_use]
pub fn shown_directory(directory: &str) -> String {
    directory.replace("%2F", "/").replace("%25", "%")
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedKind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// One more name of a file that was told before.
    HardLink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

const KINDS: [ListedKind; 7] = [
    ListedKind::Folder,
    ListedKind::File,
    ListedKind::Symlink,
    ListedKind::HardLink,
    ListedKind::Fifo,
    ListedKind::CharDevice,
    ListedKind::BlockDevice,
];

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it is; the first part is the name of the directory.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: ListedKind,
    /// The twelve bits of permissions.
    pub mode: u32,
    /// Unix time: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Bytes of a regular file.
    pub size: u64,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// As long as this is the same, and all else, so is the content.
    pub stamp: Vec<u8>,
}

impl Listed {
    /// Adds it to a list.
    pub fn encode(&self, list: &mut Vec<u8>) {
        sized(list, &self.path);
        self.encode_told(list);
    }

    /// Adds what is told of it, without its path.
    pub fn encode_told(&self, list: &mut Vec<u8>) {
        let mut told = Vec::with_capacity(48 + self.link.len() + self.stamp.len());
        let kind = KINDS.iter().position(|kind| *kind == self.kind).unwrap_or_default();
        told.push(u8::try_from(kind).unwrap_or_default());
        told.extend_from_slice(&self.mode.to_le_bytes());
        told.extend_from_slice(&self.mtime.0.to_le_bytes());
        told.extend_from_slice(&self.mtime.1.to_le_bytes());
        told.extend_from_slice(&self.size.to_le_bytes());
        told.extend_from_slice(&self.device.0.to_le_bytes());
        told.extend_from_slice(&self.device.1.to_le_bytes());
        sized(&mut told, &self.link);
        told.extend_from_slice(&self.stamp);
        sized(list, &told);
    }

    /// Reads the next entry of a list, with what was told of it as it came; `None` at its end.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    pub fn read(list: &mut impl Read) -> io::Result<Option<(Self, Vec<u8>)>> {
        let Some(path) = read_sized(list)? else { return Ok(None) };
        Self::read_told(path, list).map(Some)
    }

    /// Reads what is told of the entry at a path; and as it came.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    pub fn read_told(path: Vec<u8>, list: &mut impl Read) -> io::Result<(Self, Vec<u8>)> {
        let told = read_sized(list)?.ok_or_else(nonsense)?;
        let mut rest = &told[..];
        let kind = *KINDS.get(usize::from(number::<1>(&mut rest)?[0])).ok_or_else(nonsense)?;
        let mode = u32::from_le_bytes(number(&mut rest)?);
        let mtime = (i64::from_le_bytes(number(&mut rest)?), u32::from_le_bytes(number(&mut rest)?));
        let size = u64::from_le_bytes(number(&mut rest)?);
        let device = (u32::from_le_bytes(number(&mut rest)?), u32::from_le_bytes(number(&mut rest)?));
        let link = read_sized(&mut rest)?.ok_or_else(nonsense)?;
        if mtime.1 >= 1_000_000_000 {
            return Err(nonsense());
        }
        let stamp = rest.to_vec();
        Ok((Self { path, kind, mode: mode & 0o7777, mtime, size, link, device, stamp }, told))
    }
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a list of files that makes no sense")
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or_default().to_le_bytes());
    out.extend_from_slice(bytes);
}

fn read_sized(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    match u32::from_le_bytes(length) {
        END => Ok(None),
        length if length > LONGEST => Err(nonsense()),
        length => {
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            from.read_exact(&mut bytes)?;
            Ok(Some(bytes))
        }
    }
}

fn number<const N: usize>(rest: &mut &[u8]) -> io::Result<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk::<N>().ok_or_else(nonsense)?;
    *rest = after;
    Ok(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_were_written() {
        let file = Listed {
            path: b"context/a b".to_vec(),
            kind: ListedKind::File,
            mode: 0o640,
            mtime: (-3, 999_999_999),
            size: 7,
            link: Vec::new(),
            device: (0, 0),
            stamp: b"stamp".to_vec(),
        };
        let link = Listed { kind: ListedKind::Symlink, link: b"../x".to_vec(), size: 0, ..file.clone() };
        let mut list = Vec::new();
        file.encode(&mut list);
        link.encode(&mut list);
        list.extend_from_slice(&END.to_le_bytes());
        list.extend_from_slice(b"content");
        let mut rest = &list[..];
        assert_eq!(Listed::read(&mut rest).unwrap().unwrap().0, file);
        assert_eq!(Listed::read(&mut rest).unwrap().unwrap().0, link);
        assert!(Listed::read(&mut rest).unwrap().is_none());
        assert_eq!(rest, b"content");
        for cut in 0..30 {
            assert!(Listed::read(&mut &list[..cut]).is_err(), "{cut}");
        }
    }
}
