//! Running a program as a step.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use ferry_api::container::{Config, DeviceRequest, HostConfig};
use ferry_api::stream::{Demultiplexer, StreamKind};
use ferry_engine::ErrorKind;
use ferry_engine::containers::{Step, StepMount, StepRequest, StepSource};
use ferry_engine::workshop::OwnFolder;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

use super::Solve;
use super::mounts::MountInUse;
use super::results::MountResult;
use crate::failure::{Doing, Failure, Result, blocking};
use crate::files::{self, CopyOrder};
use crate::graph::{CopyAction, Exec, Mount, MountKind, NetworkMode, SecretMount, SecurityMode, SshMount, Vertex};
use crate::progress::Begun;
use crate::tree::{BuiltLayer, Layers, Tree};

/// Limits of every step of a build.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// What is asked of the host, such as memory; network, mounts and rights are each step's own.
    pub host_config: HostConfig,
}

/// What a step has for as long as it runs.
#[derive(Default)]
struct Lent {
    mounts: Vec<StepMount>,
    environment: Vec<String>,
    caches: Vec<MountInUse>,
    memory: Option<OwnFolder>,
    agents: Vec<Agent>,
    /// Mounts whose trees are results.
    results: Vec<MountResult>,
}

/// A socket that leads to the client's SSH agent.
struct Agent(tokio::task::JoinHandle<()>);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Solve {
    pub(super) async fn exec(
        self: &Arc<Self>,
        exec: &Exec,
        vertex: &Vertex,
        inputs: &[Tree],
        begun: &Begun,
    ) -> Result<Vec<Layers>> {
        self.check_allowed(exec)?;
        let root = exec.mounts.iter().find(|mount| mount.target == "/");
        let root = root.ok_or_else(|| Failure::invalid("a step without a mount at /"))?;
        let base = match root.input {
            Some(place) => self.layers(&inputs[place]).await?,
            None => Layers::default(),
        };
        let mut lent = Lent::default();
        for mount in exec.mounts.iter().filter(|mount| mount.target != "/") {
            self.lend(mount, exec, inputs, &mut lent, begun).await?;
        }
        for (path, target, read_only) in &self.options.volumes {
            lent.mounts.push(StepMount {
                source: StepSource::Path(path.clone()),
                target: target.clone(),
                writable: !read_only,
            });
        }
        for secret in &exec.secret_env {
            match self.options.session.secret(&secret.id).await? {
                Some(value) => {
                    let value = String::from_utf8(value)
                        .map_err(|_| Failure::invalid(format!("secret {} is no text", secret.id)))?;
                    lent.environment.push(format!("{}={value}", secret.name));
                }
                None if secret.optional => {}
                None => return Err(Failure::invalid(format!("secret {}: not found", secret.id))),
            }
        }
        let devices = self.devices(exec).await?;
        let request = self.step_request(exec, vertex, &base, devices, &mut lent);
        let mut step = self.ground.engine.workshop.run(request).await.map_err(|error| start_failed(&error, exec))?;
        let code = follow(&mut step, begun).await?;
        if let Err(failure) = self.judge(code, exec, &step) {
            self.show_failed(&exec.args, &mut step, &failure).await;
            return Err(failure);
        }
        let mut outputs = vec![Layers::default(); exec.outputs()];
        if let Some(output) = root.output {
            outputs[output] = base.with(BuiltLayer::made_now(step.layer().await?));
        }
        for result in &lent.results {
            outputs[result.output] = result.take(&step).await?;
        }
        step.end().await;
        drop(lent);
        Ok(outputs)
    }

    fn check_allowed(&self, exec: &Exec) -> Result<()> {
        if exec.network == NetworkMode::Host && !self.options.allow_host_network {
            return Err(Failure::new(ErrorKind::Forbidden, "granting entitlement network.host is not allowed"));
        }
        if exec.security == SecurityMode::Insecure && !self.options.allow_insecure {
            return Err(Failure::new(ErrorKind::Forbidden, "granting entitlement security.insecure is not allowed"));
        }
        Ok(())
    }

    /// The devices that a step asks for; those it can be without are left out where they are not here.
    async fn devices(&self, exec: &Exec) -> Result<Vec<String>> {
        if exec.devices.is_empty() {
            return Ok(Vec::new());
        }
        let workshop = self.ground.engine.workshop.clone();
        let known = blocking(move || Ok(workshop.device_names())).await?;
        self.options.devices.choose(&exec.devices, &known).map_err(|failure| match failure.kind {
            ErrorKind::InvalidArgument => {
                let (command, why) = (exec.args.join(" "), failure.message);
                let text = "did not complete successfully: CDI device injection failed";
                Failure::invalid(format!("process {command:?} {text}: {why}"))
            }
            _ => failure,
        })
    }

