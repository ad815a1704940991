//! Which cgroup hierarchies the host has mounted, and where.

#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;

use super::write;
use crate::error::Error;
use crate::init::CgroupView;

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    mount_point: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Version {
    /// Controllers and, for a named one, its name.
    V1 { controllers: Vec<String>, name: Option<String> },
    /// Controllers offered at its root.
    V2 { controllers: Vec<String> },
}

/// The controllers of v1, by which mount options are told from others.
const CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls",
    "net_prio",
    "hugetlb",
    "perf_event",
    "rdma",
    "misc",
];

/// Reads the hierarchies of the calling process' mount namespace.
pub(super) fn detect() -> Result<Vec<Hierarchy>, Error> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| Error::step("read /proc/self/mountinfo", error))?;
    let mut hierarchies = parse(&text);
    for hierarchy in &mut hierarchies {
        if let Version::V2 { controllers } = &mut hierarchy.version {
            let path = hierarchy.mount_point.join("cgroup.controllers");
            *controllers = super::read(&path)?.split_whitespace().map(String::from).collect();
        }
    }
    if hierarchies.is_empty() {
        return Err(Error::unsupported("no cgroup hierarchy is mounted on this host"));
    }
    Ok(hierarchies)
}

/// Reads the lines of `mountinfo`; of hierarchies mounted more than once, the first counts.
fn parse(text: &str) -> Vec<Hierarchy> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for line in text.lines() {
        let Some((front, back)) = line.split_once(" - ") else { continue };
        let mut back = back.split(' ');
        let kind = back.next().unwrap_or_default();
        let options = back.nth(1).unwrap_or_default();
        let Some(mount_point) = front.split(' ').nth(4) else { continue };
        let version = match kind {
            "cgroup" => v1(options),
            "cgroup2" => Version::V2 { controllers: Vec::new() },
            _ => continue,
        };
        if !hierarchies.iter().any(|known| known.version == version) {
            hierarchies.push(Hierarchy { mount_point: PathBuf::from(unescape(mount_point)), version });
        }
    }
    hierarchies
}

fn v1(options: &str) -> Version {
    let controllers = options.split(',').filter(|option| CONTROLLERS.contains(option)).map(String::from).collect();
    let name = options.split(',').find_map(|option| option.strip_prefix("name=")).map(String::from);
    Version::V1 { controllers, name }
}

/// Octal escapes of blanks and backslashes.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// One above it may go while this is made, with the last of others that were below.
fn make_folders(target: &std::path::Path) -> std::io::Result<()> {
    for _ in 0..8 {
        match std::fs::create_dir_all(target) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            made => return made,
        }
    }
    std::fs::create_dir_all(target)
}

impl Hierarchy {
    #[cfg(test)]
    pub(super) fn fake_v1(mount_point: &Path, controller: &str) -> Hierarchy {
        let version = Version::V1 { controllers: vec![controller.into()], name: None };
        Hierarchy { mount_point: mount_point.into(), version }
    }

    #[cfg(test)]
    pub(super) fn fake_v2(mount_point: &Path, controllers: &[&str]) -> Hierarchy {
        let controllers = controllers.iter().map(|&name| name.into()).collect();
        Hierarchy { mount_point: mount_point.into(), version: Version::V2 { controllers } }
    }

    pub(super) fn is_v2(&self) -> bool {
        matches!(self.version, Version::V2 { .. })
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        let (Version::V1 { controllers, .. } | Version::V2 { controllers }) = &self.version;
        controllers.iter().any(|name| name == controller)
    }

    /// The folder of a cgroup.
    pub(super) fn folder(&self, path: &str) -> PathBuf {
        self.mount_point.join(path)
    }

    /// Makes the folders of a path.
    pub(super) fn make(&self, path: &str) -> Result<(), Error> {
        let target = self.folder(path);
        let fresh = !target.is_dir();
        if fresh {
            make_folders(&target).map_err(|error| Error::step(format!("make cgroup {}", target.display()), error))?;
        }
        match &self.version {
            Version::V2 { controllers } if !controllers.is_empty() => self.enable(path, controllers),
            Version::V1 { .. } if fresh && self.has("cpuset") => self.inherit_cpuset(path),
            _ => Ok(()),
        }
    }

    /// Hands the controllers down to the cgroup, level by level.
    fn enable(&self, path: &str, controllers: &[String]) -> Result<(), Error> {
        let mut folder = self.mount_point.clone();
        for part in path.split('/') {
            let file = folder.join("cgroup.subtree_control");
            let enabled = super::read(&file)?;
            let missing: Vec<String> = controllers
                .iter()
                .filter(|name| !enabled.split_whitespace().any(|known| known == name.as_str()))
                .map(|name| format!("+{name}"))
                .collect();
            // All at once is quick; one at a time when one of them, such as cpu with real-time processes about, cannot be had.
            if !missing.is_empty() && write(&file, &missing.join(" ")).is_err() {
                for name in &missing {
                    // A limit that needs it fails by its own file with the reason.
                    let _ = write(&file, name);
                }
            }
            folder.push(part);
        }
        Ok(())
    }

    /// A new v1 cpuset is empty and takes no process before it has processors and memory.
    fn inherit_cpuset(&self, path: &str) -> Result<(), Error> {
        let mut folder = self.mount_point.clone();
        for part in path.split('/') {
            let parent = folder.clone();
            folder.push(part);
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if super::read(&folder.join(file))?.trim().is_empty() {
                    write(&folder.join(file), super::read(&parent.join(file))?.trim())?;
                }
            }
        }
        Ok(())
    }

    /// How a container sees it.
    pub(super) fn view(&self, path: &str) -> CgroupView {
        let host_path = self.folder(path);
        match &self.version {
            Version::V2 { .. } => CgroupView { name: None, links: Vec::new(), parameters: Vec::new(), host_path },
            Version::V1 { controllers, name } => {
                let folder = self.mount_point.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let mut parameters: Vec<(String, Option<String>)> =
                    controllers.iter().map(|controller| (controller.clone(), None)).collect();
                parameters.extend(name.iter().map(|name| ("name".into(), Some(name.clone()))));
                CgroupView { name: Some(folder), links: controllers.clone(), parameters, host_path }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
34 30 0:27 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn hybrid_host_is_read() {
        let found = parse(HYBRID);
        assert_eq!(found.len(), 3);
        assert!(found[0].has("cpu") && found[0].has("cpuacct") && !found[0].is_v2());
        assert!(found[2].is_v2());
        let view = found[0].view("a/b");
        assert_eq!(view.name.as_deref(), Some("cpu,cpuacct"));
        assert_eq!(view.links, ["cpu", "cpuacct"]);
        assert_eq!(view.host_path, Path::new("/sys/fs/cgroup/cpu,cpuacct/a/b"));
        assert_eq!(found[1].view("x").parameters, [("name".to_owned(), Some("systemd".to_owned()))]);
    }

    #[test]
    fn unified_host_is_read() {
        let found =
            parse("28 24 0:25 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].is_v2() && found[0].view("x").name.is_none());
    }
}
