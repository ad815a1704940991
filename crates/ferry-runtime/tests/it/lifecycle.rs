//! The states of a container and what is left of it.

use std::time::{Duration, Instant};

use crate::bundle::{Bundle, ferry, ready, runtimes, text};

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn container_goes_through_its_states() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let bundle = Bundle::new(&runtime, "echo ran; sleep 1000");
        let out = std::fs::File::create(bundle.beside("out")).unwrap();
        assert!(bundle.command(&["create", "--pid-file", "pid", &bundle.id]).stdout(out).status().unwrap().success());
        assert_eq!(bundle.status(), "created");
        let pid: u32 = std::fs::read_to_string(bundle.beside("pid")).unwrap().parse().unwrap();
        assert_eq!(std::fs::read_to_string(bundle.beside("out")).unwrap(), "", "it waits for the start");
        assert!(!bundle.call(&["create", &bundle.id]).status.success(), "the name is taken");
        bundle.succeed(&["start", &bundle.id]);
        crate::exec::wait_for(&bundle.beside("out"), "ran\n");
        assert_eq!(bundle.status(), "running");
        assert!(!bundle.call(&["start", &bundle.id]).status.success());
        assert!(!bundle.call(&["delete", &bundle.id]).status.success(), "it runs");
        assert!(bundle.succeed(&["list", "-q"]).contains(&bundle.id));
        bundle.succeed(&["pause", &bundle.id]);
        assert_eq!(bundle.status(), "paused");
        bundle.succeed(&["resume", &bundle.id]);
        let pids: Vec<u32> = serde_json::from_str(&bundle.succeed(&["ps", "--format", "json", &bundle.id])).unwrap();
        assert!(pids.contains(&pid), "{runtime:?}: {pids:?}");
        std::fs::write(bundle.beside("limits"), r#"{"pids": {"limit": 55}}"#).unwrap();
        if crate::bundle::has_controller("pids") {
            bundle.succeed(&["update", "--resources", "limits", &bundle.id]);
            let said = bundle.succeed(&[
                "exec",
                &bundle.id,
                "/bin/sh",
                "-c",
                "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true",
            ]);
            assert_eq!(said.trim(), "55", "{runtime:?}");
        }
        bundle.succeed(&["kill", &bundle.id, "KILL"]);
        until("stopped", || bundle.status() == "stopped");
        assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists() || bundle.status() == "stopped");
        assert!(!bundle.call(&["kill", &bundle.id, "TERM"]).status.success());
        bundle.succeed(&["delete", &bundle.id]);
        assert!(!bundle.leaves_something());
        assert!(!bundle.call(&["state", &bundle.id]).status.success());
    }
}

#[test]
fn signals_reach_the_program() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let bundle = Bundle::new(&runtime, "trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.05; done");
        bundle.start();
        crate::exec::wait_for(&bundle.beside("out"), "ready\n");
        bundle.succeed(&["kill", &bundle.id, "USR1"]);
        crate::exec::wait_for(&bundle.beside("out"), "got\n");
        until("stopped", || bundle.status() == "stopped");
    }
}

#[test]
fn forced_delete_ends_everything() {
    if !ready() {
        return;
    }
    // Not for runc, which before 1.2 leaves processes behind on v2.
    let mut bundle = Bundle::new(&ferry(), "sleep 1000 & sleep 1000 & echo up; wait");
    // Without a pid namespace nothing ends by itself with the first process.
    bundle.linux().namespaces.retain(|namespace| namespace.kind != ferry_spec::runtime::LinuxNamespaceKind::Pid);
    bundle.start();
    crate::exec::wait_for(&bundle.beside("out"), "up\n");
    bundle.succeed(&["delete", "--force", &bundle.id]);
    assert!(!bundle.leaves_something());
}

#[test]
fn mounts_of_the_host_stay_as_they_are() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new(&ferry(), "true");
    bundle.said();
    let path = bundle.rootfs().display().to_string();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(&path), "a mount of the container is seen on the host");
    for folder in ["dev", "proc", "sys"] {
        assert_eq!(
            std::fs::read_dir(bundle.rootfs().join(folder)).unwrap().count(),
            0,
            "{folder} was written below the mount"
        );
    }
}

#[test]
fn unknown_options_and_commands_are_errors() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new(&ferry(), "true");
    for (words, expected) in [
        (vec!["bogus"], "bogus"),
        (vec!["create", "--bogus", "x"], "--bogus"),
        (vec!["checkpoint", "x"], "checkpoint is not supported"),
        (vec!["update", "--memory", "x", "nobody"], "container does not exist"),
        (vec!["create"], "a container id is needed"),
        (vec!["create", "../x"], "invalid container ID format"),
        (vec!["state", "nobody"], "container does not exist"),
    ] {
        let output = bundle.call(&words);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(expected), "{words:?}: {}", text(&output.stderr));
    }
    let log = bundle.beside("log");
    bundle.call(&["--log", &log.display().to_string(), "--log-format", "json", "state", "nobody"]);
    let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!((line["level"].as_str(), line["msg"].as_str()), (Some("error"), Some("container does not exist")));
}

#[test]
fn sample_configuration_runs() {
    if !ready() {
        return;
    }
    let mut bundle = Bundle::new(&ferry(), "");
    let _ = bundle.call(&["list"]);
    std::fs::remove_file(bundle.beside("config.json")).unwrap();
    let made = std::process::Command::new(ferry()).arg("spec").arg("--bundle").arg(bundle.beside("")).status().unwrap();
    assert!(made.success());
    let text = std::fs::read(bundle.beside("config.json")).unwrap();
    bundle.spec = serde_json::from_slice(&text).unwrap();
    bundle.process().terminal = false;
    bundle.process().args = vec!["echo".into(), "sample".into()];
    assert_eq!(bundle.said(), "sample\n");
    let features: serde_json::Value = serde_json::from_str(&bundle.succeed(&["features"])).unwrap();
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
}
