//! Base images: tiny, made here, named as the images that Dockerfiles begin with.
//!
//! Each is busybox and a layer of its own. What stands in for package managers and compilers are shell scripts: they fetch, unpack,
//! note and write as the real ones do, in milliseconds.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::answer::Known;
use crate::image::{Compression, Dialect, Image, Layer};
use crate::material::{self, Material};
use crate::registry::Storage;

/// Base images with their names.
#[derive(Debug)]
pub struct Bases {
    images: Vec<(&'static str, &'static str, Image)>,
}

const APT: &str = include_str!("images/apt-get.sh");
const APK: &str = include_str!("images/apk.sh");
const CC: &str = include_str!("images/cc.sh");
const SCAN: &str = include_str!("images/scan.sh");

impl Bases {
    /// Makes them.
    ///
    /// # Errors
    /// When the material cannot be read.
    pub fn make() -> Result<Self> {
        let base = std::fs::read(Material::get().rootfs()).context("read rootfs.tar")?;
        let of = |config: Value, layer: Layer| {
            Image::build("amd64", &config, vec![base.clone(), layer.into_tar()], Compression::Gzip, Dialect::Oci)
        };
        let plain = |command: &str| json!({"Env": [material::PATH], "Cmd": [command]});
        let alpine = of(
            plain("/bin/sh"),
            release("alpine", "3.20").dir("sbin/", 0o755).file("sbin/apk", 0o755, APK.as_bytes()),
        )?;
        let debian = of(plain("bash"), debian())?;
        let gcc = of(plain("bash"), compilers(debian_and(release("debian", "12"))))?;
        let golang = json!({
            "Env": ["PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "GOLANG_VERSION=1.22.5", "GOTOOLCHAIN=local", "GOPATH=/go"],
            "Cmd": ["bash"], "WorkingDir": "/go",
        });
        let golang = of(golang, compilers(release("alpine", "3.20")).dir("go/", 0o1777))?;
        let node = json!({
            "Env": [material::PATH, "NODE_VERSION=20.15.0", "YARN_VERSION=1.22.22"],
            "Cmd": ["node"], "Entrypoint": ["docker-entrypoint.sh"],
        });
        let node = of(
            node,
            compilers(
                debian_and(release("debian", "12"))
                    .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n")
                    .file("etc/group", 0o644, b"root:x:0:\nnode:x:1000:\n"),
            ),
        )?;
        let triggers = json!({
            "Env": [material::PATH], "Cmd": ["sh"], "WorkingDir": "/usr/src/app",
            "OnBuild": ["ARG NODE_ENV", "ENV NODE_ENV $NODE_ENV", "COPY package.json /usr/src/app/",
                "RUN echo installed >node_modules", "COPY . /usr/src/app"],
        });
        let triggers = of(triggers, release("alpine", "3.20").dir("usr/src/", 0o755).dir("usr/src/app/", 0o755))?;
        let scanner =
            json!({ "Env": [material::PATH], "Entrypoint": ["/bin/sh"], "Cmd": ["/scan"], "WorkingDir": "/etc" });
        let scanner = of(scanner, release("alpine", "3.20").file("scan", 0o755, SCAN.as_bytes()))?;
        Ok(Self {
            images: vec![
                ("busybox", "latest", material::busybox(&base)?),
                ("full", "latest", material::full(&base)?),
                ("alpine", "latest", alpine.clone()),
                ("alpine", "3.20", alpine),
                ("debian", "bookworm-slim", debian),
                ("gcc", "13", gcc),
                ("golang", "1.22-alpine", golang),
                ("node", "20-slim", node),
                ("node", "onbuild", triggers),
                ("scanner", "latest", scanner),
            ],
        })
    }

    /// Puts them into the storage of a registry, with those of several platforms.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn fill(&self, storage: &Storage) -> Result<()> {
        for (name, tag, image) in &self.images {
            storage.put_image(&format!("library/{name}"), Some(tag), image)?;
        }
        Material::get().fill(storage)
    }

    /// Returns an archive of each, for `load`.
    #[must_use]
    pub fn archives(&self) -> Vec<Vec<u8>> {
        self.images.iter().map(|(name, tag, image)| image.archive(&[&format!("{name}:{tag}")])).collect()
    }

    /// Returns their layers.
    #[must_use]
    pub fn known(&self) -> Known {
        let mut known = Known::default();
        for tar in self.images.iter().flat_map(|(.., image)| image.tars()) {
            known.add(tar);
        }
        known
    }
}

fn release(id: &str, version: &str) -> Layer {
    let text = format!("ID={id}\nVERSION_ID={version}\n");
    // Every folder on the way has its entry, so that nothing is left to whoever unpacks.
    let folders = ["bin/", "etc/", "usr/", "usr/bin/", "var/"];
    let layer = folders.iter().fold(Layer::default(), |layer, name| layer.dir(name, 0o755));
    layer.file("etc/os-release", 0o644, text.as_bytes()).symlink("bin/bash", "busybox")
}

fn debian_and(layer: Layer) -> Layer {
    let list = format!("deb http://{}/debian bookworm main\n", super::place::ADDRESS);
    layer
        .dir("etc/apt/", 0o755)
        .file("etc/apt/sources.list", 0o644, list.as_bytes())
        .dir("var/lib/", 0o755)
        .dir("var/lib/apt/", 0o755)
        .dir("var/lib/apt/lists/", 0o755)
        .dir("var/lib/dpkg/", 0o755)
        .file("var/lib/dpkg/status", 0o644, b"")
        .file("usr/bin/apt-get", 0o755, APT.as_bytes())
}

fn debian() -> Layer {
    debian_and(release("debian", "12"))
}

fn compilers(layer: Layer) -> Layer {
    let layer = layer.file("usr/bin/cc", 0o755, CC.as_bytes());
    ["gcc", "go", "npm", "cargo", "javac", "pip"]
        .iter()
        .fold(layer, |layer, name| layer.symlink(&format!("usr/bin/{name}"), "cc"))
}
