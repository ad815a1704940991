//! The content of files on its way: written and digested at once.

use std::io::{Read, Write};

use sha2::{Digest as _, Sha256};

use crate::failure::{Doing, Failure, Result};

/// Bytes that are written at once.
const PIECE: usize = 256 * 1024;
/// Files of so many bytes are digested by a thread of their own.
const LARGE: u64 = 4 << 20;
/// Pieces that such a thread may be behind.
const PIECES_BETWEEN: usize = 8;

/// Copies so many bytes, and returns their digest.
pub(super) fn copy(
    body: &mut impl Read,
    file: &mut std::fs::File,
    size: u64,
    buffers: &mut Vec<Vec<u8>>,
) -> Result<[u8; 32]> {
    if size >= LARGE {
        return copy_large(body, file, size, buffers);
    }
    if buffers.is_empty() {
        buffers.push(vec![0; PIECE]);
    }
    let buffer = &mut buffers[0];
    let mut hasher = Sha256::new();
    let mut left = size;
    while left > 0 {
        let read = read_some(body, buffer, left)?;
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read]).doing("cannot write a file")?;
        left -= read as u64;
    }
    Ok(hasher.finalize().into())
}

/// The same on two threads: one writes while the other digests.
fn copy_large(
    body: &mut impl Read,
    file: &mut std::fs::File,
    size: u64,
    buffers: &mut Vec<Vec<u8>>,
) -> Result<[u8; 32]> {
    let (full, to_digest) = std::sync::mpsc::sync_channel::<(Vec<u8>, usize)>(PIECES_BETWEEN);
    let (empty, emptied) = std::sync::mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        let digesting = scope.spawn(move || {
            let mut hasher = Sha256::new();
            for (piece, length) in to_digest {
                hasher.update(&piece[..length]);
                // Whoever writes may be done.
                let _ = empty.send(piece);
            }
            hasher.finalize().into()
        });
        let mut left = size;
        while left > 0 {
            let mut piece = emptied.try_recv().ok().or_else(|| buffers.pop()).unwrap_or_else(|| vec![0; PIECE]);
            let read = read_some(body, &mut piece, left)?;
            file.write_all(&piece[..read]).doing("cannot write a file")?;
            left -= read as u64;
            if full.send((piece, read)).is_err() {
                break;
            }
        }
        drop(full);
        let digest = digesting.join().map_err(|_| Failure::internal("the digest of a file panicked"));
        // For the next file.
        buffers.extend(emptied.try_iter());
        digest
    })
}

/// Reads some of the bytes that are left, at least one.
fn read_some(body: &mut impl Read, buffer: &mut [u8], left: u64) -> Result<usize> {
    let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    loop {
        match body.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(Failure::invalid("cannot read the build context: unexpected EOF")),
            Ok(read) => return Ok(read),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).doing("cannot read the build context"),
        }
    }
}
