//! The engine's own AppArmor profile, and which one a container has.
//!
//! The profile says what Docker's `docker-default` says. It has a name of its own in the kernel, since a dockerd beside us keeps its own;
//! users and `inspect` know it by Docker's name.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::error::{Context, Error, Result};

/// What users call the default profile.
pub(crate) const DEFAULT: &str = "docker-default";
/// What the kernel calls it.
const LOADED_AS: &str = "ferry-default";
const UNCONFINED: &str = "unconfined";

/// Whether the host confines by AppArmor.
pub(crate) fn is_enabled() -> bool {
    Path::new("/sys/kernel/security/apparmor").exists()
        && fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'))
}

/// The profile that `inspect` tells of; the host's part comes in `enabled`, and shows once a container was started.
pub(crate) fn shown(option: &str, privileged: bool, enabled: bool, has_started: bool) -> String {
    match (has_started, enabled) {
        (false, _) => option.to_owned(),
        (true, false) => String::new(),
        (true, true) if privileged => UNCONFINED.to_owned(),
        (true, true) if option.is_empty() => DEFAULT.to_owned(),
        (true, true) => option.to_owned(),
    }
}

/// The profile that a process is put under, by its name in the kernel.
///
/// Without AppArmor a profile that was asked for by name stays asked for, and the runtime refuses.
pub(crate) fn applied(option: &str, privileged: bool, enabled: bool) -> Option<String> {
    match option {
        _ if privileged => enabled.then(|| UNCONFINED.to_owned()),
        "" | DEFAULT => enabled.then(|| LOADED_AS.to_owned()),
        UNCONFINED => enabled.then(|| UNCONFINED.to_owned()),
        other => Some(other.to_owned()),
    }
}

/// Loads the profile where a container needs it and the host has lost it.
///
/// # Errors
/// When it cannot be loaded: a container must not run without it unnoticed.
pub(crate) fn ensure(profile: Option<&str>) -> Result<()> {
    if profile != Some(LOADED_AS) {
        return Ok(());
    }
    if is_loaded()? {
        return Ok(());
    }
    // The parser takes its time; somebody may be at it already.
    let _turn = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if is_loaded()? { Ok(()) } else { load() }
}

/// One at a time.
static LOADING: Mutex<()> = Mutex::new(());

fn is_loaded() -> Result<bool> {
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles");
    let loaded = loaded.context(format!("Could not check if {LOADED_AS} AppArmor profile was loaded"))?;
    Ok(loaded.lines().any(|line| line.split(' ').next() == Some(LOADED_AS)))
}

/// Loads the profile, in place of one of an earlier version.
///
/// # Errors
/// When the host's `apparmor_parser` is missing or refuses.
pub(crate) fn install() -> Result<()> {
    let _turn = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    load()
}

fn load() -> Result<()> {
    let current = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    let there = |path: &str| Path::new("/etc/apparmor.d").join(path).exists();
    let text = text(daemon_profile(&current), there("tunables/global"), there("abstractions/base"));
    let failed = |reason: String| {
        Error::internal(format!(
            "AppArmor enabled on system but the {LOADED_AS} profile could not be loaded: running `apparmor_parser -Kr` failed: {reason}"
        ))
    };
    let output = parse(&text).map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn parse(text: &str) -> io::Result<std::process::Output> {
    let mut parser = Command::new("apparmor_parser")
        .arg("-Kr")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = parser.stdin.take() {
        // It fits into the pipe, and one that ends without reading says why itself.
        let _ = stdin.write_all(text.as_bytes());
    }
    parser.wait_with_output()
}

/// Who sends containers their signals, by profile.
fn daemon_profile(current: &str) -> &str {
    let name = current.trim_matches(['\0', '\n', ' ']).split(' ').next().unwrap_or_default();
    if name.is_empty() { UNCONFINED } else { name }
}

/// The profile, in the parser's language.
fn text(daemon: &str, has_tunables: bool, has_base: bool) -> String {
    let head = if has_tunables { "#include <tunables/global>" } else { "@{PROC}=/proc/" };
    let base = if has_base { "#include <abstractions/base>" } else { "" };
    let name = LOADED_AS;
    // What mounts hide already is refused here once more, also from those who may mount.
    let hidden_from_all = [
        "@{PROC}/sysrq-trigger",
        "@{PROC}/kcore",
        "/sys/firmware/**",
        "/sys/devices/virtual/powercap/**",
        "/sys/kernel/security/**",
    ]
    .map(|path| format!("  deny {path} rwklx,\n"))
    .concat();
    // Everything in /sys but /sys/fs/cgroup, letter by letter: patterns know no exception.
    let sys_but_cgroups = ["[^f]*", "f[^s]*", "fs/[^c]*", "fs/c[^g]*", "fs/cg[^r]*"]
        .map(|pattern| format!("  deny /sys/{pattern}/** wklx,\n"))
        .concat();
    // Everything in /proc but the folders of processes and /proc/sys; of that, only /proc/sys/kernel/shm* stays open.
    let proc = [
        "@{PROC}/*",
        "@{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/**",
        "@{PROC}/sys/[^k]**",
        "@{PROC}/sys/kernel/{?,??,[^s][^h][^m]**}",
    ]
    .map(|pattern| format!("  deny {pattern} w,\n"))
    .concat();
    let senders =
        [UNCONFINED, "runc", "crun", daemon].map(|peer| format!("  signal (receive) peer={peer},\n")).concat();
    format!(
        "{head}\n\nprofile {name} flags=(attach_disconnected,mediate_deleted) {{\n  {base}\n\n  network,\n  capability,\n  file,\n  umount,\n\
         {senders}  signal (send,receive) peer={name},\n\n{proc}{hidden_from_all}  deny mount,\n{sys_but_cgroups}\n  \
         ptrace (trace,read,tracedby,readby) peer={name},\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inspect_tells_dockers_names() {
        assert_eq!(shown("", false, true, true), "docker-default");
        assert_eq!(shown("mine", false, true, true), "mine");
        assert_eq!(shown("mine", true, true, true), "unconfined");
        assert_eq!(shown("mine", false, false, false), "mine");
        assert_eq!(shown("mine", false, false, true), "");
    }

    #[test]
    fn the_kernel_is_asked_for_our_own() {
        let applied = |option: &str, privileged, enabled| applied(option, privileged, enabled).unwrap_or_default();
        assert_eq!(applied("", false, true), "ferry-default");
        assert_eq!(applied("docker-default", false, true), "ferry-default");
        assert_eq!(applied("unconfined", false, true), "unconfined");
        assert_eq!(applied("", true, true), "unconfined");
        assert_eq!(applied("", false, false), "");
        assert_eq!(applied("docker-default", false, false), "");
        // Asked for by name it is not forgotten, though the host has no AppArmor.
        assert_eq!(applied("mine", false, false), "mine");
    }

    #[test]
    fn the_profile_says_what_dockers_says() {
        let text = text("unconfined", true, true);
        for line in [
            "#include <tunables/global>",
            "profile ferry-default flags=(attach_disconnected,mediate_deleted) {",
            "  #include <abstractions/base>",
            "  deny mount,",
            "  deny @{PROC}/* w,",
            "  deny @{PROC}/kcore rwklx,",
            "  deny /sys/fs/cg[^r]*/** wklx,",
            "  deny /sys/firmware/** rwklx,",
            "  ptrace (trace,read,tracedby,readby) peer=ferry-default,",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert_eq!(daemon_profile("unconfined\n"), "unconfined");
        assert_eq!(daemon_profile("ferryd (enforce)\n"), "ferryd");
        assert_eq!(daemon_profile(""), "unconfined");
    }
}
