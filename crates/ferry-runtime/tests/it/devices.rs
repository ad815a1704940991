//! Which devices can be used: the default ones and no others.

use crate::bundle::{Bundle, ready, runtimes};

const OPENABLE: [(u32, u32); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];

#[test]
fn nodes_can_be_made_but_only_harmless_ones_opened() {
    if !ready() {
        return;
    }
    let characters = [
        (1, 1),
        (1, 2),
        (1, 3),
        (1, 4),
        (1, 5),
        (1, 7),
        (1, 8),
        (1, 9),
        (1, 11),
        (4, 0),
        (4, 1),
        (4, 64),
        (5, 0),
        (5, 1),
        (5, 2),
        (5, 3),
        (7, 0),
        (10, 1),
        (10, 59),
        (10, 200),
        (10, 229),
        (10, 232),
        (10, 235),
        (10, 237),
        (21, 0),
        (108, 0),
        (202, 0),
        (226, 0),
        (254, 0),
    ];
    let blocks = [(7, 0), (8, 0), (253, 0), (254, 0)];
    let mut script = String::new();
    for (kind, list) in [("c", &characters[..]), ("b", &blocks[..])] {
        for (major, minor) in list {
            // EPERM is the cgroup's word; ENXIO and the like come from behind it.
            script += &format!(
                "mknod /tmp/n {kind} {major} {minor} || echo unmade; (: < /tmp/n) 2>&1 | grep -q 'Operation not permitted' && echo denied {kind} {major} {minor}; unlink /tmp/n 2>/dev/null || busybox rm /tmp/n;"
            );
        }
    }
    for runtime in runtimes() {
        let said = Bundle::new(&runtime, &format!("{script} true")).said();
        assert!(!said.contains("unmade"), "{said}");
        for (kind, list) in [("c", &characters[..]), ("b", &blocks[..])] {
            for &(major, minor) in list {
                let denied = said.contains(&format!("denied {kind} {major} {minor}\n"));
                // runc before 1.2 lets tun through.
                let tun = !runtime.ends_with("ferry-runtime") && (major, minor) == (10, 200);
                let harmless = kind == "c" && OPENABLE.contains(&(major, minor)) || tun;
                assert_eq!(denied, !harmless, "{runtime:?}: {kind} {major}:{minor}\n{said}");
            }
        }
    }
}

#[test]
fn dev_is_as_programs_expect_it() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let bundle = Bundle::new(
            &runtime,
            "for n in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$n; done; \
             for n in fd stdin stdout stderr ptmx; do echo $n $(readlink /dev/$n); done; head -c 2 /dev/zero | wc -c; echo x > /dev/null",
        );
        let said = bundle.said();
        for line in [
            "/dev/null character special file 1:3 666",
            "/dev/full character special file 1:7 666",
            "/dev/tty character special file 5:0 666",
            "fd /proc/self/fd",
            "stdin /proc/self/fd/0",
            "ptmx pts/ptmx",
        ] {
            assert!(said.contains(line), "{runtime:?}: {line}\n{said}");
        }
    }
}

#[test]
fn asked_for_device_is_there_and_open() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(
            &runtime,
            "stat -c '%t:%T %a %u:%g' /dev/net/tun; (: < /dev/net/tun) && echo open; (: > /dev/net/tun) 2>/dev/null || echo closed",
        );
        bundle.linux().devices.push(ferry_spec::runtime::LinuxDevice {
            path: "/dev/net/tun".into(),
            kind: "c".into(),
            major: 10,
            minor: 200,
            file_mode: Some(0o640),
            uid: Some(5),
            gid: Some(6),
        });
        bundle.linux().resources.as_mut().unwrap().devices.push(ferry_spec::runtime::LinuxDeviceCgroup {
            allow: true,
            kind: Some("c".into()),
            major: Some(10),
            minor: Some(200),
            access: Some("r".into()),
        });
        let said = bundle.said();
        assert!(said.starts_with("a:c8 640 5:6\nopen\n"), "{runtime:?}: {said}");
        assert!(said.ends_with("closed\n") || !bundle.is_ferry(), "only reading was asked for: {said}");
    }
}
