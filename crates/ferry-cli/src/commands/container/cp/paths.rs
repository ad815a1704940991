//! Docker's rules of which path means what in a copy. Paths are texts here, in Go's reading of them.

pub(super) use ferry_spec::path::{base, clean};

/// Go's `filepath.Dir`.
pub(super) fn dir(path: &str) -> String {
    match path.rfind('/') {
        Some(slash) => clean(&path[..=slash]),
        None => ".".to_owned(),
    }
}

/// Go's `filepath.Join` of two.
pub(super) fn join(first: &str, second: &str) -> String {
    clean(&format!("{first}/{second}"))
}

/// The path ends with a segment `.`.
pub(super) fn specifies_current_dir(path: &str) -> bool {
    base(path) == "."
}

pub(super) fn has_trailing_separator(path: &str) -> bool {
    path.ends_with('/')
}

/// The path is asserted to be a folder.
pub(super) fn asserts_directory(path: &str) -> bool {
    has_trailing_separator(path) || specifies_current_dir(path)
}

/// Gives a cleaned path the `/.` or `/` of the original back.
pub(super) fn preserve_ending(cleaned: &str, original: &str) -> String {
    let mut path = cleaned.to_owned();
    if !specifies_current_dir(&path) && specifies_current_dir(original) {
        if !has_trailing_separator(&path) {
            path.push('/');
        }
        path.push('.');
    }
    if !has_trailing_separator(&path) && has_trailing_separator(original) {
        path.push('/');
    }
    path
}

/// Folder and last segment of a path; a final `.` counts as one.
pub(super) fn split_entry(path: &str) -> (String, String) {
    let mut cleaned = clean(path);
    if specifies_current_dir(path) {
        cleaned.push_str("/.");
    }
    // The cleaning within takes the final dot away again.
    match cleaned.strip_suffix("/.") {
        Some(folder) if specifies_current_dir(path) => {
            (clean(if folder.is_empty() { "/" } else { folder }), ".".to_owned())
        }
        _ => (dir(&cleaned), base(&cleaned).to_owned()),
    }
}

/// What a link that was followed is called in the archive: its own name where that differs.
pub(super) fn rebase_name(path: &str, resolved: &str) -> (String, String) {
    let mut resolved = resolved.to_owned();
    if specifies_current_dir(path) && !specifies_current_dir(&resolved) {
        resolved.push_str("/.");
    }
    if has_trailing_separator(path) && !has_trailing_separator(&resolved) {
        resolved.push('/');
    }
    let renamed = if base(path) == base(&resolved) { String::new() } else { base(path).to_owned() };
    (resolved, renamed)
}

/// An end of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CopyInfo {
    pub(super) path: String,
    pub(super) exists: bool,
    pub(super) is_dir: bool,
    /// The source goes by this name.
    pub(super) rebase: String,
}

/// What is copied where: the folder to unpack in, and the change of the first names in the archive, if any.
pub(super) type Prepared = (String, Option<(String, String)>);

/// Decides it as Docker does.
pub(super) fn prepare(source: &CopyInfo, target: &CopyInfo) -> Result<Prepared, &'static str> {
    let (folder, name) = split_entry(&target.path);
    let (_, own_name) = split_entry(&source.path);
    let renamed = || {
        let from = if source.rebase.is_empty() { own_name.clone() } else { source.rebase.clone() };
        (folder.clone(), Some((from, name.clone())))
    };
    match (target.exists, target.is_dir, source.is_dir) {
        (true, true, _) => Ok((target.path.clone(), None)),
        (true, false, true) => Err("cannot copy directory"),
        (false, _, false) if asserts_directory(&target.path) => Err("no such directory"),
        _ => Ok(renamed()),
    }
}

