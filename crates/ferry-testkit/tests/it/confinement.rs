//! What confines a container: profiles of system calls, AppArmor, no-new-privileges, paths, cgroups.

use ferry_testkit::{Daemon, Sandbox, programs};
use serde_json::json;

/// A daemon with the busybox image and these arguments.
fn daemon_with(args: &[&str]) -> Daemon {
    let sandbox = Sandbox::new().unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(args);
    daemon.start().unwrap();
    daemon.load(&ferry_testkit::material::Material::get().busybox());
    daemon
}

fn write(daemon: &Daemon, name: &str, text: &str) -> String {
    let path = daemon.sandbox().dir().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Allows everything but making directories, which it says is a missing call, and symbolic links for those without a right.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}, {"architecture": "SCMP_ARCH_AARCH64"}],
    "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {"names": ["symlink", "symlinkat"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"name": "chroot", "action": "SCMP_ACT_KILL_PROCESS", "includes": {"minKernel": "3.10"}},
        {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}]}"#;

#[test]
fn profiles_of_ones_own_filter_system_calls() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let profile = format!("seccomp={}", write(&daemon, "profile.json", PROFILE));
    let run = |options: &[&str], script: &str| {
        daemon.run(&[&["run", "--rm", "--security-opt", &profile], options, &["busybox", "sh", "-c", script]].concat())
    };
    let outcome = run(&[], "mkdir /x");
    assert!(outcome.err().contains("Function not implemented"), "{outcome}");
    let outcome = run(&[], "ln -s a /b");
    assert!(outcome.err().contains("Operation not permitted"), "{outcome}");
    let _ = run(&["--cap-add", "SYS_ADMIN"], "ln -s a /b").ok();
    assert_eq!(run(&[], "chroot / true; echo $?").ok(), "159", "killed by SIGSYS");
    assert_eq!(run(&[], "trap 'echo got' USR1 USR2; kill -USR1 $$ 2>/dev/null; kill -USR2 $$").ok(), "got");
    // It is the profile of an exec as well, and of a privileged container which asks for it.
    let _ = daemon.run(&["run", "-d", "--name", "box", "--security-opt", &profile, "busybox", "sleep", "1000"]).ok();
    assert!(daemon.run(&["exec", "box", "mkdir", "/x"]).err().contains("Function not implemented"));
    assert!(run(&["--privileged"], "mkdir /x").err().contains("Function not implemented"));
    let open =
        ["run", "--rm", "--security-opt", "seccomp=unconfined", "busybox", "grep", "Seccomp:", "/proc/self/status"];
    assert_eq!(daemon.run(&open).ok(), "Seccomp:\t0");
}

#[test]
fn profiles_that_cannot_be_kept_refuse_the_start() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    for (text, said) in [
        (r#"{"defaultAction": 1}"#, "Decoding seccomp profile failed: "),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            "SCMP_ACT_NOTIFY",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
            "both 'architectures' and 'archMap' are specified in the seccomp profile",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_MAGIC"]}"#, "SECCOMP_FILTER_FLAG_MAGIC"),
    ] {
        let profile = format!("seccomp={}", write(&daemon, "bad.json", text));
        let outcome = daemon.run(&["run", "--rm", "--security-opt", &profile, "busybox", "true"]);
        assert_ne!(outcome.code, 0, "{text}");
        assert!(outcome.err().contains(said), "{outcome}");
    }
    assert_eq!(daemon.run(&["ps", "-aq"]).ok(), "");
}

