//! Names in archives, made safe to look up below a root.

use rustix::fs::OFlags;

use super::{EntryProblem, LayerError};

/// How folders are opened whose name may meanwhile be somebody's link.
pub(crate) const FOLDER_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The longest path the kernel looks up.
const PATH_MAX: usize = 4095;

/// Cleans a path as written in an archive: relative, without empty, `.` and `..` components. The root itself is empty.
pub(crate) fn clean(raw: &[u8], depth_limit: usize) -> Result<Vec<u8>, LayerError> {
    let problem = |problem| LayerError::entry(raw, problem);
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in raw.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or_else(|| problem(EntryProblem::Escapes))?;
            }
            part => parts.push(part),
        }
    }
    if parts.len() > depth_limit {
        return Err(LayerError::Limit { what: "folders above a file", limit: depth_limit as u64 });
    }
    let path = parts.join(&b'/');
    if path.len() > PATH_MAX {
        return Err(problem(EntryProblem::TooLong));
    }
    if path.contains(&0) {
        return Err(problem(EntryProblem::Nul));
    }
    Ok(path)
}

/// Splits a clean path into its folder and its name; the root has neither.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// What a name means to a union of layers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    /// Itself.
    Plain,
    /// It hides this name of the layers below.
    Whiteout(&'a [u8]),
    /// Its folder hides everything of the layers below.
    Opaque,
    /// Bookkeeping of aufs, of no use.
    Ignored,
}

/// Reads the meaning of a clean path.
///
/// Spec: OCI image layer, whiteouts.
pub(crate) fn meaning(path: &[u8]) -> Result<Meaning<'_>, LayerError> {
    let (folder, name) = split(path);
    let mut inside_ignored = false;
    for part in folder.split(|byte| *byte == b'/') {
        if part.starts_with(b".wh..wh.") {
            inside_ignored = true;
        } else if part.starts_with(b".wh.") {
            return Err(LayerError::entry(path, EntryProblem::Whiteout));
        }
    }
    if inside_ignored {
        return Ok(Meaning::Ignored);
    }
    match name.strip_prefix(b".wh.") {
        None => Ok(Meaning::Plain),
        Some(b".wh..opq") => Ok(Meaning::Opaque),
        Some(hidden) if hidden.starts_with(b".wh.") => Ok(Meaning::Ignored),
        Some(b"" | b"." | b"..") => Err(LayerError::entry(path, EntryProblem::Whiteout)),
        Some(hidden) => Ok(Meaning::Whiteout(hidden)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_or_refused() {
        let cases: &[(&str, Option<&str>)] = &[
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("/etc/passwd", Some("etc/passwd")),
            ("a/../b", Some("b")),
            ("a/./../../b", None),
            ("..", None),
            ("../x", None),
            ("/../x", None),
            (".", Some("")),
            ("", Some("")),
            ("a/..", Some("")),
            ("...", Some("...")),
            ("a\0b", None),
        ];
        for (raw, expected) in cases {
            let cleaned = clean(raw.as_bytes(), 10).ok();
            assert_eq!(cleaned.as_deref(), expected.map(str::as_bytes), "{raw:?}");
        }
        assert!(clean("a/".repeat(11).as_bytes(), 10).is_err());
    }

    #[test]
    fn whiteouts_are_read_or_refused() {
        let cases: &[(&str, Option<Meaning<'_>>)] = &[
            ("a/b", Some(Meaning::Plain)),
            ("a/.wh.b", Some(Meaning::Whiteout(b"b"))),
            (".wh.b", Some(Meaning::Whiteout(b"b"))),
            ("a/.wh..wh..opq", Some(Meaning::Opaque)),
            ("a/.wh..wh.aufs", Some(Meaning::Ignored)),
            (".wh..wh.plnk/123.4", Some(Meaning::Ignored)),
            ("a/.wh.", None),
            ("a/.wh..", None),
            ("a/.wh...", None),
            ("a/.wh....", Some(Meaning::Whiteout(b"..."))),
            ("a/.wh.b/c", None),
        ];
        for (path, expected) in cases {
            assert_eq!(meaning(path.as_bytes()).ok(), *expected, "{path}");
        }
    }
}
