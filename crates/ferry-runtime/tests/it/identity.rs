//! Users, groups, capabilities and the rest of what a process may do.

use std::time::{Duration, Instant};

use crate::bundle::{Bundle, ferry, ready, runtimes, text};

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
}

#[test]
fn default_rights_are_dockers() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let status = Bundle::new(&runtime, "cat /proc/self/status").said();
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(field(&status, set), "00000000a80425fb", "{runtime:?} {set}");
        }
        for (name, value) in [
            ("CapInh", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("Seccomp", "2"),
            ("NoNewPrivs", "0"),
            ("Umask", "0022"),
            ("Groups", ""),
        ] {
            assert_eq!(field(&status, name), value, "{runtime:?} {name}");
        }
    }
}

#[test]
fn a_user_has_no_capabilities_but_ambient_ones() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "cat /proc/self/status");
        let process = bundle.process();
        (process.user.uid, process.user.gid, process.user.additional_gids) = (1000, 1001, vec![7, 8]);
        let status = bundle.said();
        assert_eq!(field(&status, "CapEff"), "0000000000000000");
        assert_eq!(field(&status, "CapPrm"), "0000000000000000");
        assert_eq!(field(&status, "CapBnd"), "00000000a80425fb");
        assert_eq!(field(&status, "Uid"), "1000\t1000\t1000\t1000");
        assert_eq!(field(&status, "Groups"), "7 8");
        let mut bundle = Bundle::new(&runtime, "cat /proc/self/status");
        let process = bundle.process();
        process.user.uid = 1000;
        let sets = process.capabilities.as_mut().unwrap();
        (sets.inheritable, sets.ambient) = (vec!["CAP_KILL".into()], vec!["CAP_KILL".into()]);
        assert_eq!(field(&bundle.said(), "CapEff"), "0000000000000020");
    }
}

#[test]
fn filter_without_no_new_privileges_leaves_no_right_behind() {
    if !ready() {
        return;
    }
    // With no capability at all the filter could only be put on by one that has to go again.
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "cat /proc/self/status");
        bundle.process().capabilities = Some(Default::default());
        let status = bundle.said();
        for set in ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"] {
            assert_eq!(field(&status, set), "0000000000000000", "{runtime:?} {set}");
        }
        assert_eq!(field(&status, "Seccomp"), "2");
    }
}

#[test]
fn filter_that_forbids_capset_leaves_no_right_behind() {
    if !ready() {
        return;
    }
    for uid in [0, 1000] {
        let mut bundle = Bundle::new(&ferry(), "cat /proc/self/status");
        bundle.process().user.uid = uid;
        for rule in &mut bundle.linux().seccomp.as_mut().unwrap().syscalls {
            rule.names.retain(|name| name != "capset");
        }
        let status = bundle.said();
        let expected = if uid == 0 { "00000000a80425fb" } else { "0000000000000000" };
        assert_eq!(field(&status, "CapEff"), expected);
        assert_eq!(field(&status, "CapPrm"), expected);
        assert_eq!(field(&status, "CapBnd"), "00000000a80425fb");
    }
}

#[test]
fn forbidden_calls_fail() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let said =
            Bundle::new(&runtime, "unshare -m true 2>&1; mount -t tmpfs x /tmp 2>&1; hostname other 2>&1; hostname")
                .said();
        assert_eq!(said.matches("not permitted").count() + said.matches("denied").count(), 3, "{runtime:?}: {said}");
        assert!(said.ends_with("inside\n"));
    }
}

#[test]
fn user_text_is_looked_up_inside() {
    if !ready() {
        return;
    }
    for (user, expected) in [
        ("", "uid=0(root) gid=0(root) groups=0(root)"),
        ("web", "uid=33(web) gid=34(web) groups=29(audio),34(web)"),
        ("33", "uid=33(web) gid=34(web) groups=29(audio),34(web)"),
        ("web:audio", "uid=33(web) gid=29(audio) groups=29(audio)"),
        ("5000:6000", "uid=5000 gid=6000 groups=6000"),
    ] {
        let mut bundle = Bundle::new(&ferry(), "id");
        bundle.process().user.username = Some(user.into());
        assert_eq!(bundle.said().trim_end(), expected, "{user}");
    }
    for (user, expected) in [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("web:none", "unable to find group none: no matching entries in group file"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        (" 0", "unable to find user  0: no matching entries in passwd file"),
    ] {
        let mut bundle = Bundle::new(&ferry(), "id");
        bundle.process().user.username = Some(user.into());
        assert_eq!(text(&bundle.run().stderr), format!("ferry-runtime: {expected}\n"));
        assert!(!bundle.leaves_something());
    }
}

#[test]
fn hostile_passwd_files_cannot_hang_or_lead_out() {
    if !ready() {
        return;
    }
    type Make = fn(&std::path::Path);
    let cases: [(&str, Make); 4] = [
        ("a fifo", |path| {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o644),
                0,
            )
            .unwrap();
        }),
        ("a device", |path| {
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(
                rustix::fs::CWD,
                path,
                kind,
                rustix::fs::Mode::from_raw_mode(0o644),
                rustix::fs::makedev(1, 5),
            )
            .unwrap();
        }),
        ("1 GiB", |path| std::fs::File::create(path).unwrap().set_len(1 << 30).unwrap()),
        ("a link to the host", |path| std::os::unix::fs::symlink("../../../../../../etc/passwd", path).unwrap()),
    ];
    for (name, make) in cases {
        let mut bundle = Bundle::new(&ferry(), "id");
        let passwd = bundle.rootfs().join("etc/passwd");
        std::fs::remove_file(&passwd).unwrap();
        make(&passwd);
        bundle.process().user.username = Some("daemon".into());
        let begin = Instant::now();
        let output = bundle.run();
        assert!(!output.status.success(), "{name}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{name} took {:?}", begin.elapsed());
        assert!(!bundle.leaves_something(), "{name}");
    }
}
