//! Verbs that change a running container, and what is asked of the host's kernel for containers.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ferry_api::container::{DeviceMapping, HostConfig};
use ferry_shim::protocol::{Request, Target};
use ferry_spec::runtime::LinuxDevice;
use ferry_spec::runtime::defaults::ALL_CAPABILITIES;

use super::state::{Status, Step};
use super::{Container, Containers, is_restarting, validate};
use crate::error::{Context, Error, Result};

impl Containers {
    /// Freezes every process.
    ///
    /// API: `POST /containers/{id}/pause`
    ///
    /// # Errors
    /// NotFound; Conflict unless it runs.
    pub async fn pause(&self, reference: &str) -> Result<()> {
        self.freeze(reference, false).await
    }

    /// As [`Containers::pause`], for as long as files are copied: a daemon that was killed meanwhile lets it go on when it starts again.
    pub(super) async fn pause_for_copy(&self, reference: &str) -> Result<()> {
        self.freeze(reference, true).await
    }

    async fn freeze(&self, reference: &str, for_copy: bool) -> Result<()> {
        let container = self.find(reference)?;
        let _verb = container.verb.lock().await;
        let record = container.snapshot();
        if record.status == Status::Restarting {
            return Err(is_restarting(&record.id));
        }
        let Some(live) = container.live() else {
            return Err(Error::conflict(format!("container {} is not running", record.id)));
        };
        let Some(paused) = record.status.after(Step::Paused) else {
            return Err(Error::conflict(format!("container {} is already paused", record.id)));
        };
        if for_copy {
            // Before it is: whoever finds it paused knows why.
            self.update(&container, |record| record.paused_for_copy = true)?;
        }
        if let Err(error) = live.shim.command(Request::Pause, &[]).await {
            self.forget_copy(&container);
            return Err(error).context(format!("cannot pause container {}", record.id));
        }
        self.update_whatever(&container, |record| record.status = paused);
        self.stop_watching_health(&container);
        self.publish(&record, "pause", &[]);
        Ok(())
    }

    /// Thaws every process.
    ///
    /// API: `POST /containers/{id}/unpause`
    ///
    /// # Errors
    /// NotFound; Internal unless it is paused.
    pub async fn unpause(&self, reference: &str) -> Result<()> {
        let container = self.find(reference)?;
        let _verb = container.verb.lock().await;
        let record = container.snapshot();
        let (Some(live), Some(running)) = (container.live(), record.status.after(Step::Resumed)) else {
            // Docker gives this one no status of its own.
            return Err(Error::internal(format!("Container {} is not paused", record.id)));
        };
        live.shim.command(Request::Resume, &[]).await.context(format!("cannot unpause container {}", record.id))?;
        self.update_whatever(&container, |record| {
            record.status = running;
            record.paused_for_copy = false;
        });
        self.watch_health(&container);
        self.publish(&record, "unpause", &[]);
        Ok(())
    }

    /// Lets a container go on that was paused for a copy; one that ended meanwhile, or that somebody let go on, is none.
    pub(super) async fn unpause_after_copy(&self, reference: &str) {
        let Err(error) = self.unpause(reference).await else { return };
        tracing::debug!(container = reference, error = %error.text(), "not thawed after a copy");
        if let Ok(container) = self.find(reference) {
            self.forget_copy(&container);
        }
    }

    fn forget_copy(&self, container: &Container) {
        if container.with_record(|record| record.paused_for_copy) {
            self.update_whatever(container, |record| record.paused_for_copy = false);
        }
    }

    /// Sets the size of the terminal.
    ///
    /// API: `POST /containers/{id}/resize`
    ///
    /// # Errors
    /// NotFound; Conflict when it does not run.
    pub async fn resize(&self, reference: &str, height: u16, width: u16) -> Result<()> {
        let container = self.find(reference)?;
        let Some(live) = container.live() else {
            return Err(Error::conflict(format!("container {} is not running", container.id)));
        };
        let request = Request::Resize { target: Target::Init, height, width };
        live.shim.command(request, &[]).await.context(format!("cannot resize container {}", container.id))?;
        self.publish(&container.snapshot(), "resize", &[("height", height.to_string()), ("width", width.to_string())]);
        Ok(())
    }

