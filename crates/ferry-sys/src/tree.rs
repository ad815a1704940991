//! Trees of files below a descriptor, that strangers filled and may be changing: read and made one entry at a time, by descriptors alone.
//!
//! A name is looked up in the descriptor of its folder and never followed; the folder was looked up with the tree's root as `/`. What was
//! looked at is what is used, by its descriptor. Leaves out archives: callers carry the entries from or to one.

mod make;
mod walk;

pub use make::{MakeError, Maker, Owner, Rules, clean};
pub(crate) use walk::shows_the_kernel;
pub use walk::{Found, Walk};

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// How an entry looks besides its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looks {
    /// The twelve bits of permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Unix time: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes: name, value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads the value of an attribute; `None` when there is none.
///
/// # Errors
/// What `fgetxattr` answers.
pub fn attribute(file: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < 1 << 17 => value.resize(value.len() * 4, 0),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::BADF) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Reads the names of all attributes.
///
/// # Errors
/// What `flistxattr` answers.
pub fn attribute_names(file: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = vec![0; 1024];
    loop {
        match rustix::fs::flistxattr(file, &mut names[..]) {
            Ok(length) => {
                names.truncate(length);
                let each = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
                return Ok(each.map(<[u8]>::to_vec).collect());
            }
            Err(Errno::RANGE) if names.len() < 1 << 17 => names.resize(names.len() * 4, 0),
            Err(Errno::NOTSUP | Errno::BADF) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        }
    }
}
