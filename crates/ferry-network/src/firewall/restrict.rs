//! Containers that may not reach everything: bringing their rules to the kernel and reading what was counted.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Firewall,
    egress::{self, Restricted},
    nftables::{self, BRIDGE, Element, INET, Listed},
    run_nft,
};
use crate::{
    egress::{Egress, Flows},
    error::Error,
};

/// Ports of bridges by which nothing comes but from the addresses that are theirs.
const STRICT: &str = "strict";
/// Ports and their hardware addresses.
const PORT_MACS: &str = "port_macs";
/// Those for which nothing else is looked at.
const UNLIMITED: &str = "unlimited";
/// Maps from the addresses of containers to their chains.
const MAPS: [&str; 2] = ["egress4", "egress6"];

impl Firewall {
    /// Lets a container that sends from these addresses reach what the rules say and nothing else.
    pub(crate) fn restrict(
        &mut self,
        container_id: &str,
        addresses: BTreeSet<IpAddr>,
        egress: &Egress,
    ) -> Result<(), Error> {
        self.need(|needs| needs.egress = true)?;
        self.make_ready()?;
        let has_v6 = addresses.iter().any(IpAddr::is_ipv6);
        if !self.guards || (has_v6 && !self.guards6) {
            let text =
                "egress rules need nftables with tables for bridges, which this kernel or its `nft` does not have";
            return Err(Error::Invalid(text.to_owned()));
        }
        self.be_strict(container_id)?;
        let before = self.restricted.get(container_id).cloned().unwrap_or_default();
        let after = Restricted { addresses, egress: egress.clone(), learnt: before.learnt_for(egress, container_id) };
        let text = after.text(&self.table, container_id, Instant::now())
            + &after.text_after(&before, &self.table, container_id);
        // First the list, from which a table that somebody removed is made again.
        let had = self.restricted.insert(container_id.to_owned(), after);
        let done = run_nft(&text).or_else(|error| {
            tracing::warn!(table = self.table, %error, "firewall is not as it was left, making it again");
            self.rebuild()
        });
        if done.is_err() {
            match had {
                Some(had) => self.restricted.insert(container_id.to_owned(), had),
                None => self.restricted.remove(container_id),
            };
        }
        done
    }

    /// Lets a container reach everything; one that could is fine.
    pub(crate) fn unrestrict(&mut self, container_id: &str) -> Result<(), Error> {
        let Some(restricted) = self.restricted.remove(container_id) else { return Ok(()) };
        if let Some(owned) = self.owned.get_mut(container_id) {
            let strict: Vec<_> = owned.iter().filter(|element| element.set == STRICT).cloned().collect();
            owned.retain(|element| element.set != STRICT);
            let macs = owned.iter().filter(|element| element.set == PORT_MACS);
            let unlimited: Vec<_> = macs.map(|element| Element { set: UNLIMITED, ..element.clone() }).collect();
            owned.extend(unlimited.iter().cloned());
            let mut requests = nftables::delete_elements(BRIDGE, &self.table, &strict);
            requests.extend(nftables::add_elements(BRIDGE, &self.table, &unlimited));
            self.apply(requests)?;
        }
        run_nft(&restricted.text_of_end(&self.table, container_id)).or_else(|error| {
            tracing::warn!(table = self.table, %error, "firewall is not as it was left, making it again");
            self.rebuild()
        })?;
        self.need_no_more()
    }

    /// Notes addresses of a name that a container may reach.
    pub(crate) fn learn(
        &mut self,
        container_id: &str,
        name: &str,
        addresses: &[IpAddr],
        stays: Duration,
    ) -> Result<(), Error> {
        let Some(restricted) = self.restricted.get_mut(container_id) else { return Ok(()) };
        match restricted.learn(&self.table, container_id, name, addresses, stays, Instant::now()).as_str() {
            "" => Ok(()),
            text => run_nft(text).or_else(|_| self.rebuild()),
        }
    }

