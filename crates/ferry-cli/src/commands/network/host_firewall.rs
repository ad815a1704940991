//! Firewalls of this host beside ferry's own rules, and what they believe of a port: ufw and firewalld, asked by their own programs.

use std::process::{Command, Stdio};

/// What a firewall believes of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Belief {
    /// Everybody may come.
    Open,
    /// Those may, or what comes by that link.
    OpenTo(Vec<String>),
    /// Nobody from outside.
    Closed,
    /// It could not be asked.
    Unknown(String),
}

/// A firewall of the host that is switched on, or could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostFirewall {
    pub(super) name: &'static str,
    rules: Result<Rules, String>,
}

/// In the order in which they are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rules {
    rules: Vec<Rule>,
    open_by_default: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    ports: Ports,
    opens: bool,
    /// For whom alone; nobody in particular is everybody.
    only: Option<String>,
}

/// First and last port, and the protocol where one is said.
type Ports = Vec<(u16, u16, Option<String>)>;

impl HostFirewall {
    /// Those of this machine.
    pub(super) fn all() -> Vec<Self> {
        let ufw = ask("ufw", &["status", "verbose"], &[]).and_then(|answer| match answer {
            Ok(text) => rules_of_ufw(&text).map(Ok),
            Err(reason) => Some(Err(reason)),
        });
        // 252: it is installed and does not run.
        let firewalld = ask("firewall-cmd", &["--list-all"], &[252]).map(|answer| {
            answer.map(|text| {
                rules_of_firewalld(&text, |service| {
                    let told = ask("firewall-cmd", &[&format!("--info-service={service}")], &[]);
                    told.and_then(Result::ok).unwrap_or_default()
                })
            })
        });
        let firewall = |name, rules: Option<_>| rules.map(|rules| Self { name, rules });
        firewall("ufw", ufw).into_iter().chain(firewall("firewalld", firewalld)).collect()
    }

    pub(super) fn believes(&self, port: u16, protocol: &str) -> Belief {
        match &self.rules {
            Ok(rules) => rules.believe(port, protocol),
            Err(reason) => Belief::Unknown(reason.clone()),
        }
    }
}

impl Rules {
    fn believe(&self, port: u16, protocol: &str) -> Belief {
        let mut allowed = Vec::new();
        let about = self.rules.iter().filter(|rule| holds(&rule.ports, port, protocol));
        for rule in about {
            match (&rule.only, rule.opens) {
                (None, true) => return Belief::Open,
                (None, false) => return open_to(allowed),
                (Some(only), true) if !allowed.contains(only) => allowed.push(only.clone()),
                // Whoever is kept out is one of many.
                _ => {}
            }
        }
        if self.open_by_default { Belief::Open } else { open_to(allowed) }
    }
}

fn open_to(allowed: Vec<String>) -> Belief {
    if allowed.is_empty() { Belief::Closed } else { Belief::OpenTo(allowed) }
}

fn holds(ports: &Ports, port: u16, protocol: &str) -> bool {
    ports.iter().any(|(first, last, only)| {
        (*first..=*last).contains(&port) && only.as_deref().is_none_or(|only| only == protocol)
    })
}

