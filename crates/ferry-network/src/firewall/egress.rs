//! What containers may reach, as rules. Pure text for `nft -f`.
//!
//! A container with rules has a chain, to which its addresses lead; that nobody else sends from them, and it from no others, is seen to by
//! [`super::guard`]. Each rule has a counter of its own, named after what the rule says, so that it outlives changes of other rules.
//! The addresses of names stand in sets and leave them after a while.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    egress::{Count, Egress, EgressRule, EgressTarget, Flows},
    types::Protocol,
};

/// Counts what goes on to addresses that no rule names any more.
const ESTABLISHED: &str = "established";
const DENIED: &str = "denied";
/// What begins the names of everything that belongs to a container.
const PREFIX: &str = "e_";

const LAN4: &str = "10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16";
const LAN6: &str = "fc00::/7";
/// What is not the internet; the last is multicast and what is reserved.
const INTERNAL4: &str = "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3";
const INTERNET6: &str = "2000::/3";

/// The rules of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Restricted {
    /// What it sends from.
    pub(crate) addresses: BTreeSet<IpAddr>,
    pub(crate) egress: Egress,
    /// Addresses of names, and until when: by the set that they are in.
    pub(crate) learnt: BTreeMap<(String, IpAddr), Instant>,
}

impl Restricted {
    /// Everything that the kernel must have of it; can be said again at any time.
    pub(crate) fn text(&self, table: &str, container_id: &str, now: Instant) -> String {
        let writer = Writer { table, chain: chain(container_id) };
        let mut text = writer.declarations(&self.egress);
        for ((set, address), until) in &self.learnt {
            let left = until.saturating_duration_since(now);
            if !left.is_zero() {
                text += &writer.learn(set, *address, left);
            }
        }
        text += &writer.rules(&self.egress);
        for address in &self.addresses {
            let _ = writeln!(text, "{}", writer.jump("add", *address));
        }
        text
    }

    /// What takes away what `before` had and this has not.
    pub(crate) fn text_after(&self, before: &Self, table: &str, container_id: &str) -> String {
        let writer = Writer { table, chain: chain(container_id) };
        let mut text = String::new();
        for address in before.addresses.difference(&self.addresses) {
            // Somebody may have flushed the map: an element that is not there cannot be deleted, one that was just added can.
            let _ = writeln!(text, "{}\n{}", writer.jump("add", *address), writer.jump("delete", *address));
        }
        for rule in before.egress.rules.iter().filter(|rule| !self.egress.rules.contains(rule)) {
            text += &writer.forget(rule);
        }
        text
    }

    /// What was learnt for rules that stay.
    pub(crate) fn learnt_for(&self, egress: &Egress, container_id: &str) -> BTreeMap<(String, IpAddr), Instant> {
        let writer = Writer { table: "", chain: chain(container_id) };
        let sets: BTreeSet<String> =
            egress.rules.iter().flat_map(|rule| [true, false].map(|is_v4| writer.set_of(rule, is_v4))).collect();
        let kept = self.learnt.iter().filter(|((set, _), _)| sets.contains(set));
        kept.map(|(key, until)| (key.clone(), *until)).collect()
    }

    /// Takes everything away.
    pub(crate) fn text_of_end(&self, table: &str, container_id: &str) -> String {
        let writer = Writer { table, chain: chain(container_id) };
        let mut text = String::new();
        let _ = writeln!(text, "add chain inet {table} {}", writer.chain);
        for address in &self.addresses {
            let _ = writeln!(text, "{}\n{}", writer.jump("add", *address), writer.jump("delete", *address));
        }
        let _ = writeln!(text, "flush chain inet {table} {0}\ndelete chain inet {table} {0}", writer.chain);
        self.egress.rules.iter().for_each(|rule| text += &writer.forget(rule));
        for word in [ESTABLISHED, DENIED] {
            let counter = writer.name_of(word);
            let _ = writeln!(text, "add counter inet {table} {counter}\ndelete counter inet {table} {counter}");
        }
        text
    }

    /// Notes addresses of a name; returns what tells the kernel.
    pub(crate) fn learn(
        &mut self,
        table: &str,
        container_id: &str,
        name: &str,
        addresses: &[IpAddr],
        stays: Duration,
        now: Instant,
    ) -> String {
        let writer = Writer { table, chain: chain(container_id) };
        self.learnt.retain(|_, until| *until > now);
        let mut text = String::new();
        for rule in self.egress.rules.iter().filter(|rule| rule.is_for(name)) {
            for address in addresses {
                let set = writer.set_of(rule, address.is_ipv4());
                text += &writer.learn(&set, *address, stays);
                self.learnt.insert((set, *address), now + stays);
            }
        }
        text
    }

