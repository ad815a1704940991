//! Clients from PyPI, as `scripts/python-clients` installs them: docker-py and testcontainers.

use std::time::Duration;

use ferry_testkit::command::Running;
use ferry_testkit::leak::Watch;
use ferry_testkit::programs;

use crate::Mirrored;

/// How long a whole life may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

fn drives(module: &str, script: &str) {
    let python = programs::material_dir().join("python/bin/python");
    if !programs::need_root()
        || !programs::need("docker-py and testcontainers (scripts/python-clients)", python.exists())
    {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    let _ = daemon.run(&["pull", "busybox"]).ok();
    let watch = Watch::daemon(daemon);
    let mut client = daemon.client(python);
    client.args(["-c", script]);
    let outcome = Running::start(client, b"").unwrap().finish(LIMIT).unwrap();
    assert_eq!(outcome.ok(), "done", "{module}");
    watch.end().unwrap();
}

#[test]
fn docker_py_drives_a_containers_whole_life() {
    drives("docker", include_str!("../python/docker_py.py"));
}

#[test]
fn docker_py_reads_figures_and_changes_limits() {
    drives("docker", include_str!("../python/docker_py_figures.py"));
}

#[test]
fn testcontainers_drive_a_containers_whole_life() {
    drives("testcontainers", include_str!("../python/testcontainers_life.py"));
}
