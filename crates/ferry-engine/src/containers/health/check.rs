//! What a health check is: from `HealthConfig` to commands, addresses and times. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ferry_api::container::HealthConfig;

use super::state::{HealthRecord, HealthStatus};
use crate::error::{Error, Result};

const SECOND_NS: i64 = 1_000_000_000;
const DEFAULT_INTERVAL_NS: i64 = 30 * SECOND_NS;
const DEFAULT_TIMEOUT_NS: i64 = 30 * SECOND_NS;
const DEFAULT_START_INTERVAL_NS: i64 = 5 * SECOND_NS;
const DEFAULT_RETRIES: i64 = 3;
/// Shorter times are refused.
const SHORTEST_NS: i64 = 1_000_000;

/// A check with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(super) test: Test,
    pub(super) interval_ns: i64,
    pub(super) timeout: Duration,
    pub(super) start_period_ns: i64,
    pub(super) start_interval_ns: i64,
    pub(super) retries: i64,
    pub(super) action: Action,
}

/// How it is found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    /// A program and its arguments.
    Command(Vec<String>),
    /// A command for the container's shell.
    Shell(Vec<String>),
    /// An answer below 400 to a GET.
    Http(HttpTarget),
    /// Somebody listens.
    Tcp(Target),
}

/// Where to connect, seen from inside the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// `None` was left open: loopback, or else the container's own address.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
}

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpTarget {
    pub(super) target: Target,
    pub(super) path: String,
}

/// What follows when a container becomes unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is told, and that is all, as in Docker.
    Tell,
    Restart,
    Stop,
    Kill,
}

impl Check {
    /// The check that runs, if any: Docker runs none for `NONE`, for nothing, and for a kind that it does not know.
    pub(crate) fn of(config: &HealthConfig) -> Option<Self> {
        let test = Test::of(&config.test).ok()??;
        // An image may ask for anything; what a client asks for was looked at.
        let or = |value: i64, default: i64| if value == 0 { default } else { value.max(SHORTEST_NS) };
        let timeout_ns = or(config.timeout, DEFAULT_TIMEOUT_NS);
        Some(Self {
            test,
            interval_ns: or(config.interval, DEFAULT_INTERVAL_NS),
            timeout: Duration::from_nanos(u64::try_from(timeout_ns).unwrap_or(0)),
            start_period_ns: config.start_period,
            start_interval_ns: or(config.start_interval, DEFAULT_START_INTERVAL_NS),
            retries: if config.retries <= 0 { DEFAULT_RETRIES } else { config.retries },
            action: Action::of(&config.action).unwrap_or(Action::Tell),
        })
    }

    /// How long to wait before the next run, counted from the end of the last.
    pub(super) fn wait(&self, health: Option<&HealthRecord>, started_ns: i64, now_ns: i64) -> Duration {
        let starting = health.is_none_or(|health| health.status == HealthStatus::Starting);
        let in_start_period = now_ns - started_ns < self.start_period_ns;
        let wait_ns = if starting && in_start_period { self.start_interval_ns } else { self.interval_ns };
        Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(0))
    }
}

/// Refuses what cannot be a check, in Docker's words where it is Docker's rule.
pub(crate) fn validate(config: &HealthConfig) -> Result<()> {
    for (name, value) in [
        ("Interval", config.interval),
        ("Timeout", config.timeout),
        ("StartPeriod", config.start_period),
        ("StartInterval", config.start_interval),
    ] {
        if value != 0 && value < SHORTEST_NS {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
        if name == "Timeout" && config.retries < 0 {
            return Err(Error::invalid("Retries in Healthcheck cannot be negative".to_owned()));
        }
    }
    Action::of(&config.action)?;
    Test::of(&config.test).map(drop)
}

impl Action {
    fn of(word: &str) -> Result<Self> {
        match word {
            "" | "none" => Ok(Self::Tell),
            "restart" => Ok(Self::Restart),
            "stop" => Ok(Self::Stop),
            "kill" => Ok(Self::Kill),
            other => Err(Error::invalid(format!(
                "invalid Action in Healthcheck: {other}: must be one of none, restart, stop, kill"
            ))),
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tell => "none",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Kill => "kill",
        }
    }
}

impl Test {
    fn of(words: &[String]) -> Result<Option<Self>> {
        let Some((kind, rest)) = words.split_first() else { return Ok(None) };
        let only = || match rest {
            [only] => Ok(only.as_str()),
            _ => Err(Error::invalid(format!("{kind} in Healthcheck takes one address"))),
        };
        let test = match kind.as_str() {
            "CMD" => Self::Command(rest.to_vec()),
            "CMD-SHELL" => Self::Shell(rest.to_vec()),
            "HTTP" => Self::Http(HttpTarget::parse(only()?)?),
            "TCP" => Self::Tcp(Target::parse(only()?, None)?),
            _ => return Ok(None),
        };
        Ok(Some(test))
    }
}

impl Target {
    /// Reads `5432`, `:5432`, `localhost:5432`, `10.0.0.1:5432` and `[::1]:5432`.
    fn parse(text: &str, default_port: Option<u16>) -> Result<Self> {
        let invalid = |why: &str| Err(Error::invalid(format!("invalid address of a health check: {text:?}: {why}")));
        let (host, port) = match text.rsplit_once(':') {
            // The colons of an IPv6 address are no port's.
            Some((host, _)) if host.starts_with('[') && !host.ends_with(']') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) && default_port.is_none() => ("", Some(text)),
            None => (text, None),
        };
        let port = match port {
            Some(digits) => digits.parse::<u16>().ok().filter(|port| *port > 0),
            None => default_port,
        };
        let Some(port) = port else { return invalid("it takes a port from 1 to 65535") };
        let address = match host.trim_start_matches('[').trim_end_matches(']') {
            "" => None,
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            other => match other.parse() {
                Ok(address) => Some(address),
                Err(_) => return invalid("the host is an IP address or localhost, since no name is looked up"),
            },
        };
        Ok(Self { address, port })
    }

    /// What to try, in this order. `own` is the container's address in its network.
    pub(super) fn candidates(self, own: Option<IpAddr>) -> Vec<SocketAddr> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let addresses = match self.address {
            Some(address) => vec![address],
            None => [Some(loopback), own].into_iter().flatten().collect(),
        };
        addresses.into_iter().map(|address| SocketAddr::new(address, self.port)).collect()
    }
}

