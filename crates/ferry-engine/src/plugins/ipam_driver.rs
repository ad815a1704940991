//! `IpamDriver`: addresses that a plugin gives.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Plugin;
use super::client::{CallError, Patience};

/// The name of this interface.
pub(crate) const CAPABILITY: &str = "IpamDriver";

/// `RequestPool`; empty is the plugin's choice.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PoolRequest {
    /// Which addresses may be taken twice.
    pub(crate) address_space: String,
    /// A subnet.
    pub(crate) pool: String,
    /// A range of it.
    pub(crate) sub_pool: String,
    /// Options of the user.
    pub(crate) options: BTreeMap<String, String>,
    /// IPv6.
    pub(crate) v6: bool,
}

/// What is given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Pool {
    /// By which it is known.
    #[serde(rename = "PoolID")]
    pub(crate) id: String,
    /// A subnet.
    pub(crate) pool: String,
    /// Further words, such as the gateway.
    pub(crate) data: Option<BTreeMap<String, String>>,
}

/// What a plugin wants to be told.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    /// Each endpoint's hardware address.
    #[serde(rename = "RequiresMACAddress")]
    pub(crate) requires_mac_address: bool,
    /// After a start of the daemon, what earlier ones asked for.
    #[serde(rename = "RequiresRequestReplay")]
    pub(crate) requires_request_replay: bool,
}

#[derive(Serialize)]
struct Request<'a> {
    #[serde(rename = "PoolID")]
    id: &'a str,
    #[serde(rename = "Address", skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    #[serde(rename = "Options", skip_serializing_if = "Option::is_none")]
    options: Option<&'a BTreeMap<String, String>>,
}

impl Plugin {
    /// What it wants. Older plugins do not have the method, and want nothing.
    pub(crate) async fn address_capabilities(&self) -> Capabilities {
        self.ipam("GetCapabilities", None::<&()>).await.unwrap_or_default()
    }

    /// The space that addresses of this host's networks are from.
    pub(crate) async fn address_space(&self) -> Result<String, CallError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Spaces {
            #[serde(rename = "LocalDefaultAddressSpace")]
            local: String,
        }
        Ok(self.ipam::<Spaces>("GetDefaultAddressSpaces", None::<&()>).await?.local)
    }

    /// Takes a subnet.
    pub(crate) async fn request_pool(&self, request: &PoolRequest) -> Result<Pool, CallError> {
        self.ipam("RequestPool", Some(request)).await
    }

    /// Gives it back.
    pub(crate) async fn release_pool(&self, id: &str) -> Result<(), CallError> {
        let request = Request { id, address: None, options: None };
        self.ipam::<Value>("ReleasePool", Some(&request)).await.map(drop)
    }

    /// Takes an address, with the prefix of its subnet; the plugin's choice where none is named.
    pub(crate) async fn request_address(
        &self,
        id: &str,
        address: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<String, CallError> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct Given {
            address: Option<String>,
        }
        let request = Request { id, address: Some(address), options: Some(options) };
        let given: Given = self.ipam("RequestAddress", Some(&request)).await?;
        let address = given.address.filter(|address| !address.is_empty());
        address.ok_or_else(|| CallError::Refused("no IP address returned by the IPAM driver".to_owned()))
    }

    /// Gives it back.
    pub(crate) async fn release_address(&self, id: &str, address: &str) -> Result<(), CallError> {
        let request = Request { id, address: Some(address), options: None };
        self.ipam::<Value>("ReleaseAddress", Some(&request)).await.map(drop)
    }

    async fn ipam<R: DeserializeOwned>(
        &self,
        method: &str,
        request: Option<&(impl Serialize + Sync)>,
    ) -> Result<R, CallError> {
        let method = format!("{CAPABILITY}.{method}");
        let answer: Value = self.client.call(&method, request, Patience::SHORT).await?;
        match answer.get("Error").or_else(|| answer.get("Err")).and_then(Value::as_str) {
            Some(why) if !why.is_empty() => Err(CallError::Refused(format!("remote: {why}"))),
            _ => serde_json::from_value(answer).map_err(|error| CallError::Refused(format!("{method}: {error}"))),
        }
    }
}
