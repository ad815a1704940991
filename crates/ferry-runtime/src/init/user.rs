//! Who the process runs as: Docker's user text against the container's own `/etc/passwd` and `/etc/group`.
//!
//! Runs inside the new root. The files are the image's, so they are read as hostile: regular files only, opened without waiting, at most
//! [`MAX_FILE`] bytes. The null device, which stands where a file is masked, is an empty file without being opened. Ids are numbers in 0..2^31; nothing wraps. The texts of errors are Docker's to the letter.

use ferry_spec::runtime::User;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::channel::Failure;
use crate::error::{Error, cause_text};
use crate::plan::ProcessPlan;
use crate::root::{Links, Root};

/// Most bytes of `/etc/passwd` and `/etc/group`.
const MAX_FILE: usize = 1 << 20;
const MAX_ID: u32 = i32::MAX as u32;
const OUT_OF_RANGE: &str = "uids and gids must be in range 0-2147483647";

/// The identity a process gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// Home folder by the password file, else `/`.
    pub(crate) home: String,
}

/// Finds the identity of the process in the files below `/`.
pub(crate) fn resolve(process: &ProcessPlan) -> Result<Identity, Failure> {
    let user = &process.user;
    let needs_home = !process.environment.iter().any(|variable| is_set_home(variable));
    let needs_groups = user.username.is_some() || !user.additional_group_names.is_empty();
    let passwd = if user.username.is_some() || needs_home { read("/etc/passwd")? } else { String::new() };
    let group = if needs_groups { read("/etc/group")? } else { String::new() };
    look_up(user, &passwd, &group).map_err(Failure::bare)
}

/// Finds user and group of a user text alone, in the files below `/`.
pub(crate) fn ids_of(text: &str) -> Result<(u32, u32), Failure> {
    let user = User { username: Some(text.to_owned()), ..User::default() };
    let found = look_up(&user, &read("/etc/passwd")?, &read("/etc/group")?).map_err(Failure::bare)?;
    Ok((found.uid, found.gid))
}

/// An empty `HOME` counts as none.
pub(crate) fn is_set_home(variable: &str) -> bool {
    variable.strip_prefix("HOME=").is_some_and(|value| !value.is_empty())
}

