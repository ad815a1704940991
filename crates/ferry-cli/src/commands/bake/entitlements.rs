//! What a definition may do on this side without being asked for: read and write below the working folder, no more. Whatever else its targets
//! want has to be granted, by `--allow` or at the terminal. A definition may be somebody else's. Words and rules are buildx's.

use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::remote::is_remote;
use super::run::Chosen;
use super::target::{Target, entry};
use crate::commands::build::layout;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{go_quote, parse_bool};
use crate::output::stdin_is_terminal;

/// Rights: granted ones, or those that are missing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    host_network: bool,
    insecure: bool,
    /// All devices, or these.
    all_devices: bool,
    devices: BTreeSet<String>,
    ssh: bool,
    reads: BTreeSet<PathBuf>,
    writes: BTreeSet<PathBuf>,
    reads_all: bool,
    writes_all: bool,
}

fn failed(text: impl std::fmt::Display) -> Failure {
    Failure::new(format!("ERROR: {text}"))
}

impl Rights {
    /// Reads `--allow`; what lies below the working folder is granted to everybody.
    pub(super) fn granted(allowed: &[String], working: &Path) -> Result<Self> {
        let mut rights = Self::default();
        let working = existing(working).0;
        rights.reads.insert(working.clone());
        rights.writes.insert(working);
        for word in allowed {
            if rights.grant_word(word) {
                continue;
            }
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "device" if value.is_empty() => rights.all_devices = true,
                "device" => drop(rights.devices.insert(device_name(value)?)),
                "fs.read" | "fs.write" | "fs" => {
                    if key != "fs.write" {
                        grant(&mut rights.reads, &mut rights.reads_all, value);
                    }
                    if key != "fs.read" {
                        grant(&mut rights.writes, &mut rights.writes_all, value);
                    }
                }
                "image.push" | "image.load" | "image" => {}
                other => return Err(failed(format!("unknown entitlement key {}", go_quote(other)))),
            }
        }
        Ok(rights)
    }

    /// Grants what is one word; tells whether this is.
    fn grant_word(&mut self, word: &str) -> bool {
        match word {
            "network.host" => self.host_network = true,
            "security.insecure" => self.insecure = true,
            "ssh" => self.ssh = true,
            _ => return false,
        }
        true
    }

    /// Grants what the user says of targets: who says where something goes grants that it goes there.
    pub(super) fn grant_overrides(&mut self, overrides: &[String]) {
        let said = overrides.iter().filter_map(|text| text.split_once('='));
        for (key, value) in said {
            let field = key.split('.').nth(1).unwrap_or_default().trim_end_matches('+');
            let field = if field == "secrets" { "secret" } else { field };
            if field == "entitlements" && value != "ssh" {
                self.grant_word(value);
                continue;
            }
            if !matches!(field, "cache-from" | "cache-to" | "output" | "secret" | "ssh") {
                continue;
            }
            // What cannot be read is told where it is used.
            let Ok(entry) = entry(field, value) else { continue };
            let target = Target::from_iter([(field.to_owned(), Value::Array(vec![entry]))]);
            self.reads.extend(fields_read(&target).iter().map(|path| existing(path)).map(joined));
            self.writes.extend(written_paths(&target).iter().map(|path| existing(path)).map(joined));
        }
    }

    /// Grants reading of a folder of ours.
    pub(super) fn grant_reading(&mut self, folder: &Path) {
        self.reads.insert(existing(folder).0);
    }

    /// What targets want beyond this.
    ///
    /// # Errors
    /// For a device that cannot be read.
    pub(super) fn missing(&self, chosen: &Chosen) -> Result<Self> {
        let mut missing = Self::default();
        let (mut reads, mut writes) = (BTreeSet::new(), BTreeSet::new());
        for target in chosen.targets.values() {
            self.missing_words(target, &mut missing)?;
            reads.extend(read_paths(target));
            writes.extend(written_paths(target));
        }
        if !self.reads_all {
            missing.reads = outside(&reads, &self.reads);
        }
        if !self.writes_all {
            missing.writes = outside(&writes, &self.writes);
        }
        Ok(missing)
    }

    fn missing_words(&self, target: &Target, missing: &mut Self) -> Result<()> {
        for word in texts(target, "entitlements") {
            match word.split_once('=').unwrap_or((word, "")) {
                ("network.host", _) => missing.host_network |= !self.host_network,
                ("security.insecure", _) => missing.insecure |= !self.insecure,
                ("device", "") => missing.all_devices |= !self.all_devices,
                ("device", name) => {
                    let name = device_name(name)?;
                    if !self.all_devices && !self.devices.contains(&name) {
                        missing.devices.insert(name);
                    }
                }
                _ => {}
            }
        }
        missing.ssh |= !self.ssh && entries(target, "ssh").any(|agent| agent.get("paths").is_none());
        Ok(())
    }

    /// What is missing, in words, and the flags that grant it: of steps, and of this side.
    fn told(&self, working: &Path) -> [Vec<(String, String)>; 2] {
        let (mut steps, mut side) = (Vec::new(), Vec::new());
        let mut step = |told: &str, flag: &str| steps.push((told.to_owned(), flag.to_owned()));
        if self.host_network {
            step("Running build containers that can access host network", "network.host");
        }
        if self.insecure {
            step("Running privileged containers that can make system changes", "security.insecure");
        }
        if self.all_devices {
            step("Access to CDI devices", "device");
        } else {
            for name in &self.devices {
                step(&format!("Access to device {name}"), &format!("device={name}"));
            }
        }
        if self.ssh {
            side.push(("Forwarding default SSH agent socket".to_owned(), "ssh".to_owned()));
        }
        let both: BTreeSet<&PathBuf> = self.reads.intersection(&self.writes).collect();
        let alone = |paths: &'_ BTreeSet<PathBuf>| -> Vec<PathBuf> {
            paths.iter().filter(|path| !both.contains(path)).cloned().collect()
        };
        for (paths, told, flag) in [
            (both.iter().copied().cloned().collect(), "Read and write", "fs"),
            (alone(&self.reads), "Read", "fs.read"),
            (alone(&self.writes), "Write", "fs.write"),
        ] {
            for path in paths {
                let path = relative(&path, working);
                side.push((format!("{told} access to path {path}"), format!("{flag}={path}")));
            }
        }
        [steps, side]
    }

    /// Asks for what is missing, as far as somebody can be asked.
    pub(super) fn ask(&self, is_elsewhere: bool, working: &Path, context: &Context) -> Result<()> {
        let working = existing(working).0;
        let [steps, side] = self.told(&working);
        if steps.is_empty() && side.is_empty() {
            return Ok(());
        }
        let is_terminal = stdin_is_terminal();
        let all: Vec<&(String, String)> = steps.iter().chain(&side).collect();
        let mut text =
            "Your build is requesting privileges for following possibly insecure capabilities:\n\n".to_owned();
        all.iter().for_each(|(told, _)| text.push_str(&format!(" - {told}\n")));
        let flags = all.iter().map(|(_, flag)| format!("--allow={flag}")).collect::<Vec<_>>().join(" ");
        text.push_str(&match is_terminal {
            true => format!(
                "\nIn order to not see this message in the future pass {} to grant requested privileges.\n",
                go_quote(&flags)
            ),
            false => format!("\nPass {} to grant requested privileges.\n", go_quote(&flags)),
        });
        let words: Vec<String> = std::env::args().collect();
        if let Some(at) = words.iter().position(|word| word == "bake") {
            let (before, after) = words.split_at(at + 1);
            text.push_str("\nYour full command with requested privileges:\n\n");
            text.push_str(&format!("{} {flags} {}\n\n", before.join(" "), after.join(" ")));
        }
        let side_counts = checks_files(is_elsewhere)?;
        if !side_counts && steps.is_empty() {
            return Ok(());
        }
        if side_counts && !side.is_empty() && std::env::var_os(FILES_CHECKED).is_none() {
            text.push_str(&format!("To disable filesystem entitlements checks, you can set {FILES_CHECKED}=0 .\n\n"));
        }
        context.printer.error_bytes(text.as_bytes());
        if is_terminal && is_granted_at_the_terminal(context)? {
            return Ok(());
        }
        Err(failed("additional privileges requested"))
    }
}

