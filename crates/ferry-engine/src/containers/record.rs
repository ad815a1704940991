//! What is known of a container across restarts: `containers/<id>/container.json`.
//!
//! `config` and `host_config` are kept as the client asked (with the image's values merged in), because `inspect` gives them back word for word; all
//! else is the engine's own. The record is written by this module alone, through `ferry_store::record`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferry_api::container::{Config, HostConfig};
use ferry_network::PublishedPort;
use ferry_spec::descriptor::Descriptor;
use ferry_spec::digest::{ChainId, Digest};
use ferry_spec::platform::Platform;
use serde::{Deserialize, Serialize};

use super::ending::Life;
use super::next_start::Pending;
use super::state::{Intent, Status};
use crate::clock;

/// The record of one container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// 64 hex digits.
    pub(crate) id: String,
    /// Without the leading slash.
    pub(crate) name: String,
    /// Unix time, nanoseconds.
    pub(crate) created_ns: i64,
    /// What was asked for at create, such as `debian:12`.
    pub(crate) image_reference: String,
    /// Digest of the image's target.
    pub(crate) image_id: Digest,
    /// The manifest that was chosen for the platform.
    pub(crate) image_manifest: Option<Descriptor>,
    /// Top layer; `None` for an image without layers.
    pub(crate) chain_id: Option<ChainId>,
    /// Platform of the chosen manifest.
    pub(crate) platform: Platform,
    /// As asked, with the image's values merged in.
    pub(crate) config: Config,
    /// As asked, with defaults filled in.
    pub(crate) host_config: HostConfig,
    /// Mounts in the order in which they are made.
    pub(crate) mounts: Vec<MountRecord>,
    /// The networks it belongs to, by name.
    pub(crate) endpoints: BTreeMap<String, EndpointRecord>,
    /// What it is doing.
    pub(crate) status: Status,
    /// What was begun and not finished.
    pub(crate) intent: Intent,
    /// Host pid while it runs.
    pub(crate) pid: u32,
    /// Exit code of the last run.
    pub(crate) exit_code: i32,
    /// Why the last start failed, or what was odd about the end.
    pub(crate) error: String,
    /// The memory limit killed a process in the last run.
    pub(crate) oom_killed: bool,
    /// Unix time, nanoseconds; 0 is never.
    pub(crate) started_ns: i64,
    /// Unix time, nanoseconds; 0 is never.
    pub(crate) finished_ns: i64,
    /// Restarts by policy since the last start by hand.
    pub(crate) restart_count: u32,
    /// Ended by `stop`, `kill` or `rm`, so the policy lets it lie.
    pub(crate) stopped_by_hand: bool,
    /// Was ever started.
    pub(crate) has_started: bool,
    /// Links to other containers.
    #[serde(default)]
    pub(crate) links: Vec<LinkRecord>,
    /// Published ports while it runs.
    pub(crate) published: Vec<PublishedPort>,
    /// What is known of the run's life and end.
    #[serde(default)]
    pub(crate) life: Life,
    /// What the next start takes up.
    #[serde(default)]
    pub(crate) pending: Option<Pending>,
    /// It runs one step of a build: nobody sees it, and a start removes it.
    #[serde(default)]
    pub(crate) build_step: bool,
    /// The engine has paused it while files are copied, and lets it go on.
    #[serde(default)]
    pub(crate) paused_for_copy: bool,
    /// SELinux label of its processes; empty is the engine's own.
    #[serde(default)]
    pub(crate) process_label: String,
    /// SELinux label of its files; empty is none.
    #[serde(default)]
    pub(crate) mount_label: String,
}

impl Record {
    /// A container of which no more is known than that somebody wants it: it has not run, and nothing hangs on it.
    pub(crate) fn begun(id: String, image_id: Digest, platform: Platform) -> Self {
        Self {
            id,
            name: String::new(),
            created_ns: clock::now_ns(),
            image_reference: String::new(),
            image_id,
            image_manifest: None,
            chain_id: None,
            platform,
            config: Config::default(),
            host_config: HostConfig::default(),
            mounts: Vec::new(),
            endpoints: BTreeMap::new(),
            status: Status::Created,
            intent: Intent::Creating,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_ns: 0,
            finished_ns: 0,
            restart_count: 0,
            stopped_by_hand: false,
            has_started: false,
            links: Vec::new(),
            published: Vec::new(),
            life: Life::default(),
            pending: None,
            build_step: false,
            paused_for_copy: false,
            process_label: String::new(),
            mount_label: String::new(),
        }
    }
}

/// A name for another container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkRecord {
    /// The other's id.
    pub(crate) child: String,
    /// The name.
    pub(crate) alias: String,
}

/// One mount besides the standard ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountRecord {
    /// What is mounted.
    pub(crate) kind: MountKind,
    /// Absolute path in the container.
    pub(crate) destination: String,
    /// As written in `-v`, such as `ro,z`.
    pub(crate) mode: String,
    /// Writable.
    pub(crate) writable: bool,
    /// `rprivate`, `rslave`, ...; empty for volumes.
    pub(crate) propagation: String,
    /// Submounts are left out.
    #[serde(default)]
    pub(crate) non_recursive: bool,
    /// Submounts stay writable though the mount is read-only.
    #[serde(default)]
    pub(crate) read_only_non_recursive: bool,
    /// Read-only submounts or failure.
    #[serde(default)]
    pub(crate) read_only_force_recursive: bool,
    /// The files are shown as the container's user's.
    #[serde(default)]
    pub(crate) own: bool,
}

