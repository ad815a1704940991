//! Health checks: what they tell, how they end, what follows.

use ferry_testkit::image::{Compression, Dialect, Image, Layer};
use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, programs};
use serde_json::json;

use crate::until;

const FAST: [&str; 4] = ["--health-interval", "100ms", "--health-retries", "2"];

fn run(daemon: &Daemon, name: &str, flags: &[&str], command: &[&str]) {
    let line = [&["run", "-d", "--name", name], &FAST[..], flags, &["busybox"], command].concat();
    let _ = daemon.run(&line).ok();
}

fn status(daemon: &Daemon, name: &str) -> String {
    daemon.inspect(name, "{{.State.Health.Status}}")
}

fn becomes(daemon: &Daemon, name: &str, wanted: &str) {
    until(&format!("{name} to be {wanted}"), || status(daemon, name) == wanted);
}

/// Actions of a container's events so far.
fn actions(daemon: &Daemon, name: &str) -> Vec<String> {
    let filter = format!("container={name}");
    let told =
        daemon.run(&["events", "--since", "1h", "--until", "0s", "--filter", &filter, "--format", "{{.Action}}"]);
    told.ok().lines().map(str::to_owned).collect()
}

#[test]
fn a_check_follows_what_the_container_does() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    run(&daemon, "web", &["--health-cmd", "echo looked; test ! -e /sick"], &["sleep", "1000"]);
    becomes(&daemon, "web", "healthy");
    assert!(daemon.run(&["ps", "--format", "{{.Status}}"]).ok().ends_with("(healthy)"));
    assert_eq!(daemon.run(&["ps", "--format", "{{.HealthStatus}}"]).ok(), "healthy");
    let last = daemon.inspect("web", "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}");
    assert_eq!(last.trim(), "0 looked");
    let _ = daemon.run(&["exec", "web", "touch", "/sick"]).ok();
    becomes(&daemon, "web", "unhealthy");
    assert!(daemon.inspect("web", "{{.State.Health.FailingStreak}}").parse::<i64>().unwrap() >= 2);
    assert_eq!(daemon.run(&["ps", "-q", "--filter", "health=healthy"]).ok(), "");
    assert_eq!(daemon.run(&["ps", "--format", "{{.Names}}", "--filter", "health=unhealthy"]).ok(), "web");
    let why = daemon.run(&["why", "web"]).ok();
    assert!(why.contains("its health check has failed") && why.contains("looked"), "{why}");
    let _ = daemon.run(&["exec", "web", "rm", "/sick"]).ok();
    becomes(&daemon, "web", "healthy");
    until("five results to be kept, and no more", || daemon.inspect("web", "{{len .State.Health.Log}}") == "5");
    let health = ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"];
    until("each change to be told once", || {
        let told = actions(&daemon, "web");
        told.iter().filter(|action| action.starts_with("health_status")).eq(health.iter())
    });
    let told = actions(&daemon, "web");
    let exec = "exec_create: /bin/sh -c echo looked; test ! -e /sick";
    assert!(told.iter().any(|action| action == exec), "{told:?}");
    assert!(told.contains(&"exec_die".to_owned()), "{told:?}");

    let _ = daemon.run(&["pause", "web"]).ok();
    assert_eq!(status(&daemon, "web"), "unhealthy", "as in Docker: nobody looks");
    let _ = daemon.run(&["unpause", "web"]).ok();
    becomes(&daemon, "web", "healthy");
    daemon.kill().unwrap();
    daemon.start().unwrap();
    assert_eq!(status(&daemon, "web"), "healthy", "what was known is known after a restart of the daemon");
    let _ = daemon.run(&["exec", "web", "touch", "/sick"]).ok();
    becomes(&daemon, "web", "unhealthy");
    let _ = daemon.run(&["kill", "web"]).ok();
    assert_eq!(daemon.inspect("web", "{{.State.Status}} {{.State.Health.Status}}"), "exited unhealthy");
    let _ = daemon.run(&["start", "web"]).ok();
    assert_ne!(daemon.inspect("web", "{{.State.Health.Log}}"), "[]", "earlier results are still told");
    let _ = daemon.run(&["rm", "-f", "web"]).ok();
    watch.end().unwrap();
}

#[test]
fn a_check_is_confined_as_its_container_and_bounded() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let say = "id -u; pwd; grep CapEff /proc/self/status; cat /proc/self/cgroup | sort | head -1";
    run(&daemon, "tight", &["-u", "1000", "-w", "/tmp", "--cap-drop", "ALL", "--health-cmd", say], &["sleep", "1000"]);
    becomes(&daemon, "tight", "healthy");
    let said = daemon.inspect("tight", "{{(index .State.Health.Log 0).Output}}");
    let own = daemon.run(&["exec", "tight", "sh", "-c", say]).ok();
    assert_eq!(said.trim(), own.trim(), "as an exec, which is as its container");
    assert!(said.starts_with("1000\n/tmp\nCapEff:\t0000000000000000"), "{said}");

    let flags = ["--health-cmd", "echo begun; sleep 1000 & sleep 1000; true", "--health-timeout", "2s"];
    run(&daemon, "endless", &flags, &["sleep", "1000"]);
    becomes(&daemon, "endless", "unhealthy");
    let said = daemon.inspect("endless", "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}");
    assert_eq!(said.trim(), "-1 Health check exceeded timeout (2s): begun");
    let listed = daemon.run(&["exec", "endless", "ps"]).ok();
    let left = listed.lines().filter(|line| line.contains("sleep 1000")).count();
    assert!(left <= 1 + 3, "the container's own, and of one check at most: {listed}");

    run(&daemon, "loud", &["--health-cmd", "yes | head -c 100000"], &["sleep", "1000"]);
    becomes(&daemon, "loud", "healthy");
    assert_eq!(daemon.inspect("loud", "{{len (index .State.Health.Log 0).Output}}"), "4099");
    run(&daemon, "none", &["--health-cmd", "/no/such/check"], &["sleep", "1000"]);
    becomes(&daemon, "none", "unhealthy");
}