    /// Gives another name.
    ///
    /// API: `POST /containers/{id}/rename`
    ///
    /// # Errors
    /// NotFound; InvalidArgument; Conflict for a name that is taken.
    pub async fn rename(&self, reference: &str, name: &str) -> Result<()> {
        let name = name.trim();
        let name = name.strip_prefix('/').unwrap_or(name);
        if name.is_empty() || reference.trim().trim_start_matches('/').is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty".to_owned()));
        }
        let container = self.find(reference.trim())?;
        let allocating = |error: Error| Error::new(error.kind(), "Error when allocating new name").with_source(error);
        let _verb = container.verb.lock().await;
        let old = container.name();
        if old == name {
            return Err(Error::invalid("Renaming a container with the same name as its current name".to_owned()));
        }
        // Docker has put the slash before the name by then.
        validate::name(name).map_err(|_| allocating(validate::bad_name(&format!("/{name}"))))?;
        let reservation = self.reserve_name(name, &container.id).map_err(allocating)?;
        self.update(&container, |record| record.name = name.to_owned())?;
        reservation.commit();
        self.free_name(&old);
        self.publish(&container.snapshot(), "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    /// Whether anything lives.
    pub(crate) fn anything_runs(&self) -> bool {
        self.all().iter().any(|container| matches!(container.status(), Status::Running | Status::Paused))
    }
}

/// Devices of `--device`: one node, or every node below a folder.
pub(crate) fn devices(host_config: &HostConfig) -> Result<Vec<(LinuxDevice, String)>> {
    let mut devices = Vec::new();
    if host_config.privileged {
        collect_devices(Path::new("/dev"), Path::new("/dev"), "rwm", &mut devices);
    }
    for mapping in host_config.devices.iter().flatten() {
        devices.extend(mapped(mapping)?);
    }
    Ok(devices)
}

fn mapped(mapping: &DeviceMapping) -> Result<Vec<(LinuxDevice, String)>> {
    let source = Path::new(&mapping.path_on_host);
    let target = if mapping.path_in_container.is_empty() { &mapping.path_on_host } else { &mapping.path_in_container };
    let permissions = if mapping.cgroup_permissions.is_empty() { "rwm" } else { &mapping.cgroup_permissions };
    if !permissions.chars().all(|c| matches!(c, 'r' | 'w' | 'm')) {
        return Err(Error::invalid(format!("invalid device mode: {permissions}")));
    }
    let gathering =
        || format!("error gathering device information while adding custom device \"{}\"", mapping.path_on_host);
    let metadata = fs::metadata(source).map_err(|error| {
        let reason = if error.kind() == std::io::ErrorKind::NotFound {
            "no such file or directory".to_owned()
        } else {
            error.to_string()
        };
        Error::internal(format!("{}: {reason}", gathering()))
    })?;
    if metadata.is_dir() {
        let mut devices = Vec::new();
        collect_devices(source, Path::new(target), permissions, &mut devices);
        return Ok(devices);
    }
    match device(&metadata, PathBuf::from(target)) {
        Some(device) => Ok(vec![(device, permissions.to_owned())]),
        None => Err(Error::internal(format!("{}: not a device node", gathering()))),
    }
}

fn device(metadata: &fs::Metadata, path: PathBuf) -> Option<LinuxDevice> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return None,
    };
    let number = metadata.rdev();
    Some(LinuxDevice {
        path: path.display().to_string(),
        kind: kind.to_owned(),
        major: i64::from(rustix::fs::major(number)),
        minor: i64::from(rustix::fs::minor(number)),
        file_mode: Some(metadata.mode() & 0o777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    })
}

