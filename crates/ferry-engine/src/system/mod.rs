//! What is told about the whole: `GET /info`, `GET /system/df`.

mod host;
mod storage;
mod usage;

use std::sync::Arc;

use ferry_api::system::{
    Commit, FirewallInfo, IndexInfo, Info, PluginsInfo, RegistryServiceConfig, Runtime, SwarmInfo,
};
use ferry_store::Store;

use crate::blocking;
use crate::clock;
use crate::config::EngineConfig;
use crate::containers::Containers;
use crate::containers::logging::DRIVERS;
use crate::containers::state::Status;
use crate::devices::Devices;
use crate::error::Result;
use crate::images::Images;
use crate::networks::Networks;
use crate::volumes::Volumes;

pub use usage::UsageKinds;

/// Tells about the engine and its host.
#[derive(Clone)]
pub struct System {
    id: String,
    config: Arc<EngineConfig>,
    store: Store,
    containers: Containers,
    images: Images,
    volumes: Volumes,
    networks: Networks,
}

impl System {
    pub(crate) fn new(
        id: String,
        config: Arc<EngineConfig>,
        store: Store,
        containers: Containers,
        images: Images,
        volumes: Volumes,
        networks: Networks,
    ) -> Self {
        Self { id, config, store, containers, images, volumes, networks }
    }

    /// The engine's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Describes engine and host.
    ///
    /// API: `GET /info`
    ///
    /// # Errors
    /// When the host cannot be read.
    pub async fn info(&self) -> Result<Info> {
        let config = &self.config;
        let live = config.live.get();
        let all = self.containers.all();
        let shown = all.iter().filter(|container| !container.with_record(|record| record.build_step));
        let statuses: Vec<Status> = shown.map(|container| container.status()).collect();
        let count = |wanted: &dyn Fn(Status) -> bool| as_i64(statuses.iter().filter(|status| wanted(**status)).count());
        let host = host::facts(config);
        let folders = config.cdi_spec_dirs.clone();
        let devices = blocking(move || Ok(Devices::new(folders).list())).await?;
        let log_file = config.log_file.as_ref().map(|path| path.display().to_string());
        let mut driver_status: Vec<[String; 2]> =
            self.store.driver_status().into_iter().map(|(key, value)| [key, value]).collect();
        driver_status.extend(log_file.clone().map(|path| ["Daemon Log".to_owned(), path]));
        let proxy = |value: &Option<String>| value.clone().unwrap_or_default();
        Ok(Info {
            id: self.id.clone(),
            containers: as_i64(statuses.len()),
            containers_running: count(&|status| matches!(status, Status::Running | Status::Restarting)),
            containers_paused: count(&|status| status == Status::Paused),
            containers_stopped: count(&|status| matches!(status, Status::Created | Status::Exited)),
            images: as_i64(self.images.count()),
            driver: self.store.driver_name().to_owned(),
            driver_status: Some(driver_status),
            plugins: self.plugins(),
            memory_limit: host.abilities.memory,
            swap_limit: host.abilities.swap,
            cpu_cfs_period: host.abilities.cpu_cfs,
            cpu_cfs_quota: host.abilities.cpu_cfs,
            cpu_shares: host.abilities.cpu_shares,
            cpu_set: host.abilities.cpuset,
            pids_limit: host.abilities.pids,
            ipv4_forwarding: host.ipv4_forwarding,
            debug: live.debug,
            n_fd: host.open_files,
            oom_kill_disable: host.abilities.oom_kill_disable,
            n_goroutines: host.threads,
            system_time: clock::rfc3339(clock::now_ns()),
            logging_driver: config.log_driver.clone(),
            cgroup_driver: config.cgroup_driver.name().to_owned(),
            cgroup_version: if host.abilities.unified { "2" } else { "1" }.to_owned(),
            kernel_version: host.kernel_version,
            operating_system: host.operating_system,
            os_version: host.os_version,
            os_type: "linux".to_owned(),
            architecture: host.architecture,
            index_server_address: "https://index.docker.io/v1/".to_owned(),
            registry_config: Some(self.registry_config()),
            n_cpu: host.cpus,
            mem_total: host.memory_bytes,
            docker_root_dir: config.data_root.display().to_string(),
            http_proxy: proxy(&config.proxies.http),
            https_proxy: proxy(&config.proxies.https),
            no_proxy: proxy(&config.proxies.no_proxy),
            name: host.name,
            labels: Some(live.labels.clone()),
            server_version: config.server_version.clone(),
            runtimes: self.runtimes(),
            default_runtime: live.default_runtime.clone(),
            swarm: SwarmInfo { local_node_state: "inactive".to_owned(), ..SwarmInfo::default() },
            live_restore_enabled: live.live_restore,
            init_binary: "docker-init".to_owned(),
            containerd_commit: Commit::default(),
            runc_commit: Commit::default(),
            init_commit: Commit::default(),
            security_options: Some(host.security_options),
            firewall_backend: config
                .bridge
                .firewall
                .then(|| FirewallInfo { driver: "nftables".to_owned(), ..FirewallInfo::default() }),
            cdi_spec_dirs: Some(config.cdi_spec_dirs.iter().map(|folder| folder.display().to_string()).collect()),
            discovered_devices: devices.devices,
            warnings: Some(host.warnings.into_iter().chain(devices.warnings).collect()),
            ..Info::default()
        })
    }

    fn plugins(&self) -> PluginsInfo {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let mut volume = vec![crate::volumes::LOCAL.to_owned()];
        volume.extend(self.volumes.driver_names());
        volume.sort();
        let authorization = self.config.live.get().authorization_plugins.clone();
        PluginsInfo {
            volume: Some(volume),
            network: Some(self.networks.driver_names()),
            authorization: (!authorization.is_empty()).then_some(authorization),
            log: list(&DRIVERS),
        }
    }

    fn registry_config(&self) -> RegistryServiceConfig {
        let live = self.config.live.get();
        let mirrors = live.registry_mirrors.clone();
        let hub =
            IndexInfo { name: "docker.io".to_owned(), mirrors: Some(mirrors.clone()), secure: true, official: true };
        let mut index_configs = std::collections::BTreeMap::from([("docker.io".to_owned(), hub)]);
        let mut cidrs = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
        for registry in &live.insecure_registries {
            if registry.contains('/') {
                cidrs.push(registry.clone());
            } else {
                let index = IndexInfo { name: registry.clone(), mirrors: Some(Vec::new()), ..IndexInfo::default() };
                index_configs.insert(registry.clone(), index);
            }
        }
        RegistryServiceConfig { insecure_registry_cidrs: Some(cidrs), index_configs, mirrors: Some(mirrors) }
    }

    fn runtimes(&self) -> std::collections::BTreeMap<String, Runtime> {
        let own = Runtime { path: "ferry-shim".to_owned(), ..Runtime::default() };
        let mut runtimes = std::collections::BTreeMap::from([
            ("ferry".to_owned(), own.clone()),
            ("io.containerd.runc.v2".to_owned(), own.clone()),
            ("runc".to_owned(), own),
        ]);
        for (name, foreign) in &self.config.live.get().runtimes {
            let path = foreign.path.display().to_string();
            runtimes.insert(name.clone(), Runtime { path, runtime_args: foreign.args.clone(), ..Runtime::default() });
        }
        runtimes
    }
}

fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
