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
    fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat},
    io::Errno,
    path::Arg,
    thread::UnshareFlags,
};

/// How often a look-up is tried again when somebody renames folders on its way.
const ATTEMPTS: usize = 128;
/// Links followed before a path counts as a loop, as in the kernel.
const MAX_LINKS: u32 = 40;

/// Opens `path` with `root` as its `/`: links are followed, but not out of `root`, nor through `/proc` magic, nor over a mount.
///
/// `O_CLOEXEC` is added. With `O_NOFOLLOW` the last component is not followed.
///
/// # Errors
/// As `openat2`; `EXDEV` when the way leads over a mount.
pub fn resolve_in_root(root: impl AsFd, path: impl Arg, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    resolve(root, path, flags, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV)
}

fn resolve(
    root: impl AsFd,
    path: impl Arg,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
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

/// As [`resolve_in_root`], but over mounts: for a root that is a whole view of files, as a process has it.
///
/// # Errors
/// As `openat2`.
pub fn resolve_in_view(root: impl AsFd, path: impl Arg, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    resolve(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens the folder at `path` below `root`, made with mode 0755 where it, or one above it, is missing. Links are followed inside of `root`;
/// `made` sees each new folder.
///
/// # Errors
/// `ENOTDIR` when something else is in the way, and what the calls answer.
pub fn make_folders(
    root: impl AsFd,
    path: &[u8],
    mut made: impl FnMut(&OwnedFd) -> rustix::io::Result<()>,
) -> rustix::io::Result<OwnedFd> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY;
    let whole: &[u8] = if path.is_empty() { b"." } else { path };
    match resolve_in_view(&root, whole, folder) {
        Err(Errno::NOENT) => {}
        done => return done,
    }
    let mut rest: Vec<Vec<u8>> = parts(path);
    let mut way = vec![resolve_in_view(&root, ".", folder)?];
    let mut followed = 0;
    while let Some(name) = rest.pop() {
        let Some(here) = way.last() else { return Err(Errno::NOENT) };
        if name == b".." {
            if way.len() > 1 {
                way.pop();
            }
            continue;
        }
        let flags = folder | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(here, &name[..], flags, Mode::empty()) {
            Ok(next) => way.push(next),
            Err(Errno::NOENT) => {
                match mkdirat(here, &name[..], Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                let next = openat(here, &name[..], flags, Mode::empty())?;
                made(&next)?;
                way.push(next);
            }
            Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => {
                let target = readlinkat(here, &name[..], Vec::new()).map_err(|_| errno)?.into_bytes();
                followed += 1;
                if followed > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                if target.starts_with(b"/") {
                    way.truncate(1);
                }
                rest.extend(parts(&target));
            }
            Err(errno) => return Err(errno),
        }
    }
    way.pop().ok_or(Errno::NOENT)
}

/// The parts of a path, the last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let named = |part: &&[u8]| !matches!(*part, b"" | b".");
    path.split(|byte| *byte == b'/').rev().filter(named).map(<[u8]>::to_vec).collect()
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
