//! Volumes, binds and tmpfs.

use crate::until;
use ferry_testkit::image::{Compression, Dialect, Image, Layer};
use ferry_testkit::leak::Watch;
use ferry_testkit::material::Material;
use ferry_testkit::{Daemon, programs};

#[test]
fn a_named_volume_keeps_data_between_containers() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "--rm", "-v", "kept:/data", "busybox", "sh", "-c", "echo 1 >/data/f"]).ok();
    assert_eq!(daemon.run(&["run", "--rm", "-v", "kept:/data:ro", "busybox", "cat", "/data/f"]).ok(), "1");
    let write = daemon.run(&["run", "--rm", "-v", "kept:/data:ro", "busybox", "touch", "/data/g"]);
    assert!(write.err().contains("Read-only file system"), "{write}");
}

#[test]
fn a_new_volume_gets_what_the_image_has_there_with_its_owner() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    daemon.load(&Material::get().full());
    let _ = daemon.run(&["run", "--rm", "-v", "seeded:/data", "full"]).ok();
    assert_eq!(daemon.run(&["run", "--rm", "-v", "seeded:/x", "busybox", "cat", "/x/seed"]).ok(), "seed");
    assert_eq!(daemon.run(&["run", "--rm", "-v", "seeded:/x", "busybox", "stat", "-c", "%a", "/x"]).ok(), "777");
    let _ = daemon.run(&["run", "--rm", "-v", "plain:/data:nocopy", "full"]).ok();
    assert_eq!(daemon.run(&["run", "--rm", "-v", "plain:/x", "busybox", "ls", "/x"]).ok(), "");
}

#[test]
fn anonymous_volumes_go_with_a_container_that_is_removed_by_itself() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    daemon.load(&Material::get().full());
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["run", "--rm", "full"]).ok();
    let _ = daemon.run(&["run", "--rm", "-v", "/a", "--mount", "type=volume,target=/b", "busybox", "true"]).ok();
    let _ = daemon.run(&["create", "--name", "box", "-v", "/a", "busybox"]).ok();
    let _ = daemon.run(&["rm", "-v", "box"]).ok();
    watch.end().unwrap();
}

#[test]
fn binds_show_the_hosts_files_and_tmpfs_is_empty_and_limited() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let dir = daemon.sandbox().dir().join("bound");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("f"), "host\n").unwrap();
    let bind = format!("{}:/mnt", dir.display());
    assert_eq!(
        daemon.run(&["run", "--rm", "-v", &bind, "busybox", "sh", "-c", "cat /mnt/f; echo back >/mnt/g"]).ok(),
        "host"
    );
    assert_eq!(std::fs::read_to_string(dir.join("g")).unwrap(), "back\n");
    let file = format!("type=bind,source={}/f,target=/one,readonly", dir.display());
    let outcome = daemon.run(&["run", "--rm", "--mount", &file, "busybox", "sh", "-c", "cat /one; echo x >/one"]);
    assert!(outcome.code != 0 && outcome.out() == "host\n", "{outcome}");
    let missing = format!("{}/made:/mnt", dir.display());
    let _ = daemon.run(&["run", "--rm", "-v", &missing, "busybox", "true"]).ok();
    assert!(dir.join("made").is_dir(), "-v makes a missing folder, as Docker does");
    let full = daemon.run(&[
        "run",
        "--rm",
        "--tmpfs",
        "/t:size=64k",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/t/x",
        "bs=1k",
        "count=100",
    ]);
    assert!(full.err().contains("No space left"), "{full}");
}

