//! Options of network drivers: read, checked, in Docker's words. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferry_network::{ChildKind, GatewayMode, IpvlanFlag, IpvlanMode, MacvlanMode};
use serde::{Deserialize, Serialize};

use super::record::Driver;
use crate::error::{Error, Result};

pub(super) const PREFIX: &str = "com.docker.network.";

/// What a driver was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    /// How IPv4 gets out and in.
    pub(super) mode4: GatewayMode,
    /// How IPv6 does.
    pub(super) mode6: GatewayMode,
    /// The bridge gets no IPv4 address.
    pub(super) inhibit_ipv4: bool,
    /// Where ports are published that name no address.
    pub(super) host_binding: Option<IpAddr>,
    /// The address that stands for containers outside.
    pub(super) source4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub(super) source6: Option<Ipv6Addr>,
    /// What interfaces in containers are called, but for their number; empty is `eth`.
    pub(super) interface_prefix: String,
    /// Links of the host that may reach published ports at the containers' addresses.
    pub(super) trusted: Vec<String>,
    /// The link that links of containers live on, without a bridge.
    pub(super) parent: String,
    /// What lives there.
    pub(super) child: Option<ChildKind>,
    /// The link and VLAN id that `parent` was made from.
    pub(super) vlan: Option<(String, u16)>,
    /// `parent` was made for this network.
    pub(super) made_parent: bool,
}

/// Everything that options say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) link: Option<String>,
    pub(super) icc: Option<bool>,
    pub(super) masquerade: Option<bool>,
    pub(super) mtu: Option<u32>,
    pub(super) settings: Settings,
}

/// Reads the options of a driver.
///
/// # Errors
/// InvalidArgument for values that the driver does not take; what it does not know it leaves alone.
pub(super) fn read(driver: Driver, options: &BTreeMap<String, String>, internal: bool) -> Result<Options> {
    match driver {
        Driver::Bridge => bridge(options, internal),
        Driver::Macvlan | Driver::Ipvlan => child(driver, options),
        // A plugin knows its own.
        Driver::Host | Driver::Null | Driver::Plugin => Ok(Options::default()),
    }
}

/// A boolean among the options that speaks of the whole network: `enable_ipv4`, `enable_ipv6`.
pub(super) fn enable(options: &BTreeMap<String, String>, name: &str) -> Result<Option<bool>> {
    let key = format!("{PREFIX}{name}");
    let Some(value) = options.get(&key) else { return Ok(None) };
    let parsed = go_bool(value).ok_or_else(|| Error::invalid(format!("driver-opt \"{key}\" is not a valid bool")));
    parsed.map(Some)
}

fn bridge(options: &BTreeMap<String, String>, internal: bool) -> Result<Options> {
    let mut read = Options::default();
    for (key, value) in options {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let settings = &mut read.settings;
        match name {
            "bridge.name" if !value.is_empty() => read.link = Some(link_name(value)?),
            "bridge.enable_icc" => read.icc = Some(boolean(key, value)?),
            "bridge.enable_ip_masquerade" => read.masquerade = Some(boolean(key, value)?),
            "bridge.default_bridge" | "enable_ipv4" | "enable_ipv6" => {
                boolean(key, value)?;
            }
            "driver.mtu" => read.mtu = Some(mtu(key, value)?).filter(|mtu| *mtu > 0),
            "bridge.gateway_mode_ipv4" => settings.mode4 = gateway_mode(key, value)?,
            "bridge.gateway_mode_ipv6" => settings.mode6 = gateway_mode(key, value)?,
            "bridge.inhibit_ipv4" => settings.inhibit_ipv4 = boolean(key, value)?,
            "bridge.host_binding_ipv4" => settings.host_binding = Some(address(key, value)?),
            "bridge.trusted_host_interfaces" => {
                settings.trusted =
                    value.split(':').filter(|link| !link.is_empty()).map(link_name).collect::<Result<_>>()?;
            }
            "container_iface_prefix" => settings.interface_prefix = prefix(key, value)?,
            "host_ipv4" => settings.source4 = Some(address(key, value)?),
            "host_ipv6" => settings.source6 = Some(address(key, value)?),
            // Others are kept and shown; drivers take what they know.
            _ => {}
        }
    }
    let is_isolated = [read.settings.mode4, read.settings.mode6].contains(&GatewayMode::Isolated);
    if is_isolated && !internal {
        return Err(Error::invalid("gateway mode 'isolated' can only be used for an internal network".to_owned()));
    }
    Ok(read)
}

