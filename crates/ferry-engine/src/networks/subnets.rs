//! The addresses of a network that is to be made: read from the request, checked, completed. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferry_api::network::{Ipam, IpamConfig};
use ferry_network::address_pool::first_host;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};

/// What a network gives out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subnets {
    pub(super) v4: Option<Subnet<Ipv4Net, Ipv4Addr>>,
    pub(super) v6: Option<Subnet<Ipv6Net, Ipv6Addr>>,
    pub(super) auxiliary: BTreeMap<String, IpAddr>,
    /// A subnet was given.
    pub(super) asked: bool,
}

/// One subnet with its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnet<N, A> {
    pub(super) net: N,
    pub(super) range: Option<N>,
    pub(super) gateway: A,
}

/// Reads what was asked for. A family without a subnet is left for the caller to choose.
pub(super) fn read(ipam: &Ipam, wants_ipv6: bool) -> Result<Subnets> {
    let mut subnets = Subnets::default();
    for config in ipam.config.iter().flatten() {
        if config.subnet.is_empty() {
            refuse_orphans(config)?;
            continue;
        }
        let net = parse_net("subnet", &config.subnet)?;
        if net.trunc() != net {
            return Err(bad(format!("invalid subnet {net}: it should be {}", net.trunc())));
        }
        subnets.asked = true;
        let range = (!config.ip_range.is_empty()).then(|| parse_net("ip-range", &config.ip_range)).transpose()?;
        if let Some(range) = range.filter(|range| !net.contains(&range.addr()) || range.prefix_len() < net.prefix_len())
        {
            return Err(bad(format!("invalid ip-range {range}: parent subnet is not {net}")));
        }
        let gateway = match config.gateway.as_str() {
            "" => first_host(net),
            text => parse_address("gateway", text)?,
        };
        if !net.contains(&gateway) {
            return Err(bad(format!("invalid gateway {gateway}: parent subnet is not {net}")));
        }
        for (name, text) in &config.auxiliary_addresses {
            let address = parse_address("auxiliary address", text)?;
            if !net.contains(&address) {
                return Err(bad(format!("invalid auxiliary address {address}: parent subnet is not {net}")));
            }
            subnets.auxiliary.insert(name.clone(), address);
        }
        place(&mut subnets, net, range, gateway)?;
    }
    if subnets.v6.is_some() && !wants_ipv6 {
        // Docker gives no IPv6 addresses unless `EnableIPv6` says so.
        subnets.v6 = None;
    }
    Ok(subnets)
}

fn place(subnets: &mut Subnets, net: IpNet, range: Option<IpNet>, gateway: IpAddr) -> Result<()> {
    match (net, gateway) {
        (IpNet::V4(net), IpAddr::V4(gateway)) => {
            let range = range.and_then(|range| if let IpNet::V4(range) = range { Some(range.trunc()) } else { None });
            if subnets.v4.replace(Subnet { net, range, gateway }).is_some() {
                return Err(Error::not_implemented("several IPv4 subnets in one bridge network"));
            }
        }
        (IpNet::V6(net), IpAddr::V6(gateway)) => {
            let range = range.and_then(|range| if let IpNet::V6(range) = range { Some(range.trunc()) } else { None });
            if subnets.v6.replace(Subnet { net, range, gateway }).is_some() {
                return Err(Error::not_implemented("several IPv6 subnets in one bridge network"));
            }
        }
        _ => return Err(bad(format!("invalid gateway {gateway}: it is not of the family of {net}"))),
    }
    Ok(())
}

/// Things that need a subnet and have none.
fn refuse_orphans(config: &IpamConfig) -> Result<()> {
    let what = [("ip-range", &config.ip_range), ("gateway", &config.gateway)];
    match what.iter().find(|(_, value)| !value.is_empty()) {
        Some((what, value)) => Err(bad(format!("invalid {what} {value}: it needs a subnet"))),
        None if !config.auxiliary_addresses.is_empty() => {
            Err(bad("invalid auxiliary address: it needs a subnet".to_owned()))
        }
        None => Ok(()),
    }
}

/// A subnet for a network that asked for none.
pub(super) fn chosen_v4(net: Ipv4Net) -> Subnet<Ipv4Net, Ipv4Addr> {
    let gateway = net.hosts().next().expect("a subnet of a pool has hosts");
    Subnet { net, range: None, gateway }
}

/// A subnet of the host's own unique local range.
///
/// Spec: RFC 4193 section 3.2.
pub(super) fn chosen_v6(random: [u8; 7]) -> Subnet<Ipv6Net, Ipv6Addr> {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&random);
    let net = Ipv6Net::new_assert(Ipv6Addr::from(octets), 64);
    octets[15] = 1;
    Subnet { net, range: None, gateway: Ipv6Addr::from(octets) }
}

