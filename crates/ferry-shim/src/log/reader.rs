//! The reading side: entries oldest to newest over all files of a log, and what is written meanwhile.
//!
//! All files are opened at the beginning, so a rotation while reading takes nothing away. Blocking, but only on the disk: at the end of the live
//! file the reader says so and can be asked again ([`Reader::poll_more`], [`super::Watch`]).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use rustix::fs::AtFlags;

use super::format::Next;
use super::parse::{Entry, Parsed, PartOf};
use super::slots::{self, OpenFile};
use super::{Format, tail};

const BLOCK_BYTES: usize = 128 * 1024;

/// A line longer than this is no log line: 16 KiB of text are at most 96 KiB of escapes.
const LINE_BYTES: usize = 4 << 20;

/// Which entries to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Only this many entries from the end, before `since_ns` and `until_ns` apply.
    pub tail: Option<u64>,
    /// Only entries of this Unix time in nanoseconds or later.
    pub since_ns: Option<i64>,
    /// Nothing after the first entry that is later than this.
    pub until_ns: Option<i64>,
}

/// Reads a log.
#[derive(Debug)]
pub struct Reader {
    dir: OwnedFd,
    name: String,
    format: Format,
    options: ReadOptions,
    /// Those after the current one, oldest first.
    waiting: VecDeque<OpenFile>,
    current: Option<Current>,
    block: Vec<u8>,
    /// Unread part of `block`.
    unread: std::ops::Range<usize>,
    text: Vec<u8>,
    attrs: Vec<u8>,
    part: Option<PartOf>,
    skip_lines: u64,
    damaged: u64,
    finished: bool,
}

#[derive(Debug)]
struct Current {
    inode: u64,
    source: Source,
}

enum Source {
    Plain { file: File, position: u64, limit: u64 },
    Compressed(Box<MultiGzDecoder<BufReader<File>>>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Plain { .. } => "Plain",
            Self::Compressed(_) => "Compressed",
        })
    }
}

impl Reader {
    /// Opens the log of that name in a container's data folder. A log that is not there (yet) is an empty one.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be opened or read.
    pub fn open(dir: &Path, file_name: &str, format: Format, options: ReadOptions) -> io::Result<Self> {
        let dir = OwnedFd::from(File::open(dir)?);
        let mut files = open_newer_than(&dir, file_name, None)?;
        let start = match options.tail {
            Some(lines) => tail::find(&mut files, format, lines)?,
            None => tail::Start::default(),
        };
        let mut waiting: VecDeque<OpenFile> = files.into();
        waiting.drain(..start.skipped_files);
        let current = waiting.pop_front().map(|file| Current::new(file, start.offset));
        Ok(Self {
            dir,
            name: file_name.to_owned(),
            format,
            options,
            waiting,
            current,
            block: vec![0; BLOCK_BYTES],
            unread: 0..0,
            text: Vec::new(),
            attrs: Vec::new(),
            part: None,
            skip_lines: start.skipped_lines,
            damaged: 0,
            finished: false,
        })
    }

