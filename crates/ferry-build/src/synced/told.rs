//! What a client told of its directories, and what of that is on the disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::os::fd::BorrowedFd;

use ferry_api::context::{Listed, ListedKind};
use ferry_sys::tree::{Maker, Owner, Rules, clean};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::{Index, Known, bytes, from_order, in_order, unlink};
use crate::failure::{Doing, Failure, Result};

/// Which files are wanted: pairs of a place in the list and a count.
pub type Wanted = Vec<(usize, usize)>;

/// All that was told. What is on the disk is as it was told, and nothing else is there.
#[derive(Default)]
pub(super) struct Told {
    /// In the order in which they were told.
    all: Vec<(Vec<u8>, Known)>,
    /// Their places in the order of their keys.
    sorted: Vec<usize>,
    /// Which of them are on the disk.
    here: Vec<bool>,
}

impl Told {
    /// Takes a list.
    ///
    /// # Errors
    /// InvalidArgument for names that lead elsewhere, and for links to what was not told.
    pub(super) fn of(list: Vec<(Listed, Vec<u8>)>) -> Result<Self> {
        let mut told = Self { all: Vec::with_capacity(list.len()), ..Self::default() };
        // Whatever lies in something lies in a folder that was told, so what is told is what is there.
        let mut folders: HashSet<Vec<u8>> = HashSet::new();
        for (listed, words) in list {
            let key = in_order(&listed.path);
            let above = above(&key);
            let is_clean = clean(&listed.path).is_some_and(|path| !path.is_empty() && path == listed.path);
            if !is_clean || above.is_some_and(|above| !folders.contains(above)) {
                return Err(outside(&key));
            }
            let known = Known::of(listed, words);
            if known.kind.is_dir() {
                folders.insert(key.clone());
            }
            told.all.push((key, known));
        }
        told.here = vec![false; told.all.len()];
        told.sorted = (0..told.all.len()).collect();
        told.sorted.sort_by(|one, other| told.all[*one].0.cmp(&told.all[*other].0));
        if let Some(twice) = told.sorted.windows(2).find(|two| told.all[two[0]].0 == told.all[two[1]].0) {
            return Err(outside(&told.all[twice[0]].0));
        }
        for (at, (_, known)) in told.all.iter().enumerate().filter(|(_, (_, known))| known.is_other_name) {
            let first = told.find(&in_order(&known.link)).filter(|first| *first < at);
            if !first.is_some_and(|first| told.all[first].1.is_first_name()) {
                return Err(Failure::invalid("a hard link to a file that was not told before"));
            }
        }
        Ok(told)
    }

