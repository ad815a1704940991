//! SIGHUP: what of the configuration changes while the daemon runs.

use ferry_testkit::material::Material;
use ferry_testkit::{Daemon, Sandbox, command, programs};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::until;

fn hang_up(daemon: &Daemon) {
    kill_process(command::process(daemon.pid()).unwrap(), Signal::HUP).unwrap();
}

#[test]
fn the_file_is_read_again_and_a_wrong_one_changes_nothing() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let file = sandbox.dir().join("daemon.json");
    let write = |value: &Value| std::fs::write(&file, value.to_string()).unwrap();
    write(&json!({"labels": ["a=b"], "shutdown-timeout": 7}));
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--config-file", &file.display().to_string()]);
    daemon.start().unwrap();
    daemon.load(&Material::get().busybox());
    let _ = daemon.run(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let (pid, info) = (daemon.inspect("box", "{{.State.Pid}}"), || daemon.api("GET", "/info", None).json());
    assert_eq!((&info()["Labels"], &info()["Debug"]), (&json!(["a=b"]), &json!(false)));

    write(
        &json!({"labels": ["c=d"], "debug": true, "registry-mirrors": ["http://127.0.0.1:5000"], "insecure-registries": ["reg.example"],
        "runtimes": {"other": {"path": "/usr/sbin/runc"}}, "default-shm-size": "1m", "live-restore": false, "max-concurrent-downloads": 8}),
    );
    hang_up(&daemon);
    until("the new labels to be in force", || info()["Labels"] == json!(["c=d"]));
    let now = info();
    assert_eq!((&now["Debug"], &now["LiveRestoreEnabled"]), (&json!(true), &json!(false)));
    assert_eq!(now["Runtimes"]["other"]["path"], "/usr/sbin/runc");
    assert_eq!(now["RegistryConfig"]["Mirrors"], json!(["http://127.0.0.1:5000/"]));
    assert!(now["RegistryConfig"]["IndexConfigs"]["reg.example"].is_object());
    assert_eq!(
        daemon
            .run(&["run", "--rm", "busybox", "df", "-k", "/dev/shm"])
            .ok()
            .lines()
            .last()
            .unwrap()
            .split_whitespace()
            .nth(1),
        Some("1024")
    );

    // In whole seconds, so that the moment of the event is before it.
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 1;
    let soon = soon.to_string();
    let events = daemon
        .run(&["events", "--since", "1", "--until", &soon, "--filter", "type=daemon", "--format", "{{json .}}"])
        .ok();
    let event: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!((&event["Type"], &event["Action"]), (&json!("daemon"), &json!("reload")));
    let attributes = &event["Actor"]["Attributes"];
    for (name, value) in [
        ("debug", "true"),
        ("labels", r#"["c=d"]"#),
        ("max-concurrent-downloads", "8"),
        ("max-concurrent-uploads", "5"),
        ("runtimes", "other:/usr/sbin/runc"),
        ("shutdown-timeout", "7"),
        ("default-shm-size", "1048576"),
        ("live-restore", "false"),
    ] {
        assert_eq!(attributes[name], value, "{name}: {attributes}");
    }

    std::fs::write(&file, r#"{"labels": ["e=f"], "nonsense": 1}"#).unwrap();
    hang_up(&daemon);
    until("the daemon to say what is wrong", || daemon.log().contains("cannot reload the configuration"));
    assert!(daemon.log().contains("nonsense"));
    assert_eq!(info()["Labels"], json!(["c=d"]));
    // What is not said stays as it is, and containers take no notice.
    write(&json!({"labels": ["g=h"]}));
    hang_up(&daemon);
    until("the last labels to be in force", || info()["Labels"] == json!(["g=h"]));
    assert_eq!(info()["Debug"], json!(true));
    assert_eq!(daemon.inspect("box", "{{.State.Pid}}"), pid);
}