fn read(path: &str) -> Result<String, Failure> {
    let fail = |text: String| Failure::from(Error::invalid(format!("read {path} of the container: {text}")));
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(|error| fail(cause_text(&error.into())))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    // As a location first: opening a device can have effects of its own.
    let root = Root::new(&root);
    let location = match root.locate(path, Links::Follow) {
        Ok(location) => location,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(fail(cause_text(&error.into()))),
    };
    if is_masked(&location) {
        return Ok(String::new());
    }
    require_regular(&location).map_err(fail)?;
    let file = root.open(path, flags, Links::Follow).map_err(|error| fail(cause_text(&error.into())))?;
    require_regular(&file).map_err(fail)?;
    let mut content = vec![0u8; MAX_FILE + 1];
    let mut length = 0;
    while length < content.len() {
        match rustix::io::read(&file, &mut content[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(fail(cause_text(&error.into()))),
        }
    }
    if length > MAX_FILE {
        return Err(fail("it is larger than 1 MiB".into()));
    }
    content.truncate(length);
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn is_masked(fd: &std::os::fd::OwnedFd) -> bool {
    rustix::fs::statat(fd, "", rustix::fs::AtFlags::EMPTY_PATH).is_ok_and(|stat| {
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && device == (1, 3)
    })
}

fn require_regular(fd: &std::os::fd::OwnedFd) -> Result<(), String> {
    let stat =
        rustix::fs::statat(fd, "", rustix::fs::AtFlags::EMPTY_PATH).map_err(|error| cause_text(&error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        Ok(())
    } else {
        Err("it is not a regular file".into())
    }
}

fn look_up(user: &User, passwd: &str, group: &str) -> Result<Identity, String> {
    let mut identity = match &user.username {
        Some(text) => look_up_text(text, passwd, group)?,
        None => Identity {
            uid: user.uid,
            gid: user.gid,
            groups: Vec::new(),
            home: home_of(user.uid, passwd).unwrap_or_else(|| "/".into()),
        },
    };
    for id in [identity.uid, identity.gid].iter().chain(&user.additional_gids) {
        // All ones means "unchanged" to the kernel.
        if *id == u32::MAX {
            return Err(OUT_OF_RANGE.into());
        }
    }
    for name in &user.additional_group_names {
        identity.groups.push(group_id(name, group)?);
    }
    identity.groups.extend(&user.additional_gids);
    let mut seen = std::collections::HashSet::new();
    identity.groups.retain(|gid| seen.insert(*gid));
    Ok(identity)
}

/// Docker's `[name|uid][:[group|gid]]`.
fn look_up_text(text: &str, passwd: &str, group: &str) -> Result<Identity, String> {
    // As in Docker, what follows the group is not looked at.
    let mut parts = text.split(':');
    let (user_text, group_text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let number = number(user_text);
    let entry = passwd.lines().filter_map(PasswdEntry::parse).find(|entry| {
        if user_text.is_empty() { entry.uid == 0 } else { entry.name == user_text || number == Some(Ok(entry.uid)) }
    });
    let mut identity = Identity { home: "/".into(), ..Identity::default() };
    match &entry {
        Some(entry) => {
            identity.uid = entry.uid;
            identity.gid = entry.gid;
            identity.home = entry.home.into();
        }
        None if user_text.is_empty() => {}
        None => match number {
            None => return Err(format!("unable to find user {user_text}: no matching entries in passwd file")),
            Some(Err(())) => return Err(OUT_OF_RANGE.into()),
            Some(Ok(uid)) => identity.uid = uid,
        },
    }
    if !group_text.is_empty() {
        identity.gid = group_id(group_text, group)?;
    }
    // The primary group is among the others: without that, giving it up would be a way past files closed to it.
    identity.groups.push(identity.gid);
    if !group_text.is_empty() {
        return Ok(identity);
    }
    if let Some(entry) = &entry {
        let lines = group.lines().filter_map(GroupEntry::parse);
        identity.groups.extend(lines.filter(|line| line.has(entry.name)).map(|line| line.gid));
    }
    Ok(identity)
}

fn group_id(text: &str, group: &str) -> Result<u32, String> {
    let number = number(text);
    let entry =
        group.lines().filter_map(GroupEntry::parse).find(|entry| entry.name == text || number == Some(Ok(entry.gid)));
    match (entry, number) {
        (Some(entry), _) => Ok(entry.gid),
        (None, Some(Ok(gid))) => Ok(gid),
        (None, Some(Err(()))) => Err(OUT_OF_RANGE.into()),
        (None, None) => Err(format!("unable to find group {text}: no matching entries in group file")),
    }
}

fn home_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().filter_map(PasswdEntry::parse).find(|entry| entry.uid == uid).map(|entry| entry.home.into())
}

/// Reads a text as an id: `None` when it is a name, `Some(Err)` when it is a number that no id can be.
fn number(text: &str) -> Option<Result<u32, ()>> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse::<u32>().ok().filter(|id| *id <= MAX_ID).ok_or(()))
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> PasswdEntry<'a> {
    fn parse(line: &'a str) -> Option<PasswdEntry<'a>> {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = number(fields.nth(1)?)?.ok()?;
        let gid = number(fields.next()?)?.ok()?;
        let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
        Some(PasswdEntry { name, uid, gid, home })
    }
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> GroupEntry<'a> {
    fn parse(line: &'a str) -> Option<GroupEntry<'a>> {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = number(fields.nth(1)?)?.ok()?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or("") })
    }

    fn has(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member == user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:www:/var/www:/bin/false\nhuge:x:4294967296:0::/:\n1000:x:7:8::/odd:\n#c:x:1:1::/:\n";
    const GROUP: &str = "root:x:0:\naudio:x:29:web,root\nvideo:x:44:web\nbad:x:-1:web\n";

    fn ids(text: &str) -> Result<(u32, u32, Vec<u32>), String> {
        look_up_text(text, PASSWD, GROUP).map(|identity| (identity.uid, identity.gid, identity.groups))
    }

    #[test]
    fn forms_of_the_user_text() {
        assert_eq!(ids("").unwrap(), (0, 0, vec![0, 29]));
        assert_eq!(ids("root").unwrap(), (0, 0, vec![0, 29]));
        assert_eq!(ids("web").unwrap(), (33, 34, vec![34, 29, 44]));
        assert_eq!(ids("33").unwrap(), (33, 34, vec![34, 29, 44]));
        assert_eq!(ids("web:video").unwrap(), (33, 44, vec![44]));
        assert_eq!(ids("web:999").unwrap(), (33, 999, vec![999]));
        assert_eq!(ids("5000").unwrap(), (5000, 0, vec![0]));
        assert_eq!(ids("5000:6000").unwrap(), (5000, 6000, vec![6000]));
        assert_eq!(ids("1000").unwrap(), (7, 8, vec![8]), "a name of digits goes before the number");
        assert_eq!(look_up_text("web", PASSWD, GROUP).unwrap().home, "/var/www");
    }

    #[test]
    fn texts_of_errors_are_dockers() {
        assert_eq!(ids("nobody").unwrap_err(), "unable to find user nobody: no matching entries in passwd file");
        assert_eq!(ids("web:none").unwrap_err(), "unable to find group none: no matching entries in group file");
        for text in ["4294967296", "-1", "2147483648", "18446744073709551616", "0:4294967296", "0:-1"] {
            assert_eq!(ids(text).unwrap_err(), OUT_OF_RANGE, "{text}");
        }
    }

    #[test]
    fn nothing_odd_becomes_root() {
        for text in [" 0", "1000\n0", "0 ", "+0", "0x0", "-", "٣", "huge", "#c"] {
            assert!(ids(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn missing_files_leave_numbers() {
        assert_eq!(look_up_text("12:13", "", "").unwrap().gid, 13);
        assert_eq!(look_up_text("", "", "").unwrap().home, "/");
        assert!(look_up_text("root", "", "").is_err());
    }

    #[test]
    fn additional_groups_are_added_once() {
        let user = User {
            username: Some("web".into()),
            additional_gids: vec![44, 100],
            additional_group_names: vec!["audio".into(), "1234".into()],
            ..User::default()
        };
        assert_eq!(look_up(&user, PASSWD, GROUP).unwrap().groups, [34, 29, 44, 1234, 100]);
        let numeric = User { uid: 33, gid: 5, ..User::default() };
        let identity = look_up(&numeric, PASSWD, GROUP).unwrap();
        assert_eq!((identity.gid, identity.groups.len(), identity.home.as_str()), (5, 0, "/var/www"));
        assert!(look_up(&User { uid: u32::MAX, ..User::default() }, "", "").is_err());
    }
}
