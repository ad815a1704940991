//! How fast a container may send and receive: ferry's own limits, from the words of the API to those of the network.

use ferry_api::container::{HostConfig, Resources};
use ferry_network::Shaping;

use crate::error::{Context, Error, Result};
use crate::networks::Networks;

const MILLION: i64 = 1_000_000;

/// Ends a limit in an update.
const NONE: i64 = -1;

/// Checks what is asked for; `before` is what an update changes.
pub(super) fn check(resources: &Resources, networks: &Networks) -> Result<()> {
    for (name, value) in [
        ("NetIn", resources.net_in),
        ("NetOut", resources.net_out),
        ("NetDelay", resources.net_delay),
        ("NetLoss", resources.net_loss),
    ] {
        if value < NONE {
            return Err(Error::invalid(format!("invalid {name}: {value} is below zero")));
        }
    }
    if resources.net_loss > MILLION {
        return Err(Error::invalid(format!("invalid NetLoss: {} of a million packets", resources.net_loss)));
    }
    let delays = resources.net_delay > 0 || resources.net_loss > 0;
    if delays && !networks.can_delay().context("cannot try to delay packets")? {
        let text = "delay and loss need `netem`, which this kernel does not have: it is built without it and has no module for it";
        return Err(Error::invalid(text.to_owned()));
    }
    Ok(())
}

/// Refuses limits of what is not the container's own.
pub(super) fn check_mode(host: &HostConfig) -> std::result::Result<(), String> {
    let mode = host.network_mode.as_str();
    let has_none = matches!(mode, "host" | "none") || mode.starts_with("container:");
    match has_none && of(host).is_any() {
        true => Err(format!("conflicting options: limits of network traffic and the network mode {mode}")),
        false => Ok(()),
    }
}

/// As the network takes them.
pub(super) fn of(host: &HostConfig) -> Shaping {
    let positive = |value: i64| u64::try_from(value).unwrap_or(0);
    Shaping {
        in_bits: positive(host.net_in),
        out_bits: positive(host.net_out),
        delay_ns: positive(host.net_delay),
        loss_ppm: u32::try_from(host.net_loss).unwrap_or(0),
    }
}

/// What an update leaves: zero is not asked for, and what is below ends a limit.
pub(super) fn merge(after: &mut HostConfig, asked: &Resources) {
    for (value, new) in [
        (&mut after.net_in, asked.net_in),
        (&mut after.net_out, asked.net_out),
        (&mut after.net_delay, asked.net_delay),
        (&mut after.net_loss, asked.net_loss),
    ] {
        if new != 0 {
            *value = new.max(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_changes_ends_and_keeps() {
        let mut host = HostConfig { net_in: 5, net_out: 6, net_loss: 7, ..HostConfig::default() };
        merge(&mut host, &Resources { net_in: 9, net_out: -1, ..Resources::default() });
        assert_eq!((host.net_in, host.net_out, host.net_loss), (9, 0, 7));
        assert_eq!(of(&host), Shaping { in_bits: 9, loss_ppm: 7, ..Shaping::default() });
    }

    #[test]
    fn networks_of_others_are_not_limited() {
        let host = |mode: &str| HostConfig { net_in: 5, network_mode: mode.into(), ..HostConfig::default() };
        for mode in ["host", "none", "container:x"] {
            assert!(check_mode(&host(mode)).is_err(), "{mode}");
            assert!(check_mode(&HostConfig { net_in: 0, ..host(mode) }).is_ok(), "{mode}");
        }
        assert!(check_mode(&host("bridge")).is_ok());
    }
}
