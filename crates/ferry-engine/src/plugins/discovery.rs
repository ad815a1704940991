//! Plugins that were put beside the daemon: by a socket, or by a file that names an address.
//!
//! ```text
//! /run/docker/plugins/NAME.sock             or NAME/NAME.sock
//! /etc/docker/plugins/NAME.spec, NAME.json  or NAME/NAME.spec, …
//! /usr/lib/docker/plugins/                  likewise
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::transport::{Address, TlsFiles};

/// Folders that are looked into.
#[derive(Debug, Clone)]
pub(super) struct Places {
    sockets: PathBuf,
    files: Vec<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            sockets: "/run/docker/plugins".into(),
            files: vec!["/etc/docker/plugins".into(), "/usr/lib/docker/plugins".into()],
        }
    }
}

/// The `.json` of a plugin.
#[derive(Deserialize)]
struct JsonFile {
    #[serde(rename = "Addr", default)]
    address: String,
    #[serde(rename = "TLSConfig", default)]
    tls: Option<TlsFiles>,
}

impl Places {
    /// Where the plugin of that name listens; `None` when there is none of that name.
    pub(super) fn find(&self, name: &str) -> Option<Result<Address, String>> {
        if !is_file_name(name) {
            return None;
        }
        let socket = both(&self.sockets, name, "sock").into_iter().find(|path| is_socket(path));
        if let Some(socket) = socket {
            return Some(Ok(Address::Unix(socket)));
        }
        for folder in &self.files {
            for ending in ["spec", "json"] {
                if let Some(path) = both(folder, name, ending).into_iter().find(|path| path.exists()) {
                    return Some(read(&path));
                }
            }
        }
        None
    }

    /// The names of all.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (folder, endings) in [(&self.sockets, &["sock"][..])]
            .into_iter()
            .chain(self.files.iter().map(|folder| (folder, &["spec", "json"][..])))
        {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
                let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
                let inside = || endings.iter().any(|ending| path.join(format!("{stem}.{ending}")).exists());
                if endings.contains(&ending) || (path.is_dir() && inside()) {
                    names.insert(stem.to_owned());
                }
            }
        }
        names.retain(|name| self.find(name).is_some());
        names
    }
}

/// A name is part of a path, and must not be more than that.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.contains(['/', '\0']) && !matches!(name, "." | "..")
}

fn both(folder: &Path, name: &str, ending: &str) -> [PathBuf; 2] {
    let file = format!("{name}.{ending}");
    [folder.join(&file), folder.join(name).join(file)]
}

fn is_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn read(path: &Path) -> Result<Address, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("open {}: {error}", path.display()))?;
    if path.extension().is_some_and(|ending| ending == "json") {
        let file: JsonFile = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        return Address::parse(&file.address, file.tls);
    }
    Address::parse(text.trim(), None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn plugins_are_found_by_sockets_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let (run, etc) = (dir.path().join("run"), dir.path().join("etc"));
        fs::create_dir_all(run.join("inner")).unwrap();
        fs::create_dir_all(&etc).unwrap();
        let _one = UnixListener::bind(run.join("one.sock")).unwrap();
        let _inner = UnixListener::bind(run.join("inner/inner.sock")).unwrap();
        fs::write(run.join("file.sock"), "").unwrap();
        fs::write(etc.join("two.spec"), " unix:///two.sock\n").unwrap();
        fs::write(etc.join("three.json"), r#"{"Name":"x","Addr":"https://h:1","TLSConfig":{"CAFile":"/ca"}}"#).unwrap();
        let places = Places { sockets: run.clone(), files: vec![etc, dir.path().join("none")] };
        assert_eq!(places.names().into_iter().collect::<Vec<_>>(), ["inner", "one", "three", "two"]);
        let find = |name: &str| places.find(name).map(Result::unwrap);
        assert_eq!(find("one"), Some(Address::Unix(run.join("one.sock"))));
        assert_eq!(find("inner"), Some(Address::Unix(run.join("inner/inner.sock"))));
        assert_eq!(find("two"), Some(Address::Unix("/two.sock".into())));
        assert!(matches!(find("three"), Some(Address::Tls(host, files))
            if host == "h:1" && files.authorities == Path::new("/ca")));
        for none in ["file", "../etc/two", "", "."] {
            assert_eq!(find(none), None, "{none}");
        }
    }
}