#[test]
fn a_link_inside_the_image_cannot_lead_a_mount_to_the_host() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let outside = daemon.sandbox().dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let target = outside.display().to_string();
    let base = std::fs::read(Material::get().rootfs()).unwrap();
    let links = Layer::default().symlink("up", "../../../../../..").symlink("away", &target).into_tar();
    let evil =
        Image::build("amd64", &serde_json::json!({}), vec![base, links], Compression::Gzip, Dialect::Oci).unwrap();
    let archive = daemon.sandbox().dir().join("evil.tar");
    std::fs::write(&archive, evil.archive(&["evil:latest"])).unwrap();
    daemon.load(&archive);
    let inside =
        daemon.run(&["run", "--rm", "-v", "one:/up/tmp/ferry-inside", "evil", "ls", "-d", "/tmp/ferry-inside"]);
    assert_eq!(inside.ok(), "/tmp/ferry-inside");
    assert!(!std::path::Path::new("/tmp/ferry-inside").exists());
    let _ = daemon.run(&["run", "--rm", "-v", "two:/away/made", "--tmpfs", "/away/t", "evil", "true"]);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "nothing was made on the host");
}

#[test]
fn volumes_are_copied_renamed_packed_and_asked_about() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let script = "mkdir /v/d; echo one >/v/d/f; ln /v/d/f /v/hard; ln -s d/f /v/soft; chown 1000:1000 /v/d; touch -d @1000000000 /v/d/f";
    let _ = daemon.run(&["run", "--rm", "-v", "data:/v", "busybox", "sh", "-c", script]).ok();
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["create", "--name", "user", "-v", "data:/v:ro", "busybox", "cat", "/v/soft"]).ok();
    let looks = |name: &str| {
        let look = "cd /v; find . | sort; stat -c '%u %Y %h' d d/f; readlink soft";
        daemon.run(&["run", "--rm", "-v", &format!("{name}:/v"), "busybox", "sh", "-c", look]).ok()
    };
    let before = looks("data");
    assert_eq!(daemon.run(&["volume", "cp", "data", "copy"]).ok(), "copy");
    assert_eq!(looks("copy"), before);
    let snapshot = daemon.run(&["volume", "snapshot", "data"]).ok();
    assert!(snapshot.starts_with("data.2"), "{snapshot}");
    let label =
        daemon.run(&["volume", "inspect", "-f", "{{index .Labels \"org.ferry.volume.snapshot-of\"}}", &snapshot]);
    assert_eq!(label.ok(), "data");
    let taken = daemon.run(&["volume", "cp", "data", "copy"]);
    assert!(taken.fails_with(1).contains("a volume copy is there already"), "{taken}");
    let tar = daemon.sandbox().dir().join("data.tar").display().to_string();
    let _ = daemon.run(&["volume", "export", "-o", &tar, "data"]).ok();
    let _ = daemon.run(&["volume", "import", "unpacked", &tar]).ok();
    assert_eq!((looks("unpacked"), looks("data")), (before.clone(), before));
    let used = daemon.run(&["volume", "used-by", "data"]).ok();
    assert!(
        used.contains("user") && used.contains("created") && used.contains("/v") && used.contains("read-only"),
        "{used}"
    );
    let usage = daemon.run(&["volume", "du", "data"]).ok();
    assert!(usage.lines().nth(1).is_some_and(|line| line.starts_with("data") && line.ends_with('1')), "{usage}");
    // Whoever has it goes on with the new name, and a daemon that is killed knows it.
    let _ = daemon.run(&["volume", "mv", "data", "renamed"]).ok();
    daemon.kill().unwrap();
    daemon.start().unwrap();
    assert_eq!(daemon.run(&["start", "-a", "user"]).ok(), "one");
    assert_eq!(daemon.inspect("user", "{{.HostConfig.Binds}} {{(index .Mounts 0).Name}}"), "[renamed:/v:ro] renamed");
    let _ = daemon.run(&["run", "-d", "--name", "busy", "-v", "renamed:/v", "busybox", "sleep", "1000"]).ok();
    let busy = daemon.run(&["volume", "mv", "renamed", "again"]);
    assert!(busy.fails_with(1).contains("containers run with it - [busy]"), "{busy}");
    let _ = daemon.run(&["rm", "-f", "busy", "user"]).ok();
    let _ = daemon.run(&["volume", "mv", "renamed", "data"]).ok();
    let _ = daemon.run(&["volume", "rm", "copy", "unpacked", &snapshot]).ok();
    watch.end().unwrap();
}

