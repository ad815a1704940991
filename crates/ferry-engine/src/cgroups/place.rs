//! Where the cgroups of an instance lie, and which of them systemd makes.
//!
//! ```text
//! cgroupfs   /ferry-<instance>/<id>                              --cgroup-parent /x: /x/<id>
//! systemd    /system.slice/ferry-<instance>-<id>.scope           --cgroup-parent a-b.slice: /a.slice/a-b.slice/…
//! ```
//! A scope is made and stopped by the shim, by way of systemd. Here one is only found: what has no shim any more is killed, and its
//! folder goes with the scope, which systemd stops when it is empty.

use std::fs;
use std::path::Path;

use ferry_spec::runtime::ScopeName;

use super::{Abilities, Mounts};
use crate::config::{CgroupDriver, EngineConfig};

/// How the folder of a scope ends.
const SCOPE: &str = ".scope";
/// How the name of a slice ends.
const SLICE: &str = ".slice";

/// Where one cgroup lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Below the root of each hierarchy, such as `/ferry-1a2b3c4d/<id>`.
    pub(crate) path: String,
    /// The scope that it is.
    pub(crate) scope: Option<ScopeName>,
}

/// Where those of one instance lie.
#[derive(Debug, Clone)]
pub(crate) struct Places<'a> {
    instance: &'a str,
    driver: CgroupDriver,
    parent: Option<&'a str>,
    /// systemd runs here and has v2 for itself.
    systemd_host: bool,
}

impl<'a> Places<'a> {
    /// Those that the configuration asks for.
    pub(crate) fn new(config: &'a EngineConfig, instance: &'a str) -> Self {
        let systemd_host = Abilities::of_host().unified && Path::new("/run/systemd/system").is_dir();
        Self { instance, driver: config.cgroup_driver, parent: config.cgroup_parent.as_deref(), systemd_host }
    }

    /// Of a container, which may ask for another parent.
    pub(crate) fn container(&self, asked_parent: &str, id: &str) -> Place {
        let parent = Some(asked_parent).filter(|parent| !parent.is_empty()).or(self.parent);
        match (self.is_scope(parent), parent) {
            (true, slice) => self.scope(slice.unwrap_or_default(), "", id),
            (false, Some(parent)) => folder(&ferry_spec::path::clean_rooted(parent), id),
            (false, None) => folder(&format!("/{}", self.mark()), id),
        }
    }

    /// Of all shims.
    pub(crate) fn shims(&self) -> Place {
        match self.is_scope(None) {
            true => self.scope("", "", "shims"),
            false => Place { path: format!("/{}-shims", self.mark()), scope: None },
        }
    }

    /// Of a managed plugin.
    pub(crate) fn plugin(&self, id: &str) -> Place {
        match self.is_scope(None) {
            true => self.scope("", "-plugin", id),
            false => folder(&self.plugins(), id),
        }
    }

    /// The folder around those of plugins, where they have one.
    pub(crate) fn plugins(&self) -> String {
        format!("/{}-plugins", self.mark())
    }

    /// Scopes of containers that nobody knows.
    pub(crate) fn stale_scopes(&self, is_known: impl Fn(&str) -> bool) -> Vec<String> {
        stale_scopes(&format!("{}-", self.mark()), is_known)
    }

    /// Scopes of plugins that nobody knows.
    pub(crate) fn stale_plugin_scopes(&self, is_known: impl Fn(&str) -> bool) -> Vec<String> {
        stale_scopes(&format!("{}-plugin-", self.mark()), is_known)
    }

    /// What every cgroup of this instance has in its name.
    fn mark(&self) -> String {
        format!("ferry-{}", self.instance)
    }

    /// Where nothing is configured, who names a slice means systemd's.
    fn is_scope(&self, parent: Option<&str>) -> bool {
        match self.driver {
            CgroupDriver::Systemd => true,
            CgroupDriver::Cgroupfs => false,
            CgroupDriver::Unset => self.systemd_host && parent.is_some_and(is_slice),
        }
    }

    fn scope(&self, slice: &str, more: &str, name: &str) -> Place {
        let scope = ScopeName::new(slice, &format!("{}{more}", self.mark()), name);
        // A name that systemd does not take is told by the start, which then makes nothing.
        let path = scope.cgroup().unwrap_or_else(|_| format!("/{}", scope.unit()));
        Place { path, scope: Some(scope) }
    }
}

/// Docker's rule for the parent of a scope.
pub(crate) fn is_slice(parent: &str) -> bool {
    parent.len() > SLICE.len() && parent.ends_with(SLICE)
}

