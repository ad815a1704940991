//! The text of a container's `/etc/hosts` and `/etc/resolv.conf`.
//!
//! Pure: text in, text out; the engine reads the host's files and writes the container's. No value
//! gets into a file that could start a second line or a second field.

use std::{fmt::Write as _, net::IpAddr, path::Path};

/// Where systemd-resolved keeps the real name servers of a host whose file names its stub.
pub const RESOLVED_FILE: &str = "/run/systemd/resolve/resolv.conf";
const RESOLVED_STUB: &str = "127.0.0.53";
const DEFAULT_SERVERS_V4: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
const DEFAULT_SERVERS_V6: [&str; 2] = ["2001:4860:4860::8888", "2001:4860:4860::8844"];

/// A value that must not be written into one of the files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {reason}")]
pub struct InvalidValue {
    /// Which setting.
    pub what: &'static str,
    /// The value given.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Refuses values with blanks, control characters or `#`, and empty ones.
fn word<'a>(what: &'static str, value: &'a str) -> Result<&'a str, InvalidValue> {
    let invalid = |reason| Err(InvalidValue { what, value: value.to_owned(), reason });
    if value.is_empty() {
        return invalid("is empty");
    }
    if value.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return invalid("has a blank or a control character");
    }
    if value.contains('#') {
        return invalid("has a `#`");
    }
    Ok(value)
}

fn server(value: &str) -> Result<&str, InvalidValue> {
    // A zone (`fe80::1%eth0`) is not part of the address.
    let address = value.split_once('%').map_or(value, |(address, _)| address);
    if address.parse::<IpAddr>().is_err() {
        let reason = "is not an IP address";
        return Err(InvalidValue { what: "DNS server", value: value.to_owned(), reason });
    }
    word("DNS server", value)
}

/// Checks the values that a request sets for the two files, before anything is made.
///
/// # Errors
/// Names the first value that is not acceptable.
pub fn check(
    hostname: &str,
    domain: &str,
    dns: &[String],
    search: &[String],
    options: &[String],
) -> Result<(), InvalidValue> {
    for (what, value) in [("hostname", hostname), ("domain name", domain)] {
        if !value.is_empty() {
            word(what, value)?;
        }
    }
    for value in dns {
        server(value)?;
    }
    for value in search {
        word("DNS search domain", value)?;
    }
    for value in options {
        word("DNS option", value)?;
    }
    Ok(())
}

/// Splits an extra host of a request: `name:address` or `name=address`, IPv6 also in brackets.
/// The address may be the word `host-gateway`, for the caller to resolve.
///
/// # Errors
/// Fails for another shape, a name that would break the file, or an address that is none.
pub fn extra_host(text: &str) -> Result<(&str, &str), InvalidValue> {
    let invalid = |reason| InvalidValue { what: "extra host", value: text.to_owned(), reason };
    let separator = text.find(['=', ':']).ok_or_else(|| invalid("is not `name:address`"))?;
    let (name, address) = (&text[..separator], &text[separator + 1..]);
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if word("extra host", name).is_err() {
        return Err(invalid("has no usable name"));
    }
    if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
        return Err(invalid("has no valid IP address"));
    }
    Ok((name, address))
}

/// Returns the text of `/etc/hosts`: Docker's standard lines, the extra hosts, and the container's
/// own addresses with its names.
///
/// # Errors
/// Fails when a name would break the file.
pub fn hosts(
    hostname: &str,
    domain: &str,
    addresses: &[IpAddr],
    extra_hosts: &[(String, IpAddr)],
) -> Result<String, InvalidValue> {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    append_hosts(&mut text, extra_hosts)?;
    if hostname.is_empty() {
        return Ok(text);
    }
    let names = own_names(hostname, domain)?;
    for address in addresses {
        text_line(&mut text, address, &names);
    }
    Ok(text)
}

/// Returns the host's `/etc/hosts` with the extra hosts, for containers on the host's network.
///
/// # Errors
/// Fails when a name would break the file.
pub fn hosts_of_host(host_text: &str, extra_hosts: &[(String, IpAddr)]) -> Result<String, InvalidValue> {
    let mut text = host_text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    append_hosts(&mut text, extra_hosts)?;
    Ok(text)
}

