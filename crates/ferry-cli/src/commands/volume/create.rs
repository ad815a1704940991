//! `volume create`

use ferry_api::volume::CreateRequest;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::options::environment::to_map;

/// Flags that make it a volume of the cluster, as Docker's client has it: secrets and topology alone do not.
const CLUSTER: &[&str] = &["group", "scope", "sharing", "availability", "type", "limit-bytes", "required-bytes"];

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
    let mut options = to_map(parsed.all("opt"));
    if let Some(bytes) = parsed.bytes("size") {
        options.insert("ferry.size".to_owned(), bytes.to_string());
    }
    let request = CreateRequest {
        driver: parsed.text("driver").unwrap_or("local").to_owned(),
        driver_opts: options,
        labels: to_map(parsed.all("label")),
        name,
        cluster_volume_spec: CLUSTER.iter().any(|flag| parsed.changed(flag)).then(|| cluster(parsed)),
    };
    let client = context.client().await?;
    let volume = client.volume_create(&request).await?;
    context.printer.line(&volume.name)?;
    Ok(0)
}

/// The wish for a volume of the cluster.
fn cluster(parsed: &Parsed) -> Value {
    let or = |name: &str, default: &'static str| parsed.text(name).unwrap_or(default).to_owned();
    let mut access = json!({ "Scope": or("scope", "single"), "Sharing": or("sharing", "none") });
    match or("type", "block").as_str() {
        "mount" => access["MountVolume"] = json!({}),
        "block" => access["BlockVolume"] = json!({}),
        _ => {}
    }
    let mut secrets = to_map(parsed.all("secret")).into_iter().collect::<Vec<_>>();
    secrets.sort();
    let topologies = |name: &str| {
        let segments = |text: &String| {
            let pairs = text.split(',').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            json!({ "Segments": pairs.collect::<std::collections::BTreeMap<_, _>>() })
        };
        parsed.all(name).iter().map(segments).collect::<Vec<_>>()
    };
    json!({
        "Group": or("group", ""),
        "AccessMode": access,
        "AccessibilityRequirements": {
            "Requisite": topologies("topology-required"),
            "Preferred": topologies("topology-preferred"),
        },
        "CapacityRange": {
            "RequiredBytes": parsed.bytes("required-bytes").unwrap_or(0),
            "LimitBytes": parsed.bytes("limit-bytes").unwrap_or(0),
        },
        "Secrets": secrets.into_iter().map(|(key, secret)| json!({ "Key": key, "Secret": secret })).collect::<Vec<_>>(),
        "Availability": or("availability", "active"),
    })
}