/// The variable by which files are not checked.
const FILES_CHECKED: &str = "BUILDX_BAKE_ENTITLEMENTS_FS";

/// Whether paths outside of the working folder have to be granted.
fn checks_files(is_elsewhere: bool) -> Result<bool> {
    let read = |name: &str| match std::env::var(name) {
        Ok(value) => match parse_bool(&value) {
            Ok(truth) => Ok(Some(truth)),
            Err(reason) => Err(failed(format!("failed to parse {name} value {}: {reason}", go_quote(&value)))),
        },
        Err(_) => Ok(None),
    };
    let free = if is_elsewhere { read("BAKE_ALLOW_REMOTE_FS_ACCESS")? } else { None };
    Ok(read(FILES_CHECKED)?.unwrap_or(free != Some(true)))
}

fn is_granted_at_the_terminal(context: &Context) -> Result<bool> {
    context.printer.error_bytes(b"Do you want to grant requested privileges and continue? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn grant(paths: &mut BTreeSet<PathBuf>, all: &mut bool, value: &str) {
    match value {
        "*" => *all = true,
        path => drop(paths.insert(joined(existing(Path::new(path))))),
    }
}

fn joined((found, rest): (PathBuf, PathBuf)) -> PathBuf {
    if rest.as_os_str().is_empty() { found } else { found.join(rest) }
}

/// The device of `device=NAME[,alias=NAME]`.
fn device_name(value: &str) -> Result<String> {
    let wrong = |error| failed(format!("failed to parse device entitlement {}: {error}", go_quote(value)));
    let fields = ferry_dockerfile::csv::fields(value).map_err(wrong)?;
    Ok(fields.into_iter().next().unwrap_or_default())
}

fn texts<'a>(target: &'a Target, key: &str) -> impl Iterator<Item = &'a str> {
    target.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn entries<'a>(target: &'a Target, key: &str) -> impl Iterator<Item = &'a Value> {
    target.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// A path of this side, where a context is one.