#[test]
fn the_daemon_has_defaults_for_containers_that_do_not_say() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let profile = sandbox.dir().join("default.json").display().to_string();
    std::fs::write(&profile, PROFILE).unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--seccomp-profile", &profile, "--no-new-privileges"]);
    daemon.start().unwrap();
    daemon.load(&ferry_testkit::material::Material::get().busybox());
    let run = |options: &[&str], words: &[&str]| daemon.run(&[&["run", "--rm"], options, &["busybox"], words].concat());
    assert!(run(&[], &["mkdir", "/x"]).err().contains("Function not implemented"));
    let _ = run(&["--security-opt", "seccomp=builtin"], &["mkdir", "/x"]).ok();
    let privileges = ["grep", "NoNewPrivs", "/proc/self/status"];
    assert_eq!(run(&[], &privileges).ok(), "NoNewPrivs:\t1");
    assert_eq!(run(&["--security-opt", "no-new-privileges=false"], &privileges).ok(), "NoNewPrivs:\t0");
    let info = daemon.api("GET", "/info", None).json();
    let options: Vec<&str> =
        info["SecurityOptions"].as_array().unwrap().iter().filter_map(|one| one.as_str()).collect();
    assert!(options.contains(&format!("name=seccomp,profile={profile}").as_str()), "{options:?}");
    assert!(options.contains(&"name=no-new-privileges"), "{options:?}");
    assert!(info["Warnings"].to_string().contains("WARNING: daemon is not using the default seccomp profile"));

    let unconfined = daemon_with(&["--seccomp-profile", "unconfined"]);
    let status = ["run", "--rm", "busybox", "grep", "Seccomp:", "/proc/self/status"];
    assert_eq!(unconfined.run(&status).ok(), "Seccomp:\t0");
}

#[test]
fn words_of_security_options_act_or_are_refused() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let run = |options: &[&str], script: &str| {
        daemon.run(&[&["run", "--rm"], options, &["busybox", "sh", "-c", script]].concat())
    };
    let option = |word: &'static str| ["--security-opt", word];
    let privileges = "grep NoNewPrivs /proc/self/status";
    assert_eq!(run(&option("no-new-privileges"), privileges).ok(), "NoNewPrivs:\t1");
    assert_eq!(run(&[], privileges).ok(), "NoNewPrivs:\t0");
    // System paths: hidden and read-only by default, open when asked for, and as the API lists them.
    let paths = "cat /proc/timer_list >/dev/null 2>&1; test -s /proc/timer_list && echo shown; test -w /proc/sys/kernel/domainname && echo writable; \
        grep -c ' /proc/[a-z]' /proc/mounts";
    let closed = run(&[], paths).ok();
    assert!(!closed.contains("shown") && closed.lines().last().unwrap().parse::<u32>().unwrap() > 5, "{closed}");
    assert_eq!(run(&option("systempaths=unconfined"), "grep -c ' /proc/[a-z]' /proc/mounts; true").ok(), "0");
    let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", "cat /etc/hostname; touch /etc/hostname; test -e /proc/keys && wc -c </proc/keys"],
        "HostConfig": {"MaskedPaths": ["/etc/hostname"], "ReadonlyPaths": []}});
    let made = daemon.api("POST", "/containers/create?name=paths", Some(&body));
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(daemon.run(&["start", "-a", "paths"]).out().lines().count(), 1, "only the keys are shown");
    // What a container's parent may do is put aside while nobody asks anything of it, and comes back for a privileged exec.
    let _ = daemon.run(&["run", "-d", "--name", "child", "busybox", "sleep", "1000"]).ok();
    let rights = "pid=$(ferry inspect -f '{{.State.Pid}}' child); shim=$(awk '/^PPid/ { print $2 }' /proc/$pid/status); \
        awk '/^CapEff/ { print $2 }' /proc/$shim/status";
    assert_eq!(daemon.client("sh").args(["-c", rights]).output().unwrap().stdout, b"0000000000000020\n");
    let of_exec = daemon.run(&["exec", "--privileged", "child", "grep", "CapEff", "/proc/self/status"]).ok();
    let of_init = daemon.run(&["exec", "child", "grep", "CapEff", "/proc/self/status"]).ok();
    assert_eq!(of_init, "CapEff:\t00000000a80425fb");
    assert!(of_exec.as_str() > "CapEff:\t0000000100000000" && of_exec != of_init, "{of_exec}");
    assert_eq!(daemon.client("sh").args(["-c", rights]).output().unwrap().stdout, b"0000000000000020\n");
    shim_holds_no_more_than_it_needs(&daemon);
    let _ = daemon.run(&["rm", "-f", "child"]).ok();
    // A masked file of users is an empty one; paths begin at the root, whether they say so or not.
    let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", "wc -c </etc/passwd; touch /etc/group; id -u"],
        "HostConfig": {"MaskedPaths": ["/etc/passwd", "nothing/here"], "ReadonlyPaths": ["etc/group"]}});
    assert_eq!(daemon.api("POST", "/containers/create?name=users", Some(&body)).status, 201);
    let users = daemon.run(&["start", "-a", "users"]);
    assert_eq!(users.out(), "0\n0\n", "{users}");
    assert!(users.err().contains("Read-only file system"), "{users}");
    // cgroups can be made where that was asked for.
    let make = "mkdir /sys/fs/cgroup/x 2>/dev/null || mkdir /sys/fs/cgroup/pids/x 2>/dev/null && echo made";
    assert_eq!(run(&[], make).out(), "");
    assert_eq!(run(&option("writable-cgroups=true"), make).ok(), "made");
    let privileged = ["--privileged", "--security-opt", "writable-cgroups=false"];
    assert_eq!(run(&privileged, make).out(), "");
    // Words that change nothing on this host.
    for word in ["label=disable", "label=type:container_t", "apparmor=unconfined", "apparmor=docker-default"] {
        assert_eq!(run(&option(word), "echo ran").ok(), "ran", "{word}");
    }
    for (word, said) in [
        ("no-new-privileges=maybe", "invalid --security-opt 2: \"no-new-privileges=maybe\""),
        ("nonsense=1", "invalid --security-opt 2: \"nonsense=1\""),
    ] {
        let outcome = run(&option(word), "true");
        assert_eq!(outcome.code, 125, "{word}");
        assert!(outcome.err().contains(said), "{outcome}");
    }
    let _ = run(&["--userns", "host"], "true").ok();
    assert_eq!(daemon.run(&["ps", "-aq", "--filter", "status=created"]).ok(), "");
}