fn append_hosts(text: &mut String, extra_hosts: &[(String, IpAddr)]) -> Result<(), InvalidValue> {
    for (name, address) in extra_hosts {
        text_line(text, address, word("extra host", name)?);
    }
    Ok(())
}

fn text_line(text: &mut String, address: &IpAddr, names: &str) {
    writeln!(text, "{address}\t{names}").expect("writing to a string does not fail");
}

/// The whole name, and its first label when there are more.
fn own_names(hostname: &str, domain: &str) -> Result<String, InvalidValue> {
    let mut whole = word("hostname", hostname)?.to_owned();
    if !domain.is_empty() {
        whole = format!("{whole}.{}", word("domain name", domain)?);
    }
    Ok(match whole.split_once('.') {
        Some((first, _)) if !first.is_empty() => format!("{whole} {first}"),
        _ => whole,
    })
}

/// Which file of the host a container's `resolv.conf` is made from: the given text is that of the
/// host's `/etc/resolv.conf`; one that names only systemd-resolved's stub stands for another file.
pub fn names_resolved_stub(host_text: &str) -> bool {
    let host = ResolvConf::parse(host_text);
    !host.servers.is_empty() && host.servers.iter().all(|server| server == RESOLVED_STUB)
}

/// Reads the host's name server settings from `/etc/resolv.conf` or, behind the stub, from
/// [`RESOLVED_FILE`]. A host without either file has empty settings.
pub fn read_host_resolv_conf() -> String {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let text = read(Path::new("/etc/resolv.conf")).unwrap_or_default();
    if names_resolved_stub(&text) {
        return read(Path::new(RESOLVED_FILE)).unwrap_or(text);
    }
    text
}

/// Returns the addresses of the host's name servers.
pub fn host_name_servers() -> Vec<IpAddr> {
    ResolvConf::parse(&read_host_resolv_conf()).servers.iter().filter_map(|server| server.parse().ok()).collect()
}

/// How a container reaches name servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolvMode {
    /// On the host's network: whatever the host uses works.
    Host,
    /// In a namespace of its own, without a resolver of ours: servers on the host's loopback do
    /// not work there, nor IPv6 ones without IPv6.
    Sandbox {
        /// The container has an IPv6 address.
        ipv6: bool,
    },
    /// In a namespace of its own with our resolver, which asks the servers itself.
    Resolver,
}

/// Returns the text of `/etc/resolv.conf`. `dns`, `search` and `options` take the place of what the
/// host has when they are not empty; a search list of `.` alone means none.
///
/// # Errors
/// Fails when a value would break the file.
pub fn resolv_conf(
    host_text: &str,
    dns: &[String],
    search: &[String],
    options: &[String],
    mode: ResolvMode,
) -> Result<String, InvalidValue> {
    check("", "", dns, search, options)?;
    if mode == ResolvMode::Host && dns.is_empty() && search.is_empty() && options.is_empty() {
        return Ok(host_text.to_owned());
    }
    let mut conf = ResolvConf::parse(host_text);
    if mode == ResolvMode::Resolver {
        // The host's own choice would make words of one part wait for its search list.
        conf.options.retain(|option| !option.starts_with("ndots:"));
    }
    let overridden = override_with(&mut conf, dns, search, options);
    if mode == ResolvMode::Resolver {
        conf.servers = vec![crate::RESOLVER.to_string()];
        // A name of one word is first looked for as it is: container names are such.
        if !conf.options.iter().any(|option| option.starts_with("ndots:")) {
            conf.options.push("ndots:0".to_owned());
        }
    }
    let mut used_defaults = false;
    if let ResolvMode::Sandbox { ipv6 } = mode
        && dns.is_empty()
    {
        used_defaults = conf.keep_reachable_servers(ipv6);
    }
    Ok(conf.render(used_defaults, &overridden))
}

fn override_with(conf: &mut ResolvConf, dns: &[String], search: &[String], options: &[String]) -> Vec<&'static str> {
    let mut overridden = Vec::new();
    if !dns.is_empty() {
        conf.servers = dns.to_vec();
        overridden.push("nameservers");
    }
    if !search.is_empty() {
        conf.search = if search == ["."] { Vec::new() } else { search.to_vec() };
        overridden.push("search");
    }
    if !options.is_empty() {
        conf.options = options.to_vec();
        overridden.push("options");
    }
    overridden
}