#[test]
fn an_import_is_whole_or_changes_nothing_and_a_copy_is_of_one_moment() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let inside = |name: &str, script: &str| {
        daemon.run(&["run", "--rm", "-v", &format!("{name}:/v"), "busybox", "sh", "-c", script]).ok()
    };
    let files = |name: &str| inside(name, "cd /v; stat -c '%u:%g %a' .; grep . * 2>/dev/null; true");
    let file = |name: &str| daemon.sandbox().dir().join(name).display().to_string();
    let (tar, broken) = (file("data.tar"), file("broken.tar"));
    let _ = inside("data", "echo one >/v/f; chown 12:34 /v; chmod 750 /v");
    let first = files("data");
    assert_eq!(first, "12:34 750\none");
    let _ = daemon.run(&["volume", "export", "-o", &tar, "data"]).ok();
    std::fs::write(&broken, &std::fs::read(&tar).unwrap()[..600]).unwrap();
    let _ = inside("data", "echo two >/v/f; echo more >/v/g");
    let second = files("data");
    let refused = |args: &[&str]| daemon.run(&[&["volume"], args].concat()).fails_with(1);
    let said = refused(&["import", "data", &tar]);
    assert!(
        said.contains("import data: the volume has files already; `--replace` puts those of the archive"),
        "{said}"
    );
    let _ = refused(&["import", "--replace", "data", &broken]);
    let _ = refused(&["import", "fresh", &broken]);
    let said = refused(&["import", "--replace", "data", "/dev/null"]);
    assert!(said.contains("the archive is empty"), "{said}");
    assert_eq!(files("data"), second, "nothing has changed");
    let _ = daemon.run(&["volume", "import", "elsewhere", &tar]).ok();
    assert_eq!(files("elsewhere"), first, "owner and mode of the folder itself came along");
    let _ = daemon.run(&["volume", "rm", "elsewhere"]).ok();
    let _ = daemon.run(&["run", "-d", "--name", "busy", "-v", "data:/v", "busybox", "sleep", "1000"]).ok();
    let said = refused(&["import", "--replace", "data", &tar]);
    assert!(said.contains("import data: containers run with it - [busy]"), "{said}");
    for verb in ["cp", "snapshot"] {
        let said = refused(&[verb, "data", "copy"]);
        assert!(said.contains("copy data: containers that run may write to it - [busy]; `--pause` holds"), "{said}");
    }
    assert!(refused(&["cp", "--pause", "--live", "data", "copy"]).contains("conflicting options"));
    assert_eq!(daemon.run(&["volume", "ls", "-q"]).ok(), "data", "nothing is left of what failed");
    let _ = daemon.run(&["volume", "cp", "--pause", "data", "held"]).ok();
    assert_eq!(daemon.inspect("busy", "{{.State.Status}}"), "running", "it goes on");
    let paused = "docker() { ferry \"$@\"; }; ferry events --since 0 --until $(date +%s.%N) -f event=pause -f event=unpause --format '{{.Action}}'";
    assert_eq!(daemon.sh(paused).ok(), "pause\nunpause");
    let _ = daemon.run(&["volume", "snapshot", "--live", "data", "live"]).ok();
    let _ = daemon.run(&["rm", "-f", "busy"]).ok();
    let _ = daemon.run(&["run", "-d", "--name", "reader", "-v", "data:/v:ro", "busybox", "sleep", "1000"]).ok();
    let _ = daemon.run(&["volume", "cp", "data", "read"]).ok();
    for copy in ["held", "live", "read"] {
        assert_eq!(files(copy), second, "{copy}");
    }
    // Who has it and does not run finds the new files.
    let _ = daemon.run(&["rm", "-f", "reader"]).ok();
    let _ = daemon.run(&["create", "--name", "later", "-v", "data:/v", "busybox", "cat", "/v/f"]).ok();
    let _ = daemon.run(&["volume", "import", "--replace", "data", &tar]).ok();
    assert_eq!(files("data"), first);
    assert_eq!(daemon.run(&["start", "-a", "later"]).ok(), "one");
    let _ = daemon.run(&["rm", "later"]).ok();
    if !daemon.run(&["doctor", "storage"]).ok().contains("Volume limits:        none") {
        let _ = daemon.run(&["volume", "create", "--size", "16m", "small"]).ok();
        let _ = refused(&["import", "small", &broken]);
        let _ = daemon.run(&["volume", "import", "small", &tar]).ok();
        assert_eq!(inside("small", "cat /v/f"), "one");
        assert!(refused(&["import", "small", &tar]).contains("the volume has files already"));
        let _ = daemon.run(&["volume", "rm", "small"]).ok();
    }
    let _ = daemon.run(&["volume", "rm", "data", "held", "live", "read"]).ok();
    watch.end().unwrap();
}

