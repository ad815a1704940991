//! Volumes that something has to be mounted for: mounted on their folder while a running container has them, as Docker does.
//!
//! One lock per volume, held while its mount is made, so that a server that does not answer stops nobody but its own users.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::limit::{self, LoopDevice};
use super::local_options::{self, LocalMount};
use super::{Volumes, no_such_volume};
use crate::error::{Error, Result, os_text};

/// Containers that have the volume mounted.
pub(super) type MountedBy = Arc<Mutex<BTreeSet<String>>>;

impl Volumes {
    /// Makes a volume's files be at its folder for a container. Blocks.
    ///
    /// # Errors
    /// Docker's text when the mount fails; nothing is mounted then.
    pub(crate) fn mount(&self, name: &str, container_id: &str) -> Result<()> {
        let Some((mount, mounted_by)) = self.mount_of(name)? else { return Ok(()) };
        let mut mounted_by = mounted_by.lock().expect("no panic while held");
        let folder = self.data_folder(name);
        if mounted_by.is_empty() {
            mount_on(&mount, &folder).map_err(|error| {
                Error::internal(format!("error while mounting volume '{}'", folder.display()))
                    .with_source(Error::internal("failed to mount local volume").with_source(error))
            })?;
        }
        mounted_by.insert(container_id.to_owned());
        Ok(())
    }

    /// As [`Volumes::mount`], for volumes of plugins too; returns where those are. Blocks.
    ///
    /// # Errors
    /// As [`Volumes::mount`], and what a plugin says.
    pub(crate) fn mount_anywhere(&self, name: &str, container_id: &str) -> Result<Option<String>> {
        if !self.is_foreign(name) {
            return self.mount(name, container_id).map(|()| None);
        }
        let names = [name.to_owned()];
        let places = Self::wait_for(self.mount_foreign(&names, container_id));
        let mut places = places.inspect_err(|_| self.unmount(name, container_id))?;
        Ok(places.remove(name))
    }

    /// Takes note of a container that runs with the volume already. Blocks.
    pub(crate) fn keep_mounted(&self, name: &str, container_id: &str) {
        if let Some(entry) = self.table().get(name) {
            entry.mounted_by.lock().expect("no panic while held").insert(container_id.to_owned());
        }
    }

    /// Ends a container's use; the last one takes the mount away. Blocks.
    pub(crate) fn unmount(&self, name: &str, container_id: &str) {
        if let Some(record) = self.known(name).filter(|record| !record.is_local()) {
            let mounted_by = self.table().get(name).map(|entry| Arc::clone(&entry.mounted_by));
            let was_mounted = mounted_by.is_some_and(|by| by.lock().expect("no panic while held").remove(container_id));
            if was_mounted {
                self.unmount_foreign(&record, container_id);
            }
            return;
        }
        let Ok(Some((_, mounted_by))) = self.mount_of(name) else { return };
        let mut mounted_by = mounted_by.lock().expect("no panic while held");
        if mounted_by.remove(container_id) && mounted_by.is_empty() {
            take_off_or_say(name, &self.data_folder(name));
        }
    }

    /// Takes away what a daemon that was killed left mounted for nobody. Blocks.
    pub(crate) fn unmount_unused(&self) {
        let names: Vec<String> = self.table().keys().cloned().collect();
        for name in names {
            let Ok(Some((_, mounted_by))) = self.mount_of(&name) else { continue };
            if mounted_by.lock().expect("no panic while held").is_empty() {
                take_off_or_say(&name, &self.data_folder(&name));
            }
        }
    }

    fn mount_of(&self, name: &str) -> Result<Option<(LocalMount, MountedBy)>> {
        let table = self.table();
        let entry = table.get(name).ok_or_else(|| no_such_volume(name))?;
        if !entry.record.is_local() {
            return Ok(None);
        }
        let image = self.folder(name).join(limit::IMAGE);
        let mount = if image.exists() {
            let device = image.display().to_string();
            Some(LocalMount { kind: "ext4".to_owned(), device, options: "nodev".to_owned(), is_image: true })
        } else {
            entry.record.options.as_ref().and_then(local_options::mount_of)
        };
        Ok(mount.map(|mount| (mount, Arc::clone(&entry.mounted_by))))
    }
}

/// mount(2), then propagation, then read-only for binds, which take it the second time alone.
fn mount_on(mount: &LocalMount, folder: &Path) -> Result<()> {
    let mount = mount.resolved()?;
    let (flags, words) = mount.flags();
    let (spread, plain) = (MountPropagationFlags::from_bits_truncate(flags), flags & !PROPAGATION);
    let data = words.join(",");
    let failed = |operation: &str, error: rustix::io::Errno| {
        let mut text = format!("{operation} {}:{}", mount.device, folder.display());
        if plain != 0 {
            text.push_str(&format!(", flags: {plain:#x}"));
        }
        if !data.is_empty() {
            text.push_str(&format!(", data: {data}"));
        }
        let text = format!("{text}: {}", os_text(&error.into()));
        Error::internal(mount.without_password(&text))
    };
    let made = MountFlags::from_bits_retain(plain);
    let attached = mount.is_image.then(|| LoopDevice::attach(Path::new(&mount.device))).transpose()?;
    let device = attached.as_ref().map_or(mount.device.as_str(), |device| device.0.as_str());
    let options =
        std::ffi::CString::new(data.as_str()).map_err(|_| Error::invalid("a volume option has a NUL byte"))?;
    rustix::mount::mount(device, folder, mount.kind.as_str(), made, options.as_c_str())
        .map_err(|error| failed("mount", error))?;
    let finish = || {
        if flags & PROPAGATION != 0 {
            rustix::mount::mount_change(folder, spread).map_err(|error| failed("remount", error))?;
        }
        if made.contains(MountFlags::BIND | MountFlags::RDONLY) {
            rustix::mount::mount_remount(folder, made, "").map_err(|error| failed("remount-ro", error))?;
        }
        if mount.is_image {
            // What a new file system brings along is no file of the volume.
            let _ = std::fs::remove_dir(folder.join("lost+found"));
        }
        Ok(())
    };
    finish().inspect_err(|_| {
        // The failure is told; what was mounted before it goes.
        let _ = take_off(folder);
    })
}

const PROPAGATION: u32 = (libc::MS_SHARED | libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_UNBINDABLE) as u32;

fn take_off_or_say(name: &str, folder: &Path) {
    if let Err(error) = take_off(folder) {
        tracing::warn!(volume = %name, %error, "volume not unmounted");
    }
}

/// Takes every mount off a folder; one without is left as it is.
pub(super) fn take_off(folder: &Path) -> io::Result<()> {
    loop {
        match rustix::mount::unmount(folder, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
