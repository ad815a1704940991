//! `NetworkDriver`: networks that a plugin makes.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Plugin;
use super::client::{CallError, Patience};

/// The name of this interface.
pub(crate) const CAPABILITY: &str = "NetworkDriver";

/// `CreateNetwork`.
#[derive(Debug, Serialize)]
pub(crate) struct NewNetwork {
    /// Id of the network.
    #[serde(rename = "NetworkID")]
    pub(crate) network_id: String,
    /// Options by label; those of the user below `com.docker.network.generic`.
    #[serde(rename = "Options")]
    pub(crate) options: Map<String, Value>,
    /// Subnets.
    #[serde(rename = "IPv4Data")]
    pub(crate) ipv4: Vec<IpamData>,
    /// Subnets.
    #[serde(rename = "IPv6Data")]
    pub(crate) ipv6: Vec<IpamData>,
}

/// A subnet as plugins are told of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct IpamData {
    /// Which addresses may be taken twice.
    pub(crate) address_space: String,
    /// With its prefix.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) gateway: String,
    /// The subnet.
    pub(crate) pool: String,
    /// By name, with their prefix.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) aux_addresses: BTreeMap<String, String>,
}

/// `CreateEndpoint`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NewEndpoint {
    /// Id of the network.
    #[serde(rename = "NetworkID")]
    pub(crate) network_id: String,
    /// Id of the endpoint.
    #[serde(rename = "EndpointID")]
    pub(crate) endpoint_id: String,
    /// What is known of it already.
    pub(crate) interface: Interface,
    /// Options by label.
    pub(crate) options: Map<String, Value>,
}

/// Addresses of an endpoint, with their prefixes; empty is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Interface {
    /// IPv4.
    #[serde(deserialize_with = "or_default")]
    pub(crate) address: String,
    /// IPv6.
    #[serde(rename = "AddressIPv6", deserialize_with = "or_default")]
    pub(crate) address_ipv6: String,
    /// Hardware address.
    #[serde(deserialize_with = "or_default")]
    pub(crate) mac_address: String,
}

/// What `Join` answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Joined {
    /// The link that goes into the container.
    #[serde(deserialize_with = "or_default")]
    pub(crate) interface_name: InterfaceName,
    /// Next hop of what goes outside.
    #[serde(deserialize_with = "or_default")]
    pub(crate) gateway: String,
    /// The same for IPv6.
    #[serde(rename = "GatewayIPv6", deserialize_with = "or_default")]
    pub(crate) gateway_ipv6: String,
    /// Further routes.
    #[serde(deserialize_with = "or_default")]
    pub(crate) static_routes: Vec<StaticRoute>,
}

/// A link of the host and what it is to be called inside.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct InterfaceName {
    /// The host's name.
    #[serde(deserialize_with = "or_default")]
    pub(crate) src_name: String,
    /// What stands before the number inside.
    #[serde(deserialize_with = "or_default")]
    pub(crate) dst_prefix: String,
}

/// A route besides the default one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct StaticRoute {
    /// A net.
    #[serde(deserialize_with = "or_default")]
    pub(crate) destination: String,
    /// 0 by way of `next_hop`, 1 by the link itself.
    pub(crate) route_type: i64,
    /// An address.
    #[serde(deserialize_with = "or_default")]
    pub(crate) next_hop: String,
}

/// Go's decoder takes `null` for anything.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Serialize)]
struct Ids<'a> {
    #[serde(rename = "NetworkID")]
    network_id: &'a str,
    #[serde(rename = "EndpointID", skip_serializing_if = "str::is_empty")]
    endpoint_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OfEndpoint<'a> {
    #[serde(rename = "NetworkID")]
    network_id: &'a str,
    #[serde(rename = "EndpointID")]
    endpoint_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox_key: Option<&'a str>,
    options: &'a Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Created {
    #[serde(deserialize_with = "or_default")]
    interface: Interface,
}

