//! The leak checker: what a sandbox's kernel and daemon hold, as sets of lines, before and after.
//!
//! Everything is compared for equality. Nothing is forgiven by name; a test that means to leave
//! something (an image, a bridge made with the first container) does so before its first snapshot.
//! Left out on purpose: contents of files, counters, link-local addresses (the kernel makes them
//! when a bridge first gets a port), link states, and the `.new` of a record's name (it is renamed
//! with the next group of syncs, at the latest a second later).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::{Daemon, Sandbox, wait};

/// How long traces may take to go after the last reply, on a machine that does ten other things.
pub const LIMIT: Duration = Duration::from_secs(30);
/// So often in a row nothing may have changed for a sandbox to hold still.
const LOOKS: u32 = 2;

/// Prints what only a process inside can see, each line with its sort before a tab.
const PROBE: &str = r#"
ip -o link | sed -E 's/^[0-9]+: ([^:@]+).*/link\t\1/'
ip -o addr | awk '$4 !~ /^fe80:/ { print "address\t" $2 " " $4 }'
ip -4 route show table all | sed -E '/^(multicast)/d; s/ (linkdown|metric [0-9]+|pref [a-z]+)//g; s/^/route\t/'
ip -6 route show table all | sed -E '/^(local |anycast |)(fe80|multicast|ff00)/d; s/ (linkdown|metric [0-9]+|pref [a-z]+)//g; s/^/route\t/'
find /sys/fs/cgroup -mindepth 1 -type d -printf 'cgroup\t%p\n' 2>/dev/null
for file in /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv4/conf/*/route_localnet \
    /proc/sys/net/ipv6/conf/*/forwarding; do
    printf 'sysctl\t%s=%s\n' $file $(cat $file)
done
nft -j list ruleset | sed 's/^/nft\t/'
"#;

/// What exists at one moment, by sort.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    sorts: BTreeMap<String, BTreeSet<String>>,
}

impl Snapshot {
    /// Looks at a sandbox and, file by file, at `roots` (paths inside).
    #[must_use]
    pub fn take(sandbox: &Arc<Sandbox>, roots: &[PathBuf]) -> Self {
        let mut snapshot = Self::default();
        // First, so that the probe's own processes are gone when /proc is read.
        for line in sandbox.sh(PROBE).out().lines() {
            match line.split_once('\t') {
                Some(("nft", json)) => snapshot.rules(json),
                Some((sort, rest)) => snapshot.add(sort, rest),
                None => {}
            }
        }
        snapshot.mounts(sandbox);
        snapshot.processes(sandbox);
        snapshot.sockets(sandbox);
        for root in roots {
            snapshot.files(&sandbox.host_path(root), root);
        }
        snapshot
    }

    fn add(&mut self, sort: &str, line: impl Into<String>) {
        self.sorts.entry(sort.to_owned()).or_default().insert(line.into());
    }

    /// Adds a line that may occur several times; the count is part of it.
    fn count(&mut self, sort: &str, line: &str) {
        let set = self.sorts.entry(sort.to_owned()).or_default();
        let number = (1..).find(|number| !set.contains(&format!("{line} #{number}"))).unwrap_or(0);
        set.insert(format!("{line} #{number}"));
    }

    fn rules(&mut self, json: &str) {
        let parsed: Value = serde_json::from_str(json).unwrap_or_default();
        for object in parsed["nftables"].as_array().into_iter().flatten() {
            if object.get("metainfo").is_none() {
                let mut object = object.clone();
                strip(&mut object);
                self.count("rule", &object.to_string());
            }
        }
    }

