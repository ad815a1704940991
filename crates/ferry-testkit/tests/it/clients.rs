//! Other people's clients: the unmodified Docker CLI and docker-py.

use ferry_testkit::terminal::Terminal;
use ferry_testkit::{command, programs};

use crate::{Mirrored, until};

#[test]
fn the_docker_cli_does_a_days_work() {
    if !programs::need_root() || !programs::need_docker_cli() {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    let docker = |args: &[&str]| daemon.docker(args);
    assert!(docker(&["pull", "debian:12"]).ok().contains("Status: Downloaded newer image for debian:12"));
    let mut shell = daemon.client(programs::docker().unwrap());
    shell.args(["run", "--rm", "-it", "debian:12", "bash"]);
    let mut terminal = Terminal::start(&shell).unwrap();
    terminal.expect("# ").unwrap();
    terminal.keys("echo $((6*7))-$(tty); exit 3\n").unwrap();
    terminal.expect("42-/dev/pts/0").unwrap();
    assert_eq!(terminal.finish().unwrap(), 3);

    let serve = "echo starting; exec lighttpd -D -f /etc/lighttpd/lighttpd.conf";
    let id = docker(&["run", "-d", "--name", "web", "-p", "127.0.0.1:8080:80", "debian:12", "sh", "-c", serve]).ok();
    assert_eq!(id.len(), 64);
    until("the web server to answer", || {
        daemon
            .sandbox()
            .http_get("127.0.0.1:8080", "/index.html")
            .is_ok_and(|answer| answer.contains("a real web server"))
    });
    let shown = docker(&["ps", "--format", "{{.ID}} {{.Image}} {{.Names}} {{.Ports}}"]).ok();
    assert_eq!(shown, format!("{} debian:12 web 127.0.0.1:8080->80/tcp", &id[..12]));
    assert_eq!(docker(&["exec", "web", "cat", "/proc/1/comm"]).ok(), "lighttpd");
    assert_eq!(docker(&["port", "web"]).ok(), "80/tcp -> 127.0.0.1:8080");
    assert_eq!(docker(&["inspect", "-f", "{{.State.Status}} {{.Config.Image}}", "web"]).ok(), "running debian:12");
    let mut follow = daemon.client(programs::docker().unwrap());
    follow.args(["logs", "-f", "web"]);
    let follow = command::Running::start(follow, b"").unwrap();
    assert_eq!(docker(&["stop", "web"]).ok(), "web");
    assert!(follow.finish(command::LIMIT).unwrap().ok().contains("starting"));
    assert_eq!(docker(&["rm", "web"]).ok(), "web");
    let images = docker(&["images"]).ok();
    assert!(images.lines().any(|line| line.starts_with("debian") && line.contains("12")), "{images}");
    let version = docker(&["version"]).ok();
    assert!(
        version.contains("Server:") && version.contains("Engine:") && version.contains("API version:"),
        "{version}"
    );
    let info = docker(&["info"]).ok();
    for part in
        ["Storage Driver: ", "Logging Driver: json-file", "Cgroup Version: ", "Live Restore Enabled: true", "seccomp"]
    {
        assert!(info.contains(part), "no {part:?} in:\n{info}");
    }
}

#[test]
fn docker_py_does_its_quick_start() {
    if !programs::need_root() {
        return;
    }
    let python = command::run({
        let mut python = std::process::Command::new("/usr/bin/python3");
        python.args(["-c", "import docker"]);
        python
    });
    if !programs::need("python3-docker", python.is_ok_and(|outcome| outcome.code == 0)) {
        return;
    }
    let host = Mirrored::start();
    let script = r#"
import docker
client = docker.from_env()
assert client.ping()
client.images.pull("busybox", tag="latest")
assert client.containers.run("busybox", ["echo", "hello", "world"], remove=True) == b"hello world\n"
container = client.containers.run("busybox", ["sh", "-c", "echo started; exec sleep 1000"], detach=True, name="py")
assert [one.name for one in client.containers.list()] == ["py"]
container = client.containers.get("py")
assert container.attrs["Config"]["Image"].startswith("busybox")
assert container.status == "running"
for _ in range(200):
    if container.logs() == b"started\n":
        break
assert container.logs() == b"started\n", container.logs()
code, output = container.exec_run("cat /etc/hostname")
assert code == 0 and output.strip().decode() == container.id[:12], output
container.stop(timeout=0)
assert container.wait()["StatusCode"] == 137
container.remove()
assert client.containers.list(all=True) == []
assert any("busybox:latest" in image.tags for image in client.images.list())
try:
    client.containers.run("busybox", ["sh", "-c", "exit 3"], remove=True)
    assert False
except docker.errors.ContainerError as error:
    assert error.exit_status == 3
try:
    client.containers.get("nosuch")
    assert False
except docker.errors.NotFound as error:
    assert "No such container: nosuch" in str(error)
print("done")
"#;
    let mut python = host.daemon.client("/usr/bin/python3");
    python.args(["-c", script]);
    let outcome = command::run(python).unwrap();
    assert_eq!(outcome.ok(), "done");
}