    fn step_request(
        &self,
        exec: &Exec,
        vertex: &Vertex,
        base: &Layers,
        devices: Vec<String>,
        lent: &mut Lent,
    ) -> StepRequest {
        let mut env = exec.env.clone();
        env.extend(exec.proxy.iter().flat_map(proxy_variables));
        env.append(&mut lent.environment);
        let has_agent = exec.mounts.iter().find(|mount| matches!(mount.kind, MountKind::Ssh(_)));
        if let Some(agent) = has_agent.filter(|_| !env.iter().any(|variable| variable.starts_with("SSH_AUTH_SOCK="))) {
            env.push(format!("SSH_AUTH_SOCK={}", agent.target));
        }
        let hostname = if exec.hostname.is_empty() { "buildkitsandbox" } else { &exec.hostname };
        let mut host = self.options.limits.host_config.clone();
        host.network_mode = match exec.network {
            NetworkMode::Sandbox if host.network_mode.is_empty() => "default".to_owned(),
            NetworkMode::Sandbox => host.network_mode,
            NetworkMode::Host => "host".to_owned(),
            NetworkMode::None => "none".to_owned(),
        };
        if !devices.is_empty() {
            let request =
                DeviceRequest { driver: "cdi".to_owned(), device_ids: Some(devices), ..DeviceRequest::default() };
            host.device_requests.get_or_insert_default().push(request);
        }
        host.privileged = exec.security == SecurityMode::Insecure;
        host.extra_hosts
            .get_or_insert_default()
            .extend(exec.extra_hosts.iter().map(|entry| format!("{}:{}", entry.host, entry.ip)));
        host.ulimits.get_or_insert_default().extend(exec.ulimits.iter().cloned());
        if !exec.cgroup_parent.is_empty() {
            host.cgroup_parent.clone_from(&exec.cgroup_parent);
        }
        if exec.shm_size_bytes > 0 {
            host.shm_size = i64::try_from(exec.shm_size_bytes).unwrap_or(i64::MAX);
        }
        StepRequest {
            config: Config {
                hostname: hostname.to_owned(),
                user: exec.user.clone(),
                env: Some(env),
                cmd: Some(exec.args.clone()),
                working_dir: exec.cwd.clone(),
                ..Config::default()
            },
            host_config: host,
            root: base.chain(),
            platform: vertex.platform.clone().unwrap_or_else(ferry_spec::Platform::host),
            mounts: std::mem::take(&mut lent.mounts),
        }
    }

    async fn lend(
        self: &Arc<Self>,
        mount: &Mount,
        exec: &Exec,
        inputs: &[Tree],
        lent: &mut Lent,
        begun: &Begun,
    ) -> Result<()> {
        let target = ferry_spec::path::clean_rooted(&mount.target);
        let source = match &mount.kind {
            MountKind::Bind => self.bind_source(mount, inputs, lent).await?,
            MountKind::Cache(_) => {
                if let (Some(output), Some(place)) = (mount.output, mount.input) {
                    let base = self.layers(&inputs[place]).await?;
                    lent.results.push(MountResult::unchanged(output, base));
                }
                StepSource::Path(self.cache_folder(mount, exec, inputs, lent, begun).await?)
            }
            MountKind::Tmpfs(tmpfs) => StepSource::Tmpfs(match tmpfs.size_bytes {
                0 => vec!["nosuid".to_owned()],
                size => vec!["nosuid".to_owned(), format!("size={size}")],
            }),
            MountKind::Secret(secret) => match self.secret_file(secret, lent).await? {
                Some(path) => StepSource::Path(path),
                None => return Ok(()),
            },
            MountKind::Ssh(ssh) => match self.agent_socket(ssh, lent).await? {
                Some(path) => StepSource::Path(path),
                None => return Ok(()),
            },
        };
        // A socket is spoken to, whatever its mount says.
        let writable = !mount.read_only && !matches!(mount.kind, MountKind::Secret(_));
        lent.mounts.push(StepMount { source, target, writable });
        Ok(())
    }

