//! `POST /containers/{id}/update`: limits change in the record and, while the container runs, in its cgroups.

use std::os::fd::AsFd;
use std::sync::Arc;

use ferry_api::container::{
    CreateRequest, HostConfig, NextStart, Resources, RestartPolicy, UpdateRequest, UpdateResponse,
};
use ferry_shim::protocol::{Request, ShimErrorKind};
use ferry_spec::runtime::{LinuxBlockIo, LinuxResources};

use super::limits::{self, Moment};
use super::process::process_of;
use super::record::Record;
use super::state::Intent;
use super::{Container, Containers, logging, next_start, resources, traffic, validate};
use crate::blocking;
use crate::cgroups::Abilities;
use crate::error::{Error, ErrorKind, Result};
use crate::shims::ShimCallError;

impl Containers {
    /// Changes limits, restart policy and, beyond Docker, what the next start takes up.
    ///
    /// API: `POST /containers/{id}/update`
    ///
    /// # Errors
    /// InvalidArgument; NotFound; Conflict with what is set; what the kernel refuses. Nothing has changed then.
    pub async fn change(&self, reference: &str, mut request: UpdateRequest) -> Result<UpdateResponse> {
        validate::restart_policy(&request.restart_policy)?;
        let warnings = limits::settle(&mut request.resources, Abilities::of_host(), Moment::Update)?;
        let container = self.find(reference)?;
        let containers = self.clone();
        let (networks, asked) = (self.inner.networks.clone(), request.resources.clone());
        blocking(move || traffic::check(&asked, &networks)).await?;
        let at_next_start = crate::finish(async move {
            let _verb = container.verb.lock().await;
            containers.change_held(&container, &request).await
        })
        .await?;
        Ok(UpdateResponse { warnings: (!warnings.is_empty()).then_some(warnings), at_next_start })
    }

    /// The caller holds the verb lock.
    async fn change_held(&self, container: &Arc<Container>, request: &UpdateRequest) -> Result<Option<Vec<String>>> {
        let before = container.snapshot();
        let cannot = |kind: ErrorKind, reason: &str| {
            Error::new(kind, format!("Cannot update container {}: {reason}", before.id))
        };
        if before.intent == Intent::Removing {
            let reason = "container is marked for removal and cannot be \"update\"";
            return Err(cannot(ErrorKind::Conflict, reason));
        }
        let mut after = before.clone();
        after.host_config = merged(&before.host_config, &request.resources, &request.restart_policy)
            .map_err(|reason| cannot(ErrorKind::Conflict, reason))?;
        traffic::check_mode(&after.host_config).map_err(|reason| cannot(ErrorKind::InvalidArgument, &reason))?;
        if let Some(changes) = &request.next_start {
            self.note_next_start(&mut after, changes)?;
        }
        let block_io =
            resources::block_io(&request.resources).map_err(|reason| cannot(ErrorKind::InvalidArgument, &reason))?;
        self.put_record(container, &after)?;
        if let Err(error) = self.shape_live(container, &before, &after).await {
            self.update_whatever(container, |record| restore(record, &before));
            return Err(error);
        }
        if let Err(error) = self.restrict_live(container, &before, &after).await {
            self.take_back(container, &before, &after).await;
            return Err(error);
        }
        let live = live_limits(&request.resources, &after.host_config, block_io);
        if let Err(error) = self.set_limits(container, live).await {
            self.take_back(container, &before, &after).await;
            return Err(cannot(ErrorKind::Internal, &error.to_string()));
        }
        self.publish(&after, "update", &[]);
        let words = after.pending.as_ref().map(next_start::Pending::words).unwrap_or_default();
        Ok(request.next_start.is_some().then_some(words))
    }

