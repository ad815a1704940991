//! Contexts as Docker's client stores them: `contexts/meta/<sha256 of the name>/meta.json`.

use std::fs;
use std::path::{Path, PathBuf};

use ferry_client::TlsMaterial;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

mod stored;

pub(crate) use stored::{Whole, check_name, exists, remove};

/// A stored context.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Its metadata file.
    pub(crate) metadata: Value,
    /// The folder of that file.
    pub(crate) folder: PathBuf,
}

/// A context that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    /// There is none of that name.
    #[error("context \"{name}\": context not found: open {path}: {reason}")]
    NotFound { name: String, path: String, reason: String },
    /// Its file is damaged.
    #[error("context \"{name}\": {reason}")]
    Damaged { name: String, reason: String },
}

fn metadata_path(folder: &Path, name: &str) -> PathBuf {
    let digest: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    folder.join("contexts/meta").join(digest).join("meta.json")
}

/// Reads a context.
pub(crate) fn load(folder: &Path, name: &str) -> Result<Stored, ContextError> {
    let path = metadata_path(folder, name);
    let bytes = fs::read(&path).map_err(|error| ContextError::NotFound {
        name: name.to_owned(),
        path: path.display().to_string(),
        reason: reason(&error),
    })?;
    let metadata = serde_json::from_slice(&bytes)
        .map_err(|error| ContextError::Damaged { name: name.to_owned(), reason: error.to_string() })?;
    Ok(Stored { metadata, folder: path.parent().unwrap_or(folder).to_owned() })
}

/// Go's text for the usual cause.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Where the TLS files of a context lie, by where its metadata does.
fn tls_beside(metadata: &Path) -> PathBuf {
    PathBuf::from(metadata.to_string_lossy().replace("/contexts/meta/", "/contexts/tls/"))
}

/// All stored contexts.
pub(crate) fn list(folder: &Path) -> Vec<Stored> {
    let Ok(entries) = fs::read_dir(folder.join("contexts/meta")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let bytes = fs::read(entry.path().join("meta.json")).ok()?;
            Some(Stored { metadata: serde_json::from_slice(&bytes).ok()?, folder: entry.path() })
        })
        .collect()
}

impl Stored {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.metadata["Name"].as_str().unwrap_or_default()
    }

    /// Its description.
    pub(crate) fn description(&self) -> &str {
        self.metadata["Metadata"]["Description"].as_str().unwrap_or_default()
    }

    /// The daemon's address.
    pub(crate) fn host(&self) -> String {
        self.metadata["Endpoints"]["docker"]["Host"].as_str().unwrap_or_default().to_owned()
    }

    /// Where its TLS files are.
    fn tls_folder(&self) -> PathBuf {
        tls_beside(&self.folder)
    }

    /// Its TLS files: endpoint, name and content, sorted.
    fn read_tls(&self) -> std::io::Result<Vec<(String, String, Vec<u8>)>> {
        let mut files = Vec::new();
        for endpoint in fs::read_dir(self.tls_folder()).into_iter().flatten() {
            let endpoint = endpoint?;
            for file in fs::read_dir(endpoint.path())? {
                let file = file?;
                let name = |name: std::ffi::OsString| name.to_string_lossy().into_owned();
                files.push((name(endpoint.file_name()), name(file.file_name()), fs::read(file.path())?));
            }
        }
        files.sort();
        Ok(files)
    }

    /// Its TLS files by the endpoint they are for.
    fn tls_files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.tls_folder().join("docker")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// TLS to its daemon, when it has any.
    pub(crate) fn tls_material(&self) -> std::io::Result<Option<TlsMaterial>> {
        let skip_verify = self.metadata["Endpoints"]["docker"]["SkipTLSVerify"].as_bool().unwrap_or(false);
        let names = self.tls_files();
        if names.is_empty() && !skip_verify {
            return Ok(None);
        }
        let folder = self.tls_folder().join("docker");
        let read =
            |name: &str| names.iter().any(|known| known == name).then(|| fs::read(folder.join(name))).transpose();
        Ok(Some(TlsMaterial { authority: read("ca.pem")?, pair: read("cert.pem")?.zip(read("key.pem")?), skip_verify }))
    }

    /// What `context inspect` shows.
    pub(crate) fn inspect(&self) -> Value {
        let files = self.tls_files();
        let material = if files.is_empty() { json!({}) } else { json!({ "docker": files }) };
        json!({
            "Name": self.metadata["Name"],
            "Metadata": self.metadata["Metadata"],
            "Endpoints": self.metadata["Endpoints"],
            "TLSMaterial": material,
            "Storage": { "MetadataPath": self.folder.to_string_lossy(), "TLSPath": self.tls_folder().to_string_lossy() },
        })
    }
}

/// What `context inspect` shows of the built-in context.
pub(crate) fn inspect_default(host: &str) -> Value {
    json!({
        "Name": "default",
        "Metadata": {},
        "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } },
        "TLSMaterial": {},
        "Storage": { "MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>" },
    })
}

/// Makes a context the one in force, keeping everything else in `config.json`.
pub(crate) fn make_current(folder: &Path, name: &str) -> std::io::Result<()> {
    let path = folder.join("config.json");
    let mut file: Value = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
        Err(error) => return Err(error),
    };
    let Some(object) = file.as_object_mut() else {
        return Err(std::io::Error::other(format!("{} is not a JSON object", path.display())));
    };
    if name == "default" {
        if object.shift_remove("currentContext").is_none() {
            return Ok(());
        }
    } else {
        object.insert("currentContext".to_owned(), json!(name));
    }
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!("config.json{}", std::process::id()));
    let mut text = serde_json::to_string_pretty(&file)?.replace("\n  ", "\n\t");
    while text.contains("\t  ") {
        text = text.replace("\t  ", "\t\t");
    }
    write_private(&temporary, text.as_bytes())?;
    fs::rename(&temporary, &path)
}

/// The file may hold credentials: nobody else reads it.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}
