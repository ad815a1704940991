//! Which range, gateway and auxiliary address belongs to which subnet. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferry_api::network::IpamConfig;

/// A subnet as given: address and length of its prefix.
#[derive(Clone, Copy)]
struct Net {
    address: IpAddr,
    length: u32,
}

/// Sorts what was given by subnets, in their order.
///
/// # Errors
/// Docker's words for what fits no subnet or fits twice.
pub(super) fn consolidate(
    subnets: &[String],
    ranges: &[String],
    gateways: &[String],
    auxiliary: &BTreeMap<String, String>,
) -> Result<Vec<IpamConfig>, String> {
    // Docker's client reads an empty gateway as none.
    let gateways: Vec<String> = gateways.iter().filter(|gateway| !gateway.is_empty()).cloned().collect();
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut configs: Vec<(Net, IpamConfig)> = Vec::new();
    if let [only] = subnets
        && parse(only).is_err()
        && ranges.is_empty()
        && gateways.is_empty()
        && auxiliary.is_empty()
    {
        // Nothing here has to be sorted by it: the daemon says what is wrong with it.
        return Ok(vec![IpamConfig { subnet: only.clone(), ..IpamConfig::default() }]);
    }
    for subnet in subnets {
        let net = parse(subnet)?;
        if configs.iter().any(|(other, _)| contains(*other, net.address) || contains(net, other.address)) {
            return Err("multiple overlapping subnet configuration is not supported".to_owned());
        }
        configs.push((net, IpamConfig { subnet: subnet.clone(), ..IpamConfig::default() }));
    }
    for range in ranges {
        let net = parse(range)?;
        let config = of(&mut configs, net.address).ok_or_else(|| format!("no matching subnet for range {range}"))?;
        if !config.ip_range.is_empty() && config.ip_range != *range {
            let text = format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                config.ip_range, config.subnet
            );
            return Err(text);
        }
        config.ip_range.clone_from(range);
    }
    for gateway in &gateways {
        let none = || format!("no matching subnet for gateway {gateway}");
        let address = gateway.parse().map_err(|_| none())?;
        let config = of(&mut configs, address).ok_or_else(none)?;
        if !config.gateway.is_empty() && config.gateway != *gateway {
            let text = format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                config.gateway, config.subnet
            );
            return Err(text);
        }
        config.gateway.clone_from(gateway);
    }
    for (name, address) in auxiliary {
        let none = || format!("no matching subnet for aux-address {address}");
        let parsed = address.parse().map_err(|_| none())?;
        let config = of(&mut configs, parsed).ok_or_else(none)?;
        config.auxiliary_addresses.insert(name.clone(), address.clone());
    }
    Ok(configs.into_iter().map(|(_, config)| config).collect())
}

fn of(configs: &mut [(Net, IpamConfig)], address: IpAddr) -> Option<&mut IpamConfig> {
    configs.iter_mut().find(|(net, _)| contains(*net, address)).map(|(_, config)| config)
}

fn parse(text: &str) -> Result<Net, String> {
    let invalid = || format!("invalid CIDR address: {text}");
    let (address, length) = text.split_once('/').ok_or_else(invalid)?;
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    let length: u32 = length.parse().map_err(|_| invalid())?;
    if length > if address.is_ipv4() { 32 } else { 128 } {
        return Err(invalid());
    }
    Ok(Net { address, length })
}

fn contains(net: Net, address: IpAddr) -> bool {
    match (net.address, address) {
        (IpAddr::V4(net_address), IpAddr::V4(address)) => {
            let shift = 32 - net.length;
            u32::from(net_address).checked_shr(shift) == u32::from(address).checked_shr(shift)
        }
        (IpAddr::V6(net_address), IpAddr::V6(address)) => {
            let shift = 128 - net.length;
            u128::from(net_address).checked_shr(shift) == u128::from(address).checked_shr(shift)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn everything_finds_its_subnet() {
        let auxiliary = BTreeMap::from([("router".to_owned(), "10.2.0.7".to_owned())]);
        let configs = consolidate(
            &texts(&["10.1.0.0/16", "10.2.0.0/16", "fd00::/64"]),
            &texts(&["10.2.5.0/24"]),
            &texts(&["10.1.0.254", "fd00::1"]),
            &auxiliary,
        )
        .expect("fits");
        assert_eq!(configs.len(), 3);
        assert_eq!((configs[0].gateway.as_str(), configs[0].ip_range.as_str()), ("10.1.0.254", ""));
        assert_eq!(
            (configs[1].ip_range.as_str(), configs[1].auxiliary_addresses["router"].as_str()),
            ("10.2.5.0/24", "10.2.0.7")
        );
        assert_eq!(configs[2].gateway, "fd00::1");
    }

    #[test]
    fn what_does_not_fit_is_told_in_dockers_words() {
        let none = BTreeMap::new();
        let error = |subnets: &[&str], ranges: &[&str], gateways: &[&str]| {
            consolidate(&texts(subnets), &texts(ranges), &texts(gateways), &none).expect_err("does not fit")
        };
        assert_eq!(error(&[], &[], &["10.1.0.1"]), "every ip-range or gateway must have a corresponding subnet");
        assert_eq!(error(&["10.1.0.0/16"], &[], &["10.2.0.1"]), "no matching subnet for gateway 10.2.0.1");
        assert_eq!(error(&["10.1.0.0/16"], &["10.2.0.0/24"], &[]), "no matching subnet for range 10.2.0.0/24");
        assert_eq!(
            error(&["10.1.0.0/16", "10.1.2.0/24"], &[], &[]),
            "multiple overlapping subnet configuration is not supported"
        );
        assert_eq!(error(&["10.1.0.0"], &[], &["10.1.0.1"]), "invalid CIDR address: 10.1.0.0");
        let alone = consolidate(&texts(&["10.1.0.0"]), &[], &[], &none).expect("the daemon's affair");
        assert_eq!(alone[0].subnet, "10.1.0.0");
    }
}