/// Sources of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MountKind {
    /// A path of the host.
    Bind {
        /// Absolute host path.
        source: String,
        /// Make the source folder when it is missing (`-v`, not `--mount`).
        create_source: bool,
    },
    /// A volume.
    Volume {
        /// Its name.
        name: String,
        /// Its data folder on the host; of a plugin's volume where it was last.
        source: String,
        /// Made for this container without a name; goes with `rm -v` and `--rm`.
        anonymous: bool,
        /// Path in the volume that is mounted; empty is all of it.
        #[serde(default)]
        subpath: String,
        /// Plugin that keeps it; empty is `local`.
        #[serde(default)]
        driver: String,
    },
    /// An image's files, read-only.
    Image {
        /// As asked for.
        reference: String,
        /// What it is; `None` until it is resolved.
        content: Option<ImageContent>,
        /// Path in the image that is mounted; empty is all of it.
        subpath: String,
    },
    /// A tmpfs.
    Tmpfs {
        /// Mount options, such as `size=1048576`, `mode=1777`.
        options: Vec<String>,
    },
}

/// The image of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageContent {
    /// Digest of the image's target.
    pub(crate) id: Digest,
    /// Top layer; `None` for an image without layers.
    pub(crate) chain_id: Option<ChainId>,
}

/// A container's place in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointRecord {
    /// Network id.
    pub(crate) network_id: String,
    /// 64 hex digits, while attached.
    pub(crate) endpoint_id: String,
    /// While attached.
    pub(crate) address: Option<IpAddr>,
    /// Prefix length of `address`.
    pub(crate) prefix_length: u8,
    /// While attached.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// `02:42:…` while attached, or as asked.
    pub(crate) mac_address: String,
    /// As asked.
    pub(crate) requested_mac: String,
    /// `eth0`, ... while attached.
    #[serde(default)]
    pub(crate) interface: String,
    /// While attached.
    #[serde(default)]
    pub(crate) address6: Option<Ipv6Addr>,
    /// Prefix length of `address6`.
    #[serde(default)]
    pub(crate) prefix_length6: u8,
    /// While attached.
    #[serde(default)]
    pub(crate) gateway6: Option<Ipv6Addr>,
    /// IPv4 address as asked, or empty.
    #[serde(default)]
    pub(crate) requested_address: String,
    /// IPv6 address as asked, or empty.
    #[serde(default)]
    pub(crate) requested_address6: String,
    /// Link-local addresses besides, as asked.
    #[serde(default)]
    pub(crate) link_local: Vec<String>,
    /// Further names in this network.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// A list of them was given, be it an empty one.
    #[serde(default)]
    pub(crate) has_aliases: bool,
    /// `container:alias`, names that this container alone knows.
    #[serde(default)]
    pub(crate) links: Vec<String>,
    /// The network with the highest gives the default route.
    #[serde(default)]
    pub(crate) gateway_priority: i64,
    /// Options of the driver, as asked.
    #[serde(default)]
    pub(crate) driver_options: BTreeMap<String, String>,
    /// The network has names.
    #[serde(default)]
    pub(crate) user_defined: bool,
    /// What its link is called on the host, where a plugin made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) host_link: String,
}

impl EndpointRecord {
    /// Forgets what one life was given; what was asked for stays.
    pub(crate) fn forget_place(&mut self) {
        self.endpoint_id.clear();
        self.interface.clear();
        self.address = None;
        self.address6 = None;
        self.gateway = None;
        self.gateway6 = None;
        self.mac_address.clear();
        self.host_link.clear();
    }

    /// The IPv4 address, while attached.
    pub(crate) fn address_v4(&self) -> Option<Ipv4Addr> {
        match self.address {
            Some(IpAddr::V4(address)) => Some(address),
            _ => None,
        }
    }

    /// Every address, while attached.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.address.into_iter().chain(self.address6.map(IpAddr::V6))
    }
}

impl Record {
    /// First 12 digits of the id, as shown to users.
    pub(crate) fn short_id(&self) -> &str {
        &self.id[..12]
    }

    /// Exit code, message and flags of a run that is about to begin.
    pub(crate) fn forget_last_run(&mut self) {
        self.exit_code = 0;
        self.error.clear();
        self.oom_killed = false;
        self.finished_ns = 0;
        self.life.forget_last_run();
    }

    /// Its mounts but those of `--tmpfs`, which Docker does not count among them.
    pub(crate) fn own_mounts(&self) -> impl Iterator<Item = &MountRecord> {
        self.mounts.iter().filter(|mount| !self.host_config.tmpfs.contains_key(&mount.destination))
    }

    /// The SELinux label of its files, where the host has any use for it.
    pub(crate) fn mount_label(&self) -> Option<&str> {
        Some(self.mount_label.as_str()).filter(|label| !label.is_empty() && ferry_sys::selinux::is_enabled())
    }

    /// The program and its arguments: entrypoint, then command.
    pub(crate) fn argv(&self) -> Vec<String> {
        let entrypoint = self.config.entrypoint.iter().flatten();
        entrypoint.chain(self.config.cmd.iter().flatten()).cloned().collect()
    }

    /// Labels and names that go with every event of this container.
    pub(crate) fn event_attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = self.config.labels.clone().unwrap_or_default();
        attributes.insert("image".into(), self.config.image.clone());
        attributes.insert("name".into(), self.name.clone());
        attributes
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A container that was made and has never run.
    pub(in crate::containers) fn record() -> Record {
        Record {
            name: "test".to_owned(),
            created_ns: 1,
            image_reference: "test".to_owned(),
            intent: Intent::None,
            ..Record::begun("0".repeat(64), Digest::sha256(b"test"), Platform::host())
        }
    }
}
