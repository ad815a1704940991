//! Steps of a build: a program in a container that nobody sees.
//!
//! A step is a container like any other, with the same confinement, network and shim, but for what is told of it: it is in no list and no event,
//! its log is the stream of whoever runs it, and it goes with the [`Step`] that stands for it. A start of the daemon removes what was left.
//!
//! Places that mounts need are made in the root; those that nobody used are taken away again before the root is looked at, and no link is
//! followed on the way there.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use ferry_api::container::{Config, CreateRequest, HostConfig};
use ferry_shim::files::Action;
use ferry_spec::digest::{ChainId, Digest};
use ferry_spec::path::clean_rooted;
use ferry_spec::platform::Platform;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tokio::net::UnixStream;

use super::attach::AttachOptions;
use super::files::changes::ChangesWork;
use super::record::{ImageContent, MountKind, MountRecord, Record};
use super::sources::image_folder;
use super::state::Intent;
use super::wait::{WaitCondition, WaitHandle};
use super::{Container, Containers, RemoveOptions, defaults};
use crate::blocking;
use crate::cgroups::Abilities;
use crate::error::{Context, Error, Result};
use crate::ids;
use crate::images::{Images, StoredLayer};

/// What a step runs, and in what.
#[derive(Debug, Clone)]
pub struct StepRequest {
    /// Command, environment, user, working folder, host name.
    pub config: Config,
    /// Network, limits, rights.
    pub host_config: HostConfig,
    /// The layers of its root; `None` is an empty one.
    pub root: Option<ChainId>,
    /// What it runs on.
    pub platform: Platform,
    /// What is mounted, in order.
    pub mounts: Vec<StepMount>,
}

/// Something mounted into a step.
#[derive(Debug, Clone)]
pub struct StepMount {
    /// What.
    pub source: StepSource,
    /// Absolute path in the step.
    pub target: String,
    /// It can be written.
    pub writable: bool,
}

/// Where a mount of a step comes from.
#[derive(Debug, Clone)]
pub enum StepSource {
    /// A file or folder of the builder's own.
    Path(PathBuf),
    /// A path in layers, resolved inside of them; empty is all. What is written goes with the step, unless a layer is made of it
    /// ([`Step::layer_of_mount`]).
    Tree(Option<ChainId>, String),
    /// Memory, with mount options.
    Tmpfs(Vec<String>),
}

/// A step that runs or has run; its container goes with it.
pub struct Step {
    containers: Containers,
    container: Arc<Container>,
    ended: Option<WaitHandle>,
    stubs: Vec<Vec<u8>>,
    /// Output in the API's frames, until taken.
    pub output: Option<UnixStream>,
}

impl Containers {
    /// Starts a step.
    ///
    /// # Errors
    /// What a start of a container fails with; nothing is left then.
    pub async fn run_step(&self, request: StepRequest) -> Result<Step> {
        let containers = self.clone();
        let begun = async move {
            let maker = containers.clone();
            let (container, stubs) = blocking(move || maker.make_step(request)).await?;
            let ended = Some(containers.wait(&container.id, WaitCondition::NextExit)?);
            let mut step = Step { containers, container, ended, stubs, output: None };
            let options = AttachOptions { stdout: true, stderr: true, stream: true, ..AttachOptions::default() };
            step.output = step.containers.attach_stream(&step.container, options).await?;
            step.containers.start_found(&step.container).await?;
            Ok(step)
        };
        // A start that was begun is finished; a caller that has left drops the step, which ends it.
        crate::finish(begun).await
    }

