//! Programs that are not there or are none: texts and codes.

use crate::bundle::{Bundle, ferry, ready, runtimes, text};

#[test]
fn exit_code_and_output_are_the_programs() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let output = Bundle::new(&runtime, "echo out; echo err >&2; exit 7").run();
        assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
        assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("out\n", "err\n"));
        let output = Bundle::new(&runtime, "kill -9 $$; true").run();
        // PID 1 cannot kill itself, so the shell goes on.
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn programs_that_cannot_be_started_are_told_as_runc_does() {
    if !ready() {
        return;
    }
    let cases = [
        ("foo", r#"exec: "foo": executable file not found in $PATH"#),
        ("/nope", r#"exec: "/nope": stat /nope: no such file or directory"#),
        ("/etc/data", r#"exec: "/etc/data": permission denied"#),
        ("/etc", r#"exec: "/etc": is a directory"#),
    ];
    for runtime in runtimes() {
        for (program, expected) in cases {
            let mut bundle = Bundle::new(&runtime, "");
            bundle.process().args = vec![program.into()];
            let output = bundle.run();
            let said = text(&output.stderr);
            // runc before 1.2 has another word for folders.
            if bundle.is_ferry() || program != "/etc" {
                assert!(said.contains(expected), "{runtime:?}: {said}");
            }
            if bundle.is_ferry() {
                assert!(
                    said.contains(&format!(
                        "unable to start container process: error during container init: {expected}"
                    )),
                    "{said}"
                );
                assert!(!bundle.leaves_something(), "{program}");
            }
            assert!(!output.status.success());
        }
    }
}

#[test]
fn files_that_are_no_programs_end_with_255() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "");
        bundle.process().args = vec!["/bin/garbage".into()];
        let output = bundle.run();
        assert!(text(&output.stderr).contains("exec format error"), "{}", text(&output.stderr));
        if bundle.is_ferry() {
            assert_eq!(
                (text(&output.stderr).as_str(), output.status.code()),
                ("exec /bin/garbage: exec format error\n", Some(255))
            );
        }
    }
}

#[test]
fn working_directory_is_made_inside() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "pwd; stat -c %a:%u .");
        bundle.process().cwd = "/new/deep".into();
        assert_eq!(bundle.said(), "/new/deep\n755:0\n");
    }
    let mut bundle = Bundle::new(&ferry(), "pwd");
    let outside = bundle.beside("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, bundle.rootfs().join("link")).unwrap();
    bundle.process().cwd = "/link/made".into();
    bundle.said();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "a link was followed out");
}

#[test]
fn no_descriptor_of_the_host_can_be_reached_by_the_working_directory() {
    if !ready() {
        return;
    }
    for number in 3..20 {
        let mut bundle = Bundle::new(&ferry(), "ls ../../../etc");
        bundle.process().cwd = format!("/proc/self/fd/{number}");
        let output = bundle.run();
        assert!(!output.status.success(), "fd {number}: {}", text(&output.stdout));
        let mut bundle = Bundle::new(&ferry(), "");
        bundle.process().args = vec![format!("/proc/self/fd/{number}/bin/true")];
        assert!(!bundle.run().status.success());
    }
}

#[test]
fn wrong_configurations_are_refused_and_leave_nothing() {
    if !ready() {
        return;
    }
    type Change = fn(&mut Bundle);
    let cases: [(&str, Change); 8] = [
        ("args must not be empty", |bundle| bundle.process().args.clear()),
        ("must be an absolute path", |bundle| bundle.process().cwd = "tmp".into()),
        ("CAP_NONSENSE", |bundle| bundle.process().capabilities.as_mut().unwrap().bounding.push("CAP_NONSENSE".into())),
        ("must be an absolute path", |bundle| {
            let hook = ferry_spec::runtime::Hook { path: "bin/true".into(), ..Default::default() };
            bundle.spec.hooks = Some(ferry_spec::runtime::Hooks { prestart: vec![hook], ..Default::default() });
        }),
        ("apparmor", |bundle| bundle.process().apparmor_profile = Some("no-such-profile".into())),
        ("selinux label is specified in config, but selinux is disabled or not supported", |bundle| {
            bundle.process().selinux_label = Some("system_u:system_r:container_t:s0".into());
        }),
        ("selinux label is specified in config, but selinux is disabled or not supported", |bundle| {
            bundle.linux().mount_label = Some("system_u:object_r:container_file_t:s0".into());
        }),
        ("without `..`", |bundle| bundle.linux().cgroups_path = Some("/a/../b".into())),
    ];
    for (expected, change) in cases {
        let mut bundle = Bundle::new(&ferry(), "true");
        change(&mut bundle);
        let output = bundle.run();
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(expected), "{expected}: {}", text(&output.stderr));
        assert!(!bundle.leaves_something(), "{expected}");
    }
}

#[test]
fn environment_has_a_home() {
    if !ready() {
        return;
    }
    for runtime in runtimes() {
        let mut bundle = Bundle::new(&runtime, "echo $HOME $A");
        bundle.process().env.push("A=b=c".into());
        bundle.process().user.uid = 33;
        assert_eq!(bundle.said(), "/var/www b=c\n");
    }
}