fn local(context: &str) -> Option<&str> {
    let path = context.strip_prefix("cwd://").unwrap_or(context);
    let path = path.strip_prefix("oci-layout://").map_or(path, |written| layout(written).0);
    let is_elsewhere = is_remote(path) || ["docker-image://", "target:"].iter().any(|kind| path.starts_with(kind));
    match path {
        "-" => None,
        "" => Some("."),
        path => (!is_elsewhere).then_some(path),
    }
}

fn read_paths(target: &Target) -> Vec<PathBuf> {
    let one = |key: &str| target.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut paths: Vec<PathBuf> = Vec::new();
    let context = local(one("context").unwrap_or("."));
    paths.extend(context.map(PathBuf::from));
    if let Some(file) = one("dockerfile").filter(|_| one("dockerfile-inline").is_none()) {
        match (context, file.strip_prefix("cwd://")) {
            (_, Some(here)) => paths.push(here.into()),
            (Some(context), None) if !is_remote(file) => paths.push(Path::new(context).join(file)),
            // Of a context from elsewhere only a whole path is one of this side.
            (None, None) if file.starts_with('/') => paths.push(file.into()),
            _ => {}
        }
    }
    let named = target.get("contexts").and_then(Value::as_object).into_iter().flatten();
    paths.extend(named.filter_map(|(_, value)| local(value.as_str()?)).map(PathBuf::from));
    paths.extend(fields_read(target));
    paths
}

/// What a target's entries read of this side.
fn fields_read(target: &Target) -> Vec<PathBuf> {
    let text = |entry: &Value, name: &str| {
        let text = entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.map(str::to_owned)
    };
    let caches = entries(target, "cache-from").filter(|cache| cache["type"] == "local");
    let mut paths: Vec<PathBuf> = caches.filter_map(|cache| text(cache, "src")).map(PathBuf::from).collect();
    for secret in entries(target, "secret") {
        // Without a source it is the variable of its name, or else the file.
        let is_named = text(secret, "env").is_none();
        let is_set = |id: &String| std::env::var_os(id).is_some_and(|value| !value.is_empty());
        let by_name = || text(secret, "id").filter(|id| is_named && !is_set(id));
        paths.extend(text(secret, "src").or_else(by_name).map(PathBuf::from));
    }
    let agents = entries(target, "ssh").filter_map(|agent| text(agent, "paths"));
    paths.extend(agents.flat_map(|paths| paths.split(',').map(PathBuf::from).collect::<Vec<_>>()));
    paths
}

