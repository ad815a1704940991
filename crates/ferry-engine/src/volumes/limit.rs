//! How much a volume may hold: kept by the file system where it has project quotas, else by an image of that size that is mounted while the
//! volume is used.
//!
//! Docker's option `size` asks for a quota alone, and is refused in Docker's words where there is none. `ferry.size` takes what there is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ferry_sys::quota;

use crate::error::{Context, Error, Result};

/// Ferry's own option.
pub(super) const OWN_SIZE: &str = "ferry.size";
/// The image in a volume's folder.
pub(super) const IMAGE: &str = "volume.img";
/// Below lie projects that people number by hand, and those of writable layers.
const FIRST_PROJECT: u32 = 1 << 21;
/// A file system of less has no room for files.
const SMALLEST_IMAGE: u64 = 4 << 20;

/// How a limit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// By the file system.
    Quota,
    /// By an image.
    Image,
    /// There is no way.
    None,
}

/// What this host has for volumes below `root`.
pub(crate) fn means(root: &Path) -> Means {
    if File::open(root).and_then(quota::is_enforced).unwrap_or(false) {
        return Means::Quota;
    }
    let has_loop = Path::new("/dev/loop-control").exists();
    if has_loop && program("mkfs.ext4").is_some() && program("losetup").is_some() { Means::Image } else { Means::None }
}

/// Bytes that the options ask for, and whether an image will do.
pub(super) fn wanted(options: &BTreeMap<String, String>) -> Result<Option<(u64, bool)>> {
    let size = |name: &str| -> Result<Option<u64>> {
        let Some(text) = options.get(name) else { return Ok(None) };
        let bytes = crate::sizes::bytes(text).ok_or_else(|| Error::invalid(format!("invalid size: '{text}'")))?;
        Ok(Some(bytes).filter(|bytes| *bytes > 0))
    };
    match (size(OWN_SIZE)?, size("size")?) {
        (Some(bytes), _) => Ok(Some((bytes, true))),
        (None, bytes) => Ok(bytes.map(|bytes| (bytes, false))),
    }
}

/// Whether what is asked for can be had.
///
/// # Errors
/// InvalidArgument in Docker's words, or in our own where Docker has no such thing.
pub(super) fn check(options: &BTreeMap<String, String>, root: &Path) -> Result<()> {
    let is_mounted = ["type", "device", "o"].iter().any(|name| options.contains_key(*name));
    match (wanted(options)?, means(root)) {
        (Some((_, true)), _) if is_mounted => {
            let text = "a volume that something is mounted for has the size of that: leave `--size` out, or `type`, `device` and `o`";
            Err(Error::invalid(text.to_owned()))
        }
        (Some((bytes, true)), Means::Image) if bytes < SMALLEST_IMAGE => {
            Err(Error::invalid(format!("a volume in an image needs at least {} MiB", SMALLEST_IMAGE >> 20)))
        }
        (None, _) | (Some(_), Means::Quota) | (Some((_, true)), Means::Image) => Ok(()),
        (Some((_, false)), _) => Err(Error::invalid("quota size requested but no quota support".to_owned())),
        (Some((_, true)), Means::None) => Err(Error::invalid(
            "this host can limit no volume: its file system has no project quotas, and an image needs /dev/loop-control, mkfs.ext4 and losetup"
                .to_owned(),
        )),
    }
}

/// A volume that is there already is what is asked for, whatever else is said of it, as in Docker; but not one of another size.
///
/// # Errors
/// Conflict.
pub(super) fn check_same(
    name: &str,
    options: &BTreeMap<String, String>,
    before: Option<&BTreeMap<String, String>>,
) -> Result<()> {
    let size = |options: &BTreeMap<String, String>| options.get(OWN_SIZE).and_then(|text| crate::sizes::bytes(text));
    let (asked, has) = (size(options), before.and_then(size).unwrap_or(0));
    match asked.is_some_and(|asked| asked != has) {
        true if has == 0 => {
            Err(Error::conflict(format!("create {name}: the volume is there already, without a limit")))
        }
        true => {
            Err(Error::conflict(format!("create {name}: the volume is there already, with a limit of {has} bytes")))
        }
        false => Ok(()),
    }
}

