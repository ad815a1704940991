//! `port`

use ferry_api::container::{Inspect, PortBinding};

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Runs `port`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let client = context.client().await?;
    let inspect: Inspect = client.container_inspect(&parsed.args[0], false).await?.typed()?;
    let ports = inspect.network_settings.ports;
    if let Some(wanted) = parsed.args.get(1) {
        let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        number
            .parse::<u16>()
            .map_err(|_| Failure::new(format!("Error: invalid port ({wanted}): {}", bad_number(number))))?;
        let key = format!("{number}/{protocol}");
        let bindings = ports.get(&key).cloned().flatten().unwrap_or_default();
        if bindings.is_empty() {
            return Err(Failure::new(format!("Error: No public port '{wanted}' published for {}", parsed.args[0])));
        }
        for binding in sorted(bindings) {
            context.printer.line(&address(&binding))?;
        }
        return Ok(0);
    }
    let mut keys: Vec<_> = ports.into_iter().collect();
    keys.sort_by_key(|(port, _)| port_number(port));
    for (port, bindings) in keys {
        for binding in sorted(bindings.unwrap_or_default()) {
            context.printer.line(&format!("{port} -> {}", address(&binding)))?;
        }
    }
    Ok(0)
}

fn bad_number(text: &str) -> String {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let why = if is_number { "value out of range" } else { "invalid syntax" };
    format!("strconv.ParseUint: parsing {}: {why}", crate::flags::go_quote(text))
}

fn port_number(port: &str) -> (u16, String) {
    let (number, protocol) = port.split_once('/').unwrap_or((port, ""));
    (number.parse().unwrap_or(0), protocol.to_owned())
}

fn sorted(mut bindings: Vec<PortBinding>) -> Vec<PortBinding> {
    bindings.sort_by_key(address);
    bindings
}

fn address(binding: &PortBinding) -> String {
    if binding.host_ip.contains(':') {
        return format!("[{}]:{}", binding.host_ip, binding.host_port);
    }
    format!("{}:{}", binding.host_ip, binding.host_port)
}