    async fn bind_source(&self, mount: &Mount, inputs: &[Tree], lent: &mut Lent) -> Result<StepSource> {
        let tree = mount.input.map(|place| inputs[place].clone()).unwrap_or_default();
        if let (Tree::Folder(folder), true, None) = (&tree, mount.read_only, mount.output) {
            let (folder, selector) = (Arc::clone(folder), mount.selector.clone());
            return Ok(StepSource::Path(blocking(move || folder.host_path(&selector)).await?));
        }
        let layers = self.layers(&tree).await?;
        let source = StepSource::Tree(layers.chain(), files::clean(&mount.selector));
        if let Some(output) = mount.output {
            lent.results.push(match mount.read_only {
                true => MountResult::unchanged(output, layers),
                false => MountResult::changed(output, layers, lent.mounts.len()),
            });
        }
        Ok(source)
    }

    /// The folder of a cache mount, filled from the tree that it begins with when it is new.
    async fn cache_folder(
        &self,
        mount: &Mount,
        exec: &Exec,
        inputs: &[Tree],
        lent: &mut Lent,
        begun: &Begun,
    ) -> Result<PathBuf> {
        let MountKind::Cache(cache) = &mount.kind else { return Err(Failure::internal("no cache mount")) };
        let id = if cache.id.is_empty() { mount.target.as_str() } else { cache.id.as_str() };
        // One that begins with a tree is another for every tree.
        let id = match mount.input {
            Some(place) => &format!("{id}:{}", inputs[place].identity()?),
            None => id,
        };
        let workshop = self.ground.engine.workshop.clone();
        let description = format!("cached mount {} from exec {}", mount.target, exec.args.join(" "));
        let mut taken = self.ground.cache_mounts.take(workshop.folder(), id, cache.sharing, &description).await?;
        let data = taken.data();
        if let (Some(place), true) = (mount.input, taken.is_new()) {
            let (tree, selector, data) = (inputs[place].clone(), mount.selector.clone(), data.clone());
            blocking(move || {
                let source = tree.open(&workshop)?;
                let target = fs::File::open(&data).doing("cannot open a cache mount")?;
                fill(source.as_fd(), target.as_fd(), &selector)
            })
            .await?;
        }
        if taken.is_new() && mount.input.is_none() {
            self.fill_from_elsewhere(id, &data, begun).await?;
        }
        taken.is_filled()?;
        lent.caches.push(taken);
        Ok(data)
    }

    /// Puts into a new cache mount what a cache from elsewhere has for it.
    async fn fill_from_elsewhere(&self, id: &str, data: &std::path::Path, begun: &Begun) -> Result<()> {
        let images = self.ground.engine.images.clone();
        let Some(blob) = self.options.imports.mount(&images, id, begun).await? else { return Ok(()) };
        let data = data.to_owned();
        blocking(move || blob.unpack(&images, &data)).await
    }

    async fn secret_file(&self, secret: &SecretMount, lent: &mut Lent) -> Result<Option<PathBuf>> {
        let Some(value) = self.options.session.secret(&secret.id).await? else {
            return match secret.optional {
                true => Ok(None),
                false => Err(Failure::invalid(format!("secret {}: not found", secret.id))),
            };
        };
        let path = self.memory(lent).await?.join(format!("secret-{}", lent.mounts.len()));
        let (uid, gid, mode) = (secret.uid, secret.gid, secret.mode);
        let written = path.clone();
        blocking(move || {
            fs::write(&written, value).doing("cannot lend a secret")?;
            std::os::unix::fs::chown(&written, Some(uid), Some(gid)).doing("cannot lend a secret")?;
            fs::set_permissions(&written, fs::Permissions::from_mode(mode & 0o777)).doing("cannot lend a secret")
        })
        .await?;
        Ok(Some(path))
    }

