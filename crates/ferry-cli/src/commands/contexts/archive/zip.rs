//! The little of zip that an archive of a few small files needs: the directory at its end, files as they are or deflated.
//!
//! Spec: APPNOTE.TXT 4.3.

use std::io::Read;

use flate2::read::DeflateDecoder;

use super::{LIMIT, TOO_LARGE};

const LOCAL: &[u8] = b"PK\x03\x04";
const DIRECTORY: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
/// Bytes of the end without its comment.
const END_BYTES: usize = 22;

/// Whether this begins like a zip.
pub(super) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(LOCAL)
}

/// Files of an archive: path and content.
type Files = Vec<(String, Vec<u8>)>;

/// The files of a zip, folders left out.
pub(super) fn files(bytes: &[u8]) -> Result<Files, String> {
    read(bytes).unwrap_or_else(|| Err("zip: not a valid zip file".to_owned()))
}

/// `None` where the archive is not what it says.
fn read(bytes: &[u8]) -> Option<Result<Files, String>> {
    let end = (0..=bytes.len().checked_sub(END_BYTES)?).rev().find(|at| bytes[*at..].starts_with(END))?;
    let count = number16(bytes, end + 10)?;
    let mut at = number32(bytes, end + 16)?;
    let mut files = Vec::new();
    for _ in 0..count {
        let entry = bytes.get(at..)?;
        if !entry.starts_with(DIRECTORY) {
            return None;
        }
        let (name, extra, comment) = (number16(entry, 28)?, number16(entry, 30)?, number16(entry, 32)?);
        let path = String::from_utf8_lossy(entry.get(46..46 + name)?).into_owned();
        at += 46 + name + extra + comment;
        if path.ends_with('/') {
            continue;
        }
        let local = bytes.get(number32(entry, 42)?..)?;
        if !local.starts_with(LOCAL) {
            return None;
        }
        let begin = 30 + number16(local, 26)? + number16(local, 28)?;
        let stored = local.get(begin..begin.checked_add(number32(entry, 20)?)?)?;
        match content(number16(entry, 10)?, stored) {
            Ok(content) => files.push((path, content)),
            Err(error) => return Some(Err(error)),
        }
    }
    Some(Ok(files))
}

fn content(method: usize, stored: &[u8]) -> Result<Vec<u8>, String> {
    match method {
        0 => Ok(stored.to_vec()),
        8 => {
            let mut content = Vec::new();
            let read = DeflateDecoder::new(stored).take(LIMIT + 1).read_to_end(&mut content);
            read.map_err(|error| error.to_string())?;
            if content.len() as u64 > LIMIT { Err(TOO_LARGE.to_owned()) } else { Ok(content) }
        }
        _ => Err("zip: unsupported compression algorithm".to_owned()),
    }
}

fn number16(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(at..at + 2)?;
    Some(usize::from(u16::from_le_bytes([number[0], number[1]])))
}

fn number32(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(at..at + 4)?;
    usize::try_from(u32::from_le_bytes([number[0], number[1], number[2], number[3]])).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::*;

    /// A zip of one file, as the usual programs write it.
    fn zip(path: &str, method: u16, stored: &[u8], size: usize) -> Vec<u8> {
        let word = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
        let half = |number: usize| u16::try_from(number).unwrap().to_le_bytes();
        let common = |bytes: &mut Vec<u8>| {
            bytes.extend([20, 0, 0, 0]);
            bytes.extend(method.to_le_bytes());
            bytes.extend([0; 8]);
            bytes.extend(word(stored.len()));
            bytes.extend(word(size));
            bytes.extend(half(path.len()));
            bytes.extend([0, 0]);
        };
        let mut bytes = LOCAL.to_vec();
        common(&mut bytes);
        bytes.extend(path.as_bytes());
        bytes.extend(stored);
        let directory = bytes.len();
        bytes.extend(DIRECTORY);
        bytes.extend([20, 0]);
        common(&mut bytes);
        bytes.extend([0; 14]);
        bytes.extend(path.as_bytes());
        let length = bytes.len() - directory;
        bytes.extend(END);
        bytes.extend([0, 0, 0, 0, 1, 0, 1, 0]);
        bytes.extend(word(length));
        bytes.extend(word(directory));
        bytes.extend([0, 0]);
        bytes
    }

    fn deflated(content: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn files_come_out_as_they_went_in() {
        let content = b"{\"Name\":\"x\"}";
        for (method, stored) in [(0, content.to_vec()), (8, deflated(content))] {
            let bytes = zip("meta.json", method, &stored, content.len());
            assert!(is_zip(&bytes));
            assert_eq!(files(&bytes).unwrap(), [("meta.json".to_owned(), content.to_vec())]);
        }
    }

    #[test]
    fn damaged_and_hostile_ones_are_refused() {
        let whole = zip("meta.json", 0, b"{}", 2);
        for cut in 0..whole.len() {
            assert_eq!(files(&whole[..cut]).unwrap_err(), "zip: not a valid zip file", "cut at {cut}");
        }
        let bomb = deflated(&vec![0; usize::try_from(LIMIT).unwrap() + 1]);
        assert_eq!(files(&zip("meta.json", 8, &bomb, 0)).unwrap_err(), TOO_LARGE);
        assert_eq!(files(&zip("meta.json", 99, b"", 0)).unwrap_err(), "zip: unsupported compression algorithm");
    }
}
