//! Root file systems of containers: a chain of layers with a writable folder on top, as a detached mount.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ferry_spec::digest::ChainId;
use ferry_sys::mount::{Attributes, Propagation, READ_ONLY, set_attributes};
use ferry_sys::namespace::{self, Namespaces};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags};
use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree};

use crate::Store;
use crate::driver::DriverKind;
use crate::error::{Error, Result};
use crate::layers::unpack::open_trusted;
use crate::paths::random_name;
use crate::vfs;

/// How to mount a root file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountOptions<'a> {
    /// SELinux label of every file as it is seen through the mount.
    pub label: Option<&'a str>,
    /// Skip syncs: for what is thrown away with its container.
    pub volatile: bool,
    /// Nothing can be written through the mount; the upper folder still takes part.
    pub read_only: bool,
    /// The upper folder has a quota, which also holds for what is written with the rights of whoever mounts: all that is written through an overlay.
    pub limited: bool,
}

/// Layers by themselves; see [`Store::look_at_layers`].
#[derive(Debug)]
pub struct LayersView {
    files: OwnedFd,
    /// Removed with it.
    copy: Option<PathBuf>,
}

impl AsFd for LayersView {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.files.as_fd()
    }
}

impl Drop for LayersView {
    fn drop(&mut self) {
        if let Some(copy) = &self.copy
            && let Err(error) = crate::collect::remove_tree(copy)
        {
            tracing::warn!(folder = %copy.display(), %error, "left behind until the next start");
        }
    }
}

/// How lower folders are named to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountMethod {
    /// One `lowerdir+` each, Linux 6.7 and later.
    EachLower,
    /// All in the one page of options of mount(2), which has to be seen from the folder of short links.
    OnePage,
}

/// The longest string that `fsconfig` takes.
const STRING_MAX: usize = 255;
/// The page of options, less its terminator.
const PAGE_MAX: usize = 4095;

impl Store {
    /// Mounts the layers of `chain` (none is an empty image) with `upper` on top, detached: the caller moves the mount to where it belongs, or
    /// hands it on, and it ends with its last user. `upper` and `work` are empty folders the first time, of one file system, kept by
    /// the caller, and used by one mount at a time.
    ///
    /// Where overlay cannot be used, `upper` becomes a whole copy of the layers the first time, and is what is mounted.
    ///
    /// # Errors
    /// [`Error::LayerNotFound`], [`Error::Mount`].
    pub fn mount_rootfs(
        &self,
        chain: Option<&ChainId>,
        upper: &Path,
        work: &Path,
        options: MountOptions<'_>,
    ) -> Result<OwnedFd> {
        let DriverKind::Overlay { user_xattr, method } = self.inner.driver.kind else {
            return self.mount_copy(chain, upper, work, options);
        };
        let lower = self.lower_names(chain)?;
        let (scratch, links_path) = (self.inner.paths.layers(), self.inner.paths.links());
        let overlay = Overlay {
            links: &self.inner.links,
            links_path: &links_path,
            lower: &lower,
            upper: Some((upper, work)),
            volatile: options.volatile,
            read_only: options.read_only,
            label: options.label,
            user_xattr,
            scratch: &scratch,
        };
        forget_volatile(work)?;
        if options.limited {
            return on_a_thread(|| {
                keep_to_quotas()?;
                overlay.mount(method)
            });
        }
        overlay.mount(method)
    }

    /// Shows the layers of `chain` by themselves, for comparing with them.
    ///
    /// # Errors
    /// As [`Store::mount_rootfs`].
    pub fn look_at_layers(&self, chain: &ChainId) -> Result<LayersView> {
        if let Some(files) = self.mount_view(chain)? {
            return Ok(LayersView { files, copy: None });
        }
        // Its name begins like any half-made thing, so the next start sweeps what a killed process leaves.
        let folder = self.inner.paths.layers().join(format!(".new-{}", random_name()));
        let mut view =
            LayersView { files: OwnedFd::from(fs::File::open("/").map_err(Error::io("open", "/"))?), copy: None };
        fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
        view.copy = Some(folder.clone());
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        for part in [&upper, &work] {
            fs::create_dir(part).map_err(Error::io("create", part))?;
        }
        vfs::fill(self, Some(chain), &upper, &work)?;
        view.files = open_trusted(&upper).map_err(Error::errno("open", &upper))?;
        Ok(view)
    }

