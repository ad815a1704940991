//! Images for tests, made on this machine from Debian packages and kept outside the git tree.
//!
//! On disk, below [`crate::programs::material_dir`]:
//! ```text
//! <version>/
//!   lock            held while somebody makes material
//!   busybox.tar     archives for `load`
//!   full.tar
//!   registry/       storage of a registry with everything
//!   debian/*.tar    layers of the Debian image, uncompressed
//!   ready           written last
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::image::{Compression, Dialect, Image, Layer, index};
use crate::programs;
use crate::registry::Storage;

/// Raised with every change of what is made here.
const VERSION: &str = "v2";
const DEBIAN_SCRIPT: &str = include_str!("debian-layers.sh");

/// The material, ready to use.
#[derive(Clone, Debug)]
pub struct Material {
    dir: PathBuf,
}

impl Material {
    /// Returns the material, making it first where it is missing (about two minutes, once per machine).
    ///
    /// # Panics
    /// When it cannot be made: nothing can be tested then.
    #[must_use]
    pub fn get() -> &'static Self {
        static MATERIAL: OnceLock<Material> = OnceLock::new();
        MATERIAL.get_or_init(|| Self::prepare().expect("test material can be made"))
    }

    fn prepare() -> Result<Self> {
        let dir = programs::material_dir().join(VERSION);
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let lock = File::create(dir.join("lock")).context("make the lock of the material")?;
        flock(&lock, FlockOperation::LockExclusive).context("lock the material")?;
        let material = Self { dir };
        if !material.dir.join("ready").exists() {
            material.make()?;
            std::fs::write(material.dir.join("ready"), "").context("mark the material as ready")?;
        }
        Ok(material)
    }

    /// Returns the archive of the busybox image, tagged `busybox:latest`.
    #[must_use]
    pub fn busybox(&self) -> PathBuf {
        self.dir.join("busybox.tar")
    }

    /// Returns the archive of `full:latest`: an image whose config uses every common field.
    #[must_use]
    pub fn full(&self) -> PathBuf {
        self.dir.join("full.tar")
    }

    /// Returns the archive of a root file system, for `import`.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs.tar")
    }

    /// Returns the registry's storage. It holds, each below `library/`: `busybox`, `full`,
    /// `debian:12` (gzip), `debian:12-zstd`, `multi` (index of amd64 and arm64), `foreign` (index of
    /// arm64 alone), `hello-world`, and `ten/deep/name/busybox`.
    #[must_use]
    pub fn storage(&self) -> Storage {
        Storage::new(&self.dir.join("registry"))
    }

    /// Puts `library/multi` and `library/foreign` into a storage, as they are in the one of [`Material::storage`].
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn fill(&self, storage: &Storage) -> Result<()> {
        put_multi(storage, &std::fs::read(self.rootfs()).context("read rootfs.tar")?)
    }

    fn make(&self) -> Result<()> {
        let storage = self.storage();
        let base = busybox_layer()?;
        std::fs::write(self.rootfs(), &base).context("write rootfs.tar")?;
        let busybox = busybox(&base)?;
        std::fs::write(self.busybox(), busybox.archive(&["busybox:latest"])).context("write busybox.tar")?;
        storage.put_image("library/busybox", Some("latest"), &busybox)?;
        storage.put_image("ten/deep/name/busybox", Some("1"), &busybox)?;

        let full = full(&base)?;
        std::fs::write(self.full(), full.archive(&["full:latest"])).context("write full.tar")?;
        storage.put_image("library/full", Some("latest"), &full)?;

        put_multi(&storage, &base)?;

        let hello = json!({"Env": [PATH], "Cmd": ["echo", "hello from the registry"]});
        let hello = Image::build("amd64", &hello, vec![base], Compression::Gzip, Dialect::Oci)?;
        storage.put_image("library/hello-world", Some("latest"), &hello)?;

        let debian = debian_layers(&self.dir.join("debian"))?;
        let web = json!({"Env": [PATH], "Cmd": ["bash"], "Labels": {"made-by": "debootstrap"}});
        let gzip = Image::build("amd64", &web, debian.clone(), Compression::Gzip, Dialect::Docker)?;
        storage.put_image("library/debian", Some("12"), &gzip)?;
        let zstd = Image::build("amd64", &web, debian, Compression::Zstd, Dialect::Oci)?;
        storage.put_image("library/debian", Some("12-zstd"), &zstd)
    }
}