#[test]
fn a_volume_holds_no_more_than_it_may() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let facts = daemon.run(&["doctor", "storage"]).ok();
    if !programs::need("loop devices or project quotas", !facts.contains("Volume limits:        none")) {
        return;
    }
    let watch = Watch::daemon(&daemon);
    let _ = daemon.run(&["volume", "create", "--size", "16m", "small"]).ok();
    let write = "dd if=/dev/zero of=/v/x bs=1M count=32; ls /v";
    let full = daemon.run(&["run", "--rm", "-v", "small:/v", "busybox", "sh", "-c", write]);
    assert!(full.err().contains("No space left on device") || full.err().contains("quota"), "{full}");
    assert_eq!(full.out(), "x\n", "its files are its own");
    let kept =
        daemon.run(&["run", "--rm", "-v", "small:/v", "busybox", "sh", "-c", "rm /v/x; echo kept >/v/f; cat /v/f"]);
    assert_eq!(kept.ok(), "kept");
    assert_eq!(daemon.run(&["run", "--rm", "-v", "small:/v", "busybox", "cat", "/v/f"]).ok(), "kept");
    let _ = daemon.run(&["volume", "rm", "small"]).ok();
    watch.end().unwrap();
    let asked = daemon.run(&["volume", "create", "-o", "size=16m", "quota"]);
    assert!(asked.code == 0 || asked.err().contains("quota size requested but no quota support"), "{asked}");
}

#[test]
fn bound_files_are_the_containers_users_and_made_folders_their_neighbours() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let home = daemon.sandbox().dir().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("f"), "mine\n").unwrap();
    std::os::unix::fs::chown(&home, Some(1234), Some(4321)).unwrap();
    std::os::unix::fs::chown(home.join("f"), Some(1234), Some(4321)).unwrap();
    let owner = |path: &str| {
        let metadata = std::fs::metadata(home.join(path)).unwrap();
        (std::os::unix::fs::MetadataExt::uid(&metadata), std::os::unix::fs::MetadataExt::gid(&metadata))
    };
    // What is made on the way belongs to whom it is made for.
    let made = format!("{}/a/b:/x", home.display());
    let _ = daemon.run(&["run", "--rm", "-v", &made, "busybox", "true"]).ok();
    assert_eq!((owner("a"), owner("a/b")), ((1234, 4321), (1234, 4321)));
    if !programs::need("idmapped mounts", daemon.run(&["doctor", "storage"]).ok().contains("Idmapped mounts:      yes"))
    {
        return;
    }
    let bind = format!("{}:/x:own", home.display());
    let script = "stat -c '%u:%g' /x/f; echo new >/x/g && stat -c '%u:%g' /x/g";
    assert_eq!(daemon.run(&["run", "--rm", "-v", &bind, "busybox", "sh", "-c", script]).ok(), "0:0\n0:0");
    assert_eq!(owner("g"), (1234, 4321), "on the host it is the owner's");
    let as_user = daemon.run(&[
        "run",
        "--rm",
        "-u",
        "1000:1000",
        "-v",
        &bind,
        "busybox",
        "sh",
        "-c",
        "stat -c '%u:%g' /x/f; echo >>/x/f && echo done",
    ]);
    assert_eq!(as_user.ok(), "1000:1000\ndone");
    let named = daemon.run(&["run", "--rm", "-v", "data:/x:own", "busybox", "true"]);
    assert!(named.code != 0 && named.err().contains("invalid mode: own"), "{named}");
}

