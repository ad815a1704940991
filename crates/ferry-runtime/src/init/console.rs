//! A terminal of the container's own devpts.

use std::os::fd::OwnedFd;
use std::path::Path;

use ferry_spec::runtime::ConsoleSize;
use rustix::fs::{AtFlags, FileType, OFlags, major, minor};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::mounts::{attach, clone_tree};
use crate::error::Error;
use crate::root::{Links, Root};

/// Both sides of a terminal.
#[derive(Debug)]
pub(crate) struct Console {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// Opens a new terminal. What is at `/dev/pts/ptmx` may be anything by the time of an exec, so it is proven before it is opened for use.
pub(crate) fn open(root: Root<'_>, size: Option<ConsoleSize>) -> Result<Console, Error> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    let step = |error: rustix::io::Errno| Error::step("open a terminal", error);
    let location = root.locate("/dev/pts/ptmx", Links::Refuse).map_err(step)?;
    let stat = rustix::fs::statat(&location, "", AtFlags::EMPTY_PATH).map_err(step)?;
    let is_ptmx = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (5, 2)
        && rustix::fs::fstatfs(&location).map_err(step)?.f_type == DEVPTS_SUPER_MAGIC;
    if !is_ptmx {
        return Err(Error::internal("open a terminal: /dev/pts/ptmx of the container is not a terminal multiplexer"));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let master = root.open("/dev/pts/ptmx", flags, Links::Refuse).map_err(step)?;
    // Swapped in between? Then this is no terminal and the next calls say so.
    rustix::fs::fcntl_setfl(&master, OFlags::RDWR).map_err(step)?;
    unlockpt(&master).map_err(step)?;
    let slave =
        ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).map_err(step)?;
    if let Some(size) = size {
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).map_err(step)?;
    }
    Ok(Console { master, slave })
}

/// Shows the terminal as `/dev/console`.
pub(super) fn bind(root: Root<'_>, console: &Console) -> Result<(), Error> {
    let step = |error: rustix::io::Errno| Error::step("make /dev/console", error);
    let target = root.make_file("/dev/console", 0o600, Links::Refuse).map_err(step)?;
    let tree = clone_tree(&console.slave, Path::new(""), false).map_err(step)?;
    attach(&tree, &target).map_err(step)
}
