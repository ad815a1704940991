//! Slash-separated paths as text, cleaned as Go's `path` package does; nothing here looks at a disk.

/// Returns the shortest path that means the same: no `.`, no `//`, `..` resolved where there is something to leave; `.` for nothing.
#[must_use]
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(last) if *last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Returns a path as seen from the root, cleaned: whatever is written, it begins with a slash and nothing leads above the root.
#[must_use]
pub fn clean_rooted(path: &str) -> String {
    clean(&format!("/{path}"))
}

/// Returns a path below another, cleaned; empty parts are left out.
#[must_use]
pub fn join(parent: &str, path: &str) -> String {
    match (parent.is_empty(), path.is_empty()) {
        (true, true) => String::new(),
        (true, false) => clean(path),
        (false, true) => clean(parent),
        (false, false) => clean(&format!("{parent}/{path}")),
    }
}

/// Returns the last element of a path; `.` for an empty one, `/` for the root.
#[must_use]
pub fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed.rsplit('/').next().unwrap_or(trimmed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("a//b/./c/", "a/b/c"),
            ("a/../..", ".."),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("/a/b/..", "/a"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
        assert_eq!((clean_rooted(""), clean_rooted("../a/")), ("/".to_owned(), "/a".to_owned()));
        assert_eq!(join("/a", "b/../c"), "/a/c");
        assert_eq!(join("", ""), "");
        assert_eq!((base("/a/b/"), base("/"), base(""), base("a")), ("b", "/", ".", "a"));
    }
}
