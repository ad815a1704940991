//! `--link` on the default bridge: another container's address under a name of one's own, in `/etc/hosts` and, where the daemon is told to keep
//! what Docker has given up, in variables.
//!
//! A link is kept with the container that has it, by the other's id; it ends with either of them.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

use ferry_api::container::HostConfig;
use ferry_network::Protocol;

use super::record::{LinkRecord, Record};
use super::{Container, Containers, ports};
use crate::error::{Context, Error, Result};

/// Splits `container[:alias]`.
///
/// # Errors
/// Docker's texts, with its status.
fn parse(text: &str) -> Result<(&str, &str)> {
    if text.is_empty() {
        return Err(Error::internal("empty string specified for links"));
    }
    match text.split(':').collect::<Vec<_>>()[..] {
        [name] => Ok((name, name.rsplit('/').next().unwrap_or(name))),
        // As inspect tells it: `/database:/web/db`.
        [name, alias] => Ok((name, alias.rsplit('/').next().unwrap_or(alias))),
        _ => Err(Error::internal(format!("bad format for links: {text}"))),
    }
}

impl Containers {
    /// The links of a new container.
    ///
    /// # Errors
    /// InvalidArgument for a container that is not there or has no network of its own.
    pub(super) fn links_asked(&self, host: &HostConfig) -> Result<Vec<LinkRecord>> {
        let mut links: Vec<LinkRecord> = Vec::new();
        // In a network of a user's own they are the endpoint's.
        if !matches!(host.network_mode.as_str(), "" | "default" | "bridge" | "none") {
            return Ok(links);
        }
        for text in host.links.iter().flatten() {
            let (name, alias) = parse(text)?;
            if alias.is_empty() || alias.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
                return Err(Error::internal(format!("bad format for links: {text}")));
            }
            let child = self.linked(name)?;
            links.retain(|link| link.alias != alias);
            links.push(LinkRecord { child, alias: alias.to_owned() });
        }
        Ok(links)
    }

    /// The container that a name means; one that shares a network stands for the one whose network it is.
    fn linked(&self, name: &str) -> Result<String> {
        let missing = |error: Error| {
            Error::invalid(format!("could not get container for {name}")).with_source(Error::invalid(error.text()))
        };
        let mut child = self.find(name).map_err(missing)?;
        loop {
            let mode = child.with_record(|record| record.host_config.network_mode.clone());
            if mode == "host" {
                let text = "conflicting options: host type networking can't be used with links. This would result in undefined behavior";
                return Err(Error::invalid(text));
            }
            match mode.strip_prefix("container:") {
                Some(other) => child = self.find(other).map_err(missing)?,
                None => return Ok(child.id.clone()),
            }
        }
    }

    /// The links of a container that lead somewhere, with where they lead.
    fn links_of(&self, record: &Record) -> Vec<(LinkRecord, Arc<Container>)> {
        let links = record.links.iter();
        links.filter_map(|link| self.find(&link.child).ok().map(|child| (link.clone(), child))).collect()
    }

    /// What inspect tells: `/database:/web/db`.
    pub(super) fn shown_links(&self, record: &Record) -> Option<Vec<String>> {
        let links = self.links_of(record);
        let shown =
            |(link, child): &(LinkRecord, Arc<Container>)| format!("/{}:/{}/{}", child.name(), record.name, link.alias);
        (!links.is_empty()).then(|| links.iter().map(shown).collect())
    }

    /// Names that others have for containers, such as `/web/db`, by the id of the one that is meant.
    pub(super) fn names_by_links(&self) -> HashMap<String, Vec<String>> {
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        for other in self.all() {
            other.with_record(|record| {
                for link in &record.links {
                    names.entry(link.child.clone()).or_default().push(format!("/{}/{}", record.name, link.alias));
                }
            });
        }
        names
    }

    /// Lines of `/etc/hosts` for a container that starts.
    ///
    /// # Errors
    /// When one that it links to does not run, or not on the default bridge.
    pub(super) fn linked_hosts(&self, record: &Record) -> Result<String> {
        let mut lines = String::new();
        for (link, child) in self.links_of(record) {
            let other = child.snapshot();
            let address = address_of(&other, record, &link)?;
            let mut names = vec![link.alias.as_str(), other.config.hostname.as_str()];
            if link.alias != other.name {
                names.push(&other.name);
            }
            lines.push_str(&format!("{address}\t{}\n", names.join(" ")));
        }
        Ok(lines)
    }

    /// Variables of what a container links to.
    pub(super) fn link_variables(&self, record: &Record) -> Result<Vec<String>> {
        let mut variables = Vec::new();
        for (link, child) in self.links_of(record) {
            let other = child.snapshot();
            let address = address_of(&other, record, &link)?;
            if self.inner.config.link_variables {
                let name = format!("/{}/{}", record.name, link.alias);
                variables.extend(variables_of(&other, &name, &link.alias, address));
            }
        }
        Ok(variables)
    }

    /// After a start: those that link to the container learn its new address. Blocks.
    pub(super) fn tell_linking(&self, record: &Record) {
        let Some(address) = record.endpoints.get("bridge").and_then(|endpoint| endpoint.address) else { return };
        for other in self.all() {
            let (live, aliases) = other.with_record(|other| {
                let to_it = other.links.iter().filter(|link| link.child == record.id);
                (other.status.is_live(), to_it.map(|link| link.alias.clone()).collect::<Vec<_>>())
            });
            if !live || aliases.is_empty() {
                continue;
            }
            let path = other.folder().join("etc/hosts");
            let written = fs::read_to_string(&path).and_then(|text| {
                // In place: the container has the file itself.
                fs::write(&path, with_address(&text, &aliases, address))
            });
            if let Err(error) = written {
                tracing::warn!(container = %other.name(), %error, "address of a linked container not told");
            }
        }
    }

    /// Takes a link away, by its name `web/db`.
    ///
    /// # Errors
    /// NotFound; Conflict for what is no link.
    pub(super) fn remove_link(&self, name: &str) -> Result<()> {
        let plain = name.trim_start_matches('/');
        let Some((parent, alias)) = plain.rsplit_once('/') else {
            self.find(name)?;
            return Err(Error::internal("Conflict, cannot remove the default link name of the container"));
        };
        let not_found = || Error::not_found(format!("No such container: {name}"));
        let parent = self.find(parent).map_err(|_| not_found())?;
        if !parent.with_record(|record| record.links.iter().any(|link| link.alias == alias)) {
            return Err(not_found());
        }
        self.update(&parent, |record| record.links.retain(|link| link.alias != alias)).context("cannot remove the link")
    }
}