fn written_paths(target: &Target) -> Vec<PathBuf> {
    let caches = entries(target, "cache-to").filter(|cache| cache["type"] == "local");
    let all = entries(target, "output").chain(caches);
    let dest = all.filter_map(|entry| entry.get("dest").and_then(Value::as_str));
    dest.filter(|dest| *dest != "-").map(PathBuf::from).collect()
}

/// The paths that lie in none of the granted ones, without those below others.
fn outside(paths: &BTreeSet<PathBuf>, granted: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let is_granted = |path: &PathBuf| granted.iter().any(|folder| path.starts_with(folder));
    let wanted = paths.iter().map(|path| existing(path)).filter(|found| !is_granted(&joined(found.clone())));
    // Told as far as it is there, which is what would have to be granted.
    let found: BTreeSet<PathBuf> = wanted.map(|(found, _)| found).collect();
    let is_below = |path: &&PathBuf| found.iter().any(|other| other != *path && path.starts_with(other));
    found.iter().filter(|path| !is_below(path)).cloned().collect()
}

/// How much of a path there is, with its links followed, and what is left of it. Of what is not there `..` takes the last part back. A link
/// to what is not there leads to where that would be: it may be written through the link.
fn existing(path: &Path) -> (PathBuf, PathBuf) {
    let mut links = MOST_LINKS;
    let working = if path.is_absolute() { PathBuf::new() } else { std::env::current_dir().unwrap_or_default() };
    followed(&working.join(path), &mut links)
}

/// As many links without an end as are followed, which is what the kernel allows itself.
const MOST_LINKS: usize = 40;

fn followed(path: &Path, links: &mut usize) -> (PathBuf, PathBuf) {
    let (mut found, mut rest) = (PathBuf::from("/"), PathBuf::new());
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => drop(rest.pop() || found.pop()),
            Component::Normal(name) if !rest.as_os_str().is_empty() => rest.push(name),
            Component::Normal(name) => {
                let next = found.join(name);
                match (next.canonicalize(), next.read_link()) {
                    (Ok(there), _) => found = there,
                    (Err(_), Ok(target)) if *links > 0 => {
                        *links -= 1;
                        (found, rest) = followed(&found.join(target), links);
                    }
                    _ => rest.push(name),
                }
            }
        }
    }
    (found, rest)
}

