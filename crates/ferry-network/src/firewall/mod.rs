//! The instance's nftables table, and accepts in the forward chains of others.
//!
//! Owns the list of elements that the table must hold; the kernel's table follows it. Whenever the
//! kernel does not have what this list says (somebody flushed the ruleset), the whole table is made
//! again from it.

mod egress;
mod forward;
mod guard;
mod monitor;
mod nftables;
mod questions;
mod restrict;
mod ruleset;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io::Write as _,
    process::{Command, Stdio},
};

use crate::{
    error::Error,
    netlink::{Netlink, Refused, Request},
    types::{BridgeSpec, EndpointSpec, FirewallMark, InstanceId, PortTarget, PublishedPort},
};

use egress::Restricted;
pub(crate) use monitor::Monitor;
use nftables::{BRIDGE, Change, Element, INET};
pub(crate) use questions::{Questions, lead};
use ruleset::Needs;

/// Well below what a socket sends at once.
const TRANSACTION_BYTES: usize = 100 * 1024;

/// `NETLINK_NETFILTER`
const NETFILTER: u32 = 12;

/// Opens a socket to the kernel's firewall and connection tracking.
pub(crate) fn open_netfilter() -> std::io::Result<Netlink> {
    let protocol = std::num::NonZeroU32::new(NETFILTER).map(rustix::net::Protocol::from_raw);
    Netlink::open(protocol)
}

fn open_netfilter_group(group: u32) -> std::io::Result<Netlink> {
    let protocol = std::num::NonZeroU32::new(NETFILTER).map(rustix::net::Protocol::from_raw);
    Netlink::open_group(protocol, group)
}

/// What the daemon's configuration says of all networks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// Rules are for IPv6, too.
    pub(crate) ipv6: bool,
    /// Published ports are reached at the containers' own addresses, too.
    pub(crate) direct: bool,
    /// Packets with this mark reach containers.
    pub(crate) mark: Option<FirewallMark>,
}

/// The firewall of one instance.
#[derive(Debug)]
pub(crate) struct Firewall {
    instance: InstanceId,
    table: String,
    netlink: Netlink,
    bridges: BTreeMap<String, BridgeSpec>,
    ports: BTreeSet<Element>,
    /// What endpoints own, by container.
    owned: BTreeMap<String, BTreeSet<Element>>,
    /// Containers that may not reach everything.
    restricted: BTreeMap<String, Restricted>,
    /// The kernel has tables for bridges.
    guards: bool,
    /// And `nft` words for what IPv6 needs.
    guards6: bool,
    habits: Habits,
    /// The rules that not everybody needs and that are there; `None` before the kernel's table was looked at.
    needs: Option<Needs>,
    is_ready: bool,
}

impl Firewall {
    /// Opens the kernel's firewall. Nothing is changed before the first bridge.
    pub(crate) fn open(instance: InstanceId, habits: Habits) -> Result<Self, Error> {
        let netlink = open_netfilter().map_err(|source| Error::kernel("open", "netfilter socket", source))?;
        let table = instance.table();
        Ok(Self {
            instance,
            table,
            netlink,
            bridges: BTreeMap::new(),
            ports: BTreeSet::new(),
            owned: BTreeMap::new(),
            restricted: BTreeMap::new(),
            guards: false,
            guards6: false,
            habits,
            needs: None,
            is_ready: false,
        })
    }

    /// Makes the rules for a bridge.
    pub(crate) fn ensure_bridge(&mut self, bridge: &BridgeSpec) -> Result<(), Error> {
        let before = self.bridges.insert(bridge.link.clone(), bridge.clone());
        if bridge.internal {
            self.need(|needs| needs.internal = true)?;
        }
        self.make_ready()?;
        if before.is_some_and(|before| before != *bridge) {
            self.rebuild()?;
            return self.accept_in_others();
        }
        let (wanted, unwanted) = ruleset::bridge_elements(bridge, self.habits.ipv6);
        let mut requests = nftables::add_elements(INET, &self.table, &wanted);
        // Deleting needs the element to be there, so it is added first.
        requests.extend(nftables::add_elements(INET, &self.table, &unwanted));
        requests.extend(nftables::delete_elements(INET, &self.table, &unwanted));
        if self.guards {
            requests.extend(nftables::add_elements(BRIDGE, &self.table, &self.guarded(guard::bridge_elements(bridge))));
        }
        self.apply(requests)?;
        self.accept_in_others()
    }

