//! The networks and addresses of the sample plugin: a bridge of its own for each network, a veth pair for each endpoint.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

/// Runs a line of shell where the engine's links are.
#[derive(Clone)]
pub(crate) struct Host(pub(crate) Arc<dyn Fn(&str) -> i32 + Send + Sync>);

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

/// What the plugin remembers.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    pub(crate) host: Option<Host>,
    /// By network: its gateway with the prefix.
    gateways: BTreeMap<String, String>,
    endpoints: u8,
    pools: u8,
    addresses: u8,
}

impl Wires {
    /// Answers a method; `None` for one that it does not have.
    pub(crate) fn call(&mut self, method: &str, body: &Value) -> Option<Result<Value, String>> {
        Some(match method.split_once('.')? {
            ("NetworkDriver", method) => self.network(method, body)?,
            ("IpamDriver", method) => self.addresses(method, body)?,
            _ => return None,
        })
    }

    fn run(&self, line: &str) -> Result<Value, String> {
        let code = self.host.as_ref().map_or(-1, |host| (host.0)(line));
        if code == 0 { Ok(json!({})) } else { Err(format!("{line} ended with {code}")) }
    }

    fn network(&mut self, method: &str, body: &Value) -> Option<Result<Value, String>> {
        let id = |field: &str| body[field].as_str().unwrap_or_default().get(..8).unwrap_or_default().to_owned();
        let (network, endpoint) = (id("NetworkID"), id("EndpointID"));
        Some(match method {
            "GetCapabilities" => Ok(json!({ "Scope": "local", "ConnectivityScope": "local" })),
            "CreateNetwork" if body["Options"]["com.docker.network.generic"]["refuse"] == "yes" => {
                Err("refused by option".to_owned())
            }
            "CreateNetwork" => {
                let gateway = body["IPv4Data"][0]["Gateway"].as_str().unwrap_or_default().to_owned();
                let line = format!(
                    "ip link add pb{network} type bridge && ip addr add {gateway} dev pb{network} && ip link set pb{network} up"
                );
                self.gateways.insert(network, gateway);
                self.run(&line)
            }
            "DeleteNetwork" => {
                self.gateways.remove(&network);
                self.run(&format!("ip link del pb{network}"))
            }
            "CreateEndpoint" => {
                self.endpoints += 1;
                let own = json!({ "MacAddress": format!("02:00:00:00:0a:{:02x}", self.endpoints) });
                let has_none = body["Interface"]["MacAddress"].as_str().is_none_or(str::is_empty);
                Ok(json!({ "Interface": if has_none { own } else { json!({}) } }))
            }
            "Join" => {
                let made = self.run(&format!(
                    "ip link add pv{endpoint} type veth peer name pc{endpoint} && ip link set pv{endpoint} master pb{network} up"
                ));
                let gateway = self.gateways.get(&network).and_then(|text| text.split('/').next()).unwrap_or_default();
                made.map(|_| {
                    json!({
                        "InterfaceName": { "SrcName": format!("pc{endpoint}"), "DstPrefix": "plug" },
                        "Gateway": gateway,
                        "StaticRoutes": [{ "Destination": "192.0.2.0/24", "RouteType": 0, "NextHop": gateway }]
                    })
                })
            }
            // The pair may have gone with its other end.
            "Leave" => self.run(&format!("ip link del pv{endpoint} 2>/dev/null; true")),
            "DeleteEndpoint" => Ok(json!({})),
            _ => return None,
        })
    }

    fn addresses(&mut self, method: &str, body: &Value) -> Option<Result<Value, String>> {
        let text = |field: &str| body[field].as_str().unwrap_or_default();
        Some(match method {
            "GetCapabilities" => Ok(json!({ "RequiresMACAddress": true, "RequiresRequestReplay": true })),
            "GetDefaultAddressSpaces" => {
                Ok(json!({ "LocalDefaultAddressSpace": "here", "GlobalDefaultAddressSpace": "there" }))
            }
            "RequestPool" => {
                self.pools += 1;
                let own = format!("10.123.{}.0/24", self.pools);
                let pool = if text("Pool").is_empty() { own } else { text("Pool").to_owned() };
                Ok(json!({ "PoolID": format!("pool-{pool}"), "Pool": pool }))
            }
            "RequestAddress" => {
                let pool = text("PoolID").trim_start_matches("pool-");
                let start = pool.rsplit_once('.').map(|(start, _)| start).unwrap_or_default();
                let is_gateway = body["Options"]["RequestAddressType"] == "com.docker.network.gateway";
                let address = match text("Address") {
                    "" if is_gateway => format!("{start}.1"),
                    "" => {
                        self.addresses += 1;
                        format!("{start}.{}", 40 + self.addresses)
                    }
                    asked => asked.to_owned(),
                };
                Ok(json!({ "Address": format!("{address}/24") }))
            }
            "ReleaseAddress" | "ReleasePool" => Ok(json!({})),
            _ => return None,
        })
    }
}
