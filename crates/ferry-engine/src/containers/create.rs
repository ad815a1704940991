//! `POST /containers/create`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use ferry_api::container::{CreateRequest, CreateResponse, HostConfig};
use ferry_api::volume::CreateRequest as VolumeRequest;
use ferry_spec::platform::Platform;

use super::ending::Life;
use super::mounts::{self, Asked};
use super::record::{EndpointRecord, MountKind, MountRecord, Record};
use super::state::{Intent, Status};
use super::{Container, Containers, bundle, defaults, limits, logging, ports, validate};
use crate::blocking;
use crate::cgroups::Abilities;
use crate::clock;
use crate::error::{Context, Error, Result};
use crate::ids;
use crate::images::ResolvedImage;

impl Containers {
    /// Makes a container; nothing runs yet.
    ///
    /// API: `POST /containers/create`
    ///
    /// # Errors
    /// NotFound for the image, Conflict for the name, InvalidArgument, NotImplemented; nothing is left then.
    pub async fn create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        request: CreateRequest,
    ) -> Result<CreateResponse> {
        let containers = self.clone();
        let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
        let platform = platform.filter(|platform| !platform.is_empty()).map(str::to_owned);
        blocking(move || containers.create_now(name.as_deref(), platform.as_deref(), request)).await
    }

    fn create_now(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        mut request: CreateRequest,
    ) -> Result<CreateResponse> {
        let mut host = request.host_config.take().unwrap_or_default();
        if let Some(name) = name {
            validate::name(name.strip_prefix('/').unwrap_or(name))?;
        }
        validate::request(&request, &host, &self.inner.config)?;
        let mut warnings = limits::settle_new(&mut host, Abilities::of_host())?;
        let platform = platform.map(Platform::parse).transpose().map_err(|error| Error::invalid(error.to_string()))?;
        if request.config.image.is_empty() {
            return Err(Error::invalid("no image specified".to_owned()));
        }
        let image = self.inner.images.resolve(&request.config.image, platform.as_ref())?;
        if platform.is_none() && !Platform::host().is_same(&image.platform) {
            warnings.push(format!(
                "The requested image's platform ({}) does not match the detected host platform ({}) and no specific platform was requested",
                image.platform,
                Platform::host()
            ));
        }
        defaults::merge_image(&mut request.config, &image.config.config);
        if request.config.network_disabled {
            host.network_mode = "none".to_owned();
        }
        defaults::fill_host(&mut host, &self.inner.config);
        logging::validate(&host.log_config.driver, host.log_config.config.get_or_insert_default())?;
        self.adjust_shared_modes(&mut host)?;
        if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) {
            warnings.push("Published ports are discarded when using host network mode".to_owned());
        }
        let asked = mounts::collect(&request.config, &host)?;
        mounts::sources_exist(&asked)?;
        let id = self.free_id();
        let name = name
            .map_or_else(|| self.generated_name(&id), |name| Ok(name.strip_prefix('/').unwrap_or(name).to_owned()))?;
        let reservation = self.reserve_name(&name, &id)?;
        let endpoints = self.endpoints_asked(&request, &host)?;
        if let Some(other) = host.network_mode.strip_prefix("container:").and_then(|other| self.find(other).ok()) {
            let (hostname, domainname) =
                other.with_record(|record| (record.config.hostname.clone(), record.config.domainname.clone()));
            request.config.hostname = hostname;
            request.config.domainname = domainname;
        }
        finish_config(&mut request, &host, &id);
        // Until the container has acquired the image, whose removal may be under way.
        let _lease = Arc::clone(&image.lease);
        let record = new_record(&id, &name, request, host, image, endpoints);
        if record.argv().is_empty() {
            return Err(Error::invalid("no command specified".to_owned()));
        }
        self.check_startable(&record)?;
        let container = self.materialise(record, &asked)?;
        self.insert(Arc::clone(&container));
        reservation.commit();
        self.publish(&container.snapshot(), "create", &[]);
        Ok(CreateResponse { id, warnings })
    }

    /// What start would refuse is refused now, before anything is made.
    pub(super) fn check_startable(&self, record: &Record) -> Result<()> {
        bundle::spec(record, &self.host_facts())?;
        ports::requests(record, self.inner.networks.default_binding_ip())?;
        logging::resolve(record).map(drop)
    }

    fn free_id(&self) -> String {
        loop {
            let id = ids::random_id();
            // An id whose short form is all digits would be taken for a number by some tools; Docker draws again, too.
            if !self.has_id(&id) && !id[..12].bytes().all(|byte| byte.is_ascii_digit()) {
                return id;
            }
        }
    }

    fn generated_name(&self, id: &str) -> Result<String> {
        for attempt in 0..6 {
            let name = crate::names::random(attempt);
            if self.find(&name).is_err() {
                return Ok(name);
            }
        }
        Ok(id[..12].to_owned())
    }

    /// `container:name` becomes `container:id`, so that a rename does not matter.
    fn adjust_shared_modes(&self, host: &mut HostConfig) -> Result<()> {
        for mode in [&mut host.network_mode, &mut host.ipc_mode, &mut host.pid_mode] {
            if let Some(other) = mode.strip_prefix("container:") {
                // One that is not there is told by the start, as Docker does.
                if let Ok(other) = self.find(other) {
                    *mode = format!("container:{}", other.id);
                }
            }
        }
        if host.network_mode.starts_with("container:") {
            let has_ports =
                host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) || host.publish_all_ports;
            if has_ports {
                return Err(Error::invalid(
                    "conflicting options: port publishing and the container type network mode".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Folder, volumes, references, record: in this order, undone in reverse.
    fn materialise(&self, mut record: Record, asked: &[Asked]) -> Result<Arc<Container>> {
        let folder = self.data_folder(&record.id);
        fs::DirBuilder::new().mode(0o710).create(&folder).context("cannot make the container's folder")?;
        let mut made =
            Made { containers: self, id: record.id.clone(), anonymous: Vec::new(), acquired: Vec::new(), kept: false };
        self.inner.images.acquire(&record.image_id, &record.id);
        for ask in asked {
            let mount = self.bring_mount(ask, &mut made)?;
            record.mounts.push(mount);
        }
        self.write_first_record(&mut record, asked)?;
        made.kept = true;
        Ok(Arc::new(Container::new(record, folder)))
    }

    fn bring_mount(&self, ask: &Asked, made: &mut Made<'_>) -> Result<MountRecord> {
        let mut mount = ask.mount.clone();
        if let MountKind::Volume { name, source, anonymous, .. } = &mut mount.kind {
            let request = VolumeRequest { name: name.clone(), labels: ask.labels.clone(), ..VolumeRequest::default() };
            let volume = self.inner.volumes.create_now(&request)?;
            *source = volume.mountpoint;
            name.clone_from(&volume.name);
            if *anonymous {
                made.anonymous.push(volume.name.clone());
            }
            self.inner.volumes.acquire(&volume.name, &made.id)?;
            made.acquired.push(volume.name);
        }
        Ok(mount)
    }

    fn write_first_record(&self, record: &mut Record, asked: &[Asked]) -> Result<()> {
        // Until the record is there the folder is nobody's, and a start clears it away.
        self.make_writable_layer(record)?;
        self.fill_volumes(record, asked)?;
        record.intent = Intent::None;
        self.write_record(record)
    }
}

/// What a half-made container has taken; given back on drop.
struct Made<'a> {
    containers: &'a Containers,
    id: String,
    anonymous: Vec<String>,
    acquired: Vec<String>,
    kept: bool,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let inner = &self.containers.inner;
        for volume in &self.acquired {
            inner.volumes.release(volume, &self.id);
        }
        for volume in &self.anonymous {
            if let Err(error) = inner.volumes.remove_now(volume) {
                tracing::warn!(%volume, error = %error.text(), "volume of a failed create left behind");
            }
        }
        inner.images.release(&self.id);
        if let Err(error) = fs::remove_dir_all(self.containers.data_folder(&self.id)) {
            tracing::warn!(container = %self.id, %error, "folder of a failed create left behind");
        }
    }
}

fn finish_config(request: &mut CreateRequest, host: &HostConfig, id: &str) {
    let config = &mut request.config;
    if config.hostname.is_empty() {
        config.hostname = if host.network_mode == "host" || host.uts_mode == "host" {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            id[..12].to_owned()
        };
    }
    for key in host.port_bindings.iter().flatten().map(|(key, _)| key) {
        config.exposed_ports.entry(key.clone()).or_default();
    }
    config.labels.get_or_insert_default();
    if config.volumes.as_ref().is_some_and(BTreeMap::is_empty) {
        config.volumes = None;
    }
}

fn new_record(
    id: &str,
    name: &str,
    request: CreateRequest,
    host_config: HostConfig,
    image: ResolvedImage,
    endpoints: BTreeMap<String, EndpointRecord>,
) -> Record {
    Record {
        id: id.to_owned(),
        name: name.to_owned(),
        created_ns: clock::now_ns(),
        image_reference: request.config.image.clone(),
        image_id: image.id,
        image_manifest: Some(image.descriptor),
        chain_id: image.chain_id,
        platform: image.platform,
        config: request.config,
        host_config,
        mounts: Vec::new(),
        endpoints,
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
        published: Vec::new(),
        life: Life::default(),
        pending: None,
    }
}
