//! Which of the entries that a client told paths lead to: what is there, everything below it, the links on the way and whatever those lead to.
//!
//! It is at least what steps look at, never less: where a pattern is more than the names of one folder, all of the folder counts.

use std::collections::HashSet;

use super::in_order;
use super::told::{Told, above};

/// Links that are followed one after the other.
const MAX_LINKS: usize = 255;
/// After so many steps everything counts.
const MAX_STEPS: usize = 1_000_000;

/// What is used of one of the client's directories; no paths are all of it.
pub(super) struct Used<'a> {
    pub(super) directory: &'a str,
    pub(super) paths: Vec<&'a str>,
}

/// Chooses the entries; `None` stands for all of them.
pub(super) fn follow(told: &Told, used: &[Used<'_>]) -> Option<Vec<bool>> {
    let mut following = Following { told, chosen: vec![false; told.len()], seen: HashSet::new(), steps: 0 };
    for Used { directory, paths } in used {
        let top = in_order(directory.as_bytes());
        following.mark(told.find(&top)?);
        match paths.is_empty() {
            true => following.everything(&top),
            false => {
                for path in paths {
                    let rest = parts(path.as_bytes());
                    following.path(&Way { top: &top, links: 0 }, Vec::new(), rest);
                }
            }
        }
    }
    let Following { mut chosen, steps, .. } = following;
    if steps > MAX_STEPS {
        return None;
    }
    for at in 0..told.len() {
        // A name of a file needs the one that was told first.
        if let Some(first) = told.first_name(at).filter(|_| chosen[at]) {
            mark(told, &mut chosen, first);
        }
    }
    Some(chosen)
}

/// The parts of a path, the last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let named = |part: &&[u8]| !matches!(*part, b"" | b".");
    path.split(|byte| *byte == b'/').rev().filter(named).map(<[u8]>::to_vec).collect()
}

/// Chooses an entry, and the folders that it lies in.
fn mark(told: &Told, chosen: &mut [bool], at: usize) {
    let mut next = Some(at);
    while let Some(at) = next {
        if std::mem::replace(&mut chosen[at], true) {
            return;
        }
        next = above(told.entry(at).0).and_then(|above| told.find(above));
    }
}

/// From where a path goes.
#[derive(Clone, Copy)]
struct Way<'a> {
    top: &'a [u8],
    /// Links that led here.
    links: usize,
}

struct Following<'a> {
    told: &'a Told,
    chosen: Vec<bool>,
    /// Links that were followed, with the rest of the path.
    seen: HashSet<(usize, Vec<Vec<u8>>)>,
    steps: usize,
}

impl Following<'_> {
    fn mark(&mut self, at: usize) {
        mark(self.told, &mut self.chosen, at);
    }

    fn everything(&mut self, key: &[u8]) {
        for at in self.told.below(key) {
            self.mark(at);
        }
    }

    fn key(way: &Way<'_>, here: &[Vec<u8>]) -> Vec<u8> {
        let mut key = way.top.to_vec();
        for part in here {
            key.push(0);
            key.extend_from_slice(part);
        }
        key
    }

    /// Goes on from a folder; `rest` begins with its last.
    fn path(&mut self, way: &Way<'_>, mut here: Vec<Vec<u8>>, mut rest: Vec<Vec<u8>>) {
        while rest.last().is_some_and(|part| part == b"..") {
            rest.pop();
            here.pop();
        }
        self.steps += 1;
        let Some(part) = rest.pop().filter(|_| self.steps <= MAX_STEPS) else {
            return self.everything(&Self::key(way, &here));
        };
        let text = String::from_utf8_lossy(&part).into_owned();
        if text.contains("**") {
            return self.everything(&Self::key(way, &here));
        }
        if !text.contains(['*', '?', '[', '\\']) {
            here.push(part);
            return self.step(way, here, rest);
        }
        let folder = Self::key(way, &here);
        let told = self.told;
        for at in told.below(&folder) {
            let name = &told.entry(at).0[folder.len() + 1..];
            if name.contains(&0) {
                continue;
            }
            let is_meant = ferry_dockerfile::ignore::matches(&text, &String::from_utf8_lossy(name)).unwrap_or(true);
            if is_meant {
                let mut here = here.clone();
                here.push(name.to_vec());
                self.step(way, here, rest.clone());
            }
        }
    }

    /// Takes what is at a place, and goes on from there.
    fn step(&mut self, way: &Way<'_>, mut here: Vec<Vec<u8>>, mut rest: Vec<Vec<u8>>) {
        let key = Self::key(way, &here);
        let Some(at) = self.told.find(&key) else { return };
        let known = self.told.entry(at).1;
        if !rest.is_empty() && !known.kind.is_dir() && !known.kind.is_symlink() {
            // Nothing lies in it.
            return;
        }
        self.mark(at);
        if !known.kind.is_symlink() {
            return match rest.is_empty() {
                true => self.everything(&key),
                false => self.path(way, here, rest),
            };
        }
        if way.links >= MAX_LINKS || !self.seen.insert((at, rest.clone())) {
            return;
        }
        here.pop();
        if known.link.starts_with(b"/") {
            here.clear();
        }
        rest.extend(parts(&known.link));
        self.path(&Way { links: way.links + 1, ..*way }, here, rest);
    }
}

