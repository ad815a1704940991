//! Choosing a subnet for a network that was not given one.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Returns the first subnet of the pools that overlaps none of `used`. Pure.
pub(crate) fn first_free(pools: &[(Ipv4Net, u8)], used: &[IpNet]) -> Option<Ipv4Net> {
    let overlaps = |subnet: &Ipv4Net| {
        used.iter().any(|net| match net {
            IpNet::V4(net) => net.contains(&subnet.network()) || subnet.contains(&net.network()),
            IpNet::V6(_) => false,
        })
    };
    pools
        .iter()
        .filter_map(|(pool, length)| pool.trunc().subnets(*length).ok())
        .find_map(|mut subnets| subnets.find(|subnet| !overlaps(subnet)))
}

/// The same for IPv6. Pools there are large: what is taken is stepped over as a whole.
pub(crate) fn first_free6(pools: &[(Ipv6Net, u8)], used: &[IpNet]) -> Option<Ipv6Net> {
    let blocking = |subnet: &Ipv6Net| {
        used.iter().find_map(|net| match net {
            IpNet::V6(net) if net.contains(&subnet.network()) || subnet.contains(&net.network()) => Some(*net),
            _ => None,
        })
    };
    pools.iter().find_map(|(pool, length)| {
        let mut next = pool.network().to_bits();
        loop {
            let subnet = Ipv6Net::new(next.into(), *length).ok()?.trunc();
            if !pool.contains(&subnet) {
                return None;
            }
            let Some(other) = blocking(&subnet) else { return Some(subnet) };
            let last = other.broadcast().to_bits().max(subnet.broadcast().to_bits());
            next = last.checked_add(1)?;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Options;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a subnet")).collect()
    }

    #[test]
    fn free_subnet_avoids_routes_inside_and_around_it() {
        let pools = Options::docker_pools();
        let chosen = |used: &[&str]| first_free(&pools, &nets(used)).expect("free").to_string();
        assert_eq!(chosen(&[]), "172.17.0.0/16");
        assert_eq!(chosen(&["172.17.0.0/16"]), "172.18.0.0/16");
        assert_eq!(chosen(&["172.17.5.9/32", "172.18.0.0/24"]), "172.19.0.0/16");
        assert_eq!(chosen(&["172.16.0.0/12"]), "192.168.0.0/20");
        assert_eq!(chosen(&["172.16.0.0/12", "192.168.0.1/24", "fd00::/8"]), "192.168.16.0/20");
    }

    #[test]
    fn subnets_of_large_pools_are_found_at_once() {
        let pool = ("fd12::/32".parse().expect("a net"), 64);
        let chosen = |used: &[&str]| first_free6(&[pool], &nets(used)).map(|net| net.to_string());
        assert_eq!(chosen(&[]).as_deref(), Some("fd12::/64"));
        assert_eq!(chosen(&["fd12::/48", "fd12:0:1::7/128"]).as_deref(), Some("fd12:0:1:1::/64"));
        assert_eq!(chosen(&["fd00::/8"]), None);
    }

    #[test]
    fn full_pools_have_no_free_subnet() {
        assert_eq!(first_free(&Options::docker_pools(), &nets(&["0.0.0.0/1", "128.0.0.0/1"])), None);
    }
}
