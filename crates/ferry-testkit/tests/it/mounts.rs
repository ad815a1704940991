//! `-v`, `--mount`, `--tmpfs` and `--volumes-from`: what is asked for is what is mounted.

use ferry_testkit::image::{Compression, Dialect, Image, Layer};
use ferry_testkit::leak::Watch;
use ferry_testkit::material::Material;
use ferry_testkit::{Daemon, programs};

#[test]
fn options_of_a_local_volume_are_mounted_while_it_is_used() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let host = daemon.sandbox().dir().join("exported");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("f"), "host\n").unwrap();
    let device = format!("device={}", host.display());
    let _ = daemon.run(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "bound"]).ok();
    let in_memory =
        ["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=64k,uid=1000", "memory"];
    let _ = daemon.run(&in_memory).ok();
    let watch = Watch::daemon(&daemon);
    assert_eq!(
        daemon.run(&["run", "--rm", "-v", "bound:/x", "busybox", "sh", "-c", "cat /x/f; echo back >/x/g"]).ok(),
        "host"
    );
    assert_eq!(std::fs::read_to_string(host.join("g")).unwrap(), "back\n");
    let stat = "stat -c %u /x; df -k /x | tail -n 1 | awk '{print $2}'";
    assert_eq!(daemon.run(&["run", "--rm", "-v", "memory:/x", "busybox", "sh", "-c", stat]).ok(), "1000\n64");
    // Two containers have the same files, and a daemon that was killed finds them again.
    let _ = daemon.run(&["run", "-d", "--name", "one", "-v", "memory:/x", "busybox", "sleep", "1000"]).ok();
    let _ = daemon.run(&["exec", "one", "touch", "/x/shared"]).ok();
    daemon.kill().unwrap();
    daemon.start().unwrap();
    assert_eq!(daemon.run(&["run", "--rm", "-v", "memory:/x", "busybox", "ls", "/x"]).ok(), "shared");
    assert_eq!(daemon.run(&["exec", "one", "ls", "/x"]).ok(), "shared");
    let _ = daemon.run(&["rm", "-f", "one"]).ok();
    assert_eq!(daemon.run(&["run", "--rm", "-v", "memory:/x", "busybox", "ls", "/x"]).ok(), "", "it was unmounted");
    watch.end().unwrap();
    let _ = daemon.run(&["volume", "rm", "bound", "memory"]).ok();
    assert!(host.join("f").exists(), "what was mounted stays");
    let missing = [
        "type=volume,source=none,target=/x",
        "volume-opt=type=none",
        "volume-opt=o=bind",
        "volume-opt=device=/no/such",
    ];
    let failed = daemon.run(&["run", "--rm", "--mount", &missing.join(","), "busybox", "true"]);
    // The code of a command that is missing: Docker's client looks at the words alone.
    let text = failed.fails_with(127);
    assert!(text.contains("failed to mount local volume: mount /no/such:"), "{failed}");
    assert!(text.contains("/volumes/none/_data, flags: 0x1000: no such file or directory"), "{failed}");
    let options = daemon.run(&["volume", "inspect", "--format", "{{.Options}}", "none"]).ok();
    assert_eq!(options, "map[device:/no/such o:bind type:none]");
}

#[test]
fn parts_of_volumes_and_images_are_mounted_and_nothing_beside_them() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let outside = daemon.sandbox().dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let tar = Layer::default()
        .dir("part/", 0o755)
        .file("part/f", 0o644, b"of the image\n")
        .symlink("out", &outside.display().to_string())
        .into_tar();
    let image = Image::build("amd64", &serde_json::json!({}), vec![tar], Compression::Gzip, Dialect::Oci).unwrap();
    let archive = daemon.sandbox().dir().join("parts.tar");
    std::fs::write(&archive, image.archive(&["parts:latest"])).unwrap();
    daemon.load(&archive);
    let script = format!("mkdir -p /v/a/b; echo deep >/v/a/b/f; ln -s {} /v/out; ln -s a /v/in", outside.display());
    let _ = daemon.run(&["run", "--rm", "-v", "data:/v", "busybox", "sh", "-c", &script]).ok();
    let watch = Watch::daemon(&daemon);
    let mount = |spec: &str, script: &str| daemon.run(&["run", "--rm", "--mount", spec, "busybox", "sh", "-c", script]);
    assert_eq!(mount("type=volume,source=data,target=/x,volume-subpath=a/b", "cat /x/f").ok(), "deep");
    assert_eq!(mount("type=volume,source=data,target=/x,volume-subpath=in/b/f", "cat /x").ok(), "deep");
    let read_only = mount("type=volume,source=data,target=/x,volume-subpath=a,readonly", "touch /x/new");
    assert!(read_only.err().contains("Read-only file system"), "{read_only}");
    let escape = mount("type=volume,source=data,target=/x,volume-subpath=out", "true");
    assert!(escape.fails_with(125).contains("path concatenation escapes the base directory"), "{escape}");
    let missing = mount("type=volume,source=data,target=/x,volume-subpath=none", "true");
    assert!(missing.fails_with(127).contains("cannot access path "), "{missing}");
    let whole = mount("type=image,source=parts,target=/x", "cat /x/part/f; touch /x/new");
    assert_eq!(whole.out(), "of the image\n", "{whole}");
    assert!(whole.err().contains("Read-only file system"), "{whole}");
    assert_eq!(mount("type=image,source=parts,target=/x,image-subpath=part", "ls /x").ok(), "f");
    let escape = mount("type=image,source=parts,target=/x,image-subpath=out", "true");
    assert!(escape.fails_with(125).contains("escapes the base directory"), "{escape}");
    let _ = daemon.run(&["create", "--name", "user", "--mount", "type=image,source=parts,target=/x", "busybox"]).ok();
    let used = daemon.run(&["rmi", "parts"]);
    assert!(used.fails_with(1).contains("must be forced") || used.err().contains("is using"), "{used}");
    assert_eq!(
        daemon.inspect("user", "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}"),
        "image parts /x false"
    );
    // What lies higher up is mounted first, whatever the order on the command line; the engine's own files lie in it.
    let nested = ["run", "--rm", "-v", "inner:/o/i", "-v", "outer:/o", "-v", "etc:/etc:nocopy", "busybox"];
    let seen = daemon.run(&[&nested[..], &["sh", "-c", "touch /o/i/f /o/g; ls /o /etc; test -s /etc/hosts"]].concat());
    assert_eq!(seen.ok(), "/etc:\nhostname\nhosts\nresolv.conf\n\n/o:\ng\ni", "{seen}");
    let _ = daemon.run(&["volume", "rm", "inner", "outer", "etc"]).ok();
    let _ = daemon.run(&["rm", "user"]).ok();
    copies_reach_what_has_no_path(&daemon, &outside);
    watch.end().unwrap();
}

