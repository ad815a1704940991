//! The addresses of a network that is to be made: read from the request, checked, completed. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ferry_api::network::{Ipam, IpamConfig};
use ferry_network::address_pool::{AddressPool, PoolError};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::netip;

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SubnetRecord {
    pub(super) net: IpNet,
    /// What containers are given, if that is not the whole.
    #[serde(default)]
    pub(super) range: Option<IpNet>,
    /// The address of the bridge; without a bridge, that of the router.
    #[serde(default)]
    pub(super) gateway: Option<IpAddr>,
    /// Where containers send what goes outside, if that is not the gateway.
    #[serde(default)]
    pub(super) route: Option<IpAddr>,
    /// Addresses that are never given out, by name.
    #[serde(default)]
    pub(super) auxiliary: BTreeMap<String, IpAddr>,
}

impl SubnetRecord {
    /// One with nothing but itself.
    pub(super) fn plain(net: IpNet) -> Self {
        Self { net, range: None, gateway: None, route: None, auxiliary: BTreeMap::new() }
    }

    /// Whether it is of IPv4.
    pub(super) fn is_v4(&self) -> bool {
        matches!(self.net, IpNet::V4(_))
    }

    /// Next hop of containers.
    pub(super) fn next_hop(&self) -> Option<IpAddr> {
        self.route.or(self.gateway)
    }

    /// The addresses that can be given out; nobody has any yet.
    ///
    /// # Errors
    /// What does not fit.
    pub(super) fn pool(&self) -> Result<AddressPool, PoolError> {
        let mut pool = AddressPool::new(self.net, self.range, self.gateway)?;
        for address in self.auxiliary.values().filter(|address| Some(**address) != self.gateway) {
            pool.reserve(*address)?;
        }
        Ok(pool)
    }

    /// Takes the first address for the gateway, as Docker does: of the range where there is one.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn choose_gateway(&mut self) -> Result<()> {
        if self.gateway.is_some() {
            return Ok(());
        }
        let bare = Self { auxiliary: BTreeMap::new(), ..self.clone() };
        let chosen = match bare.net {
            IpNet::V6(net) if net.prefix_len() == 128 => Err("no available addresses on this pool".to_owned()),
            _ => bare.pool().and_then(|mut pool| pool.allocate()).map_err(|error| error.to_string()),
        };
        let chosen = chosen.map_err(|error| Error::internal(format!("failed to allocate gateway (): {error}")))?;
        if let IpAddr::V6(address) = chosen
            && address.is_multicast()
        {
            let text = format!("multicast subnet '{chosen}/{}' is not allowed", self.net.prefix_len());
            return Err(Error::invalid(text));
        }
        self.gateway = Some(chosen);
        match self.auxiliary.iter().find(|(_, address)| **address == chosen) {
            Some((name, address)) => Err(Error::new(
                ErrorKind::Forbidden,
                format!("failed to allocate secondary ip address ({name}:{address}): {TAKEN}"),
            )),
            None => Ok(()),
        }
    }

    /// Says what of gateway and auxiliary addresses does not fit, before anything is made.
    ///
    /// # Errors
    /// Docker's words.
    pub(super) fn check(&self) -> Result<()> {
        match self.pool() {
            Err(PoolError::OutOfRange { address, .. }) if self.gateway == Some(address) => {
                Err(Error::new(ErrorKind::Forbidden, format!("failed to allocate gateway ({address}): {TAKEN}")))
            }
            Err(error) => Err(Error::invalid(format!("failed to allocate gateway: {error}"))),
            Ok(_) => Ok(()),
        }
    }
}

/// Docker's words for an address that somebody has, or nobody may have.
const TAKEN: &str = "Address already in use";

/// Names among the auxiliary addresses that mean the way out of the containers.
const ROUTES: [&str; 2] = ["DefaultGatewayIPv4", "DefaultGatewayIPv6"];

/// Reads what was asked for; what is of IPv6 only where that is wanted.
///
/// # Errors
/// InvalidArgument with everything that is wrong, in Docker's words.
pub(super) fn read(ipam: &Ipam, wants_ipv6: bool) -> Result<Vec<SubnetRecord>> {
    let mut subnets: Vec<SubnetRecord> = Vec::new();
    let mut wrong = Vec::new();
    for config in ipam.config.iter().flatten() {
        if config.subnet.is_empty() {
            wrong.extend(orphan(config));
            continue;
        }
        let net = parse_net(&config.subnet)?;
        if matches!(net, IpNet::V6(_)) && !wants_ipv6 {
            // Docker gives no IPv6 addresses unless `EnableIPv6` says so.
            continue;
        }
        if net.trunc() != net {
            wrong.push(format!("invalid subnet {net}: it should be {}", net.trunc()));
        }
        subnets.push(one(net, config, &mut wrong)?);
    }
    if !wrong.is_empty() {
        return Err(bad(&wrong));
    }
    for (at, subnet) in subnets.iter().enumerate() {
        if subnets[..at].iter().any(|other| overlap(&other.net, &subnet.net)) {
            return Err(overlaps());
        }
    }
    Ok(subnets)
}

