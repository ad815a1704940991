//! How the tar of a layer is made again, byte for byte, out of the files that it was unpacked to.
//!
//! A layer that was built here has no blob: beside its files lies a recipe, which holds everything of the tar but the content of regular
//! files, in order, and the places where that belongs. Whoever makes the tar again proves it against the diff ID, so a recipe need not be
//! believed.
//!
//! The form, compressed by zstd: a line that names it, then items. An item is `0`, a length and as many bytes; or `1`, the bytes of a file,
//! the length of its path and the path. Numbers are little-endian, lengths of four bytes and sizes of eight.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use ferry_sys::path::resolve_in_root;
use rustix::fs::{Mode, OFlags};

/// The first line.
const HEAD: &[u8] = b"ferry-layer-recipe 1\n";
/// Bytes of the tar that are kept back to be one item.
const ITEM: usize = 64 * 1024;
/// The most that an item may say it has.
const LONGEST: u32 = 1 << 20;

const BYTES: u8 = 0;
const FILE: u8 = 1;

/// Writes down a tar while it is unpacked.
pub(crate) struct RecipeWriter {
    out: zstd::Encoder<'static, Vec<u8>>,
    bytes: Vec<u8>,
}

impl RecipeWriter {
    pub(crate) fn new() -> io::Result<Self> {
        // Headers are alike: more effort gains little.
        let mut out = zstd::Encoder::new(Vec::new(), 1)?;
        out.write_all(HEAD)?;
        Ok(Self { out, bytes: Vec::with_capacity(ITEM) })
    }

    /// Takes bytes that no file has.
    pub(crate) fn bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = bytes.len().min(ITEM - self.bytes.len());
            self.bytes.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.bytes.len() == ITEM {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Notes that the content of a file comes here.
    pub(crate) fn file(&mut self, path: &[u8], size: u64) -> io::Result<()> {
        self.flush()?;
        self.out.write_all(&[FILE])?;
        self.out.write_all(&size.to_le_bytes())?;
        self.sized(path)
    }

    pub(crate) fn finish(mut self) -> io::Result<Vec<u8>> {
        self.flush()?;
        self.out.finish()
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.out.write_all(&[BYTES])?;
        let bytes = std::mem::take(&mut self.bytes);
        self.sized(&bytes)?;
        self.bytes = bytes;
        self.bytes.clear();
        Ok(())
    }

    fn sized(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(bytes)
    }
}

/// Writes the tar that a recipe tells of, with the content of the files below `root`.
pub(crate) fn follow(recipe: impl Read, root: BorrowedFd<'_>, out: &mut impl Write) -> io::Result<()> {
    let mut recipe = io::BufReader::with_capacity(ITEM, zstd::Decoder::new(recipe)?);
    let mut head = [0; HEAD.len()];
    recipe.read_exact(&mut head)?;
    if head != HEAD {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a recipe of an unknown form"));
    }
    loop {
        let mut kind = [0];
        match recipe.read(&mut kind) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        match kind[0] {
            BYTES => out.write_all(&sized(&mut recipe)?)?,
            FILE => {
                let mut size = [0; 8];
                recipe.read_exact(&mut size)?;
                let path = sized(&mut recipe)?;
                content(root, &path, u64::from_le_bytes(size), out)?;
            }
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown item of a recipe")),
        }
    }
}

fn sized(recipe: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    recipe.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an item of a recipe is too long"));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    recipe.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn content(root: BorrowedFd<'_>, path: &[u8], size: u64, out: &mut impl Write) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = resolve_in_root(root, path, flags, Mode::empty())?;
    let mut content = Read::take(std::fs::File::from(file), size);
    match io::copy(&mut content, out)? == size {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file of a layer is shorter than it was")),
    }
}