/// Terminals, shared memory and the like are the container's own, never the host's.
fn collect_devices(folder: &Path, target: &Path, permissions: &str, devices: &mut Vec<(LinuxDevice, String)>) {
    const OWN: [&str; 8] = ["pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"];
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if folder == Path::new("/dev") && OWN.iter().any(|own| name == *own) {
            continue;
        }
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        if metadata.is_dir() {
            collect_devices(&entry.path(), &target.join(&name), permissions, devices);
        } else if let Some(device) = device(&metadata, target.join(&name)) {
            devices.push((device, permissions.to_owned()));
        }
    }
}

/// What this process may hand on, by its bounding set.
pub(crate) fn held_capabilities() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).map(str::trim);
    let bits = bounding.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    let held = ALL_CAPABILITIES.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
    held.map(|(_, name)| (*name).to_owned()).collect()
}

/// Where a cgroup lies: one folder per hierarchy.
fn cgroup_folders(cgroup: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let roots = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        matches!(kind, "cgroup" | "cgroup2").then(|| before.split(' ').nth(4)).flatten()
    });
    roots.map(|root| Path::new(root).join(cgroup.trim_start_matches('/'))).collect()
}

/// Kills what a lost shim left.
pub(super) fn kill_remains(pid: u32, cgroup: &str) {
    let mut pids: Vec<i32> = i32::try_from(pid).ok().into_iter().collect();
    for folder in cgroup_folders(cgroup) {
        // Takes along what is in cgroups that the container has made; only v2 has it.
        let _ = fs::write(folder.join("cgroup.kill"), "1");
        let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        pids.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    for pid in pids.into_iter().filter(|pid| *pid > 1) {
        kill_member(pid, cgroup);
    }
}

/// A pid may be another process's by now; what is held by its descriptor is looked at before it is killed.
fn kill_member(pid: i32, cgroup: &str) {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let Some(Ok(held)) = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return };
    if in_cgroup(pid, cgroup) {
        // One that has ended meanwhile is what was wanted.
        let _ = pidfd_send_signal(&held, Signal::KILL);
    }
}

/// Only the cgroup tells whose process it is; the container may have made more below its own.
fn in_cgroup(pid: i32, cgroup: &str) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().any(|line| line.ends_with(cgroup) || line.contains(&format!("{cgroup}/")))
}

/// Removes a container's cgroup from every hierarchy; the shim has done so already unless it was killed.
pub(super) fn remove_cgroup(cgroup: &str) {
    if crate::cgroups::is_scope(cgroup) {
        // systemd does, once it is empty; a scope without its folder would never be seen to end.
        return;
    }
    for folder in cgroup_folders(cgroup) {
        match fs::remove_dir(&folder) {
            Ok(()) => tracing::debug!(cgroup = %folder.display(), "cgroup removed"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(cgroup = %folder.display(), %error, "cgroup not removed yet"),
        }
    }
}

/// Kills what is left in a cgroup and waits until it is gone; `parent` goes too when it was the last in it.
pub(crate) fn end_cgroup(cgroup: &str, parent: &str) {
    kill_remains(0, cgroup);
    for _ in 0..50 {
        remove_cgroup(cgroup);
        if !cgroup_folders(cgroup).iter().any(|folder| folder.exists()) {
            break;
        }
        // What was killed takes a moment to be gone.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    remove_cgroup(parent);
}

/// Ends every cgroup below one that belongs to nobody.
pub(crate) fn sweep_cgroups(parent: &str, is_known: impl Fn(&str) -> bool) {
    for cgroup in stale_cgroups(parent, is_known) {
        end_cgroup(&cgroup, parent);
    }
}

/// cgroups below the instance's own that belong to no container.
pub(super) fn stale_cgroups(parent: &str, is_known: impl Fn(&str) -> bool) -> Vec<String> {
    let mut stale = Vec::new();
    for folder in cgroup_folders(parent) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let path = format!("{parent}/{name}");
            if is_folder && !is_known(&name) && !stale.contains(&path) {
                stale.push(path);
            }
        }
    }
    stale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_of_the_cgroup_are_killed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        kill_member(pid, "/ferry/of-somebody-else");
        assert!(child.try_wait().unwrap().is_none());
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        kill_member(pid, own.lines().next().unwrap().rsplit(':').next().unwrap());
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));
    }
}
