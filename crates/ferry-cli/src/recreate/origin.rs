//! A container's settings, told apart from those of its image.

use std::collections::BTreeMap;

use ferry_api::container::{Config, HealthConfig, HostConfig, Inspect, Mount};
use ferry_api::network::EndpointSettings;

/// Where a container came from: its inspect document and its image's configuration.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) config: Config,
    pub(super) host: HostConfig,
    pub(super) networks: BTreeMap<String, EndpointSettings>,
    image: Config,
}

impl Origin {
    /// Puts both documents together; an image that is gone tells nothing.
    pub(crate) fn new(container: Inspect, image: Option<Config>) -> Self {
        Self {
            id: container.id,
            name: container.name.trim_start_matches('/').to_owned(),
            config: container.config,
            host: container.host_config.unwrap_or_default(),
            networks: container.network_settings.networks,
            image: image.unwrap_or_default(),
        }
    }

    /// The host name where it was asked for.
    pub(super) fn hostname(&self) -> Option<&str> {
        let given = self.config.hostname.as_str();
        let of_another = self.host.network_mode.starts_with("container:")
            || self.host.network_mode == "host"
            || self.host.uts_mode == "host";
        let default = self.id.get(..12).unwrap_or_default();
        (!given.is_empty() && given != default && !of_another).then_some(given)
    }

    /// Variables that the image does not set to the same value.
    pub(super) fn environment(&self) -> Vec<&String> {
        let of_image = self.image.env.as_deref().unwrap_or_default();
        self.config.env.iter().flatten().filter(|variable| !of_image.contains(variable)).collect()
    }

    /// Labels that the image has not.
    pub(super) fn labels(&self) -> Vec<(&String, &String)> {
        let none = BTreeMap::new();
        let of_image = self.image.labels.as_ref().unwrap_or(&none);
        self.config.labels.iter().flatten().filter(|(key, value)| of_image.get(*key) != Some(value)).collect()
    }

    /// Text that differs from the image's.
    fn differs<'a>(own: &'a str, image: &str) -> Option<&'a str> {
        (!own.is_empty() && own != image).then_some(own)
    }

    pub(super) fn user(&self) -> Option<&str> {
        Self::differs(&self.config.user, &self.image.user)
    }

    pub(super) fn working_dir(&self) -> Option<&str> {
        Self::differs(&self.config.working_dir, &self.image.working_dir)
    }

    pub(super) fn stop_signal(&self) -> Option<&str> {
        Self::differs(&self.config.stop_signal, &self.image.stop_signal)
    }

    pub(super) fn stop_timeout(&self) -> Option<i64> {
        self.config.stop_timeout.filter(|_| self.config.stop_timeout != self.image.stop_timeout)
    }

    pub(super) fn healthcheck(&self) -> Option<&HealthConfig> {
        self.config.healthcheck.as_ref().filter(|_| self.config.healthcheck != self.image.healthcheck)
    }

    /// Its entrypoint where that is not the image's: an empty list takes the image's away.
    pub(super) fn entrypoint(&self) -> Option<&[String]> {
        let own = self.config.entrypoint.as_deref().unwrap_or_default();
        (own != self.image.entrypoint.as_deref().unwrap_or_default()).then_some(own)
    }

    /// Its command where that is not what the image would give it.
    pub(super) fn command(&self) -> Option<&[String]> {
        let own = self.config.cmd.as_deref().unwrap_or_default();
        // With an entrypoint of its own a container gets no command of the image.
        let given = if self.entrypoint().is_some() { &[] } else { self.image.cmd.as_deref().unwrap_or_default() };
        (own != given).then_some(own)
    }

    /// Ports that are open, but neither published nor opened by the image.
    pub(super) fn exposed(&self) -> Vec<&String> {
        let published = self.host.port_bindings.as_ref();
        let is_new = |port: &&String| {
            !self.image.exposed_ports.contains_key(*port) && published.is_none_or(|ports| !ports.contains_key(*port))
        };
        self.config.exposed_ports.keys().filter(is_new).collect()
    }

    /// Published ports as `-p` writes them.
    pub(super) fn published(&self) -> Vec<String> {
        let mut ports = Vec::new();
        for (port, bindings) in self.host.port_bindings.iter().flatten() {
            for binding in bindings.iter().flatten() {
                let address = match binding.host_ip.as_str() {
                    "" => String::new(),
                    address if address.contains(':') => format!("[{address}]:"),
                    address => format!("{address}:"),
                };
                let host = match (address.is_empty(), binding.host_port.as_str()) {
                    (true, "" | "0") => String::new(),
                    (_, port) => format!("{port}:"),
                };
                ports.push(format!("{address}{host}{}", port.strip_suffix("/tcp").unwrap_or(port)));
            }
        }
        ports
    }

    /// Places of volumes without a name that the image does not have.
    pub(super) fn anonymous_volumes(&self) -> Vec<&String> {
        let of_image = |path: &String| self.image.volumes.as_ref().is_some_and(|volumes| volumes.contains_key(path));
        self.config.volumes.iter().flatten().map(|(path, _)| path).filter(|path| !of_image(path)).collect()
    }

    /// Swap where it is not what the memory limit brings with it.
    pub(super) fn memory_swap(&self) -> Option<i64> {
        let swap = self.host.memory_swap;
        (swap != 0 && swap != self.host.memory.saturating_mul(2)).then_some(swap)
    }

    /// Security options that were asked for.
    pub(super) fn security_options(&self) -> Vec<&String> {
        let unlabelled = self.host.privileged || self.host.ipc_mode == "host" || self.host.pid_mode == "host";
        let asked = self.host.security_opt.iter().flatten();
        asked.filter(|option| !(unlabelled && option.as_str() == "label=disable")).collect()
    }

    /// The mode of its cgroup namespace where it was asked for.
    pub(super) fn cgroupns(&self) -> Option<&str> {
        let default = if self.host.privileged { "host" } else { "private" };
        Self::differs(&self.host.cgroupns_mode, default)
    }

    /// The network mode where it is not the default bridge.
    pub(super) fn network(&self) -> Option<&str> {
        let mode = self.host.network_mode.as_str();
        (!matches!(mode, "" | "default" | "bridge")).then_some(mode)
    }

    /// The runtime where it is not ferry's own.
    pub(super) fn runtime(&self) -> Option<&str> {
        let runtime = self.host.runtime.as_str();
        (!matches!(runtime, "" | "ferry" | "runc")).then_some(runtime)
    }

    /// Shared memory where it is not the default.
    pub(super) fn shm_size(&self) -> Option<i64> {
        const DEFAULT: i64 = 64 << 20;
        (self.host.shm_size != 0 && self.host.shm_size != DEFAULT).then_some(self.host.shm_size)
    }

    /// System paths that are open without all rights.
    pub(super) fn system_paths_are_open(&self) -> bool {
        let empty = |paths: &Option<Vec<String>>| paths.as_ref().is_some_and(Vec::is_empty);
        !self.host.privileged && empty(&self.host.masked_paths) && empty(&self.host.readonly_paths)
    }
}

