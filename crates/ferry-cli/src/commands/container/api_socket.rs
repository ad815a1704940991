//! `--use-api-socket`: the container gets the daemon's socket and the user's credentials of registries.

use std::collections::BTreeMap;

use bytes::Bytes;
use ferry_api::container::{BindOptions, CreateRequest, Mount};
use ferry_client::Client;
use ferry_spec::tar::{self, Entry, Kind};

use crate::config::credentials::{self, StoredAuth};
use crate::context::Context;
use crate::failure::{Failure, Result};

const TARGET: &str = "/var/run/docker.sock";
/// Folder of the credentials inside.
const CONFIG_FOLDER: &str = "/run/secrets/docker";

/// Credentials for a container, by registry.
pub(super) type Credentials = BTreeMap<String, StoredAuth>;

/// Adds the socket to a request, and where the credentials will be; returns those.
pub(super) fn add(request: &mut CreateRequest, context: &Context) -> Result<Credentials> {
    let host = context.target()?.host;
    // A daemon elsewhere has its socket where every daemon has it.
    let source = host.strip_prefix("unix://").unwrap_or(TARGET).to_owned();
    let mount = Mount {
        kind: "bind".to_owned(),
        source,
        target: TARGET.to_owned(),
        bind_options: Some(BindOptions::default()),
        ..Mount::default()
    };
    request.host_config.get_or_insert_default().mounts.push(mount);
    let environment = request.config.env.get_or_insert_default();
    // Who says where the configuration is has one.
    if environment.iter().any(|variable| variable.starts_with("DOCKER_CONFIG=")) {
        return Ok(Credentials::new());
    }
    let credentials::Everything { auths: found, warnings } = credentials::all(&context.config)
        .map_err(|error| Failure::new(format!("resolving credentials failed: {error}")))?;
    warnings.iter().for_each(|warning| context.printer.note(&format!("WARNING: {warning}")));
    if !found.is_empty() {
        environment.push(format!("DOCKER_CONFIG={CONFIG_FOLDER}"));
    }
    Ok(found)
}

/// Puts the credentials into a container that was made.
pub(super) async fn inject(client: &Client, id: &str, credentials: &Credentials) -> Result<()> {
    if credentials.is_empty() {
        return Ok(());
    }
    let failed = |error: String| Failure::new(format!("injecting docker config.json into container failed: {error}"));
    let config = serde_json::to_vec_pretty(&serde_json::json!({ "auths": credentials }))
        .map_err(|error| failed(error.to_string()))?;
    let archive = futures_util::stream::iter([Ok(Bytes::from(archive(&config)))]);
    let sent = client.container_write_archive(id, "/", false, false, archive).await;
    sent.map_err(|error| failed(format!("copying config.json into container failed: {error}")))
}

fn archive(config: &[u8]) -> Vec<u8> {
    let path = format!("{}/config.json", CONFIG_FOLDER.trim_start_matches('/'));
    let size = config.len() as u64;
    let entry = Entry { size, stored_bytes: size, ..Entry::new(Kind::File, path, 0o600) };
    let mut archive = tar::header(&entry);
    archive.extend_from_slice(config);
    archive.resize(archive.len() + usize::try_from(tar::padding(size)).unwrap_or_default(), 0);
    archive.extend(tar::END);
    archive
}
