//! What containers may send: how fast, and where to.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, MutexGuard, PoisonError},
};

use super::Networking;
use crate::{
    conntrack,
    egress::{Egress, Flows},
    error::Error,
    firewall::open_netfilter,
    learning::{self, Learning},
    netlink,
    sandbox::Sandbox,
    shaping::{self, Shaping},
    types::EndpointSpec,
};

impl Networking {
    pub(super) fn shape_new(&self, endpoint: &EndpointSpec, host_end: &str) -> Result<(), Error> {
        if !endpoint.shaping.is_any() {
            return Ok(());
        }
        let mut route = self.route();
        let link = netlink::route::link_by_name(&mut route, host_end)
            .map_err(|source| Error::kernel("look up link", host_end, source))?
            .ok_or_else(|| Error::NoSuchLink(host_end.to_owned()))?;
        // Noted before anything is made: what is half-made is looked for by this.
        self.shaped().insert(endpoint.container_id.clone());
        shaping::apply(&mut route, &self.options.instance, &endpoint.container_id, &link, &endpoint.shaping)
    }

    /// Limits the traffic of a container that runs, on each of its endpoints that have an end on the host; what is zero is limited no longer.
    ///
    /// # Errors
    /// `NoQueueing` and `NoKind` where the kernel lacks what is needed.
    pub fn shape(&self, container_id: &str, shaping: &Shaping) -> Result<(), Error> {
        if !shaping.is_any() && !self.shaped().contains(container_id) {
            return Ok(());
        }
        self.shaped().insert(container_id.to_owned());
        shaping::apply_to_all(&mut self.route(), &self.options.instance, container_id, shaping)
    }

    /// Limits what goes by a link in a sandbox that has no end on the host. It is kept there, for a container that can neither administer
    /// its namespace nor use raw sockets.
    ///
    /// # Errors
    /// As [`Networking::shape`]; `NoSuchLink`.
    pub fn shape_inside(&self, sandbox: &Sandbox, interface: &str, shaping: &Shaping) -> Result<(), Error> {
        shaping::inside::apply(sandbox, interface, shaping)
    }

    /// Tells whether the kernel can delay and lose packets.
    ///
    /// # Errors
    /// Fails when it cannot be tried.
    pub fn can_delay(&self) -> Result<bool, Error> {
        shaping::can_delay()
    }

    /// Lets a container that sends from these addresses reach what the rules say and nothing else outside of its networks; without
    /// rules, everything. `asks` tells whether its networks lead to name servers.
    ///
    /// # Errors
    /// `Invalid` where there is no firewall, or not one that can do it.
    pub fn restrict(
        &self,
        container_id: &str,
        addresses: &[IpAddr],
        egress: Option<&Egress>,
        asks: bool,
    ) -> Result<(), Error> {
        let Some(egress) = egress else { return self.with_firewall(|firewall| firewall.unrestrict(container_id)) };
        let Some(firewall) = &self.firewall else {
            let text = "egress rules need the daemon's firewall, which is switched off (`iptables`)";
            return Err(Error::Invalid(text.to_owned()));
        };
        let addresses = addresses.iter().copied().collect();
        self.with_firewall(|firewall| firewall.restrict(container_id, addresses, egress))?;
        let names: Vec<String> = egress.names().map(str::to_owned).collect();
        if names.is_empty() || !asks {
            return Ok(());
        }
        self.learn()?;
        let plain = names.into_iter().filter(|name| !name.starts_with("*.")).collect();
        learning::resolve_once(Arc::downgrade(firewall), container_id, plain);
        Ok(())
    }

    /// Ends what these addresses have begun and may no longer go on with; what they may, goes on.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn forget_flows_of(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        let netlink = open_netfilter().map_err(|source| Error::kernel("open", "netfilter socket", source));
        conntrack::forget_from(&mut netlink?, addresses)
    }

    /// What a container was allowed and refused; `None` where nothing is refused.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn flows(&self, container_id: &str) -> Result<Option<Flows>, Error> {
        let mut flows = None;
        self.with_firewall(|firewall| {
            flows = firewall.flows(container_id)?;
            Ok(())
        })?;
        Ok(flows)
    }

    fn learn(&self) -> Result<(), Error> {
        let Some(firewall) = &self.firewall else { return Ok(()) };
        let mut learning = self.learning.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |source| Error::kernel("follow", "answers of names", source);
        let learning = match &mut *learning {
            Some(learning) => learning,
            none => {
                let folder = self.options.exec_root.join("netd");
                let new = Learning::new(folder, Arc::downgrade(firewall), Arc::downgrade(&self.ports));
                none.insert(new.map_err(failed)?)
            }
        };
        learning.ensure().map_err(failed)
    }

    /// Links that a container's traffic was led through; what fails is found by the next sweep.
    pub(super) fn remove_detours(&self, container_id: &str, all: bool) {
        if !self.shaped().contains(container_id) {
            return;
        }
        match shaping::remove_detours(&mut self.route(), &self.options.instance, container_id, all) {
            Ok(()) if all => {
                self.shaped().remove(container_id);
            }
            Ok(()) => {}
            Err(error) => tracing::warn!(container = container_id, %error, "cannot remove what limited its traffic"),
        }
    }

    fn shaped(&self) -> MutexGuard<'_, HashSet<String>> {
        self.shaped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
