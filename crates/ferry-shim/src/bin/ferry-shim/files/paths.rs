//! Paths as clients write them, in Go's reading.

use ferry_spec::path::{base, clean_rooted};

/// The cleaned path with the `/.` or `/` that the written one ends with: both say that it is a folder.
pub(crate) fn with_ending(path: &str) -> String {
    let mut cleaned = clean_rooted(path);
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
