//! Contexts: made, changed, carried elsewhere and removed, in files that Docker's client reads as well.

use ferry_testkit::{Daemon, Sandbox, programs};

#[test]
fn contexts_are_made_changed_carried_and_removed() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    // No daemon is needed for any of it.
    let daemon = Daemon::ferry(&sandbox, "a");
    let folder = sandbox.dir().join("contexts");
    std::fs::create_dir(&folder).unwrap();
    let keys = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 10 -subj /CN=x";
    assert_eq!(sandbox.sh(&format!("cd {} && {keys} 2>/dev/null", folder.display())).code, 0);
    let run_by = |program: &str, line: &str| {
        let mut command = daemon.client("sh");
        let line = format!("cd {} && {program} context {line}", folder.display());
        command.env_remove("DOCKER_HOST").args(["-c", &line]);
        ferry_testkit::command::run(command).unwrap()
    };
    let run = |line: &str| run_by("ferry", line);
    let describe = |name: &str| {
        run(&format!(
            "inspect -f '{{{{json .Metadata.Metadata}}}} {{{{json .Endpoints}}}} {{{{json .TLSMaterial}}}}' {name}"
        ))
        .ok()
    };

    let made = run(
        "create far --description 'a far one' --docker host=tcp://192.0.2.7:2376,ca=cert.pem,cert=cert.pem,key=key.pem",
    );
    assert_eq!((made.out(), made.err()), ("far\n".to_owned(), "Successfully created context \"far\"\n".to_owned()));
    let far = r#"{"Description":"a far one"} {"docker":{"Host":"tcp://192.0.2.7:2376","SkipTLSVerify":false}} {"docker":["ca.pem","cert.pem","key.pem"]}"#;
    assert_eq!(describe("far"), far);
    let _ = run("create copy --from far").ok();
    assert_eq!(describe("copy"), far);
    let _ = run("create plain --docker host=ssh://user@host").ok();
    assert_eq!(describe("plain"), r#"{} {"docker":{"Host":"ssh://user@host","SkipTLSVerify":false}} {}"#);
    let _ = run("update plain --description changed --docker from=far").ok();
    assert!(describe("plain").starts_with(r#"{"Description":"changed"} {"docker":{"Host":"tcp://192.0.2.7:2376""#));

    let written = run("export far");
    assert_eq!(written.err(), "Written file \"far.dockercontext\"\n", "{written}");
    assert_eq!(run("export far").fails_with(1), "open far.dockercontext: file exists");
    let _ = run("import near far.dockercontext").ok();
    assert_eq!(describe("near"), far);
    let _ = run("export near - | ferry context import piped -").ok();
    assert_eq!(describe("piped"), far);
    if programs::need_docker_cli() {
        // Docker's client takes ours, and we take its.
        let _ = run_by("docker", "import theirs far.dockercontext").ok();
        assert_eq!(describe("theirs"), far);
        let _ = run_by("docker", "export theirs theirs.tar").ok();
        let _ = run("import back theirs.tar").ok();
        assert_eq!(describe("back"), far);
    }
    assert!(run("ls -q").ok().lines().any(|name| name == "near"));

    let _ = run("use near").ok();
    assert_eq!(run("show").ok(), "near");
    assert_eq!(run("rm near").fails_with(1), "context \"near\" is in use, set -f flag to force remove");
    let some = run("rm copy nosuch");
    assert_eq!(
        (some.code, some.out(), some.err()),
        (1, "copy\n".to_owned(), "context \"nosuch\" does not exist\n".to_owned())
    );
    assert_eq!(run("rm -f near nosuch").ok(), "near\nnosuch");
    assert_eq!(run("show").ok(), "default");
    for (line, said) in [
        (
            "create a",
            "context name \"a\" is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\"",
        ),
        ("create default", "\"default\" is a reserved context name"),
        ("create far", "context \"far\" already exists"),
        ("create new --from far --docker host=tcp://x:1", "cannot use --docker flag when --from is set"),
        ("create new --docker colour=red", "unable to create docker endpoint config: unrecognized config key: colour"),
        (
            "create new --docker host=nowhere",
            "unable to create docker endpoint config: unable to apply docker endpoint options: unable to parse docker host `nowhere`",
        ),
        (
            "create new --docker host=tcp://x:1,ca=none",
            "unable to create docker endpoint config: open none: no such file or directory",
        ),
        ("update default --description x", "\"default\" is a reserved context name"),
        ("import far far.dockercontext", "context \"far\" already exists"),
        ("import new key.pem", "archive/tar: invalid tar header"),
        ("rm default", "context \"default\" cannot be removed"),
        ("use a b", "accepts 1 arg(s), received 2"),
    ] {
        assert_eq!(run(line).fails_with(1), said, "{line}");
    }
    assert!(run("inspect new").fails_with(1).contains("context \"new\": context not found"));
}
