//! The sandbox itself: what is inside stays inside, and goes with it.

use ferry_testkit::{Sandbox, programs};

#[test]
fn links_rules_and_sysctls_stay_inside() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let _ = sandbox.sh("ip link add planted type bridge && nft add table inet planted").ok();
    assert!(sandbox.sh("ip -o link; nft list ruleset").ok().contains("planted"));
    assert!(!std::path::Path::new("/sys/class/net/planted").exists());
}

#[test]
fn what_runs_inside_is_in_its_own_cgroups() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let own = sandbox.sh("cat /proc/self/cgroup").ok();
    for line in own.lines() {
        let path = line.rsplit(':').next().unwrap_or_default();
        assert!(path == "/" || path == "/init", "outside of the sandbox's cgroup: {line}");
    }
    let folder = if sandbox.sh("stat -f -c %T /sys/fs/cgroup").ok() == "cgroup2fs" {
        "/sys/fs/cgroup"
    } else {
        "/sys/fs/cgroup/pids"
    };
    let _ = sandbox.sh(&format!("mkdir {folder}/planted && echo $$ >{folder}/planted/cgroup.procs")).ok();
}

#[test]
fn everything_inside_dies_with_it() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let _ = sandbox.sh("setsid sleep 98765 >/dev/null 2>&1 &").ok();
    let init = sandbox.init();
    assert!(!ferry_testkit::command::children(init).is_empty());
    drop(sandbox);
    assert!(!std::path::Path::new(&format!("/proc/{init}")).exists());
    let running = std::process::Command::new("pgrep").args(["-f", "sleep 98765"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&running.stdout), "");
}
