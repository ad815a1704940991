//! `volume create`

use ferry_api::volume::CreateRequest;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::options::environment::to_map;

/// Runs `volume create`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let name = match (parsed.text("name"), parsed.args.first()) {
        (Some(_), Some(_)) => {
            return Err(Failure::new(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        (Some(name), None) => name.to_owned(),
        (None, name) => name.cloned().unwrap_or_default(),
    };
    const CLUSTER: &[&str] = &[
        "availability",
        "group",
        "limit-bytes",
        "required-bytes",
        "scope",
        "secret",
        "sharing",
        "topology-preferred",
        "topology-required",
        "type",
    ];
    if let Some(flag) = CLUSTER.iter().find(|flag| parsed.changed(flag)) {
        return Err(Failure::not_implemented(&format!("the flag `--{flag}` of cluster volumes")));
    }
    let request = CreateRequest {
        driver: parsed.text("driver").unwrap_or("local").to_owned(),
        driver_opts: to_map(parsed.all("opt")),
        labels: to_map(parsed.all("label")),
        name,
        ..CreateRequest::default()
    };
    let client = context.client().await?;
    let volume = client.volume_create(&request).await?;
    context.printer.line(&volume.name)?;
    Ok(0)
}
