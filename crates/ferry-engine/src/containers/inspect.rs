//! `GET /containers/{id}/json`.

use std::path::Path;

use ferry_api::container::{
    Config, HostConfig, Inspect, MountPoint, NetworkSettings, RootFsStorage, RootFsStorageSnapshot, State, Storage,
};

use super::bundle::security_option;
use super::confinement::apparmor;
use super::health::HealthRecord;
use super::record::{MountKind, Record};
use super::state::Status;
use super::{Containers, logging, networking, ports};
use crate::blocking;
use crate::clock;
use crate::error::Result;
use crate::volumes::LOCAL;

impl Containers {
    /// Tells everything about a container.
    ///
    /// API: `GET /containers/{id}/json`
    ///
    /// # Errors
    /// NotFound.
    pub async fn inspect(&self, reference: &str, size: bool) -> Result<Inspect> {
        let container = self.find(reference)?;
        let record = container.snapshot();
        let sizes = if size { Some(self.sizes(&record).await?) } else { None };
        Ok(self.describe(record, sizes))
    }

    /// Everything about a container, as its record has it.
    pub(super) fn describe(&self, record: Record, sizes: Option<(i64, i64)>) -> Inspect {
        let folder = self.data_folder(&record.id);
        // As in Docker, known from the first start on.
        let etc = |name: &str| match record.has_started {
            true => folder.join("etc").join(name).display().to_string(),
            false => String::new(),
        };
        let argv = record.argv();
        // An exec that was never started goes with its container.
        let exec_ids = if record.status.is_live() { self.inner.execs.running_of(&record.id) } else { Vec::new() };
        Inspect {
            created: clock::rfc3339(record.created_ns),
            path: argv.first().cloned().unwrap_or_default(),
            args: argv.into_iter().skip(1).collect(),
            state: state(&record),
            image: record.image_id.to_string(),
            resolv_conf_path: etc("resolv.conf"),
            hostname_path: etc("hostname"),
            hosts_path: etc("hosts"),
            log_path: logging::shown_path(&record, &folder),
            name: format!("/{}", record.name),
            restart_count: i64::from(record.restart_count),
            storage: Some(storage(self.inner.store.driver_name())),
            driver: self.inner.store.driver_name().to_owned(),
            platform: record.platform.os.clone(),
            exec_ids: (!exec_ids.is_empty()).then_some(exec_ids),
            host_config: Some(HostConfig { links: self.shown_links(&record), ..record.host_config.clone() }),
            size_rw: sizes.map(|(writable, _)| writable),
            size_root_fs: sizes.map(|(_, whole)| whole),
            app_armor_profile: apparmor_profile(&record),
            process_label: record.process_label.clone(),
            mount_label: record.mount_label.clone(),
            mounts: mount_points(&record),
            config: Config { mac_address: networking::requested_mac(&record), ..record.config.clone() },
            network_settings: network_settings(&record),
            image_manifest_descriptor: record.image_manifest.clone(),
            id: record.id,
            ..Inspect::default()
        }
    }

    /// Bytes of the writable layer, and of the whole root file system.
    pub(super) async fn sizes(&self, record: &Record) -> Result<(i64, i64)> {
        let upper = self.data_folder(&record.id).join("upper");
        let store = self.inner.store.clone();
        let chain_id = record.chain_id.clone();
        blocking(move || {
            let writable = tree_size_bytes(&upper);
            let layers = match &chain_id {
                Some(chain) => store
                    .layer_chain(chain)
                    .map(|layers| layers.iter().map(|layer| layer.size_bytes).sum())
                    .unwrap_or(0),
                None => 0,
            };
            let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            Ok((number(writable), number(writable + layers)))
        })
        .await
    }
}

fn apparmor_profile(record: &Record) -> String {
    let asked = security_option(&record.host_config, "apparmor").unwrap_or_default();
    apparmor::shown(&asked, record.host_config.privileged, apparmor::is_enabled(), record.has_started)
}

fn storage(driver: &str) -> Storage {
    let snapshot = RootFsStorageSnapshot { name: driver.to_owned() };
    Storage { root_fs: Some(RootFsStorage { snapshot: Some(snapshot) }) }
}

/// Sizes of regular files; nothing is followed or opened.
fn tree_size_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => tree_size_bytes(&entry.path()),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    });
    sizes.sum()
}

fn state(record: &Record) -> State {
    State {
        status: record.status.as_str().to_owned(),
        running: record.status.counts_as_running(),
        paused: record.status == Status::Paused,
        restarting: record.status == Status::Restarting,
        oom_killed: record.oom_killed,
        dead: false,
        pid: i64::from(record.pid),
        exit_code: i64::from(record.exit_code),
        error: record.error.clone(),
        started_at: clock::rfc3339(record.started_ns),
        finished_at: clock::rfc3339(record.finished_ns),
        health: record.life.health.as_ref().map(HealthRecord::to_api),
    }
}

pub(super) fn mount_points(record: &Record) -> Vec<MountPoint> {
    let point = |mount: &super::record::MountRecord| {
        let base = MountPoint {
            destination: mount.destination.clone(),
            mode: mount.mode.clone(),
            rw: mount.writable,
            propagation: mount.propagation.clone(),
            ..MountPoint::default()
        };
        match &mount.kind {
            MountKind::Bind { source, .. } => MountPoint { kind: "bind".to_owned(), source: source.clone(), ..base },
            MountKind::Volume { name, source, driver, .. } => MountPoint {
                kind: "volume".to_owned(),
                name: name.clone(),
                source: source.clone(),
                driver: if driver.is_empty() { LOCAL.to_owned() } else { driver.clone() },
                ..base
            },
            MountKind::Image { reference, content, .. } => MountPoint {
                kind: "image".to_owned(),
                name: reference.clone(),
                source: content.as_ref().map(|content| content.id.to_string()).unwrap_or_default(),
                ..base
            },
            MountKind::Tmpfs { .. } => MountPoint { kind: "tmpfs".to_owned(), ..base },
        }
    };
    record.own_mounts().map(point).collect()
}

fn network_settings(record: &Record) -> NetworkSettings {
    NetworkSettings {
        // The namespace has no name on the host; its first process holds it.
        sandbox_id: if record.status.is_live() {
            record.endpoints.values().next().map(|endpoint| endpoint.endpoint_id.clone()).unwrap_or_default()
        } else {
            String::new()
        },
        sandbox_key: if record.pid != 0 { format!("/proc/{}/ns/net", record.pid) } else { String::new() },
        ports: ports::port_map(record),
        networks: networking::shown(record),
    }
}