    fn make_step(&self, request: StepRequest) -> Result<(Arc<Container>, Vec<Vec<u8>>)> {
        let StepRequest { mut config, mut host_config, root, platform, mounts } = request;
        super::limits::settle_new(&mut host_config, Abilities::of_host())?;
        host_config.log_config.driver = "none".to_owned();
        defaults::fill_host(&mut host_config, &self.inner.config);
        config.labels.get_or_insert_default();
        if !config.working_dir.is_empty() {
            config.working_dir = clean_rooted(&config.working_dir);
        }
        config.attach_stdout = true;
        config.attach_stderr = true;
        let stubs = self.missing_targets(root.as_ref(), &mounts)?;
        let id = ids::random_id();
        let endpoints = self.endpoints_asked(&CreateRequest::default(), &host_config)?;
        let mut record = Record {
            name: format!("build-{}", &id[..12]),
            chain_id: root,
            config,
            host_config,
            mounts: mounts.into_iter().map(mount_record).collect(),
            endpoints,
            build_step: true,
            // No image: what it is made of is held by the build.
            ..Record::begun(id, Digest::sha256(b"a step of a build"), platform)
        };
        let category = self.choose_labels(&mut record)?;
        if record.argv().is_empty() {
            return Err(Error::invalid("no command specified"));
        }
        self.check_startable(&record)?;
        let folder = self.data_folder(&record.id);
        fs::DirBuilder::new().mode(0o710).create(&folder).context("cannot make the step's folder")?;
        let made = self.make_writable_layer(&record).and_then(|()| {
            record.intent = Intent::None;
            self.write_record(&record)
        });
        if let Err(error) = made {
            // A start clears away what stays: a folder without a record is nobody's.
            let _ = fs::remove_dir_all(&folder);
            return Err(error);
        }
        let container = Arc::new(Container::new(record, folder, category));
        self.insert(Arc::clone(&container));
        Ok((container, stubs))
    }

    /// The places of mounts that the root does not have, each before those it lies in.
    fn missing_targets(&self, root: Option<&ChainId>, mounts: &[StepMount]) -> Result<Vec<Vec<u8>>> {
        if mounts.is_empty() {
            return Ok(Vec::new());
        }
        let view = root.map(|chain| self.inner.store.look_at_layers(chain)).transpose();
        let view = view.context("cannot mount the layers of the step")?;
        let mut missing = Vec::new();
        for mount in mounts {
            let mut path = mount.target.trim_matches('/').as_bytes();
            while !path.is_empty() {
                let is_there = view.as_ref().is_some_and(|view| {
                    ferry_sys::path::resolve_in_root(view, path, OFlags::PATH, Mode::empty()).is_ok()
                });
                if is_there {
                    break;
                }
                if !missing.iter().any(|known| known == path) {
                    missing.push(path.to_vec());
                }
                path = path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |slash| &path[..slash]);
            }
        }
        missing.sort_by_key(|path| std::cmp::Reverse(path.len()));
        Ok(missing)
    }

    /// Where layers go.
    pub(crate) fn images(&self) -> &Images {
        &self.inner.images
    }

    /// Makes a layer of what `upper` in `folder` has beyond `chain`, and puts it on top of that. `exact` when nothing has run there.
    ///
    /// # Errors
    /// When it cannot be read or stored.
    pub(crate) async fn layer_of(&self, folder: PathBuf, chain: Option<ChainId>, exact: bool) -> Result<StoredLayer> {
        let ChangesWork { mut process, below } =
            self.work_on_layer(folder, chain.clone(), Action::Layer { exact }).await?;
        let data = process.take_data()?.into_std().context("cannot take over the layer")?;
        data.set_nonblocking(false).context("cannot take over the layer")?;
        let (images, parent) = (self.inner.images.clone(), chain);
        let taking = blocking(move || images.unpack_new(parent.as_ref(), data));
        // The layer counts only when the one who wrote it says that it is whole. Where it cannot be stored nobody reads on, and the writer
        // dies of that without a word: then the first reason is the one.
        let (taken, done) = tokio::join!(taking, process.done());
        let taken = taken?;
        done?;
        drop((process, below));
        let images = self.inner.images.clone();
        blocking(move || images.publish_new(taken)).await
    }
}

impl Step {
    /// Waits for its end and returns the exit code. A caller that leaves ends it.
    ///
    /// # Errors
    /// Never by itself.
    pub async fn wait(&mut self) -> Result<i64> {
        match self.ended.take() {
            Some(ended) => Ok(ended.finish().await?.status_code),
            None => Ok(i64::from(self.container.with_record(|record| record.exit_code))),
        }
    }

    /// Lets another program run in it, in the same files and with the same mounts, at a terminal; for a step that has ended. Returns the id by
    /// which a client attaches to it and starts it; [`Self::wait`] then waits for the end of that, or for its removal.
    ///
    /// # Errors
    /// When its record cannot be written.
    pub fn hand_over(&mut self, command: Vec<String>) -> Result<String> {
        self.containers.update(&self.container, |record| {
            let config = &mut record.config;
            (config.entrypoint, config.cmd) = (None, Some(command));
            (config.tty, config.attach_stdin, config.open_stdin, config.stdin_once) = (true, true, true, true);
        })?;
        self.ended = Some(self.containers.wait(&self.container.id, WaitCondition::NextExit)?);
        Ok(self.container.id.clone())
    }

