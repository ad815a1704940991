//! The leak checker itself: a planted leak of every sort is caught, by its sort.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferry_testkit::leak::Watch;
use ferry_testkit::{Sandbox, programs};

/// Runs `plant` in a watched sandbox and checks that exactly a leak of `sort` is among the report.
fn planted(sort: &str, plant: &str) {
    planted_by(sort, |sandbox| sandbox.sh(plant).ok());
}

fn planted_by<T>(sort: &str, plant: impl FnOnce(&Arc<Sandbox>) -> T) {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let _ = sandbox.sh("mkdir -p /run/root/sub").ok();
    let watch = Watch::begin(&sandbox, &[PathBuf::from("/run/root")]);
    watch.end().expect("nothing was planted yet");
    let planted = plant(&sandbox);
    let report = watch.end_within(Duration::from_millis(300)).expect_err("a planted leak is caught").to_string();
    assert!(report.contains(&format!("+ {sort}: ")), "no {sort} in the report: {report}");
    drop(planted);
}

#[test]
fn a_mount_is_caught() {
    planted("mount", "mount -t tmpfs tmpfs /mnt");
}

#[test]
fn a_namespace_is_caught() {
    planted("namespace", "setsid unshare --uts sleep 1000 >/dev/null 2>&1 & until pgrep -x sleep; do :; done");
}

#[test]
fn a_namespace_held_by_a_descriptor_alone_is_caught() {
    let hold = "setsid unshare --net sh -c 'exec 9</proc/self/ns/net; exec nsenter --net=/proc/1/ns/net sleep 1000' >/dev/null 2>&1 & \
                until pgrep -x sleep; do :; done";
    planted("namespace", hold);
}

#[test]
fn a_link_is_caught() {
    planted("link", "ip link add planted type bridge");
}

#[test]
fn an_address_is_caught() {
    planted("address", "ip address add 198.51.100.7/32 dev lo");
}

#[test]
fn a_route_is_caught() {
    planted("route", "ip route add 198.51.100.0/24 dev uplink");
}

#[test]
fn a_rule_is_caught() {
    planted("rule", "nft 'add table ip planted; add chain ip planted c; add rule ip planted c accept'");
}

#[test]
fn a_cgroup_is_caught() {
    planted("cgroup", "for d in /sys/fs/cgroup/pids /sys/fs/cgroup; do mkdir $d/planted 2>/dev/null && break; done");
}

#[test]
fn a_process_is_caught() {
    planted("process", "setsid sleep 1000 >/dev/null 2>&1 &");
}

#[test]
fn a_directory_and_a_file_are_caught() {
    planted("directory", "mkdir /run/root/sub/planted");
    planted("file", "touch /run/root/sub/planted");
}

#[test]
fn a_held_port_is_caught() {
    planted_by("port", |sandbox| sandbox.listen("127.0.0.1:7777").unwrap());
    planted_by("port", |sandbox| sandbox.udp("0.0.0.0:7777").unwrap());
}

#[test]
fn a_sysctl_is_caught() {
    planted("sysctl", "echo 1 >/proc/sys/net/ipv4/conf/lo/route_localnet");
}

#[test]
fn what_went_missing_is_caught_too() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let watch = Watch::begin(&sandbox, &[]);
    let _ = sandbox.sh("ip link delete uplink").ok();
    let report = watch.end_within(Duration::from_millis(300)).unwrap_err().to_string();
    assert!(report.contains("- link: uplink"), "{report}");
}
