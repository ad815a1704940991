//! Paths as clients write them, in Go's reading.

/// Go's `filepath.Clean` of a path below `/`.
pub(crate) fn clean_absolute(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The cleaned path with the `/.` or `/` that the written one ends with: both say that it is a folder.
pub(crate) fn with_ending(path: &str) -> String {
    let mut cleaned = clean_absolute(path);
    if base(path) == "." {
        if !cleaned.ends_with('/') {
            cleaned.push('/');
        }
        cleaned.push('.');
    }
    if path.ends_with('/') && !cleaned.ends_with('/') {
        cleaned.push('/');
    }
    cleaned
}

/// Go's `filepath.Base`.
pub(crate) fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return "/";
    }
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

/// Whether a path is a place or lies below it.
pub(crate) fn lies_in(path: &str, place: &str) -> bool {
    let place = place.trim_end_matches('/');
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_kept() {
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("a/b/", "/a/b/"),
            ("a/./b/.", "/a/b/."),
            ("/a/../..", "/"),
            ("/", "/"),
            (".", "/."),
            ("", "/."),
            ("/.", "/."),
            ("//x//", "/x/"),
        ] {
            assert_eq!(with_ending(path), expected, "{path}");
        }
    }

    #[test]
    fn bases_are_those_of_go() {
        for (path, expected) in [("", "."), ("/", "/"), ("/a", "a"), ("/a/", "a"), ("/a/.", "."), ("a", "a")] {
            assert_eq!(base(path), expected, "{path}");
        }
    }

    #[test]
    fn places_end_at_slashes() {
        assert!(lies_in("/data", "/data") && lies_in("/data/x", "/data/") && lies_in("/x", "/"));
        assert!(!lies_in("/database", "/data") && !lies_in("/", "/data"));
    }
}