    /// Mounts the layers of `chain` to be looked at. `None` where that takes a copy.
    pub(crate) fn mount_view(&self, chain: &ChainId) -> Result<Option<OwnedFd>> {
        let DriverKind::Overlay { user_xattr, method } = self.inner.driver.kind else { return Ok(None) };
        let mut lower = self.lower_names(Some(chain))?;
        // Without an upper folder the kernel wants two.
        lower.push("../empty".to_owned());
        let (scratch, links_path) = (self.inner.paths.layers(), self.inner.paths.links());
        let overlay = Overlay {
            links: &self.inner.links,
            links_path: &links_path,
            lower: &lower,
            upper: None,
            volatile: false,
            read_only: true,
            label: None,
            user_xattr,
            scratch: &scratch,
        };
        overlay.mount(method).map(Some)
    }

    /// Names relative to the folder of short links, the topmost first.
    fn lower_names(&self, chain: Option<&ChainId>) -> Result<Vec<String>> {
        match chain {
            Some(chain) => self.short_names(chain),
            None => Ok(vec!["../empty".to_owned()]),
        }
    }

    fn mount_copy(
        &self,
        chain: Option<&ChainId>,
        upper: &Path,
        work: &Path,
        options: MountOptions<'_>,
    ) -> Result<OwnedFd> {
        vfs::fill(self, chain, upper, work)?;
        if let Some(label) = options.label {
            let copy = open_trusted(upper).map_err(Error::errno("open", upper))?;
            ferry_sys::selinux::relabel(copy.as_fd(), label).map_err(Error::io("label", upper))?;
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = open_tree(CWD, upper, flags).map_err(failed("clone the folder's mount"))?;
        if options.read_only {
            let attributes = Attributes { set: READ_ONLY, ..Attributes::default() };
            set_attributes(&mount, c"", attributes, false)
                .map_err(|source| Error::Mount { step: "make it read-only".to_owned(), source })?;
        }
        Ok(mount)
    }
}

/// The parts of one overlay mount.
pub(crate) struct Overlay<'a> {
    /// The folder that `lower` is relative to.
    pub(crate) links: &'a OwnedFd,
    /// The same by name.
    pub(crate) links_path: &'a Path,
    /// The topmost first.
    pub(crate) lower: &'a [String],
    pub(crate) upper: Option<(&'a Path, &'a Path)>,
    pub(crate) volatile: bool,
    pub(crate) read_only: bool,
    pub(crate) label: Option<&'a str>,
    pub(crate) user_xattr: bool,
    /// Where a folder can be made to mount on for a moment.
    pub(crate) scratch: &'a Path,
}

impl<'a> Overlay<'a> {
    pub(crate) fn mount(&self, method: MountMethod) -> Result<OwnedFd> {
        match method {
            MountMethod::EachLower => self.mount_each(),
            MountMethod::OnePage => self.mount_page(),
        }
    }

    /// Flags and values that both ways share.
    fn settings(&self) -> Vec<(&'static str, Option<&'a str>)> {
        // Docker's choices: no index, since layers are shared by many mounts; no metacopy and no redirects, so that the upper folder
        // holds a plain difference.
        let mut settings = vec![("index", Some("off")), ("metacopy", Some("off")), ("redirect_dir", Some("nofollow"))];
        if self.user_xattr {
            // These attributes know neither redirects nor metacopy, and the kernel does not want to be told.
            settings = vec![("index", Some("off")), ("userxattr", None)];
        }
        if self.volatile && self.upper.is_some() {
            settings.push(("volatile", None));
        }
        if let Some(label) = self.label {
            settings.push(("context", Some(label)));
        }
        settings
    }