#[test]
fn checks_come_from_the_image_and_can_be_switched_off() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let check =
        json!({"Test": ["CMD", "/bin/busybox", "test", "-e", "/ok"], "Interval": 100_000_000_i64, "Retries": 1});
    let config = json!({"Cmd": ["/bin/busybox", "sleep", "1000"], "Healthcheck": check});
    let busybox = std::fs::read(programs::on_path("busybox").unwrap()).unwrap();
    let layer = Layer::default().dir("bin/", 0o755).file("bin/busybox", 0o755, &busybox).into_tar();
    let image = Image::build("amd64", &config, vec![layer], Compression::Gzip, Dialect::Docker).unwrap();
    let archive = daemon.sandbox().dir().join("checked.tar");
    std::fs::write(&archive, image.archive(&["checked:latest"])).unwrap();
    daemon.load(&archive);
    // No shell in this image: the check is a program.
    let _ = daemon.run(&["run", "-d", "--name", "own", "checked"]).ok();
    let _ = daemon.run(&["run", "-d", "--name", "off", "--no-healthcheck", "checked"]).ok();
    let _ = daemon.run(&["run", "-d", "--name", "late", "--health-start-period", "1h", "checked"]).ok();
    let _ = daemon.run(&["run", "-d", "--name", "tcp", "--health-tcp", "1", "checked"]).ok();
    becomes(&daemon, "own", "unhealthy");
    becomes(&daemon, "tcp", "unhealthy");
    assert_eq!(daemon.inspect("off", "{{json .State.Health}} {{json .Config.Healthcheck.Test}}"), r#"null ["NONE"]"#);
    assert_eq!(status(&daemon, "late"), "starting", "failures of the start period do not count");
    assert_eq!(daemon.inspect("late", "{{.State.Health.FailingStreak}}"), "0");
    assert_eq!(daemon.inspect("tcp", "{{json .Config.Healthcheck.Test}}"), r#"["TCP","1"]"#);
    for (flags, text) in [
        (&["--health-cmd", "x", "--health-interval", "10us"][..], "Interval in Healthcheck cannot be less than 1ms"),
        (&["--health-cmd", "x", "--health-retries", "-1"], "--health-retries cannot be negative"),
        (&["--health-cmd", "x", "--no-healthcheck"], "--no-healthcheck conflicts with --health-* options"),
        (&["--health-http", "https://x/"], "https is not spoken"),
        (&["--health-cmd", "x", "--health-tcp", "1"], "only one of --health-cmd, --health-http and --health-tcp"),
        (&["--health-cmd", "x", "--health-action", "explode"], "must be one of none, restart, stop, kill"),
    ] {
        let refused = daemon.run(&[&["create"], flags, &["checked"]].concat());
        assert!(refused.code != 0 && refused.err().contains(text), "{flags:?}: {refused}");
    }
}

#[test]
fn a_check_from_outside_needs_nothing_inside_and_may_act() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let serve = "mkdir /w; echo fine >/w/up; exec httpd -f -p 8080 -h /w";
    run(&daemon, "http", &["--health-http", "8080/up"], &["sh", "-c", serve]);
    run(&daemon, "tcp", &["--health-tcp", "8080"], &["sh", "-c", serve]);
    becomes(&daemon, "http", "healthy");
    becomes(&daemon, "tcp", "healthy");
    assert_eq!(daemon.inspect("http", "{{(index .State.Health.Log 0).Output}}"), "HTTP/1.1 200 OK");
    let _ = daemon.run(&["exec", "http", "rm", "/w/up"]).ok();
    becomes(&daemon, "http", "unhealthy");

    let fails = ["--health-cmd", "test -e /ok", "--health-action"];
    run(&daemon, "stopped", &[&fails[..], &["stop"]].concat(), &["sleep", "1000"]);
    run(&daemon, "killed", &[&fails[..], &["kill"]].concat(), &["sleep", "1000"]);
    let waiting = "trap 'exit 4' TERM; while :; do sleep 0.05; done";
    run(&daemon, "again", &[&fails[..], &["restart"]].concat(), &["sh", "-c", waiting]);
    let first = daemon.inspect("again", "{{.State.StartedAt}}");
    until("the killed one to end", || daemon.inspect("killed", "{{.State.Status}}") == "exited");
    assert_eq!(daemon.inspect("killed", "{{.State.ExitCode}}"), "137");
    let why = daemon.run(&["why", "killed"]).ok();
    assert!(why.contains("its health check failed too often, and `--health-action kill` was asked for"), "{why}");
    until("the other to be restarted", || daemon.inspect("again", "{{.State.StartedAt}}") != first);
    until("the restart to be told", || actions(&daemon, "again").contains(&"restart".to_owned()));
    let _ = daemon.run(&["kill", "stopped"]);
    let _ = daemon.run(&["rm", "-f", "http", "tcp", "stopped", "killed", "again"]).ok();
    watch.end().unwrap();
}
