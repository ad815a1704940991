//! Choosing a subnet for a network that was not given one.

use ipnet::{IpNet, Ipv4Net};

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
    fn full_pools_have_no_free_subnet() {
        assert_eq!(first_free(&Options::docker_pools(), &nets(&["0.0.0.0/1", "128.0.0.0/1"])), None);
    }
}