    fn mount_each(&self) -> Result<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("open the overlay file system"))?;
        fsconfig_set_string(&context, "source", "overlay").map_err(failed("set source"))?;
        let mut held = Vec::new();
        // A readable path where it is short enough: it shows in the container's list of mounts.
        let links = if self.links_path.as_os_str().len() + 16 <= STRING_MAX {
            self.links_path.to_owned()
        } else {
            PathBuf::from(format!("/proc/self/fd/{}", self.links.as_raw_fd()))
        };
        for name in self.lower {
            fsconfig_set_string(&context, "lowerdir+", links.join(name)).map_err(failed("add a layer"))?;
        }
        if let Some((upper, work)) = self.upper {
            let upper = short_path(upper, &mut held)?;
            let work = short_path(work, &mut held)?;
            fsconfig_set_string(&context, "upperdir", upper.as_os_str()).map_err(failed("set the upper folder"))?;
            fsconfig_set_string(&context, "workdir", work.as_os_str()).map_err(failed("set the work folder"))?;
        }
        for (key, value) in self.settings() {
            match value {
                Some(value) => fsconfig_set_string(&context, key, value),
                None => fsconfig_set_flag(&context, key),
            }
            .map_err(|errno| Error::Mount { step: format!("set {key}"), source: errno.into() })?;
        }
        fsconfig_create(&context).map_err(failed("create the overlay"))?;
        let attributes = if self.read_only { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed("mount the overlay"))
    }

    /// mount(2) on a folder for a moment, from which the mount is then taken off. It happens on a thread of its own, which has the working
    /// folder that the short names are seen from, and, where that is allowed, mounts of its own, so that nobody else sees the moment and
    /// a kill leaves nothing.
    fn mount_page(&self) -> Result<OwnedFd> {
        let target = self.scratch.join(format!(".new-{}", random_name()));
        fs::create_dir(&target).map_err(Error::io("create", &target))?;
        let mounted = on_a_thread(|| {
            leave_shared_mounts()?;
            // By name: the kernel takes no layers from mounts of another namespace, where the descriptor is.
            rustix::process::chdir(self.links_path).map_err(failed("enter the folder of layers"))?;
            let mut held = Vec::new();
            let page = self.page(&mut held)?;
            mount_and_take_off(&target, &page, self.read_only)
        });
        // Its name begins like any half-made thing, so the next start sweeps it otherwise.
        let _ = fs::remove_dir(&target);
        mounted
    }

    fn page(&self, held: &mut Vec<OwnedFd>) -> Result<Vec<u8>> {
        let mut page = b"lowerdir=".to_vec();
        page.extend_from_slice(self.lower.join(":").as_bytes());
        if let Some((upper, work)) = self.upper {
            for (key, path) in [("upperdir", upper), ("workdir", work)] {
                let path = short_path(path, held)?;
                page.extend_from_slice(format!(",{key}=").as_bytes());
                page.extend_from_slice(path.as_os_str().as_bytes());
            }
        }
        for (key, value) in self.settings() {
            page.extend_from_slice(format!(",{key}").as_bytes());
            if let Some(value) = value {
                // A label may have commas in it.
                let quote = if value.contains(',') { "\"" } else { "" };
                page.extend_from_slice(format!("={quote}{value}{quote}").as_bytes());
            }
        }
        if page.len() > PAGE_MAX {
            let source =
                io::Error::other(format!("{} layers do not fit this kernel's page of mount options", self.lower.len()));
            return Err(Error::Mount { step: "name the layers".to_owned(), source });
        }
        Ok(page)
    }
}

/// Runs `work` on a thread of its own.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mount".to_owned()).spawn_scoped(scope, work);
        let thread = thread.map_err(|source| Error::Mount { step: "start a thread".to_owned(), source })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Gives up the right to pass over quotas, for the calling thread.