/// Copies with a container that does not run: an image, a part of a volume, and a volume that has to be mounted first.
fn copies_reach_what_has_no_path(daemon: &Daemon, outside: &std::path::Path) {
    std::fs::write(outside.join("f"), "of the host\n").unwrap();
    let device = format!("device={}", outside.display());
    let volume = ["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "served"];
    let _ = daemon.run(&volume).ok();
    let mounts = [
        "type=image,source=parts,target=/image,image-subpath=part",
        "type=volume,source=data,target=/deep,volume-subpath=a/b",
        "type=volume,source=served,target=/served",
    ];
    let flags: Vec<&str> = mounts.iter().flat_map(|mount| ["--mount", *mount]).collect();
    let _ = daemon.run(&[&["create", "--name", "still"], &flags[..], &["busybox", "true"]].concat()).ok();
    let out = daemon.sandbox().dir().join("out");
    let copied = |from: &str| {
        let _ = daemon.run(&["cp", &format!("still:{from}"), &out.display().to_string()]).ok();
        std::fs::read_to_string(&out).unwrap()
    };
    assert_eq!(copied("/image/f"), "of the image\n");
    assert_eq!(copied("/deep/f"), "deep\n");
    assert_eq!(copied("/served/f"), "of the host\n");
    let from = out.display().to_string();
    let refused = daemon.run(&["cp", &from, "still:/image/new"]);
    assert!(refused.err().contains("read-only"), "{refused}");
    let _ = daemon.run(&["cp", &from, "still:/served/new"]).ok();
    let _ = daemon.run(&["cp", &from, "still:/deep/new"]).ok();
    assert_eq!(std::fs::read_to_string(outside.join("new")).unwrap(), "of the host\n");
    let new = daemon.run(&["run", "--rm", "-v", "data:/v", "busybox", "sh", "-c", "cat /v/a/b/new; rm /v/a/b/new"]);
    assert_eq!(new.ok(), "of the host");
    let _ = daemon.run(&["rm", "still"]).ok();
    let _ = daemon.run(&["volume", "rm", "served"]).ok();
}

#[test]
fn mounts_of_another_container_are_taken_over() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    daemon.load(&Material::get().full());
    let bound = daemon.sandbox().dir().join("bound");
    std::fs::create_dir(&bound).unwrap();
    let bind = format!("{}:/bound", bound.display());
    let _ = daemon
        .run(&[
            "run",
            "--name",
            "donor",
            "-v",
            "named:/named",
            "-v",
            "/anonymous",
            "-v",
            &bind,
            "--tmpfs",
            "/t",
            "busybox",
            "sh",
            "-c",
            "echo 1 | tee /named/f /anonymous/f /bound/f",
        ])
        .ok();
    let script = "cat /named/f /anonymous/f /bound/f; mount | grep -c ' /t '; touch /named/new && echo written";
    let both = daemon.run(&["run", "--rm", "--volumes-from", "donor", "busybox", "sh", "-c", script]);
    assert_eq!(both.out(), "1\n1\n1\n0\nwritten\n", "{both}");
    let read_only = daemon.run(&["run", "--rm", "--volumes-from", "donor:ro", "busybox", "touch", "/anonymous/new"]);
    assert!(read_only.err().contains("Read-only file system"), "{read_only}");
    let own = daemon.run(&["run", "--rm", "--volumes-from", "donor", "-v", "other:/named", "busybox", "ls", "/named"]);
    assert_eq!(own.ok(), "", "what the container names itself wins");
    let _ = daemon.run(&["create", "--name", "heir", "--volumes-from", "donor", "busybox"]).ok();
    let mounts = "{{range .Mounts}}{{.Type}}:{{.Destination}}:{{.RW}} {{end}}";
    let of = |name: &str| {
        let mut all: Vec<String> = daemon.inspect(name, mounts).split_whitespace().map(str::to_owned).collect();
        all.sort();
        all
    };
    assert_eq!(of("heir"), of("donor"));
    // The anonymous volume stays as long as somebody has it.
    let _ = daemon.run(&["rm", "-v", "donor"]).ok();
    let _ = daemon.run(&["run", "--rm", "--volumes-from", "heir", "busybox", "cat", "/anonymous/f"]).ok();
    let _ = daemon.run(&["rm", "-v", "heir"]).ok();
    let left = daemon.run(&["volume", "ls", "-q"]).ok();
    assert_eq!(left.split_whitespace().collect::<Vec<_>>(), ["named", "other"]);
    let missing = daemon.run(&["create", "--volumes-from", "nobody", "busybox"]);
    assert!(missing.fails_with(1).contains("No such container: nobody"), "{missing}");
}

