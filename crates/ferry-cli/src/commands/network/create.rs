//! `network create`

use ferry_api::network::{ConfigReference, CreateRequest, Ipam};

use super::ipam;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::options::environment::to_map;

/// Runs `network create`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let request = to_request(parsed).map_err(Failure::new)?;
    let created = context.client().await?.network_create(&request).await?;
    if !created.warning.is_empty() {
        context.printer.note(&created.warning);
    }
    context.printer.line(&created.id)?;
    Ok(0)
}

fn to_request(parsed: &Parsed) -> Result<CreateRequest, String> {
    let config = ipam::consolidate(
        parsed.all("subnet"),
        parsed.all("ip-range"),
        parsed.all("gateway"),
        &to_map(parsed.all("aux-address")),
    )?;
    let given = |flag: &str| parsed.changed(flag).then(|| parsed.on(flag));
    Ok(CreateRequest {
        name: parsed.args[0].clone(),
        driver: parsed.text("driver").unwrap_or("bridge").to_owned(),
        scope: parsed.text_or_empty("scope").to_owned(),
        enable_ipv4: given("ipv4"),
        enable_ipv6: given("ipv6"),
        ipam: Some(Ipam {
            driver: parsed.text("ipam-driver").unwrap_or("default").to_owned(),
            options: Some(to_map(parsed.all("ipam-opt"))),
            config: Some(config),
        }),
        internal: parsed.on("internal"),
        attachable: parsed.on("attachable"),
        ingress: parsed.on("ingress"),
        config_only: parsed.on("config-only"),
        config_from: parsed.text("config-from").map(|network| ConfigReference { network: network.to_owned() }),
        options: Some(to_map(parsed.all("opt"))),
        labels: Some(to_map(parsed.all("label"))),
    })
}