/// The other container's address on the default bridge.
fn address_of(other: &Record, record: &Record, link: &LinkRecord) -> Result<IpAddr> {
    if !other.status.is_live() {
        return Err(Error::internal(format!(
            "Cannot link to a non running container: /{} AS /{}/{}",
            other.name, record.name, link.alias
        )));
    }
    other.endpoints.get("bridge").and_then(|endpoint| endpoint.address).ok_or_else(|| {
        Error::internal(format!("Cannot link to /{}, as it does not belong to the default network", other.name))
    })
}

/// The text of `/etc/hosts` with another address where one of the names stands first.
fn with_address(text: &str, names: &[String], address: IpAddr) -> String {
    let changed = text.lines().map(|line| {
        let rest = line.split_once('\t').map_or("", |(_, rest)| rest);
        let first = rest.split(' ').next().unwrap_or_default();
        if names.iter().any(|name| name == first) { format!("{address}\t{rest}\n") } else { format!("{line}\n") }
    });
    changed.collect()
}

/// Docker's variables of old: each port, the first of them, ranges, the name, and the other's own variables.
fn variables_of(other: &Record, name: &str, alias: &str, address: IpAddr) -> Vec<String> {
    let prefix = alias.to_ascii_uppercase().replace('-', "_");
    let mut open: Vec<(u16, Protocol)> = Vec::new();
    for key in other.config.exposed_ports.keys() {
        let Ok((range, protocol)) = ports::parse_port_key(key) else { continue };
        open.extend(range.map(|port| (port, protocol)));
    }
    // TCP first, then by number.
    open.sort_by_key(|(port, protocol)| (*port, *protocol != Protocol::Tcp));
    let mut variables = Vec::new();
    let first = open.iter().find(|(_, protocol)| *protocol == Protocol::Tcp).or(open.first());
    if let Some((port, protocol)) = first {
        variables.push(format!("{prefix}_PORT={protocol}://{address}:{port}"));
    }
    for (port, protocol) in &open {
        let word = format!("{prefix}_PORT_{port}_{}", protocol.to_string().to_ascii_uppercase());
        variables.push(format!("{word}={protocol}://{address}:{port}"));
        variables.push(format!("{word}_ADDR={address}"));
        variables.push(format!("{word}_PORT={port}"));
        variables.push(format!("{word}_PROTO={protocol}"));
    }
    variables.push(format!("{prefix}_NAME={name}"));
    for variable in other.config.env.iter().flatten() {
        match variable.split_once('=') {
            None | Some(("HOME" | "PATH", _)) => {}
            Some((key, value)) => variables.push(format!("{prefix}_ENV_{key}={value}")),
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_the_name_unless_said() {
        assert_eq!(parse("db").unwrap(), ("db", "db"));
        assert_eq!(parse("db:store").unwrap(), ("db", "store"));
        assert_eq!(parse("/db:/web/store").unwrap(), ("/db", "store"));
        assert_eq!(parse("").unwrap_err().text(), "empty string specified for links");
        assert_eq!(parse("a:b:c").unwrap_err().text(), "bad format for links: a:b:c");
    }

    #[test]
    fn addresses_are_exchanged_by_the_first_name() {
        let text = "127.0.0.1\tlocalhost\n172.17.0.2\tdb 0123 database\n172.17.0.3\tdatabase\n";
        let changed = with_address(text, &["db".to_owned()], "172.17.0.9".parse().unwrap());
        assert_eq!(changed, "127.0.0.1\tlocalhost\n172.17.0.9\tdb 0123 database\n172.17.0.3\tdatabase\n");
    }
}
