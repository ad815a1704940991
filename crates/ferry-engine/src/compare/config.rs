//! What two configurations tell containers to do differently.

use std::collections::BTreeMap;

use ferry_api::compare::ConfigChange;
use ferry_api::container::Config;
use ferry_spec::image::ContainerConfig;

/// Reads the image's part of a container's configuration.
pub(super) fn of_container(config: &Config) -> ContainerConfig {
    ContainerConfig {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.keys().map(|port| (port.clone(), Default::default())).collect(),
        env: config.env.clone().unwrap_or_default(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: config.volumes.iter().flatten().map(|(path, _)| (path.clone(), Default::default())).collect(),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone().unwrap_or_default(),
        stop_signal: config.stop_signal.clone(),
        ..ContainerConfig::default()
    }
}

/// Returns every value that is not the same.
pub(super) fn changes(from: &ContainerConfig, to: &ContainerConfig) -> Vec<ConfigChange> {
    let (before, after) = (values(from), values(to));
    let mut fields: Vec<&String> = before.keys().chain(after.keys()).collect();
    fields.sort();
    fields.dedup();
    let change = |field: &String| {
        let (from, to) = (before.get(field).cloned(), after.get(field).cloned());
        (from != to).then(|| ConfigChange { field: field.clone(), from, to })
    };
    fields.into_iter().filter_map(change).collect()
}

fn values(config: &ContainerConfig) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let list = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
    let mut put = |field: String, value: String| {
        if !value.is_empty() {
            values.insert(field, value);
        }
    };
    put("User".to_owned(), config.user.clone());
    put("WorkingDir".to_owned(), config.working_dir.clone());
    put("StopSignal".to_owned(), config.stop_signal.clone());
    put("Entrypoint".to_owned(), config.entrypoint.as_deref().map(list).unwrap_or_default());
    put("Cmd".to_owned(), config.cmd.as_deref().map(list).unwrap_or_default());
    for variable in &config.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        put(format!("Env.{name}"), shown(value));
    }
    for (name, value) in &config.labels {
        put(format!("Labels.{name}"), shown(value));
    }
    config.exposed_ports.keys().for_each(|port| put(format!("ExposedPorts.{port}"), port.clone()));
    config.volumes.keys().for_each(|path| put(format!("Volumes.{path}"), path.clone()));
    values
}

/// An empty value is one all the same.
fn shown(value: &str) -> String {
    if value.is_empty() { "=".to_owned() } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_added_and_removed_values_are_told() {
        let from = ContainerConfig {
            env: vec!["PATH=/bin".into(), "GONE=1".into()],
            cmd: Some(vec!["sh".into()]),
            user: "0".into(),
            ..ContainerConfig::default()
        };
        let to = ContainerConfig {
            env: vec!["PATH=/usr/bin".into()],
            cmd: Some(vec!["sh".into()]),
            labels: [("new".to_owned(), String::new())].into(),
            ..ContainerConfig::default()
        };
        let told: Vec<String> = changes(&from, &to)
            .into_iter()
            .map(|one| format!("{} {:?} {:?}", one.field, one.from.as_deref(), one.to.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                "Env.GONE Some(\"1\") None",
                "Env.PATH Some(\"/bin\") Some(\"/usr/bin\")",
                "Labels.new None Some(\"=\")",
                "User Some(\"0\") None",
            ]
        );
        assert!(changes(&from, &from).is_empty());
    }
}
