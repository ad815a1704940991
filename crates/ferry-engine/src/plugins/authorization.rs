//! `AuthZPlugin`: who may ask what of the daemon, decided by plugins. What they do not allow, or do not answer, is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Plugins;
use super::client::Patience;
use crate::error::{Error, Result};

/// The name of this interface.
const CAPABILITY: &str = "authz";

/// As long as a client waits for a plugin that says nothing.
const PATIENCE: Patience = Patience { limit: Duration::from_secs(30), retry: true };

/// A request or an answer, as a plugin is told of it. Bodies and certificates are base64.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Judged {
    /// Common name of the client's certificate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `TLS` where there is a certificate.
    #[serde(rename = "UserAuthNMethod", skip_serializing_if = "String::is_empty")]
    pub user_authentication: String,
    /// Method.
    pub request_method: String,
    /// Path and query.
    #[serde(rename = "RequestUri")]
    pub request_uri: String,
    /// Body, where it is JSON.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_body: String,
    /// Headers but for those with credentials.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub request_headers: BTreeMap<String, String>,
    /// The client's certificates in PEM.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub request_peer_certificates: Vec<String>,
    /// Status of the answer; 0 as long as there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub response_status_code: u16,
    /// Body of the answer, where it is JSON.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub response_body: String,
    /// Its headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub response_headers: BTreeMap<String, String>,
}

fn is_zero(status: &u16) -> bool {
    *status == 0
}

#[derive(Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[derive(Default)]
struct Verdict {
    allow: bool,
    msg: Option<String>,
}

impl Plugins {
    /// Asks every plugin of a list, in order; the first that refuses ends it.
    ///
    /// # Errors
    /// Forbidden with the plugin's reason; Internal when one cannot be asked.
    pub async fn authorize(&self, names: &[String], judged: &Judged) -> Result<()> {
        let method = if judged.response_status_code == 0 { "AuthZPlugin.AuthZReq" } else { "AuthZPlugin.AuthZRes" };
        let mut asked: Vec<&String> = Vec::new();
        for name in names {
            if asked.contains(&name) {
                continue;
            }
            asked.push(name);
            let failed = |why: &str| Error::internal(format!("plugin {name} failed with error: {why}"));
            let plugin = self.get(name, CAPABILITY).await.map_err(|error| failed(&error.text()))?;
            let verdict: Verdict =
                plugin.client.call(method, Some(judged), PATIENCE).await.map_err(|error| failed(error.text()))?;
            if !verdict.allow {
                let reason = verdict.msg.unwrap_or_default();
                let text = format!("authorization denied by plugin {}: {reason}", plugin.name);
                return Err(Error::new(crate::ErrorKind::Forbidden, text));
            }
        }
        Ok(())
    }

    /// Looks whether every plugin of a list is there and decides such things.
    ///
    /// # Errors
    /// NotFound, or what the plugin says.
    pub async fn check_authorizers(&self, names: &[String]) -> Result<()> {
        for name in names {
            self.get(name, CAPABILITY).await?;
        }
        Ok(())
    }
}
