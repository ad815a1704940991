//! Who has which name in which network. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use crate::types::{Named, ResolverSpec};

use super::message::{self, A, AAAA, Answer, PTR, Question};

/// The names of all networks.
#[derive(Debug, Default)]
pub(crate) struct Zones {
    networks: HashMap<String, Zone>,
    /// Counts answers, so that each begins with another address.
    turn: usize,
}

/// The names of one network.
#[derive(Debug, Default)]
struct Zone {
    members: BTreeMap<String, Named>,
    by_name: HashMap<String, BTreeSet<String>>,
    by_address: HashMap<IpAddr, String>,
}

impl Zones {
    /// Puts a container's names in a network in the place of those that it had there.
    pub(crate) fn join(&mut self, mut named: Named) {
        named.names.iter_mut().for_each(|name| name.make_ascii_lowercase());
        self.leave(&named.network_id, &named.container_id);
        let zone = self.networks.entry(named.network_id.clone()).or_default();
        for name in &named.names {
            zone.by_name.entry(name.clone()).or_default().insert(named.container_id.clone());
        }
        for address in &named.addresses {
            zone.by_address.insert(*address, named.container_id.clone());
        }
        zone.members.insert(named.container_id.clone(), named);
    }

    /// Takes a container's names in a network away.
    pub(crate) fn leave(&mut self, network_id: &str, container_id: &str) {
        let Some(zone) = self.networks.get_mut(network_id) else { return };
        let Some(named) = zone.members.remove(container_id) else { return };
        for name in &named.names {
            if let Some(owners) = zone.by_name.get_mut(name) {
                owners.remove(container_id);
                if owners.is_empty() {
                    zone.by_name.remove(name);
                }
            }
        }
        for address in &named.addresses {
            if zone.by_address.get(address).is_some_and(|owner| owner == container_id) {
                zone.by_address.remove(address);
            }
        }
        if zone.members.is_empty() {
            self.networks.remove(network_id);
        }
    }

    /// Takes a container's names away everywhere.
    pub(crate) fn leave_all(&mut self, container_id: &str) {
        let networks: Vec<String> = self.networks.keys().cloned().collect();
        for network_id in networks {
            self.leave(&network_id, container_id);
        }
    }

    /// Answers a question of a container; `None` is for others to answer.
    pub(crate) fn answer(&mut self, resolver: &ResolverSpec, question: &Question) -> Option<Answer> {
        if question.kind == PTR {
            let address = message::asked_address(&question.name)?;
            return resolver.networks.iter().find_map(|network| {
                let zone = self.networks.get(&network.id)?;
                let named = zone.members.get(zone.by_address.get(&address)?)?;
                Some(Answer::Name(format!("{}.{}", named.names.first()?, network.name)))
            });
        }
        let mut addresses = self.addresses(resolver, &question.name)?;
        addresses.retain(|address| match question.kind {
            A => address.is_ipv4(),
            AAAA => address.is_ipv6(),
            _ => false,
        });
        self.turn = self.turn.wrapping_add(1);
        if !addresses.is_empty() {
            let first = self.turn % addresses.len();
            addresses.rotate_left(first);
        }
        Some(Answer::Addresses(addresses))
    }

    /// The first of the container's networks that knows the name decides. `name.network` asks one of them.
    fn addresses(&self, resolver: &ResolverSpec, name: &str) -> Option<Vec<IpAddr>> {
        let linked = resolver.links.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        let name = linked.map_or(name, |(_, target)| target.as_str());
        resolver.networks.iter().find_map(|network| {
            let zone = self.networks.get(&network.id)?;
            let within = |name: &str| -> Option<Vec<IpAddr>> {
                let owners = zone.by_name.get(name)?;
                Some(
                    owners
                        .iter()
                        .filter_map(|owner| zone.members.get(owner))
                        .flat_map(|named| named.addresses.clone())
                        .collect(),
                )
            };
            within(&name.to_ascii_lowercase()).or_else(|| {
                let (short, of) = name.rsplit_once('.')?;
                of.eq_ignore_ascii_case(&network.name).then(|| within(short)).flatten()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NetworkName;

    fn named(network: &str, container: &str, names: &[&str], address: &str) -> Named {
        Named {
            network_id: network.to_owned(),
            container_id: container.to_owned(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            addresses: vec![address.parse().expect("an address")],
        }
    }

    fn resolver(networks: &[&str]) -> ResolverSpec {
        let networks =
            networks.iter().map(|id| NetworkName { id: (*id).to_owned(), name: format!("net-{id}") }).collect();
        ResolverSpec { container_id: "asker".to_owned(), networks, ..ResolverSpec::default() }
    }

    fn ask(zones: &mut Zones, resolver: &ResolverSpec, name: &str, kind: u16) -> Option<Answer> {
        let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).expect("short"));
            query.extend_from_slice(label.as_bytes());
        }
        query.push(0);
        query.extend_from_slice(&kind.to_be_bytes());
        query.extend_from_slice(&[0, 1]);
        zones.answer(resolver, &message::question(&query).expect("a question"))
    }

    fn addresses(texts: &[&str]) -> Option<Answer> {
        Some(Answer::Addresses(texts.iter().map(|text| text.parse().expect("an address")).collect()))
    }

    #[test]
    fn names_are_known_in_their_networks_alone() {
        let mut zones = Zones::default();
        zones.join(named("a", "c1", &["Web", "0123456789ab"], "10.1.0.2"));
        zones.join(named("b", "c2", &["db"], "10.2.0.2"));
        let inside = resolver(&["a"]);
        assert_eq!(ask(&mut zones, &inside, "web", A), addresses(&["10.1.0.2"]));
        assert_eq!(ask(&mut zones, &inside, "WEB.net-a", A), addresses(&["10.1.0.2"]));
        assert_eq!(ask(&mut zones, &inside, "web", AAAA), addresses(&[]));
        assert_eq!(ask(&mut zones, &inside, "db", A), None);
        assert_eq!(ask(&mut zones, &resolver(&["a", "b"]), "db", A), addresses(&["10.2.0.2"]));
        assert_eq!(ask(&mut zones, &inside, "2.0.1.10.in-addr.arpa", PTR), Some(Answer::Name("web.net-a".into())));
        assert_eq!(ask(&mut zones, &inside, "2.0.2.10.in-addr.arpa", PTR), None);
    }

    #[test]
    fn a_shared_name_goes_round_and_ends_with_its_owners() {
        let mut zones = Zones::default();
        zones.join(named("a", "c1", &["web"], "10.1.0.2"));
        zones.join(named("a", "c2", &["web"], "10.1.0.3"));
        let inside = resolver(&["a"]);
        let one = ask(&mut zones, &inside, "web", A);
        let two = ask(&mut zones, &inside, "web", A);
        assert_ne!(one, two);
        zones.leave_all("c1");
        assert_eq!(ask(&mut zones, &inside, "web", A), addresses(&["10.1.0.3"]));
        zones.leave("a", "c2");
        assert_eq!(ask(&mut zones, &inside, "web", A), None);
        assert!(zones.networks.is_empty());
    }

    #[test]
    fn a_link_is_a_name_for_one_alone() {
        let mut zones = Zones::default();
        zones.join(named("a", "c1", &["postgres"], "10.1.0.2"));
        let linked = ResolverSpec { links: vec![("db".into(), "postgres".into())], ..resolver(&["a"]) };
        assert_eq!(ask(&mut zones, &linked, "db", A), addresses(&["10.1.0.2"]));
        assert_eq!(ask(&mut zones, &resolver(&["a"]), "db", A), None);
    }
}
