//! Layers whose files are no newer than a moment.

use std::io::{self, Read};

use ferry_spec::descriptor::Descriptor;
use ferry_spec::tar::{END, ReadError, Reader, header, next_entry, padding};

use super::{ArchiveError, ImportedLayer};
use crate::Store;
use crate::error::{Error, Result};
use crate::layers::LayerError;
use crate::layers::stream::Decoder;

impl Store {
    /// Stores a layer anew whose files are no newer than a moment, in seconds of Unix time; those that are get that time.
    ///
    /// # Errors
    /// [`Error::BlobNotFound`]; when it cannot be read, or the new one not be written.
    pub fn layer_no_newer(&self, layer: &Descriptor, seconds: i64) -> Result<ImportedLayer> {
        let broken = |error| Error::Archive(ArchiveError::Read(LayerError::Decompress(error)));
        let decoder = Decoder::new(self.open_blob(&layer.digest)?).map_err(broken)?;
        self.compress_layer(NoNewer::new(decoder, seconds))
    }
}

/// A tar on its way, with other times.
struct NoNewer<R> {
    tar: Reader<R>,
    latest: i64,
    /// A header that is handed out.
    ready: Vec<u8>,
    at: usize,
    /// Bytes of a file that follow as they are.
    left: u64,
    is_over: bool,
}

impl<R: Read> NoNewer<R> {
    fn new(tar: R, latest: i64) -> Self {
        Self { tar: Reader(tar), latest, ready: Vec::new(), at: 0, left: 0, is_over: false }
    }

    fn next_header(&mut self) -> std::result::Result<(), ReadError> {
        self.at = 0;
        let Some(mut entry) = next_entry(&mut self.tar)? else {
            self.ready = END.to_vec();
            self.is_over = true;
            return Ok(());
        };
        if entry.sparse.is_some() {
            return Err(ReadError::Header("a sparse file, whose time cannot be changed"));
        }
        if entry.mtime > (self.latest, 0) {
            entry.mtime = (self.latest, 0);
        }
        self.left = entry.stored_bytes + padding(entry.stored_bytes);
        self.ready = header(&entry);
        Ok(())
    }
}

impl<R: Read> Read for NoNewer<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.ready.len() && self.left == 0 && !self.is_over {
            self.next_header().map_err(io::Error::other)?;
        }
        if self.at < self.ready.len() {
            let count = buffer.len().min(self.ready.len() - self.at);
            buffer[..count].copy_from_slice(&self.ready[self.at..self.at + count]);
            self.at += count;
            return Ok(count);
        }
        if self.left == 0 {
            return Ok(0);
        }
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.tar.0.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::Error::other(ReadError::Truncated));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use ferry_spec::tar::{Entry, Kind};

    use super::*;

    fn tar(times: &[i64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (at, time) in times.iter().enumerate() {
            let mut entry = Entry::new(Kind::File, format!("f{at}"), 0o640);
            entry.mtime = (*time, 7);
            (entry.size, entry.stored_bytes) = (3, 3);
            entry.xattrs = vec![(b"user.a".to_vec(), b"b".to_vec())];
            bytes.extend(header(&entry));
            bytes.extend(b"abc");
            bytes.extend(vec![0; 509]);
        }
        bytes.extend(END);
        bytes
    }

    #[test]
    fn times_after_the_moment_become_it_and_nothing_else_changes() {
        let mut changed = Vec::new();
        NoNewer::new(&tar(&[50, 100, 200])[..], 100).read_to_end(&mut changed).unwrap();
        let mut reader = Reader(&changed[..]);
        let mut times = Vec::new();
        while let Some(entry) = next_entry(&mut reader).unwrap() {
            assert_eq!((entry.mode, entry.xattrs.len(), entry.stored_bytes), (0o640, 1, 3));
            times.push(entry.mtime);
            let mut data = vec![0; 512];
            reader.0.read_exact(&mut data).unwrap();
            assert!(data.starts_with(b"abc"));
        }
        assert_eq!(times, [(50, 7), (100, 0), (100, 0)]);
        let mut same = Vec::new();
        NoNewer::new(&tar(&[50])[..], 100).read_to_end(&mut same).unwrap();
        assert_eq!(same, tar(&[50]));
        let cut = tar(&[50]);
        assert!(NoNewer::new(&cut[..cut.len() - 1600], 100).read_to_end(&mut Vec::new()).is_err());
    }
}
