//! `POST /commit`: a container's changes become a layer on its image.

use std::sync::Arc;

use ferry_api::container::{Config, Empty, HealthConfig};
use ferry_shim::files::Action;
use ferry_spec::image::{ContainerConfig, Empty as ImageEmpty, Healthcheck};

use super::changes::{ChangesWork, refuse_removing};
use crate::blocking;
use crate::containers::state::Status;
use crate::containers::{Container, Containers, defaults};
use crate::error::{Context, Result};
use crate::images::{Commit, CommitName};

/// What to make of a container.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Repository to name the image; empty for none.
    pub repository: String,
    /// Tag, `latest` when empty.
    pub tag: String,
    /// Comment in the history.
    pub comment: String,
    /// Author.
    pub author: String,
    /// Its processes are frozen meanwhile.
    pub pause: bool,
    /// Dockerfile instructions for the configuration.
    pub changes: Vec<String>,
    /// A configuration in place of the container's.
    pub config: Option<Config>,
}

impl Containers {
    /// Makes an image of a container and returns its id.
    ///
    /// API: `POST /commit`
    ///
    /// # Errors
    /// NotFound; InvalidArgument for the name or a change; Conflict for one that is being removed.
    pub async fn commit(&self, reference: &str, options: CommitOptions) -> Result<String> {
        let name = CommitName::parse(&options.repository, &options.tag)?;
        let container = self.find(reference)?;
        refuse_removing(&container, "commit")?;
        let config = committed_config(&container, &options)?;
        let containers = self.clone();
        // Once begun it is finished, whether the client stays or not: a container is not left frozen.
        crate::finish(async move { containers.commit_found(&container, name, config, &options).await }).await
    }

    async fn commit_found(
        &self,
        container: &Arc<Container>,
        name: CommitName,
        config: ContainerConfig,
        options: &CommitOptions,
    ) -> Result<String> {
        let frozen =
            options.pause && container.status() == Status::Running && self.pause_for_copy(&container.id).await.is_ok();
        let committed = self.commit_files(container, name.clone(), config, options).await;
        if let Ok(id) = &committed {
            // Told while it is frozen, as Docker does.
            let more = [("comment", options.comment.clone()), ("imageID", id.clone()), ("imageRef", name.familiar())];
            self.publish(&container.snapshot(), "commit", &more);
        }
        if frozen {
            self.unpause_after_copy(&container.id).await;
        }
        committed
    }

    async fn commit_files(
        &self,
        container: &Arc<Container>,
        name: CommitName,
        config: ContainerConfig,
        options: &CommitOptions,
    ) -> Result<String> {
        let ChangesWork { mut process, below } =
            self.work_on_changes(container, Action::Layer { exact: false }).await?;
        let data = process.take_data()?.into_std().context("cannot take over the layer")?;
        data.set_nonblocking(false).context("cannot take over the layer")?;
        let record = container.snapshot();
        let commit = Commit {
            parent: record.image_manifest,
            platform: record.platform,
            config,
            created_by: record.config.cmd.unwrap_or_default().join(" "),
            author: options.author.clone(),
            comment: options.comment.clone(),
        };
        let images = self.inner.images.clone();
        let taking = blocking(move || images.take_layer(data));
        // The layer counts only when the one who wrote it says that it is whole. Where it cannot be stored nobody reads on, and the writer
        // dies of that without a word: then the first reason is the one.
        let (taken, done) = tokio::join!(taking, process.done());
        let layer = taken?;
        done?;
        drop((process, below));
        let images = self.inner.images.clone();
        blocking(move || images.commit(&layer, &commit, &name)).await
    }
}

/// The container's configuration with the changes, as Docker merges them.
fn committed_config(container: &Container, options: &CommitOptions) -> Result<ContainerConfig> {
    let own = container.with_record(|record| record.config.clone());
    let base = options.config.clone().unwrap_or_else(|| own.clone());
    let changed = crate::images::apply_changes(image_config(&base), &options.changes)?;
    let mut merged = api_config(changed);
    defaults::merge_image(&mut merged, &image_config(&own));
    Ok(image_config(&merged))
}

/// What an image keeps of a container's configuration.
fn image_config(config: &Config) -> ContainerConfig {
    let set = |name: &String| (name.clone(), ImageEmpty {});
    ContainerConfig {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.keys().map(set).collect(),
        env: config.env.clone().unwrap_or_default(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: config.volumes.iter().flatten().map(|(path, _)| set(path)).collect(),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone().unwrap_or_default(),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: None,
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.as_ref().map(|check| Healthcheck {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        shell: Some(config.shell.clone()).filter(|shell| !shell.is_empty()),
        on_build: config.on_build.clone(),
    }
}

fn api_config(config: ContainerConfig) -> Config {
    let set = |(name, _): (String, ImageEmpty)| (name, Empty {});
    Config {
        user: config.user,
        exposed_ports: config.exposed_ports.into_iter().map(set).collect(),
        env: Some(config.env),
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        volumes: Some(config.volumes.into_iter().map(set).collect()),
        working_dir: config.working_dir,
        labels: Some(config.labels),
        stop_signal: config.stop_signal,
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.map(|check| HealthConfig {
            test: check.test,
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
            ..HealthConfig::default()
        }),
        shell: config.shell.unwrap_or_default(),
        on_build: config.on_build,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_keep_what_an_image_has() {
        let config = Config {
            hostname: "not kept".into(),
            user: "u".into(),
            env: Some(vec!["A=1".into()]),
            cmd: Some(vec!["c".into()]),
            shell: vec!["/bin/bash".into()],
            healthcheck: Some(HealthConfig { test: vec!["NONE".into()], retries: 3, ..HealthConfig::default() }),
            ..Config::default()
        };
        let image = image_config(&config);
        assert_eq!(image.healthcheck.as_ref().map(|check| check.retries), Some(3));
        assert_eq!(image_config(&api_config(image.clone())), image);
    }
}
