//! Mounts, masks and roots that try to lead out.

use std::os::unix::fs::symlink;

use ferry_spec::runtime::Mount;

use crate::bundle::{Bundle, ferry, ready, runtimes, text};

fn bind(source: impl AsRef<std::path::Path>, destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some("bind".into()),
        source: Some(source.as_ref().display().to_string()),
        options: options.iter().map(|&option| option.into()).collect(),
        ..Mount::default()
    }
}

fn tmpfs(destination: &str, options: &[&str]) -> Mount {
    Mount { kind: Some("tmpfs".into()), source: Some("tmpfs".into()), ..bind("", destination, options) }
}

#[test]
fn binds_appear_where_nothing_was() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(
            &runtime,
            "cat /new/file; cat /new/folder/inner; echo w > /new/folder/w && cat /new/folder/w; (echo x > /new/ro/x) 2>&1; \
             grep -q ' /new/ro .*ro,nosuid' /proc/mounts && echo flags",
        );
        let source = bundle.beside("source");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("inner"), "inner\n").unwrap();
        bundle.spec.mounts.push(bind(source.join("inner"), "/new/file", &["rbind", "ro"]));
        bundle.spec.mounts.push(bind(&source, "/new/folder", &["rbind", "rprivate"]));
        bundle.spec.mounts.push(bind(&source, "/new/ro", &["bind", "ro", "nosuid", "rprivate"]));
        let said = bundle.said();
        assert!(said.starts_with("inner\ninner\nw\n"), "{runtime:?}: {said}");
        assert!(said.contains("Read-only file system") && said.ends_with("flags\n"), "{runtime:?}: {said}");
        assert_eq!(std::fs::read_to_string(source.join("w")).unwrap(), "w\n");
    }
}

#[test]
fn recursive_read_only_reaches_inner_mounts() {
    if !ready() {
        return;
    }
    // A mount inside of the source: made in a namespace of its own by the first container, which this is for runc 1.1, too.
    let mut bundle =
        Bundle::new(&ferry(), "(echo x > /outer/dev/shm/x) 2>&1; (echo y > /plain/shm/y) 2>&1 && echo plain");
    bundle.spec.mounts.push(bind("/dev", "/plain", &["rbind", "ro"]));
    bundle.spec.mounts.push(bind("/dev", "/outer/dev", &["rbind", "rro"]));
    let inner = std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .any(|line| line.split(' ').nth(4) == Some("/dev/shm"));
    let said = bundle.said();
    // Whatever the container could write is the host's own.
    let _ = std::fs::remove_file("/dev/shm/y");
    assert!(said.contains("Read-only file system"), "{said}");
    if inner {
        assert!(said.contains("plain"), "{said}");
    }
}

#[test]
fn missing_source_is_named() {
    if !ready() {
        return;
    }
    let mut bundle = Bundle::new(&ferry(), "true");
    bundle.spec.mounts.push(bind("/no/such/source", "/x", &["rbind"]));
    let said = text(&bundle.run().stderr);
    assert!(
        said.contains(r#"error mounting "/no/such/source" to rootfs at "/x": no such file or directory"#),
        "{said}"
    );
    assert!(!bundle.leaves_something());
    let mut bundle = Bundle::new(&ferry(), "true");
    bundle.spec.mounts.push(tmpfs("/x", &["size=banana"]));
    assert!(text(&bundle.run().stderr).contains("size"), "the kernel's words are kept");
}

#[test]
fn file_systems_take_their_options() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(
            &runtime,
            "grep ' /t ' /proc/mounts; stat -c %a /t; head -c 100k /dev/zero > /t/x || echo full",
        );
        bundle.spec.mounts.push(tmpfs("/t", &["noexec", "nodev", "size=64k", "mode=711"]));
        let output = bundle.run();
        let said = text(&output.stdout);
        assert!(
            said.contains("nodev,noexec")
                && said.contains("size=64k")
                && said.contains("\n711\n")
                && said.contains("full"),
            "{runtime:?}: {said}"
        );
    }
}