    /// Keeps of a folder what is as it was told, and removes the rest.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub(super) fn keep(&mut self, root: BorrowedFd<'_>, before: &Index) -> Result<()> {
        let mut touched = HashSet::new();
        for at in 0..self.all.len() {
            let (key, known) = &self.all[at];
            let Some(old) = before.entries.get(key).filter(|old| old.kind == known.kind) else { continue };
            let is_same = old.told == known.told;
            if known.kind.is_dir() {
                self.here[at] = true;
                if !is_same {
                    touched.insert(key.clone());
                }
            } else if is_same && self.first_name(at).is_none_or(|first| self.here[first]) {
                self.here[at] = true;
                (self.all[at].1.digest, self.all[at].1.size) = (old.digest, old.size);
            }
        }
        // What is in a folder goes before it.
        for (key, known) in before.entries.iter().rev() {
            if self.find(key).is_some_and(|at| self.here[at]) {
                continue;
            }
            let path = from_order(key);
            let how = if known.kind.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match unlink(root, &path, how) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno).doing(format!("cannot remove {}", String::from_utf8_lossy(&path))),
            }
            touch(&mut touched, key);
        }
        self.make(root, &[], touched, &mut std::io::empty()).map(drop)
    }

    /// The place of an entry.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        let found = self.sorted.binary_search_by(|at| self.all[*at].0.as_slice().cmp(key));
        found.ok().map(|found| self.sorted[found])
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// One entry, and its key.
    pub(super) fn entry(&self, at: usize) -> (&[u8], &Known) {
        (&self.all[at].0, &self.all[at].1)
    }

    /// The places of everything below a folder, in the order of their keys.
    pub(super) fn below(&self, key: &[u8]) -> impl Iterator<Item = usize> {
        let first = [key, &[0]].concat();
        let begin = self.sorted.partition_point(|at| self.all[*at].0 < first);
        self.sorted[begin..].iter().copied().take_while(move |at| self.all[*at].0.starts_with(&first))
    }

    /// What another name is another name of.
    pub(super) fn first_name(&self, at: usize) -> Option<usize> {
        let known = &self.all[at].1;
        if known.is_other_name { self.find(&in_order(&known.link)) } else { None }
    }

    /// The names of the client's directories.
    pub(super) fn directories(&self) -> Vec<String> {
        let top = self.all.iter().filter(|(key, known)| known.kind.is_dir() && above(key).is_none());
        top.map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
    }

    /// The places of what is wanted and not on the disk; without a choice everything is wanted.
    pub(super) fn missing(&self, chosen: Option<&[bool]>) -> Vec<usize> {
        (0..self.all.len()).filter(|at| !self.here[*at] && chosen.is_none_or(|chosen| chosen[*at])).collect()
    }

    fn needs_content(&self, at: usize) -> bool {
        let known = &self.all[at].1;
        known.is_first_name() && known.size > 0
    }

    /// Those of them whose content is to be sent.
    pub(super) fn wanted(&self, missing: &[usize]) -> Wanted {
        let mut wanted: Wanted = Vec::new();
        for at in missing.iter().copied().filter(|at| self.needs_content(*at)) {
            match wanted.last_mut() {
                Some((first, count)) if *first + *count == at => *count += 1,
                _ => wanted.push((at, 1)),
            }
        }
        wanted
    }

    /// Makes what is missing, with the content that comes in the order of [`Self::wanted`]; returns how many bytes came for each of the
    /// client's directories.
    ///
    /// # Errors
    /// When the content breaks off, or something cannot be made.
    pub(super) fn bring(
        &mut self,
        root: BorrowedFd<'_>,
        missing: &[usize],
        body: &mut impl Read,
    ) -> Result<HashMap<String, u64>> {
        let mut touched = HashSet::new();
        for at in missing {
            touch(&mut touched, &self.all[*at].0);
        }
        self.make(root, missing, touched, body)
    }

    fn make(
        &mut self,
        root: BorrowedFd<'_>,
        missing: &[usize],
        touched: HashSet<Vec<u8>>,
        body: &mut impl Read,
    ) -> Result<HashMap<String, u64>> {
        let mut came = HashMap::new();
        if missing.is_empty() && touched.is_empty() {
            return Ok(came);
        }
        let rules = Rules { owner: Owner::Caller, replaces_kinds: true, label: "/".to_owned() };
        let mut maker = Maker::new(root, rules);
        let again = touched.iter().filter_map(|key| self.find(key)).filter(|at| self.here[*at]);
        let mut folders: Vec<usize> = missing.iter().copied().chain(again).collect();
        folders.retain(|at| self.all[*at].1.kind.is_dir());
        folders.sort_unstable();
        for at in folders {
            let (key, known) = &self.all[at];
            maker.folder(&from_order(key), &known.looks())?;
            self.here[at] = true;
        }
        let mut buffers = Vec::new();
        for at in missing.iter().copied() {
            if self.all[at].1.is_other_name {
                continue;
            }
            let needs_content = self.needs_content(at);
            let (key, known) = &mut self.all[at];
            let path = from_order(key);
            match known.kind {
                FileType::Directory => continue,
                FileType::RegularFile => {
                    if needs_content {
                        known.told_again(body)?;
                        let name = key.split(|byte| *byte == 0).next().unwrap_or_default();
                        *came.entry(String::from_utf8_lossy(name).into_owned()).or_default() += known.size;
                    }
                    let (looks, size) = (known.looks(), known.size);
                    let digest = &mut known.digest;
                    maker.file::<Failure>(&path, &looks, |file| {
                        *digest = bytes::copy(body, file, size, &mut buffers)?;
                        Ok(())
                    })?;
                }
                FileType::Symlink => maker.symlink(&path, &known.link, &known.looks())?,
                kind => maker.node(&path, kind, known.device, &known.looks())?,
            }
            self.here[at] = true;
        }
        for at in missing.iter().copied() {
            let Some(first) = self.first_name(at) else { continue };
            if !self.here[first] {
                return Err(Failure::internal("another name of a file that is not here"));
            }
            let (digest, size) = (self.all[first].1.digest, self.all[first].1.size);
            let (key, known) = &mut self.all[at];
            (known.digest, known.size) = (digest, size);
            maker.hard_link(&from_order(key), &known.link)?;
            self.here[at] = true;
        }
        maker.finish()?;
        Ok(came)
    }

    /// What is on the disk.
    pub(super) fn into_index(self) -> Index {
        let here = self.all.into_iter().zip(self.here).filter(|(_, here)| *here);
        Index::of(here.map(|(entry, _)| entry).collect::<BTreeMap<_, _>>())
    }
}

impl Known {
    /// A regular file that is no other name of one.
    fn is_first_name(&self) -> bool {
        self.kind.is_file() && !self.is_other_name
    }