    /// Removes the rules for a bridge.
    pub(crate) fn remove_bridge(&mut self, link: &str) -> Result<(), Error> {
        if let Some(bridge) = self.bridges.remove(link) {
            let (elements, _) = ruleset::bridge_elements(&bridge, self.habits.ipv6);
            let mut requests = nftables::delete_elements(INET, &self.table, &elements);
            if self.guards {
                let elements = self.guarded(guard::bridge_elements(&bridge));
                requests.extend(nftables::delete_elements(BRIDGE, &self.table, &elements));
            }
            self.apply(requests)?;
            if bridge.internal {
                self.need_no_more()?;
            }
        }
        self.remove_accepts()
    }

    /// Translates the ports of a container.
    pub(crate) fn publish(
        &mut self,
        container_id: &str,
        target: &PortTarget,
        ports: &[PublishedPort],
    ) -> Result<(), Error> {
        let elements = port_elements(container_id, target, ports, self.habits);
        if elements.is_empty() {
            return Ok(());
        }
        self.ports.extend(elements.iter().cloned());
        self.make_ready()?;
        let result = self.apply(nftables::add_elements(INET, &self.table, &elements));
        if result.is_err() {
            self.forget_ports(&elements);
        }
        result
    }

    /// Ends the translation of the ports of a container.
    pub(crate) fn unpublish(
        &mut self,
        container_id: &str,
        target: &PortTarget,
        ports: &[PublishedPort],
    ) -> Result<(), Error> {
        let elements = port_elements(container_id, target, ports, self.habits);
        if elements.is_empty() {
            return Ok(());
        }
        self.forget_ports(&elements);
        self.apply(nftables::delete_elements(INET, &self.table, &elements))
    }

    fn forget_ports(&mut self, elements: &[Element]) {
        for element in elements {
            self.ports.remove(element);
        }
    }

    /// Reserves the addresses of an endpoint on its bridge for it.
    pub(crate) fn guard(&mut self, endpoint: &EndpointSpec, host_end: &str) -> Result<(), Error> {
        self.make_ready()?;
        if !self.guards {
            return Ok(());
        }
        let elements = self.guarded(guard::endpoint_elements(endpoint, host_end));
        let requests = nftables::add_elements(BRIDGE, &self.table, &elements);
        self.owned.entry(endpoint.container_id.clone()).or_default().extend(elements);
        self.apply(requests)
    }

    /// Gives up what the endpoints of a container own.
    pub(crate) fn unguard(&mut self, container_id: &str) -> Result<(), Error> {
        let Some(elements) = self.owned.remove(container_id) else { return Ok(()) };
        // An address may have gone to another container already.
        let kept: BTreeSet<_> = self.owned.values().flatten().map(|element| (element.set, &element.key)).collect();
        let gone: Vec<_> = elements.iter().filter(|element| !kept.contains(&(element.set, &element.key))).collect();
        let requests = nftables::delete_elements(BRIDGE, &self.table, gone);
        self.apply(requests)
    }

    /// Gives up what one endpoint of a container owns that goes on living.
    pub(crate) fn unguard_endpoint(&mut self, endpoint: &EndpointSpec) -> Result<(), Error> {
        let Some(elements) = self.owned.get_mut(&endpoint.container_id) else { return Ok(()) };
        let is_of = |element: &Element| guard::is_of_endpoint(element, endpoint);
        let gone: Vec<_> = elements.iter().filter(|element| is_of(element)).cloned().collect();
        elements.retain(|element| !is_of(element));
        let requests = nftables::delete_elements(BRIDGE, &self.table, &gone);
        self.apply(requests)
    }

