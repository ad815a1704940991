//! A real registry (Debian's `docker-registry`) with content placed straight into its storage.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::image::{Blob, Image};
use crate::{Sandbox, wait};

/// The registry's storage folder, in the layout of the distribution project's file system driver.
#[derive(Clone, Debug)]
pub struct Storage {
    root: PathBuf,
}

impl Storage {
    /// Names a folder; it is made on the first write.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Returns the folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the file of a blob's bytes.
    #[must_use]
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.root.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.root.join("docker/registry/v2/repositories").join(name)
    }

    fn put_blob(&self, blob: &Blob) -> Result<()> {
        write(&self.blob_path(&blob.digest()), &blob.bytes)
    }

    fn put_manifest(&self, name: &str, tag: Option<&str>, manifest: &Blob) -> Result<()> {
        self.put_blob(manifest)?;
        let digest = manifest.digest();
        let manifests = self.repository(name).join("_manifests");
        let hex = &digest[7..];
        write(&manifests.join("revisions/sha256").join(hex).join("link"), digest.as_bytes())?;
        if let Some(tag) = tag {
            let folder = manifests.join("tags").join(tag);
            write(&folder.join("current/link"), digest.as_bytes())?;
            write(&folder.join("index/sha256").join(hex).join("link"), digest.as_bytes())?;
        }
        Ok(())
    }

    /// Places an image under `name:tag` (or without a tag, as part of an index).
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn put_image(&self, name: &str, tag: Option<&str>, image: &Image) -> Result<()> {
        for blob in image.layers.iter().chain([&image.config]) {
            self.put_blob(blob)?;
            let digest = blob.digest();
            let link = self.repository(name).join("_layers/sha256").join(&digest[7..]).join("link");
            write(&link, digest.as_bytes())?;
        }
        self.put_manifest(name, tag, &image.manifest)
    }

    /// Places an index with its images under `name:tag`.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn put_index(&self, name: &str, tag: &str, index: &Blob, images: &[&Image]) -> Result<()> {
        for image in images {
            self.put_image(name, None, image)?;
        }
        self.put_manifest(name, Some(tag), index)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

/// Whom a registry lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Everybody.
    None,
    /// The user `tester` with the password `secret`.
    Basic,
    /// Whoever brings a token for the service `test` of the issuer `issuer`.
    Token {
        /// Where tokens are to be had.
        realm: String,
        /// Certificate of the key that signs them.
        certificate: PathBuf,
    },
}

/// `tester:secret` in the form of `htpasswd -B`.
const HTPASSWD: &str = "tester:$2y$04$9A/t4ljPx.EKqtRHdUxUnuaCUtSHMK0UTJDtvif41QV/uHRI3ttQm\n";

/// TLS of a registry, as PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What it shows.
    pub certificate: PathBuf,
    /// The key of that.
    pub key: PathBuf,
    /// Whose certificates its clients must have, if they need one.
    pub client_authority: Option<PathBuf>,
}

/// How a registry serves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub address: String,
    /// Whether it refuses pushes.
    pub read_only: bool,
    /// Whom it lets in.
    pub auth: Auth,
    /// Its TLS, if it speaks that.
    pub tls: Option<Tls>,
}

/// A registry serving in a sandbox.
#[derive(Debug)]
pub struct Registry {
    child: std::process::Child,
}

/// Where the registry of a sandbox listens unless it is told.
pub const ADDRESS: &str = "127.0.0.1:5000";

impl Registry {
    /// Starts a registry over `storage`, read only.
    ///
    /// # Errors
    /// When the program is missing or does not listen in time.
    pub fn start(sandbox: &Arc<Sandbox>, storage: &Storage) -> Result<Self> {
        let settings = Settings { address: ADDRESS.to_owned(), read_only: true, auth: Auth::None, tls: None };
        Self::serve(sandbox, storage, &settings)
    }

    /// Starts a registry over `storage` that takes pushes.
    ///
    /// # Errors
    /// When the program is missing or does not listen in time.
    pub fn writable(sandbox: &Arc<Sandbox>, storage: &Storage, auth: Auth) -> Result<Self> {
        Self::serve(sandbox, storage, &Settings { address: ADDRESS.to_owned(), read_only: false, auth, tls: None })
    }

    /// Starts a registry over `storage`.
    ///
    /// # Errors
    /// When the program is missing or does not listen in time.
    pub fn serve(sandbox: &Arc<Sandbox>, storage: &Storage, settings: &Settings) -> Result<Self> {
        let name = settings.address.replace(':', "-");
        let file = |ending: &str| sandbox.dir().join(format!("registry-{name}.{ending}"));
        std::fs::write(file("yml"), configuration(storage, settings, &file("users"))?)
            .context("write the registry's configuration")?;
        let log = std::fs::File::create(file("log")).context("make the registry's log")?;
        let mut command = sandbox.command("docker-registry");
        command.arg("serve").arg(file("yml")).stdin(std::process::Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("start docker-registry")?;
        let address = settings.address.as_str();
        wait::until("the registry to listen", Duration::from_secs(20), || sandbox.connect(address).ok())?;
        Ok(Self { child })
    }
}

fn configuration(storage: &Storage, settings: &Settings, users: &Path) -> Result<String> {
    let Settings { address, read_only, auth, tls } = settings;
    let tls = match tls {
        None => String::new(),
        Some(tls) => {
            let clients = tls.client_authority.iter().map(|path| format!(", clientcas: [{}]", path.display()));
            let (certificate, key) = (tls.certificate.display(), tls.key.display());
            format!(", tls: {{certificate: {certificate}, key: {key}{}}}", clients.collect::<String>())
        }
    };
    let auth = match auth {
        Auth::None => String::new(),
        Auth::Basic => {
            std::fs::write(users, HTPASSWD).context("write the registry's users")?;
            format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display())
        }
        Auth::Token { realm, certificate } => format!(
            "auth: {{token: {{realm: '{realm}', service: test, issuer: issuer, rootcertbundle: {}}}}}\n",
            certificate.display()
        ),
    };
    Ok(format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
         maintenance: {{readonly: {{enabled: {read_only}}}, uploadpurging: {{enabled: false}}}}\nhttp: {{addr: '{address}', secret: x{tls}}}\n{auth}",
        storage.root.display()
    ))
}

impl Drop for Registry {
    fn drop(&mut self) {
        crate::command::kill_tree(self.child.id());
        drop(self.child.wait());
    }
}
