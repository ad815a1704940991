//! Images: saved and loaded, in both directions, with other tools too.

use ferry_testkit::{Daemon, Sandbox, programs};

use crate::Mirrored;

#[test]
fn saved_images_are_the_same_in_another_engine() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let from = &host.daemon;
    let _ = from.run(&["pull", "multi"]).ok();
    let _ = from.run(&["pull", "--platform", "linux/arm64", "multi"]).ok();
    let _ = from.run(&["pull", "busybox"]).ok();
    let _ = from.run(&["tag", "busybox", "second:2"]).ok();
    let archive = from.sandbox().dir().join("both.tar");
    let path = archive.to_str().unwrap();
    let _ = from.run(&["save", "-o", path, "multi", "busybox", "second:2"]).ok();

    let to = Daemon::ferry(from.sandbox(), "b").args(&["--bridge", "none", "--iptables=false"]);
    to.start().unwrap();
    let loaded = to.run(&["load", "-i", path]).ok();
    assert_eq!(loaded, "Loaded image: multi:latest\nLoaded image: busybox:latest\nLoaded image: second:2");
    for name in ["multi", "busybox", "second:2"] {
        assert_eq!(from.inspect(name, "{{.Id}}"), to.inspect(name, "{{.Id}}"), "{name}");
    }
    assert_eq!(to.run(&["run", "--rm", "--network", "none", "multi", "echo", "ran"]).ok(), "ran");

    let compressed = from.sh(&format!(
        "cd {} && for tool in gzip bzip2 xz; do $tool -1 -k -c both.tar >both.$tool; done && \
         docker save busybox >stdout.tar && cmp stdout.tar stdout.tar",
        from.sandbox().dir().display()
    ));
    let _ = compressed.ok();
    for name in ["both.gzip", "both.bzip2", "both.xz"] {
        let _ = to.run(&["rmi", "-f", "multi", "busybox", "second:2"]).ok();
        let file = from.sandbox().dir().join(name);
        let loaded = to.run_with_input(&["load"], &std::fs::read(file).unwrap()).ok();
        assert!(loaded.starts_with("Loaded image: multi:latest\n"), "{name}: {loaded}");
    }
    let arm = from.sandbox().dir().join("arm.tar");
    let _ = from.run(&["save", "--platform", "linux/arm64", "-o", arm.to_str().unwrap(), "multi"]).ok();
    let refused = to.run(&["load", "--platform", "linux/amd64", "-i", arm.to_str().unwrap()]);
    let text = "image multi:latest was loaded, but doesn't provide the requested platform ([linux/amd64])";
    assert!(refused.fails_with(1).contains(text), "{refused}");
    let nothing = from.run(&["save", "-o", path, "nothing"]);
    assert_eq!(nothing.fails_with(1), "Error response from daemon: No such image: nothing:latest");
    assert!(archive.exists(), "a failed save leaves what was there");
}

#[test]
fn skopeo_reads_and_writes_archives() {
    if !programs::need_root() || !programs::need("skopeo", programs::on_path("skopeo").is_some()) {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    let _ = daemon.run(&["pull", "full:latest"]).ok();
    let id = daemon.inspect("full:latest", "{{.Id}}");
    let dir = daemon.sandbox().dir();
    let copied = daemon.sh(&format!(
        "set -e; cd {}; docker save -o saved.tar full:latest; \
         skopeo --insecure-policy copy -q --preserve-digests oci-archive:saved.tar oci:layout:full >&2; \
         skopeo --insecure-policy copy -q docker-archive:saved.tar docker-archive:old.tar:mine/full:old >&2; \
         tar -C layout -cf layout.tar . ; grep -o 'sha256:[0-9a-f]*' layout/index.json",
        dir.display()
    ));
    assert_eq!(copied.ok(), id, "the digest is the same in skopeo's layout");
    let _ = daemon.run(&["rmi", "full:latest"]).ok();
    let loaded = daemon.run(&["load", "-i", dir.join("layout.tar").to_str().unwrap()]).ok();
    assert_eq!(loaded, format!("Loaded image ID: {id}"));
    let loaded = daemon.run(&["load", "-i", dir.join("old.tar").to_str().unwrap()]).ok();
    assert_eq!(loaded, "Loaded image: mine/full:old");
    let layers = |image: &str| daemon.inspect(image, "{{json .RootFS.Layers}}");
    assert_eq!(layers("mine/full:old"), layers(&id));
    let read = ["run", "--rm", "--entrypoint", "cat", "mine/full:old", "/data/seed"];
    assert_eq!(daemon.run(&read).ok(), "seed");
}

/// The older Docker, where the machine has it.
fn older_docker(sandbox: &std::sync::Arc<Sandbox>) -> Option<Daemon> {
    let dockerd = programs::on_path("dockerd");
    if !programs::need("dockerd", dockerd.is_some()) {
        return None;
    }
    Some(Daemon::new(sandbox, "o", dockerd?).args(&["--bridge", "none", "--iptables=false"]))
}

#[test]
fn older_docker_loads_what_was_saved_and_the_other_way_round() {
    if !programs::need_root() || !programs::need_docker_cli() {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    let Some(docker) = older_docker(daemon.sandbox()) else { return };
    docker.start().unwrap();
    let _ = daemon.run(&["pull", "full"]).ok();
    let _ = daemon.run(&["tag", "full", "also:1"]).ok();
    let dir = daemon.sandbox().dir();
    let (ours, theirs) = (dir.join("ours.tar"), dir.join("theirs.tar"));
    let _ = daemon.run(&["save", "-o", ours.to_str().unwrap(), "full:latest", "also:1"]).ok();
    let loaded = docker.docker(&["load", "-i", ours.to_str().unwrap()]).ok();
    assert!(loaded.contains("Loaded image: full:latest") && loaded.contains("Loaded image: also:1"), "{loaded}");
    let config = docker.docker(&["inspect", "-f", "{{.Id}}", "full"]).ok();
    assert_eq!(
        daemon.run(&["inspect", "--type", "image", "-f", "{{.RepoTags}}", &config]).ok(),
        "[also:1 full:latest]"
    );
    let _ = docker.docker(&["save", "-o", theirs.to_str().unwrap(), "full", "also:1"]).ok();
    let _ = daemon.run(&["rmi", "full", "also:1"]).ok();
    let loaded = daemon.run(&["load", "-i", theirs.to_str().unwrap()]).ok();
    assert!(loaded.contains("Loaded image: full:latest") && loaded.contains("Loaded image: also:1"), "{loaded}");
    let layers = daemon.inspect("full", "{{json .RootFS.Layers}}");
    assert_eq!(docker.docker(&["inspect", "-f", "{{json .RootFS.Layers}}", "full"]).ok(), layers);
}