    /// The next entry; `None` at the end of what was there when the log was opened or [`Reader::poll_more`] last said `true`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry<'_>>> {
        let (stream, time_ns) = loop {
            if self.finished {
                return Ok(None);
            }
            let Some(line) = self.next_line()? else {
                return Ok(None);
            };
            let line = &self.block[line];
            if self.skip_lines > 0 {
                self.skip_lines -= 1;
                continue;
            }
            let too_early = |time_ns| self.options.since_ns.is_some_and(|since| time_ns < since);
            if self.options.since_ns.is_some() && self.format.time_of(line).is_some_and(too_early) {
                continue;
            }
            match self.format.parse(line, &mut self.text, &mut self.attrs) {
                Some(parsed) if too_early(parsed.time_ns) => {}
                Some(parsed) if self.options.until_ns.is_some_and(|until| parsed.time_ns > until) => {
                    self.finished = true
                }
                Some(Parsed { stream, time_ns, part }) => {
                    self.part = part;
                    break (stream, time_ns);
                }
                None => self.damaged += 1,
            }
        };
        let (part, format) = (self.part.as_ref(), self.format);
        Ok(Some(Entry { stream, time_ns, line: &self.text, part, format, attrs: &self.attrs }))
    }

    /// After the end: looks whether the live file has grown or was rotated; `true` when [`Reader::next_entry`] may have more.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn poll_more(&mut self) -> io::Result<bool> {
        if self.finished {
            return Ok(false);
        }
        if self.extend_limit()? {
            return Ok(true);
        }
        let inode = self.current.as_ref().map(|current| current.inode);
        match rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if Some(stat.st_ino) == inode => return Ok(false),
            // In the middle of a rotation, or not made yet.
            Err(rustix::io::Errno::NOENT) => return Ok(false),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Rotated. It may have got its last lines after we looked at its size.
        if self.extend_limit()? {
            return Ok(true);
        }
        self.waiting.extend(open_newer_than(&self.dir, &self.name, inode)?);
        if self.current.is_none() {
            self.current = self.waiting.pop_front().map(|file| Current::new(file, 0));
        }
        Ok(true)
    }

    /// Lines that were no entries and were skipped.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Whether an entry later than `until_ns` was met: no more will come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    fn extend_limit(&mut self) -> io::Result<bool> {
        let Some(Current { source: Source::Plain { file, position, limit }, .. }) = &mut self.current else {
            return Ok(false);
        };
        let size = file.metadata()?.len();
        if size < *position {
            // Someone has emptied it by hand.
            (*position, *limit, self.unread) = (0, size, 0..0);
            return Ok(size > 0);
        }
        let grown = size > *limit;
        *limit = size;
        Ok(grown)
    }

    /// Place in `block` of the next record's body.
    fn next_line(&mut self) -> io::Result<Option<std::ops::Range<usize>>> {
        let mut searched = 0;
        loop {
            let unread = &self.block[self.unread.clone()];
            let next = self.format.next(unread, searched);
            searched = unread.len();
            match next {
                Next::Record { body, end } => {
                    let start = self.unread.start;
                    self.unread.start += end;
                    return Ok(Some(start + body.start..start + body.end));
                }
                Next::More => {
                    if searched > LINE_BYTES {
                        self.unread = 0..0;
                        searched = 0;
                    }
                    if self.fill()? > 0 {
                        continue;
                    }
                }
                Next::Damaged => {
                    // The rest of this file cannot be read; the next one can.
                    self.unread = 0..0;
                    while self.fill()? > 0 {
                        self.unread = 0..0;
                    }
                }
            }
            let Some(next) = self.waiting.pop_front() else {
                // An unfinished line of the live file is kept until its end comes.
                return Ok(None);
            };
            self.damaged += u64::from(searched > 0);
            (self.unread, searched) = (0..0, 0);
            self.current = Some(Current::new(next, 0));
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let Some(current) = &mut self.current else {
            return Ok(0);
        };
        if self.unread.start > 0 {
            self.block.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.end == self.block.len() {
            self.block.resize(self.block.len() * 2, 0);
        }
        let read = current.read(&mut self.block[self.unread.end..])?;
        self.unread.end += read;
        Ok(read)
    }
}

impl Current {
    fn new(open: OpenFile, offset: u64) -> Self {
        let source = if open.compressed {
            Source::Compressed(Box::new(MultiGzDecoder::new(BufReader::with_capacity(32 * 1024, open.file))))
        } else {
            Source::Plain { file: open.file, position: offset, limit: open.size }
        };
        Self { inode: open.inode, source }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.source {
                Source::Plain { file, position, limit } => {
                    let length =
                        usize::try_from(limit.saturating_sub(*position)).unwrap_or(usize::MAX).min(buffer.len());
                    file.read_at(&mut buffer[..length], *position).inspect(|read| *position += *read as u64)
                }
                Source::Compressed(decoder) => match decoder.read(buffer) {
                    // Damaged: what could be read was read; the next file goes on.
                    Err(error)
                        if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof) =>
                    {
                        Ok(0)
                    }
                    other => other,
                },
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

/// Opens the files that are newer than the one with that inode, oldest first; all of them when it is not (any longer) there.
fn open_newer_than(dir: &OwnedFd, name: &str, inode: Option<u64>) -> io::Result<Vec<OpenFile>> {
    let mut files: Vec<OpenFile> = Vec::new();
    for slot in 0.. {
        let Some(open) = slots::open(dir.as_fd(), name, slot)? else {
            // In the middle of a rotation there is no live file, or one has just been moved to the next slot; the others are there.
            if slot == 0 || slots::is_taken(dir.as_fd(), name, slot + 1)? {
                continue;
            }
            break;
        };
        if Some(open.inode) == inode {
            break;
        }
        // A rotation while we look moves a file to the next slot: met twice, never missed.
        if files.last().is_none_or(|last| last.inode != open.inode) {
            files.push(open);
        }
    }
    files.reverse();
    Ok(files)
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
