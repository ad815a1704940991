//! Credentials of registries: `auths` in `config.json`, a `docker-credential-*` program, or the variable `DOCKER_AUTH_CONFIG`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use ferry_api::image::AuthConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Config;
use super::file;
use crate::context::variable;

/// The key of Docker Hub in `auths`.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";
/// The variable that goes before every store.
pub(crate) const VARIABLE: &str = "DOCKER_AUTH_CONFIG";
/// The user name that stands for an identity token in a helper.
const TOKEN_USER: &str = "<token>";
/// What every helper says of a registry that it does not know.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// One entry of `auths`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "lowercase")]
pub(crate) struct StoredAuth {
    #[serde(skip_serializing_if = "String::is_empty")]
    auth: String,
    #[serde(skip_serializing)]
    username: String,
    #[serde(skip_serializing)]
    password: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    identitytoken: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    registrytoken: String,
}

impl StoredAuth {
    /// Returns the entry that holds credentials.
    fn of(auth: &AuthConfig) -> Self {
        Self {
            auth: encoded_pair(&auth.username, &auth.password),
            identitytoken: auth.identitytoken.clone(),
            registrytoken: auth.registrytoken.clone(),
            ..Self::default()
        }
    }
}

/// What a helper reads and writes.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct HelperCredentials {
    #[serde(rename = "ServerURL")]
    server_url: String,
    username: String,
    secret: String,
}

/// The `X-Registry-Auth` value for a registry such as `docker.io` or `host:5000`.
///
/// Without credentials it is the header of an empty object, as Docker's client sends it.
pub(crate) fn registry_auth(config: &Config, registry: &str) -> (String, Option<String>) {
    let (auth, warning) = match look_up(config, key_of(registry)) {
        Ok(auth) => (auth, None),
        Err(warning) => (AuthConfig::default(), Some(warning)),
    };
    (encode(&auth), warning)
}

/// Writes credentials as the header has them.
pub(crate) fn encode(auth: &AuthConfig) -> String {
    URL_SAFE.encode(serde_json::to_vec(auth).unwrap_or_else(|_| b"{}".to_vec()))
}

/// Returns the key under which a registry's credentials are stored.
pub(crate) fn key_of(registry: &str) -> &str {
    if registry == "docker.io" || registry == "index.docker.io" { HUB } else { registry }
}

/// Returns `host[:port]` of an address with or without a scheme and a path.
pub(crate) fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// Finds what is stored for a key; nothing is an empty answer.
///
/// # Errors
/// What a helper says.
pub(crate) fn look_up(config: &Config, key: &str) -> Result<AuthConfig, String> {
    if let Some(stored) = from_variable()?.and_then(|auths| in_auths(&auths, key)) {
        return Ok(stored);
    }
    match helper(config, key) {
        Some(helper) => helper_get(helper, key),
        None => Ok(in_auths(&config.file.auths, key).unwrap_or_default()),
    }
}

/// Everything that is stored, by registry.
#[derive(Debug, Default)]
pub(crate) struct Everything {
    pub(crate) auths: BTreeMap<String, StoredAuth>,
    /// What helpers of single registries said instead.
    pub(crate) warnings: Vec<String>,
}

/// Finds everything that is stored, whoever holds it.
///
/// # Errors
/// What the default helper says.
pub(crate) fn all(config: &Config) -> Result<Everything, String> {
    let from_variable = from_variable()?.unwrap_or_default();
    let file = &config.file;
    let mut keys: BTreeSet<String> = from_variable.into_keys().collect();
    match file.creds_store.as_str() {
        "" => keys.extend(file.auths.keys().cloned()),
        helper => keys.extend(helper_list(helper)?),
    }
    keys.extend(file.cred_helpers.keys().cloned());
    let mut everything = Everything::default();
    for key in keys {
        match look_up(config, &key) {
            Ok(auth) if auth.username.is_empty() && auth.identitytoken.is_empty() && auth.registrytoken.is_empty() => {}
            Ok(auth) => {
                everything.auths.insert(key, StoredAuth::of(&auth));
            }
            Err(reason) if file.cred_helpers.contains_key(&key) => {
                everything.warnings.push(format!("Failed to get credentials for registry: {key}: {reason}"));
            }
            Err(reason) => return Err(reason),
        }
    }
    Ok(everything)
}