/// What labels do where there is SELinux is tested in the virtual machine.
#[test]
fn selinux_that_the_host_does_not_have_is_told_and_gone_without() {
    if !programs::need_root() || std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        return;
    }
    let daemon = daemon_with(&["--selinux-enabled"]);
    assert!(daemon.log().contains("could not enable SELinux on the host system"), "{}", daemon.log());
    assert!(!daemon.run(&["info", "--format", "{{.SecurityOptions}}"]).ok().contains("selinux"));
    let shared = daemon.sandbox().dir().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared:Z", shared.display());
    let words = [
        "run",
        "-d",
        "--name",
        "box",
        "--security-opt",
        "label=type:some_t",
        "-v",
        &volume,
        "busybox",
        "sleep",
        "1000",
    ];
    let _ = daemon.run(&words).ok();
    let labels = "[{{.ProcessLabel}}][{{.MountLabel}}] {{.HostConfig.SecurityOpt}} {{(index .Mounts 0).Mode}}";
    assert_eq!(daemon.inspect("box", labels), "[][] [label=type:some_t] Z");
    // Who shares its processes has no label to share.
    let _ = daemon.run(&["create", "--name", "beside", "--pid", "container:box", "busybox", "true"]).ok();
    assert_eq!(daemon.inspect("beside", "{{.HostConfig.SecurityOpt}}"), "[]");
}

