//! Owners by name and by number.

use std::os::fd::BorrowedFd;

use super::place::read_file;
use crate::failure::{Failure, Result};
use crate::graph::Owner;

/// Most bytes of `/etc/passwd` and `/etc/group` that are read.
const LIMIT: u64 = 1 << 20;
/// The most a user or group id may be.
const MAX_ID: u32 = i32::MAX.unsigned_abs();

/// A user's and a group's number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Looks an owner up; `users` and `groups` are the trees whose files names are looked up in.
pub(crate) fn find_ids(
    user: Option<&Owner>,
    group: Option<&Owner>,
    users: Option<BorrowedFd<'_>>,
    groups: Option<BorrowedFd<'_>>,
) -> Result<Ids> {
    let mut ids = Ids::default();
    match user {
        Some(Owner::Id(id)) => ids = Ids { uid: checked(*id)?, gid: *id },
        Some(Owner::Name { name, .. }) => {
            let text = lines(users, "etc/passwd")?;
            let entry = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
            let numbers = entry.and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)));
            let (uid, gid) = numbers.ok_or_else(|| {
                Failure::invalid(format!("unable to find user {name}: no matching entries in passwd file"))
            })?;
            ids = Ids { uid: checked(uid)?, gid: checked(gid)? };
        }
        None => {}
    }
    match group {
        Some(Owner::Id(id)) => ids.gid = checked(*id)?,
        Some(Owner::Name { name, .. }) => {
            let text = lines(groups, "etc/group")?;
            let entry = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
            let number = entry.and_then(|fields| fields.get(2)?.parse().ok());
            ids.gid = checked(number.ok_or_else(|| {
                Failure::invalid(format!("unable to find group {name}: no matching entries in group file"))
            })?)?;
        }
        None => {}
    }
    Ok(ids)
}

fn checked(id: u32) -> Result<u32> {
    if id > MAX_ID {
        return Err(Failure::invalid(format!("id {id} is not within 0 and {MAX_ID}")));
    }
    Ok(id)
}

fn lines(tree: Option<BorrowedFd<'_>>, path: &str) -> Result<String> {
    let Some(tree) = tree else { return Ok(String::new()) };
    let bytes = read_file(tree, path, LIMIT)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn names_are_looked_up() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:10:20::/:/bin/sh\n").unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nstaff:x:50:app\n").unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let name = |name: &str| Owner::Name { name: name.to_owned(), input: None };
        let find = |user: Option<Owner>, group: Option<Owner>| {
            find_ids(user.as_ref(), group.as_ref(), Some(root.as_fd()), Some(root.as_fd()))
        };
        assert_eq!(find(Some(name("app")), None).unwrap(), Ids { uid: 10, gid: 20 });
        assert_eq!(find(Some(name("app")), Some(name("staff"))).unwrap(), Ids { uid: 10, gid: 50 });
        assert_eq!(find(Some(Owner::Id(7)), None).unwrap(), Ids { uid: 7, gid: 7 });
        assert_eq!(find(Some(Owner::Id(7)), Some(Owner::Id(8))).unwrap(), Ids { uid: 7, gid: 8 });
        assert!(find(Some(name("nobody")), None).unwrap_err().message.contains("unable to find user nobody"));
        assert!(find(Some(Owner::Id(u32::MAX)), None).is_err());
    }
}
