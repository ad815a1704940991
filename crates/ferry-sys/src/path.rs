//! Paths below a root that somebody else filled.
//!
//! A folder handed to a container, or unpacked from an archive, is full of links made by strangers. Looking a path up in it goes
//! through [`resolve_in_root`]: the kernel treats the root's descriptor as `/`, so neither `..` nor an absolute link leads out, and no
//! string is checked first and used later.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
    path::Arg,
    thread::UnshareFlags,
};

/// How often a look-up is tried again when somebody renames folders on its way.
const ATTEMPTS: usize = 128;

/// Opens `path` with `root` as its `/`: links are followed, but not out of `root`, nor through `/proc` magic, nor over a mount.
///
/// `O_CLOEXEC` is added. With `O_NOFOLLOW` the last component is not followed.
///
/// # Errors
/// As `openat2`; `EXDEV` when the way leads over a mount.
pub fn resolve_in_root(root: impl AsFd, path: impl Arg, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    path.into_with_c_str(|path| {
        // `EAGAIN` tells of a rename during the look-up of `..`, which the kernel leaves to the caller.
        for _ in 0..ATTEMPTS {
            match openat2(&root, path, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    })
}

/// Gives the calling thread a working folder and a umask of its own. For a thread made for the purpose: others would be surprised.
///
/// # Errors
/// When the kernel refuses, as some sandboxes make it.
pub fn unshare_working_folder() -> io::Result<()> {
    // SAFETY: unsharing CLONE_FS touches only the calling thread's root, working folder and umask; no memory and no descriptor
    // table is unshared. rustix offers no safe call because of the other flags.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("ferry-sys-path-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("root/etc")).expect("scratch folder");
        std::fs::write(dir.join("root/etc/inside"), "inside").expect("scratch file");
        std::fs::write(dir.join("outside"), "outside").expect("scratch file");
        dir
    }

    #[test]
    fn links_and_dots_stay_below_the_root() {
        let dir = scratch("below");
        let root = std::fs::File::open(dir.join("root")).expect("root");
        symlink("/etc/inside", dir.join("root/absolute")).expect("link");
        symlink("../../../../etc/inside", dir.join("root/dots")).expect("link");
        symlink(dir.join("outside"), dir.join("root/out")).expect("link");
        symlink("/proc/self/root/etc", dir.join("root/magic")).expect("link");
        let open = |path: &str| resolve_in_root(&root, path, OFlags::RDONLY, Mode::empty());
        for path in ["etc/inside", "absolute", "dots", "../../etc/inside", "/etc/inside"] {
            assert!(open(path).is_ok(), "{path}");
        }
        for path in ["out", "../outside", "magic/inside", "nothing"] {
            assert_eq!(open(path).err(), Some(Errno::NOENT), "{path}");
        }
        std::fs::remove_dir_all(dir).expect("clean");
    }

    #[test]
    fn a_thread_of_its_own_has_its_own_working_folder() {
        let before = std::env::current_dir().expect("cwd");
        std::thread::spawn(|| {
            unshare_working_folder().expect("unshare");
            std::env::set_current_dir("/proc").expect("chdir");
        })
        .join()
        .expect("thread");
        assert_eq!(std::env::current_dir().expect("cwd"), before);
    }
}