/// What `inspect` shows: what was asked for, with what was chosen filled in.
pub(super) fn shown(ipam: &Ipam, subnets: &Subnets) -> Ipam {
    let asked: Vec<IpamConfig> =
        ipam.config.iter().flatten().filter(|config| !config.subnet.is_empty()).cloned().collect();
    let gateways: BTreeMap<String, String> = subnets
        .v4
        .iter()
        .map(|subnet| (subnet.net.to_string(), subnet.gateway.to_string()))
        .chain(subnets.v6.iter().map(|subnet| (subnet.net.to_string(), subnet.gateway.to_string())))
        .collect();
    let mut config: Vec<IpamConfig> = asked
        .into_iter()
        .map(|mut config| {
            if config.gateway.is_empty() {
                config.gateway = gateways.get(&config.subnet).cloned().unwrap_or_default();
            }
            config
        })
        .collect();
    for (subnet, gateway) in gateways {
        if !config.iter().any(|shown| shown.subnet == subnet) {
            config.push(IpamConfig { subnet, gateway, ..IpamConfig::default() });
        }
    }
    let driver = if ipam.driver.is_empty() { "default".to_owned() } else { ipam.driver.clone() };
    Ipam { driver, options: Some(ipam.options.clone().unwrap_or_default()), config: Some(config) }
}

fn parse_net(what: &str, text: &str) -> Result<IpNet> {
    text.parse().map_err(|_| bad(format!("invalid {what} {text}: invalid CIDR address: {text}")))
}

fn parse_address(what: &str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| bad(format!("invalid {what} {text}: invalid address")))
}

/// Docker joins what is wrong with a network under this heading.
fn bad(what: String) -> Error {
    Error::invalid(format!("invalid network config:\n{what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipam(configs: &[(&str, &str, &str)]) -> Ipam {
        let config = configs.iter().map(|(subnet, range, gateway)| IpamConfig {
            subnet: (*subnet).to_owned(),
            ip_range: (*range).to_owned(),
            gateway: (*gateway).to_owned(),
            ..IpamConfig::default()
        });
        Ipam { config: Some(config.collect()), ..Ipam::default() }
    }

    #[test]
    fn gateways_default_to_the_first_host() {
        let subnets = read(&ipam(&[("10.1.0.0/16", "10.1.5.0/24", ""), ("fd00:1::/64", "", "")]), true).expect("good");
        let v4 = subnets.v4.expect("v4");
        assert_eq!(
            (v4.gateway.to_string(), v4.range.expect("range").to_string()),
            ("10.1.0.1".into(), "10.1.5.0/24".into())
        );
        assert_eq!(subnets.v6.expect("v6").gateway.to_string(), "fd00:1::1");
        assert!(subnets.asked);
        assert_eq!(read(&ipam(&[("fd00:1::/64", "", "")]), false).expect("good").v6, None);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let text = |configs: &[(&str, &str, &str)]| read(&ipam(configs), true).expect_err("bad").text();
        assert!(text(&[("10.1.0.0", "", "")]).contains("invalid subnet 10.1.0.0"));
        assert!(text(&[("10.1.0.1/16", "", "")]).contains("it should be 10.1.0.0/16"));
        assert!(
            text(&[("10.1.0.0/16", "", "10.2.0.1")])
                .contains("invalid gateway 10.2.0.1: parent subnet is not 10.1.0.0/16")
        );
        assert!(text(&[("10.1.0.0/16", "10.2.0.0/24", "")]).contains("invalid ip-range 10.2.0.0/24"));
        assert!(text(&[("", "", "10.2.0.1")]).contains("needs a subnet"));
        assert!(text(&[("10.1.0.0/16", "", "x")]).contains("invalid gateway x"));
    }

    #[test]
    fn what_was_chosen_is_shown() {
        let subnets = Subnets { v4: Some(chosen_v4("172.20.0.0/16".parse().expect("net"))), ..Subnets::default() };
        let shown = shown(&Ipam::default(), &subnets);
        let config = shown.config.expect("one");
        assert_eq!((config[0].subnet.as_str(), config[0].gateway.as_str()), ("172.20.0.0/16", "172.20.0.1"));
        assert_eq!(shown.driver, "default");
        assert!(chosen_v6([1, 2, 3, 4, 5, 6, 7]).net.to_string().starts_with("fd01:203:405:607::"));
    }
}
