//! Pulling real images from a real registry.

use ferry_testkit::terminal::Terminal;
use ferry_testkit::{command, programs};

use crate::{Mirrored, until};

#[test]
fn a_debian_of_several_layers_arrives_whole() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    let pulled = daemon.run(&["pull", "debian:12"]);
    assert!(pulled.ok().contains("Status: Downloaded newer image for debian:12"), "{pulled}");
    assert!(pulled.out().starts_with("12: Pulling from library/debian\n"), "{pulled}");
    let script = "set -e; . /etc/os-release; echo $ID $VERSION_ID; test ! -e /etc/issue; test ! -e /usr/share/doc/lighttpd; \
        ls -A /media; stat -c '%h %i' /odds/first /odds/second | uniq | cut -d' ' -f1; stat -c '%a %F' /odds/setuid /odds/fifo /odds/null; \
        stat -c '%u:%g %Y' /odds/owned; readlink /odds/climbing; ls /odds | grep -c -e spaces -e long-; \
        dpkg -s lighttpd | grep Status";
    let said = daemon.run(&["run", "--rm", "debian:12", "bash", "-c", script]).ok();
    let wanted = "debian 12\nonly\n2\n4755 regular file\n644 fifo\n644 character special file\n1234:5678 981173106\n\
        ../../../../etc/hostname\n2\nStatus: install ok installed";
    assert_eq!(said, wanted);
    assert_eq!(daemon.run(&["pull", "-q", "debian:12"]).ok(), "docker.io/library/debian:12");
    assert!(daemon.run(&["pull", "debian:12"]).ok().contains("Status: Image is up to date for debian:12"));
}

#[test]
fn extended_attributes_and_file_capabilities_are_kept() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let id = host.daemon.run(&["run", "-d", "debian:12", "sleep", "1000"]).ok();
    let pid = host.daemon.inspect(&id, "{{.State.Pid}}");
    // The pid is the sandbox's own count, so look from inside.
    let line = format!(
        "getfattr --absolute-names --only-values -n user.colour /proc/{pid}/root/odds/first; getcap /proc/{pid}/root/odds/capable"
    );
    let said = host.daemon.sh(&line);
    assert!(said.out().contains("blue") && said.out().contains("cap_net_raw=ep"), "{said}");
}

#[test]
fn zstd_layers_give_the_same_files() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    let _ = daemon.run(&["pull", "debian:12-zstd"]).ok();
    let _ = daemon.run(&["pull", "debian:12"]).ok();
    let layers = |image: &str| daemon.run(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", image]).ok();
    assert_eq!(layers("debian:12-zstd"), layers("debian:12"));
    assert_eq!(daemon.run(&["run", "--rm", "debian:12-zstd", "cat", "/media/only"]).ok(), "new");
    let unpacked = std::fs::read_dir(daemon.data_root().join("layers")).unwrap().flatten();
    let count = unpacked.filter(|entry| entry.path().join("diff").is_dir()).count();
    assert_eq!(count, 3, "the same layers are on disk once");
}

#[test]
fn an_interactive_debian_shell_and_a_web_server() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    let mut ferry = daemon.client(programs::binary("ferry").unwrap());
    ferry.args(["run", "--rm", "-it", "debian:12", "bash"]);
    let mut terminal = Terminal::start(&ferry).unwrap();
    terminal.expect("Pull complete").unwrap();
    terminal.expect("# ").unwrap();
    terminal.keys("echo $((6*7))-$TERM; exit\n").unwrap();
    terminal.expect("42-xterm").unwrap();
    assert_eq!(terminal.finish().unwrap(), 0);

    let serve = "echo starting; exec lighttpd -D -f /etc/lighttpd/lighttpd.conf";
    let _ = daemon.run(&["run", "-d", "--name", "web", "-p", "127.0.0.1:8080:80", "debian:12", "sh", "-c", serve]).ok();
    until("the web server to answer", || {
        daemon
            .sandbox()
            .http_get("127.0.0.1:8080", "/index.html")
            .is_ok_and(|answer| answer.contains("a real web server"))
    });
    assert_eq!(daemon.run(&["exec", "web", "cat", "/proc/1/comm"]).ok(), "lighttpd");
    let follow = daemon.spawn(&["logs", "-f", "web"]);
    let _ = daemon.run(&["stop", "web"]).ok();
    assert!(follow.finish(command::LIMIT).unwrap().ok().contains("starting"));
    assert_eq!(daemon.run(&["rm", "web"]).ok(), "web");
    assert!(daemon.sandbox().http_get("127.0.0.1:8080", "/").is_err());
}

#[test]
fn the_platform_of_this_machine_is_chosen_and_another_on_demand() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    assert_eq!(daemon.run(&["run", "--rm", "multi", "uname", "-m"]).ok(), "x86_64");
    let _ = daemon.run(&["pull", "--platform", "linux/arm64", "multi"]).ok();
    let foreign = daemon.run(&["run", "--rm", "--platform", "linux/arm64", "multi", "sh"]);
    assert!(foreign.code != 0 && foreign.err().contains("exec format error"), "{foreign}");
    let nowhere = daemon.run(&["pull", "foreign"]);
    assert!(nowhere.fails_with(1).contains("no matching manifest for linux/amd64"), "{nowhere}");
}

#[test]
fn many_clients_pull_one_image_once() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let running: Vec<_> =
        (0..4).map(|_| host.daemon.spawn(&["run", "--rm", "debian:12", "cat", "/etc/debian_version"])).collect();
    for one in running {
        assert!(one.finish(command::LIMIT).unwrap().ok().starts_with("12."));
    }
}

#[test]
fn images_are_named_by_registry_and_digest_too() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    let pulled = daemon.run(&["pull", "127.0.0.1:5000/ten/deep/name/busybox:1"]).ok();
    let digest = pulled.lines().find_map(|line| line.strip_prefix("Digest: ")).unwrap_or_default().to_owned();
    let _ = daemon.run(&["rmi", "127.0.0.1:5000/ten/deep/name/busybox:1"]).ok();
    let reference = format!("127.0.0.1:5000/ten/deep/name/busybox@{digest}");
    assert_eq!(daemon.run(&["run", "--rm", &reference, "echo", "by digest"]).ok(), "by digest");
}
