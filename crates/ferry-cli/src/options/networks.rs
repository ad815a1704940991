//! `--network` and the flags that belong to the first network.

use std::collections::BTreeMap;

use ferry_api::network::{EndpointIpamConfig, EndpointSettings};

use crate::flags::Parsed;

use super::csv;

/// One `--network` value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Attachment {
    pub(super) target: String,
    aliases: Vec<String>,
    links: Vec<String>,
    ipv4: String,
    ipv6: String,
    mac: String,
    link_local: Vec<String>,
    driver_options: BTreeMap<String, String>,
    gateway_priority: i64,
}

/// Reads one `--network` value: a name, or `name=..,alias=..`.
pub(super) fn parse(value: &str) -> Result<Attachment, String> {
    if !is_long(value) {
        return Ok(Attachment { target: value.to_owned(), ..Attachment::default() });
    }
    let mut attachment = Attachment::default();
    for field in csv::fields(value)? {
        let Some((key, text)) = field.split_once('=') else { return Err(format!("invalid field {field}")) };
        let (key, text) = (key.trim().to_ascii_lowercase(), text.trim());
        match key.as_str() {
            "" => return Err(format!("invalid field {field}")),
            "name" => attachment.target = text.to_owned(),
            "alias" => attachment.aliases.push(text.to_owned()),
            "ip" => attachment.ipv4 = text.to_owned(),
            "ip6" => attachment.ipv6 = text.to_owned(),
            "mac-address" => attachment.mac = text.to_owned(),
            "link-local-ip" => attachment.link_local.push(text.to_owned()),
            "driver-opt" => {
                let (name, option) = text.split_once('=').ok_or("invalid key value pair format in driver options")?;
                attachment.driver_options.insert(name.trim().to_ascii_lowercase(), option.trim().to_owned());
            }
            "gw-priority" => {
                attachment.gateway_priority =
                    text.parse().map_err(|_| format!("invalid gw-priority ({text}): invalid syntax"))?;
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if attachment.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(attachment)
}

/// A word, an equals sign and a word somewhere make the long form.
fn is_long(value: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    value.as_bytes().windows(3).any(|window| word(window[0]) && window[1] == b'=' && word(window[2]))
}

/// Checks a hardware address: six, eight or twenty pairs of hex digits.
pub(super) fn mac_address(text: &str) -> Result<String, String> {
    let pairs: Vec<&str> = text.trim().split([':', '-']).collect();
    let fits = matches!(pairs.len(), 6 | 8 | 20)
        && pairs.iter().all(|pair| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if fits { Ok(text.trim().to_owned()) } else { Err(format!("{text} is not a valid mac address")) }
}

fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

/// The network mode and the endpoints of a new container.
pub(super) fn endpoints(parsed: &Parsed) -> Result<(String, BTreeMap<String, Option<EndpointSettings>>), String> {
    let values = parsed.all("network").iter().chain(parsed.all("net"));
    let mut attachments = values.map(|value| parse(value)).collect::<Result<Vec<_>, _>>()?;
    if attachments.is_empty() {
        attachments.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
    } else {
        let user_defined = attachments.iter().filter(|attachment| is_user_defined(&attachment.target)).count();
        if user_defined > 0 && user_defined < attachments.len() {
            return Err(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned()
            );
        }
    }
    let mode = attachments[0].target.clone();
    apply_flags(&mut attachments[0], parsed)?;
    let mut endpoints = BTreeMap::new();
    for attachment in attachments {
        let target = attachment.target.clone();
        // The mode says it all for those that are not networks of their own.
        if !is_user_defined(&target)
            && target != "default"
            && settings(attachment.clone())? == EndpointSettings::default()
        {
            continue;
        }
        if endpoints.contains_key(&target) {
            let name = crate::flags::go_quote(&target);
            return Err(format!("network {name} is specified multiple times"));
        }
        endpoints.insert(target, Some(settings(attachment)?));
    }
    Ok((mode, endpoints))
}

/// The short flags belong to the first network.
fn apply_flags(attachment: &mut Attachment, parsed: &Parsed) -> Result<(), String> {
    let aliases: Vec<String> = [parsed.all("network-alias"), parsed.all("net-alias")].concat();
    let links = parsed.all("link");
    let link_local = parsed.all("link-local-ip");
    let conflict = |flag: &str, what: &str| {
        Err(format!("conflicting options: cannot specify both --{flag} and per-network {what}"))
    };
    if !attachment.aliases.is_empty() && !aliases.is_empty() {
        return conflict("network-alias", "alias");
    }
    if !attachment.ipv4.is_empty() && parsed.changed("ip") {
        return conflict("ip", "IPv4 address");
    }
    if !attachment.ipv6.is_empty() && parsed.changed("ip6") {
        return conflict("ip6", "IPv6 address");
    }
    if !attachment.mac.is_empty() && parsed.changed("mac-address") {
        return conflict("mac-address", "MAC address");
    }
    if !attachment.link_local.is_empty() && !link_local.is_empty() {
        return conflict("link-local-ip", "link-local IP addresses");
    }
    attachment.aliases.extend(aliases);
    if attachment.target != "default" && is_user_defined(&attachment.target) {
        attachment.links.extend(links.iter().cloned());
    }
    if let Some(address) = parsed.text("ip") {
        attachment.ipv4 = address.to_owned();
    }
    if let Some(address) = parsed.text("ip6") {
        attachment.ipv6 = address.to_owned();
    }
    if let Some(address) = parsed.text("mac-address") {
        attachment.mac = address.to_owned();
    }
    attachment.link_local.extend(link_local.iter().cloned());
    Ok(())
}

fn settings(attachment: Attachment) -> Result<EndpointSettings, String> {
    if attachment.target.trim().is_empty() {
        return Err("no name set for network".to_owned());
    }
    if !is_user_defined(&attachment.target) && !attachment.aliases.is_empty() {
        return Err("network-scoped aliases are only supported for user-defined networks".to_owned());
    }
    let addressed = !attachment.ipv4.is_empty() || !attachment.ipv6.is_empty() || !attachment.link_local.is_empty();
    Ok(EndpointSettings {
        aliases: some_unless_empty(attachment.aliases),
        links: some_unless_empty(attachment.links),
        ipam_config: addressed.then_some(EndpointIpamConfig {
            ipv4_address: attachment.ipv4,
            ipv6_address: attachment.ipv6,
            link_local_ips: attachment.link_local,
        }),
        mac_address: match attachment.mac.as_str() {
            "" => String::new(),
            address => mac_address(address)?,
        },
        driver_opts: (!attachment.driver_options.is_empty()).then_some(attachment.driver_options),
        gw_priority: attachment.gateway_priority,
        ..EndpointSettings::default()
    })
}

fn some_unless_empty(values: Vec<String>) -> Option<Vec<String>> {
    (!values.is_empty()).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_form() {
        assert_eq!(parse("host").unwrap().target, "host");
        assert_eq!(parse("container:abc").unwrap().target, "container:abc");
        let long = parse("name=net,alias=a,alias=b,ip=1.2.3.4,driver-opt=x=y,gw-priority=5").unwrap();
        assert_eq!(long.target, "net");
        assert_eq!(long.aliases, ["a", "b"]);
        assert_eq!(long.driver_options["x"], "y");
        assert_eq!(long.gateway_priority, 5);
        assert_eq!(parse("a=b,c").unwrap_err(), "invalid field key a");
        assert_eq!(parse("alias=b").unwrap_err(), "network name/id is not specified");
    }
}
