//! The labels that the host's policy has for containers.

use std::fs;
use std::path::Path;

/// Where distributions with a policy for containers keep them.
const OF_CONTAINERS: &str = "usr/share/containers/selinux/contexts";

/// Labels as the policy's files give them; empty ones where it knows no containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PolicyLabels {
    /// Of processes.
    pub(super) process: String,
    /// Of files.
    pub(super) file: String,
    /// Of files that all may read.
    pub(super) read_only_file: String,
}

impl PolicyLabels {
    /// Reads them below `root`.
    pub(super) fn read(root: &Path) -> Self {
        let text = fs::read_to_string(root.join(OF_CONTAINERS)).or_else(|_| {
            let config = fs::read_to_string(root.join("etc/selinux/config")).unwrap_or_default();
            let policy = value(&config, "SELINUXTYPE").unwrap_or_default();
            fs::read_to_string(root.join("etc/selinux").join(policy).join("contexts/lxc_contexts"))
        });
        Self::parse(&text.unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let label = |key| value(text, key).unwrap_or_default();
        Self { process: label("process"), file: label("file"), read_only_file: label("ro_file") }
    }
}

/// The value of the last line for `key`.
fn value(text: &str, key: &str) -> Option<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with([';', '#']));
    let mut values = lines.filter_map(|line| line.split_once('=')).filter(|(found, _)| found.trim() == key);
    values.next_back().map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_from_the_policys_own_files() {
        let root = std::env::temp_dir().join(format!("ferry-policy-{}", crate::ids::random_id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(PolicyLabels::read(&root), PolicyLabels::default());
        write("etc/selinux/config", "# SELINUXTYPE=other\nSELINUX=permissive\nSELINUXTYPE=\"mine\"\n");
        write(
            "etc/selinux/mine/contexts/lxc_contexts",
            "process = \"system_u:system_r:container_t:s0\"\n; file = \"no\"\nfile = \"system_u:object_r:container_file_t:s0\"\n\
             ro_file=\"system_u:object_r:container_ro_file_t:s0\"\n",
        );
        let labels = PolicyLabels::read(&root);
        assert_eq!(labels.process, "system_u:system_r:container_t:s0");
        assert_eq!(labels.file, "system_u:object_r:container_file_t:s0");
        assert_eq!(labels.read_only_file, "system_u:object_r:container_ro_file_t:s0");
        write(OF_CONTAINERS, "process=\"a:b:c:s0\"\nfile=\"a:b:d:s0\"\n");
        assert_eq!(PolicyLabels::read(&root).process, "a:b:c:s0");
        fs::remove_dir_all(root).unwrap();
    }
}