    fn note_next_start(&self, record: &mut Record, changes: &NextStart) -> Result<()> {
        next_start::note(record, changes);
        let mut tried = record.clone();
        next_start::take_up(&mut tried);
        let request = CreateRequest { config: tried.config.clone(), ..CreateRequest::default() };
        let log = &mut tried.host_config.log_config;
        logging::validate(&log.driver, log.config.get_or_insert_default())?;
        validate::request(&request, &tried.host_config, &self.inner.config, &|_| None)?;
        self.check_startable(&tried)?;
        if !record.status.counts_as_running() {
            // Nothing has to be waited for.
            next_start::take_up(record);
        }
        Ok(())
    }

    fn put_record(&self, container: &Container, after: &Record) -> Result<()> {
        self.update(container, |record| restore(record, after))
    }

    /// Undoes the part of an update that was done before it failed, in the record and in the network.
    async fn take_back(&self, container: &Arc<Container>, before: &Record, after: &Record) {
        self.update_whatever(container, |record| restore(record, before));
        let shaped = self.shape_live(container, after, before).await;
        let restricted = self.restrict_live(container, after, before).await;
        for error in [shaped, restricted].into_iter().filter_map(Result::err) {
            tracing::warn!(container = %before.id, %error, "limits of traffic are not what the record says");
        }
    }

    /// Traffic is limited by the network, not by the shim.
    async fn shape_live(&self, container: &Container, before: &Record, after: &Record) -> Result<()> {
        let (old, new) = (traffic::of(&before.host_config), traffic::of(&after.host_config));
        if old == new || !after.status.is_live() {
            return Ok(());
        }
        // It has just ended; the next start takes the limits out of the record.
        let Some(process) = process_of(container).await? else { return Ok(()) };
        let (containers, before, after) = (self.clone(), before.clone(), after.clone());
        blocking(move || {
            let process = process.as_fd();
            containers.check_limits(&after)?;
            containers.shape_now(&after, process).inspect_err(|_| {
                if let Err(error) = containers.shape_now(&before, process) {
                    tracing::warn!(container = %after.id, %error, "limits of traffic are between what they were and what they should be");
                }
            })
        })
        .await
    }

    async fn set_limits(&self, container: &Container, limits: LinuxResources) -> Result<(), ShimCallError> {
        let Some(live) = container.live().filter(|_| limits != LinuxResources::default()) else { return Ok(()) };
        match live.shim.command(Request::Update(Box::new(limits)), &[]).await {
            // It has just ended; the next start takes the limits out of the record.
            Err(ShimCallError::Refused(error)) if error.kind == ShimErrorKind::NotRunning => Ok(()),
            Err(ShimCallError::Gone(_)) => Ok(()),
            result => result,
        }
    }
}

/// The parts of a record that an update may change; the rest is the running container's own affair meanwhile.
fn restore(record: &mut Record, from: &Record) {
    record.host_config.clone_from(&from.host_config);
    record.config.clone_from(&from.config);
    record.pending.clone_from(&from.pending);
}

fn live_limits(asked: &Resources, whole: &HostConfig, block_io: LinuxBlockIo) -> LinuxResources {
    resources::of_update(asked, &whole.resources(), block_io, Abilities::of_host())
}

/// What the container has from now on; what is zero or absent stays as it was. Docker's rules and words.
fn merged(
    before: &HostConfig,
    asked: &Resources,
    policy: &RestartPolicy,
) -> std::result::Result<HostConfig, &'static str> {
    check_conflicts(before, asked, policy)?;
    let mut after = before.clone();
    for (value, new) in [
        (&mut after.cpu_shares, asked.cpu_shares),
        (&mut after.nano_cpus, asked.nano_cpus),
        (&mut after.cpu_period, asked.cpu_period),
        (&mut after.cpu_quota, asked.cpu_quota),
        (&mut after.cpu_realtime_period, asked.cpu_realtime_period),
        (&mut after.cpu_realtime_runtime, asked.cpu_realtime_runtime),
        (&mut after.memory, asked.memory),
        (&mut after.memory_swap, asked.memory_swap),
        (&mut after.memory_reservation, asked.memory_reservation),
    ] {
        if new != 0 {
            *value = new;
        }
    }
    for (value, new) in [(&mut after.cpuset_cpus, &asked.cpuset_cpus), (&mut after.cpuset_mems, &asked.cpuset_mems)] {
        if !new.is_empty() {
            value.clone_from(new);
        }
    }
    for (value, new) in [
        (&mut after.blkio_device_read_bps, &asked.blkio_device_read_bps),
        (&mut after.blkio_device_write_bps, &asked.blkio_device_write_bps),
        (&mut after.blkio_device_read_iops, &asked.blkio_device_read_iops),
        (&mut after.blkio_device_write_iops, &asked.blkio_device_write_iops),
    ] {
        if new.is_some() {
            value.clone_from(new);
        }
    }
    if asked.blkio_weight != 0 {
        after.blkio_weight = asked.blkio_weight;
    }
    if asked.blkio_weight_device.is_some() {
        after.blkio_weight_device.clone_from(&asked.blkio_weight_device);
    }
    traffic::merge(&mut after, asked);
    after.pids_limit = asked.pids_limit.or(after.pids_limit);
    if !policy.name.is_empty() {
        after.restart_policy = policy.clone();
    }
    Ok(after)
}