#[cfg(test)]
mod tests {
    use ferry_api::context::{Listed, ListedKind};

    use super::*;

    fn told(entries: &[(&str, &str)]) -> Told {
        let listed = entries.iter().map(|(path, what)| {
            let (kind, link) = match what.split_once(' ') {
                Some(("->", target)) => (ListedKind::Symlink, target),
                Some((_, first)) => (ListedKind::HardLink, first),
                None if *what == "dir" => (ListedKind::Folder, ""),
                None => (ListedKind::File, ""),
            };
            let (path, link) = (path.as_bytes().to_vec(), link.as_bytes().to_vec());
            let entry = Listed { path, kind, mode: 0o644, mtime: (0, 0), size: 1, link, device: (0, 0), stamp: vec![] };
            (entry, Vec::new())
        });
        Told::of(listed.collect()).unwrap()
    }

    #[test]
    fn paths_lead_to_what_steps_look_at() {
        let told = told(&[
            ("extra", "dir"),
            ("extra/g", "file"),
            ("c", "dir"),
            ("c/a", "dir"),
            ("c/a/one.c", "file"),
            ("c/a/sub", "dir"),
            ("c/a/sub/two.c", "file"),
            ("c/a-b", "file"),
            ("c/b", "dir"),
            ("c/b/one.c", "file"),
            ("c/b/other", "= c/a/one.c"),
            ("c/absolute", "-> /a/sub"),
            ("c/link", "-> b"),
            ("c/loop", "-> loop/x"),
            ("c/out", "-> ../../extra"),
            ("c/top.c", "file"),
        ]);
        for (path, expected) in [
            ("top.c", &["c/top.c"][..]),
            ("a", &["c/a", "c/a/one.c", "c/a/sub", "c/a/sub/two.c"]),
            ("a/sub/two.c", &["c/a", "c/a/sub", "c/a/sub/two.c"]),
            ("*.c", &["c/top.c"]),
            (
                "*/one.c",
                &["c/a", "c/a/one.c", "c/absolute", "c/b", "c/b/one.c", "c/link", "c/a/sub", "c/loop", "c/out"],
            ),
            ("[ab]/one.?", &["c/a", "c/a/one.c", "c/b", "c/b/one.c"]),
            ("a/**/two.c", &["c/a", "c/a/one.c", "c/a/sub", "c/a/sub/two.c"]),
            ("a/[", &["c/a", "c/a/one.c", "c/a/sub", "c/a/sub/two.c"]),
            ("link/one.c", &["c/link", "c/b", "c/b/one.c"]),
            ("absolute/two.c", &["c/absolute", "c/a", "c/a/sub", "c/a/sub/two.c"]),
            ("absolute", &["c/absolute", "c/a", "c/a/sub", "c/a/sub/two.c"]),
            ("b/other", &["c/b", "c/b/other", "c/a", "c/a/one.c"]),
            ("loop", &["c/loop"]),
            ("out/g", &["c/out"]),
            ("gone/x", &[]),
            ("top.c/x", &[]),
        ] {
            let used = [Used { directory: "c", paths: vec![path] }];
            let chosen = follow(&told, &used).unwrap();
            let name = |at: usize| String::from_utf8_lossy(&super::super::from_order(told.entry(at).0)).into_owned();
            let mut found: Vec<String> = (0..told.len()).filter(|at| chosen[*at]).map(name).collect();
            let mut expected: Vec<String> = ["c"].iter().chain(expected).map(|path| (*path).to_owned()).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{path}");
        }
        let used = |directory| [Used { directory, paths: Vec::new() }];
        let all = follow(&told, &used("extra")).unwrap();
        assert_eq!(all.iter().filter(|chosen| **chosen).count(), 2);
    }
}
