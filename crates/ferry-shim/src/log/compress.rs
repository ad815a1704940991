//! gzip of a rotated file, with the inode of the plain file in the header's extra field.
//!
//! The inode lets a reader that still has the plain file open find where it stands in the order of files.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;

use flate2::{Compression, GzBuilder};

/// Our subfield of the gzip extra field (RFC 1952, 2.3.1.1): two identifying bytes, length 8.
const SUBFIELD: [u8; 4] = [b'F', b'i', 8, 0];

/// Bit of the header's flags that says there is an extra field.
const FLAG_EXTRA: u8 = 4;

/// Writes `source` from its beginning as gzip to `target`.
///
/// # Errors
/// What reading and writing answer.
pub fn compress(source: &mut File, target: &mut File) -> io::Result<()> {
    source.rewind()?;
    let mut extra = SUBFIELD.to_vec();
    extra.extend_from_slice(&source.metadata()?.ino().to_le_bytes());
    let mut writer = GzBuilder::new().extra(extra).write(target, Compression::default());
    io::copy(source, &mut writer)?;
    writer.finish()?.flush()
}

/// The inode of the file that was compressed, 0 when the header does not tell. Leaves the position at the beginning.
pub(super) fn source_inode(file: &mut File) -> io::Result<u64> {
    let mut header = [0; 24];
    file.rewind()?;
    let complete = file.read_exact(&mut header).is_ok();
    file.rewind()?;
    if !complete || header[3] & FLAG_EXTRA == 0 || header[12..16] != SUBFIELD {
        return Ok(0);
    }
    Ok(header[16..].try_into().map_or(0, u64::from_le_bytes))
}