    /// Whether any container may reach names.
    pub(crate) fn has_names(&self) -> bool {
        self.restricted.values().any(|restricted| restricted.egress.names().next().is_some())
    }

    /// What a container was allowed and refused; `None` where nothing is refused.
    pub(crate) fn flows(&mut self, container_id: &str) -> Result<Option<Flows>, Error> {
        let Some(restricted) = self.restricted.get(container_id) else { return Ok(None) };
        let counts = nftables::counters(&mut self.netlink, INET, &self.table)
            .map_err(|source| Error::kernel("list counters of", &self.table, source))?;
        Ok(Some(restricted.flows(container_id, &counts, Instant::now())))
    }

    /// Whether the kernel's table has rules of any container.
    pub(super) fn has_restricted(&mut self) -> Result<bool, Error> {
        let names = nftables::names(&mut self.netlink, INET, &self.table, Listed::Chain)
            .map_err(|source| Error::kernel("list", "egress rules", source))?;
        Ok(names.iter().any(|name| egress::owner(name).is_some()))
    }

    /// The rules of all, for a table that is made again.
    pub(super) fn restricted_text(&self) -> String {
        let now = Instant::now();
        self.restricted
            .iter()
            .map(|(container_id, restricted)| restricted.text(&self.table, container_id, now))
            .collect()
    }

    /// Removes what containers left that are gone; `live` are those that are there, also where their rules are not known yet.
    pub(super) fn remove_unrestricted(&mut self, live: &HashSet<String>) -> Result<(), Error> {
        // A container whose network could not be taken up again stays as restricted as it was.
        let kept: HashSet<String> = live.iter().map(|id| egress::chain(id)).collect();
        let failed = |source| Error::kernel("list", "egress rules", source);
        let mut text = String::new();
        for map in MAPS {
            let elements = nftables::elements(&mut self.netlink, INET, &self.table, map).map_err(failed)?;
            let gone: Vec<_> = elements.into_iter().filter(|element| !kept.contains(&element.comment)).collect();
            let requests = nftables::delete_elements(INET, &self.table, &gone);
            self.send(requests).map_err(failed)?;
        }
        for (listed, word) in [(Listed::Chain, "chain"), (Listed::Set, "set"), (Listed::Counter, "counter")] {
            let names = nftables::names(&mut self.netlink, INET, &self.table, listed).map_err(failed)?;
            for name in names.iter().filter(|name| egress::owner(name).is_some_and(|owner| !kept.contains(owner))) {
                if listed == Listed::Chain {
                    text += &format!("flush chain inet {} {name}\n", self.table);
                }
                text += &format!("delete {word} inet {} {name}\n", self.table);
            }
        }
        if text.is_empty() { Ok(()) } else { run_nft(&text) }
    }

    /// Ports of the container's endpoints: whoever is restricted by its addresses sends from no others.
    fn be_strict(&mut self, container_id: &str) -> Result<(), Error> {
        let Some(owned) = self.owned.get_mut(container_id) else { return Ok(()) };
        let ports: BTreeSet<Vec<u8>> = owned
            .iter()
            .filter(|element| element.set == PORT_MACS)
            .filter_map(|element| element.key.get(..16).map(<[u8]>::to_vec))
            .collect();
        let strict: Vec<_> = ports
            .into_iter()
            .map(|key| Element {
                set: STRICT,
                key,
                last: None,
                data: None,
                is_interval_end: false,
                comment: container_id.to_owned(),
            })
            .collect();
        owned.extend(strict.iter().cloned());
        let unlimited: Vec<_> = owned.iter().filter(|element| element.set == UNLIMITED).cloned().collect();
        owned.retain(|element| element.set != UNLIMITED);
        let mut requests = nftables::add_elements(BRIDGE, &self.table, &strict);
        requests.extend(nftables::delete_elements(BRIDGE, &self.table, &unlimited));
        self.apply(requests)
    }
}
