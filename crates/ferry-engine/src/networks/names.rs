//! Names: a container becomes known in its networks and can ask for the others there.

use std::net::IpAddr;

use ferry_network::{Named, NetworkName, ResolverSpec, Sandbox};

use super::Networks;
use super::connect::Wish;
use super::places::Place;
use crate::containers::record::EndpointRecord;
use crate::error::{Context, Result};

impl Networks {
    /// Gives a container its resolver and its names, if it is in a network that has names: all but the engine's own. Asked again it
    /// brings them to what they should be.
    pub(super) fn introduce(&self, sandbox: &Sandbox, wish: &Wish, places: &[Place]) -> Result<()> {
        // One that may not reach everything may not ask for everything either, on the default bridge too.
        if wish.egress.is_none() && !places.iter().any(|place| place.network.user_defined) {
            return Ok(());
        }
        let doing = || format!("cannot make container {} known by name", wish.container_name);
        self.inner.networking.resolve(sandbox, &resolver(wish, places)).context(doing())?;
        for (place, asked) in places.iter().zip(&wish.endpoints).filter(|(place, _)| place.network.user_defined) {
            let named = Named {
                network_id: place.endpoint.network_id.clone(),
                container_id: wish.container_id.clone(),
                names: names(&wish.container_id, &wish.container_name, &place.endpoint, &asked.names),
                addresses: place.endpoint.address.into_iter().chain(place.endpoint.address6.map(IpAddr::V6)).collect(),
            };
            self.inner.networking.join_names(named).context(doing())?;
        }
        Ok(())
    }
}

/// How a container is answered.
pub(super) fn resolver(wish: &Wish, places: &[Place]) -> ResolverSpec {
    let known = places.iter().filter(|place| place.network.user_defined);
    let networks =
        known.map(|place| NetworkName { id: place.endpoint.network_id.clone(), name: place.network.name.clone() });
    let links = places.iter().flat_map(|place| &place.endpoint.links).filter_map(|link| {
        let (target, alias) = link.split_once(':')?;
        Some((alias.to_owned(), target.trim_start_matches('/').to_owned()))
    });
    ResolverSpec {
        container_id: wish.container_id.clone(),
        networks: networks.collect(),
        servers: wish.name_servers.clone(),
        forwards: places.iter().any(|place| !place.network.internal),
        links: links.collect(),
        watched: wish.egress.iter().flat_map(|egress| egress.names().map(str::to_owned)).collect(),
        asked_in: wish.egress.as_ref().and_then(ferry_network::Egress::name_server_nets),
    }
}

/// Every name of a container in a network, its own first; as Docker, without those that would be twice.
pub(crate) fn names(
    container_id: &str,
    container_name: &str,
    endpoint: &EndpointRecord,
    more: &[String],
) -> Vec<String> {
    let mut names = vec![container_name.to_owned()];
    let short_id = container_id.get(..12).unwrap_or(container_id).to_owned();
    for name in endpoint.aliases.iter().cloned().chain([short_id]).chain(more.iter().cloned()) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_once_and_in_order() {
        let endpoint = EndpointRecord { aliases: vec!["db".into(), "web".into()], ..EndpointRecord::default() };
        let more = ["0123456789ab".to_owned(), "host".to_owned()];
        let names = names("0123456789abcdef", "web", &endpoint, &more);
        assert_eq!(names, ["web", "db", "0123456789ab", "host"]);
    }
}
