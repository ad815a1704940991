//! Engines that the table of command lines is run on: real Docker daemons, and ferry in their place.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::daemon::Daemon;
use crate::differential::normalise::Places;
use crate::differential::record::Oracle;
use crate::differential::request::Api;
use crate::differential::run::Runner;
use crate::material::Material;
use crate::registry::{Auth, Registry, Storage};
use crate::strip::{self, Strip};
use crate::{Sandbox, command, programs, wait};

/// API version that the older oracle speaks at most.
pub const OLDER_API: &str = "1.41";
/// What stands before paths of requests at the older and the newest oracle.
const PREFIXES: [&str; 2] = ["/v1.41", "/v1.55"];

/// A daemon with the images of the table, and the client that talks to it.
#[derive(Debug)]
pub struct Engine {
    daemon: Daemon,
    /// The client's program.
    program: PathBuf,
    /// Line that defines `docker` for a shell.
    client: String,
    says_ferry: bool,
    older: bool,
    companion: Option<Child>,
    /// Where cases push to and pull from.
    registry: Option<Registry>,
}

impl Engine {
    /// Starts the distribution's dockerd, spoken to by the Docker CLI.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn older(dockerd: PathBuf, material: &Material) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let daemon = Daemon::new(&sandbox, "o", dockerd);
        Self::with_docker_cli(daemon, true, None, material)
    }

    /// Starts the newest Docker out of a folder with `dockerd`, `containerd`, its shim and `runc`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn newest(folder: &Path, material: &Material) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let containerd = containerd(&sandbox, folder)?;
        let daemon = Daemon::new(&sandbox, "n", folder.join("dockerd"))
            .args(&["--containerd", "/run/containerd.sock"])
            .env("PATH", &format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display()));
        Self::with_docker_cli(daemon, false, Some(containerd), material)
    }

    /// Starts ferryd, spoken to by the Docker CLI at the older or newest API version.
    ///
    /// # Errors
    /// When it does not come up or there is no Docker CLI.
    pub fn ferry_by_docker(older: bool, material: &Material) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        Self::with_docker_cli(Daemon::ferry(&sandbox, "f"), older, None, material)
    }

    /// Starts ferryd, spoken to by `ferry`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn ferry_by_ferry(material: &Material) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let ferry = programs::binary("ferry")?;
        let daemon = Daemon::ferry(&sandbox, "f");
        Self {
            daemon,
            client: client(&ferry),
            program: ferry,
            says_ferry: true,
            older: false,
            companion: None,
            registry: None,
        }
        .started(material)
    }

    fn with_docker_cli(daemon: Daemon, older: bool, companion: Option<Child>, material: &Material) -> Result<Self> {
        let docker = programs::docker().context("there is no Docker CLI")?;
        Self { daemon, client: client(&docker), program: docker, says_ferry: false, older, companion, registry: None }
            .started(material)
    }

    fn started(mut self, material: &Material) -> Result<Self> {
        let sandbox = self.daemon.sandbox();
        let storage = Storage::new(&sandbox.dir().join("registry"));
        material.fill(&storage)?;
        self.registry = Some(Registry::writable(sandbox, &storage, Auth::None)?);
        self.daemon.start()?;
        self.load(material)?;
        Ok(self)
    }

    /// Loads the images that every case begins with, where they are gone.
    ///
    /// # Errors
    /// When they are not taken.
    pub fn load_images(&self) -> Result<()> {
        let line = format!("{}\ndocker image inspect busybox full >/dev/null 2>&1", self.client);
        if command::run(self.shell(&line))?.code == 0 { Ok(()) } else { self.load(Material::get()) }
    }

    fn load(&self, material: &Material) -> Result<()> {
        for archive in [material.busybox(), material.full()] {
            let line = format!("{}\ndocker load -q -i {}", self.client, archive.display());
            let loaded = command::run(self.shell(&line))?;
            anyhow::ensure!(loaded.code == 0, "cannot load an image: {loaded}\n{}", self.daemon.log());
        }
        Ok(())
    }

    fn shell(&self, line: &str) -> std::process::Command {
        let mut shell = self.daemon.client("sh");
        self.api(&mut shell);
        shell.args(["-c", line]);
        shell
    }

    fn api(&self, shell: &mut std::process::Command) {
        if self.older {
            shell.env("DOCKER_API_VERSION", OLDER_API);
        }
    }

    /// Returns the daemon.
    #[must_use]
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Says whether this is the older oracle's place.
    #[must_use]
    pub fn is_older(&self) -> bool {
        self.older
    }

    /// Tells who answers.
    #[must_use]
    pub fn oracle(&self) -> Oracle {
        let ask = |template: &str| {
            let line = format!("{}\ndocker version --format '{template}'", self.client);
            command::run(self.shell(&line)).map(|outcome| outcome.out().trim().to_owned()).unwrap_or_default()
        };
        Oracle {
            server: ask("{{.Server.Version}}"),
            client: ask("{{.Client.Version}}"),
            api: ask("{{.Client.APIVersion}}"),
        }
    }

    /// Returns what runs cases on this engine with something taken away.
    ///
    /// # Errors
    /// When the program that does it is not built.
    pub fn runner_without(&self, strip: &Strip) -> Result<Runner<'_>> {
        let mut runner = self.runner();
        if let Some(before) = strip::program(Some(strip))? {
            runner.client = format!(
                "docker() {{ {}='{strip}' '{}' '{}' \"$@\"; }}",
                strip::VARIABLE,
                before.display(),
                self.program.display()
            );
        }
        runner.strip = Some(strip.clone());
        Ok(runner)
    }

    /// Returns what runs cases on this engine.
    #[must_use]
    pub fn runner(&self) -> Runner<'_> {
        let replacements = vec![
            (self.daemon.data_root().display().to_string(), "<root>"),
            (self.daemon.host(), "<host>"),
            (self.daemon.exec_root().display().to_string(), "<exec>"),
            (self.daemon.sandbox().dir().display().to_string(), "<home>"),
        ];
        Runner {
            shell: Box::new(|| {
                let mut shell = self.daemon.client("sh");
                self.api(&mut shell);
                shell
            }),
            client: self.client.clone(),
            cleaner: self.client.clone(),
            says_ferry: self.says_ferry,
            places: Places { replacements },
            api: Some(Api {
                socket: self.daemon.socket(),
                prefix: PREFIXES[usize::from(!self.older)],
                folder: self.daemon.sandbox().dir().to_owned(),
            }),
            strip: None,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(mut child) = self.companion.take() {
            command::kill_tree(child.id());
            drop(child.wait());
        }
    }
}

fn client(program: &Path) -> String {
    format!("docker() {{ '{}' \"$@\"; }}", program.display())
}

fn containerd(sandbox: &Arc<Sandbox>, folder: &Path) -> Result<Child> {
    let config = sandbox.dir().join("containerd.toml");
    let text = format!(
        "version = 3\nroot = '{}'\nstate = '/run/containerd'\ndisabled_plugins = ['io.containerd.grpc.v1.cri', \
         'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime']\n[grpc]\naddress = '/run/containerd.sock'\n",
        sandbox.dir().join("containerd").display()
    );
    std::fs::write(&config, text).context("write containerd's configuration")?;
    let log = std::fs::File::create(sandbox.dir().join("containerd.log")).context("make containerd's log")?;
    let mut command = sandbox.command(folder.join("containerd"));
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display()));
    command.arg("-c").arg(config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = command.spawn().context("start containerd")?;
    let socket = sandbox.host_path("/run/containerd.sock");
    wait::until("containerd to listen", Duration::from_secs(20), || {
        std::os::unix::net::UnixStream::connect(&socket).ok()
    })?;
    Ok(child)
}