    fn mounts(&mut self, sandbox: &Sandbox) {
        let text = std::fs::read_to_string(format!("/proc/{}/mountinfo", sandbox.init())).unwrap_or_default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let kind = words.iter().position(|word| *word == "-").and_then(|at| words.get(at + 1)).unwrap_or(&"");
            if let (Some(root), Some(point)) = (words.get(3), words.get(4)) {
                self.count("mount", &format!("{kind} {root} on {point}"));
            }
        }
    }

    fn processes(&mut self, sandbox: &Sandbox) {
        let proc = sandbox.host_path("/proc");
        for entry in std::fs::read_dir(&proc).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let path = entry.path();
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let state = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
            if state.contains(") Z ") {
                let command = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
                self.count("process", &format!("zombie {}", command.trim()));
            } else if !line.is_empty() {
                self.count("process", line.trim());
            }
            self.namespaces(&path);
        }
    }

    fn namespaces(&mut self, process: &Path) {
        for entry in std::fs::read_dir(process.join("ns")).into_iter().flatten().flatten() {
            if let Ok(target) = std::fs::read_link(entry.path()) {
                self.add("namespace", target.display().to_string());
            }
        }
        for entry in std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            if let Ok(target) = std::fs::read_link(entry.path()) {
                let target = target.display().to_string();
                let kinds = ["net:[", "mnt:[", "pid:[", "ipc:[", "uts:[", "user:[", "cgroup:["];
                if kinds.iter().any(|kind| target.starts_with(kind)) {
                    self.add("namespace", target);
                }
            }
        }
    }

    fn sockets(&mut self, sandbox: &Sandbox) {
        let table =
            |name: &str| std::fs::read_to_string(format!("/proc/{}/net/{name}", sandbox.init())).unwrap_or_default();
        for name in ["tcp", "tcp6", "udp", "udp6"] {
            for line in table(name).lines().skip(1) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let (Some(local), Some(state)) = (words.get(1), words.get(3)) else { continue };
                // 0A is LISTEN; a UDP socket that is bound has 07.
                if *state == "0A" || (name.starts_with("udp") && *state == "07") {
                    self.add("port", format!("{name} {local}"));
                }
            }
        }
        for line in table("unix").lines().skip(1) {
            if let Some(path) = line.split_whitespace().nth(7) {
                // A listener may be bound under a numbered name and renamed into its place.
                self.add("unix socket", path.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit()));
            }
        }
    }

    fn files(&mut self, seen: &Path, name: &Path) {
        for entry in std::fs::read_dir(seen).into_iter().flatten().flatten() {
            let inside = name.join(entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            let sort = if kind.is_dir() {
                "directory"
            } else if kind.is_socket() || kind.is_fifo() {
                "special file"
            } else {
                "file"
            };
            let shown = inside.display().to_string();
            self.add(sort, shown.strip_suffix(".new").unwrap_or(&shown));
            if kind.is_dir() {
                self.files(&entry.path(), &inside);
            }
        }
    }

    /// Lists what is in only one of two snapshots, a line each: `+` came, `-` went.
    #[must_use]
    pub fn differences(&self, after: &Self) -> Vec<String> {
        let none = BTreeSet::new();
        let sorts: BTreeSet<&String> = self.sorts.keys().chain(after.sorts.keys()).collect();
        let mut lines = Vec::new();
        for sort in sorts {
            let (old, new) = (self.sorts.get(sort).unwrap_or(&none), after.sorts.get(sort).unwrap_or(&none));
            lines.extend(new.difference(old).map(|line| format!("+ {sort}: {line}")));
            lines.extend(old.difference(new).map(|line| format!("- {sort}: {line}")));
        }
        lines
    }
}

/// Takes off what changes by itself: handles, counters, remaining times.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for key in ["handle", "packets", "bytes", "expires", "index"] {
                map.remove(key);
            }
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Says whether any container publishes a port now.
fn published(daemon: &Daemon) -> bool {
    !daemon.run(&["ps", "--format", "{{.Ports}}"]).out().trim().is_empty()
}

/// Remembers a state, to be compared later.
#[derive(Debug)]
pub struct Watch {
    sandbox: Arc<Sandbox>,
    roots: Vec<PathBuf>,
    before: Snapshot,
}

impl Watch {
    /// Begins to watch a sandbox and the files below `roots`, once they hold still.
    ///
    /// # Panics
    /// When they do not within the limit.
    #[must_use]
    #[track_caller]
    pub fn begin(sandbox: &Arc<Sandbox>, roots: &[PathBuf]) -> Self {
        let mut last = Snapshot::take(sandbox, roots);
        let mut still = 0;
        let before = wait::until("the sandbox to hold still", LIMIT, || {
            let now = Snapshot::take(sandbox, roots);
            still = if now == last { still + 1 } else { 0 };
            last = now;
            (still == LOOKS).then(|| last.clone())
        });
        let before = before.expect("nothing else runs in the sandbox");
        Self { sandbox: Arc::clone(sandbox), roots: roots.to_vec(), before }
    }

    /// Begins to watch a daemon that has had one container with a published port: what it makes
    /// once and keeps (bridge, table, parent cgroups) is there already.
    ///
    /// # Panics
    /// When that container does not run.
    #[must_use]
    #[track_caller]
    pub fn daemon(daemon: &Daemon) -> Self {
        let _ = daemon.run(&["run", "--rm", "-p", "127.0.0.1:39999:9", "busybox", "true"]).ok();
        // The holder of published ports stays a little after the last of them.
        let holder = || daemon.sandbox().sh("pgrep -f '^ferry-netd serve'").code == 0;
        let gone = wait::until("the holder of ports to go", LIMIT, || (!holder() || published(daemon)).then_some(()));
        gone.expect("it ends when it holds nothing");
        Self::begin(daemon.sandbox(), &[daemon.data_root(), daemon.exec_root()])
    }

    /// Compares the state with the first one, giving traces some time to go.
    ///
    /// # Errors
    /// Lists what is left or missing when the limit passes.
    pub fn end(&self) -> Result<()> {
        self.end_within(LIMIT)
    }

    /// Compares like [`Watch::end`], within `limit`.
    ///
    /// # Errors
    /// Lists what is left or missing when the limit passes.
    pub fn end_within(&self, limit: Duration) -> Result<()> {
        let mut left = Vec::new();
        let clean = wait::until("traces to go", limit, || {
            left = self.before.differences(&Snapshot::take(&self.sandbox, &self.roots));
            left.is_empty().then_some(())
        });
        if clean.is_err() {
            bail!("{} traces left after {limit:?}:\n{}", left.len(), left.join("\n"));
        }
        Ok(())
    }
}
