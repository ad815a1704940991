//! What `update` changes of a container beyond its limits. What a running process was started with holds until it ends, so the record keeps
//! both: what is, and what the next start will take up. Pure.

use std::collections::BTreeMap;

use ferry_api::container::{HealthConfig, LogConfig, NextStart, PortMap};
use serde::{Deserialize, Serialize};

use super::record::Record;

/// What a container takes up when it starts next; `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Pending {
    /// Published ports.
    pub(crate) port_bindings: Option<PortMap>,
    /// Environment.
    pub(crate) env: Option<Vec<String>>,
    /// Log driver and its options.
    pub(crate) log_config: Option<LogConfig>,
    /// Health check.
    pub(crate) healthcheck: Option<HealthConfig>,
}

impl Pending {
    /// What waits, in words.
    pub(super) fn words(&self) -> Vec<String> {
        let all = [
            ("published ports", self.port_bindings.is_some()),
            ("environment", self.env.is_some()),
            ("log options", self.log_config.is_some()),
            ("health check", self.healthcheck.is_some()),
        ];
        all.iter().filter(|(_, waits)| *waits).map(|(word, _)| (*word).to_owned()).collect()
    }
}

/// Adds changes to those that wait already; labels, which no process sees, change at once.
pub(super) fn note(record: &mut Record, changes: &NextStart) {
    let labels = record.config.labels.get_or_insert_default();
    labels.extend(changes.labels.clone());
    labels.retain(|name, _| !changes.unset_labels.contains(name));
    let mut pending = record.pending.take().unwrap_or_default();
    if !changes.publish.is_empty() || !changes.unpublish.is_empty() {
        let mut ports = pending.port_bindings.take().or(record.host_config.port_bindings.clone()).unwrap_or_default();
        for port in &changes.unpublish {
            ports.remove(port);
        }
        ports.extend(changes.publish.clone());
        pending.port_bindings = Some(ports);
    }
    if !changes.env.is_empty() || !changes.unset_env.is_empty() {
        let before = pending.env.take().or(record.config.env.clone()).unwrap_or_default();
        pending.env = Some(changed_env(before, changes));
    }
    if !changes.log_options.is_empty() {
        let mut log = pending.log_config.take().unwrap_or_else(|| record.host_config.log_config.clone());
        let options = log.config.get_or_insert_default();
        options.extend(changes.log_options.clone());
        options.retain(|_, value| !value.is_empty());
        pending.log_config = Some(log);
    }
    if let Some(changed) = &changes.healthcheck {
        let before = pending.healthcheck.take().or(record.config.healthcheck.clone()).unwrap_or_default();
        pending.healthcheck = Some(changed_healthcheck(before, changed));
    }
    record.pending = (pending != Pending::default()).then_some(pending);
}

/// Makes what waits hold.
pub(super) fn take_up(record: &mut Record) {
    let Some(pending) = record.pending.take() else { return };
    if let Some(ports) = pending.port_bindings {
        for port in ports.keys() {
            record.config.exposed_ports.entry(port.clone()).or_default();
        }
        record.host_config.port_bindings = Some(ports);
    }
    if let Some(env) = pending.env {
        record.config.env = Some(env);
    }
    if let Some(log) = pending.log_config {
        record.host_config.log_config = log;
    }
    if let Some(healthcheck) = pending.healthcheck {
        record.config.healthcheck = Some(healthcheck);
    }
}

fn changed_env(before: Vec<String>, changes: &NextStart) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut set: BTreeMap<String, &String> = changes.env.iter().map(|variable| (name(variable), variable)).collect();
    let kept = before.into_iter().filter(|variable| !changes.unset_env.contains(&name(variable)));
    // A variable that is there keeps its place.
    let mut env: Vec<String> =
        kept.map(|variable| set.remove(&name(&variable)).map_or(variable, |new| new.clone())).collect();
    env.extend(changes.env.iter().filter(|variable| set.remove(&name(variable)).is_some()).cloned());
    env
}

/// What is zero stays; another command, or none, takes the place of the one before.
fn changed_healthcheck(before: HealthConfig, changed: &HealthConfig) -> HealthConfig {
    if changed.test.first().is_some_and(|first| first == "NONE") {
        return changed.clone();
    }
    let mut after = before;
    if !changed.test.is_empty() {
        after.test.clone_from(&changed.test);
    }
    for (value, new) in [
        (&mut after.interval, changed.interval),
        (&mut after.timeout, changed.timeout),
        (&mut after.start_period, changed.start_period),
        (&mut after.start_interval, changed.start_interval),
        (&mut after.retries, changed.retries),
    ] {
        if new != 0 {
            *value = new;
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use ferry_api::container::PortBinding;

    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn variables_keep_their_place() {
        let changes =
            NextStart { env: texts(&["B=2", "D=4", "B=3"]), unset_env: texts(&["C"]), ..NextStart::default() };
        let env = changed_env(texts(&["A=1", "B=1", "C=1"]), &changes);
        assert_eq!(env, ["A=1", "B=3", "D=4"]);
    }

    #[test]
    fn a_health_check_changes_by_its_parts() {
        let before = HealthConfig { test: texts(&["CMD", "a"]), interval: 5, retries: 3, ..HealthConfig::default() };
        let after = changed_healthcheck(before.clone(), &HealthConfig { retries: 7, ..HealthConfig::default() });
        assert_eq!((after.test.len(), after.interval, after.retries), (2, 5, 7));
        let off = HealthConfig { test: texts(&["NONE"]), ..HealthConfig::default() };
        assert_eq!(changed_healthcheck(before, &off), off);
    }

    #[test]
    fn changes_add_up_until_the_next_start() {
        let mut record = super::super::record::tests::record();
        record.host_config.port_bindings = Some([("80/tcp".to_owned(), None)].into());
        record.config.env = Some(texts(&["A=1"]));
        let binding = |port: &str| Some(vec![PortBinding { host_port: port.into(), ..PortBinding::default() }]);
        let first = NextStart {
            publish: [("81/tcp".to_owned(), binding("8081"))].into(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            log_options: [("max-size".to_owned(), "1m".to_owned())].into(),
            ..NextStart::default()
        };
        note(&mut record, &first);
        let second = NextStart { unpublish: texts(&["80/tcp"]), env: texts(&["B=2"]), ..NextStart::default() };
        note(&mut record, &second);
        assert_eq!(record.config.labels.as_ref().unwrap()["a"], "b", "labels change at once");
        assert_eq!(record.config.env.as_ref().unwrap(), &["A=1"], "the rest waits");
        let pending = record.pending.clone().unwrap();
        assert_eq!(pending.words(), ["published ports", "environment", "log options"]);
        take_up(&mut record);
        assert_eq!(record.pending, None);
        assert_eq!(record.host_config.port_bindings.as_ref().unwrap().keys().collect::<Vec<_>>(), ["81/tcp"]);
        assert!(record.config.exposed_ports.contains_key("81/tcp"));
        assert_eq!(record.config.env.as_ref().unwrap(), &["A=1", "B=2"]);
        assert_eq!(record.host_config.log_config.config.as_ref().unwrap()["max-size"], "1m");
        let none = NextStart { log_options: [("max-size".to_owned(), String::new())].into(), ..NextStart::default() };
        note(&mut record, &none);
        take_up(&mut record);
        assert!(record.host_config.log_config.config.as_ref().unwrap().is_empty());
    }
}