    /// Tells whether the memory limit killed it.
    #[must_use]
    pub fn was_killed_for_memory(&self) -> bool {
        self.container.with_record(|record| record.oom_killed)
    }

    /// Makes a layer of what it wrote to its root, on top of what that was made of; for a step that has ended.
    ///
    /// # Errors
    /// When it cannot be read or stored.
    pub async fn layer(&self) -> Result<StoredLayer> {
        let folder = self.containers.data_folder(&self.container.id);
        let (upper, stubs) = (folder.join("upper"), self.stubs.clone());
        blocking(move || remove_stubs(&upper, &stubs)).await?;
        let chain = self.container.with_record(|record| record.chain_id.clone());
        self.containers.layer_of(folder, chain, false).await
    }

    /// Makes a layer of what it wrote to one of its mounts, a [`StepSource::Tree`] counted as they were asked for, on top of what that was
    /// made of; for a step that has ended.
    ///
    /// # Errors
    /// When it cannot be read or stored.
    pub async fn layer_of_mount(&self, place: usize) -> Result<StoredLayer> {
        let folder = image_folder(&self.containers.data_folder(&self.container.id), place);
        let content = self.container.with_record(|record| match record.mounts.get(place).map(|mount| &mount.kind) {
            Some(MountKind::Image { content, .. }) => content.clone(),
            _ => None,
        });
        let content = content.ok_or_else(|| Error::internal("a mount of a step that holds no tree"))?;
        self.containers.layer_of(folder, content.chain_id, false).await
    }

    /// Removes its container; dropping it does the same without telling when it is done.
    pub async fn end(self) {
        let (containers, container) = (self.containers.clone(), Arc::clone(&self.container));
        remove(containers, container).await;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.container.watch().borrow().removed {
            return;
        }
        let (containers, container) = (self.containers.clone(), Arc::clone(&self.container));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(remove(containers, container));
        }
    }
}

async fn remove(containers: Containers, container: Arc<Container>) {
    let options = RemoveOptions { force: true, volumes: true, link: false };
    if let Err(error) = containers.remove_found(&container, options).await {
        tracing::warn!(step = %container.id, error = %error.text(), "step of a build not removed; the next start does it");
    }
}

fn mount_record(mount: StepMount) -> MountRecord {
    // The builder's own files are for every step.
    let mode = if matches!(mount.source, StepSource::Path(_)) { "z" } else { "" };
    let kind = match mount.source {
        StepSource::Path(path) => MountKind::Bind { source: path.display().to_string(), create_source: false },
        StepSource::Tree(chain_id, subpath) => MountKind::Image {
            reference: String::new(),
            content: Some(ImageContent { id: Digest::sha256(b"a tree of a build"), chain_id }),
            subpath: subpath.trim_matches('/').to_owned(),
        },
        StepSource::Tmpfs(options) => MountKind::Tmpfs { options },
    };
    MountRecord {
        kind,
        destination: clean_rooted(&mount.target),
        mode: mode.to_owned(),
        writable: mount.writable,
        propagation: "rprivate".to_owned(),
        non_recursive: false,
        read_only_non_recursive: false,
        read_only_force_recursive: false,
        own: false,
    }
}

/// Removes what was made for mounts and nobody has filled.
fn remove_stubs(upper: &std::path::Path, stubs: &[Vec<u8>]) -> Result<()> {
    if stubs.is_empty() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let upper = rustix::fs::open(upper, flags, Mode::empty()).context("cannot open the step's layer")?;
    for stub in stubs {
        match remove_stub(&upper, stub) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(errno).context("cannot remove the place of a mount"),
        }
    }
    Ok(())
}

fn remove_stub(upper: &OwnedFd, path: &[u8]) -> rustix::io::Result<()> {
    let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b"."[..], path),
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat2(upper.as_fd(), above, flags, Mode::empty(), resolve)?;
    let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR),
        FileType::RegularFile if stat.st_size == 0 => rustix::fs::unlinkat(&folder, name, AtFlags::empty()),
        _ => Ok(()),
    }
}
