//! An archive on a socket.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;

use ferry_shim::layer::{Sink, add};
use ferry_spec::tar::{self, Entry};
use ferry_sys::tree::Found;

/// Bytes written at once.
const BUFFER: usize = 256 * 1024;

/// An archive on its way out.
pub(crate) struct Archive {
    out: BufWriter<File>,
}

impl Archive {
    pub(crate) fn new(data: &OwnedFd) -> io::Result<Self> {
        Ok(Self { out: BufWriter::with_capacity(BUFFER, data.try_clone()?.into()) })
    }

    /// Adds an entry by this name.
    pub(crate) fn add(&mut self, found: Found, name: Vec<u8>) -> io::Result<()> {
        add(found, name, self)
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&tar::END)?;
        self.out.flush()
    }
}

impl Sink for Archive {
    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.out.write_all(&tar::header(entry))
    }

    /// A file that grows or shrinks under our hands is told as long as it was said to be.
    fn content(&mut self, _path: &[u8], file: File, length: u64) -> io::Result<()> {
        let copied = io::copy(&mut file.take(length), &mut self.out)?;
        let missing = length - copied + tar::padding(length);
        io::copy(&mut io::repeat(0).take(missing), &mut self.out).map(drop)
    }
}
