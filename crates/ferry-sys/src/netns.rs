//! Network namespaces: making one, entering one, always on a thread made for it.
//!
//! A thread that has changed its namespace is never given back to anybody: the work is done on a
//! short-lived thread of its own, so no error path can leave a pooled thread in a container's
//! network. The calling thread's namespace never changes.

use std::{
    fs::File,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    thread,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::namespace;

/// Enough for netlink buffers; a small stack is mapped faster.
const STACK_BYTES: usize = 256 * 1024;

/// Opens the network namespace of the calling thread.
///
/// # Errors
/// Fails without `/proc` or without a free descriptor.
pub fn current() -> io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

/// Opens the network namespace of the process that a pidfd means.
///
/// # Errors
/// `NotFound` when it has ended, `PermissionDenied` without rights over it.
pub fn of_process(process: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    namespace::of_process(process, "net")
}

/// Runs `work` on a new thread in a new network namespace and gives back its result and the
/// namespace, which lives on as long as the descriptor or something made inside does.
///
/// # Errors
/// Fails when the thread or the namespace cannot be made.
///
/// # Panics
/// Panics when `work` does.
pub fn create<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<(OwnedFd, T)> {
    on_own_thread(|| {
        // SAFETY: unsharing the network namespace alone affects only this thread, which was made
        // for it and ends below; no descriptor table or memory is unshared, so nothing that other
        // threads rely on changes. rustix offers no safe call because of the other flags.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        let namespace = current()?;
        Ok((namespace, work()))
    })
}

/// Runs `work` on a new thread inside `namespace`.
///
/// # Errors
/// Fails when the thread cannot be made or may not enter the namespace.
///
/// # Panics
/// Panics when `work` does.
pub fn run_inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_own_thread(|| {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })
}

/// Runs `inside` on a new thread inside `namespace` and `here` on the calling thread at the same time.
///
/// # Errors
/// Fails when the thread cannot be made or may not enter the namespace; `here` may have been run.
///
/// # Panics
/// Panics when one of them does.
pub fn run_beside<T: Send, U>(
    namespace: BorrowedFd<'_>,
    inside: impl FnOnce() -> T + Send,
    here: impl FnOnce() -> U,
) -> io::Result<(T, U)> {
    let work = || {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        Ok(inside())
    };
    beside_own_thread(work, here)
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    beside_own_thread(work, || ()).map(|(result, ())| result)
}

fn beside_own_thread<T: Send, U>(
    work: impl FnOnce() -> io::Result<T> + Send,
    here: impl FnOnce() -> U,
) -> io::Result<(T, U)> {
    thread::scope(|scope| {
        let worker =
            thread::Builder::new().name("ferry-netns".to_owned()).stack_size(STACK_BYTES).spawn_scoped(scope, work)?;
        let here = here();
        match worker.join() {
            Ok(result) => result.map(|result| (result, here)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn inode(fd: impl AsFd) -> u64 {
        rustix::fs::fstat(fd).expect("stat of an open namespace").st_ino
    }

    #[test]
    fn of_process_gives_the_namespace_of_that_process() {
        let own = inode(current().expect("own namespace"));
        let process = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
        assert_eq!(inode(of_process(process.expect("a pidfd").as_fd()).expect("own process")), own);
    }

    #[test]
    fn created_namespace_is_new_and_the_caller_stays() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let before = inode(current().expect("own namespace"));
        let (namespace, inside) =
            create(|| inode(current().expect("new namespace"))).expect("root may make a namespace");
        assert_ne!(inside, before);
        assert_eq!(inode(&namespace), inside);
        assert_eq!(inode(current().expect("own namespace")), before);
        let again =
            run_inside(namespace.as_fd(), || inode(current().expect("entered"))).expect("root may enter a namespace");
        assert_eq!(again, inside);
        let both = run_beside(
            namespace.as_fd(),
            || inode(current().expect("entered")),
            || inode(current().expect("own namespace")),
        );
        assert_eq!(both.expect("root may enter a namespace"), (inside, before));
    }
}
