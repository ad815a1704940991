//! Mounts as the configuration words them, made into attributes, propagation and file system parameters.

use std::path::{Path, PathBuf};

use ferry_spec::runtime::Mount;
use ferry_sys::mount::{self, Attributes, Propagation};

use crate::error::Error;

/// One mount, ready to be made.
#[derive(Debug)]
pub(crate) struct MountPlan {
    /// Absolute path inside the container.
    pub(crate) destination: String,
    pub(crate) source: MountSource,
    /// Of the mount itself.
    pub(crate) attributes: Attributes,
    /// Of the mount and everything in it (`rro` and its like).
    pub(crate) recursive_attributes: Attributes,
    /// With everything in it.
    pub(crate) propagation: Option<(Propagation, bool)>,
    /// SELinux label of the root, given once it is there: the file system takes none for all of its files.
    pub(crate) root_label: Option<String>,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum MountSource {
    /// A folder or file of the host, with everything mounted in it when `recursive`.
    Bind { path: PathBuf, recursive: bool },
    /// The container's view of its cgroups.
    Cgroup { read_only: bool },
    /// A new file system.
    FileSystem {
        kind: String,
        source: String,
        /// Parameters; flags have no value.
        parameters: Vec<(String, Option<String>)>,
    },
}

impl MountPlan {
    pub(crate) fn new(mount: &Mount, bundle: Option<&Path>) -> Result<MountPlan, Error> {
        let destination = mount.destination.as_str();
        let invalid = |what: &str| Error::invalid(format!("invalid mount at {destination:?}: {what}"));
        if !destination.starts_with('/') || destination.contains('\0') {
            return Err(invalid("the destination is not absolute"));
        }
        if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
            return Err(Error::unsupported(format!("id-mapped mount at {destination} is not supported")));
        }
        let options = Options::parse(destination, &mount.options)?;
        let kind = mount.kind.as_deref().unwrap_or_default();
        let read_only = options.attributes.set & mount::READ_ONLY != 0;
        let source = if kind == "bind" || options.bind.is_some() {
            let source = mount.source.as_deref().filter(|source| !source.is_empty());
            let source = PathBuf::from(source.ok_or_else(|| invalid("a bind mount needs a source"))?);
            if let Some((name, _)) = options.parameters.first() {
                return Err(invalid(&format!("option {name:?} does not go with a bind mount")));
            }
            let path = match (source.is_absolute(), bundle) {
                (true, _) => source,
                (false, Some(bundle)) => bundle.join(source),
                (false, None) => return Err(invalid("the source is not absolute")),
            };
            MountSource::Bind { path, recursive: options.bind.unwrap_or(false) }
        } else if kind == "cgroup" || kind == "cgroup2" {
            MountSource::Cgroup { read_only }
        } else if kind.is_empty() {
            return Err(invalid("it has neither a type nor a bind option"));
        } else {
            MountSource::FileSystem {
                kind: kind.into(),
                source: mount.source.clone().unwrap_or_else(|| kind.into()),
                parameters: options.parameters,
            }
        };
        Ok(MountPlan {
            destination: destination.into(),
            source,
            attributes: options.attributes,
            recursive_attributes: options.recursive_attributes,
            propagation: options.propagation,
            root_label: None,
        })
    }

    /// Gives the files of a new file system a SELinux label, as runc does: those by which the kernel shows itself have labels of their own.
    pub(super) fn take_label(&mut self, label: &str) {
        let MountSource::FileSystem { kind, parameters, .. } = &mut self.source else { return };
        match kind.as_str() {
            "proc" | "sysfs" => {}
            "mqueue" => self.root_label = Some(label.into()),
            _ => parameters.push(("context".into(), Some(label.into()))),
        }
    }
}

#[derive(Default)]
struct Options {
    /// `Some(recursive)` for bind mounts.
    bind: Option<bool>,
    attributes: Attributes,
    recursive_attributes: Attributes,
    propagation: Option<(Propagation, bool)>,
    parameters: Vec<(String, Option<String>)>,
}

impl Options {
    fn parse(destination: &str, options: &[String]) -> Result<Options, Error> {
        let mut parsed = Options::default();
        for option in options {
            let recursive = option.strip_prefix('r').and_then(attribute);
            if let Some(change) = attribute(option) {
                apply(&mut parsed.attributes, change);
            } else if let Some(change) = recursive {
                apply(&mut parsed.recursive_attributes, change);
            } else if let Some(propagation) = propagation(option) {
                parsed.propagation = Some(propagation);
            } else {
                match option.as_str() {
                    "bind" => parsed.bind = Some(parsed.bind.unwrap_or(false)),
                    "rbind" => parsed.bind = Some(true),
                    // Words of mount(8) for what is so anyhow.
                    "defaults" | "" | "async" | "loud" | "nomand" | "norelatime" => {}
                    "tmpcopyup" | "idmap" | "ridmap" | "remount" | "mand" | "dirsync" => {
                        let text = format!("option {option:?} of the mount at {destination} is not supported");
                        return Err(Error::unsupported(text));
                    }
                    _ if option.contains('\0') => {
                        return Err(Error::invalid(format!(
                            "an option of the mount at {destination} has a NUL byte in it"
                        )));
                    }
                    _ => parsed.parameters.push(match option.split_once('=') {
                        Some((name, value)) => (name.into(), Some(value.into())),
                        None => (option.clone(), None),
                    }),
                }
            }
        }
        Ok(parsed)
    }
}