/// A path as it is shown: from the working folder, unless that leads up more than once.
fn relative(path: &Path, working: &Path) -> String {
    let common = path.components().zip(working.components()).take_while(|(one, other)| one == other).count();
    let ups = working.components().count() - common;
    if ups > 1 {
        return path.display().to_string();
    }
    let below = path.components().skip(common);
    let relative: PathBuf = std::iter::repeat_n(Component::ParentDir, ups).chain(below).collect();
    if relative.as_os_str().is_empty() { ".".to_owned() } else { relative.display().to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(fields: Value) -> Chosen {
        let Value::Object(target) = fields else { panic!("no object") };
        Chosen { targets: [("t".to_owned(), target)].into(), ..Chosen::default() }
    }

    #[test]
    fn what_lies_outside_of_the_working_folder_has_to_be_granted() {
        let here = std::env::temp_dir().canonicalize().unwrap();
        let granted = |words: &[&str]| {
            Rights::granted(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>(), &here).unwrap()
        };
        let inside = here.display().to_string();
        let fine = target(json!({
            "context": inside, "dockerfile": "Dockerfile", "contexts": {"a": "docker-image://x", "b": "target:t"},
            "output": [{"type": "local", "dest": format!("{inside}/not/there")}, {"type": "tar", "dest": "-"}],
            "secret": [{"id": "t", "env": "X"}],
        }));
        assert_eq!(granted(&[]).missing(&fine).unwrap(), Rights::default());
        let wants = target(json!({
            "context": "https://x/y.git", "dockerfile": "/etc/passwd", "contexts": {"a": "/usr/bin", "b": "/usr"},
            "entitlements": ["network.host", "security.insecure", "device=vendor/x"],
            "output": [{"type": "local", "dest": "/usr/not/there"}],
            "secret": [{"id": "k", "src": "/etc/group"}], "ssh": [{"id": "default"}],
        }));
        let [steps, side] = granted(&[]).missing(&wants).unwrap().told(&here);
        let flags = |all: Vec<(String, String)>| all.into_iter().map(|(_, flag)| flag).collect::<Vec<_>>();
        assert_eq!(flags(steps), ["network.host", "security.insecure", "device=vendor/x"]);
        let side = flags(side);
        assert!(side[0] == "ssh" && side[1].starts_with("fs=") && side[1].ends_with("/usr"), "{side:?}");
        assert_eq!(side.len(), 4, "{side:?}");
        let all = ["network.host", "security.insecure", "device", "ssh", "fs=/usr", "fs.read=*"];
        assert_eq!(granted(&all).missing(&wants).unwrap(), Rights::default());
        for word in ["nothing", "network.host=x", "ssh=x", "device=\"x"] {
            assert!(Rights::granted(&[word.to_owned()], &here).is_err(), "{word}");
        }
        assert!(!granted(&["fs"]).missing(&wants).unwrap().reads.is_empty(), "no path is the working folder alone");
    }

    #[test]
    fn paths_lead_nowhere_that_was_not_granted() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        for (at, target) in [("link", "/usr"), ("dead", "/usr/none"), ("again", "dead"), ("round", "round")] {
            std::os::unix::fs::symlink(target, here.join(at)).unwrap();
        }
        let at = |path: &str| format!("{}/{path}", here.display());
        let granted = Rights::granted(&[], &here).unwrap();
        for (fields, path) in [
            (json!({"output": [{"type": "local", "dest": at("none/../../../../../../../../usr/x")}]}), "/usr"),
            (json!({"output": [{"type": "local", "dest": at("link/x")}]}), "/usr"),
            (json!({"output": [{"type": "tar", "dest": at("again")}]}), "/usr"),
            (json!({"secret": [{"id": "x", "env": "X", "src": "/etc/passwd"}]}), "/etc/passwd"),
            (json!({"contexts": {"x": format!("oci-layout://{}", at("a:x/../../../../../../../../usr"))}}), "/usr"),
            (json!({"contexts": {"x": "docker-image:/../../../../../../../../../../usr"}}), "/usr"),
            (json!({"cache-from": [{"type": "local", "src": "/usr"}]}), "/usr"),
        ] {
            let missing = granted.missing(&target(fields.clone())).unwrap();
            let paths = missing.reads.iter().chain(&missing.writes);
            let paths: Vec<_> = paths.map(|path| path.display().to_string()).collect();
            assert!(paths.contains(&path.to_owned()), "{fields}: {paths:?}");
        }
        let round = target(json!({"output": [{"type": "tar", "dest": at("round")}]}));
        assert!(granted.missing(&round).unwrap().writes.is_empty(), "it leads nowhere");
    }

    #[test]
    fn what_the_user_says_of_targets_is_granted() {
        let here = std::env::temp_dir().canonicalize().unwrap();
        let mut granted = Rights::granted(&[], &here).unwrap();
        let words = [
            "t.output=type=local,dest=/usr/not/there",
            "*.secrets+=id=k,src=/etc/group",
            "t.entitlements=network.host",
        ];
        granted.grant_overrides(&words.map(str::to_owned));
        let wants = |output: &str| {
            target(json!({
                "context": here.display().to_string(), "entitlements": ["network.host"],
                "output": [{"type": "local", "dest": output}], "secret": [{"id": "k", "src": "/etc/group"}],
            }))
        };
        assert_eq!(granted.missing(&wants("/usr/not/there")).unwrap(), Rights::default());
        assert_eq!(granted.missing(&wants("/usr/other")).unwrap().writes, [PathBuf::from("/usr")].into());
    }

    #[test]
    fn paths_are_shown_from_the_working_folder() {
        for (path, expected) in
            [("/a/b/c", "c"), ("/a/b", "."), ("/a/x", "../x"), ("/x", "/x"), ("/a/b/c/d", "c/d"), ("/a", "..")]
        {
            assert_eq!(relative(Path::new(path), Path::new("/a/b")), expected);
        }
    }
}