fn child(driver: Driver, options: &BTreeMap<String, String>) -> Result<Options> {
    let mut read = Options::default();
    let empty = String::new();
    let value = |key: &str| options.get(key).unwrap_or(&empty).as_str();
    if let Some(text) = options.get("com.docker.network.driver.mtu") {
        read.mtu = Some(mtu("com.docker.network.driver.mtu", text)?).filter(|mtu| *mtu > 0);
    }
    let parent = value("parent");
    let name = driver.as_str();
    if parent == "lo" {
        return Err(Error::invalid(format!("loopback interface is not a valid {name} parent link")));
    }
    if !parent.is_empty() {
        read.settings.parent = link_name(parent)?;
    }
    read.settings.child = Some(if driver == Driver::Macvlan {
        ChildKind::Macvlan(match value("macvlan_mode") {
            "" | "bridge" => MacvlanMode::Bridge,
            "private" => MacvlanMode::Private,
            "passthru" => MacvlanMode::Passthru,
            "vepa" => MacvlanMode::Vepa,
            other => return Err(no_mode("macvlan mode", other, "'bridge' mode")),
        })
    } else {
        let mode = match value("ipvlan_mode") {
            "" | "l2" => IpvlanMode::L2,
            "l3" => IpvlanMode::L3,
            "l3s" => IpvlanMode::L3s,
            other => return Err(no_mode("ipvlan mode", other, "'l2' mode")),
        };
        let flag = match value("ipvlan_flag") {
            "" | "bridge" => IpvlanFlag::Bridge,
            "private" => IpvlanFlag::Private,
            "vepa" => IpvlanFlag::Vepa,
            other => return Err(no_mode("ipvlan flag", other, "'bridge'")),
        };
        ChildKind::Ipvlan(mode, flag)
    });
    Ok(read)
}

fn no_mode(what: &str, given: &str, default: &str) -> Error {
    let driver = what.split(' ').next().unwrap_or_default();
    Error::invalid(format!("requested {what} '{given}' is not valid, {default} is the {driver} driver default"))
}

/// The link below a VLAN and its id, by the name of the link that carries it.
///
/// # Errors
/// Docker's words for names that say neither.
pub(super) fn vlan(parent: &str) -> Result<(String, u16)> {
    let bad = |text: String| Err(Error::invalid(text));
    if !parent.contains('.') {
        return bad(format!("invalid subinterface vlan name {parent}, example formatting is eth0.10"));
    }
    let [below, id] = parent.split('.').collect::<Vec<_>>()[..] else {
        return bad(format!(
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {parent}"
        ));
    };
    match id.parse::<i64>() {
        Ok(id @ 1..=4094) => Ok((below.to_owned(), u16::try_from(id).expect("at most 4094"))),
        Ok(id) => bad(format!("vlan id must be between 1-4094, received: {id}")),
        Err(_) => bad(format!("unable to parse a valid vlan id from: {id} (ex. eth0.10 for vlan 10)")),
    }
}

fn failed(key: &str, value: &str, reason: &str) -> Error {
    Error::invalid(format!("failed to parse {key} value: {value} ({reason})"))
}

fn gateway_mode(key: &str, value: &str) -> Result<GatewayMode> {
    match value {
        "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err(failed(key, value, &format!("unknown gateway mode {value}"))),
    }
}

fn address<A: std::str::FromStr>(key: &str, value: &str) -> Result<A> {
    value.parse().map_err(|_| failed(key, value, "nil ip"))
}

/// What may stand before a number in the name of a link.
fn prefix(key: &str, value: &str) -> Result<String> {
    if value.len() > 11 {
        return Err(failed(key, value, "longer than 11 characters"));
    }
    if value.is_empty() { Ok(String::new()) } else { link_name(value) }
}

/// A name that the kernel takes for a link.
pub(super) fn link_name(value: &str) -> Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':');
    if value.is_empty() || value.len() > 15 || matches!(value, "." | "..") || !value.bytes().all(is_plain) {
        return Err(Error::invalid(format!(
            "invalid link name {value:?}: a link has 1 to 15 characters, no blank, `/` or `:`"
        )));
    }
    Ok(value.to_owned())
}

fn go_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    let reason = || format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
    go_bool(value).ok_or_else(|| failed(key, value, &reason()))
}

