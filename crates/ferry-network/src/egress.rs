//! What a container may reach outside of its networks: the words, and what they mean. Pure.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use crate::types::Protocol;

/// Rules for what a container may begin to speak to; what none of them names is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// Without any rule nothing is reached.
    pub rules: Vec<EgressRule>,
}

/// One thing that may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    /// What.
    pub target: EgressTarget,
    /// On this port alone.
    pub port: Option<u16>,
    /// By this protocol alone.
    pub protocol: Option<Protocol>,
}

/// What may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressTarget {
    /// Private addresses; not link-local ones, behind which clouds keep credentials.
    Lan,
    /// Addresses of the public internet.
    Internet,
    /// A net.
    Net(IpNet),
    /// The addresses of a name, lower case; `*.` before it stands for all names below it.
    Name(String),
}

/// What a container has been allowed and refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flows {
    /// By rule, in the order of the rules.
    pub rules: Vec<(EgressRule, Count, Vec<IpAddr>)>,
    /// What went on to addresses that a name has had.
    pub established: Count,
    /// What was refused.
    pub denied: Count,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Egress {
    /// Reads the words of the API: `none`, `lan`, `internet`, `allow=NET[:PORT[/PROTOCOL]]`, `allow=HOST[:PORT[/PROTOCOL]]`. No word
    /// at all, and `any`, are no rules.
    ///
    /// # Errors
    /// Names the word and what it should be.
    pub fn parse(words: &[String]) -> Result<Option<Self>, String> {
        let mut rules = Vec::new();
        for word in words {
            match word.as_str() {
                "any" | "none" if words.len() > 1 => {
                    return Err(format!("conflicting egress rules: `{word}` stands alone"));
                }
                "any" => return Ok(None),
                "none" => {}
                "lan" => rules.push(EgressRule::plain(EgressTarget::Lan)),
                "internet" => rules.push(EgressRule::plain(EgressTarget::Internet)),
                word => rules.push(word.strip_prefix("allow=").and_then(EgressRule::parse).ok_or_else(|| {
                    format!(
                        "invalid egress rule {word:?}: it should be `none`, `lan`, `internet` or `allow=` with an address, a net or a host name, and perhaps a port, such as `allow=example.com:443`"
                    )
                })?),
            }
        }
        let mut seen = Vec::new();
        rules.retain(|rule| {
            !seen.contains(rule) && {
                seen.push(rule.clone());
                true
            }
        });
        Ok((!words.is_empty()).then_some(Self { rules }))
    }

    /// Names whose addresses have to be learnt.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| match &rule.target {
            EgressTarget::Name(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Nets in which a name server may be asked anything; `None` where all may.
    pub fn name_server_nets(&self) -> Option<Vec<IpNet>> {
        let mut nets = Vec::new();
        for rule in &self.rules {
            match rule.target {
                EgressTarget::Lan | EgressTarget::Internet => return None,
                EgressTarget::Net(net) if rule.port.is_none_or(|port| port == 53) => nets.push(net),
                _ => {}
            }
        }
        Some(nets)
    }
}

impl EgressRule {
    fn plain(target: EgressTarget) -> Self {
        Self { target, port: None, protocol: None }
    }

    fn parse(text: &str) -> Option<Self> {
        if let Some(net) = net(text) {
            return Some(Self::plain(EgressTarget::Net(net)));
        }
        let (text, protocol) = match text.rsplit_once('/') {
            Some((text, "tcp")) => (text, Some(Protocol::Tcp)),
            Some((text, "udp")) => (text, Some(Protocol::Udp)),
            Some((text, "sctp")) => (text, Some(Protocol::Sctp)),
            _ => (text, None),
        };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0)?)),
            None => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let target = match net(bare.unwrap_or(host)) {
            // An IPv6 address before a port stands in brackets.
            Some(net) if bare.is_some() || net.addr().is_ipv4() => EgressTarget::Net(net),
            _ => EgressTarget::Name(name(host)?),
        };
        // A protocol alone says little; with a port it is what services are known by.
        (port.is_some() || protocol.is_none()).then_some(Self { target, port, protocol })
    }

    /// Whether a name is one of those that the rule is for.
    pub(crate) fn is_for(&self, asked: &str) -> bool {
        matches!(&self.target, EgressTarget::Name(name) if matches(name, asked))
    }
}