/// Keeps credentials; returns a warning when they lie in a file that anybody with the user's rights reads.
///
/// # Errors
/// What a helper, or the file system, says.
pub(crate) fn store(config: &Config, auth: &AuthConfig) -> Result<Option<String>, String> {
    let key = auth.serveraddress.as_str();
    if let Some(helper) = helper(config, key) {
        let (username, secret) = match auth.identitytoken.as_str() {
            "" => (auth.username.clone(), auth.password.clone()),
            token => (TOKEN_USER.to_owned(), token.to_owned()),
        };
        let input = HelperCredentials { server_url: key.to_owned(), username, secret };
        let input = serde_json::to_string(&input).map_err(|error| error.to_string())?;
        run_helper(helper, "store", &input).map_err(|error| error.of("storing"))?;
        // The entry without a secret tells that there are credentials.
        return file::change(config, |auths| put(auths, key, &StoredAuth::default())).map(|_| None);
    }
    let stored = StoredAuth::of(auth);
    let changed = file::change(config, |auths| put(auths, key, &stored))?;
    let path = config.folder.join("config.json");
    Ok((changed && !auth.password.is_empty()).then(|| {
        format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. \
             See\nhttps://docs.docker.com/go/credential-store/\n",
            path.display()
        )
    }))
}

/// Forgets what is stored for a key; nothing stored is fine.
///
/// # Errors
/// What a helper, or the file system, says.
pub(crate) fn erase(config: &Config, key: &str) -> Result<(), String> {
    if let Some(helper) = helper(config, key_of(key)) {
        match run_helper(helper, "erase", key) {
            Err(error) if !error.out.contains(NOT_FOUND) => return Err(error.of("erasing")),
            _ => {}
        }
    }
    file::change(config, |auths| auths.remove(key).is_some()).map(drop)
}

/// Puts an entry; tells whether that changes anything.
fn put(auths: &mut Map<String, Value>, key: &str, stored: &StoredAuth) -> bool {
    let value = serde_json::to_value(stored).unwrap_or_default();
    auths.insert(key.to_owned(), value.clone()) != Some(value)
}

fn encoded_pair(username: &str, password: &str) -> String {
    if username.is_empty() && password.is_empty() {
        return String::new();
    }
    STANDARD.encode(format!("{username}:{password}"))
}

fn helper<'a>(config: &'a Config, key: &str) -> Option<&'a str> {
    let own = config.file.cred_helpers.get(key).map(String::as_str);
    own.or(Some(config.file.creds_store.as_str())).filter(|helper| !helper.is_empty())
}

/// Reads the variable: an object of `auths` with nothing but `auth`.
fn from_variable() -> Result<Option<BTreeMap<String, StoredAuth>>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        #[serde(default)]
        auth: String,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Whole {
        auths: BTreeMap<String, Entry>,
    }
    let Some(text) = variable(VARIABLE) else { return Ok(None) };
    let unusable = |reason: String| format!("Failed to create credential store from {VARIABLE}:  {reason}");
    let whole: Whole = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
    let mut auths = BTreeMap::new();
    for (address, entry) in whole.auths {
        if entry.auth.is_empty() {
            return Err(unusable(format!("{VARIABLE} environment variable is missing key `auth` for {address}")));
        }
        auths.insert(address, StoredAuth { auth: entry.auth, ..StoredAuth::default() });
    }
    Ok(Some(auths))
}

fn in_auths(auths: &BTreeMap<String, StoredAuth>, key: &str) -> Option<AuthConfig> {
    let stored = auths.get(key).or_else(|| {
        // Older files keep URLs as keys.
        auths.iter().find(|(known, _)| host_of(known) == key).map(|(_, stored)| stored)
    });
    stored.map(|stored| from_stored(stored, key))
}

