//! Volumes, binds and tmpfs.

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