fn apply(attributes: &mut Attributes, (set, clear): (u64, u64)) {
    attributes.set = attributes.set & !clear & !conflicting_atime(set) | set;
    attributes.clear = attributes.clear & !set | clear;
}

/// The access time settings are one field: setting one of them takes the others' place.
fn conflicting_atime(set: u64) -> u64 {
    if set & mount::ATIME_MASK != 0 { mount::ATIME_MASK } else { 0 }
}

/// Attributes that an option sets and clears.
fn attribute(option: &str) -> Option<(u64, u64)> {
    Some(match option {
        "ro" => (mount::READ_ONLY, 0),
        "rw" => (0, mount::READ_ONLY),
        "nosuid" => (mount::NO_SUID, 0),
        "suid" => (0, mount::NO_SUID),
        "nodev" => (mount::NO_DEV, 0),
        "dev" => (0, mount::NO_DEV),
        "noexec" => (mount::NO_EXEC, 0),
        "exec" => (0, mount::NO_EXEC),
        "noatime" => (mount::NO_ATIME, mount::ATIME_MASK),
        "strictatime" => (mount::STRICT_ATIME, mount::ATIME_MASK),
        "relatime" | "atime" | "nostrictatime" => (0, mount::ATIME_MASK),
        "nodiratime" => (mount::NO_DIR_ATIME, 0),
        "diratime" => (0, mount::NO_DIR_ATIME),
        "nosymfollow" => (mount::NO_SYMLINK_FOLLOW, 0),
        "symfollow" => (0, mount::NO_SYMLINK_FOLLOW),
        _ => return None,
    })
}

/// Propagation of an option, and whether it holds for everything mounted below too.
pub(super) fn propagation(option: &str) -> Option<(Propagation, bool)> {
    Some(match option {
        "private" => (Propagation::Private, false),
        "rprivate" => (Propagation::Private, true),
        "slave" => (Propagation::Slave, false),
        "rslave" => (Propagation::Slave, true),
        "shared" => (Propagation::Shared, false),
        "rshared" => (Propagation::Shared, true),
        "unbindable" => (Propagation::Unbindable, false),
        "runbindable" => (Propagation::Unbindable, true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(kind: &str, source: &str, options: &[&str]) -> Result<MountPlan, Error> {
        let options = options.iter().map(|&option| option.into()).collect();
        let (kind, source) = (Some(kind.into()), Some(source.into()));
        MountPlan::new(&Mount { destination: "/d".into(), kind, source, options, ..Mount::default() }, None)
    }

    #[test]
    fn bind_options_become_attributes() {
        let plan = plan("bind", "/src", &["rbind", "ro", "rro", "nosuid", "rslave", "noatime"]).unwrap();
        assert!(matches!(plan.source, MountSource::Bind { recursive: true, .. }));
        assert_eq!(plan.attributes.set, mount::READ_ONLY | mount::NO_SUID | mount::NO_ATIME);
        assert_eq!(plan.attributes.clear, mount::ATIME_MASK);
        assert_eq!(plan.recursive_attributes.set, mount::READ_ONLY);
        assert_eq!(plan.propagation, Some((Propagation::Slave, true)));
    }

    #[test]
    fn last_option_wins() {
        let plan = plan("bind", "/src", &["bind", "ro", "rw"]).unwrap();
        assert_eq!((plan.attributes.set, plan.attributes.clear), (0, mount::READ_ONLY));
    }

    #[test]
    fn parameters_stay_with_the_file_system() {
        let plan = plan("tmpfs", "tmpfs", &["nosuid", "size=64k", "mode=755", "noswap"]).unwrap();
        let MountSource::FileSystem { parameters, .. } = plan.source else { panic!("not a file system") };
        assert_eq!(
            parameters,
            [("size".into(), Some("64k".into())), ("mode".into(), Some("755".into())), ("noswap".into(), None)]
        );
    }

    #[test]
    fn labels_go_where_runc_puts_them() {
        let labelled = |kind: &str| {
            let mut plan = plan(kind, kind, &["rw"]).unwrap();
            plan.take_label("u:r:t:s0:c1,c2");
            let MountSource::FileSystem { parameters, .. } = plan.source else { panic!("not a file system") };
            (parameters, plan.root_label)
        };
        let context = ("context".to_owned(), Some("u:r:t:s0:c1,c2".to_owned()));
        for kind in ["tmpfs", "devpts"] {
            assert_eq!(labelled(kind), (vec![context.clone()], None), "{kind}");
        }
        assert_eq!(labelled("mqueue"), (Vec::new(), Some("u:r:t:s0:c1,c2".to_owned())));
        for kind in ["proc", "sysfs"] {
            assert_eq!(labelled(kind), (Vec::new(), None), "{kind}");
        }
    }

    #[test]
    fn mounts_that_make_no_sense_are_refused() {
        assert!(plan("bind", "relative", &[]).is_err());
        assert!(plan("bind", "/src", &["size=1"]).unwrap_err().to_string().contains("size"));
        assert!(plan("tmpfs", "tmpfs", &["tmpcopyup"]).unwrap_err().to_string().contains("not supported"));
        assert!(plan("", "/src", &["ro"]).is_err());
    }
}