/// Whether a name fits another, which may begin with `*.`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => name.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => pattern == name,
    }
}

fn net(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().map(|net| net.trunc()).or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
}

/// A host name as it is asked for.
fn name(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let whole = lower.strip_suffix('.').unwrap_or(&lower);
    let is_label = |label: &str| {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(is_fit) && !label.starts_with('-') && !label.ends_with('-')
    };
    let labels = whole.strip_prefix("*.").unwrap_or(whole);
    // What looks like an address and is none is no name either.
    let is_numeric = labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    (whole.len() <= 253 && labels.split('.').all(is_label) && !is_numeric).then(|| whole.to_owned())
}

impl fmt::Display for EgressRule {
    /// Writes the word that asks for the rule.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            EgressTarget::Lan => return formatter.write_str("lan"),
            EgressTarget::Internet => return formatter.write_str("internet"),
            EgressTarget::Net(net) => {
                let is_host = net.prefix_len() == net.max_prefix_len();
                let text = if is_host { net.addr().to_string() } else { net.to_string() };
                match self.port.is_some() && net.addr().is_ipv6() {
                    true => write!(formatter, "allow=[{text}]")?,
                    false => write!(formatter, "allow={text}")?,
                }
            }
            EgressTarget::Name(name) => write!(formatter, "allow={name}")?,
        }
        if let Some(port) = self.port {
            write!(formatter, ":{port}")?;
        }
        self.protocol.map_or(Ok(()), |protocol| write!(formatter, "/{protocol}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Option<Egress>, String> {
        Egress::parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn words_are_read_and_written_back() {
        for word in [
            "lan",
            "internet",
            "allow=10.0.0.0/8",
            "allow=10.0.0.1",
            "allow=10.0.0.0/8:443",
            "allow=10.0.0.1:53/udp",
            "allow=fd00::/8",
            "allow=[fd00::1]:443",
            "allow=example.com",
            "allow=*.example.com:443/tcp",
        ] {
            let rules = parse(&[word]).expect(word).expect("rules").rules;
            assert_eq!(rules.iter().map(ToString::to_string).collect::<Vec<_>>(), [word]);
        }
        assert_eq!(parse(&["none"]).expect("read"), Some(Egress::default()));
        assert_eq!((parse(&[]).expect("read"), parse(&["any"]).expect("read")), (None, None));
        assert_eq!(parse(&["lan", "allow=Example.COM.", "lan"]).expect("read").expect("rules").rules.len(), 2);
    }

    #[test]
    fn what_is_no_rule_is_named() {
        for word in [
            "",
            "all",
            "allow",
            "allow=",
            "allow=10.0.0.0/33",
            "allow=1.2.3",
            "allow=a b",
            "allow=a:0",
            "allow=a:70000",
            "allow=-a.com",
            "allow=fd00::1:443x",
            "allow=a/tcp",
            "allow=a;drop",
            "allow=*",
            "allow=a.*.b",
        ] {
            let error = parse(&[word]).expect_err(word);
            assert!(error.starts_with(&format!("invalid egress rule {word:?}")), "{error}");
        }
        assert!(parse(&["none", "lan"]).is_err());
    }

    #[test]
    fn names_match_whole_or_below() {
        assert!(matches("example.com", "example.com") && !matches("example.com", "www.example.com"));
        assert!(matches("*.example.com", "www.example.com") && matches("*.example.com", "a.b.example.com"));
        assert!(!matches("*.example.com", "example.com") && !matches("*.example.com", "badexample.com"));
    }

    #[test]
    fn name_servers_are_asked_anything_where_they_may_be_reached() {
        let nets = |words: &[&str]| parse(words).expect("read").expect("rules").name_server_nets();
        assert_eq!(nets(&["lan"]), None);
        assert_eq!(nets(&["allow=example.com", "allow=10.0.0.1:443"]), Some(Vec::new()));
        assert_eq!(nets(&["allow=10.0.0.1:53"]).expect("some").len(), 1);
    }
}