    /// Puts together what the kernel counted.
    pub(crate) fn flows(&self, container_id: &str, counts: &BTreeMap<String, Count>, now: Instant) -> Flows {
        let writer = Writer { table: "", chain: chain(container_id) };
        let count = |name: &str| counts.get(name).copied().unwrap_or_default();
        let rules = self.egress.rules.iter().map(|rule| {
            let sets = [writer.set_of(rule, true), writer.set_of(rule, false)];
            let learnt = self.learnt.iter().filter(|((set, _), until)| sets.contains(set) && **until > now);
            (
                rule.clone(),
                count(&writer.name_of(&rule.to_string())),
                learnt.map(|((_, address), _)| *address).collect(),
            )
        });
        Flows {
            rules: rules.collect(),
            established: count(&writer.name_of(ESTABLISHED)),
            denied: count(&writer.name_of(DENIED)),
        }
    }
}

/// The chain of a container.
pub(crate) fn chain(container_id: &str) -> String {
    format!("{PREFIX}{}", container_id.get(..12).unwrap_or(container_id))
}

/// Whether something in the table is a container's, and whose: its chain.
pub(crate) fn owner(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PREFIX)?;
    Some(&name[..PREFIX.len() + rest.find('_').unwrap_or(rest.len())])
}

struct Writer<'a> {
    table: &'a str,
    chain: String,
}

impl Writer<'_> {
    fn declarations(&self, egress: &Egress) -> String {
        let table = self.table;
        let mut text = format!("add chain inet {table} {}\n", self.chain);
        for word in egress.rules.iter().map(ToString::to_string).chain([ESTABLISHED.into(), DENIED.into()]) {
            let _ = writeln!(text, "add counter inet {table} {}", self.name_of(&word));
        }
        for rule in egress.rules.iter().filter(|rule| matches!(rule.target, EgressTarget::Name(_))) {
            for (is_v4, kind) in [(true, "ipv4_addr"), (false, "ipv6_addr")] {
                let _ = writeln!(
                    text,
                    "add set inet {table} {} {{ type {kind}; flags timeout; }}",
                    self.set_of(rule, is_v4)
                );
            }
        }
        text
    }

    /// Each packet that the container sends of itself passes the rules, so that a change counts at once.
    fn rules(&self, egress: &Egress) -> String {
        let mut text = format!("flush chain inet {} {}\n", self.table, self.chain);
        let mut add = |rule: &str| {
            let _ = writeln!(text, "add rule inet {} {} {rule}", self.table, self.chain);
        };
        add("ct direction reply return");
        // Neighbours on one bridge, where `br_netfilter` shows them here.
        add("iifname . oifname @connected return");
        add("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } return");
        for rule in &egress.rules {
            let port = port_match(rule);
            for target in self.targets(rule) {
                add(&format!("{target}{port} counter name {} return", self.name_of(&rule.to_string())));
            }
        }
        add(&format!("ct state established,related counter name {} return", self.name_of(ESTABLISHED)));
        add(&format!("counter name {} reject with icmpx type admin-prohibited", self.name_of(DENIED)));
        text
    }

    fn targets(&self, rule: &EgressRule) -> Vec<String> {
        match &rule.target {
            EgressTarget::Lan => vec![format!("ip daddr {{ {LAN4} }}"), format!("ip6 daddr {LAN6}")],
            EgressTarget::Internet => vec![format!("ip daddr != {{ {INTERNAL4} }}"), format!("ip6 daddr {INTERNET6}")],
            EgressTarget::Net(net) if net.addr().is_ipv4() => vec![format!("ip daddr {net}")],
            EgressTarget::Net(net) => vec![format!("ip6 daddr {net}")],
            EgressTarget::Name(_) => vec![
                format!("ip daddr @{}", self.set_of(rule, true)),
                format!("ip6 daddr @{}", self.set_of(rule, false)),
            ],
        }
    }

    fn jump(&self, verb: &str, address: IpAddr) -> String {
        let map = if address.is_ipv4() { "egress4" } else { "egress6" };
        match verb {
            "delete" => format!("delete element inet {} {map} {{ {address} }}", self.table),
            // The comment tells a later daemon whose it is.
            _ => format!(
                "{verb} element inet {} {map} {{ {address} comment \"{1}\" : jump {1} }}",
                self.table, self.chain
            ),
        }
    }

    /// Added twice: older kernels do not give an element that is there a new time.
    fn learn(&self, set: &str, address: IpAddr, stays: Duration) -> String {
        let (table, stays) = (self.table, stays.as_secs().max(1));
        let add = format!("add element inet {table} {set} {{ {address} timeout {stays}s }}\n");
        format!("{add}delete element inet {table} {set} {{ {address} }}\n{add}")
    }

    fn forget(&self, rule: &EgressRule) -> String {
        let table = self.table;
        let counter = self.name_of(&rule.to_string());
        let mut text = format!("add counter inet {table} {counter}\ndelete counter inet {table} {counter}\n");
        if matches!(rule.target, EgressTarget::Name(_)) {
            for (is_v4, kind) in [(true, "ipv4_addr"), (false, "ipv6_addr")] {
                let set = self.set_of(rule, is_v4);
                let _ = writeln!(
                    text,
                    "add set inet {table} {set} {{ type {kind}; flags timeout; }}\ndelete set inet {table} {set}"
                );
            }
        }
        text
    }

    /// A name that follows from what is said, not from where it stands.
    fn name_of(&self, word: &str) -> String {
        // FNV-1a: any spread does, and it must never change.
        let digest =
            word.bytes().fold(0x811c_9dc5_u32, |digest, byte| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        format!("{}_{digest:08x}", self.chain)
    }

    fn set_of(&self, rule: &EgressRule, is_v4: bool) -> String {
        format!("{}_{}", self.name_of(&rule.to_string()), if is_v4 { 4 } else { 6 })
    }
}

