//! What the file system of the data root can do: `GET /system/storage`, ferry's own.

use std::os::fd::AsFd;

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
fn file_system(folder: &std::path::Path) -> String {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        Some((before.split(' ').nth(4)?, after.split(' ').next()?))
    });
    let around = mounts.filter(|(place, _)| folder.starts_with(place));
    around.max_by_key(|(place, _)| place.len()).map_or_else(String::new, |(_, kind)| kind.to_owned())
}

fn maps_ids(folder: &std::path::Path) -> bool {
    use rustix::mount::{OpenTreeFlags, open_tree};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let Ok(tree) = open_tree(rustix::fs::CWD, folder, flags) else { return false };
    ferry_sys::namespace::user_namespace("0 1 1\n1 0 1\n", "0 1 1\n1 0 1\n")
        .and_then(|ids| ferry_sys::mount::map_ids(tree.as_fd(), ids.as_fd(), false))
        .is_ok()
}