/// The image `busybox` over the layer of busybox.
pub(crate) fn busybox(base: &[u8]) -> Result<Image> {
    let plain = json!({"Env": [PATH], "Cmd": ["sh"]});
    Image::build("amd64", &plain, vec![base.to_vec()], Compression::Gzip, Dialect::Docker)
}

/// The image `full` over the layer of busybox.
pub(crate) fn full(base: &[u8]) -> Result<Image> {
    Image::build("amd64", &full_config(), vec![base.to_vec(), full_layer()], Compression::Gzip, Dialect::Oci)
}

/// Images of two platforms, and of a foreign one.
fn put_multi(storage: &Storage, base: &[u8]) -> Result<()> {
    let plain = json!({"Env": [PATH], "Cmd": ["sh"]});
    let arm = Layer::default().dir("bin/", 0o755).file("bin/sh", 0o755, &foreign_program()).into_tar();
    let arm = Image::build("arm64", &plain, vec![arm], Compression::Gzip, Dialect::Oci)?;
    let native = Image::build("amd64", &plain, vec![base.to_vec()], Compression::Gzip, Dialect::Oci)?;
    let both = [&native, &arm];
    storage.put_index("library/multi", "latest", &index(&both, Dialect::Oci), &both)?;
    storage.put_index("library/foreign", "latest", &index(&[&arm], Dialect::Docker), &[&arm])
}

/// The usual search path, as images set it.
pub(crate) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn full_config() -> Value {
    json!({
        "User": "1000:1000",
        "Env": [PATH, "COLOUR=blue"],
        "Entrypoint": ["/entry"],
        "Cmd": ["one", "two words"],
        "WorkingDir": "/srv/here",
        "Volumes": {"/data": {}},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Labels": {"org.example.label": "value"},
        "StopSignal": "SIGINT",
    })
}

fn full_layer() -> Vec<u8> {
    Layer::default()
        .file("entry", 0o755, b"#!/bin/sh\necho \"$# $* uid=$(id -u) pwd=$(pwd) colour=$COLOUR\"\n")
        .dir("data/", 0o777)
        .file("data/seed", 0o644, b"seed\n")
        .file("not-executable", 0o644, b"#!/bin/sh\n")
        .into_tar()
}

/// A file with the head of an ELF program for arm64 and nothing behind it.
fn foreign_program() -> Vec<u8> {
    let mut program = vec![0_u8; 120];
    program[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    program[16] = 2;
    program[18] = 183;
    program[20] = 1;
    program
}

fn busybox_layer() -> Result<Vec<u8>> {
    let path = programs::on_path("busybox").context("busybox is missing: apt-get install busybox-static")?;
    let program = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let listed = Command::new(&path).arg("--list").output().context("ask busybox for its applets")?;
    let mut layer = Layer::default();
    for folder in ["bin/", "etc/", "home/", "root/", "var/", "dev/", "proc/", "sys/", "usr/", "usr/bin/"] {
        layer = layer.dir(folder, 0o755);
    }
    layer = layer
        .dir("tmp/", 0o1777)
        .file("bin/busybox", 0o755, &program)
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000::/home:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nworker:x:1000:\nextra:x:2000:worker\n");
    for applet in String::from_utf8_lossy(&listed.stdout).lines().filter(|name| *name != "busybox") {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    Ok(layer.into_tar())
}

/// Makes the layers of a real Debian with a web server; kept, since debootstrap takes a minute.
fn debian_layers(dir: &Path) -> Result<Vec<Vec<u8>>> {
    if !dir.join("done").exists() {
        std::fs::create_dir_all(dir).context("make the folder of the Debian layers")?;
        let script = dir.join("make.sh");
        std::fs::write(&script, DEBIAN_SCRIPT).context("write the script for the Debian layers")?;
        let log = File::create(dir.join("log")).context("make the log of the Debian layers")?;
        let status = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh"])
            .arg(&script)
            .arg(dir)
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .context("start the script for the Debian layers")?;
        ensure!(status.success(), "the Debian layers were not made: see {}", dir.join("log").display());
    }
    ["base.tar", "web.tar", "odds.tar"]
        .iter()
        .map(|name| std::fs::read(dir.join(name)).with_context(|| format!("read {name}")))
        .collect()
}