/// The settings of a `resolv.conf`.
#[derive(Debug, Default, PartialEq, Eq)]
struct ResolvConf {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
    /// Lines of other kinds (`sortlist`), kept as they are.
    others: Vec<String>,
}

impl ResolvConf {
    fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            // A comment is a line that begins with one of these; elsewhere they are part of a value.
            let line = line.trim_end();
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut fields = line.split_whitespace();
            let Some(keyword) = fields.next() else { continue };
            match keyword {
                "nameserver" => conf.servers.extend(fields.next().map(str::to_owned)),
                // The last of `search` and `domain` counts.
                "search" | "domain" => conf.search = fields.map(str::to_owned).collect(),
                "options" => conf.options.extend(fields.map(str::to_owned)),
                _ => conf.others.push(line.to_owned()),
            }
        }
        conf
    }

    /// Drops the servers that cannot be reached from inside; puts public ones where none is left.
    /// Returns whether it did.
    fn keep_reachable_servers(&mut self, ipv6: bool) -> bool {
        self.servers.retain(|server| {
            let (address, zone) = server.split_once('%').map_or((server.as_str(), None), |(a, zone)| (a, Some(zone)));
            match address.parse::<IpAddr>() {
                Ok(IpAddr::V4(address)) => !address.is_loopback(),
                // A zone is a link of the host.
                Ok(IpAddr::V6(address)) => ipv6 && zone.is_none() && !address.is_loopback(),
                Err(_) => false,
            }
        });
        if !self.servers.is_empty() {
            return false;
        }
        self.servers.extend(DEFAULT_SERVERS_V4.map(str::to_owned));
        if ipv6 {
            self.servers.extend(DEFAULT_SERVERS_V6.map(str::to_owned));
        }
        true
    }

    fn render(&self, used_defaults: bool, overridden: &[&str]) -> String {
        let mut text = String::from("# Generated by ferry from the host's file.\n\n");
        let mut line = |words: &[&str]| {
            text.push_str(&words.join(" "));
            text.push('\n');
        };
        for server in &self.servers {
            line(&["nameserver", server]);
        }
        if !self.search.is_empty() {
            line(&["search", &self.search.join(" ")]);
        }
        if !self.options.is_empty() {
            line(&["options", &self.options.join(" ")]);
        }
        for other in &self.others {
            line(&[other]);
        }
        if used_defaults {
            line(&["\n# The host names no server that can be reached from here: public ones are used."]);
        }
        if !overridden.is_empty() {
            line(&[&format!("\n# Overrides: [{}]", overridden.join(" "))]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SANDBOX: ResolvMode = ResolvMode::Sandbox { ipv6: false };

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn settings(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    }

    #[test]
    fn hosts_has_the_standard_lines_then_extra_hosts_then_own_addresses() {
        let text =
            hosts("web", "example.org", &[ip("172.17.0.2"), ip("fd00::2")], &[("db".to_owned(), ip("10.0.0.9"))])
                .expect("valid");
        assert_eq!(
            text,
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n10.0.0.9\tdb\n\
             172.17.0.2\tweb.example.org web\nfd00::2\tweb.example.org web\n"
        );
        assert!(hosts("web", "", &[ip("172.17.0.2")], &[]).expect("valid").ends_with("\n172.17.0.2\tweb\n"));
        assert!(hosts("a.b.c", "", &[ip("172.17.0.2")], &[]).expect("valid").ends_with("\n172.17.0.2\ta.b.c a\n"));
    }

    #[test]
    fn hosts_of_the_host_keep_their_text() {
        let text = hosts_of_host("127.0.0.1 localhost", &[("db".to_owned(), ip("10.0.0.9"))]).expect("valid");
        assert_eq!(text, "127.0.0.1 localhost\n10.0.0.9\tdb\n");
    }

    #[test]
    fn values_that_would_break_a_file_are_refused() {
        let none: [String; 0] = [];
        for hostname in ["a\nb", "a b", "a\0b", "a\tb", "a#b"] {
            assert!(check(hostname, "", &none, &none, &none).is_err(), "{hostname:?}");
            assert!(hosts(hostname, "", &[ip("172.17.0.2")], &[]).is_err(), "{hostname:?}");
        }
        let dns = strings(&["1.1.1.1\noptions x"]);
        let error = resolv_conf("", &dns, &[], &[], SANDBOX).expect_err("refused");
        assert_eq!(error.to_string(), r#"invalid DNS server "1.1.1.1\noptions x": is not an IP address"#);
        assert!(resolv_conf("", &strings(&["fe80::1%a\nb"]), &[], &[], SANDBOX).is_err());
        assert!(resolv_conf("", &[], &strings(&["a b"]), &[], SANDBOX).is_err());
        assert!(resolv_conf("", &[], &[], &strings(&["x\ny"]), SANDBOX).is_err());
        assert!(hosts("web", "", &[], &[("a\nb".to_owned(), ip("10.0.0.9"))]).is_err());
    }

    #[test]
    fn extra_hosts_are_split() {
        assert_eq!(extra_host("db:10.0.0.9"), Ok(("db", "10.0.0.9")));
        assert_eq!(extra_host("db=10.0.0.9"), Ok(("db", "10.0.0.9")));
        assert_eq!(extra_host("db:fd00::1"), Ok(("db", "fd00::1")));
        assert_eq!(extra_host("db:[fd00::1]"), Ok(("db", "fd00::1")));
        assert_eq!(extra_host("host:host-gateway"), Ok(("host", "host-gateway")));
        for text in ["", "db", ":10.0.0.9", "db:", "db:nowhere", "a\nb:10.0.0.9", "db:10.0.0.9\n1.1.1.1 x"] {
            assert!(extra_host(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn servers_on_the_hosts_loopback_are_left_out() {
        let host = "nameserver 127.0.0.1\nnameserver 10.0.0.53\nnameserver fd00::53\nsearch a b\noptions ndots:2\n";
        let text = resolv_conf(host, &[], &[], &[], SANDBOX).expect("valid");
        assert_eq!(settings(&text), ["nameserver 10.0.0.53", "search a b", "options ndots:2"]);
        let text = resolv_conf(host, &[], &[], &[], ResolvMode::Sandbox { ipv6: true }).expect("valid");
        assert_eq!(settings(&text)[..2], ["nameserver 10.0.0.53", "nameserver fd00::53"]);
    }

    #[test]
    fn public_servers_are_used_when_none_is_left() {
        for host in ["", "nameserver 127.0.0.1\nnameserver ::1\n", "nameserver fe80::1%eth0\n"] {
            let text = resolv_conf(host, &[], &[], &[], SANDBOX).expect("valid");
            assert_eq!(settings(&text), ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]);
            assert!(text.contains("public ones are used"));
        }
    }

    #[test]
    fn values_of_the_request_take_the_place_of_the_hosts() {
        let host = "nameserver 10.0.0.53\nsearch a b\noptions ndots:2\nsortlist 10.0.0.0\n";
        let text = resolv_conf(host, &strings(&["127.0.0.1"]), &strings(&["."]), &strings(&["rotate"]), SANDBOX)
            .expect("valid");
        assert_eq!(settings(&text), ["nameserver 127.0.0.1", "options rotate", "sortlist 10.0.0.0"]);
        assert!(text.contains("# Overrides: [nameservers search options]"));
    }

    #[test]
    fn the_hosts_network_has_the_hosts_file() {
        let host = "# mine\nnameserver 127.0.0.53\n";
        assert_eq!(resolv_conf(host, &[], &[], &[], ResolvMode::Host).expect("valid"), host);
        let text = resolv_conf(host, &[], &strings(&["x.org"]), &[], ResolvMode::Host).expect("valid");
        assert_eq!(settings(&text), ["nameserver 127.0.0.53", "search x.org"]);
    }

    #[test]
    fn the_stub_is_recognised_only_when_alone() {
        assert!(names_resolved_stub("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n"));
        assert!(!names_resolved_stub("nameserver 127.0.0.53\nnameserver 10.0.0.53\n"));
        assert!(!names_resolved_stub("# nameserver 127.0.0.53\n"));
    }
}