#[test]
fn an_apparmor_profile_by_name_is_never_forgotten() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let create = |name: &str, option: &str| {
        let words = ["create", "--name", name, "--security-opt", option, "busybox", "true"];
        let _ = daemon.run(&words).ok();
    };
    create("named", "apparmor=no-such-profile");
    assert_eq!(daemon.inspect("named", "{{.AppArmorProfile}}"), "no-such-profile");
    let outcome = daemon.run(&["start", "named"]);
    assert_ne!(outcome.code, 0);
    assert!(outcome.err().contains("no-such-profile"), "{outcome}");
    assert_eq!(daemon.inspect("named", "{{.State.Status}}"), "created");
    create("plain", "apparmor=unconfined");
    let _ = daemon.run(&["start", "-a", "plain"]).ok();
    let on_this_host = std::path::Path::new("/sys/kernel/security/apparmor").exists();
    let expected = if on_this_host { "unconfined" } else { "" };
    assert_eq!(daemon.inspect("plain", "{{.AppArmorProfile}}"), expected);
}

#[test]
fn helpers_cannot_be_reached_from_containers() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "box", "-p", "8123:80", "busybox", "sleep", "1000"]).ok();
    let sockets = daemon.run(&["run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/unix"]).ok();
    let names: Vec<&str> = sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7)).collect();
    assert!(!names.is_empty(), "the engine's own sockets are seen by their files: {sockets}");
    assert!(names.iter().all(|name| !name.starts_with('@')), "abstract sockets: {names:?}");
    // Their folders let nobody else in.
    let exec_root = daemon.exec_root();
    let modes = daemon.sandbox().sh(&format!("stat -c '%a %U' {0}/c/*/ {0}/netd", exec_root.display()));
    assert!(modes.ok().lines().all(|line| line == "700 root"), "{modes}");
}

/// What `docs/design/shim-rights.md` says a shim keeps of rights and descriptors after the start and after an exec, and no more.
fn shim_holds_no_more_than_it_needs(daemon: &Daemon) {
    let look = "pid=$(ferry inspect -f '{{.State.Pid}}' child); shim=$(awk '/^PPid/ { print $2 }' /proc/$pid/status); \
        grep -E '^(Cap|Groups|NSpid|CoreDumping)' /proc/$shim/status; ls -l /proc/$shim/fd | sed -n 's/.* -> /fd /p'; \
        for kind in mnt net pid; do test $(readlink /proc/$shim/ns/$kind) = $(readlink /proc/self/ns/$kind) && echo same $kind; done; \
        grep CapPrm /proc/self/status | sed 's/^/own /'";
    let output = daemon.client("sh").args(["-c", look]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let line =
        |start: &str| told.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default().trim().to_owned();
    assert_eq!(line("CapEff:"), "0000000000000020", "CAP_KILL alone is in effect");
    assert_eq!((line("CapInh:").as_str(), line("CapAmb:").as_str()), ("0000000000000000", "0000000000000000"));
    assert_eq!(line("CapPrm:"), line("own CapPrm:"), "what an exec may ask for, which is what the daemon may give");
    assert!(
        ["same mnt", "same net", "same pid"].iter().all(|same| told.contains(same)),
        "it is in no container: {told}"
    );
    let descriptors: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("fd ")).collect();
    let expected = |target: &str| {
        let anonymous = ["eventpoll", "signalfd", "pidfd", "inotify", "eventfd"];
        target == "/dev/null"
            || target.starts_with("socket:[")
            || target.starts_with("pipe:[")
            || anonymous
                .iter()
                .any(|kind| target == format!("anon_inode:[{kind}]") || target == format!("anon_inode:{kind}"))
            || target.contains("/containers/")
            || target.contains("/c/")
    };
    let unexpected: Vec<&&str> = descriptors.iter().filter(|target| !expected(target)).collect();
    assert!(unexpected.is_empty(), "no root, no mount, no namespace, no cgroup: {unexpected:?} of {descriptors:?}");
    assert!((8..=20).contains(&descriptors.len()), "nothing is added by an exec: {descriptors:?}");
}