    async fn agent_socket(self: &Arc<Self>, ssh: &SshMount, lent: &mut Lent) -> Result<Option<PathBuf>> {
        let id = if ssh.id.is_empty() { "default" } else { ssh.id.as_str() };
        if !self.options.session.has_agent(id).await? {
            return match (ssh.optional, self.options.session.lends_agents().await?) {
                (true, _) => Ok(None),
                (false, true) => Err(Failure::invalid(format!("unset ssh forward key {id}"))),
                (false, false) => Err(Failure::invalid(format!("no SSH key {:?} forwarded from the client", ssh.id))),
            };
        }
        let folder = self.memory(lent).await?;
        let below = folder.join(format!("agent-{}", lent.mounts.len()));
        fs::DirBuilder::new().mode(0o711).create(&below).doing("cannot lend an agent")?;
        let path = below.join("socket");
        let listener = UnixListener::bind(&path).doing("cannot lend an agent")?;
        std::os::unix::fs::chown(&path, Some(ssh.uid), Some(ssh.gid)).doing("cannot lend an agent")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(ssh.mode & 0o777)).doing("cannot lend an agent")?;
        let (session, id) = (self.options.session.clone(), id.to_owned());
        lent.agents.push(Agent(tokio::spawn(async move {
            let mut talks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (session, id) = (session.clone(), id.clone());
                talks.spawn(async move { forward(&session, &id, stream).await });
            }
        })));
        Ok(Some(path))
    }

    /// A folder in memory for this step.
    async fn memory(&self, lent: &mut Lent) -> Result<PathBuf> {
        if lent.memory.is_none() {
            let workshop = self.ground.engine.workshop.clone();
            lent.memory = Some(blocking(move || Ok(workshop.secret_folder()?)).await?);
        }
        lent.memory
            .as_ref()
            .map(|folder| folder.path().to_owned())
            .ok_or_else(|| Failure::internal("no folder in memory"))
    }

    fn judge(&self, code: i64, exec: &Exec, step: &Step) -> Result<()> {
        let is_fine = match exec.valid_exit_codes.as_slice() {
            [] => code == 0,
            valid => valid.iter().any(|valid| i64::from(*valid) == code),
        };
        if is_fine {
            return Ok(());
        }
        let command = exec.args.join(" ");
        let memory = if step.was_killed_for_memory() { ": cannot allocate memory" } else { "" };
        let message = format!("process {command:?} did not complete successfully: exit code: {code}{memory}");
        Err(Failure { exit_code: Some(code), command: exec.args.clone(), ..Failure::internal(message) })
    }
}

async fn forward(session: &crate::session::Session, id: &str, stream: UnixStream) {
    if let Err(failure) = session.agent(id, stream).await {
        tracing::debug!(error = %failure, "SSH agent of a build not reached");
    }
}

/// Copies what a cache mount begins with; a directory's looks become the mount's.
fn fill(source: std::os::fd::BorrowedFd<'_>, target: std::os::fd::BorrowedFd<'_>, selector: &str) -> Result<()> {
    let path = files::plain(source, selector, true)?;
    let flags = rustix::fs::OFlags::PATH;
    let there = ferry_sys::path::resolve_in_root(
        source,
        if path.is_empty() { &b"."[..] } else { &path[..] },
        flags,
        rustix::fs::Mode::empty(),
    );
    let there = there.doing(format!("cannot find {selector}"))?;
    let stat = rustix::fs::fstat(&there).doing(format!("cannot look at {selector}"))?;
    let action = CopyAction {
        source: selector.to_owned(),
        target: "/".to_owned(),
        copy_dir_contents: true,
        create_target_path: true,
        ..CopyAction::default()
    };
    files::copy(source, target, &CopyOrder::new(&action, None)?)?;
    rustix::fs::fchown(
        target,
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
    )
    .and_then(|()| rustix::fs::fchmod(target, rustix::fs::Mode::from_raw_mode(stat.st_mode & 0o7777)))
    .doing("cannot prepare a cache mount")
}

/// Tells what a step writes until it ends; returns its exit code.
async fn follow(step: &mut Step, begun: &Begun) -> Result<i64> {
    if let Some(mut output) = step.output.take() {
        let mut frames = Demultiplexer::new();
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match output.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    let told = frames.push(&buffer[..read], |kind, bytes| {
                        let stream = if matches!(kind, StreamKind::Stderr) { 2 } else { 1 };
                        begun.log(stream, bytes);
                    });
                    if told.is_err() {
                        break;
                    }
                }
            }
        }
    }
    Ok(step.wait().await?)
}

fn start_failed(error: &ferry_engine::Error, exec: &Exec) -> Failure {
    let command = exec.args.join(" ");
    let message = format!("process {command:?} did not complete successfully: {}", error.text());
    Failure { command: exec.args.clone(), ..Failure::new(error.kind(), message) }
}

fn proxy_variables(proxy: &crate::graph::ProxyEnvironment) -> Vec<String> {
    let pairs = [
        ("HTTP_PROXY", &proxy.http_proxy),
        ("HTTPS_PROXY", &proxy.https_proxy),
        ("FTP_PROXY", &proxy.ftp_proxy),
        ("NO_PROXY", &proxy.no_proxy),
        ("ALL_PROXY", &proxy.all_proxy),
    ];
    let set = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    set.flat_map(|(name, value)| [format!("{name}={value}"), format!("{}={value}", name.to_lowercase())]).collect()
}
