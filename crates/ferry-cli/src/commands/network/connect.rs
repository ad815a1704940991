//! `network connect`

use std::collections::BTreeMap;

use ferry_api::network::{ConnectRequest, EndpointIpamConfig, EndpointSettings};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `network connect`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let request = to_request(parsed)?;
    refuse_nobody(&request.container)?;
    let client = context.client().await?;
    client.network_connect(&parsed.args[0], &request).await?;
    Ok(0)
}

/// Docker's client sends no empty name.
pub(super) fn refuse_nobody(container: &str) -> Result<()> {
    match container.trim().is_empty() {
        true => Err(Failure::new("invalid container name or ID: value is empty")),
        false => Ok(()),
    }
}

fn to_request(parsed: &Parsed) -> Result<ConnectRequest> {
    let list = |flag: &str| {
        let values = parsed.all(flag);
        (!values.is_empty()).then(|| values.to_vec())
    };
    let mut driver_opts = BTreeMap::new();
    for option in parsed.all("driver-opt") {
        let (key, value) =
            option.split_once('=').ok_or_else(|| Failure::new("invalid key/value pair format in driver options"))?;
        driver_opts.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
    }
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: parsed.text_or_empty("ip").to_owned(),
            ipv6_address: parsed.text_or_empty("ip6").to_owned(),
            link_local_ips: parsed.all("link-local-ip").to_vec(),
        }),
        links: list("link"),
        aliases: Some(parsed.all("alias").to_vec()),
        driver_opts: (!driver_opts.is_empty()).then_some(driver_opts),
        gw_priority: parsed.int("gw-priority").unwrap_or(0),
        ..EndpointSettings::default()
    };
    Ok(ConnectRequest { container: parsed.args[1].clone(), endpoint_config: Some(endpoint) })
}
