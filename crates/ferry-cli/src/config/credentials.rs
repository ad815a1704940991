//! Credentials for a pull: `auths` in `config.json`, or a `docker-credential-*` program asked for them.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use ferry_api::image::AuthConfig;
use serde::Deserialize;

use super::File;

/// The key of Docker Hub in `auths`.
const HUB: &str = "https://index.docker.io/v1/";

/// One entry of `auths`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "lowercase")]
pub(crate) struct StoredAuth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[derive(Default)]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// The `X-Registry-Auth` value for a registry such as `docker.io` or `host:5000`.
///
/// Without credentials it is the header of an empty object, as Docker's client sends it.
pub(crate) fn registry_auth(file: &File, registry: &str) -> (String, Option<String>) {
    let key = if registry == "docker.io" || registry == "index.docker.io" { HUB } else { registry };
    let (auth, warning) = match lookup(file, key) {
        Ok(auth) => (auth, None),
        Err(warning) => (AuthConfig::default(), Some(warning)),
    };
    let json = serde_json::to_vec(&auth).unwrap_or_else(|_| b"{}".to_vec());
    (URL_SAFE.encode(json), warning)
}

fn lookup(file: &File, key: &str) -> Result<AuthConfig, String> {
    if let Some(helper) = file.cred_helpers.get(key) {
        return ask_helper(helper, key);
    }
    if !file.creds_store.is_empty() {
        return ask_helper(&file.creds_store, key);
    }
    let stored = file.auths.get(key).or_else(|| {
        // Older files keep URLs as keys.
        file.auths.iter().find(|(known, _)| host_of(known) == host_of(key)).map(|(_, stored)| stored)
    });
    Ok(stored.map(|stored| from_stored(stored, key)).unwrap_or_default())
}

fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
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

fn ask_helper(helper: &str, key: &str) -> Result<AuthConfig, String> {
    let program = format!("docker-credential-{helper}");
    let failed = |error: &dyn std::fmt::Display| format!("error getting credentials - err: {error}, out: ``");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(&format!("exec: \"{program}\": {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read fails by its status.
        let _ = stdin.write_all(key.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        if text.contains("credentials not found in native keychain") {
            return Ok(AuthConfig::default());
        }
        return Err(format!("error getting credentials - err: {}, out: `{}`", output.status, text.trim()));
    }
    let answer: HelperAnswer = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    let mut auth = AuthConfig { serveraddress: key.to_owned(), ..AuthConfig::default() };
    if answer.username == "<token>" {
        auth.identitytoken = answer.secret;
    } else {
        auth.username = answer.username;
        auth.password = answer.secret;
    }
    Ok(auth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auths_are_found_by_host_and_decoded() {
        let file: File = serde_json::from_str(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjcmV0"},"r.example:5000":{"auth":"YTpiOmM="}}}"#,
        )
        .unwrap();
        let hub = lookup(&file, HUB).unwrap();
        assert_eq!((hub.username.as_str(), hub.password.as_str()), ("me", "secret"));
        let other = lookup(&file, "r.example:5000").unwrap();
        assert_eq!((other.username.as_str(), other.password.as_str()), ("a", "b:c"));
        assert_eq!(registry_auth(&file, "elsewhere").0, URL_SAFE.encode("{}"));
    }
}