fn mtu(key: &str, value: &str) -> Result<u32> {
    let reason = || format!("strconv.Atoi: parsing {value:?}: invalid syntax");
    let parsed: i64 = value.parse().map_err(|_| failed(key, value, &reason()))?;
    u32::try_from(parsed)
        .ok()
        .filter(|mtu| *mtu <= 65_535)
        .ok_or_else(|| Error::invalid(format!("invalid MTU number: {parsed}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn of_bridge(key: &str, value: &str) -> Result<Options> {
        read(Driver::Bridge, &options(&[(&format!("{PREFIX}{key}"), value)]), false)
    }

    #[test]
    fn bridges_take_what_docker_has() {
        assert_eq!(of_bridge("bridge.enable_icc", "false").expect("good").icc, Some(false));
        assert_eq!(of_bridge("driver.mtu", "1400").expect("good").mtu, Some(1400));
        assert_eq!(of_bridge("bridge.name", "br-web").expect("good").link.as_deref(), Some("br-web"));
        let settings = |key, value| of_bridge(key, value).expect("good").settings;
        assert_eq!(settings("bridge.gateway_mode_ipv4", "routed").mode4, GatewayMode::Routed);
        assert_eq!(settings("bridge.gateway_mode_ipv6", "nat-unprotected").mode6, GatewayMode::NatUnprotected);
        assert!(settings("bridge.inhibit_ipv4", "1").inhibit_ipv4);
        assert_eq!(settings("bridge.trusted_host_interfaces", "eth0:eth1").trusted, ["eth0", "eth1"]);
        assert_eq!(settings("container_iface_prefix", "net").interface_prefix, "net");
        assert_eq!(settings("bridge.host_binding_ipv4", "127.0.0.1").host_binding, Some([127, 0, 0, 1].into()));
        assert_eq!(settings("host_ipv4", "192.0.2.1").source4, Some([192, 0, 2, 1].into()));
    }

    #[test]
    fn wrong_values_are_told_in_dockers_words() {
        let text = |key, value| of_bridge(key, value).expect_err("bad").text();
        assert_eq!(
            text("driver.mtu", "x"),
            "failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing \"x\": invalid syntax)"
        );
        assert_eq!(text("driver.mtu", "-1"), "invalid MTU number: -1");
        assert!(text("bridge.enable_icc", "maybe").contains("strconv.ParseBool: parsing \"maybe\": invalid syntax"));
        assert!(text("bridge.gateway_mode_ipv4", "x").ends_with("value: x (unknown gateway mode x)"));
        assert!(text("bridge.host_binding_ipv4", "x").ends_with("value: x (nil ip)"));
        assert_eq!(
            text("bridge.gateway_mode_ipv4", "isolated"),
            "gateway mode 'isolated' can only be used for an internal network"
        );
        assert!(of_bridge("bridge.name", "much-too-long-a-name").is_err());
    }

    #[test]
    fn links_without_a_bridge_have_modes() {
        let of = |driver, pairs: &[(&str, &str)]| read(driver, &options(pairs), false);
        let kind = |driver, pairs: &[(&str, &str)]| of(driver, pairs).expect("good").settings.child;
        assert_eq!(kind(Driver::Macvlan, &[]), Some(ChildKind::Macvlan(MacvlanMode::Bridge)));
        assert_eq!(
            kind(Driver::Ipvlan, &[("ipvlan_mode", "l3"), ("ipvlan_flag", "vepa")]),
            Some(ChildKind::Ipvlan(IpvlanMode::L3, IpvlanFlag::Vepa))
        );
        assert_eq!(
            of(Driver::Macvlan, &[("macvlan_mode", "x")]).expect_err("bad").text(),
            "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default"
        );
        assert_eq!(
            of(Driver::Ipvlan, &[("ipvlan_flag", "x")]).expect_err("bad").text(),
            "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default"
        );
        assert_eq!(
            of(Driver::Macvlan, &[("parent", "lo")]).expect_err("bad").text(),
            "loopback interface is not a valid macvlan parent link"
        );
    }

    #[test]
    fn vlans_are_read_from_names() {
        assert_eq!(vlan("eth0.10").expect("good"), ("eth0".to_owned(), 10));
        for (name, text) in [
            ("eth9", "invalid subinterface vlan name eth9"),
            ("a.b.1", "instead received a.b.1"),
            ("eth0.x", "unable to parse a valid vlan id from: x"),
            ("eth0.5000", "vlan id must be between 1-4094, received: 5000"),
        ] {
            assert!(vlan(name).expect_err("bad").text().contains(text), "{name}");
        }
    }
}
