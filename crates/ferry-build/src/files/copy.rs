//! Copies between trees, by BuildKit's rules.

mod copier;

use std::os::fd::{AsFd, BorrowedFd};

use ferry_dockerfile::ignore::Patterns;
use ferry_sys::tree::{Found, Walk};
use rustix::fs::OFlags;

use super::owner::Ids;
use super::place::{self, NewLooks, Plain, clean, is_dir, join, shown};
use super::{archive, wildcard};
use crate::content::{ContentHasher, is_kept};
use crate::failure::{Doing, Failure, Result};
use crate::graph::{ArchiveHandling, CopyAction};
use crate::synced::Index;

use copier::Copier;
pub(crate) use copier::fill;

/// Takes a large file as it is, in place of an empty one at a path, and tells whether it does; without a file it hears that what was there,
/// and everything below it, is gone. See [`CopyOrder::giving`].
pub(crate) type TakesFile<'a> = dyn Fn(&[u8], Option<BorrowedFd<'_>>) -> Result<bool> + 'a;

/// A copy, with its owner looked up.
pub(crate) struct CopyOrder<'a> {
    action: &'a CopyAction,
    owner: Option<Ids>,
    takes: Option<&'a TakesFile<'a>>,
    include: Patterns,
    exclude: Patterns,
}

impl<'a> CopyOrder<'a> {
    pub(crate) fn new(action: &'a CopyAction, owner: Option<Ids>) -> Result<Self> {
        Ok(Self {
            action,
            owner,
            takes: None,
            include: patterns(&action.include_patterns)?,
            exclude: patterns(&action.exclude_patterns)?,
        })
    }

    /// The same, where large files are the builder's own and `takes` may have them.
    pub(crate) fn giving(self, takes: &'a TakesFile<'a>) -> Self {
        Self { takes: Some(takes), ..self }
    }

    /// Tells whether a path below the copied one is taken.
    fn takes(&self, below: &[u8]) -> bool {
        if self.include.is_empty() && self.exclude.is_empty() {
            return true;
        }
        let path = String::from_utf8_lossy(below);
        (self.include.is_empty() || self.include.matches(&path)) && !self.exclude.matches(&path)
    }

    /// The mode of directories that are made on the way: a mode in words is for what is copied alone.
    fn new_mode(&self) -> u32 {
        match self.action.mode {
            Some(mode) if self.action.mode_words.is_empty() => mode & 0o777,
            _ => 0o755,
        }
    }

    fn new_looks(&self) -> NewLooks {
        NewLooks { owner: self.owner, timestamp: self.action.timestamp }
    }
}

fn patterns(list: &[String]) -> Result<Patterns> {
    Patterns::new(list.iter().map(String::as_str)).map_err(|error| Failure::invalid(error.to_string()))
}

/// What one source path turned out to be.
struct Start {
    /// As it was asked for.
    asked: String,
    /// Where it is.
    at: Plain,
    is_dir: bool,
}

/// Finds what is copied.
fn starts(source: BorrowedFd<'_>, action: &CopyAction) -> Result<Vec<Start>> {
    let asked = match action.allow_wildcard {
        true => wildcard::resolve(source, &action.source)?,
        false => vec![clean(&action.source)],
    };
    let mut starts = Vec::new();
    for asked in asked {
        let at = place::plain(source, &asked, action.follow_symlink)?;
        let Some(stat) = place::stat_plain(source, &at)? else {
            return Err(Failure::invalid(format!("\"/{asked}\": not found")));
        };
        starts.push(Start { asked, at, is_dir: is_dir(&stat) });
    }
    if starts.is_empty() && !action.allow_empty_wildcard {
        return Err(Failure::invalid(format!("/{} not found", clean(&action.source))));
    }
    for path in &action.required_paths {
        let at = place::plain(source, &clean(path), true)?;
        if place::stat_plain(source, &at)?.is_none() {
            return Err(Failure::invalid(format!("\"/{}\": not found", clean(path))));
        }
    }
    Ok(starts)
}

