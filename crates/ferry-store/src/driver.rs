//! What the file system below the data root can do, found out by trying.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, XattrFlags};
use rustix::io::Errno;

use crate::collect::remove_tree;
use crate::error::{Error, Result};
use crate::layers::unpack::{WhiteoutStyle, open_trusted};
use crate::paths::{Paths, random_name};
use crate::rootfs::{MountMethod, Overlay};

/// How root file systems are put together.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    pub(crate) kind: DriverKind,
    backing: String,
    supports_d_type: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum DriverKind {
    /// One overlay mount per container.
    Overlay {
        /// Attributes of the `user.` kind, where `trusted.` ones may not be set.
        user_xattr: bool,
        /// How the layers are named to the kernel.
        method: MountMethod,
    },
    /// A whole copy per container.
    Copy {
        /// Why overlay cannot be used.
        reason: String,
    },
}

impl Driver {
    /// Tries an overlay below the data root.
    pub(crate) fn probe(paths: &Paths) -> Result<Self> {
        let backing = backing_file_system(paths.root())?;
        let folder = paths.layers().join(format!(".new-{}", random_name()));
        fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
        let outcome = try_overlay(&folder);
        remove_tree(&folder)?;
        let kind = match outcome {
            Ok((user_xattr, method)) => DriverKind::Overlay { user_xattr, method },
            Err(reason) => {
                tracing::warn!(
                    backing,
                    reason,
                    "overlay cannot be used below the data root; every container gets a whole copy"
                );
                DriverKind::Copy { reason }
            }
        };
        Ok(Self { kind, backing, supports_d_type: true })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            DriverKind::Overlay { .. } => "overlayfs",
            DriverKind::Copy { .. } => "vfs",
        }
    }

    pub(crate) fn status(&self) -> Vec<(String, String)> {
        let mut pairs = vec![("Backing Filesystem".to_owned(), self.backing.clone())];
        match &self.kind {
            DriverKind::Overlay { user_xattr, .. } => {
                pairs.push(("Supports d_type".to_owned(), self.supports_d_type.to_string()));
                pairs.push(("Using metacopy".to_owned(), "false".to_owned()));
                pairs.push(("Native Overlay Diff".to_owned(), "true".to_owned()));
                pairs.push(("userxattr".to_owned(), user_xattr.to_string()));
            }
            DriverKind::Copy { reason } => pairs.push(("Overlay unusable".to_owned(), reason.clone())),
        }
        pairs
    }

    pub(crate) fn lists_whiteouts(&self) -> bool {
        matches!(self.kind, DriverKind::Copy { .. })
    }

    pub(crate) fn whiteout_style(&self) -> WhiteoutStyle {
        match self.kind {
            DriverKind::Overlay { user_xattr: false, .. } => {
                WhiteoutStyle::Overlay { opaque_xattr: "trusted.overlay.opaque" }
            }
            DriverKind::Overlay { user_xattr: true, .. } => {
                WhiteoutStyle::Overlay { opaque_xattr: "user.overlay.opaque" }
            }
            DriverKind::Copy { .. } => WhiteoutStyle::Listed,
        }
    }
}

/// Mounts a small overlay and does in it what containers do: hide a lower file, make one anew.
fn try_overlay(folder: &Path) -> Result<(bool, MountMethod), String> {
    let said = |what: &'static str| move |errno: Errno| format!("{what}: {}", std::io::Error::from(errno));
    for name in ["lower", "lower2", "upper", "work"] {
        fs::create_dir(folder.join(name)).map_err(|error| format!("create a folder: {error}"))?;
    }
    fs::write(folder.join("lower/file"), b"lower").map_err(|error| format!("create a file: {error}"))?;
    let lower = open_trusted(&folder.join("lower")).map_err(said("open a folder"))?;
    rustix::fs::mknodat(&lower, "whiteout", FileType::CharacterDevice, Mode::empty(), 0)
        .map_err(said("create a whiteout"))?;
    let user_xattr = match rustix::fs::fsetxattr(&lower, "trusted.overlay.opaque", b"y", XattrFlags::empty()) {
        Ok(()) => false,
        Err(Errno::PERM) => {
            rustix::fs::fsetxattr(&lower, "user.overlay.opaque", b"y", XattrFlags::empty())
                .map_err(said("set an attribute"))?;
            true
        }
        Err(errno) => return Err(said("set an attribute")(errno)),
    };
    let folder_fd = open_trusted(folder).map_err(said("open a folder"))?;
    let mut failure = String::new();
    // The other one is tried, too: kernels of distributions have more than their number says. The likely one comes first, since older kernels
    // log what they do not know.
    let methods = match has_lower_each(&rustix::system::uname().release().to_string_lossy()) {
        true => [MountMethod::EachLower, MountMethod::OnePage],
        false => [MountMethod::OnePage, MountMethod::EachLower],
    };
    for method in methods {
        let overlay = Overlay {
            links: &folder_fd,
            links_path: folder,
            lower: &["lower".to_owned(), "lower2".to_owned()],
            upper: Some((&folder.join("upper"), &folder.join("work"))),
            volatile: false,
            read_only: false,
            label: None,
            user_xattr,
            scratch: folder,
        };
        match overlay.mount(method).map_err(|error| error.to_string()).and_then(|root| exercise(&root)) {
            Ok(()) => return Ok((user_xattr, method)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Linux 6.7 and later take lower folders one by one.
fn has_lower_each(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (major, minor) >= (6, 7)
}

fn exercise(root: &OwnedFd) -> Result<(), String> {
    let said = |what: &'static str| move |errno: Errno| format!("{what}: {}", std::io::Error::from(errno));
    if rustix::fs::statat(root, "whiteout", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Err("a whiteout does not hide".to_owned());
    }
    rustix::fs::unlinkat(root, "file", AtFlags::empty()).map_err(said("remove a file in an overlay"))?;
    rustix::fs::mkdirat(root, "file", Mode::from_raw_mode(0o755)).map_err(said("create a folder in an overlay"))
}

/// Returns the name of the file system as `df -T` has it.
fn backing_file_system(path: &Path) -> Result<String> {
    let magic = rustix::fs::statfs(path).map_err(Error::errno("stat the file system of", path))?.f_type;
    let name = match u32::try_from(magic & 0xffff_ffff).unwrap_or_default() {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        0x6969 => "nfs",
        0xf2f5_2010 => "f2fs",
        0x6573_5546 => "fuse",
        0xca45_1a4e => "bcachefs",
        other => return Ok(format!("0x{other:x}")),
    };
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        for (release, fine) in [
            ("6.1.0-56-amd64", false),
            ("5.15.0", false),
            ("6.7.0-rc1", true),
            ("6.18.5", true),
            ("7.0", true),
            ("6.10.0", true),
            ("", false),
        ] {
            assert_eq!(has_lower_each(release), fine, "{release}");
        }
    }
}
