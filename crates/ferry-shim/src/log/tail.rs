//! Where the last n lines of a log begin.
//!
//! Plain files are read backwards in blocks, so that the tail of a large log costs as much as that of a small one. Compressed ones
//! are counted through, and only when the plain ones do not have enough.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::format::Next;
use super::slots::OpenFile;
use super::{Format, local};

const BLOCK_BYTES: usize = 64 * 1024;

/// A place to begin reading.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// Files before the first one that is needed, oldest first.
    pub(super) skipped_files: usize,
    /// Offset in the first one that is needed, if it is plain.
    pub(super) offset: u64,
    /// Lines to leave out at its beginning, if it is compressed.
    pub(super) skipped_lines: u64,
}

/// Finds the place from which `lines` whole lines remain in the files, which are given oldest first.
pub(super) fn find(files: &mut [OpenFile], format: Format, lines: u64) -> io::Result<Start> {
    let mut wanted = lines;
    for at in (0..files.len()).rev() {
        let OpenFile { file, compressed, size, .. } = &mut files[at];
        if *compressed {
            let count = count_records(file, format)?;
            if count >= wanted {
                return Ok(Start { skipped_files: at, offset: 0, skipped_lines: count - wanted });
            }
            wanted -= count;
        } else {
            let found = match format {
                Format::JsonFile => backwards(file, *size, wanted)?,
                Format::Local => backwards_by_length(file, *size, wanted)?,
            };
            match found {
                Found::Offset(offset) => return Ok(Start { skipped_files: at, offset, skipped_lines: 0 }),
                Found::Only(count) => wanted -= count,
            }
        }
    }
    Ok(Start::default())
}

enum Found {
    Offset(u64),
    /// This many whole lines are there, fewer than wanted.
    Only(u64),
}

fn backwards(file: &File, size: u64, wanted: u64) -> io::Result<Found> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut newlines = 0;
    let mut end = size;
    while end > 0 {
        let length = end.min(BLOCK_BYTES as u64);
        let start = end - length;
        let block = &mut block[..usize::try_from(length).unwrap_or(BLOCK_BYTES)];
        file.read_exact_at(block, start)?;
        for at in memchr::memrchr_iter(b'\n', block) {
            // The newline before the first wanted line; what follows the last one is an unfinished line and comes on top.
            if newlines == wanted {
                return Ok(Found::Offset(start + at as u64 + 1));
            }
            newlines += 1;
        }
        end = start;
    }
    Ok(if newlines == wanted { Found::Offset(0) } else { Found::Only(newlines) })
}

/// Each record ends in its length.
fn backwards_by_length(file: &File, size: u64, wanted: u64) -> io::Result<Found> {
    let (mut at, mut count) = (size, 0);
    while count < wanted {
        match local::previous(file, at)? {
            Some(start) => at = start,
            None if at == 0 => return Ok(Found::Only(count)),
            // Damaged, or being written: counted from the front.
            None => return forwards_by_length(file, wanted),
        }
        count += 1;
    }
    Ok(Found::Offset(at))
}

fn forwards_by_length(file: &File, wanted: u64) -> io::Result<Found> {
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut records = vec![0; size];
    let read = file.read_at(&mut records, 0)?;
    let (_, count) = local::whole(&records[..read]);
    if count < wanted {
        return Ok(Found::Only(count));
    }
    let mut at = 0;
    for _ in wanted..count {
        if let Next::Record { end, .. } = local::next(&records[at..]) {
            at += end;
        }
    }
    Ok(Found::Offset(at as u64))
}

fn count_records(file: &mut File, format: Format) -> io::Result<u64> {
    use std::io::Seek;
    file.rewind()?;
    let mut count = 0;
    {
        let mut decoder = flate2::read::MultiGzDecoder::new(&mut *file);
        let mut block = Vec::with_capacity(2 * BLOCK_BYTES);
        loop {
            let kept = block.len();
            block.resize(kept + BLOCK_BYTES, 0);
            let read = match decoder.read(&mut block[kept..]) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                // A damaged file counts as far as it can be read; the reader meets the same end.
                Err(_) => break,
            };
            block.truncate(kept + read);
            let (whole, records) = format.whole(&block);
            count += records;
            block.drain(..whole);
        }
    }
    file.rewind()?;
    Ok(count)
}