/// What a program says, or why it says nothing; `None` where there is no such program, or it ends with one of these codes.
fn ask(program: &str, arguments: &[&str], inactive: &[i32]) -> Option<Result<String, String>> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).env("LC_ALL", "C");
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(Err(error.to_string())),
    };
    if output.status.success() {
        return Some(Ok(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    if output.status.code().is_some_and(|code| inactive.contains(&code)) {
        return None;
    }
    let said = [output.stderr, output.stdout].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let line = said.iter().flat_map(|text| text.lines()).next().unwrap_or("it failed");
    Some(Err(line.trim_start_matches("ERROR: ").to_owned()))
}

/// Reads `ufw status verbose`; none where it is not active.
fn rules_of_ufw(text: &str) -> Option<Rules> {
    if !text.lines().any(|line| line.trim() == "Status: active") {
        return None;
    }
    let default = text.lines().find_map(|line| line.strip_prefix("Default: ")).unwrap_or_default();
    Some(Rules {
        rules: text.lines().filter_map(ufw_rule).collect(),
        open_by_default: default.split(',').any(|part| part.trim() == "allow (incoming)"),
    })
}

/// `80,443/tcp (Nginx Full)     ALLOW IN    Anywhere      # comment`
fn ufw_rule(line: &str) -> Option<Rule> {
    let line = line.split(" #").next().unwrap_or(line);
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| matches!(*word, "ALLOW" | "DENY" | "REJECT" | "LIMIT"))?;
    let rest = match words.get(at + 1) {
        Some(&"OUT") => return None,
        Some(&("IN" | "FWD")) => &words[at + 2..],
        _ => &words[at + 1..],
    };
    let (to, link) = match words[..at].iter().position(|word| *word == "on") {
        Some(on) => (&words[..on], words.get(on + 1).map(|link| format!("who comes by {link}"))),
        None => (&words[..at], None),
    };
    // Names of applications and `(v6)` are in brackets; an address stands before its port.
    let to: Vec<&str> = to.iter().copied().take_while(|word| !word.starts_with('(')).collect();
    let is_address = |word: &str| word.split('/').next().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok());
    let address = to.iter().find(|word| is_address(word));
    let ports = match to.iter().find(|word| !is_address(word)) {
        Some(&"Anywhere") | None => vec![(0, u16::MAX, None)],
        Some(ports) => port_list(ports, ':')?,
    };
    let from = rest.first().filter(|from| **from != "Anywhere").map(|from| (*from).to_owned());
    let only = from.or(link).or(address.map(|address| format!("who comes to {address}")));
    Some(Rule { ports, opens: matches!(words[at], "ALLOW" | "LIMIT"), only })
}

/// Reads `firewall-cmd --list-all`; `about` tells of a service what `--info-service` says.
fn rules_of_firewalld(text: &str, about: impl Fn(&str) -> String) -> Rules {
    let field = |text: &str, name: &str| {
        let found = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':').map(str::to_owned));
        found.unwrap_or_default()
    };
    let open = |ports: Ports, only: Option<String>| Rule { ports, opens: true, only };
    let ports = |text: &str| text.split_whitespace().filter_map(|ports| port_list(ports, '-')).flatten().collect();
    let mut rules = vec![open(ports(&field(text, "ports")), None)];
    for service in field(text, "services").split_whitespace() {
        rules.push(open(ports(&field(&about(service), "ports")), None));
    }
    let rich = text.lines().map(str::trim).filter(|line| line.starts_with("rule ") && line.ends_with(" accept"));
    rules.extend(rich.filter_map(|line| {
        let value = |name: &str| {
            let rest = line.split_once(&format!("{name}=\""))?.1;
            rest.split('"').next()
        };
        let ports = port_list(value("port port")?, '-')?;
        let protocol = value("protocol").map(str::to_owned);
        let ports = ports.into_iter().map(|(first, last, _)| (first, last, protocol.clone())).collect();
        Some(open(ports, value("source address").map(str::to_owned)))
    }));
    Rules { rules, open_by_default: field(text, "target").trim() == "ACCEPT" }
}