fn one(net: IpNet, config: &IpamConfig, wrong: &mut Vec<String>) -> Result<SubnetRecord> {
    let mut subnet = SubnetRecord::plain(net.trunc());
    if !config.ip_range.is_empty() {
        let range = parse_net(&config.ip_range)?;
        check_range(net, range, wrong);
        subnet.range = Some(range.trunc());
    }
    if !config.gateway.is_empty() {
        match checked_address(net, parse_address(&config.gateway)?) {
            Ok(gateway) => subnet.gateway = Some(gateway),
            Err(reason) => wrong.push(format!("invalid gateway {}: {reason}", config.gateway)),
        }
    }
    for (name, text) in &config.auxiliary_addresses {
        match checked_address(net, parse_address(text)?) {
            Ok(address) if ROUTES.contains(&name.as_str()) => {
                subnet.route = Some(address);
                subnet.auxiliary.insert(name.clone(), address);
            }
            Ok(address) => {
                subnet.auxiliary.insert(name.clone(), address);
            }
            Err(reason) => wrong.push(format!("invalid auxiliary address {name}: {reason}")),
        }
    }
    Ok(subnet)
}

/// Docker reads these while it reads the request, and says so in the words of its parser.
fn parse_net(text: &str) -> Result<IpNet> {
    netip::prefix(text).map_err(unreadable)
}

fn parse_address(text: &str) -> Result<IpAddr> {
    netip::Address::parse(text).map(|address| address.plain()).map_err(unreadable)
}

fn unreadable(reason: String) -> Error {
    Error::invalid(format!("invalid JSON: {reason}"))
}

fn check_range(net: IpNet, range: IpNet, wrong: &mut Vec<String>) {
    if range.addr().is_ipv4() != net.addr().is_ipv4() {
        wrong.push(format!("invalid ip-range {range}: parent subnet is an IPv{} block", version(net)));
        return;
    }
    if range.prefix_len() < net.prefix_len() {
        wrong.push(format!("invalid ip-range {range}: CIDR block is bigger than its parent subnet {net}"));
    }
    if range.trunc() != range {
        wrong.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
    }
    if !overlap(&net, &range) {
        wrong.push(format!("invalid ip-range {range}: parent subnet {net} doesn't contain ip-range"));
    }
}

fn checked_address(net: IpNet, address: IpAddr) -> Result<IpAddr, String> {
    if address.is_ipv4() != net.addr().is_ipv4() {
        return Err(format!("parent subnet is an IPv{} block", version(net)));
    }
    if !net.contains(&address) {
        return Err(format!("parent subnet {net} doesn't contain this address"));
    }
    Ok(address)
}

fn version(net: IpNet) -> u8 {
    if net.addr().is_ipv4() { 4 } else { 6 }
}

/// Whether two nets have an address in common.
pub(super) fn overlap(one: &IpNet, two: &IpNet) -> bool {
    one.contains(two) || two.contains(one)
}

/// Docker's words for a subnet that somebody has.
pub(super) fn overlaps() -> Error {
    let text = "invalid pool request: Pool overlaps with other one on this address space";
    Error::new(ErrorKind::Forbidden, text)
}

/// Things that need a subnet and have none.
fn orphan(config: &IpamConfig) -> Option<String> {
    let what = [("ip-range", &config.ip_range), ("gateway", &config.gateway)];
    match what.iter().find(|(_, value)| !value.is_empty()) {
        Some((what, value)) => {
            Some(format!("invalid {what} {value}: parent subnet invalid Prefix doesn't contain this address"))
        }
        None if !config.auxiliary_addresses.is_empty() => {
            Some("invalid auxiliary address: it needs a subnet".to_owned())
        }
        None => None,
    }
}

/// A subnet for a network that asked for none.
pub(super) fn chosen_v4(net: Ipv4Net) -> SubnetRecord {
    SubnetRecord::plain(IpNet::V4(net))
}

/// A subnet of the host's own unique local range.
///
/// Spec: RFC 4193 section 3.2.
pub(super) fn chosen_v6(random: [u8; 7]) -> SubnetRecord {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&random);
    SubnetRecord::plain(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(octets), 64)))
}