impl HttpTarget {
    /// Reads `http://host[:port][/path]`, `[host]:port[/path]`, `port[/path]` and `/path`.
    fn parse(text: &str) -> Result<Self> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || !c.is_ascii()) {
            let why = "it holds a blank, a control character or one that is not ASCII";
            return Err(Error::invalid(format!("invalid address of a health check: {text:?}: {why}")));
        }
        if text.starts_with("https://") {
            let why = "https is not spoken; use a command, or TCP to see that somebody listens";
            return Err(Error::invalid(format!("invalid address of a health check: {text:?}: {why}")));
        }
        let (rest, has_scheme) = match text.strip_prefix("http://") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let target = match host {
            "" => Target { address: None, port: 80 },
            host if has_scheme => Target::parse(host, Some(80))?,
            host => Target::parse(host, None)?,
        };
        Ok(Self { target, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn config(test: &[&str]) -> HealthConfig {
        HealthConfig { test: words(test), ..HealthConfig::default() }
    }

    #[test]
    fn kinds_of_checks() {
        assert_eq!(Check::of(&config(&[])), None);
        assert_eq!(Check::of(&config(&["NONE"])), None);
        assert_eq!(Check::of(&config(&["WHATEVER", "x"])), None);
        let check = Check::of(&config(&["CMD-SHELL", "true"])).unwrap();
        assert_eq!(check.test, Test::Shell(words(&["true"])));
        assert_eq!((check.retries, check.timeout), (3, Duration::from_secs(30)));
    }

    #[test]
    fn values_too_small_are_refused_in_dockers_words() {
        let text = |config: HealthConfig| validate(&config).unwrap_err().text();
        let base = || config(&["CMD", "x"]);
        assert_eq!(text(HealthConfig { interval: 1, ..base() }), "Interval in Healthcheck cannot be less than 1ms");
        assert_eq!(text(HealthConfig { timeout: -5, ..base() }), "Timeout in Healthcheck cannot be less than 1ms");
        assert_eq!(text(HealthConfig { retries: -1, ..base() }), "Retries in Healthcheck cannot be negative");
        let period = HealthConfig { start_period: 999_999, ..base() };
        assert_eq!(text(period), "StartPeriod in Healthcheck cannot be less than 1ms");
        assert!(validate(&HealthConfig { start_interval: SHORTEST_NS, ..base() }).is_ok());
        assert!(text(HealthConfig { action: "explode".into(), ..base() }).contains("must be one of none, restart"));
    }

    #[test]
    fn addresses() {
        let tcp = |text: &str| Target::parse(text, None).map(|target| (target.address, target.port)).ok();
        let v4 = |text: &str| Some(text.parse().unwrap());
        assert_eq!(tcp("5432"), Some((None, 5432)));
        assert_eq!(tcp(":5432"), Some((None, 5432)));
        assert_eq!(tcp("localhost:1"), Some((v4("127.0.0.1"), 1)));
        assert_eq!(tcp("[::1]:443"), Some((v4("::1"), 443)));
        for bad in ["", "x", "host.example:80", "0", "70000", "127.0.0.1", "[::1]", "1.2.3.4:x"] {
            assert_eq!(tcp(bad), None, "{bad}");
        }
        let http = |text: &str| {
            let parsed = HttpTarget::parse(text).ok()?;
            Some((parsed.target.address, parsed.target.port, parsed.path))
        };
        assert_eq!(http("/health"), Some((None, 80, "/health".into())));
        assert_eq!(http("8080/a?b=c"), Some((None, 8080, "/a?b=c".into())));
        assert_eq!(http("http://127.0.0.1"), Some((v4("127.0.0.1"), 80, "/".into())));
        assert_eq!(http("http://[::1]:8/x"), Some((v4("::1"), 8, "/x".into())));
        for bad in ["https://localhost/", "/a b", "/a\r\nX: y", "http://example.com/"] {
            assert_eq!(http(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_open_host_means_loopback_and_then_the_own_address() {
        let own: IpAddr = "172.17.0.2".parse().unwrap();
        let candidates = Target { address: None, port: 80 }.candidates(Some(own));
        assert_eq!(candidates, ["127.0.0.1:80".parse().unwrap(), "172.17.0.2:80".parse().unwrap()]);
        let one = Target { address: Some(own), port: 80 };
        assert_eq!(one.candidates(Some(own)).len(), 1);
    }

    #[test]
    fn the_start_interval_counts_while_it_starts() {
        let check = Check::of(&HealthConfig {
            start_period: 10 * SECOND_NS,
            start_interval: SECOND_NS,
            interval: 7 * SECOND_NS,
            ..config(&["CMD", "x"])
        })
        .unwrap();
        let starting = HealthRecord::anew(None);
        let healthy = HealthRecord { status: HealthStatus::Healthy, ..starting.clone() };
        let wait = |health: &HealthRecord, now_s: i64| check.wait(Some(health), 0, now_s * SECOND_NS).as_secs();
        assert_eq!((wait(&starting, 1), wait(&starting, 10), wait(&healthy, 1)), (1, 7, 7));
    }
}