/// `80`, `80/tcp`, `80,443/tcp`, `8000-8010/udp`.
fn port_list(text: &str, dash: char) -> Option<Ports> {
    let (ports, protocol) = text.split_once('/').map_or((text, None), |(ports, protocol)| (ports, Some(protocol)));
    let range = |text: &str| {
        let (first, last) = text.split_once(dash).unwrap_or((text, text));
        Some((first.parse().ok()?, last.parse().ok()?, protocol.map(str::to_owned)))
    };
    ports.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ufw_believes_is_read() {
        let text = "Status: active\nLogging: on (low)\nDefault: deny (incoming), allow (outgoing), disabled (routed)\n\
             New profiles: skip\n\nTo                         Action      From\n--                         ------      ----\n\
             22/tcp (OpenSSH)           LIMIT IN    Anywhere                   # by hand\n\
             80,443/tcp (Nginx Full)    ALLOW IN    Anywhere\n\
             8000:8010/udp              ALLOW IN    Anywhere\n\
             9000                       DENY IN     Anywhere\n\
             9000                       ALLOW IN    Anywhere\n\
             5432/tcp                   ALLOW IN    10.0.0.0/8\n\
             5433/tcp on eth0           ALLOW IN    Anywhere\n\
             192.0.2.1 5434/tcp         ALLOW IN    Anywhere\n\
             Anywhere                   ALLOW IN    10.9.9.9\n\
             53                         ALLOW OUT   Anywhere\n\
             22/tcp (OpenSSH (v6))      LIMIT IN    Anywhere (v6)\n";
        let ufw = rules_of_ufw(text).expect("active");
        let only = |names: &[&str]| Belief::OpenTo(names.iter().map(|name| (*name).to_owned()).collect());
        for (port, protocol, belief) in [
            (22, "tcp", Belief::Open),
            (443, "tcp", Belief::Open),
            (443, "udp", only(&["10.9.9.9"])),
            (8005, "udp", Belief::Open),
            (9000, "tcp", Belief::Closed),
            (5432, "tcp", only(&["10.0.0.0/8", "10.9.9.9"])),
            (5433, "tcp", only(&["who comes by eth0", "10.9.9.9"])),
            (5434, "tcp", only(&["who comes to 192.0.2.1", "10.9.9.9"])),
            (53, "udp", only(&["10.9.9.9"])),
        ] {
            assert_eq!(ufw.believe(port, protocol), belief, "{port}/{protocol}");
        }
        assert_eq!(rules_of_ufw("Status: inactive\n"), None);
        let open = rules_of_ufw("Status: active\nDefault: allow (incoming), allow (outgoing)\n").expect("active");
        assert_eq!(open.believe(80, "tcp"), Belief::Open);
    }

    #[test]
    fn what_firewalld_believes_is_read() {
        let text = "public (active)\n  target: default\n  interfaces: eth0\n  services: http ssh\n  ports: 8080/tcp 9000-9010/udp\n  \
             rich rules: \n\trule family=\"ipv4\" source address=\"10.0.0.0/8\" port port=\"5432\" protocol=\"tcp\" accept\n\t\
             rule family=\"ipv4\" port port=\"5433\" protocol=\"tcp\" drop\n";
        let about =
            |service: &str| format!("{service}\n  ports: {}\n", if service == "http" { "80/tcp" } else { "22/tcp" });
        let firewalld = rules_of_firewalld(text, about);
        for (port, protocol, belief) in [
            (8080, "tcp", Belief::Open),
            (9001, "udp", Belief::Open),
            (8080, "udp", Belief::Closed),
            (80, "tcp", Belief::Open),
            (22, "tcp", Belief::Open),
            (5432, "tcp", Belief::OpenTo(vec!["10.0.0.0/8".to_owned()])),
            (5433, "tcp", Belief::Closed),
        ] {
            assert_eq!(firewalld.believe(port, protocol), belief, "{port}/{protocol}");
        }
        assert_eq!(
            rules_of_firewalld("trusted\n  target: ACCEPT\n", |_| String::new()).believe(1, "tcp"),
            Belief::Open
        );
    }

    #[test]
    fn who_cannot_be_asked_is_told_and_who_is_not_there_is_not() {
        assert_eq!(ask("/nosuch/program", &[], &[]), None);
        assert_eq!(ask("sh", &["-c", "exit 252"], &[252]), None);
        let refused = ask("sh", &["-c", "echo 'ERROR: You need to be root' >&2; exit 1"], &[]);
        assert_eq!(refused, Some(Err("You need to be root".to_owned())));
    }
}
