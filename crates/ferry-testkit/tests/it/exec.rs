//! `exec`: a second process in a running container.

use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, command, programs};
use serde_json::{Value, json};

use crate::until;

#[test]
fn exec_runs_beside_the_first_process_and_leaves_nothing() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "box", "-e", "BASE=1", "busybox", "sleep", "1000"]).ok();
    let _ = daemon.run(&["exec", "box", "true"]).ok();
    let watch = Watch::daemon(&daemon);
    assert_eq!(
        daemon
            .run(&["exec", "-e", "A=b", "-w", "/tmp", "-u", "1000", "box", "sh", "-c", "echo $BASE $A $(pwd) $(id -u)"])
            .ok(),
        "1 b /tmp 1000"
    );
    assert_eq!(daemon.run(&["exec", "box", "sh", "-c", "exit 4"]).code, 4);
    assert_eq!(daemon.run(&["exec", "box", "no-such-command"]).code, 127);
    assert_eq!(daemon.run(&["exec", "box", "/etc/passwd"]).code, 126);
    assert_eq!(daemon.run_with_input(&["exec", "-i", "box", "wc", "-c"], &[7; 300_000]).ok(), "300000");
    let groups = |which: &str| daemon.run(&["exec", "box", "cat", &format!("/proc/{which}/cgroup")]).ok();
    assert_eq!(groups("self"), groups("1"), "an exec is under the container's limits");
    let status = daemon.run(&["exec", "box", "cat", "/proc/self/status"]).ok();
    assert!(status.contains("Seccomp:\t2") && status.contains("CapEff:\t00000000a80425fb"), "{status}");
    watch.end().unwrap();
}

#[test]
fn exec_ends_with_its_container() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let running = daemon.spawn(&["exec", "box", "sleep", "1000"]);
    until("the exec to run", || daemon.run(&["exec", "box", "ps"]).out().matches("sleep 1000").count() == 2);
    let _ = daemon.run(&["kill", "box"]).ok();
    assert_eq!(running.finish(command::LIMIT).unwrap().code, 137);
}

#[test]
fn many_execs_at_once_keep_their_outputs_apart() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let running: Vec<_> = (0..16)
        .map(|number| daemon.spawn(&["exec", "box", "sh", "-c", &format!("echo {number}; exit {number}")]))
        .collect();
    for (number, one) in running.into_iter().enumerate() {
        let outcome = one.finish(command::LIMIT).unwrap();
        assert_eq!((outcome.code, outcome.out()), (i32::try_from(number).unwrap(), format!("{number}\n")));
    }
}

#[test]
fn the_api_takes_every_field_and_tells_every_field() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "box", "-u", "1000", "busybox", "sleep", "1000"]).ok();
    let create = |body: Value| {
        let answer = daemon.api("POST", "/containers/box/exec", Some(&body));
        assert_eq!(answer.status, 201, "{body}: {}", answer.json());
        answer.json()["Id"].as_str().unwrap().to_owned()
    };
    let start = |id: &str, body: Value| daemon.api("POST", &format!("/exec/{id}/start"), Some(&body));
    let inspect = |id: &str| daemon.api("GET", &format!("/exec/{id}/json"), None).json();
    let id = create(json!({
        "AttachStdout": true, "AttachStderr": true, "AttachStdin": false, "Tty": true, "ConsoleSize": [33, 77],
        "DetachKeys": "ctrl-x", "Env": ["A=b"], "WorkingDir": "/tmp", "User": "0:0", "Privileged": true,
        "Cmd": ["sh", "-c", "stty size; echo $A $(pwd) $(id -u) $TERM"],
    }));
    let container = daemon.inspect("box", "{{.Id}}");
    let process = json!({"tty": true, "entrypoint": "sh", "arguments": ["-c", "stty size; echo $A $(pwd) $(id -u) $TERM"],
        "privileged": true, "user": "0:0"});
    let told = |running: bool, exit_code: Value, pid: Value| {
        json!({"ID": id, "Running": running, "ExitCode": exit_code, "ProcessConfig": process, "OpenStdin": false,
            "OpenStderr": true, "OpenStdout": true, "CanRemove": false, "ContainerID": container, "DetachKeys": "GA==", "Pid": pid})
    };
    assert_eq!(inspect(&id), told(false, Value::Null, json!(0)));
    let answer = start(&id, json!({"Detach": false, "Tty": true}));
    assert_eq!(String::from_utf8_lossy(&answer.body).replace('\r', ""), "33 77\nb /tmp 0 xterm\n");
    let after = inspect(&id);
    assert_eq!(after, told(false, json!(0), after["Pid"].clone()));
    assert!(after["Pid"].as_i64().unwrap() > 0);
    let again = start(&id, json!({"Detach": true}));
    assert_eq!((again.status, &again.json()["message"]), (409, &json!(format!("exec command {id} has already run"))));

    let plain = create(json!({"Cmd": ["sleep", "1000"]}));
    assert_eq!(inspect(&plain)["ProcessConfig"]["user"], "1000", "the container's own user");
    assert_eq!(start(&plain, json!({"Detach": true})).status, 200);
    assert_eq!(inspect(&plain)["Running"], true);
    let running = start(&plain, json!({"Detach": true}));
    assert_eq!(
        (running.status, &running.json()["message"]),
        (409, &json!(format!("exec command {plain} is already running")))
    );
    let no_size = daemon.api("POST", &format!("/exec/{plain}/resize"), None);
    assert_eq!(no_size.status, 400, "{}", no_size.json());

    for (body, status, part) in [
        (json!({}), 400, "No exec command specified"),
        (json!({"Cmd": []}), 400, "No exec command specified"),
        (json!({"Cmd": ["x"], "User": "nobodyknows"}), 400, "unable to find user nobodyknows"),
        (json!({"Cmd": ["x"], "User": "0:nogroup"}), 400, "unable to find group nogroup"),
        (json!({"Cmd": ["x"], "DetachKeys": "nonsense"}), 500, "Invalid escape keys (nonsense) provided"),
    ] {
        let answer = daemon.api("POST", "/containers/box/exec", Some(&body));
        let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == status && message.contains(part), "{body}: {} {message}", answer.status);
    }
    let relative = create(json!({"Cmd": ["pwd"], "WorkingDir": "relative", "AttachStdout": true}));
    let answer = start(&relative, json!({}));
    assert!(String::from_utf8_lossy(&answer.body).contains("Cwd must be an absolute path"));
    assert_eq!(inspect(&relative)["ExitCode"], 128);
    for (method, path) in
        [("GET", "/exec/nosuch/json"), ("POST", "/exec/nosuch/start"), ("POST", "/exec/nosuch/resize?h=1&w=1")]
    {
        let answer = daemon.api(method, path, None);
        assert_eq!(
            (answer.status, &answer.json()["message"]),
            (404, &json!("No such exec instance: nosuch")),
            "{path}"
        );
    }
    let _ = daemon.run(&["rm", "-f", "box"]).ok();
    assert_eq!(daemon.api("GET", &format!("/exec/{id}/json"), None).status, 404);
}
