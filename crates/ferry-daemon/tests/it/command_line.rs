//! `ferryd` as a user types it, wrong input first.

use std::process::Command;

use crate::daemon::FERRYD;

fn ferryd(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(FERRYD).args(args).output().expect("ferryd runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn wrong_options_are_named() {
    for (args, said) in [
        (&["--debgu"][..], "unknown flag: --debgu (did you mean `--debug`?)\n"),
        (&["-Q"], "unknown shorthand flag: 'Q' in -Q\n"),
        (&["--bip"], "flag needs an argument: --bip\n"),
        (&["--icc=perhaps"], "invalid argument \"perhaps\" for \"--icc\" flag"),
        (&["start"], "unknown argument `start`"),
        (&["--userns-remap", "default"], "not implemented: option `userns-remap`"),
        (&["--bip", "here"], "invalid value `here` for option `bip`"),
        (&["-H", "nowhere"], "bad format nowhere, expected PROTO://ADDR"),
        (
            &["--config-file", "/nowhere/daemon.json"],
            "unable to configure the Docker daemon with file /nowhere/daemon.json",
        ),
    ] {
        let (code, stdout, stderr) = ferryd(args);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{args:?}");
        assert!(stderr.starts_with(said), "{args:?}: {stderr}");
    }
}

#[test]
fn files_are_validated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("daemon.json");
    let validate = |document: &str, flags: &[&str]| {
        std::fs::write(&file, document).unwrap();
        let (code, _, stderr) = ferryd(&[&["--validate", "--config-file", file.to_str().unwrap()], flags].concat());
        (code, stderr)
    };
    let fine = r#"{"debug": true, "registry-mirrors": ["http://m.example"], "log-opts": {"max-size": "10m"}, "live-restore": true}"#;
    assert_eq!(validate(fine, &[]), (Some(0), "configuration OK\n".to_owned()));
    let (code, said) = validate(r#"{"debugg": true}"#, &[]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("the following directives don't match any configuration option: debugg (did you mean `debug`?)"),
        "{said}"
    );
    let (code, said) = validate(r#"{"debug": true}"#, &["--debug=false"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("both as a flag and in the configuration file: debug: (from flag: false, from file: true)"),
        "{said}"
    );
}

#[test]
fn version_and_help_go_to_stdout() {
    let (code, stdout, _) = ferryd(&["--version"]);
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with(concat!("Ferry version ", env!("CARGO_PKG_VERSION"), ", build ")), "{stdout}");
    let (code, stdout, _) = ferryd(&["-h"]);
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("\nUsage:  ferryd [OPTIONS]\n") && stdout.contains("  -H, --host list "), "{stdout}");
}

#[test]
fn sockets_that_cannot_be_had_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let roots = ["--data-root", &path("d"), "--exec-root", &path("e"), "-p", &path("pid")];
    for (host, said) in [
        (&["-H", "tcp://127.0.0.1:1"][..], "without TLS"),
        (&["-H", "tcp://192.0.2.1:1", "--insecure-tcp"], "without TLS"),
        (&["-H", "fd://"], "LISTEN_FDS"),
    ] {
        let (code, _, stderr) = ferryd(&[&roots[..], host].concat());
        assert_eq!(code, Some(1));
        let expected = if rustix::process::geteuid().is_root() { said } else { "root privileges" };
        assert!(stderr.contains(expected), "{stderr}");
        assert!(!folder.path().join("d").exists(), "nothing is touched");
    }
}
