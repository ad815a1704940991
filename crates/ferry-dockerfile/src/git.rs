//! Addresses of git repositories as ADD and build contexts take them: `URL#REF:SUBDIR` and `URL?ref=…&subdir=…`.

use crate::quote::quoted;
use ferry_spec::path::clean;

/// A repository, and what of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitReference {
    /// The repository's address, without fragment and query.
    pub remote: String,
    /// Branch, tag or commit; empty is the default branch.
    pub reference: String,
    /// The commit that must come out; empty without.
    pub checksum: String,
    /// Only this directory; empty takes all.
    pub subdirectory: String,
    /// Written without a scheme, as `github.com/…`: it could be a path too.
    pub looks_like_path: bool,
    /// `.git` stays, if said.
    pub keep_git_dir: Option<bool>,
    /// Submodules come along, if said.
    pub submodules: Option<bool>,
    /// Times of the files: `checkout` or `commit`; empty without.
    pub times: String,
    /// The commit is fetched itself, not looked for behind the reference.
    pub fetch_by_commit: bool,
}

/// Why the address of a repository is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitReferenceError {
    /// A key that is none.
    #[error("unexpected query {}", quoted(.0))]
    UnexpectedKey(String),
    /// A key without its value.
    #[error("query {} has no value", quoted(.0))]
    NoValue(String),
    /// A key twice.
    #[error("query {} has multiple values", quoted(.0))]
    SeveralValues(String),
    /// Two values for one thing.
    #[error("{key} conflicts: {} vs {}", quoted(.first), quoted(.second))]
    Conflict {
        /// What.
        key: &'static str,
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// A branch and a tag.
    #[error("branch conflicts with tag")]
    BranchAndTag,
    /// Neither true nor false.
    #[error("invalid {key} value: {}", quoted(.value))]
    Boolean {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// Neither `checkout` nor `commit`.
    #[error("invalid mtime value: {} (must be \"checkout\" or \"commit\")", quoted(.0))]
    Times(String),
}

impl GitReference {
    /// Reads an address; `None` when it is none of a repository.
    ///
    /// An `http` or `https` address is one of a repository when its path ends with `.git`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<Self, GitReferenceError>> {
        if text.starts_with("./") || text.starts_with("../") {
            return None;
        }
        let (address, fragment) = split_at(text, '#');
        let (address, query) = split_at(address, '?');
        let mut reference = Self { remote: address.to_owned(), ..Self::default() };
        if text.starts_with("github.com/") {
            reference.looks_like_path = true;
        } else if let Some((scheme, rest)) = scheme(address) {
            let path = rest.split_once('/').map_or("", |(_, path)| path);
            match scheme.as_str() {
                "http" | "https" if !path.ends_with(".git") => return None,
                "http" | "https" | "ssh" | "git" => {}
                _ => return None,
            }
        } else if !is_scp_style(address) {
            return None;
        }
        if !fragment.is_empty() {
            let (branch, directory) = split_at(fragment, ':');
            percent_decoded(branch).clone_into(&mut reference.reference);
            reference.subdirectory = clean(&format!("/{}", percent_decoded(directory)))[1..].to_owned();
        }
        Some(reference.take_query(query).map(|()| reference))
    }

    fn take_query(&mut self, query: &str) -> Result<(), GitReferenceError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = split_at(part, '=');
            pairs.push((percent_decoded(&key.replace('+', " ")), percent_decoded(&value.replace('+', " "))));
        }
        let (mut tag, mut branch) = (String::new(), String::new());
        for (index, (key, value)) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|(other, _)| other == key) {
                return Err(GitReferenceError::SeveralValues(key.clone()));
            }
            let is_switch = matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !is_switch {
                return Err(GitReferenceError::NoValue(key.clone()));
            }
            match key.as_str() {
                "ref" => take(&mut self.reference, "ref", value)?,
                "tag" => tag.clone_from(value),
                "branch" => branch.clone_from(value),
                "subdir" => take(&mut self.subdirectory, "subdir", value)?,
                "checksum" | "commit" => self.checksum.clone_from(value),
                "keep-git-dir" => self.keep_git_dir = Some(boolean(key, value)?),
                "submodules" => self.submodules = Some(boolean(key, value)?),
                "fetch-by-commit" => self.fetch_by_commit = boolean(key, value)?,
                "mtime" if matches!(value.as_str(), "checkout" | "commit") => self.times.clone_from(value),
                "mtime" => return Err(GitReferenceError::Times(value.clone())),
                _ => return Err(GitReferenceError::UnexpectedKey(key.clone())),
            }
        }
        if !tag.is_empty() {
            take(&mut self.reference, "ref", &prefixed(&tag, "refs/tags/"))?;
        }
        if !branch.is_empty() {
            if !tag.is_empty() {
                return Err(GitReferenceError::BranchAndTag);
            }
            take(&mut self.reference, "ref", &prefixed(&branch, "refs/heads/"))?;
        }
        Ok(())
    }
}

