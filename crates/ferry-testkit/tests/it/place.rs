//! Where builds are tested: a daemon with busybox, a registry that takes pushes, and a folder for contexts.

use std::path::PathBuf;
use std::sync::Arc;

use ferry_testkit::command::Outcome;
use ferry_testkit::material::Material;
use ferry_testkit::registry::{Auth, Registry, Storage};
use ferry_testkit::{Daemon, Sandbox};

/// See the module.
pub(crate) struct Place {
    pub(crate) daemon: Daemon,
    pub(crate) dir: PathBuf,
    pub(crate) sandbox: Arc<Sandbox>,
    _registry: Registry,
}

impl Place {
    pub(crate) fn start() -> Self {
        let sandbox = Sandbox::new().unwrap();
        let dir = sandbox.dir().to_owned();
        let registry = Registry::writable(&sandbox, &Storage::new(&dir.join("pushed")), Auth::None).unwrap();
        std::fs::create_dir(dir.join("context")).unwrap();
        let daemon = with_busybox(&sandbox, "a");
        Self { daemon, dir, sandbox, _registry: registry }
    }

    /// Starts a daemon beside the first.
    pub(crate) fn another(&self) -> Daemon {
        with_busybox(&self.sandbox, "b")
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Builds the folder `context` and shows how that goes as lines.
    pub(crate) fn show(&self, flags: &[&str]) -> Outcome {
        let context = self.path("context");
        self.daemon.run(&[&["build", "--progress", "plain"], flags, &[&context]].concat())
    }

    /// Builds the folder `context` and returns the image's id.
    pub(crate) fn build(&self, flags: &[&str]) -> String {
        let context = self.path("context");
        self.daemon.run(&[&["build", "-q"], flags, &[&context]].concat()).ok()
    }

    pub(crate) fn read(&self, image: &str, file: &str) -> String {
        self.daemon.run(&["run", "--rm", "--network", "none", image, "cat", file]).ok()
    }
}

fn with_busybox(sandbox: &Arc<Sandbox>, name: &str) -> Daemon {
    let daemon = Daemon::ferry(sandbox, name);
    daemon.start().unwrap();
    daemon.load(&Material::get().busybox());
    daemon
}
