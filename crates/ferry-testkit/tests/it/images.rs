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
    let text = "requested platform(s) ([linux/amd64]) not found: image might be filtered out";
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

#[test]
fn disk_usage_is_what_the_disk_says() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    let _ = daemon.run(&["pull", "multi"]).ok();
    let _ = daemon.run(&["pull", "full"]).ok();
    let script = "dd if=/dev/zero of=/data/f bs=1000 count=3; dd if=/dev/zero of=/x bs=1000 count=2";
    let _ = daemon.run(&["run", "--name", "one", "-v", "kept:/data", "multi", "sh", "-c", script]).ok();
    let _ = daemon.run(&["volume", "create", "unused"]).ok();
    let usage = daemon.api("GET", "/v1.52/system/df?verbose=1", None).json();
    let blobs: u64 = std::fs::read_dir(daemon.data_root().join("content/blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    let layers: u64 = daemon
        .sh(&format!(
            "find {}/layers/*/diff -type f -printf '%s\\n' | awk '{{ sum += $1 }} END {{ print sum }}'",
            daemon.data_root().display()
        ))
        .ok()
        .parse()
        .unwrap();
    assert_eq!(usage["ImageUsage"]["TotalSize"], blobs + layers);
    assert_eq!((&usage["ImageUsage"]["TotalCount"], &usage["ImageUsage"]["ActiveCount"]), (&2.into(), &1.into()));
    assert_eq!(usage["ContainerUsage"]["TotalSize"], 2000);
    assert_eq!(usage["ContainerUsage"]["Reclaimable"], 2000);
    assert_eq!(usage["VolumeUsage"]["TotalSize"], 3000);
    assert_eq!(usage["VolumeUsage"]["ActiveCount"], 1);
    assert!(usage.get("LayersSize").is_none());
    let older = daemon.api("GET", "/v1.51/system/df", None).json();
    assert_eq!(older["LayersSize"], blobs + layers);
    assert_eq!(older["Volumes"].as_array().unwrap().len(), 2);
    let one = daemon.api("GET", "/v1.52/system/df?type=volume", None).json();
    assert!(one.get("Images").is_none() && one["VolumeUsage"]["TotalCount"] == 2);
    assert_eq!(daemon.api("GET", "/v1.52/system/df?type=x", None).status, 400);

    let table = daemon.run(&["system", "df"]).ok();
    assert!(table.starts_with("TYPE            TOTAL     ACTIVE    SIZE"), "{table}");
    assert!(table.contains("\nContainers      1         0         2kB       2kB (100%)\n"), "{table}");
    let verbose = daemon.run(&["system", "df", "-v"]).ok();
    assert!(verbose.contains("\nLocal Volumes space usage:\n\nVOLUME NAME   LINKS     SIZE\n"), "{verbose}");
    assert!(verbose.contains("kept          1         3kB"), "{verbose}");
    assert_eq!(
        daemon.run(&["system", "df", "--format", "{{.Type}}:{{.TotalCount}}"]).ok(),
        "Images:2\nContainers:1\nLocal Volumes:2\nBuild Cache:0"
    );

    let asked = daemon.run_with_input(&["system", "prune"], b"n\n");
    assert!(asked.ok().contains("  - all stopped containers\n"), "{asked}");
    assert!(daemon.run(&["ps", "-aq"]).ok().lines().count() == 1, "no means no");
    let pruned = daemon.run(&["system", "prune", "-a", "-f"]).ok();
    assert!(pruned.contains("Deleted Images:\n") && pruned.contains("untagged: full:latest"), "{pruned}");
    assert_eq!(daemon.run(&["images", "-q"]).ok(), "");
}

#[test]
fn single_platforms_are_removed_and_filters_choose_what_is_pruned() {
    if !programs::need_root() {
        return;
    }
    let host = Mirrored::start();
    let daemon = &host.daemon;
    let _ = daemon.run(&["pull", "multi"]).ok();
    let _ = daemon.run(&["pull", "--platform", "linux/arm64", "multi"]).ok();
    let _ = daemon.run(&["pull", "busybox"]).ok();
    let unforced = daemon.run(&["rmi", "--platform", "linux/arm64", "multi"]);
    assert!(
        unforced.fails_with(1).contains("Content will be removed from all images referencing this variant."),
        "{unforced}"
    );
    let removed = daemon.run(&["rmi", "-f", "--platform", "linux/arm64", "multi"]).ok();
    assert!(removed.starts_with("Deleted: sha256:"), "{removed}");
    let gone = daemon.run(&["image", "inspect", "--platform", "linux/arm64", "multi"]);
    assert!(gone.code == 1, "{gone}");
    assert_eq!(daemon.run(&["run", "--rm", "multi", "echo", "here"]).ok(), "here");
    let _ = daemon.run(&["run", "--name", "user", "multi", "true"]).ok();
    let used = daemon.run(&["rmi", "-f", "--platform", "linux/amd64", "multi"]);
    assert!(used.fails_with(1).contains("cannot be forced"), "{used}");

    let _ = daemon.run(&["pull", "full"]).ok();
    let kept = daemon.run(&["image", "prune", "-af", "--filter", "label!=org.example.label"]).ok();
    assert!(kept.contains("untagged: busybox:latest") && !kept.contains("full"), "{kept}");
    let none = daemon.run(&["image", "prune", "-af", "--filter", "until=24h"]).ok();
    assert_eq!(none, "Total reclaimed space: 0B");
    let rest = daemon.run(&["image", "prune", "-af", "--filter", "label=org.example.label=value"]).ok();
    assert!(rest.contains("untagged: full:latest"), "{rest}");
    assert_eq!(daemon.run(&["images", "--format", "{{.Repository}}"]).ok(), "multi");
}

#[test]
fn archives_are_imported_from_a_url() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let dir = daemon.sandbox().dir();
    let _ = daemon
        .sh(&format!(
            "mkdir {0}/www && cp {1} {0}/www/root.tar && xz -k {0}/www/root.tar",
            dir.display(),
            ferry_testkit::material::Material::get().rootfs().display()
        ))
        .ok();
    let _server = daemon
        .sh(&format!("cd {}/www && (python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 &)", dir.display()));
    crate::until("the server to listen", || daemon.sandbox().http_get("127.0.0.1:8000", "/").is_ok());
    let imported =
        daemon.run(&["import", "-c", "CMD [\"echo\", \"from afar\"]", "http://127.0.0.1:8000/root.tar", "afar:1"]);
    let lines: Vec<String> = imported.ok().lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "Downloading from http://127.0.0.1:8000/root.tar");
    assert_eq!(lines.last().unwrap(), &daemon.inspect("afar:1", "{{.Id}}"));
    assert_eq!(daemon.run(&["run", "--rm", "afar:1"]).ok(), "from afar");
    let _ = daemon.run(&["import", "http://127.0.0.1:8000/root.tar.xz", "packed:1"]).ok();
    assert_eq!(
        daemon.inspect("packed:1", "{{json .RootFS.Layers}}"),
        daemon.inspect("afar:1", "{{json .RootFS.Layers}}")
    );
    let missing = daemon.run(&["import", "http://127.0.0.1:8000/none.tar"]);
    assert!(missing.fails_with(1).contains("failed to GET http://127.0.0.1:8000/none.tar"), "{missing}");
}