/// The digest of what a copy takes, names included, times not; of what is known the files are not looked at. Blocks.
pub(crate) fn digest(source: BorrowedFd<'_>, index: Option<&Index>, action: &CopyAction) -> Result<String> {
    let order = CopyOrder::new(action, None)?;
    let mut hasher = ContentHasher::new();
    for start in starts(source, action)? {
        let name = start.asked.rsplit('/').next().unwrap_or_default();
        hasher.word(name.as_bytes());
        if let Some(index) = index {
            index.walk(&start.at, |below, known| {
                if order.takes(below) || below.is_empty() {
                    hasher.known(below, known);
                }
            });
            continue;
        }
        let mut failed = None;
        let mut visit = |mut found: Found| {
            if order.takes(&found.path) || found.path.is_empty() {
                let name = found.path.clone();
                if let Err(error) = hasher.entry(&name, &mut found) {
                    failed = Some(error);
                    return Err(std::io::ErrorKind::Other.into());
                }
            }
            Ok(())
        };
        let walked = walk(source, &start, &mut visit);
        if let Some(error) = failed {
            return Err(error).doing(format!("read {}", shown(&start.at)));
        }
        walked?;
    }
    Ok(hasher.finish())
}

/// Walks what is at a start; the start itself has the empty path.
fn walk(source: BorrowedFd<'_>, start: &Start, visit: &mut dyn FnMut(Found) -> std::io::Result<()>) -> Result<()> {
    let mut walk = Walk::new(is_kept, visit);
    let doing = || format!("read {}", shown(&start.at));
    if start.is_dir {
        let folder = place::open_plain(source, &start.at, OFlags::RDONLY | OFlags::DIRECTORY).doing(doing())?;
        walk.alone(folder.as_fd(), b".", b"").doing(doing())?;
        return walk.children(folder.as_fd(), b"").doing(doing());
    }
    let (above, name) = place::open_above(source, &start.at)?;
    walk.alone(above.as_fd(), name, b"").map(drop).doing(doing())
}

/// Copies from one tree to another. Blocks.
pub(crate) fn copy(source: BorrowedFd<'_>, target: BorrowedFd<'_>, order: &CopyOrder<'_>) -> Result<()> {
    let action = order.action;
    if !action.create_target_path {
        let path = place::plain(target, &clean(&action.target), true)?;
        let (above, _) = place::split(&path);
        if place::stat_plain(target, above)?.is_none() {
            return Err(Failure::invalid(format!("failed to stat {}: no such file or directory", action.target)));
        }
    }
    for start in starts(source, action)? {
        if action.archives == ArchiveHandling::TryUnpack
            && !start.is_dir
            && archive::unpack_file(source, &start.at, target, &action.target, order.owner, order.new_looks())?
        {
            continue;
        }
        copy_one(source, target, &start, order)?;
    }
    Ok(())
}

fn copy_one(source: BorrowedFd<'_>, target: BorrowedFd<'_>, start: &Start, order: &CopyOrder<'_>) -> Result<()> {
    let (to, made_dirs) = destination(target, start, order)?;
    let mut copier = Copier::new(order, target, to, start.is_dir, made_dirs);
    let mut failed = None;
    let walked = walk(source, start, &mut |found| {
        copier.take(found).map_err(|failure| {
            failed = Some(failure);
            std::io::ErrorKind::Other.into()
        })
    });
    if let Some(failure) = failed {
        return Err(failure);
    }
    walked?;
    copier.finish()
}

/// Where a start goes, with the directories on the way made; and those.
fn destination(target: BorrowedFd<'_>, start: &Start, order: &CopyOrder<'_>) -> Result<(Plain, Vec<Plain>)> {
    let action = order.action;
    let mut made_dirs = Vec::new();
    let asked = action.target.as_str();
    let last = asked.rsplit('/').next().unwrap_or_default();
    let whole = place::plain(target, &clean(asked), true)?;
    let ensured = if matches!(last, "" | ".") { whole.clone() } else { place::split(&whole).0.to_vec() };
    if ensured == whole && order.action.replace_existing {
        // Made below, where what is in the way may be replaced.
    } else {
        made_dirs.extend(place::make_dirs(target, &ensured, order.new_mode(), order.new_looks())?);
    }
    let there = place::stat_plain(target, &whole)?;
    let there_is_dir = there.as_ref().is_some_and(is_dir);
    let inside = match start.is_dir {
        true => !action.copy_dir_contents && there.is_some(),
        false => there_is_dir || (matches!(last, "" | ".") && there.is_none()),
    };
    let name = start.asked.rsplit('/').next().unwrap_or_default();
    let to = if inside { join(&whole, name.as_bytes()) } else { whole };
    let made = if action.copy_dir_contents && start.is_dir && there.is_none() {
        to.clone()
    } else {
        place::split(&to).0.to_vec()
    };
    made_dirs.extend(place::make_dirs(target, &made, order.new_mode(), order.new_looks())?);
    Ok((to, made_dirs))
}