impl Plugin {
    /// How far the networks of the plugin reach: `local` or `global`.
    pub(crate) async fn network_scope(&self) -> Result<&str, CallError> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct Capabilities {
            #[serde(deserialize_with = "or_default")]
            scope: String,
        }
        let asked = self.network_scope.get_or_try_init(|| async {
            let found: Capabilities = self.network("GetCapabilities", None::<&()>, Patience::SHORT).await?;
            match found.scope.as_str() {
                "local" | "global" => Ok(found.scope),
                other => {
                    Err(CallError::Refused(format!("invalid capability: expecting 'local' or 'global', got {other}")))
                }
            }
        });
        asked.await.map(String::as_str)
    }

    /// Makes a network.
    pub(crate) async fn create_network(&self, network: &NewNetwork) -> Result<(), CallError> {
        self.network::<Value>("CreateNetwork", Some(network), Patience::LONG).await.map(drop)
    }

    /// Removes one.
    pub(crate) async fn delete_network(&self, network_id: &str) -> Result<(), CallError> {
        let ids = Ids { network_id, endpoint_id: "" };
        self.network::<Value>("DeleteNetwork", Some(&ids), Patience::LONG).await.map(drop)
    }

    /// Makes an endpoint; what was not known of it may be told.
    pub(crate) async fn create_endpoint(&self, endpoint: &NewEndpoint) -> Result<Interface, CallError> {
        let created: Created = self.network("CreateEndpoint", Some(endpoint), Patience::LONG).await?;
        Ok(created.interface)
    }

    /// Removes one.
    pub(crate) async fn delete_endpoint(&self, network_id: &str, endpoint_id: &str) -> Result<(), CallError> {
        self.network::<Value>("DeleteEndpoint", Some(&Ids { network_id, endpoint_id }), Patience::SHORT).await.map(drop)
    }

    /// Brings an endpoint to a namespace.
    pub(crate) async fn join_network(&self, endpoint: &NewEndpoint, sandbox_key: &str) -> Result<Joined, CallError> {
        self.network("Join", Some(&OfEndpoint::of(endpoint, Some(sandbox_key))), Patience::LONG).await
    }

    /// Takes it away again.
    pub(crate) async fn leave_network(&self, network_id: &str, endpoint_id: &str) -> Result<(), CallError> {
        self.network::<Value>("Leave", Some(&Ids { network_id, endpoint_id }), Patience::SHORT).await.map(drop)
    }

    /// Lets an endpoint be reached from outside. Not every plugin has this.
    pub(crate) async fn open_endpoint(&self, endpoint: &NewEndpoint) -> Result<(), CallError> {
        let request = OfEndpoint::of(endpoint, None);
        optional(self.network("ProgramExternalConnectivity", Some(&request), Patience::LONG).await)
    }

    /// Ends that.
    pub(crate) async fn close_endpoint(&self, network_id: &str, endpoint_id: &str) -> Result<(), CallError> {
        let ids = Ids { network_id, endpoint_id };
        optional(self.network("RevokeExternalConnectivity", Some(&ids), Patience::SHORT).await)
    }

    async fn network<R: DeserializeOwned>(
        &self,
        method: &str,
        request: Option<&(impl Serialize + Sync)>,
        patience: Patience,
    ) -> Result<R, CallError> {
        let method = format!("{CAPABILITY}.{method}");
        let answer: Value = self.client.call(&method, request, patience).await?;
        match answer.get("Err").and_then(Value::as_str) {
            Some(why) if !why.is_empty() => Err(CallError::Refused(format!("remote: {why}"))),
            _ => serde_json::from_value(answer).map_err(|error| CallError::Refused(format!("{method}: {error}"))),
        }
    }
}

impl<'a> OfEndpoint<'a> {
    fn of(endpoint: &'a NewEndpoint, sandbox_key: Option<&'a str>) -> Self {
        let NewEndpoint { network_id, endpoint_id, options, .. } = endpoint;
        Self { network_id, endpoint_id, sandbox_key, options }
    }
}

fn optional(answer: Result<Value, CallError>) -> Result<(), CallError> {
    match answer {
        Ok(_) | Err(CallError::Absent(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
