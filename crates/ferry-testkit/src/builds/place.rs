//! Where cases are built: a sandbox with a registry, a web server and a server of git repositories.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::images::Bases;
use crate::registry::{Registry, Storage};
use crate::{Sandbox, command, wait};

/// Where the web server is: the gateway of the default bridge.
pub const ADDRESS: &str = "172.17.0.1:8000";
const SERVED: &str = include_str!("served.sh");

/// See the module.
#[derive(Debug)]
pub struct Place {
    /// Where everything runs.
    pub sandbox: Arc<Sandbox>,
    /// The base images.
    pub bases: Bases,
    _registry: Registry,
    servers: Vec<Child>,
    agent: Child,
}

impl Place {
    /// Starts what is served.
    ///
    /// # Errors
    /// When a server does not come up.
    pub fn start() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let bases = Bases::make()?;
        let storage = Storage::new(&sandbox.dir().join("registry"));
        bases.fill(&storage)?;
        let registry = Registry::start(&sandbox, &storage)?;
        let folder = sandbox.dir().join("served");
        let script = sandbox.dir().join("served.sh");
        std::fs::write(&script, SERVED).context("write the script of what is served")?;
        let _ = sandbox.sh(&format!("sh {} {}", script.display(), folder.display())).ok();
        let start = |program: &str, args: &[&str]| -> Result<Child> {
            let log =
                std::fs::File::create(sandbox.dir().join(format!("{program}.log"))).context("make a server's log")?;
            let mut command = sandbox.command(program);
            command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            command.spawn().with_context(|| format!("start {program}"))
        };
        let (www, git) = (folder.join("www").display().to_string(), folder.join("git").display().to_string());
        let servers = vec![
            start("busybox", &["httpd", "-f", "-p", "0.0.0.0:8000", "-h", &www])?,
            start("git", &["daemon", "--reuseaddr", "--export-all", &format!("--base-path={git}"), &git])?,
        ];
        let agent = start("ssh-agent", &["-D", "-a", "/run/agent.sock"])?;
        for address in ["127.0.0.1:8000", "127.0.0.1:9418"] {
            wait::until("a server to listen", Duration::from_secs(20), || sandbox.connect(address).ok())?;
        }
        let place = Self { sandbox, bases, _registry: registry, servers, agent };
        wait::until("the agent to listen", Duration::from_secs(20), || {
            std::os::unix::net::UnixStream::connect(place.sandbox.host_path("/run/agent.sock")).ok()
        })?;
        Ok(place)
    }

    /// Makes a folder for a case.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let folder = tempfile::Builder::new().prefix(&format!("{name:.24}-")).tempdir_in(self.sandbox.dir());
        Ok(folder.context("make a folder for a case")?.keep())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().chain([&mut self.agent]) {
            command::kill_tree(child.id());
            drop(child.wait());
        }
    }
}