#[test]
fn binds_spread_and_recurse_as_asked() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let top = daemon.sandbox().dir().join("top").display().to_string();
    let line = format!(
        "mkdir -p {top}/below {top}/later {top}/private; mount --bind {top} {top}; mount --make-shared {top}; mount -t tmpfs t {top}/below; \
         touch {top}/below/f; mount --bind {top}/private {top}/private; mount --make-private {top}/private"
    );
    let _ = daemon.sandbox().sh(&line).ok();
    let mount = |options: &str, script: &str| {
        let spec = format!("type=bind,source={top},target=/x{options}");
        daemon.run(&["run", "--rm", "--mount", &spec, "busybox", "sh", "-c", script])
    };
    assert_eq!(mount("", "ls /x/below").ok(), "f");
    assert_eq!(mount(",bind-recursive=disabled", "ls /x/below").ok(), "");
    let sub = mount(",readonly", "touch /x/below/new");
    assert!(sub.err().contains("Read-only file system"), "read-only reaches what is mounted below: {sub}");
    assert_eq!(
        mount(",readonly,bind-recursive=writable", "touch /x/below/new && rm /x/below/new && echo yes").ok(),
        "yes"
    );
    let forced = mount(",readonly,bind-recursive=readonly,bind-propagation=rprivate", "touch /x/below/new");
    assert!(forced.err().contains("Read-only file system"), "{forced}");
    for (propagation, seen) in [("rprivate", "0"), ("rslave", "1"), ("rshared", "1")] {
        let bind = format!("{top}:/x:{propagation}");
        let _ = daemon.run(&["run", "-d", "--name", propagation, "-v", &bind, "busybox", "sleep", "1000"]).ok();
        let _ = daemon.sandbox().sh(&format!("mount -t tmpfs t {top}/later")).ok();
        let count = daemon.run(&["exec", propagation, "sh", "-c", "mount | grep -c ' /x/later '"]).out();
        let _ = daemon.sandbox().sh(&format!("umount {top}/later")).ok();
        let _ = daemon.run(&["rm", "-f", propagation]).ok();
        assert_eq!(count.trim(), seen, "{propagation}");
    }
    let not_shared = daemon.run(&["run", "--rm", "-v", &format!("{top}/private:/x:shared"), "busybox", "true"]);
    let text = format!("path {top}/private is mounted on {top}/private but it is not a shared mount");
    assert!(not_shared.fails_with(125).contains(&text), "{not_shared}");
    let made = format!("type=bind,source={top}/made/deep,target=/x,bind-create-src");
    let _ = daemon.run(&["run", "--rm", "--mount", &made, "busybox", "true"]);
    let _ = daemon.sandbox().sh(&format!("umount -R {top}")).ok();
}

#[test]
fn a_tmpfs_has_the_options_it_is_given() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let options = |flags: &[&str]| {
        let line = daemon.run(&[&["run", "--rm"], flags, &["busybox", "grep", " /t ", "/proc/mounts"]].concat()).ok();
        line.split_whitespace().nth(3).unwrap().to_owned()
    };
    let plain = options(&["--tmpfs", "/t"]);
    assert!(plain.starts_with("rw,nosuid,nodev,noexec,relatime"), "{plain}");
    let given = options(&["--tmpfs", "/t:exec,size=64k,mode=700,uid=5,ro"]);
    assert!(given.starts_with("ro,nosuid,nodev,relatime,size=64k,mode=700,uid=5"), "{given}");
    let long = options(&["--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770"]);
    assert!(long.contains("size=1024k,mode=1770"), "{long}");
    let bad = daemon.run(&["run", "--rm", "--tmpfs", "/t:nope=1", "busybox", "true"]);
    assert!(bad.fails_with(125).contains("invalid tmpfs option \"nope\""), "{bad}");
}
