//! SELinux labels of containers: which each gets, and giving them to what a container finds of the host's.
//!
//! Owns the categories that tell containers apart: two have the same only when they are asked for. Leaves out how a process or a mount comes to have
//! its label, which is the runtime's.

mod categories;
mod context;
mod policy;
mod sources;

use std::path::Path;
use std::sync::Arc;

use self::categories::Categories;
pub(crate) use self::categories::Category;
use self::context::SecurityContext;
use self::policy::PolicyLabels;
use crate::error::{Error, Result};

/// What containers have where nobody may get at their files: no confined process has these.
const UNREACHED: &str = "s0:c1022,c1023";
/// What everybody may get at.
const SHARED: &str = "s0";

/// Labels for containers; empty ones where `selinux-enabled` is off, or the host has no SELinux.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selinux {
    in_use: Option<Arc<InUse>>,
}

#[derive(Debug)]
struct InUse {
    labels: PolicyLabels,
    categories: Categories,
    /// Held for good.
    _unreached: Option<Category>,
}

/// The labels of one container, and what makes them its own until it goes.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// Of its processes; empty is the engine's own.
    pub(crate) process: String,
    /// Of its files; empty is none.
    pub(crate) mount: String,
    /// Given back with the container.
    pub(crate) category: Option<Category>,
}

impl Selinux {
    /// Looks at the host. What is asked for in vain is logged, as by dockerd.
    pub(crate) fn of_host(asked: bool) -> Self {
        if !asked {
            return Self::default();
        }
        if !ferry_sys::selinux::is_enabled() {
            tracing::warn!("could not enable SELinux on the host system: it is disabled or not supported there");
            return Self::default();
        }
        Self::with(PolicyLabels::read(Path::new("/")))
    }

    fn with(labels: PolicyLabels) -> Self {
        let categories = Categories::default();
        let unreached = categories.reserve(UNREACHED);
        Self { in_use: Some(Arc::new(InUse { labels, categories, _unreached: unreached })) }
    }

    /// Chooses the labels of a new container by the `label` options among its `SecurityOpt`.
    ///
    /// # Errors
    /// For an option that is none, in Docker's words; when every pair of categories is taken.
    pub(crate) fn choose(&self, options: &[String]) -> Result<Labels> {
        match &self.in_use {
            Some(in_use) => in_use.choose(options),
            None => Ok(Labels::default()),
        }
    }

    /// Keeps what a container of an earlier daemon has.
    pub(crate) fn keep(&self, process_label: &str) -> Option<Category> {
        let level = SecurityContext::parse(process_label)?.level?;
        self.in_use.as_ref()?.categories.reserve(&level)
    }

    /// The `label` options by which another container shares the label of a process; none for one that has no label.
    pub(crate) fn options_of(process_label: &str) -> Vec<String> {
        SecurityContext::parse(process_label).map(|context| context.as_options()).unwrap_or_default()
    }

    /// Lets every container read one of the engine's own files.
    pub(crate) fn show_to_containers(&self, file: &Path) {
        let Some(in_use) = &self.in_use else { return };
        let label = [&in_use.labels.read_only_file, &in_use.labels.file].into_iter().find(|label| !label.is_empty());
        if let Some(Err(error)) = label.map(|label| sources::relabel_own(file, label)) {
            tracing::warn!(error = %error.text(), "containers may not be able to use a file of the engine");
        }
    }
}

impl InUse {
    fn choose(&self, options: &[String]) -> Result<Labels> {
        if options.first().is_some_and(|option| option == "disable") {
            return Ok(self.unlabelled());
        }
        let (Some(mut process), Some(mut file)) =
            (SecurityContext::parse(&self.labels.process), SecurityContext::parse(&self.labels.file))
        else {
            // This policy knows no containers.
            return Ok(Labels { mount: self.labels.file.clone(), ..Labels::default() });
        };
        let mut category = None;
        if process.level.is_some() {
            let own = self.categories.draw()?;
            process.level = Some(own.level().to_owned());
            file.level.clone_from(&process.level);
            category = Some(own);
        }
        for option in options {
            if option == "disable" {
                return Ok(self.unlabelled());
            }
            let (key, value) = option.split_once(':').ok_or_else(|| bad_option(option))?;
            match key {
                "user" => {
                    value.clone_into(&mut process.user);
                    value.clone_into(&mut file.user);
                }
                "role" => value.clone_into(&mut process.role),
                "type" => value.clone_into(&mut process.kind),
                "filetype" => value.clone_into(&mut file.kind),
                "level" => {
                    process.level = (!value.is_empty()).then(|| value.to_owned());
                    file.level.clone_from(&process.level);
                    category = self.categories.reserve(value);
                }
                _ => return Err(bad_option(option)),
            }
        }
        Ok(Labels { process: process.to_string(), mount: file.to_string(), category })
    }

    /// Not confined, but its files are kept from those who are.
    fn unlabelled(&self) -> Labels {
        let mount = SecurityContext::parse(&self.labels.file).map(|context| context.at(UNREACHED).to_string());
        Labels { mount: mount.unwrap_or_default(), ..Labels::default() }
    }
}

