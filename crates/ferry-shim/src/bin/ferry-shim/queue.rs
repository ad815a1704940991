//! Bytes that a reader has not taken yet: in memory at first, then in an unlinked file, at last refused.
//!
//! So a reader that pauses (`| less`) loses nothing, and one that never reads costs bounded memory and disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, Mode, OFlags};

/// Kept in memory.
const MEMORY_BYTES: usize = 256 * 1024;

/// Kept in the file on top of that.
const SPILL_BYTES: u64 = 1 << 30;

/// Read back from the file at a time.
const REFILL_BYTES: usize = 64 * 1024;

/// The read part of the file is given back to the disk in steps of this.
const RECLAIM_BYTES: u64 = 16 << 20;

/// A bounded first-in, first-out queue of bytes.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    memory: VecDeque<u8>,
    spill: Option<Spill>,
}

#[derive(Debug)]
struct Spill {
    file: File,
    read_at: u64,
    write_at: u64,
    reclaimed: u64,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.spill.is_none()
    }

    /// Appends; `dir` is where the file is made if it must be. An error says that the queue cannot take it: the reader is lost.
    pub(crate) fn push(&mut self, bytes: &[u8], dir: BorrowedFd<'_>) -> io::Result<()> {
        if self.spill.is_none() && self.memory.len() + bytes.len() <= MEMORY_BYTES {
            self.memory.extend(bytes);
            return Ok(());
        }
        match &mut self.spill {
            Some(spill) => spill.push(bytes),
            None => self.spill.insert(Spill::new(dir)?).push(bytes),
        }
    }

    /// The next bytes, not yet taken; empty when the queue is.
    pub(crate) fn front(&mut self) -> io::Result<&[u8]> {
        if self.memory.is_empty()
            && let Some(spill) = &mut self.spill
        {
            spill.refill(&mut self.memory)?;
            if spill.read_at == spill.write_at {
                self.spill = None;
            }
        }
        Ok(self.memory.as_slices().0)
    }

    /// Takes bytes that [`Queue::front`] has shown.
    pub(crate) fn take(&mut self, count: usize) {
        self.memory.drain(..count);
        if self.memory.is_empty() && self.spill.is_none() {
            self.memory = VecDeque::new();
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Spill {
    fn new(dir: BorrowedFd<'_>) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(dir, ".", flags, Mode::RUSR | Mode::WUSR)?);
        Ok(Self { file, read_at: 0, write_at: 0, reclaimed: 0 })
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.write_at - self.read_at + bytes.len() as u64 > SPILL_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(bytes, self.write_at)?;
        self.write_at += bytes.len() as u64;
        Ok(())
    }

    fn refill(&mut self, memory: &mut VecDeque<u8>) -> io::Result<()> {
        let length = usize::try_from(self.write_at - self.read_at).unwrap_or(REFILL_BYTES).min(REFILL_BYTES);
        let mut block = vec![0; length];
        self.file.read_exact_at(&mut block, self.read_at)?;
        memory.extend(block);
        self.read_at += length as u64;
        if self.read_at - self.reclaimed >= RECLAIM_BYTES {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // A file system without holes keeps the bytes until the end.
            let _ = rustix::fs::fallocate(&self.file, hole, self.reclaimed, self.read_at - self.reclaimed);
            self.reclaimed = self.read_at;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn bytes_come_out_as_they_went_in_over_memory_and_file() {
        let dir = File::open(std::env::temp_dir()).expect("folder");
        let mut queue = Queue::default();
        let (mut wrote, mut read) = (0_u64, 0_u64);
        // Fills faster than it drains, then drains; every byte tells its place.
        for round in 0..400 {
            if round < 200 {
                let bytes: Vec<u8> =
                    (wrote..wrote + 10_007).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
                queue.push(&bytes, dir.as_fd()).expect("push");
                wrote += 10_007;
            }
            for _ in 0..if round < 200 { 1 } else { 100 } {
                let front = queue.front().expect("front").to_vec();
                let count = front.len().min(4096);
                for byte in &front[..count] {
                    assert_eq!(*byte, read.to_le_bytes()[0] ^ read.to_le_bytes()[1], "at {read}");
                    read += 1;
                }
                queue.take(count);
            }
        }
        assert_eq!((read, queue.is_empty()), (wrote, true));
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let dir = File::open(std::env::temp_dir()).expect("folder");
        let mut queue = Queue::default();
        queue.push(&[0; MEMORY_BYTES], dir.as_fd()).expect("memory");
        queue.push(&[0; 1], dir.as_fd()).expect("file");
        let spill = queue.spill.as_mut().expect("spilled");
        spill.write_at = SPILL_BYTES - 1;
        spill.push(&[0; 1]).expect("the last byte");
        assert_eq!(spill.push(&[0; 1]).expect_err("full").kind(), io::ErrorKind::StorageFull);
    }
}
