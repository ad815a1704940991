//! What the file system of the data root can do: `GET /system/storage`, ferry's own.

use std::os::fd::AsFd;
use std::path::Path;

use ferry_api::system::StorageFacts;

use super::System;
use crate::error::Result;
use crate::volumes::limit::{Means, means};

impl System {
    /// Tries what the file system of the data root can do for volumes.
    ///
    /// API: `GET /system/storage`
    ///
    /// # Errors
    /// When the trying panics.
    pub async fn storage(&self) -> Result<StorageFacts> {
        let root = self.volumes.root().to_owned();
        let driver = self.store.driver_name().to_owned();
        crate::blocking(move || {
            Ok(StorageFacts {
                data_root: root.parent().unwrap_or(&root).display().to_string(),
                image_driver: driver,
                file_system: file_system(&root),
                shared_extents: ferry_store::shares_extents(&root),
                idmapped_mounts: maps_ids(&root),
                volume_limits: match means(&root) {
                    Means::Quota => "project quota",
                    Means::Image => "loop image",
                    Means::None => "none",
                }
                .to_owned(),
            })
        })
        .await
    }
}

/// Kind of the mount that a folder lies on.
fn file_system(folder: &Path) -> String {
    // By its real path, as mounts are listed.
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    kind_of_mount(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), &folder)
}

/// By the lines of `mountinfo`: of those around a folder the last one of the innermost.
fn kind_of_mount(table: &str, folder: &Path) -> String {
    let mounts = table.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        Some((unescaped(before.split(' ').nth(4)?), after.split(' ').next()?))
    });
    let around = mounts.filter(|(place, _)| folder.starts_with(place));
    around.max_by_key(|(place, _)| place.len()).map_or_else(String::new, |(_, kind)| kind.to_owned())
}

/// Blanks, tabs, newlines and backslashes are written in octal there.
fn unescaped(place: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(place.to_owned(), |text, (written, letter)| text.replace(written, letter))
}

fn maps_ids(folder: &Path) -> bool {
    use rustix::mount::{OpenTreeFlags, open_tree};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let Ok(tree) = open_tree(rustix::fs::CWD, folder, flags) else { return false };
    ferry_sys::namespace::user_namespace("0 1 1\n1 0 1\n", "0 1 1\n1 0 1\n")
        .and_then(|ids| ferry_sys::mount::map_ids(tree.as_fd(), ids.as_fd(), false))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_tells_the_kind() {
        let table = "1 1 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /var/lib rw - xfs /dev/b rw\n\
                     3 1 8:3 / /var/lib/my\\040data rw - btrfs /dev/c rw\n4 1 8:4 / /var/lib rw shared:1 - tmpfs t rw\n";
        for (folder, kind) in [
            ("/srv", "ext4"),
            ("/var/library", "ext4"),
            ("/var/lib/ferry/volumes", "tmpfs"),
            ("/var/lib/my data/volumes", "btrfs"),
        ] {
            assert_eq!(kind_of_mount(table, Path::new(folder)), kind, "{folder}");
        }
    }
}