pub(crate) fn lies_in(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use super::*;

    struct Trees(tempfile::TempDir);

    impl Trees {
        fn new(files: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["source", "target"] {
                std::fs::create_dir(dir.path().join(name)).unwrap();
            }
            for file in files {
                let path = dir.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, file).unwrap();
            }
            Self(dir)
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn run(&self, action: &CopyAction) -> Result<()> {
            let source = File::open(self.path("source")).unwrap();
            let target = File::open(self.path("target")).unwrap();
            copy(source.as_fd(), target.as_fd(), &CopyOrder::new(action, None)?)
        }

        fn digest(&self, action: &CopyAction) -> String {
            digest(File::open(self.path("source")).unwrap().as_fd(), None, action).unwrap()
        }

        fn result(&self) -> Vec<String> {
            let mut found = Vec::new();
            list(&self.path("target"), "", &mut found);
            found
        }
    }

    fn list(folder: &Path, below: &str, found: &mut Vec<String>) {
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
        names.sort_by_key(std::fs::DirEntry::file_name);
        for entry in names {
            let path = format!("{below}{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                found.push(format!("{path}/"));
                list(&entry.path(), &format!("{path}/"), found);
            } else {
                found.push(path);
            }
        }
    }

    fn order(source: &str, target: &str) -> CopyAction {
        CopyAction {
            source: source.to_owned(),
            target: target.to_owned(),
            follow_symlink: true,
            copy_dir_contents: true,
            create_target_path: true,
            allow_wildcard: true,
            allow_empty_wildcard: true,
            ..CopyAction::default()
        }
    }

    #[test]
    fn copies_go_where_buildkit_puts_them() {
        for (source, target, expected) in [
            ("a.txt", "/b.txt", &["b.txt"][..]),
            ("a.txt", "/d/", &["d/", "d/a.txt"]),
            ("a.txt", "/d/.", &["d/", "d/a.txt"]),
            ("dir", "/d", &["d/", "d/one", "d/sub/", "d/sub/two"]),
            ("dir/", "/d/e/", &["d/", "d/e/", "d/e/one", "d/e/sub/", "d/e/sub/two"]),
            ("*.txt", "/", &["a.txt"]),
            ("none*", "/", &[]),
            ("dir/sub/two", "new/place", &["new/", "new/place"]),
        ] {
            let trees = Trees::new(&["source/a.txt", "source/dir/one", "source/dir/sub/two"]);
            trees.run(&order(source, target)).unwrap();
            assert_eq!(trees.result(), expected, "{source} {target}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let trees = Trees::new(&[]);
        assert_eq!(trees.run(&order("none", "/")).unwrap_err().message, "\"/none\": not found");
    }

    #[test]
    fn patterns_choose() {
        let trees = Trees::new(&["source/a/x.md", "source/a/y.c", "source/b/z.md", "source/top.md"]);
        let action = CopyAction { exclude_patterns: vec!["**/*.md".to_owned()], ..order("/", "/") };
        trees.run(&action).unwrap();
        assert_eq!(trees.result(), ["a/", "a/y.c", "b/"]);
        let trees = Trees::new(&["source/a/x.md", "source/a/y.c", "source/b/z.md", "source/top.md"]);
        let action = CopyAction { include_patterns: vec!["a/x.md".to_owned()], ..order("/", "/") };
        trees.run(&action).unwrap();
        assert_eq!(trees.result(), ["a/", "a/x.md"]);
    }

    #[test]
    fn links_stay_inside() {
        let trees = Trees::new(&["source/in", "outside"]);
        std::os::unix::fs::symlink("../../outside", trees.path("source/out")).unwrap();
        std::os::unix::fs::symlink("/in", trees.path("source/link")).unwrap();
        std::os::unix::fs::symlink(trees.path("outside"), trees.path("target/in")).unwrap();
        trees.run(&order("link", "/copied")).unwrap();
        assert_eq!(std::fs::read_to_string(trees.path("target/copied")).unwrap(), "source/in");
        assert!(trees.run(&order("out", "/x")).is_err(), "there is no such file inside");
        trees.run(&order("in", "/in")).unwrap();
        assert_eq!(std::fs::read_to_string(trees.path("outside")).unwrap(), "outside");
    }

    #[test]
    fn digests_know_content_and_not_times() {
        let trees = Trees::new(&["source/a", "source/b"]);
        let before = trees.digest(&order("a", "/"));
        File::open(trees.path("source/a")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        std::fs::write(trees.path("source/b"), "changed").unwrap();
        assert_eq!(trees.digest(&order("a", "/")), before);
        std::fs::write(trees.path("source/a"), "changed").unwrap();
        assert_ne!(trees.digest(&order("a", "/")), before);
    }
}
