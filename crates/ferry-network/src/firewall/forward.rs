//! Accepts in the forward chains of others.
//!
//! A packet must pass every table. Where a chain of somebody else drops by policy (ufw, a dockerd
//! beside us) or is an iptables `FORWARD` with rules, our bridges get an accept at its top, marked
//! `ferry:<instance>:<link>`. What must not pass is dropped by our own table whatever others accept.
//! Before the accept stands a jump to `DOCKER-USER` where that chain exists: it is where administrators put what they want to be true
//! of containers, and it decides first, as with dockerd.
//! firewalld rejects by rules of its own zones, which an accept here cannot lift.

use std::{
    io,
    process::{Command, Stdio},
};

use crate::{
    error::Error,
    firewall::{
        nftables::{self, BaseChain, INET, IPV4, IPV6, Rule},
        run_nft,
    },
    netlink::{Netlink, Refused},
    types::InstanceId,
};

/// `NF_INET_FORWARD`
const FORWARD_HOOK: u32 = 2;

/// The chain of administrators.
pub(crate) const DOCKER_USER: &str = "DOCKER-USER";
/// Ends the comment of a jump to it.
const USER: &str = ":user";

/// A chain that our accepts are needed in.
#[derive(Debug, Clone, Copy)]
struct Needing<'a> {
    chain: &'a BaseChain,
    /// Its table has a `DOCKER-USER`.
    has_user: bool,
}

/// Puts the accepts for `links` where they are needed and missing.
pub(crate) fn ensure(netlink: &mut Netlink, instance: &InstanceId, links: &[&str]) -> Result<(), Error> {
    let failed = |source| Error::kernel("list", "nftables chains", source);
    let chains = nftables::base_chains(netlink).map_err(failed)?;
    let mut needing = Vec::new();
    for chain in chains.iter().filter(|chain| is_forward(chain)) {
        let has_user = is_iptables(chain)
            && nftables::has_chain(netlink, chain.family, &chain.table, DOCKER_USER).map_err(failed)?;
        if has_user || needs_accepts(chain) {
            needing.push(Needing { chain, has_user });
        }
    }
    let present = if needing.is_empty() { Vec::new() } else { nftables::commented_rules(netlink).map_err(failed)? };
    let text = missing_accepts(instance, links, &needing, &present);
    if !text.is_empty() {
        run_nft(&text)?;
    }
    for legacy in Legacy::in_use() {
        legacy.ensure(instance, links)?;
    }
    Ok(())
}

/// Removes the instance's accepts, all but those for `kept` links.
pub(crate) fn remove(netlink: &mut Netlink, instance: &InstanceId, kept: &[&str]) -> Result<(), Error> {
    let rules = nftables::commented_rules(netlink).map_err(|source| Error::kernel("list", "nftables rules", source))?;
    let superfluous: Vec<_> = rules.iter().filter(|rule| is_superfluous(&rule.comment, instance, kept)).collect();
    // One by one: a rule that vanishes in between must not keep the others in place.
    for rule in superfluous {
        match netlink.send(&nftables::transaction(vec![nftables::delete_rule(rule)])) {
            Err(Refused { source, .. }) if source.raw_os_error() != Some(libc::ENOENT) => {
                return Err(Error::kernel("delete rule", format!("{} {}", rule.table, rule.chain), source));
            }
            _ => {}
        }
    }
    for legacy in Legacy::in_use() {
        legacy.remove(instance, kept)?;
    }
    Ok(())
}

fn is_forward(chain: &BaseChain) -> bool {
    let is_ours = chain.table.starts_with("ferry_");
    matches!(chain.family, INET | IPV4 | IPV6) && chain.hook == FORWARD_HOOK && !is_ours
}

fn is_iptables(chain: &BaseChain) -> bool {
    chain.family != INET && chain.table == "filter" && chain.name == "FORWARD"
}

fn needs_accepts(chain: &BaseChain) -> bool {
    is_forward(chain) && (chain.drops_by_policy || (is_iptables(chain) && chain.has_rules))
}

fn comment(instance: &InstanceId, link: &str) -> String {
    instance.alias(link)
}

