//! `network flows`: what a container with egress rules was allowed to reach and refused. Docker has nothing like it.

use ferry_api::container::FlowRule;
use ferry_gotmpl::Value;

use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::Listing;

const HEADERS: &[(&str, &str)] =
    &[("Rule", "RULE"), ("Verdict", "VERDICT"), ("Packets", "PACKETS"), ("Bytes", "BYTES"), ("Addresses", "ADDRESSES")];

/// Runs `network flows`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let name = parsed.args.first().map(String::as_str).unwrap_or_default();
    let flows = context.client().await?.container_flows(name).await?;
    if !flows.restricted {
        context.printer.note(&format!("{name} may reach everything; `ferry update --egress RULE {name}` changes that"));
    }
    let listing = Listing {
        type_name: "network.flowContext",
        headers: HEADERS,
        table: "{{.Rule}}\t{{.Verdict}}\t{{.Packets}}\t{{.Bytes}}\t{{.Addresses}}",
        raw: "",
    };
    let values = flows.rules.iter().map(values).collect();
    context.printer.data(listing.render(parsed.text_or_empty("format"), values)?)?;
    Ok(0)
}

fn values(rule: &FlowRule) -> Vec<(&'static str, Value)> {
    let addresses = rule.addresses.as_deref().unwrap_or_default().join(", ");
    vec![
        ("Addresses", addresses.into()),
        ("Bytes", rule.bytes.to_string().into()),
        ("Packets", rule.packets.to_string().into()),
        ("Rule", rule.rule.as_str().into()),
        ("Verdict", rule.verdict.as_str().into()),
    ]
}
