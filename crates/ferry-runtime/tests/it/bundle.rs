//! A bundle in a temporary folder, and the runtimes to run it with.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ferry_spec::runtime::{
    Capabilities, Linux, LinuxNamespace, LinuxNamespaceKind, LinuxResources, Process, Root, Spec, defaults,
};

const BUSYBOX: &str = "/bin/busybox";

/// Whether real containers can be made here.
pub(crate) fn ready() -> bool {
    let root = rustix::process::geteuid().is_root();
    let cgroups = rustix::fs::access("/sys/fs/cgroup", rustix::fs::Access::WRITE_OK).is_ok();
    let busybox = Path::new(BUSYBOX).exists();
    if root && cgroups && busybox {
        return true;
    }
    let need =
        format!("real containers need root ({root}), cgroups ({cgroups}) and {BUSYBOX} of busybox-static ({busybox})");
    assert!(std::env::var("FERRY_TEST_REQUIRE_ALL").as_deref() != Ok("1"), "{need}");
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    {
        eprintln!("SKIPPED: {need}");
    }
    false
}

/// Whether the host can limit by that controller, on v1 or v2.
pub(crate) fn has_controller(name: &str) -> bool {
    let v2 = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    v2.split_whitespace().any(|known| known == name) || Path::new("/sys/fs/cgroup").join(name).join("tasks").exists()
}

/// ferry's runtime and, where it is installed, runc.
pub(crate) fn runtimes() -> Vec<PathBuf> {
    let mut runtimes = vec![ferry()];
    runtimes.extend(["/usr/sbin/runc", "/usr/bin/runc"].map(PathBuf::from).into_iter().find(|path| path.exists()));
    runtimes
}

pub(crate) fn ferry() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_ferry-runtime"))
}

/// A bundle, a folder for states, and a name nobody else has.
pub(crate) struct Bundle {
    folder: tempfile::TempDir,
    runtime: PathBuf,
    pub(crate) id: String,
    pub(crate) spec: Spec,
}

impl Bundle {
    /// A container with Docker's defaults that runs a shell script.
    pub(crate) fn new(runtime: &Path, script: &str) -> Bundle {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::Builder::new().prefix("ferry-it-").tempdir().unwrap();
        let id = format!("ferry-it-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        make_rootfs(&folder.path().join("rootfs"));
        let spec = spec(script, &id);
        Bundle { folder, runtime: runtime.into(), id, spec }
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }

    /// A path outside of the root file system.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.spec.process.as_mut().unwrap()
    }

    pub(crate) fn linux(&mut self) -> &mut Linux {
        self.spec.linux.as_mut().unwrap()
    }

    pub(crate) fn is_ferry(&self) -> bool {
        self.runtime == ferry()
    }

    /// The command line of the runtime for this bundle.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        std::fs::write(self.folder.path().join("config.json"), serde_json::to_vec(&self.spec).unwrap()).unwrap();
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.beside("states")).args(words).current_dir(self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn call(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Calls, expects success, returns what it said.
    pub(crate) fn succeed(&self, words: &[&str]) -> String {
        let output = self.call(words);
        assert!(output.status.success(), "{:?} {words:?}: {}", self.runtime, text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs the container to its end.
    pub(crate) fn run(&self) -> Output {
        self.call(&["run", &self.id])
    }

    /// Runs the container, expects success, returns what it said.
    pub(crate) fn said(&self) -> String {
        let output = self.run();
        assert!(
            output.status.success(),
            "{:?}: {:?} {} {}",
            self.runtime,
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Makes and starts the container in the background, its streams in files.
    pub(crate) fn start(&self) {
        let out = std::fs::File::create(self.beside("out")).unwrap();
        let mut command = self.command(&["create", &self.id]);
        let status = command.stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
        assert!(status.success(), "create: {}", std::fs::read_to_string(self.beside("out")).unwrap());
        self.succeed(&["start", &self.id]);
    }

    pub(crate) fn status(&self) -> String {
        let state: serde_json::Value = serde_json::from_str(&self.succeed(&["state", &self.id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    /// Whether a cgroup or a state of it is left.
    pub(crate) fn leaves_something(&self) -> bool {
        let states = std::fs::read_dir(self.beside("states")).map_or(0, Iterator::count);
        states != 0 || !cgroup_folders(&self.id).is_empty()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // Most containers have ended and gone by themselves.
        let _ = self.command(&["delete", "--force", &self.id]).output();
        let left = cgroup_folders(&self.id);
        if !std::thread::panicking() {
            assert!(left.is_empty(), "cgroups are left: {left:?}");
        }
    }
}

/// The folders of a cgroup in all hierarchies.
pub(crate) fn cgroup_folders(id: &str) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path().join(id)).collect();
    folders.push(Path::new("/sys/fs/cgroup").join(id));
    folders.retain(|folder| folder.exists());
    folders
}

/// What a program said; without the backslashes that runc's log puts before quotes.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\\\"", "\"")
}

fn make_rootfs(rootfs: &Path) {
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "root"] {
        std::fs::create_dir_all(rootfs.join(folder)).unwrap();
    }
    std::fs::copy(BUSYBOX, rootfs.join("bin/busybox")).unwrap();
    let applets = [
        "cat", "chmod", "echo", "env", "grep", "head", "hostname", "id", "ls", "mkdir", "mknod", "mount", "printf",
        "pwd", "readlink", "sh", "sleep", "stat", "stty", "tail", "test", "touch", "tr", "true", "tty", "umount",
        "unshare", "wc",
    ];
    for applet in applets {
        symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
    std::fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n")
        .unwrap();
    std::fs::write(rootfs.join("etc/group"), "root:x:0:\nweb:x:34:\naudio:x:29:web\n").unwrap();
    std::fs::write(rootfs.join("etc/data"), "not a program\n").unwrap();
    std::fs::write(rootfs.join("bin/garbage"), "\x01\x02\x03").unwrap();
    std::fs::set_permissions(rootfs.join("bin/garbage"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn spec(script: &str, id: &str) -> Spec {
    use LinuxNamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let names = defaults::capabilities();
    Spec {
        oci_version: "1.0.2".into(),
        process: Some(Process {
            args: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: vec![format!("PATH={}", defaults::PATH)],
            cwd: "/".into(),
            capabilities: Some(Capabilities {
                bounding: names.clone(),
                effective: names.clone(),
                permitted: names.clone(),
                ..Capabilities::default()
            }),
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".into(), readonly: false }),
        hostname: Some("inside".into()),
        mounts: defaults::mounts(),
        linux: Some(Linux {
            resources: Some(LinuxResources { devices: defaults::device_rules(), ..LinuxResources::default() }),
            namespaces: [Pid, Ipc, Uts, Mount, Cgroup, Network].map(LinuxNamespace::new).to_vec(),
            seccomp: Some(defaults::seccomp_profile(&names)),
            masked_paths: defaults::masked_paths(),
            readonly_paths: defaults::readonly_paths(),
            cgroups_path: Some(format!("/{id}")),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}