#[test]
fn links_in_the_image_stay_inside() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "cat /data/file; ls /target");
        let outside = bundle.beside("outside");
        let source = bundle.beside("source");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(&source, "bound\n").unwrap();
        std::fs::create_dir(bundle.rootfs().join("target")).unwrap();
        symlink("/target", bundle.rootfs().join("data")).unwrap();
        symlink(&outside, bundle.rootfs().join("escape")).unwrap();
        symlink("../../../../../..".to_owned() + &outside.display().to_string(), bundle.rootfs().join("upward"))
            .unwrap();
        bundle.spec.mounts.push(bind(&source, "/data/file", &["rbind"]));
        bundle.spec.mounts.push(bind(&source, "/escape/file", &["rbind"]));
        bundle.spec.mounts.push(tmpfs("/upward/folder", &[]));
        assert_eq!(bundle.said(), "bound\nfile\n");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{runtime:?} followed a link out");
    }
}

#[test]
fn system_folders_that_are_links_are_refused() {
    if !ready() {
        return;
    }
    for name in ["proc", "sys", "dev"] {
        let bundle = Bundle::new(&ferry(), "true");
        let outside = bundle.beside("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::remove_dir(bundle.rootfs().join(name)).unwrap();
        symlink(&outside, bundle.rootfs().join(name)).unwrap();
        let output = bundle.run();
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains("must be mounted on ordinary directory"), "{}", text(&output.stderr));
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{name}");
        assert!(!bundle.leaves_something());
    }
}

#[test]
fn nothing_is_mounted_into_proc() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        for destination in ["/proc/sys", "/proc/self/attr", "/link"] {
            let mut bundle = Bundle::new(&runtime, "true");
            let source = bundle.beside("source");
            std::fs::create_dir(&source).unwrap();
            symlink("/proc/sys", bundle.rootfs().join("link")).unwrap();
            bundle.spec.mounts.push(bind(&source, destination, &["rbind"]));
            let said = text(&bundle.run().stderr);
            assert!(said.contains("inside /proc"), "{runtime:?} {destination}: {said}");
        }
        let mut bundle = Bundle::new(&runtime, "cat /proc/uptime");
        let source = bundle.beside("uptime");
        std::fs::write(&source, "1 2\n").unwrap();
        bundle.spec.mounts.push(bind(&source, "/proc/uptime", &["rbind"]));
        assert_eq!(bundle.said(), "1 2\n");
    }
}

#[test]
fn masked_and_read_only_paths_hold() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(
            &runtime,
            "cat /proc/keys /etc/secret | wc -c; ls -A /sys/firmware /proc/acpi /hidden | grep -v ':$' | tr -d '\\n' | wc -c; \
             for f in /proc/sys/kernel/shmmax /proc/irq/default_smp_affinity /fixed/file; do (echo 1 > $f) 2>&1 | grep -c Read-only; done; \
             (chmod 700 /proc/keys) 2>&1 | grep -c Read-only",
        );
        std::fs::create_dir(bundle.rootfs().join("hidden")).unwrap();
        std::fs::write(bundle.rootfs().join("hidden/x"), "x").unwrap();
        std::fs::create_dir(bundle.rootfs().join("fixed")).unwrap();
        std::fs::write(bundle.rootfs().join("fixed/file"), "x").unwrap();
        std::fs::write(bundle.rootfs().join("etc/secret"), "secret").unwrap();
        bundle.linux().masked_paths.extend(["/hidden".into(), "/etc/secret".into(), "/not/there".into()]);
        bundle.linux().readonly_paths.push("/fixed".into());
        let said = text(&bundle.run().stdout);
        let expected = if bundle.is_ferry() { "0\n0\n1\n1\n1\n1\n" } else { "0\n0\n1\n1\n1\n" };
        assert!(said.starts_with(expected), "{runtime:?}: {said}");
    }
}

#[test]
fn read_only_root_can_still_be_mounted_in() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "(touch /x) 2>&1; touch /tmp/x && echo tmp");
        bundle.spec.root.as_mut().unwrap().readonly = true;
        bundle.spec.mounts.push(tmpfs("/tmp", &[]));
        let said = bundle.said();
        assert!(said.contains("Read-only file system") && said.ends_with("tmp\n"), "{runtime:?}: {said}");
    }
}

#[test]
fn no_mount_of_the_host_is_seen_inside() {
    if !ready() {
        return;
    }
    let said = Bundle::new(&ferry(), "cat /proc/self/mountinfo").said();
    for line in said.lines() {
        let target = line.split(' ').nth(4).unwrap();
        let known =
            ["/", "/dev", "/proc", "/sys"].iter().any(|top| target == *top || target.starts_with(&format!("{top}/")));
        assert!(known, "{line}");
        assert!(!line.contains("shared:"), "{line}");
    }
}