#[test]
fn a_volume_is_whole_though_one_of_its_name_is_removed_at_the_same_time() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    let name = serde_json::json!({ "Name": "same" });
    let create = || daemon.api("POST", "/volumes/create", Some(&name));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let removed = daemon.api("DELETE", "/volumes/same", None);
                    assert!(matches!(removed.status, 204 | 404), "{}", removed.text());
                }
            });
            scope.spawn(|| {
                for _ in 0..100 {
                    let made = create();
                    assert_eq!(made.status, 201, "{}", made.text());
                }
            });
        }
    });
    let folder = create().json()["Mountpoint"].as_str().unwrap().to_owned();
    assert!(std::path::Path::new(&folder).is_dir(), "{folder}");
    daemon.kill().unwrap();
    daemon.start().unwrap();
    assert_eq!(daemon.run(&["volume", "ls", "-q"]).ok(), "same", "its record is there");
    let _ = daemon.run(&["volume", "rm", "same"]).ok();
    watch.end().unwrap();
}

/// Nothing is left, whenever the daemon is killed while volumes come and go.
#[test]
fn a_daemon_killed_while_volumes_come_and_go_leaves_nothing() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let plugin = ferry_testkit::plugin::Plugin::in_sandbox(daemon.sandbox(), "sample").unwrap();
    let _ = daemon.run(&["volume", "create", "before"]).ok();
    let watch = Watch::daemon(&daemon);
    let stop = daemon.sandbox().dir().join("stop");
    let work = "i=0; while [ ! -e \"$STOP\" ]; do i=$((i+1)); \
        docker volume create -o type=tmpfs -o device=tmpfs t$i; docker run --rm -v t$i:/t -v /anon -v n$i:/n busybox true; \
        docker volume create -d sample p$i; docker run --rm -v p$i:/p busybox true; docker volume cp n$i c$i; docker volume mv c$i m$i; \
        docker volume rm t$i n$i p$i m$i; done >/dev/null 2>&1";
    let ferry = programs::binary("ferry").unwrap();
    let line = format!("docker() {{ echo >>\"$BEGUN\"; '{}' \"$@\"; }}\n{work}", ferry.display());
    let begun = daemon.sandbox().dir().join("begun");
    let mut shell = daemon.client("sh");
    shell.args(["-c", &line]).env("STOP", &stop).env("BEGUN", &begun);
    let worker = ferry_testkit::command::Running::start(shell, b"").unwrap();
    let commands = || std::fs::metadata(&begun).map_or(0, |metadata| metadata.len());
    for round in 0..6 {
        // Another command of the work is under way each time.
        let moment = commands() + 2 + round;
        until("the work to get on", || commands() >= moment);
        daemon.kill().unwrap();
        daemon.start().unwrap();
    }
    std::fs::write(&stop, "").unwrap();
    let _ = worker.finish(4 * ferry_testkit::command::LIMIT).unwrap();
    let _ = daemon.sh("docker() { ferry \"$@\"; }; ferry ps -aq | xargs -r ferry rm -f -v; ferry volume ls -q | grep -v -e '^before$' | xargs -r ferry volume rm -f");
    assert_eq!(daemon.run(&["volume", "ls", "-q"]).ok(), "before");
    drop(plugin);
    watch.end().unwrap();
}
