//! Whether a user of an exec exists, before there is a process: Docker says so when the exec is made.
//!
//! The answer that counts is the runtime's, at the start. The files are the container's, so they are read as hostile: by descriptor below the
//! container's root, regular files only, opened without waiting, bounded.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat};

/// Most bytes of `/etc/passwd` and `/etc/group`.
const MOST_BYTES: u64 = 1 << 20;
const LARGEST_ID: i64 = i32::MAX as i64;
const OUT_OF_RANGE: &str = "uids and gids must be in range 0-2147483647";

/// Looks `user` up in the files of the process `pid`'s root.
///
/// # Errors
/// Docker's text.
pub(super) fn check(pid: u32, user: &str) -> Result<(), String> {
    if user.is_empty() {
        return Ok(());
    }
    let root =
        openat(CWD, format!("/proc/{pid}/root"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    // The container has just ended: the start will say so.
    let Ok(root) = root else { return Ok(()) };
    let (Some(passwd), Some(group)) = (read(&root, "etc/passwd"), read(&root, "etc/group")) else {
        // What stands there is no file to be read; the start will say so, too.
        return Ok(());
    };
    look_up(user, &passwd, &group)
}

/// The file's text; nothing when it is missing, `None` when it is not what it should be.
fn read(root: &OwnedFd, path: &str) -> Option<String> {
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |flags: OFlags| openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), within);
    // As a location first: opening a device can have effects of its own.
    let location = match open(OFlags::PATH) {
        Ok(location) => location,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Some(String::new()),
        Err(_) => return None,
    };
    let is_regular = |fd: &OwnedFd| {
        statat(fd, "", AtFlags::EMPTY_PATH)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    };
    let is_masked = statat(&location, "", AtFlags::EMPTY_PATH).is_ok_and(|stat| {
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && device == (1, 3)
    });
    if is_masked {
        // The null device stands where a file is masked; it need not be opened to be empty.
        return Some(String::new());
    }
    if !is_regular(&location) {
        return None;
    }
    let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).ok().filter(is_regular)?;
    let mut content = Vec::new();
    File::from(file).take(MOST_BYTES + 1).read_to_end(&mut content).ok()?;
    (content.len() as u64 <= MOST_BYTES).then(|| String::from_utf8_lossy(&content).into_owned())
}

/// The numbers of a user and group, as the runtime will find them; `None` for what it will not find.
pub(crate) fn numbers(root: &OwnedFd, text: &str) -> Option<(u32, u32)> {
    if text.is_empty() {
        return Some((0, 0));
    }
    numbers_in(text, &read(root, "etc/passwd")?, &read(root, "etc/group")?)
}

fn numbers_in(text: &str, passwd: &str, group: &str) -> Option<(u32, u32)> {
    let (user, group_text) = text.split_once(':').unwrap_or((text, ""));
    let field = |line: &str, at: usize| line.trim().split(':').nth(at).map(str::to_owned);
    let number = |text: &str| text.parse::<u32>().ok().filter(|id| i64::from(*id) <= LARGEST_ID);
    let named = passwd.lines().find(|line| field(line, 0).as_deref() == Some(user));
    let numbered = || passwd.lines().find(|line| field(line, 2).as_deref() == Some(user));
    let entry = named.or_else(numbered);
    let uid = match (entry, user) {
        (Some(line), _) => number(&field(line, 2)?)?,
        (None, "") => 0,
        (None, user) => number(user)?,
    };
    let gid = match group_text {
        "" => entry.and_then(|line| number(&field(line, 3)?)).unwrap_or(0),
        name => match group.lines().find(|line| field(line, 0).as_deref() == Some(name)) {
            Some(line) => number(&field(line, 2)?)?,
            None => number(name)?,
        },
    };
    Some((uid, gid))
}

fn look_up(text: &str, passwd: &str, group: &str) -> Result<(), String> {
    // What follows the group is not looked at.
    let mut parts = text.split(':');
    let (user, group_text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    exists(user, passwd, "user", "passwd")?;
    exists(group_text, group, "group", "group")
}

fn exists(text: &str, content: &str, what: &str, file: &str) -> Result<(), String> {
    let named = content.lines().any(|line| line.trim().split(':').next() == Some(text));
    if text.is_empty() || named {
        return Ok(());
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match (is_number, text.parse::<i64>()) {
        (true, Ok(0..=LARGEST_ID)) => Ok(()),
        (true, _) => Err(OUT_OF_RANGE.to_owned()),
        (false, _) => Err(format!("unable to find {what} {text}: no matching entries in {file} file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/:\n";
    const GROUP: &str = "root:x:0:\nvideo:x:44:web\n";

    #[test]
    fn names_must_be_there_and_numbers_in_range() {
        for good in ["root", "web", "web:video", "0", "5000:6000", "web:", ":video"] {
            assert_eq!(look_up(good, PASSWD, GROUP), Ok(()), "{good}");
        }
        let said = |text: &str| look_up(text, PASSWD, GROUP).unwrap_err();
        assert_eq!(said("nobody"), "unable to find user nobody: no matching entries in passwd file");
        assert_eq!(said("web:none"), "unable to find group none: no matching entries in group file");
        for text in ["-1", "2147483648", "0:-1", "18446744073709551616"] {
            assert_eq!(said(text), OUT_OF_RANGE, "{text}");
        }
    }

    #[test]
    fn names_have_numbers() {
        for (text, expected) in [
            ("root", Some((0, 0))),
            ("web", Some((33, 33))),
            ("33", Some((33, 33))),
            ("web:video", Some((33, 44))),
            ("1000", Some((1000, 0))),
            ("1000:2000", Some((1000, 2000))),
            ("nobody", None),
            ("web:none", None),
        ] {
            assert_eq!(numbers_in(text, PASSWD, GROUP), expected, "{text}");
        }
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        rustix::fs::mknodat(CWD, folder.path().join("etc/passwd"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("etc/group")).unwrap();
        let root = openat(CWD, folder.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert_eq!(read(&root, "etc/passwd"), None);
        assert_eq!(read(&root, "etc/group"), None, "a link is followed in the root alone");
        assert_eq!(read(&root, "etc/shadow"), Some(String::new()));
    }
}