/// Changes the beginning of a name in an archive.
pub(super) fn rebase(name: &[u8], from: &str, to: &str) -> Vec<u8> {
    let (from, to) = (from.trim_end_matches('/').as_bytes(), to.trim_end_matches('/').as_bytes());
    if from.is_empty() {
        let rest = &name[name.iter().take_while(|byte| **byte == b'/').count()..];
        return if to.is_empty() { rest.to_vec() } else { [to, b"/", rest].concat() };
    }
    match name.strip_prefix(from) {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => [to, rest].concat(),
        _ => name.to_vec(),
    }
}

/// Splits `CONTAINER:PATH`; what begins like a path is one.
pub(super) fn split_argument(argument: &str) -> (&str, &str) {
    if argument.starts_with('/') {
        return ("", argument);
    }
    match argument.split_once(':') {
        Some((container, path)) if !container.starts_with('.') => (container, path),
        _ => ("", argument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split() {
        for (argument, expected) in [
            ("c:/x", ("c", "/x")),
            ("c:", ("c", "")),
            ("/a:b", ("", "/a:b")),
            ("./a:b", ("", "./a:b")),
            ("../a:b", ("", "../a:b")),
            ("a", ("", "a")),
            ("host0/c:x:y", ("host0/c", "x:y")),
        ] {
            assert_eq!(split_argument(argument), expected, "{argument}");
        }
    }

    #[test]
    fn paths_are_read_as_go_does() {
        for (path, expected) in [("", "."), ("a/../..", ".."), ("/..", "/"), ("/a//b/./c/..", "/a/b"), ("./x", "x")] {
            assert_eq!(clean(path), expected, "{path}");
        }
        for (path, folder, name) in [
            ("/a/b", "/a", "b"),
            ("/a/b/", "/a", "b"),
            ("/a/.", "/a", "."),
            ("/", "/", "/"),
            ("/.", "/", "."),
            ("a", ".", "a"),
        ] {
            assert_eq!(split_entry(path), (folder.to_owned(), name.to_owned()), "{path}");
        }
        assert_eq!(preserve_ending("/a/b", "b/."), "/a/b/.");
        assert_eq!(preserve_ending("/a/b", "b/"), "/a/b/");
        assert_eq!(preserve_ending("/", "/"), "/");
    }

    fn info(path: &str, exists: bool, is_dir: bool) -> CopyInfo {
        CopyInfo { path: path.to_owned(), exists, is_dir, rebase: String::new() }
    }

    #[test]
    fn every_pair_of_ends_is_decided() {
        let renamed =
            |folder: &str, from: &str, to: &str| Ok((folder.to_owned(), Some((from.to_owned(), to.to_owned()))));
        let file = info("/s/f", true, false);
        let folder = info("/s/d", true, true);
        let content = info("/s/d/.", true, true);
        assert_eq!(prepare(&file, &info("/t", true, true)), Ok(("/t".to_owned(), None)));
        assert_eq!(prepare(&file, &info("/t/x", true, false)), renamed("/t", "f", "x"));
        assert_eq!(prepare(&file, &info("/t/x", false, false)), renamed("/t", "f", "x"));
        assert_eq!(prepare(&file, &info("/t/x/", false, false)), Err("no such directory"));
        assert_eq!(prepare(&folder, &info("/t/x", true, false)), Err("cannot copy directory"));
        assert_eq!(prepare(&folder, &info("/t/x", false, false)), renamed("/t", "d", "x"));
        assert_eq!(prepare(&content, &info("/t/x", false, false)), renamed("/t", ".", "x"));
    }

    #[test]
    fn names_are_changed_at_their_beginning() {
        for (name, from, to, expected) in [
            ("d/x", "d", "new", "new/x"),
            ("d", "d", "new", "new"),
            ("dd/x", "d", "new", "dd/x"),
            ("./x", ".", "new", "new/x"),
            ("/x", "/", "new", "new/x"),
        ] {
            assert_eq!(rebase(name.as_bytes(), from, to), expected.as_bytes(), "{name}");
        }
    }
}