    /// Takes what is told of a file just before its content comes: it may have changed since the list was made.
    fn told_again(&mut self, body: &mut impl Read) -> Result<()> {
        let (listed, told) = Listed::read_told(Vec::new(), body).doing("cannot read the build context")?;
        if listed.kind != ListedKind::File {
            return Err(Failure::invalid("cannot read the build context: a file that is none any more"));
        }
        *self = Self::of(listed, told);
        Ok(())
    }
}

/// The key of the folder that something lies in.
pub(super) fn above(key: &[u8]) -> Option<&[u8]> {
    key.iter().rposition(|byte| *byte == 0).map(|slash| &key[..slash])
}

/// The times of the folder would show that something in it was made anew.
fn touch(touched: &mut HashSet<Vec<u8>>, key: &[u8]) {
    if let Some(above) = above(key) {
        touched.insert(above.to_vec());
    }
}

fn outside(key: &[u8]) -> Failure {
    let shown = String::from_utf8_lossy(&from_order(key)).into_owned();
    Failure::invalid(format!("invalid entry name {shown:?}"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::super::follow::{Used, follow};
    use super::*;

    fn listed(path: &str, kind: ListedKind, content: &str, stamp: &str) -> (Listed, Vec<u8>) {
        let listed = Listed {
            path: path.into(),
            kind,
            mode: 0o755,
            mtime: (1000, 5),
            size: if kind == ListedKind::File { content.len() as u64 } else { 0 },
            link: if kind == ListedKind::File { Vec::new() } else { content.into() },
            device: (0, 0),
            stamp: stamp.into(),
        };
        let mut told = Vec::new();
        listed.encode_told(&mut told);
        Listed::read_told(listed.path, &mut &told[..]).unwrap()
    }

    /// What the content of a file travels with: what is told of it then.
    fn sent(contents: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for content in contents {
            let stamp = format!("when sent {content}");
            listed("", ListedKind::File, content, &stamp).0.encode_told(&mut bytes);
            bytes.extend_from_slice(content.as_bytes());
        }
        bytes
    }

    /// Brings a folder to a list, of which only some is chosen; returns what was wanted of it.
    fn sync_some(
        root: &Path,
        index: &mut Index,
        list: Vec<(Listed, Vec<u8>)>,
        paths: &[&str],
        contents: &[&str],
    ) -> Result<Wanted> {
        let root = std::fs::File::open(root).unwrap();
        let mut told = Told::of(list)?;
        told.keep(root.as_fd(), index)?;
        let chosen = (!paths.is_empty()).then(|| {
            let used = Used { directory: "c", paths: paths.to_vec() };
            follow(&told, &[used]).unwrap()
        });
        let missing = told.missing(chosen.as_deref());
        let wanted = told.wanted(&missing);
        told.bring(root.as_fd(), &missing, &mut &sent(contents)[..])?;
        *index = told.into_index();
        Ok(wanted)
    }

    fn sync(root: &Path, index: &mut Index, list: Vec<(Listed, Vec<u8>)>, contents: &[&str]) -> Result<Wanted> {
        sync_some(root, index, list, &[], contents)
    }

    fn digests(root: &Path, index: &Index) -> [String; 2] {
        let folder = std::fs::File::open(root).unwrap();
        [crate::content::of_tree(folder.as_fd()).unwrap(), crate::content::of_index(index)]
    }

    #[test]
    fn only_what_changed_is_wanted_and_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = Index::default();
        let all = |second: &str, stamp: &str| {
            vec![
                listed("c", ListedKind::Folder, "", ""),
                listed("c/a-b", ListedKind::File, "dash", "1"),
                listed("c/a", ListedKind::Folder, "", ""),
                listed("c/a/one", ListedKind::File, "one", "1"),
                listed("c/a/two", ListedKind::File, second, stamp),
                listed("c/a/again", ListedKind::HardLink, "c/a/two", ""),
                listed("c/link", ListedKind::Symlink, "a/one", ""),
                listed("c/empty", ListedKind::File, "", "1"),
            ]
        };
        assert_eq!(sync(dir.path(), &mut index, all("two", "1"), &["dash", "one", "two"]).unwrap(), [(1, 1), (3, 2)]);
        let [looked, known] = digests(dir.path(), &index);
        assert_eq!(looked, known, "what is known is what is there");
        let inode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().ino();
        let before = inode("c/a/one");
        let held = tempfile::tempdir().unwrap();
        std::fs::hard_link(dir.path().join("c/a/two"), held.path().join("two")).unwrap();
        let told_then = |content: &str| format!("when sent {content}");
        let mut again = all("two", &told_then("two"));
        again[1] = listed("c/a-b", ListedKind::File, "dash", &told_then("dash"));
        again[3] = listed("c/a/one", ListedKind::File, "one", &told_then("one"));
        assert_eq!(sync(dir.path(), &mut index, again.clone(), &[]).unwrap(), []);
        again[4] = listed("c/a/two", ListedKind::File, "longer", "2");
        assert_eq!(sync(dir.path(), &mut index, again, &["TWO!"]).unwrap(), [(4, 1)]);
        assert_eq!(std::fs::read_to_string(dir.path().join("c/a/again")).unwrap(), "TWO!");
        assert_eq!(inode("c/a/one"), before);
        let held = std::fs::read_to_string(held.path().join("two")).unwrap();
        assert_eq!(held, "two", "nobody writes to a file that may have another name");
        let times = std::fs::metadata(dir.path().join("c/a")).unwrap();
        assert_eq!((times.mtime(), times.mtime_nsec()), (1000, 5));
        let [looked, known] = digests(dir.path(), &index);
        assert_eq!(looked, known);
        let fewer = vec![
            listed("c", ListedKind::Folder, "", ""),
            listed("c/a", ListedKind::File, "file", "3"),
            listed("c/link", ListedKind::Symlink, "elsewhere", ""),
        ];
        assert_eq!(sync(dir.path(), &mut index, fewer, &["file"]).unwrap(), [(1, 1)]);
        assert_eq!(std::fs::read_dir(dir.path().join("c")).unwrap().count(), 2);
        let [looked, known] = digests(dir.path(), &index);
        assert_eq!(looked, known);
    }

    #[test]
    fn lists_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let folder = || listed("c", ListedKind::Folder, "", "");
        for list in [
            vec![listed("../x", ListedKind::File, "x", "")],
            vec![listed("/x", ListedKind::File, "x", "")],
            vec![listed("", ListedKind::Folder, "", "")],
            vec![folder(), listed("c/./x", ListedKind::File, "x", "")],
            vec![listed("c/x", ListedKind::File, "x", "")],
            vec![folder(), folder()],
            vec![folder(), listed("c/l", ListedKind::Symlink, "/", ""), listed("c/l/x", ListedKind::File, "x", "")],
            vec![folder(), listed("c/h", ListedKind::HardLink, "etc/passwd", "")],
        ] {
            assert!(sync(dir.path(), &mut Index::default(), list, &["x", "x"]).is_err());
        }
        let cut = vec![folder(), listed("c/x", ListedKind::File, "long", "")];
        let root = std::fs::File::open(dir.path()).unwrap();
        let mut told = Told::of(cut).unwrap();
        let bytes = sent(&["long"]);
        assert!(told.bring(root.as_fd(), &told.missing(None), &mut &bytes[..bytes.len() - 2]).is_err());
    }

    #[test]
    fn what_was_not_asked_for_is_not_there_and_comes_when_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = Index::default();
        let all = |stamps: [&str; 3]| {
            vec![
                listed("c", ListedKind::Folder, "", ""),
                listed("c/a", ListedKind::Folder, "", ""),
                listed("c/a/one", ListedKind::File, "one", stamps[0]),
                listed("c/a/other", ListedKind::HardLink, "c/a/one", ""),
                listed("c/b", ListedKind::Folder, "", ""),
                listed("c/b/link", ListedKind::Symlink, "../a/one", ""),
                listed("c/b/two", ListedKind::File, "two", stamps[1]),
                listed("c/three", ListedKind::File, "three", stamps[2]),
            ]
        };
        let found = || {
            let mut found = Vec::new();
            for name in ["a", "a/one", "a/other", "b", "b/link", "b/two", "three"] {
                if dir.path().join("c").join(name).symlink_metadata().is_ok() {
                    found.push(name);
                }
            }
            found.join(" ")
        };
        let [one, two, three] = ["when sent one", "when sent two", "when sent three"];
        let mut step = |stamps, paths: &[&str], contents: &[&str]| {
            let wanted = sync_some(dir.path(), &mut index, all(stamps), paths, contents).unwrap();
            let [looked, known] = digests(dir.path(), &index);
            assert_eq!(looked, known, "what is known is what is there");
            wanted
        };
        assert_eq!(step(["1", "1", "1"], &["b/two"], &["two"]), [(6, 1)]);
        assert_eq!(found(), "b b/two");
        assert_eq!(step(["1", two, "1"], &["b/two"], &[]), [], "it is here");
        assert_eq!(step(["1", two, "1"], &["a/other"], &["one"]), [(2, 1)], "the file comes by its first name");
        assert_eq!(found(), "a a/one a/other b b/two");
        assert_eq!(step([one, "9", "1"], &["b/link"], &[]), [], "what changed is gone, and nobody asked for it");
        assert_eq!(found(), "a a/one a/other b b/link");
        assert_eq!(step([one, "9", "1"], &[], &["two", "three"]), [(6, 2)]);
        assert_eq!(step([one, two, three], &[], &[]), []);
        let times = std::fs::metadata(dir.path().join("c/b")).unwrap();
        assert_eq!((times.mtime(), times.mtime_nsec()), (1000, 5));
    }
}
