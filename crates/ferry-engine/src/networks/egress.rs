//! What containers may reach outside of their networks.

use std::net::IpAddr;

use ferry_network::Flows;

use super::connect::Wish;
use super::live::Running;
use super::places::Place;
use super::record::Driver;
use super::{Networks, names};
use crate::error::{Context, Error, Result};

impl Networks {
    /// Holds a container to its rules at all addresses that it sends from. Blocks.
    pub(super) fn restrict(&self, wish: &Wish, places: &[Place]) -> Result<()> {
        if wish.egress.is_none() {
            return Ok(());
        }
        if let Some(place) = places.iter().find(|place| place.network.driver != Driver::Bridge) {
            let text = format!(
                "egress rules are kept in networks with a bridge alone; {} is a {} network",
                place.network.name, place.network.driver_name
            );
            return Err(Error::invalid(text));
        }
        self.hold_to_rules(wish, places)
    }

    fn hold_to_rules(&self, wish: &Wish, places: &[Place]) -> Result<()> {
        let asks = places.iter().any(|place| !place.network.internal);
        let restricted =
            self.inner.networking.restrict(&wish.container_id, &sources(places), wish.egress.as_ref(), asks);
        restricted.context(format!("cannot limit what container {} reaches", wish.container_name))
    }

    /// Changes the rules of a container that runs, or ends them. What is no longer allowed ends at once. Blocks.
    pub(crate) fn restrict_running(&self, running: &Running<'_>) -> Result<()> {
        let wish = &running.wish;
        let sandbox = self.sandbox_of(running.process)?;
        let places = self.places(running)?;
        match wish.egress {
            Some(_) => self.restrict(wish, &places)?,
            None => self.hold_to_rules(wish, &places)?,
        }
        // Also where the rules have ended: a resolver that there is must know.
        let resolved = self.inner.networking.resolve(&sandbox, &names::resolver(wish, &places));
        resolved.context(format!("cannot tell container {} what it may ask for", wish.container_name))?;
        let forgotten = self.inner.networking.forget_flows_of(&sources(&places));
        forgotten.context(format!("cannot end what container {} may no longer do", wish.container_name))
    }

    /// What a container was allowed and refused. Blocks.
    pub(crate) fn flows(&self, container_id: &str) -> Result<Option<Flows>> {
        self.inner.networking.flows(container_id).context("cannot read what the container has sent")
    }
}

fn sources(places: &[Place]) -> Vec<IpAddr> {
    let of = |place: &Place| {
        let endpoint = &place.endpoint;
        let link_local = endpoint.link_local.iter().filter_map(|text| text.parse().ok());
        endpoint.address.into_iter().chain(endpoint.address6.map(IpAddr::V6)).chain(link_local).collect::<Vec<_>>()
    };
    places.iter().flat_map(of).collect()
}
