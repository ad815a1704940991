//! Addresses that are asked for in a network: read, and judged, as Docker's daemon does.

use std::net::IpAddr;

use ferry_api::network::EndpointIpamConfig;
use ipnet::IpNet;

use super::record::EndpointRecord;
use crate::netip::Address;

/// What is asked for in one network.
#[derive(Debug, Default)]
pub(super) struct Asked {
    v4: Option<Address>,
    v6: Option<Address>,
    /// None for one that is empty.
    link_local: Vec<Option<Address>>,
}

impl Asked {
    /// Reads what a request says; Docker does so while it reads the request.
    pub(super) fn read(ipam: Option<&EndpointIpamConfig>) -> Result<Self, String> {
        let Some(ipam) = ipam else { return Ok(Self::default()) };
        let one = |text: &String| if text.is_empty() { Ok(None) } else { Address::parse(text).map(Some) };
        Ok(Self {
            v4: one(&ipam.ipv4_address)?,
            v6: one(&ipam.ipv6_address)?,
            link_local: ipam.link_local_ips.iter().map(one).collect::<Result<_, _>>()?,
        })
    }

    /// Whether it is an address of the network's own, of one family or both.
    pub(super) fn wants_one(&self) -> bool {
        self.v4.is_some() || self.v6.is_some()
    }

    /// What is wrong with them, in Docker's words; where the network's subnets are known they have to be in one of those.
    pub(super) fn faults(&self, subnets: Option<&[IpNet]>) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(asked) = self.v4.as_ref().filter(|asked| !asked.is_v4() || asked.is_unspecified()) {
            wrong.push(format!("invalid IPv4 address: {asked}"));
        }
        if let Some(asked) = self.v6.as_ref().filter(|asked| !asked.is_v6() || asked.is_unspecified()) {
            wrong.push(format!("invalid IPv6 address: {asked}"));
        }
        for asked in &self.link_local {
            match asked {
                None => wrong.push("invalid link-local IP address: invalid IP".to_owned()),
                Some(asked) if asked.is_unspecified() => wrong.push(format!("invalid link-local IP address: {asked}")),
                Some(_) => {}
            }
        }
        for (asked, v4) in [(&self.v4, true), (&self.v6, false)] {
            if let (Some(asked), Some(subnets)) = (asked, subnets)
                && !subnets.iter().any(|net| net.addr().is_ipv4() == v4 && net.contains(&asked.plain()))
            {
                wrong.push(format!("no configured subnet contains IP address {}", asked.unmapped()));
            }
        }
        wrong
    }

    /// Notes them in the form in which they are shown.
    pub(super) fn note(&self, endpoint: &mut EndpointRecord) {
        let text = |asked: &Option<Address>| asked.as_ref().map(Address::unmapped).unwrap_or_default();
        endpoint.requested_address = text(&self.v4);
        endpoint.requested_address6 = text(&self.v6);
        endpoint.link_local = self.link_local.iter().map(text).collect();
    }
}

/// An address that every link could have.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(v4: &str, v6: &str, link_local: &[&str]) -> Result<Asked, String> {
        Asked::read(Some(&EndpointIpamConfig {
            ipv4_address: v4.to_owned(),
            ipv6_address: v6.to_owned(),
            link_local_ips: link_local.iter().map(|&text| text.to_owned()).collect(),
        }))
    }

    #[test]
    fn addresses_are_judged_and_noted_as_docker_does() {
        let nets: Vec<IpNet> = ["1.2.3.0/24", "fd00::/64"].map(|net| net.parse().unwrap()).to_vec();
        let faults = |v4, v6, links: &[&str]| asked(v4, v6, links).unwrap().faults(Some(&nets));
        let none: [String; 0] = [];
        assert_eq!(faults("::ffff:1.2.3.4", "FD00::0001", &["::ffff:169.254.1.1"]), none);
        assert_eq!(asked("1.2.3", "", &[]).unwrap_err(), "ParseAddr(\"1.2.3\"): IPv4 address too short");
        assert_eq!(
            faults("fd00::1", "1.2.3.4", &["", "0.0.0.0"]),
            [
                "invalid IPv4 address: fd00::1",
                "invalid IPv6 address: 1.2.3.4",
                "invalid link-local IP address: invalid IP",
                "invalid link-local IP address: 0.0.0.0",
                "no configured subnet contains IP address fd00::1",
                "no configured subnet contains IP address 1.2.3.4",
            ]
        );
        assert_eq!(faults("", "fd00::1%eth0", &[]), ["invalid IPv6 address: fd00::1%eth0"]);
        let mut endpoint = EndpointRecord::default();
        asked("::ffff:1.2.3.4", "FD00::0001", &["::ffff:169.254.1.1"]).unwrap().note(&mut endpoint);
        assert_eq!((endpoint.requested_address.as_str(), endpoint.requested_address6.as_str()), ("1.2.3.4", "fd00::1"));
        assert_eq!(endpoint.link_local, ["169.254.1.1"]);
    }
}
