//! Packages, as the databases of package managers list them: dpkg, apk, rpm.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use ferry_api::compare::PackageChange;
use ferry_store::tree::{FileKind, LayerTree, Merged};

use super::rpm;

/// The largest database that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;
const DPKG: &str = "var/lib/dpkg/status";
/// A file for each package, in images that are made without dpkg.
const DPKG_FILES: &str = "var/lib/dpkg/status.d/";
const APK: &[&str] = &["lib/apk/db/installed", "usr/lib/apk/db/installed"];
const RPM: &[&str] = &["var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite"];

/// Kind and name to versions: some packages are installed more than once.
pub(crate) type Packages = BTreeMap<(&'static str, String), BTreeSet<String>>;

/// Returns what is installed on one side and not on the other, or in another version. A database that cannot be read has no packages; its
/// file is among the files.
pub(super) fn changes(
    from_trees: &[LayerTree],
    from: &BTreeMap<Vec<u8>, Merged<'_>>,
    to_trees: &[LayerTree],
    to: &BTreeMap<Vec<u8>, Merged<'_>>,
) -> Vec<PackageChange> {
    let (before, after) = (installed(from_trees, from), installed(to_trees, to));
    let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    let versions = |packages: &Packages, key| {
        packages.get(key).map(|versions| versions.iter().cloned().collect::<Vec<_>>().join(", "))
    };
    keys.into_iter()
        .map(|key| PackageChange {
            kind: key.0.to_owned(),
            name: key.1.clone(),
            from: versions(&before, key),
            to: versions(&after, key),
        })
        .filter(|change| change.from != change.to)
        .collect()
}

/// What is installed in a tree. A database that cannot be read has no packages.
pub(crate) fn installed(trees: &[LayerTree], merged: &BTreeMap<Vec<u8>, Merged<'_>>) -> Packages {
    let mut packages = Packages::new();
    let mut put = |kind, name: String, version: String| {
        packages.entry((kind, name)).or_default().insert(version);
    };
    let single = std::iter::once(DPKG.as_bytes().to_vec());
    let in_folder = merged
        .range(DPKG_FILES.as_bytes().to_vec()..)
        .map(|(path, _)| path.clone())
        .take_while(|path| path.starts_with(DPKG_FILES.as_bytes()))
        .filter(|path| !path.ends_with(b".md5sums"));
    for path in single.chain(in_folder) {
        if let Some(text) = read(trees, merged, &path) {
            dpkg(&String::from_utf8_lossy(&text), &mut |name, version| put("dpkg", name, version));
        }
    }
    for path in APK {
        if let Some(text) = read(trees, merged, path.as_bytes()) {
            apk(&String::from_utf8_lossy(&text), &mut |name, version| put("apk", name, version));
        }
    }
    for path in RPM {
        if let Some(bytes) = read(trees, merged, path.as_bytes()) {
            match rpm::packages(&bytes) {
                Ok(all) => all.into_iter().for_each(|(name, version)| put("rpm", name, version)),
                Err(error) => tracing::debug!(path, error, "package database not readable"),
            }
        }
    }
    packages
}

fn read(trees: &[LayerTree], merged: &BTreeMap<Vec<u8>, Merged<'_>>, path: &[u8]) -> Option<Vec<u8>> {
    let one = merged.get(path).filter(|one| one.file.kind == FileKind::File && one.file.size <= MAX_BYTES)?;
    let file = trees[one.layer].open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Reads dpkg's status: paragraphs of fields. Of several architectures the name tells which.
fn dpkg(text: &str, put: &mut dyn FnMut(String, String)) {
    for paragraph in text.split("\n\n") {
        let field =
            |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
        let (Some(name), Some(version)) = (field("Package"), field("Version")) else { continue };
        // What was removed and left its settings is not installed; files for single packages say nothing about it.
        if field("Status").is_some_and(|status| !status.ends_with(" installed")) {
            continue;
        }
        put(name.to_owned(), version.to_owned());
    }
}

/// Reads apk's list: paragraphs of single letters.
fn apk(text: &str, put: &mut dyn FnMut(String, String)) {
    for paragraph in text.split("\n\n") {
        let field = |letter: &str| paragraph.lines().find_map(|line| line.strip_prefix(letter));
        if let (Some(name), Some(version)) = (field("P:"), field("V:")) {
            put(name.to_owned(), version.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(read: fn(&str, &mut dyn FnMut(String, String)), text: &str) -> Vec<String> {
        let mut found = Vec::new();
        read(text, &mut |name, version| found.push(format!("{name} {version}")));
        found
    }

    #[test]
    fn dpkg_lists_what_is_installed() {
        let text = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\nDescription: c\n Version: no\n\n\
                    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                    Package: alone\nVersion: 3:4-5\n";
        assert_eq!(all(dpkg, text), ["libc6 2.36-9", "alone 3:4-5"]);
    }

    #[test]
    fn apk_lists_packages() {
        let text = "C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nF:lib\nR:ld.so\n\nP:busybox\nV:1.36.1-r5\n\n";
        assert_eq!(all(apk, text), ["musl 1.2.4-r2", "busybox 1.36.1-r5"]);
    }
}
