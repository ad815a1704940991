//! Writes to procfs that cannot be led astray.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::error::Error;

/// A procfs known by the descriptor of its mount alone: what is put over its files is not followed.
#[derive(Debug)]
pub(crate) struct PrivateProc {
    root: OwnedFd,
}

impl AsFd for PrivateProc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl PrivateProc {
    /// One that this process has mounted itself.
    pub(super) fn of_mount(mount: &OwnedFd) -> Result<PrivateProc, Error> {
        let root = rustix::io::fcntl_dupfd_cloexec(mount, 3).map_err(|error| Error::step("keep the procfs", error))?;
        Ok(PrivateProc { root })
    }

    /// Makes one that is mounted nowhere, of the calling process' namespaces. Letting go of it makes the kernel wait.
    pub(crate) fn open() -> Result<PrivateProc, Error> {
        let make = || -> Result<OwnedFd, Errno> {
            let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&context)?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        };
        make().map(|root| PrivateProc { root }).map_err(|error| Error::step("open a private procfs", error))
    }

    /// Writes kernel parameters.
    pub(crate) fn set_sysctls(&self, sysctls: &[(String, String)]) -> Result<(), Error> {
        for (path, value) in sysctls {
            self.write(&format!("sys/{path}"), value)
                .map_err(|error| Error::step(format!("set sysctl {} to {value:?}", path.replace('/', ".")), error))?;
        }
        Ok(())
    }

    /// Puts the calling process under an AppArmor profile at its next exec.
    pub(crate) fn set_apparmor(&self, profile: &str) -> Result<(), Error> {
        let command = format!("exec {profile}");
        let own = match self.write("thread-self/attr/apparmor/exec", &command) {
            // Before Linux 5.8 there was one file for all security modules.
            Err(Errno::NOENT) => self.write("thread-self/attr/exec", &command),
            other => other,
        };
        own.map_err(|error| Error::step(format!("unable to apply apparmor profile {profile:?}"), error))
    }

    /// Sets the SELinux label of the calling process after its next exec.
    pub(crate) fn set_exec_label(&self, label: &str) -> Result<(), Error> {
        self.write("thread-self/attr/exec", label)
            .map_err(|error| Error::step(format!("can't set process label {label:?}"), error))
    }

    /// Sets the SELinux label of keys that the calling process makes until its next exec.
    pub(crate) fn set_key_label(&self, label: &str) -> Result<(), Error> {
        match self.write("thread-self/attr/keycreate", label) {
            // A kernel without keys.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::step(format!("can't set the label {label:?} of keys"), error)),
        }
    }

    fn write(&self, path: &str, value: &str) -> Result<(), Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat2(&self.root, path, flags, Mode::empty(), resolve)?;
        let written = rustix::io::write(&file, value.as_bytes())?;
        if written == value.len() { Ok(()) } else { Err(Errno::IO) }
    }
}

/// Sets how readily the kernel kills the calling process when memory is short. For the host's view alone, whose `/proc` is trusted.
pub(crate) fn set_oom_score(adjustment: i32) -> Result<(), Error> {
    let text = adjustment.to_string();
    openat(CWD, "/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::write(&file, text.as_bytes()))
        .map(drop)
        .map_err(|error| Error::step(format!("set oom_score_adj to {adjustment}"), error))
}