/// Whether systemd made it, and removes it.
pub(crate) fn is_scope(cgroup: &str) -> bool {
    cgroup.ends_with(SCOPE)
}

fn folder(parent: &str, id: &str) -> Place {
    // The root is itself a slash.
    Place { path: format!("{}/{id}", parent.trim_end_matches('/')), scope: None }
}

fn stale_scopes(prefix: &str, is_known: impl Fn(&str) -> bool) -> Vec<String> {
    let mounts = Mounts::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    let mut found = Vec::new();
    if let Some(tree) = mounts.v2.filter(|_| mounts.v1.is_empty()) {
        collect_scopes(&tree, "", prefix, &is_known, &mut found);
    }
    found
}

/// Scopes lie in slices alone.
fn collect_scopes(tree: &Path, slice: &str, prefix: &str, is_known: &impl Fn(&str) -> bool, found: &mut Vec<String>) {
    for entry in fs::read_dir(tree.join(slice.trim_start_matches('/'))).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{slice}/{name}");
        if name.ends_with(SLICE) {
            collect_scopes(tree, &path, prefix, is_known, found);
        } else if let Some(id) = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(SCOPE)) {
            let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_id && !is_known(id) {
                found.push(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(driver: CgroupDriver, parent: Option<&str>, systemd_host: bool) -> Places<'_> {
        Places { instance: "1a2b", driver, parent, systemd_host }
    }

    #[test]
    fn folders_are_below_the_instance_or_the_parent() {
        let places = places(CgroupDriver::Unset, None, true);
        assert_eq!(places.container("", "x"), folder("/ferry-1a2b", "x"));
        assert_eq!(places.container("a//../b/.", "x").path, "/b/x");
        assert_eq!(places.container("/", "x").path, "/x");
        assert_eq!((places.shims().path.as_str(), places.shims().scope), ("/ferry-1a2b-shims", None));
        assert_eq!(places.plugin("p").path, "/ferry-1a2b-plugins/p");
    }

    #[test]
    fn scopes_are_in_slices() {
        let systemd = places(CgroupDriver::Systemd, None, false);
        let place = systemd.container("", "x");
        assert_eq!(place.path, "/system.slice/ferry-1a2b-x.scope");
        assert_eq!(place.scope.unwrap().to_string(), "system.slice:ferry-1a2b:x");
        assert_eq!(systemd.container("a-b.slice", "x").path, "/a.slice/a-b.slice/ferry-1a2b-x.scope");
        assert_eq!(systemd.shims().path, "/system.slice/ferry-1a2b-shims.scope");
        assert_eq!(systemd.plugin("p").path, "/system.slice/ferry-1a2b-plugin-p.scope");
        let configured = places(CgroupDriver::Systemd, Some("c.slice"), true);
        assert_eq!(configured.container("", "x").path, "/c.slice/ferry-1a2b-x.scope");
        assert_eq!(configured.container("d.slice", "x").path, "/d.slice/ferry-1a2b-x.scope");
        assert_eq!(configured.container("/d", "x").scope.unwrap().slice, "/d", "which the start refuses");
    }

    #[test]
    fn who_names_a_slice_gets_a_scope_where_nothing_else_is_configured() {
        let path = |driver, systemd_host| places(driver, None, systemd_host).container("a-b.slice", "x").path;
        assert_eq!(path(CgroupDriver::Unset, true), "/a.slice/a-b.slice/ferry-1a2b-x.scope");
        assert_eq!(path(CgroupDriver::Unset, false), "/a-b.slice/x");
        assert_eq!(path(CgroupDriver::Cgroupfs, true), "/a-b.slice/x");
    }

    #[test]
    fn scopes_that_nobody_knows_are_found_in_every_slice() {
        let (known, stale) = ("a".repeat(64), "b".repeat(64));
        let tree = tempfile::tempdir().unwrap();
        for path in [
            format!("system.slice/ferry-1a2b-{known}.scope"),
            format!("u.slice/u-v.slice/ferry-1a2b-{stale}.scope"),
            format!("system.slice/ferry-9999-{stale}.scope"),
            format!("system.slice/ferry-1a2b-plugin-{stale}.scope"),
            "system.slice/ferry-1a2b-shims.scope".to_owned(),
            format!("elsewhere/ferry-1a2b-{stale}.scope"),
        ] {
            fs::create_dir_all(tree.path().join(path)).unwrap();
        }
        let mut found = Vec::new();
        collect_scopes(tree.path(), "", "ferry-1a2b-", &|id| id == known, &mut found);
        assert_eq!(found, [format!("/u.slice/u-v.slice/ferry-1a2b-{stale}.scope")]);
    }
}
