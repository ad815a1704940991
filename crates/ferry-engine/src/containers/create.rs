//! `POST /containers/create`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use ferry_api::container::{Config, CreateRequest, CreateResponse, HostConfig, Inspect};
use ferry_api::volume::CreateRequest as VolumeRequest;
use ferry_spec::path::clean_rooted;
use ferry_spec::platform::Platform;
use ferry_store::Lease;

use super::confinement::SecurityOptions;
use super::lookup::NameReservation;
use super::mounts::{self, Asked};
use super::record::{EndpointRecord, ImageContent, MountKind, MountRecord, Record};
use super::state::Intent;
use super::{Container, Containers, bundle, defaults, limits, logging, ports, traffic, validate};
use crate::blocking;
use crate::cgroups::Abilities;
use crate::error::{Context, Error, Result};
use crate::ids;
use crate::images::ResolvedImage;
use crate::selinux::Category;

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

    /// Tells what a request would make, and makes nothing; anonymous volumes have no name yet.
    ///
    /// API: `POST /containers/create?dryRun=true`, ferry's own
    ///
    /// # Errors
    /// Those of [`Containers::create`].
    pub async fn dry_run(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        request: CreateRequest,
    ) -> Result<(Inspect, Vec<String>)> {
        let containers = self.clone();
        let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
        let platform = platform.filter(|platform| !platform.is_empty()).map(str::to_owned);
        blocking(move || {
            let prepared = containers.prepare(name.as_deref(), platform.as_deref(), request)?;
            let mut record = prepared.record;
            record.mounts = prepared.asked.into_iter().map(|ask| containers.would_mount(ask)).collect();
            Ok((containers.describe(record, None), prepared.warnings))
        })
        .await
    }

    fn would_mount(&self, ask: Asked) -> MountRecord {
        let mut mount = ask.mount;
        if let MountKind::Volume { name, source, .. } = &mut mount.kind
            && !name.is_empty()
            && !self.inner.volumes.is_foreign(name)
        {
            *source = self.inner.volumes.data_folder(name).display().to_string();
        }
        mount
    }

    fn create_now(&self, name: Option<&str>, platform: Option<&str>, request: CreateRequest) -> Result<CreateResponse> {
        let Prepared { record, asked, warnings, reservation, lease: _lease, category } =
            self.prepare(name, platform, request)?;
        let container = self.materialise(record, &asked, category)?;
        self.insert(Arc::clone(&container));
        reservation.commit();
        self.publish(&container.snapshot(), "create", &[]);
        Ok(CreateResponse { id: container.id.clone(), warnings })
    }

    /// Everything that is known of a container before anything of it is made.
    fn prepare(&self, name: Option<&str>, platform: Option<&str>, mut request: CreateRequest) -> Result<Prepared> {
        let mut host = request.host_config.take().unwrap_or_default();
        if let Some(name) = name {
            validate::name(name.strip_prefix('/').unwrap_or(name)).map_err(|_| validate::bad_name(name))?;
        }
        let subnets_of = |network: &str| self.inner.networks.look_up(network).ok().map(|found| found.subnets);
        validate::request(&request, &host, &self.inner.config, &subnets_of)?;
        if !request.config.working_dir.is_empty() {
            request.config.working_dir = clean_rooted(&request.config.working_dir);
        }
        let mut warnings = limits::settle_new(&mut host, Abilities::of_host())?;
        traffic::check(&host.resources(), &self.inner.networks)?;
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
        // Nothing is refused then, as if nothing had been asked for.
        if traffic::egress_of(&host).is_none() {
            host.egress = None;
        }
        let (log_driver, log_options) = (&host.log_config.driver, host.log_config.config.get_or_insert_default());
        if logging::is_built_in(log_driver) {
            logging::validate(log_driver, log_options)?;
        } else {
            self.check_log_plugin(log_driver, log_options)?;
        }
        warnings.extend(self.warn_of_no_limit(&host.storage_opt)?.map(str::to_owned));
        self.adjust_shared_modes(&mut host)?;
        let shared_labels = self.shared_labels(&host)?;
        if !shared_labels.is_empty() {
            host.security_opt.get_or_insert_default().extend(shared_labels);
        }
        let links = self.links_asked(&host)?;
        if !links.is_empty() {
            warnings.push(LINKS_ARE_OLD.to_owned());
        }
        if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) {
            warnings.push("Published ports are discarded when using host network mode".to_owned());
        }
        let asked = self.asked_mounts(&request.config, &host)?;
        let id = self.free_id();
        let reservation = match name {
            Some(name) => self.reserve_name(name.strip_prefix('/').unwrap_or(name), &id)?,
            None => self.reserve_any_name(&id)?,
        };
        let endpoints = self.endpoints_asked(&request, &host)?;
        if let Some(other) = host.network_mode.strip_prefix("container:").and_then(|other| self.find(other).ok()) {
            let (hostname, domainname) =
                other.with_record(|record| (record.config.hostname.clone(), record.config.domainname.clone()));
            request.config.hostname = hostname;
            request.config.domainname = domainname;
        }
        finish_config(&mut request, &host, &id);
        let lease = Arc::clone(&image.lease);
        let mut record = new_record(&id, reservation.name(), request, host, image, endpoints);
        record.links = links;
        let category = self.choose_labels(&mut record)?;
        if record.argv().is_empty() {
            return Err(Error::invalid("no command specified".to_owned()));
        }
        self.check_startable(&record)?;
        Ok(Prepared { record, asked, warnings, reservation, lease, category })
    }

    /// Gives a new container its labels.
    pub(super) fn choose_labels(&self, record: &mut Record) -> Result<Option<Category>> {
        let options = SecurityOptions::parse(&record.host_config)?;
        let labels = self.inner.selinux.choose(&options.labels)?;
        record.process_label = labels.process;
        record.mount_label = labels.mount;
        Ok(labels.category)
    }

    /// What start would refuse is refused now, before anything is made.
    pub(super) fn check_startable(&self, record: &Record) -> Result<()> {
        bundle::spec(record, &self.host_facts())?;
        ports::requests(record)?;
        logging::resolve(record, None).map(drop)
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

    /// `container:name` becomes `container:id`, so that a rename does not matter.
    fn adjust_shared_modes(&self, host: &mut HostConfig) -> Result<()> {
        if let Some(other) = host.network_mode.strip_prefix("container:")
            // One that is not there is told by the start, as Docker does.
            && let Ok(other) = self.find(other)
        {
            host.network_mode = format!("container:{}", other.id);
        }
        for mode in [&mut host.ipc_mode, &mut host.pid_mode] {
            if let Some(other) = mode.strip_prefix("container:") {
                let other = self.find(other).map_err(|error| Error::invalid(error.text()))?;
                *mode = format!("container:{}", other.id);
            }
        }
        Ok(())
    }

    /// Every mount, checked and with its image found; nothing is made.
    fn asked_mounts(&self, config: &Config, host: &HostConfig) -> Result<Vec<Asked>> {
        let mut inherited = Vec::new();
        for text in host.volumes_from.iter().flatten() {
            let (other, writable) = mounts::volumes_from(text)?;
            let other = self.find(other).map_err(|error| Error::invalid(error.text()))?;
            other.with_record(|record| {
                inherited.extend(record.own_mounts().map(|mount| Asked::inherited(mount, writable)));
            });
        }
        let mut asked = mounts::collect(config, host, inherited)?;
        mounts::sources_exist(&asked)?;
        for ask in &mut asked {
            match &mut ask.mount.kind {
                MountKind::Volume { name, .. } => {
                    self.inner.volumes.check_wish(name, &ask.volume.driver, &ask.volume.options)?;
                }
                MountKind::Image { reference, content, .. } => {
                    let image = self.inner.images.resolve(reference, None)?;
                    *content = Some(ImageContent { id: image.id, chain_id: image.chain_id });
                }
                MountKind::Bind { source, .. } => {
                    let data_root = &self.inner.config.data_root;
                    mounts::near_the_data_root(source, &mut ask.mount.propagation, ask.propagation_asked, data_root)?;
                }
                MountKind::Tmpfs { .. } => {}
            }
        }
        Ok(asked)
    }

    /// Folder, volumes, references, record: in this order, undone in reverse.
    fn materialise(&self, mut record: Record, asked: &[Asked], category: Option<Category>) -> Result<Arc<Container>> {
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
        Ok(Arc::new(Container::new(record, folder, category)))
    }

    fn bring_mount(&self, ask: &Asked, made: &mut Made<'_>) -> Result<MountRecord> {
        let mut mount = ask.mount.clone();
        if let MountKind::Image { content: Some(content), .. } = &mount.kind {
            self.inner.images.acquire(&content.id, &made.id);
        }
        if let MountKind::Volume { name, source, anonymous, driver, .. } = &mut mount.kind {
            let wish = ask.volume.clone();
            let is_new = name.is_empty();
            let request = VolumeRequest {
                name: name.clone(),
                driver: wish.driver,
                driver_opts: wish.options,
                labels: wish.labels,
                ..VolumeRequest::default()
            };
            let volume = self.inner.volumes.create_for(&request, &made.id)?;
            *source = volume.mountpoint;
            if volume.driver != crate::volumes::LOCAL {
                *driver = volume.driver;
            }
            name.clone_from(&volume.name);
            // One of another container's is not ours to take away.
            if *anonymous && is_new {
                made.anonymous.push(volume.name.clone());
            }
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

const LINKS_ARE_OLD: &str = "Links on the default bridge network are deprecated and will be removed in a future release. Use a custom network instead.";

/// A container that could be made.
struct Prepared {
    record: Record,
    asked: Vec<Asked>,
    warnings: Vec<String>,
    /// Its name.
    reservation: NameReservation,
    /// Until the container has acquired the image, whose removal may be under way.
    lease: Arc<Lease>,
    /// What makes its label its own.
    category: Option<Category>,
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
    let mut manifest = image.descriptor;
    manifest.platform.get_or_insert_with(|| image.platform.clone());
    Record {
        name: name.to_owned(),
        image_reference: request.config.image.clone(),
        image_manifest: Some(manifest),
        chain_id: image.chain_id,
        config: request.config,
        host_config,
        endpoints,
        ..Record::begun(id.to_owned(), image.id, image.platform)
    }
}
