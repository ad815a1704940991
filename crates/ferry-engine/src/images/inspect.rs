//! Everything about one image.

use ferry_api::container::HealthConfig;
use ferry_api::image::{Config, Inspect, Metadata, RootFs};
use ferry_spec::image::{ContainerConfig, Healthcheck};
use ferry_spec::{ImageConfig, Platform};
use ferry_store::ImageRecord;

use super::list::{repo_digests, repo_tags};
use super::names::is_dangling;
use super::resolve::platform_not_found;
use super::{Images, Inner, origins};
use crate::clock;
use crate::error::Result;

impl Images {
    /// Tells everything about an image, of its manifest for `platform`, or for this host.
    ///
    /// API: `GET /images/{name}/json`
    ///
    /// # Errors
    /// NotFound.
    pub async fn inspect(&self, reference: &str, platform: Option<&Platform>) -> Result<Inspect> {
        let (reference, platform) = (reference.to_owned(), platform.cloned());
        self.blocking(move |inner| inner.inspect(&reference, platform.as_ref())).await
    }
}

impl Inner {
    fn inspect(&self, reference: &str, platform: Option<&Platform>) -> Result<Inspect> {
        let record = self.find(reference)?;
        let records = self.names_of(&record.target.digest);
        let named: Vec<&ImageRecord> = records.iter().filter(|record| !is_dangling(record)).collect();
        let overview = self.overview(&record);
        let chosen = self.best(&record, platform)?;
        if chosen.is_none() && platform.is_some() {
            return Err(platform_not_found(reference, platform));
        }
        let target = match (&chosen, platform) {
            (Some(parsed), Some(_)) => parsed.descriptor.clone(),
            _ => record.target.clone(),
        };
        let last = records.iter().map(|record| record.updated_ns).max().unwrap_or_default();
        let config = chosen.as_ref().map(|parsed| &parsed.config);
        let mut inspect = Inspect {
            id: target.digest.to_string(),
            repo_tags: repo_tags(&named),
            repo_digests: repo_digests(&named),
            size: overview.size_of(chosen.as_deref()),
            metadata: Metadata { last_tag_time: clock::rfc3339(last) },
            descriptor: Some(target),
            manifests: overview.manifests,
            identity: origins::identity(&records),
            config: Some(Config::default()),
            ..Inspect::default()
        };
        if let Some(config) = config {
            describe(&mut inspect, config);
        }
        Ok(inspect)
    }
}

fn describe(inspect: &mut Inspect, config: &ImageConfig) {
    inspect.comment = config.history.last().map(|step| step.comment.clone()).unwrap_or_default();
    inspect.created = config.created.clone().unwrap_or_default();
    inspect.author = config.author.clone();
    inspect.config = Some(api_config(&config.config));
    inspect.architecture = config.architecture.clone();
    inspect.variant = config.variant.clone().unwrap_or_default();
    inspect.os = config.os.clone();
    inspect.os_version = config.os_version.clone().unwrap_or_default();
    inspect.root_fs = RootFs {
        kind: config.rootfs.kind.clone(),
        layers: config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
    };
}

fn api_config(config: &ContainerConfig) -> Config {
    Config {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.keys().map(|port| (port.clone(), Default::default())).collect(),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone().unwrap_or_default(),
        cmd: config.cmd.clone().unwrap_or_default(),
        volumes: config.volumes.keys().map(|path| (path.clone(), Default::default())).collect(),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.as_ref().map(api_healthcheck),
        on_build: config.on_build.clone(),
        shell: config.shell.clone().unwrap_or_default(),
    }
}

fn api_healthcheck(check: &Healthcheck) -> HealthConfig {
    HealthConfig {
        test: check.test.clone(),
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
        action: String::new(),
    }
}
