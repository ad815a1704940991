//! Notices that a log may have more, for readers that follow.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// Becomes readable when something in the folder was written, made or renamed; non-blocking.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Watches a container's data folder.
    ///
    /// # Errors
    /// When the folder is not there, or the user's inotify watches are used up: poll by time then.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let watch = Self(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        watch.add(dir)?;
        Ok(watch)
    }

    /// Watches another folder too.
    ///
    /// # Errors
    /// As [`Watch::new`].
    pub fn add(&self, dir: &Path) -> io::Result<()> {
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF;
        inotify::add_watch(&self.0, dir, what)?;
        Ok(())
    }

    /// Takes all notices away, so that it becomes readable again at the next change.
    pub fn clear(&self) {
        let mut notices = [const { MaybeUninit::<u8>::uninit() }; 4096];
        while rustix::io::read(&self.0, &mut notices).is_ok_and(|(read, _)| !read.is_empty()) {}
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
