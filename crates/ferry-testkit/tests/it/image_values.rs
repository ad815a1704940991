//! What images say of themselves is data: it steers no part of the engine and no terminal.

use ferry_testkit::image::{Compression, Dialect, Image, Layer, digest};
use ferry_testkit::material::Material;
use ferry_testkit::terminal::Terminal;
use ferry_testkit::{Daemon, programs};
use serde_json::json;

/// Words that engines and runtimes take from labels and annotations, each naming `program`.
const STEERING: [&str; 7] = [
    "io.ferry.runtime",
    "io.ferry.hook",
    "containerd.io/restart.loguri",
    "io.containerd.image.config.stop-signal",
    "run.oci.hooks.stdout",
    "run.oci.handler",
    "org.opencontainers.runc.exec",
];

/// An image of busybox whose configuration means harm.
fn image(program: &str) -> Vec<u8> {
    let rootfs = std::fs::read(Material::get().rootfs()).unwrap();
    let labels: serde_json::Map<_, _> =
        STEERING.iter().map(|name| ((*name).to_owned(), json!(format!("binary://{program}?id=1")))).collect();
    let config = json!({
        "created": "2024-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
        "config": {
            "Cmd": ["env"],
            "Labels": labels,
            "Env": [
                "PATH=/bin:/sbin:/usr/bin", format!("LD_PRELOAD={program}"), format!("_FERRY_HELPER={program}"),
                "LISTEN_FDS=3", "LISTEN_PID=1", format!("XDG_RUNTIME_DIR={program}"), "LINE=one\ntwo",
            ],
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&rootfs)]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "RUN \u{1b}[31mred\u{7}"}],
    });
    Image::of_parts(config.to_string().into_bytes(), vec![rootfs], Compression::None, Dialect::Oci)
        .archive(&["steering:1"])
}

#[test]
fn labels_and_variables_steer_nothing() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let dir = daemon.sandbox().dir();
    let (program, fired) = (dir.join("program"), dir.join("fired"));
    let made = daemon.sandbox().sh(&format!(
        "printf '#!/bin/sh\\ntouch {}\\n' >{1} && chmod 755 {1}",
        fired.display(),
        program.display()
    ));
    let _ = made.ok();
    let path = program.display().to_string();
    let loaded = daemon.run_with_input(&["load", "-q"], &image(&path));
    assert_eq!(loaded.ok(), "Loaded image: steering:1");

    // The program gets it all, and nobody else: not on the way in, not for execs, checks and copies.
    let said = daemon.run(&["run", "--rm", "--init", "steering:1"]).ok();
    assert!(said.contains(&format!("LD_PRELOAD={path}")) && said.contains("LINE=one\ntwo"), "{said}");
    let check = ["run", "-d", "--name", "box", "--health-cmd", "true", "--health-interval", "100ms", "steering:1"];
    let _ = daemon.run(&[&check[..], &["sleep", "1000"]].concat()).ok();
    crate::until("the check", || daemon.inspect("box", "{{.State.Health.Status}}") == "healthy");
    assert!(daemon.run(&["exec", "box", "env"]).ok().contains("LISTEN_FDS=3"));
    let _ = daemon.run(&["cp", "box:/bin/busybox", &dir.join("copied").display().to_string()]).ok();
    let _ = daemon.run(&["commit", "box", "steering:2"]).ok();
    let _ = daemon.run(&["top", "box"]).ok();
    let _ = daemon.run(&["rm", "-f", "box"]).ok();
    assert!(!fired.exists(), "something ran the program");
    assert!(!daemon.log().contains("preload"), "{}", daemon.log());

    // Both detectors see what they are there for.
    let control = daemon.sandbox().sh(&format!("LD_PRELOAD={path} /bin/true; {path}"));
    assert!(control.err().contains("preload") && fired.exists(), "{control}");
}

#[test]
fn texts_of_images_do_not_reach_the_terminal_as_they_are() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run_with_input(&["load", "-q"], &image("/none")).ok();
    let _ = daemon.run(&["create", "--name", "box", "steering:1", "echo", "\u{1b}[2J"]).ok();
    for words in [&["history", "--no-trunc", "steering:1"][..], &["ps", "-a", "--no-trunc"], &["images"]] {
        let mut ferry = daemon.client(programs::binary("ferry").unwrap());
        ferry.args(words);
        let (code, shown) = Terminal::start(&ferry).unwrap().finish_showing().unwrap();
        assert_eq!(code, 0, "{shown}");
        assert!(!shown.contains(['\u{1b}', '\u{7}']), "{words:?}: {shown:?}");
    }
    // For programs it is what it is.
    let exact = daemon.run(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "steering:1"]);
    assert_eq!(exact.ok(), "RUN \u{1b}[31mred\u{7}");
}

#[test]
fn tools_of_a_container_are_not_run_for_it() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let dir = daemon.sandbox().dir();
    // Under every name by which somebody unpacks, and as a library that looks up users.
    let names = ["bin/xz", "bin/gzip", "bin/tar", "usr/bin/unpigz", "usr/bin/xz", "sbin/zstd"];
    let planted = names
        .iter()
        .fold(Layer::default().dir("lib/", 0o755), |layer, name| layer.file(name, 0o755, b"#!/bin/sh\ntouch /fired\n"));
    let planted = planted.file("lib/libnss_files.so.2", 0o755, b"not a library").into_tar();
    let _ = daemon.run(&["create", "--name", "box", "busybox", "sh", "-c", "/usr/bin/xz; ls /fired"]).ok();
    let _ = daemon.run_with_input(&["cp", "-", "box:/"], &planted).ok();
    let line = format!(
        "cd {} && echo said >file && tar -c file | xz >file.tar.xz && tar -c file | gzip >file.tar.gz",
        dir.display()
    );
    let _ = daemon.sh(&line).ok();
    for archive in ["file.tar.xz", "file.tar.gz"] {
        let _ = daemon.run_with_input(&["cp", "-", "box:/tmp"], &std::fs::read(dir.join(archive)).unwrap()).ok();
        assert_eq!(daemon.sh("ferry cp box:/tmp/file - | tar -xO").ok(), "said", "{archive}");
    }
    let _ = daemon.run(&["commit", "box", "box:1"]).ok();
    assert!(!daemon.run(&["diff", "box"]).ok().contains("/fired"));
    // The container itself does run them.
    assert_eq!(daemon.run(&["start", "-a", "box"]).ok(), "/fired");
}
