//! How fast a container may send and receive, and what it may reach: ferry's own limits, from the words of the API to those of the network.

use std::os::fd::AsFd;
use std::sync::Arc;

use ferry_api::container::{FlowRule, Flows, HostConfig, Resources};
use ferry_network::{Count, Egress, Shaping};

use super::process::process_of;
use super::record::Record;
use super::{Container, Containers, bundle};
use crate::blocking;
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
    Egress::parse(resources.egress.as_deref().unwrap_or_default()).map_err(Error::invalid)?;
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
    match has_none && (of(host).is_any() || egress_of(host).is_some()) {
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

/// The first right of the container's with which it could go around limits that are kept in its own namespace: to change them, or to
/// send and receive past them.
pub(super) fn way_around(host: &HostConfig) -> Result<Option<String>> {
    let has = bundle::capabilities(host, &super::control::held_capabilities())?;
    Ok(["CAP_NET_ADMIN", "CAP_NET_RAW"]
        .into_iter()
        .find(|right| has.iter().any(|name| name == right))
        .map(str::to_owned))
}

/// The rules of what a container may reach; none is everything.
pub(super) fn egress_of(host: &HostConfig) -> Option<Egress> {
    // What cannot be read was never taken.
    Egress::parse(host.egress.as_deref().unwrap_or_default()).unwrap_or(Some(Egress::default()))
}

impl Containers {
    /// Tells what a container was allowed to send and refused.
    ///
    /// API: `GET /containers/{id}/flows`, ferry's own
    ///
    /// # Errors
    /// NotFound; Conflict where it has rules and does not run, since the kernel counts.
    pub async fn flows(&self, reference: &str) -> Result<Flows> {
        let record = self.find(reference)?.snapshot();
        if egress_of(&record.host_config).is_none() {
            return Ok(Flows::default());
        }
        if !record.status.is_live() {
            return Err(Error::conflict(format!("container {} is not running", record.id)));
        }
        let (networks, id) = (self.inner.networks.clone(), record.id.clone());
        let found = blocking(move || networks.flows(&id)).await?;
        Ok(found.map(shown).unwrap_or_default())
    }

    /// Brings what a container may reach to what its record says. The caller has written that.
    pub(super) async fn restrict_live(
        &self,
        container: &Arc<Container>,
        before: &Record,
        after: &Record,
    ) -> Result<()> {
        if egress_of(&before.host_config) == egress_of(&after.host_config) || !after.status.is_live() {
            return Ok(());
        }
        // It has just ended; the next start takes the rules out of the record.
        let Some(process) = process_of(container).await? else { return Ok(()) };
        let (containers, container) = (self.clone(), Arc::clone(container));
        blocking(move || containers.restrict_now(&container.snapshot(), process.as_fd())).await
    }
}

fn shown(flows: ferry_network::Flows) -> Flows {
    let row = |rule: &str, verdict: &str, count: Count, addresses: Option<Vec<String>>| FlowRule {
        rule: rule.to_owned(),
        verdict: verdict.to_owned(),
        packets: count.packets,
        bytes: count.bytes,
        addresses,
    };
    let mut rules: Vec<FlowRule> = Vec::new();
    let mut has_names = false;
    for (rule, count, addresses) in flows.rules {
        let is_name = matches!(rule.target, ferry_network::EgressTarget::Name(_));
        has_names |= is_name;
        let addresses = is_name.then(|| addresses.iter().map(ToString::to_string).collect());
        rules.push(row(&rule.to_string(), "allowed", count, addresses));
    }
    if has_names {
        rules.push(row("established", "allowed", flows.established, None));
    }
    rules.push(row("other", "denied", flows.denied, None));
    Flows { restricted: true, rules }
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
    if let Some(words) = &asked.egress {
        let ends = words.is_empty() || words.iter().any(|word| word == "any");
        after.egress = (!ends).then(|| words.clone());
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
    fn rights_to_go_around_limits_are_known() {
        let host = |add: &[&str], drop: &[&str]| HostConfig {
            cap_add: Some(add.iter().map(|name| (*name).to_owned()).collect()),
            cap_drop: Some(drop.iter().map(|name| (*name).to_owned()).collect()),
            ..HostConfig::default()
        };
        let of = |host: &HostConfig| way_around(host).expect("known capabilities");
        assert_eq!(of(&host(&[], &["NET_RAW"])), None);
        assert_eq!(of(&host(&[], &["ALL"])), None);
        let held = super::super::control::held_capabilities();
        if held.iter().any(|name| name == "CAP_NET_RAW") {
            assert_eq!(of(&HostConfig::default()).as_deref(), Some("CAP_NET_RAW"));
        }
        if held.iter().any(|name| name == "CAP_NET_ADMIN") {
            assert_eq!(of(&host(&["NET_ADMIN"], &["NET_RAW"])).as_deref(), Some("CAP_NET_ADMIN"));
        }
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