    /// Sets of the table for bridges.
    fn guard_sets(&self) -> Vec<&'static str> {
        let more = if self.guards6 { guard::SETS6.as_slice() } else { &[] };
        guard::SETS.iter().chain(more).copied().collect()
    }

    /// Elements of those.
    fn guarded(&self, mut elements: Vec<Element>) -> Vec<Element> {
        elements.retain(|element| self.guards6 || !guard::SETS6.contains(&element.set));
        elements
    }

    /// Takes over what endpoints of living containers own by the kernel's table.
    fn take_up_owned(&mut self, live: &HashSet<String>) -> Result<(), Error> {
        self.owned.retain(|container_id, _| live.contains(container_id));
        if !self.guards {
            return Ok(());
        }
        for set in self.guard_sets() {
            let elements = nftables::elements(&mut self.netlink, BRIDGE, &self.table, set)
                .map_err(|source| Error::kernel("list set", set, source))?;
            for element in elements.into_iter().filter(|element| live.contains(&element.comment)) {
                self.owned.entry(element.comment.clone()).or_default().insert(element);
            }
        }
        Ok(())
    }

    /// Takes ports that an earlier daemon published into the list, without touching the kernel.
    pub(crate) fn take_up(&mut self, container_id: &str, target: &PortTarget, ports: &[PublishedPort]) {
        self.ports.extend(port_elements(container_id, target, ports, self.habits));
    }

    /// Makes the kernel hold exactly the list. Returns whether the table had been missing.
    pub(crate) fn restore(&mut self, bridges: &[BridgeSpec], live: &HashSet<String>) -> Result<bool, Error> {
        self.bridges = bridges.iter().map(|bridge| (bridge.link.clone(), bridge.clone())).collect();
        let was_there = self.has_table()?;
        if self.bridges.is_empty() && self.ports.is_empty() {
            self.remove_table()?;
        } else {
            let needs = self.needed_now()?;
            self.need(|before| *before = needs)?;
            self.make_ready()?;
            self.take_up_owned(live)?;
            self.rebuild()?;
            self.remove_unrestricted(live)?;
        }
        self.accept_in_others()?;
        self.remove_accepts()?;
        Ok(!was_there && !self.bridges.is_empty())
    }

    /// Tells whether something that happened may have taken rules of ours away.
    fn is_concerned(&self, change: &Change) -> bool {
        match change {
            _ if self.bridges.is_empty() => false,
            Change::TableGone(_) => true,
            Change::Chain { table, chain } => {
                *table != self.table && (chain.eq_ignore_ascii_case("forward") || chain == forward::DOCKER_USER)
            }
        }
    }

    /// Makes again what is missing.
    fn repair(&mut self) -> Result<(), Error> {
        if self.bridges.is_empty() {
            return Ok(());
        }
        if !self.has_table()? {
            tracing::warn!(table = self.table, "somebody removed the firewall, making it again");
            self.rebuild()?;
        }
        self.accept_in_others()
    }

    /// Removes the table and the accepts.
    pub(crate) fn remove_everything(&mut self) -> Result<(), Error> {
        self.bridges.clear();
        self.ports.clear();
        self.owned.clear();
        self.restricted.clear();
        self.remove_table()?;
        self.remove_accepts()
    }

    fn has_table(&mut self) -> Result<bool, Error> {
        let failed = |source| Error::kernel("look up table", &self.table, source);
        let has_inet = nftables::has_table(&mut self.netlink, INET, &self.table).map_err(failed)?;
        let has_guard = !self.guards || nftables::has_table(&mut self.netlink, BRIDGE, &self.table).map_err(failed)?;
        Ok(has_inet && has_guard)
    }

    /// Takes away rules that nobody needs any more.
    fn need_no_more(&mut self) -> Result<(), Error> {
        let needs = self.needed_now()?;
        let was_ready = self.is_ready;
        self.need(|before| *before = needs)?;
        if was_ready { self.make_ready() } else { Ok(()) }
    }

    /// By the bridges that there are, and containers with rules, which may have them from an earlier daemon.
    fn needed_now(&mut self) -> Result<Needs, Error> {
        let internal = self.bridges.values().any(|bridge| bridge.internal);
        Ok(Needs { internal, egress: self.has_restricted()? })
    }

    /// Changes which of the rules are to be there that not everybody needs.
    fn need(&mut self, change: impl FnOnce(&mut Needs)) -> Result<(), Error> {
        let before = self.needed()?;
        let mut after = before;
        change(&mut after);
        self.is_ready &= before == after;
        self.needs = Some(after);
        Ok(())
    }

    /// At first what an earlier daemon's containers and networks need: until all of those are known, nothing is opened to them.
    fn needed(&mut self) -> Result<Needs, Error> {
        if let Some(needs) = self.needs {
            return Ok(needs);
        }
        let failed = |source| Error::kernel("look up table", &self.table, source);
        let needs = match nftables::has_table(&mut self.netlink, INET, &self.table).map_err(failed)? {
            true => Needs { internal: self.has_internal()?, egress: self.has_restricted()? },
            false => Needs::default(),
        };
        self.needs = Some(needs);
        Ok(needs)
    }

    fn has_internal(&mut self) -> Result<bool, Error> {
        let elements = nftables::elements(&mut self.netlink, INET, &self.table, "internal");
        let elements = elements.map_err(|source| Error::kernel("list set", "internal", source))?;
        Ok(!elements.is_empty())
    }

    fn make_ready(&mut self) -> Result<(), Error> {
        if !self.is_ready {
            let needs = self.needed()?;
            // Apart from the rest: a kernel may be built without tables for bridges.
            let guards = run_nft(&guard::text(&self.instance, needs.egress));
            if let Err(error) = &guards {
                tracing::warn!(%error, "containers can take one another's addresses");
            }
            self.guards = guards.is_ok();
            let guards6 = if self.guards { run_nft(&guard::text6(&self.instance)) } else { guards };
            if let Err(error) = &guards6 {
                tracing::warn!(%error, "containers can take one another's IPv6 addresses");
            }
            self.guards6 = guards6.is_ok();
            let rules = ruleset::text(&self.table, &self.habits, needs, self.guards);
            run_nft(&(rules + &self.restricted_text()))?;
            self.is_ready = true;
        }
        Ok(())
    }

    /// Sends a transaction; when the kernel's table is not what it should be, makes it again.
    fn apply(&mut self, requests: Vec<Request>) -> Result<(), Error> {
        match self.send(requests) {
            Ok(()) => Ok(()),
            Err(source) => {
                tracing::warn!(table = self.table, error = %source, "firewall is not as it was left, making it again");
                self.rebuild()
            }
        }
    }

    fn rebuild(&mut self) -> Result<(), Error> {
        self.is_ready = false;
        self.make_ready()?;
        let mut requests: Vec<_> =
            ruleset::SETS.iter().map(|set| nftables::flush_set(INET, &self.table, set)).collect();
        let bridges: Vec<_> =
            self.bridges.values().flat_map(|bridge| ruleset::bridge_elements(bridge, self.habits.ipv6).0).collect();
        requests.extend(nftables::add_elements(INET, &self.table, bridges.iter().chain(&self.ports)));
        if self.guards {
            requests.extend(self.guard_sets().iter().map(|set| nftables::flush_set(BRIDGE, &self.table, set)));
            let bridges = self.guarded(self.bridges.values().flat_map(guard::bridge_elements).collect());
            let owned = self.owned.values().flatten();
            requests.extend(nftables::add_elements(BRIDGE, &self.table, bridges.iter().chain(owned)));
        }
        self.send(requests).map_err(|source| Error::kernel("fill table", &self.table, source))
    }

    /// One transaction, or several where a socket would not hold it: thousands of ports at once.
    fn send(&mut self, requests: Vec<Request>) -> std::io::Result<()> {
        let mut part = Vec::new();
        let mut bytes = 0;
        for request in requests {
            if bytes + request.payload.len() > TRANSACTION_BYTES {
                self.send_part(std::mem::take(&mut part))?;
                bytes = 0;
            }
            bytes += request.payload.len();
            part.push(request);
        }
        self.send_part(part)
    }

    fn send_part(&mut self, requests: Vec<Request>) -> std::io::Result<()> {
        self.netlink.send(&nftables::transaction(requests)).map_err(|refused| refused.source)
    }

    fn remove_table(&mut self) -> Result<(), Error> {
        self.is_ready = false;
        for family in [INET, BRIDGE] {
            match self.netlink.send(&nftables::transaction(vec![nftables::delete_table(family, &self.table)])) {
                Err(Refused { source, .. }) if family == INET && source.raw_os_error() != Some(libc::ENOENT) => {
                    return Err(Error::kernel("delete table", &self.table, source));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn accept_in_others(&mut self) -> Result<(), Error> {
        let links = open_links(&self.bridges);
        forward::ensure(&mut self.netlink, &self.instance, &links)
    }

    fn remove_accepts(&mut self) -> Result<(), Error> {
        let links = open_links(&self.bridges);
        forward::remove(&mut self.netlink, &self.instance, &links)
    }
}

/// Bridges that something is forwarded for.
fn open_links(bridges: &BTreeMap<String, BridgeSpec>) -> Vec<&str> {
    bridges.values().filter(|bridge| !bridge.internal).map(|bridge| bridge.link.as_str()).collect()
}

fn port_elements(container_id: &str, target: &PortTarget, ports: &[PublishedPort], habits: Habits) -> Vec<Element> {
    // Two host ports of one container port are open once.
    let ports = ports.iter().filter(|port| habits.ipv6 || port.host_ip.is_ipv4());
    let target = &PortTarget { opened: target.opened || habits.direct, ..*target };
    let elements: BTreeSet<_> = ports.flat_map(|port| ruleset::port_elements(container_id, port, target)).collect();
    elements.into_iter().collect()
}

/// Runs `nft` over a text: one transaction.
fn run_nft(text: &str) -> Result<(), Error> {
    let failed = |source| Error::Program { program: "nft".to_owned(), source };
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Firewall { program: "nft".to_owned(), text });
    }
    written.map_err(failed)
}