/// Limits a new volume whose folder and data folder are there.
pub(super) fn set(folder: &Path, data: &Path, options: &BTreeMap<String, String>) -> Result<()> {
    let Some((bytes, _)) = wanted(options)? else { return Ok(()) };
    match means(folder) {
        Means::Quota => set_quota(folder, data, bytes).context("cannot limit the volume"),
        _ => make_image(&folder.join(IMAGE), bytes),
    }
}

fn set_quota(folder: &Path, data: &Path, bytes: u64) -> io::Result<()> {
    let mut highest = FIRST_PROJECT;
    for entry in fs::read_dir(folder.parent().unwrap_or(folder))? {
        // One that goes meanwhile needs no number.
        let Ok(other) = File::open(entry?.path().join("_data")) else { continue };
        highest = highest.max(quota::project(&other)?);
    }
    quota::limit(File::open(folder)?, highest + 1, bytes)?;
    quota::set_project(File::open(data)?, highest + 1)
}

/// Whether a project is one that a volume of ours has.
pub(super) fn is_own_project(project: u32) -> bool {
    project >= FIRST_PROJECT
}

/// Forgets the quota of a volume that is about to go.
pub(super) fn forget(data: &Path) {
    let forget = || -> io::Result<()> {
        let data = File::open(data)?;
        match quota::project(&data)? {
            project if is_own_project(project) => quota::limit(&data, project, 0),
            _ => Ok(()),
        }
    };
    if let Err(error) = forget() {
        tracing::trace!(folder = %data.display(), %error, "no quota to forget");
    }
}

fn make_image(image: &Path, bytes: u64) -> Result<()> {
    File::create(image).and_then(|file| file.set_len(bytes)).context("cannot make the volume's image")?;
    // No reserve for root: all of it is the volume's. The folder of lost files would hide that it is empty.
    let made = run(
        "mkfs.ext4",
        &["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,root_owner=0:0"],
        image,
    )?;
    tracing::debug!(image = %image.display(), made, "image of a volume made");
    Ok(())
}

/// A loop device over an image, which goes with the last mount of it.
pub(super) struct LoopDevice(pub(super) String);

impl LoopDevice {
    pub(super) fn attach(image: &Path) -> Result<Self> {
        run("losetup", &["--find", "--show", "--nooverlap"], image).map(Self)
    }
}

impl Drop for LoopDevice {
    /// While it is mounted the kernel only notes that it is to go.
    fn drop(&mut self) {
        if let Err(error) = run("losetup", &["--detach"], Path::new(&self.0)) {
            tracing::warn!(device = %self.0, error = %error.text(), "loop device left behind");
        }
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
}

fn run(name: &str, args: &[&str], path: &Path) -> Result<String> {
    let program = program(name).ok_or_else(|| Error::internal(format!("{name} is not on this host")))?;
    let mut command = Command::new(program);
    command.args(args).arg(path).env_clear().env("LC_ALL", "C").stdin(Stdio::null());
    let output = command.output().context(format!("cannot run {name}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(Error::internal(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_size_is_not_dropped() {
        let root = tempfile::tempdir().expect("a folder");
        let mounted = options(&[("ferry.size", "8m"), ("type", "tmpfs"), ("device", "tmpfs")]);
        let text = check(&mounted, root.path()).expect_err("two sizes").text();
        assert!(text.contains("leave `--size` out"), "{text}");
        let (five, nine) = (options(&[("ferry.size", "5m")]), options(&[("ferry.size", "9m")]));
        for (asked, before, told) in [
            (&five, Some(&five), None),
            (&options(&[]), Some(&five), None),
            (&nine, Some(&five), Some("create data: the volume is there already, with a limit of 5242880 bytes")),
            (&nine, None, Some("create data: the volume is there already, without a limit")),
        ] {
            let said = check_same("data", asked, before).err().map(|error| error.text());
            assert_eq!(said.as_deref(), told);
        }
    }
}