/// A mount as `--mount` writes it.
pub(super) fn mount_words(mount: &Mount) -> String {
    let mut words = vec![format!("type={}", mount.kind)];
    let mut word = |key: &str, value: &str| {
        if !value.is_empty() {
            words.push(if value == "true" { key.to_owned() } else { format!("{key}={value}") });
        }
    };
    word("source", &mount.source);
    word("target", &mount.target);
    word("readonly", if mount.read_only { "true" } else { "" });
    word("consistency", &mount.consistency);
    if let Some(bind) = &mount.bind_options {
        word("bind-propagation", &bind.propagation);
        let recursive = match (bind.non_recursive, bind.read_only_non_recursive, bind.read_only_force_recursive) {
            (true, _, _) => "disabled",
            (_, true, _) => "writable",
            (_, _, true) => "readonly",
            _ => "",
        };
        word("bind-recursive", recursive);
        word("bind-create-src", if bind.create_mountpoint { "true" } else { "" });
    }
    if let Some(volume) = &mount.volume_options {
        word("volume-nocopy", if volume.no_copy { "true" } else { "" });
        word("volume-subpath", &volume.subpath);
        for (key, value) in &volume.labels {
            word("volume-label", &format!("{key}={value}"));
        }
        if let Some(driver) = &volume.driver_config {
            word("volume-driver", &driver.name);
            for (key, value) in &driver.options {
                word("volume-opt", &format!("{key}={value}"));
            }
        }
    }
    if let Some(image) = &mount.image_options {
        word("image-subpath", &image.subpath);
    }
    if let Some(tmpfs) = &mount.tmpfs_options {
        word("tmpfs-size", &if tmpfs.size_bytes == 0 { String::new() } else { tmpfs.size_bytes.to_string() });
        word("tmpfs-mode", &if tmpfs.mode == 0 { String::new() } else { format!("{:o}", tmpfs.mode) });
    }
    words.iter().map(|word| csv_field(word)).collect::<Vec<_>>().join(",")
}

fn csv_field(word: &str) -> String {
    if word.contains([',', '"', '\n']) { format!("\"{}\"", word.replace('"', "\"\"")) } else { word.to_owned() }
}