fn is_superfluous(comment: &str, instance: &InstanceId, kept: &[&str]) -> bool {
    let comment = comment.strip_suffix(USER).unwrap_or(comment);
    instance.object_of_alias(comment).is_some_and(|link| !kept.contains(&link))
}

fn missing_accepts(instance: &InstanceId, links: &[&str], chains: &[Needing<'_>], present: &[Rule]) -> String {
    let mut text = String::new();
    for Needing { chain, has_user } in chains {
        let family = match chain.family {
            IPV4 => "ip",
            IPV6 => "ip6",
            _ => "inet",
        };
        for link in links {
            let accept = comment(instance, link);
            let jump = format!("{accept}{USER}");
            let is_there = |comment: &String| {
                let is_it = |rule: &&Rule| {
                    (rule.family, &rule.table, &rule.chain, &rule.comment)
                        == (chain.family, &chain.table, &chain.name, comment)
                };
                present.iter().filter(is_it).count() >= 2
            };
            let mut insert = |verdict: &str, comment: &str| {
                for side in ["iifname", "oifname"] {
                    text.push_str(&format!(
                        "insert rule {family} {} {} {side} \"{link}\" counter {verdict} comment \"{comment}\"\n",
                        chain.table, chain.name
                    ));
                }
            };
            if !is_there(&accept) {
                insert("accept", &accept);
            }
            // Inserted later, so that it stands above; one that stands below a new accept is put above as well.
            if *has_user && !(is_there(&jump) && is_there(&accept)) {
                insert(&format!("jump {DOCKER_USER}"), &jump);
            }
        }
    }
    text
}

/// The rules of the old kernel interface, which nftables does not see.
#[derive(Debug, Clone, Copy)]
struct Legacy {
    names: &'static str,
    programs: [&'static str; 2],
}

const LEGACY: [Legacy; 2] = [
    Legacy { names: "/proc/thread-self/net/ip_tables_names", programs: ["iptables-legacy", "iptables"] },
    Legacy { names: "/proc/thread-self/net/ip6_tables_names", programs: ["ip6tables-legacy", "ip6tables"] },
];

impl Legacy {
    /// Returns the families in which the `filter` table exists; asking does not make it.
    fn in_use() -> impl Iterator<Item = Self> {
        LEGACY.into_iter().filter(|legacy| {
            std::fs::read_to_string(legacy.names).is_ok_and(|names| names.lines().any(|name| name == "filter"))
        })
    }

    fn ensure(self, instance: &InstanceId, links: &[&str]) -> Result<(), Error> {
        let Some(listing) = self.run(&["-S", "FORWARD"])? else { return Ok(()) };
        let has_user = self.run(&["-S"])?.is_some_and(|all| all.lines().any(|line| line == "-N DOCKER-USER"));
        let needs = listing.lines().any(|line| line == "-P FORWARD DROP" || line.starts_with("-A"));
        if !needs && !has_user {
            return Ok(());
        }
        for link in links {
            let accept = comment(instance, link);
            let jump = format!("{accept}{USER}");
            let has = |comment: &str| {
                listing.lines().any(|line| line.split_whitespace().any(|word| word.trim_matches('"') == comment))
            };
            let has_accept = has(&accept);
            if !has_accept {
                self.insert(link, &accept, "ACCEPT")?;
            }
            if has_user && !(has_accept && has(&jump)) {
                self.insert(link, &jump, DOCKER_USER)?;
            }
        }
        Ok(())
    }

    fn insert(self, link: &str, comment: &str, target: &str) -> Result<(), Error> {
        for side in ["-i", "-o"] {
            self.run(&["-I", "FORWARD", side, link, "-m", "comment", "--comment", comment, "-j", target])?;
        }
        Ok(())
    }

    fn remove(self, instance: &InstanceId, kept: &[&str]) -> Result<(), Error> {
        let Some(listing) = self.run(&["-S", "FORWARD"])? else { return Ok(()) };
        for line in listing.lines() {
            let Some(rule) = line.strip_prefix("-A ") else { continue };
            let words: Vec<_> = rule.split_whitespace().map(|word| word.trim_matches('"')).collect();
            let comment = words.iter().skip_while(|word| **word != "--comment").nth(1);
            if comment.is_some_and(|comment| is_superfluous(comment, instance, kept)) {
                self.run(&[&["-D"], words.as_slice()].concat())?;
            }
        }
        Ok(())
    }

    /// Runs the first program that exists; none does on hosts that are done with iptables.
    fn run(self, arguments: &[&str]) -> Result<Option<String>, Error> {
        for program in self.programs {
            let output = Command::new(program).args(["-w", "5"]).args(arguments).stdin(Stdio::null()).output();
            match output {
                Ok(output) if output.status.success() => {
                    return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
                }
                Ok(output) => {
                    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    return Err(Error::Firewall { program: program.to_owned(), text });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Program { program: program.to_owned(), source }),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: u8, table: &str, name: &str, drops_by_policy: bool, has_rules: bool) -> BaseChain {
        BaseChain {
            family,
            table: table.to_owned(),
            name: name.to_owned(),
            hook: FORWARD_HOOK,
            drops_by_policy,
            has_rules,
        }
    }

    fn instance() -> InstanceId {
        InstanceId::new("abcd0123").expect("an id")
    }

    #[test]
    fn chains_that_let_all_pass_need_nothing() {
        assert!(needs_accepts(&chain(IPV4, "filter", "FORWARD", true, false)));
        assert!(needs_accepts(&chain(IPV4, "filter", "FORWARD", false, true)));
        assert!(!needs_accepts(&chain(IPV4, "filter", "FORWARD", false, false)));
        assert!(needs_accepts(&chain(INET, "filter", "forward", true, false)));
        assert!(!needs_accepts(&chain(INET, "filter", "forward", false, true)));
        assert!(!needs_accepts(&chain(INET, "ferry_00000000", "forward", true, true)));
        assert!(!needs_accepts(&BaseChain { hook: 1, ..chain(IPV4, "filter", "INPUT", true, true) }));
    }

    #[test]
    fn accepts_are_put_once() {
        let forward = chain(IPV4, "filter", "FORWARD", true, false);
        let needing = Needing { chain: &forward, has_user: false };
        let text = missing_accepts(&instance(), &["ferry0"], &[needing], &[]);
        assert_eq!(
            text,
            "insert rule ip filter FORWARD iifname \"ferry0\" counter accept comment \"ferry:abcd0123:ferry0\"\n\
             insert rule ip filter FORWARD oifname \"ferry0\" counter accept comment \"ferry:abcd0123:ferry0\"\n"
        );
        let rule = Rule {
            family: IPV4,
            table: "filter".to_owned(),
            chain: "FORWARD".to_owned(),
            handle: 1,
            comment: "ferry:abcd0123:ferry0".to_owned(),
        };
        let present = [rule.clone(), rule];
        assert_eq!(missing_accepts(&instance(), &["ferry0"], &[needing], &present), "");
        let with_user = Needing { has_user: true, ..needing };
        let text = missing_accepts(&instance(), &["ferry0"], &[with_user], &present);
        assert_eq!(text.matches("jump DOCKER-USER comment \"ferry:abcd0123:ferry0:user\"").count(), 2, "{text}");
        assert!(!text.contains("accept"), "{text}");
        let text = missing_accepts(&instance(), &["ferry0"], &[with_user], &[]);
        assert!(text.find("accept") < text.find("jump"), "the jump is inserted last and stands first: {text}");
    }

    #[test]
    fn only_own_accepts_for_links_that_are_gone_are_superfluous() {
        assert!(is_superfluous("ferry:abcd0123:fb1", &instance(), &["ferry0"]));
        assert!(is_superfluous("ferry:abcd0123:fb1:user", &instance(), &["ferry0"]));
        assert!(!is_superfluous("ferry:abcd0123:ferry0:user", &instance(), &["ferry0"]));
        assert!(!is_superfluous("ferry:abcd0123:ferry0", &instance(), &["ferry0"]));
        assert!(!is_superfluous("ferry:99999999:fb1", &instance(), &[]));
        assert!(!is_superfluous("somebody", &instance(), &[]));
    }
}