fn from_stored(stored: &StoredAuth, key: &str) -> AuthConfig {
    let mut auth = AuthConfig {
        username: stored.username.clone(),
        password: stored.password.clone(),
        serveraddress: key.to_owned(),
        identitytoken: stored.identitytoken.clone(),
        registrytoken: stored.registrytoken.clone(),
        ..AuthConfig::default()
    };
    let decoded = STANDARD.decode(&stored.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some((username, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) {
        auth.username = username.to_owned();
        auth.password = password.trim_matches('\0').to_owned();
    }
    auth
}

fn helper_get(helper: &str, key: &str) -> Result<AuthConfig, String> {
    let text = match run_helper(helper, "get", key) {
        Err(error) if error.out.contains(NOT_FOUND) => return Ok(AuthConfig::default()),
        Err(error) => return Err(error.of("getting")),
        Ok(text) => text,
    };
    let answer: HelperCredentials =
        serde_json::from_str(&text).map_err(|error| format!("error getting credentials - err: {error}, out: ``"))?;
    let mut auth = AuthConfig { serveraddress: key.to_owned(), ..AuthConfig::default() };
    if answer.username == TOKEN_USER {
        auth.identitytoken = answer.secret;
    } else {
        auth.username = answer.username;
        auth.password = answer.secret;
    }
    Ok(auth)
}

/// Asks a helper for the registries that it knows.
fn helper_list(helper: &str) -> Result<Vec<String>, String> {
    // As Docker's client asks: there is nothing to say.
    let text = run_helper(helper, "list", "unused").map_err(|error| error.of("listing"))?;
    let known: BTreeMap<String, String> =
        serde_json::from_str(&text).map_err(|error| format!("error listing credentials - err: {error}, out: ``"))?;
    Ok(known.into_keys().collect())
}

/// Why a helper did not do as asked.
struct HelperError {
    reason: String,
    out: String,
}

impl HelperError {
    fn of(&self, doing: &str) -> String {
        format!("error {doing} credentials - err: {}, out: `{}`", self.reason, self.out)
    }
}

/// Runs `docker-credential-<helper> <action>` with `input` on its standard input.
fn run_helper(helper: &str, action: &str, input: &str) -> Result<String, HelperError> {
    let program = format!("docker-credential-{helper}");
    let failed = |reason: String| HelperError { reason, out: String::new() };
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => failed(format!("exec: {:?}: executable file not found in $PATH", program)),
            _ => failed(format!("exec: {program:?}: {error}")),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read fails by its status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(text);
    }
    let reason = match output.status.code() {
        Some(code) => format!("exit status {code}"),
        None => output.status.to_string(),
    };
    Err(HelperError { reason, out: text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::File;

    fn config(text: &str) -> Config {
        let file: File = serde_json::from_str(text).unwrap();
        Config { folder: std::path::PathBuf::new(), file }
    }

    #[test]
    fn auths_are_found_by_host_and_decoded() {
        let config = config(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjcmV0"},"r.example:5000":{"auth":"YTpiOmM="},
                "https://old.example/v2/":{"auth":"YTpi"}}}"#,
        );
        let hub = look_up(&config, key_of("docker.io")).unwrap();
        assert_eq!((hub.username.as_str(), hub.password.as_str()), ("me", "secret"));
        let other = look_up(&config, "r.example:5000").unwrap();
        assert_eq!((other.username.as_str(), other.password.as_str()), ("a", "b:c"));
        assert_eq!(look_up(&config, "old.example").unwrap().username, "a");
        assert_eq!(registry_auth(&config, "elsewhere").0, URL_SAFE.encode("{}"));
    }

    #[test]
    fn stores_change_the_file_and_nothing_else_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, r#"{"psFormat":"x","auths":{"a":{"auth":"YTpi"}},"unknown":[1]}"#).unwrap();
        let mut config = config("{}");
        config.folder = folder.path().to_owned();
        let auth = AuthConfig {
            username: "u".to_owned(),
            password: "p".to_owned(),
            serveraddress: "r:5".to_owned(),
            ..AuthConfig::default()
        };
        assert!(store(&config, &auth).unwrap().unwrap().contains("stored unencrypted in '"));
        assert!(store(&config, &auth).unwrap().is_none(), "the same again is no change");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\n\t\"psFormat\": \"x\",\n\t\"auths\": {\n\t\t\"a\": {\n\t\t\t\"auth\": \"YTpi\"\n\t\t},\n\t\t\"r:5\": {\n\t\t\t\"auth\": \
             \"dTpw\"\n\t\t}\n\t},\n\t\"unknown\": [\n\t\t1\n\t]\n}"
        );
        erase(&config, "r:5").unwrap();
        erase(&config, "never").unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("r:5"));
    }
}