fn check_conflicts(
    before: &HostConfig,
    asked: &Resources,
    policy: &RestartPolicy,
) -> std::result::Result<(), &'static str> {
    let conflicts = [
        (
            asked.nano_cpus > 0 && before.cpu_period > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            asked.nano_cpus > 0 && before.cpu_quota > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            asked.cpu_period > 0 && before.nano_cpus > 0,
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            asked.cpu_quota > 0 && before.nano_cpus > 0,
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            asked.memory != 0 && asked.memory > before.memory_swap && asked.memory_swap == 0,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        (
            before.auto_remove && !matches!(policy.name.as_str(), "" | "no"),
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
    ];
    conflicts.iter().find(|(conflicts, _)| *conflicts).map_or(Ok(()), |(_, text)| Err(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str) -> RestartPolicy {
        RestartPolicy { name: name.into(), maximum_retry_count: 0 }
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        let before = HostConfig {
            memory: 5,
            memory_swap: 50,
            cpu_shares: 9,
            restart_policy: policy("always"),
            ..HostConfig::default()
        };
        let asked = Resources { memory: 7, cpuset_cpus: "0".into(), pids_limit: Some(3), ..Resources::default() };
        let after = merged(&before, &asked, &RestartPolicy::default()).unwrap();
        assert_eq!((after.memory, after.memory_swap, after.cpu_shares), (7, 50, 9));
        assert_eq!(
            (after.cpuset_cpus.as_str(), after.pids_limit, after.restart_policy.name.as_str()),
            ("0", Some(3), "always")
        );
        let after = merged(&after, &Resources::default(), &policy("no")).unwrap();
        assert_eq!((after.pids_limit, after.restart_policy.name.as_str()), (Some(3), "no"));
    }

    #[test]
    fn conflicts_are_told_in_dockers_words() {
        let text =
            |before: HostConfig, asked: Resources| merged(&before, &asked, &RestartPolicy::default()).unwrap_err();
        let quota = HostConfig { cpu_quota: 5000, ..HostConfig::default() };
        assert_eq!(
            text(quota, Resources { nano_cpus: 1, ..Resources::default() }),
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"
        );
        let nano = HostConfig { nano_cpus: 1, ..HostConfig::default() };
        assert_eq!(
            text(nano, Resources { cpu_period: 5000, ..Resources::default() }),
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"
        );
        assert!(
            text(HostConfig::default(), Resources { memory: 1, ..Resources::default() })
                .starts_with("Memory limit should be smaller than already set memoryswap limit")
        );
        let both = Resources { memory: 1, memory_swap: 2, ..Resources::default() };
        assert!(merged(&HostConfig::default(), &both, &RestartPolicy::default()).is_ok());
        let removed = HostConfig { auto_remove: true, ..HostConfig::default() };
        assert!(merged(&removed, &Resources::default(), &policy("always")).is_err());
        assert!(merged(&removed, &Resources::default(), &policy("no")).is_ok());
    }
}