fn port_match(rule: &EgressRule) -> String {
    match (rule.port, rule.protocol) {
        (None, None) => String::new(),
        (None, Some(protocol)) => format!(" meta l4proto {protocol}"),
        (Some(port), None) => {
            let [tcp, udp] = [Protocol::Tcp, Protocol::Udp];
            format!(" meta l4proto {{ {tcp}, {udp} }} th dport {port}")
        }
        (Some(port), Some(protocol)) => format!(" {protocol} dport {port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restricted(words: &[&str]) -> Restricted {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        Restricted {
            addresses: ["172.17.0.2".parse().expect("an address")].into(),
            egress: Egress::parse(&words).expect("words").expect("rules"),
            learnt: BTreeMap::new(),
        }
    }

    const ID: &str = "0123456789abcdef";

    #[test]
    fn what_is_not_named_is_refused_last() {
        let now = Instant::now();
        let text = restricted(&["lan", "allow=example.com:443"]).text("T", ID, now);
        let rules: Vec<_> = text.lines().filter(|line| line.starts_with("add rule inet T e_0123456789ab ")).collect();
        assert_eq!(rules.len(), 3 + 2 + 2 + 2, "{text}");
        assert!(rules.last().expect("rules").ends_with("reject with icmpx type admin-prohibited"));
        assert!(
            text.ends_with(
                "add element inet T egress4 { 172.17.0.2 comment \"e_0123456789ab\" : jump e_0123456789ab }\n"
            ),
            "{text}"
        );
        for line in text.lines() {
            assert!(line.contains(" inet T "), "{line}");
        }
    }

    #[test]
    fn counters_stay_with_what_their_rule_says() {
        let (one, two) = (restricted(&["lan", "internet"]), restricted(&["internet", "allow=10.0.0.1"]));
        let writer = Writer { table: "T", chain: chain(ID) };
        let [lan, internet] = ["lan", "internet"].map(|word| writer.name_of(word));
        let text = two.text_after(&one, "T", ID);
        assert!(text.contains(&format!("delete counter inet T {lan}\n")) && !text.contains(&internet), "{text}");
        assert!(two.text("T", ID, Instant::now()).contains(&internet));
        assert_eq!(owner(&lan), Some("e_0123456789ab"));
        assert_eq!((owner("e_0123456789ab"), owner("bridges")), (Some("e_0123456789ab"), None));
    }

    #[test]
    fn addresses_are_learnt_for_the_rules_of_their_name() {
        let now = Instant::now();
        let mut restricted = restricted(&["allow=*.example.com", "allow=example.com:443", "allow=10.0.0.1"]);
        let address = "192.0.2.1".parse().expect("an address");
        let text = restricted.learn("T", ID, "www.example.com", &[address], Duration::from_secs(60), now);
        assert_eq!(text.matches("timeout 60s").count(), 2, "{text}");
        assert_eq!(restricted.learnt.len(), 1);
        assert!(restricted.text("T", ID, now).contains("timeout 60s"));
        assert!(!restricted.text("T", ID, now + Duration::from_secs(61)).contains("timeout 60s"));
        assert_eq!(restricted.learn("T", ID, "other.org", &[address], Duration::from_secs(60), now), "");
        let flows = restricted.flows(ID, &BTreeMap::new(), now);
        assert_eq!(flows.rules[0].2, [address]);
    }
}