fn take(place: &mut String, key: &'static str, value: &str) -> Result<(), GitReferenceError> {
    if !place.is_empty() && place != value {
        return Err(GitReferenceError::Conflict { key, first: place.clone(), second: value.to_owned() });
    }
    value.clone_into(place);
    Ok(())
}

fn prefixed(name: &str, prefix: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn boolean(key: &str, value: &str) -> Result<bool, GitReferenceError> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(GitReferenceError::Boolean { key: key.to_owned(), value: value.to_owned() }),
    }
}

fn split_at(text: &str, separator: char) -> (&str, &str) {
    text.split_once(separator).unwrap_or((text, ""))
}

/// Splits off the scheme of a URL, in lower case.
fn scheme(address: &str) -> Option<(String, &str)> {
    let (scheme, rest) = address.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_scheme.then(|| (scheme.to_lowercase(), rest))
}

/// Tells whether an address has the form `user@host:path`.
fn is_scp_style(address: &str) -> bool {
    let Some((user, rest)) = address.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let user_fits = !user.is_empty() && user.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    user_fits && !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|code| std::str::from_utf8(code).ok()).filter(|_| byte == b'%');
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Result<(String, String, String), String>> {
        GitReference::parse(text).map(|result| {
            result.map(|git| (git.remote, git.reference, git.subdirectory)).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn repositories_are_told_from_other_addresses() {
        let git = |remote: &str, reference: &str, directory: &str| {
            Some(Ok((remote.to_owned(), reference.to_owned(), directory.to_owned())))
        };
        for (text, expected) in [
            ("https://example.com/", None),
            ("https://example.com/foo", None),
            ("https://example.com/foo.git", git("https://example.com/foo.git", "", "")),
            ("https://u:p@example.com/foo.git#bar", git("https://u:p@example.com/foo.git", "bar", "")),
            ("https://example.com/foo.git#a/b:c//d/../e", git("https://example.com/foo.git", "a/b", "c/e")),
            ("https://example.com/foo.git#:sub", git("https://example.com/foo.git", "", "sub")),
            ("git://example.com/foo", git("git://example.com/foo", "", "")),
            ("ssh://git@example.com:22/foo#x", git("ssh://git@example.com:22/foo", "x", "")),
            ("git@example.com:foo/bar.git#x:y", git("git@example.com:foo/bar.git", "x", "y")),
            ("git@example.com:foo?branch=x", git("git@example.com:foo", "refs/heads/x", "")),
            ("https://e.com/a.git?tag=v1&subdir=s", git("https://e.com/a.git", "refs/tags/v1", "s")),
            ("https://e.com/a.git?ref=b", git("https://e.com/a.git", "b", "")),
            ("foo/bar", None),
            ("../foo.git", None),
            ("ftp://example.com/foo.git", None),
            ("a@b", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert!(GitReference::parse("github.com/a/b").unwrap().unwrap().looks_like_path);
    }

    #[test]
    fn queries_set_what_they_name() {
        let git = GitReference::parse(
            "https://e.com/a.git?keep-git-dir&submodules=false&commit=abc&mtime=commit&fetch-by-commit=1",
        )
        .unwrap()
        .unwrap();
        assert_eq!((git.keep_git_dir, git.submodules, git.fetch_by_commit), (Some(true), Some(false), true));
        assert_eq!((git.checksum.as_str(), git.times.as_str()), ("abc", "commit"));
        for (query, error) in [
            ("x=1", "unexpected query \"x\""),
            ("ref=", "query \"ref\" has no value"),
            ("ref=a&ref=b", "query \"ref\" has multiple values"),
            ("ref=a&tag=b", "ref conflicts: \"a\" vs \"refs/tags/b\""),
            ("tag=a&branch=b", "branch conflicts with tag"),
            ("submodules=x", "invalid submodules value: \"x\""),
            ("mtime=x", "invalid mtime value: \"x\" (must be \"checkout\" or \"commit\")"),
        ] {
            assert_eq!(parse(&format!("https://e.com/a.git?{query}")), Some(Err(error.to_owned())), "{query}");
        }
    }
}