fn keep_to_quotas() -> Result<()> {
    let failed = |source| Error::Mount { step: "keep to quotas".to_owned(), source };
    let mut sets = ferry_sys::capability::get().map_err(failed)?;
    sets.effective &= !(1 << ferry_sys::capability::SYS_RESOURCE);
    ferry_sys::capability::set(sets).map_err(failed)
}

/// Gives the calling thread mounts of its own, or at least a working folder of its own.
fn leave_shared_mounts() -> Result<()> {
    let own = namespace::unshare(Namespaces::MOUNT).and_then(|()| {
        let private = Attributes { propagation: Some(Propagation::Private), ..Attributes::default() };
        set_attributes(CWD, c"/", private, true)
    });
    own.or_else(|_| ferry_sys::path::unshare_working_folder())
        .map_err(|source| Error::Mount { step: "leave the shared working folder".to_owned(), source })
}

fn mount_and_take_off(target: &Path, page: &[u8], read_only: bool) -> Result<OwnedFd> {
    let page = std::ffi::CString::new(page)
        .map_err(|error| Error::Mount { step: "name the layers".to_owned(), source: error.into() })?;
    let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    rustix::mount::mount("overlay", target, "overlay", flags, page.as_c_str()).map_err(failed("mount the overlay"))?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let taken = open_tree(CWD, target, clone).map_err(failed("clone the mount"));
    rustix::mount::unmount(target, UnmountFlags::DETACH).map_err(failed("take the mount off"))?;
    taken
}

/// Names a folder so that it is short and has no character that mount options give a meaning to.
fn short_path(path: &Path, held: &mut Vec<OwnedFd>) -> Result<PathBuf> {
    let bytes = path.as_os_str().as_bytes();
    let plain = path.is_absolute()
        && bytes.len() <= STRING_MAX
        && !bytes.iter().any(|b| matches!(b, b',' | b':' | b'\\' | b'"'));
    if plain {
        return Ok(path.to_owned());
    }
    let fd = open_trusted(path).map_err(Error::errno("open", path))?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    held.push(fd);
    Ok(short)
}

/// After a volatile mount the kernel refuses the upper folder until its owner has said that it knows: here it is known that nothing
/// crashed in between, or does not matter.
fn forget_volatile(work: &Path) -> Result<()> {
    let mark = work.join("work/incompat");
    match fs::remove_dir_all(&mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &mark)(error)),
        _ => Ok(()),
    }
}

fn failed(step: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::Mount { step: step.to_owned(), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernels before 6.7 take this way; newer ones can go it too.
    #[test]
    fn one_page_of_options_holds_many_layers() {
        let dir = tempfile::tempdir().unwrap();
        let links = dir.path().join("links");
        let lower: Vec<String> = (0..480).map(|n| format!("l{n:03}")).collect();
        for name in &lower {
            fs::create_dir_all(links.join(name)).unwrap();
            fs::write(links.join(name).join(name), name).unwrap();
        }
        for name in ["upper", "work"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let links_fd = open_trusted(&links).unwrap();
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        let overlay = Overlay {
            links: &links_fd,
            links_path: &links,
            lower: &lower,
            upper: Some((&upper, &work)),
            volatile: true,
            read_only: false,
            label: None,
            user_xattr: false,
            scratch: dir.path(),
        };
        let here = std::env::current_dir().unwrap();
        let root = overlay.mount(MountMethod::OnePage).unwrap();
        assert_eq!(std::env::current_dir().unwrap(), here);
        let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 480);
        fs::write(path.join("new"), b"").unwrap();
        assert!(upper.join("new").exists());
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "the folder that was mounted on is gone: {names:?}");
        let too_many: Vec<String> = (0..1000).map(|n| format!("l{n:03}")).collect();
        let error = Overlay { lower: &too_many, ..overlay }.mount(MountMethod::OnePage).unwrap_err();
        assert!(error.to_string().contains("name the layers"), "{error}");
    }
}
