//! The user's configuration: `config.json`, contexts and credentials, in Docker's own folder and formats.

pub(crate) mod contexts;
pub(crate) mod credentials;
mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::context::variable;

/// Folder and file of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// Usually `~/.docker`.
    pub(crate) folder: PathBuf,
    /// What the file says.
    pub(crate) file: File,
}

/// The parts of `config.json` that are read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct File {
    /// Credentials by registry.
    pub(crate) auths: BTreeMap<String, credentials::StoredAuth>,
    /// Helper for all registries.
    pub(crate) creds_store: String,
    /// Helpers by registry.
    pub(crate) cred_helpers: BTreeMap<String, String>,
    /// Headers for every request.
    #[serde(rename = "HttpHeaders")]
    pub(crate) http_headers: BTreeMap<String, String>,
    /// Format of `ps`.
    pub(crate) ps_format: String,
    /// Format of `stats`.
    pub(crate) stats_format: String,
    /// Format of `images`.
    pub(crate) images_format: String,
    /// Format of `volume ls`.
    pub(crate) volumes_format: String,
    /// Format of `plugin ls`.
    pub(crate) plugins_format: String,
    /// Format of `network ls`.
    pub(crate) networks_format: String,
    /// Keys that detach.
    pub(crate) detach_keys: String,
    /// The context in force.
    pub(crate) current_context: String,
    /// Proxies that containers get.
    pub(crate) proxies: BTreeMap<String, Proxy>,
}

/// Proxies for containers of one daemon.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Proxy {
    pub(crate) http_proxy: String,
    pub(crate) https_proxy: String,
    pub(crate) no_proxy: String,
    pub(crate) ftp_proxy: String,
    pub(crate) all_proxy: String,
}

impl Config {
    /// Reads the configuration; a missing file is an empty one. The text is a warning.
    pub(crate) fn load(flag: Option<&str>) -> (Self, Option<String>) {
        let folder = flag.map(PathBuf::from).unwrap_or_else(default_folder);
        let path = folder.join("config.json");
        let (file, warning) = match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(file) => (file, None),
                Err(error) => (File::default(), Some(warning(&path, &error))),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (File::default(), None),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let text = format!("WARNING: Error loading config file: open {}: permission denied", path.display());
                (File::default(), Some(text))
            }
            Err(error) => (File::default(), Some(warning(&path, &error))),
        };
        (Self { folder, file }, warning)
    }

    /// The proxy variables that containers of a daemon get, in Docker's order.
    pub(crate) fn proxy_environment(&self, host: &str) -> Vec<(&'static str, &str)> {
        let Some(proxy) = self.file.proxies.get(host).or_else(|| self.file.proxies.get("default")) else {
            return Vec::new();
        };
        [
            (["HTTP_PROXY", "http_proxy"], &proxy.http_proxy),
            (["HTTPS_PROXY", "https_proxy"], &proxy.https_proxy),
            (["NO_PROXY", "no_proxy"], &proxy.no_proxy),
            (["FTP_PROXY", "ftp_proxy"], &proxy.ftp_proxy),
            (["ALL_PROXY", "all_proxy"], &proxy.all_proxy),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .flat_map(|(names, value)| names.map(|name| (name, value.as_str())))
        .collect()
    }
}

fn warning(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("WARNING: Error loading config file: {error} ({})", path.display())
}

/// `DOCKER_CONFIG`, else `~/.docker`.
pub(crate) fn default_folder() -> PathBuf {
    match variable("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(variable("HOME").unwrap_or_else(|| "/".to_owned())).join(".docker"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_of_the_daemon_win_over_the_default() {
        let file: File = serde_json::from_str(
            r#"{"proxies":{"default":{"httpProxy":"d"},"tcp://a":{"httpProxy":"a","noProxy":"n"}}}"#,
        )
        .unwrap();
        let config = Config { folder: PathBuf::new(), file };
        let names: Vec<_> = config.proxy_environment("tcp://a");
        assert_eq!(names, [("HTTP_PROXY", "a"), ("http_proxy", "a"), ("NO_PROXY", "n"), ("no_proxy", "n")]);
        assert_eq!(config.proxy_environment("tcp://b")[0], ("HTTP_PROXY", "d"));
    }
}