/// What `inspect` shows: what was asked for, with what was chosen filled in.
pub(super) fn shown(ipam: &Ipam, subnets: &[SubnetRecord]) -> Ipam {
    let asked: Vec<&IpamConfig> = ipam.config.iter().flatten().collect();
    // What was asked for and is of no use is shown all the same: IPv6 in a network without it.
    let idle = asked.iter().filter(|config| {
        !config.subnet.is_empty() && !subnets.iter().any(|subnet| config.subnet.parse() == Ok(subnet.net))
    });
    let used = subnets.iter().map(|subnet| {
        let own = asked.iter().find(|config| config.subnet.parse() == Ok(subnet.net));
        let mut config = own.map(|config| (*config).clone()).unwrap_or_default();
        config.subnet = subnet.net.to_string();
        if config.gateway.is_empty() {
            config.gateway = subnet.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
        }
        config
    });
    let config = used.chain(idle.map(|config| (*config).clone())).collect();
    let driver = if ipam.driver.is_empty() { "default".to_owned() } else { ipam.driver.clone() };
    Ipam { driver, options: ipam.options.clone(), config: Some(config) }
}

/// Docker joins what is wrong with a network under this heading.
fn bad(wrong: &[String]) -> Error {
    match wrong {
        [one] => Error::invalid(format!("invalid network config:\n{one}")),
        all => Error::invalid(format!("invalid network config:\n* {}", all.join("\n* "))),
    }
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
    fn gateways_default_to_the_first_address_that_is_given_out() {
        let mut subnets =
            read(&ipam(&[("10.1.0.0/16", "10.1.5.0/24", ""), ("fd00:1::/64", "", ""), ("10.2.0.0/24", "", "")]), true)
                .expect("good");
        for subnet in &mut subnets {
            subnet.choose_gateway().expect("free");
        }
        let gateways: Vec<_> = subnets.iter().filter_map(|subnet| subnet.gateway).map(|ip| ip.to_string()).collect();
        assert_eq!(gateways, ["10.1.5.0", "fd00:1::1", "10.2.0.1"]);
        assert!(read(&ipam(&[("fd00:1::/64", "", "")]), false).expect("good").is_empty());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let text = |configs: &[(&str, &str, &str)]| read(&ipam(configs), true).expect_err("bad").text();
        assert_eq!(text(&[("10.1.0.0", "", "")]), "invalid JSON: netip.ParsePrefix(\"10.1.0.0\"): no '/'");
        assert!(text(&[("10.1.0.0/99", "", "")]).ends_with("(\"10.1.0.0/99\"): prefix length out of range"));
        assert!(text(&[("10.1.0.0/x", "", "")]).ends_with("bad bits after slash: \"x\""));
        assert!(text(&[("10.1/16", "", "")]).ends_with("ParseAddr(\"10.1\"): IPv4 address too short"));
        assert!(text(&[("10.1.0.1/16", "", "")]).contains("it should be 10.1.0.0/16"));
        assert_eq!(
            text(&[("10.1.0.0/16", "", "10.2.0.1")]),
            "invalid network config:\ninvalid gateway 10.2.0.1: parent subnet 10.1.0.0/16 doesn't contain this address"
        );
        assert_eq!(
            text(&[("10.1.0.0/16", "10.0.0.0/8", "fd00::1")]),
            "invalid network config:\n\
             * invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/16\n\
             * invalid gateway fd00::1: parent subnet is an IPv4 block"
        );
        assert!(text(&[("", "", "10.2.0.1")]).contains("parent subnet invalid Prefix"));
        assert_eq!(text(&[("10.1.0.0/16", "", "x")]), "invalid JSON: ParseAddr(\"x\"): unable to parse IP");
        assert!(text(&[("10.1.0.0/16", "", ""), ("10.1.2.0/24", "", "")]).contains("Pool overlaps"));
    }

    #[test]
    fn an_auxiliary_address_can_be_the_way_out() {
        let config = IpamConfig {
            subnet: "10.1.0.0/24".to_owned(),
            auxiliary_addresses: [("DefaultGatewayIPv4", "10.1.0.254"), ("printer", "10.1.0.9")]
                .map(|(name, ip)| (name.to_owned(), ip.to_owned()))
                .into(),
            ..IpamConfig::default()
        };
        let ipam = Ipam { config: Some(vec![config]), ..Ipam::default() };
        let mut subnet = read(&ipam, false).expect("good").remove(0);
        subnet.choose_gateway().expect("free");
        assert_eq!(subnet.next_hop().map(|ip| ip.to_string()).as_deref(), Some("10.1.0.254"));
        assert!(subnet.pool().expect("fits").is_taken([10, 1, 0, 9].into()));
    }

    #[test]
    fn what_was_chosen_is_shown() {
        let mut subnet = chosen_v4("172.20.0.0/16".parse().expect("net"));
        subnet.choose_gateway().expect("free");
        let shown = shown(&ipam(&[("fd00::/64", "", "")]), &[subnet]);
        let config = shown.config.expect("two");
        assert_eq!((config[0].subnet.as_str(), config[0].gateway.as_str()), ("172.20.0.0/16", "172.20.0.1"));
        assert_eq!(config[1].subnet, "fd00::/64");
        assert_eq!(shown.driver, "default");
        assert!(chosen_v6([1, 2, 3, 4, 5, 6, 7]).net.to_string().starts_with("fd01:203:405:607::"));
    }
}