/// With Docker's status too.
fn bad_option(option: &str) -> Error {
    Error::internal(format!(
        "bad label option {option:?}, valid options 'disable' or \n'user, role, level, type, filetype' followed by ':' and a value"
    ))
}

/// Gives a mount's source, by its path on the host, a container's label, or one that all containers share.
///
/// # Errors
/// Docker's, for places that belong to the whole host; what the kernel answers.
pub(crate) fn relabel_source(source: &Path, mount_label: &str, shared: bool) -> Result<()> {
    match label_for(mount_label, shared) {
        Some(label) => sources::relabel_source(source, &label),
        None => Ok(()),
    }
}

/// Gives what a descriptor stands for such a label; `name` is for messages.
///
/// # Errors
/// What the kernel answers.
pub(crate) fn relabel_tree(
    tree: std::os::fd::BorrowedFd<'_>,
    name: &str,
    mount_label: &str,
    shared: bool,
) -> Result<()> {
    match label_for(mount_label, shared) {
        Some(label) => sources::relabel_tree(tree, name, &label),
        None => Ok(()),
    }
}

/// Gives a file of the engine's own such a label.
///
/// # Errors
/// What the kernel answers.
pub(crate) fn relabel_own(file: &Path, mount_label: &str, shared: bool) -> Result<()> {
    match label_for(mount_label, shared) {
        Some(label) => sources::relabel_own(file, &label),
        None => Ok(()),
    }
}

fn label_for(mount_label: &str, shared: bool) -> Option<String> {
    // Labels of a time when the host had SELinux.
    if mount_label.is_empty() || !ferry_sys::selinux::is_enabled() {
        return None;
    }
    let context = SecurityContext::parse(mount_label)?;
    Some(if shared { context.at(SHARED).to_string() } else { context.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selinux() -> Selinux {
        Selinux::with(PolicyLabels {
            process: "system_u:system_r:container_t:s0".into(),
            file: "system_u:object_r:container_file_t:s0".into(),
            read_only_file: String::new(),
        })
    }

    fn options(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn chosen(words: &[&str]) -> (String, String) {
        let labels = selinux().choose(&options(words)).unwrap();
        (labels.process, labels.mount)
    }

    #[test]
    fn each_container_has_categories_of_its_own() {
        let selinux = selinux();
        let (one, other) = (selinux.choose(&[]).unwrap(), selinux.choose(&[]).unwrap());
        let level = one.process.strip_prefix("system_u:system_r:container_t:").unwrap();
        assert!(level.starts_with("s0:c") && level.contains(",c"), "{level}");
        assert_eq!(one.mount, format!("system_u:object_r:container_file_t:{level}"));
        assert_ne!(one.process, other.process);
        assert_eq!(one.category.as_ref().unwrap().level(), level);
    }

    #[test]
    fn options_change_parts_of_the_labels() {
        let (process, mount) = chosen(&["type:other_t", "level:s0:c1,c2", "role:r", "user:u", "filetype:f_t"]);
        assert_eq!((process.as_str(), mount.as_str()), ("u:r:other_t:s0:c1,c2", "u:object_r:f_t:s0:c1,c2"));
        let unreached = "system_u:object_r:container_file_t:s0:c1022,c1023";
        assert_eq!(chosen(&["disable"]), (String::new(), unreached.to_owned()));
        assert_eq!(chosen(&["type:x_t", "disable"]), (String::new(), unreached.to_owned()));
    }

    #[test]
    fn other_options_are_refused_in_dockers_words() {
        for word in ["nonsense", "colour:red", "nested"] {
            assert_eq!(
                selinux().choose(&options(&[word])).unwrap_err().text(),
                format!(
                    "bad label option \"{word}\", valid options 'disable' or \n'user, role, level, type, filetype' followed by ':' and a value"
                )
            );
            // Where nobody looks at labels, nobody looks at these.
            assert!(Selinux::default().choose(&options(&[word])).is_ok());
        }
    }

    #[test]
    fn a_label_is_shared_by_its_parts() {
        let words = Selinux::options_of("system_u:system_r:container_t:s0:c3,c4");
        assert_eq!(words, ["user:system_u", "role:system_r", "type:container_t", "level:s0:c3,c4"]);
        let selinux = selinux();
        let kept = selinux.keep("system_u:system_r:container_t:s0:c3,c4");
        let sharing = selinux.choose(&words).unwrap();
        assert_eq!(sharing.process, "system_u:system_r:container_t:s0:c3,c4");
        assert_eq!(sharing.mount, "system_u:object_r:container_file_t:s0:c3,c4");
        assert!(kept.is_some() && Selinux::options_of("").is_empty());
    }

    #[test]
    fn a_policy_without_containers_labels_no_process() {
        let bare = Selinux::with(PolicyLabels { process: String::new(), ..PolicyLabels::default() });
        let labels = bare.choose(&[]).unwrap();
        assert_eq!((labels.process.as_str(), labels.mount.as_str()), ("", ""));
    }
}
