//! Which paths of a tree a pattern means.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Dir, OFlags};

use super::place;
use crate::failure::{Doing, Failure, Result};

fn matches(pattern: &str, name: &str) -> Result<bool> {
    ferry_dockerfile::ignore::matches(pattern, name).map_err(|error| Failure::invalid(error.to_string()))
}

fn has_wildcard(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

/// The paths that a pattern means, sorted; what matches is not gone into. A path without wildcards means itself, there or not.
pub(crate) fn resolve(root: BorrowedFd<'_>, pattern: &str) -> Result<Vec<String>> {
    let pattern = place::clean(pattern);
    let parts: Vec<&str> = pattern.split('/').collect();
    let Some(first) = parts.iter().position(|part| has_wildcard(part)) else { return Ok(vec![pattern]) };
    let (fixed, rest) = (parts[..first].join("/"), parts[first..].join("/"));
    let top = place::plain(root, &fixed, true)?;
    let mut found = Vec::new();
    walk(root, &top, "", &rest, parts.len() - first, &mut found)?;
    found.sort();
    Ok(found.into_iter().map(|below| if fixed.is_empty() { below } else { format!("{fixed}/{below}") }).collect())
}

/// `*` stays within one part of a path, so nothing deeper than the pattern can match.
fn walk(
    root: BorrowedFd<'_>,
    folder: &[u8],
    below: &str,
    pattern: &str,
    depth: usize,
    found: &mut Vec<String>,
) -> Result<()> {
    let opened = match place::open_plain(root, folder, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(opened) => opened,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(errno).doing(format!("open {}", place::shown(folder))),
    };
    for entry in Dir::read_from(opened.as_fd()).doing("cannot read a directory")? {
        let entry = entry.doing("cannot read a directory")?;
        let name = entry.file_name().to_bytes();
        let Ok(text) = std::str::from_utf8(name) else { continue };
        if matches!(text, "." | "..") {
            continue;
        }
        let here = if below.is_empty() { text.to_owned() } else { format!("{below}/{text}") };
        if matches(pattern, &here)? {
            found.push(here);
        } else if depth > 1 {
            let inner = place::join(folder, name);
            if place::stat_plain(root, &inner)?.is_some_and(|stat| place::is_dir(&stat)) {
                walk(root, &inner, &here, pattern, depth - 1, found)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_find_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/x.c", "a/y.c", "b/x.c", "top.c"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let root = std::fs::File::open(dir.path()).unwrap();
        let find = |pattern: &str| resolve(root.as_fd(), pattern).unwrap();
        assert_eq!(find("/*/x.c"), ["a/x.c", "b/x.c"]);
        assert_eq!(find("a/*.c"), ["a/x.c", "a/y.c"]);
        assert_eq!(find("*"), ["a", "b", "top.c"]);
        assert_eq!(find("none*"), Vec::<String>::new());
        assert_eq!(find("none"), ["none"]);
    }
}
