//! What builds are given: shown as it comes out, and refused where it makes no sense; a disk that is full.

use ferry_testkit::leak::Watch;
use ferry_testkit::material::Material;
use ferry_testkit::{Daemon, Sandbox, programs};

use crate::place::Place;
use crate::until;

#[test]
fn what_a_dockerfile_comes_to_is_shown() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    place.write("context/Dockerfile", "FROM busybox\nONBUILD RUN echo triggered\n");
    let _ = place.build(&["-t", "parent"]);
    let dockerfile = "ARG BASE=none\nFROM ${BASE} AS app\nARG WHO=nobody\nENV NAME=$WHO\nWORKDIR /srv/${NAME}\n\
        RUN echo $NAME\nFROM busybox AS unused\nRUN exit 1\nFROM app\ncopy --from=app \"/etc/$NAME\" /x\n";
    place.write("context/Dockerfile", dockerfile);
    let context = place.path("context");
    let args = ["--build-arg", "BASE=parent", "--build-arg", "WHO=me"];
    let shown = place.daemon.run(&[&["build", "--expand"], &args[..], &[&context]].concat()).ok();
    let (before, after) = shown.split_once("@sha256:").unwrap();
    let shown = format!("{before}{}", &after[64..]);
    let expected = "FROM docker.io/library/parent:latest AS app\n# ONBUILD\nRUN echo triggered\nARG WHO=\"me\"\nENV NAME=me\n\
        WORKDIR /srv/me\nRUN echo $NAME\n\nFROM app\nCOPY --from=app \"/etc/me\" /x";
    assert_eq!(shown, expected);
    assert_eq!(
        place.daemon.run(&["buildx", "history", "ls", "--format", "json"]).ok().lines().count(),
        1,
        "nothing is built"
    );
}

#[test]
fn input_that_makes_no_sense_is_refused_in_words() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    for (dockerfile, flags, texts) in [
        (
            "FROM busybox AS a\nCOPY --from=b /x /x\nFROM busybox AS b\nCOPY --from=a /y /y\n",
            vec![],
            vec![
                "circular dependency detected on stage: a",
                "   2 | >>> COPY --from=b /x /x\n",
                "   4 | >>> COPY --from=a /y /y\n",
            ],
        ),
        (
            "FROM busybox AS one\n",
            vec!["--target", "on"],
            vec!["target stage \"on\" could not be found (did you mean one?)"],
        ),
        ("FROM busybox\nCOPY --from=9 /x /x\n", vec![], vec!["invalid stage index 9"]),
        ("FROM busybox\nRUN --mount=type=bind,from=gone true\n", vec![], vec!["gone"]),
        (
            "FROM busybox\nENV\n",
            vec![],
            vec!["   2 | >>> ENV\n", "dockerfile parse error on line 2: ENV requires at least one argument"],
        ),
        ("FROM busybox\nRUN <<EOF\nnever ends\n", vec![], vec!["unterminated heredoc"]),
        ("FROM 127.0.0.1:9/nothing\n", vec![], vec!["127.0.0.1:9/nothing", "connection refused"]),
        ("FROM busybox\n", vec!["--build-arg", "SOURCE_DATE_EPOCH=soon"], vec!["SOURCE_DATE_EPOCH"]),
    ] {
        place.write("context/Dockerfile", dockerfile);
        let refused = place.show(&flags);
        let text = refused.fails_with(1);
        for part in texts {
            assert!(text.contains(part), "{dockerfile}: no {part:?}: {refused}");
        }
    }
}

#[test]
fn what_takes_from_itself_is_refused_and_leaves_nothing() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    let watch = Watch::daemon(&place.daemon);
    for (dockerfile, stage, lines) in [
        ("FROM busybox AS a\nCOPY --from=a /x /x\n", "a", vec!["   2 | >>> COPY --from=a /x /x\n"]),
        (
            "FROM busybox AS me\nRUN --mount=from=me true\nFROM scratch\n",
            "me",
            vec!["   2 | >>> RUN --mount=from=me true\n"],
        ),
        (
            "FROM scratch AS c\nCOPY --from=2 /z /z\nFROM busybox AS a\nRUN --mount=from=c true\nFROM a AS b\nCOPY --from=a /y /y\n",
            "c",
            vec![
                "   2 | >>> COPY --from=2 /z /z\n",
                "   4 | >>> RUN --mount=from=c true\n",
                "   6 | >>> COPY --from=a /y /y\n",
            ],
        ),
    ] {
        place.write("context/Dockerfile", dockerfile);
        let refused = place.show(&["--target", "0"]);
        let text = refused.fails_with(1);
        let error = format!("circular dependency detected on stage: {stage}");
        assert!(text.trim_end().ends_with(&error), "{dockerfile}: {refused}");
        for line in lines {
            assert!(text.contains(line), "{dockerfile}: no {line:?}: {refused}");
        }
    }
    // A context that takes the place of what it names itself is no cycle.
    place.write("context/Dockerfile", "FROM busybox AS a\nFROM a\nCOPY --from=busybox /bin/sh /x\n");
    let contexts = ["--build-context", "busybox=docker-image://busybox", "--build-context", "a=docker-image://busybox"];
    let built = place.show(&[&contexts[..], &["--output", "type=cacheonly"]].concat());
    assert_eq!(built.code, 0, "{built}");
    let _ = place.daemon.run(&["builder", "prune", "-af"]).ok();

    let inline = "dockerfile-inline = \"FROM other\"";
    for (contexts, text) in [
        (["a", "b"], "target a cannot link to itself"),
        (["b", "a"], "infinite loop from b to a"),
        (["c", "a"], "failed to find target c"),
    ] {
        let [of_a, of_b] = contexts.map(|name| format!("contexts = {{ other = \"target:{name}\" }}"));
        place.write(
            "bake/cycle.hcl",
            &format!("target \"a\" {{\n{inline}\n{of_a}\n}}\ntarget \"b\" {{\n{inline}\n{of_b}\n}}\n"),
        );
        for words in [["bake", "-f", "cycle.hcl", "a"], ["bake", "--print", "--file=cycle.hcl", "a"]] {
            let refused = place.daemon.run_in(&place.dir.join("bake"), &words);
            assert!(refused.fails_with(1).contains(text), "{words:?}: {refused}");
        }
    }
    watch.end().unwrap();
}

#[test]
fn a_full_disk_fails_a_build_and_nothing_else() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let daemon = Daemon::ferry(&sandbox, "a");
    let root = daemon.data_root().display().to_string();
    let _ = sandbox.sh(&format!("mkdir -p {root} && mount -t tmpfs -o size=40m none {root}")).ok();
    daemon.start().unwrap();
    daemon.load(&Material::get().busybox());
    let context = sandbox.dir().join("context");
    std::fs::create_dir(&context).unwrap();
    let build = |dockerfile: &str| {
        std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        daemon.run(&["build", "--progress", "plain", "-t", "built", context.to_str().unwrap()])
    };
    let failed = build("FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=100\n");
    assert!(failed.fails_with(1).contains("No space left on device"), "the program says it: {failed}");
    assert!(failed.err().contains("did not complete successfully: exit code: 1"), "{failed}");
    // There is room for the files, and none for the layer that they become.
    let failed = build("FROM busybox\nRUN head -c 20000000 /dev/urandom >/big\n");
    assert!(failed.fails_with(1).to_lowercase().contains("no space left on device"), "{failed}");
    let _ = sandbox.sh(&format!("head -c 50000000 /dev/urandom >{}/large", context.display())).ok();
    let failed = build("FROM busybox\nCOPY large /\n");
    assert!(failed.fails_with(1).to_lowercase().contains("no space left on device"), "{failed}");
    std::fs::remove_file(context.join("large")).unwrap();
    let left = || {
        sandbox.sh(&format!("ls {root}/build/trees {root}/build/contexts {root}/containers | grep -v : || true")).ok()
    };
    until("nothing is left of them", || left().trim().is_empty());

    let _ = build("FROM busybox\nRUN echo fits >/small\n").ok();
    assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "built", "cat", "/small"]).ok(), "fits");
    assert!(daemon.run(&["builder", "prune", "-af"]).ok().contains("Total reclaimed space"));
    assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "busybox", "echo", "there"]).ok(), "there");
}

#[test]
fn the_configuration_says_what_builds_leave_and_what_steps_never_get() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let file = sandbox.dir().join("daemon.json");
    let entitlements = r#""entitlements": {"network-host": false, "security-insecure": false}"#;
    std::fs::write(&file, format!(r#"{{"builder": {{{entitlements}}}}}"#)).unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--config-file", &file.display().to_string()]);
    daemon.start().unwrap();
    daemon.load(&Material::get().busybox());
    let context = sandbox.dir().join("context");
    std::fs::create_dir(&context).unwrap();
    let build = |flags: &[&str], dockerfile: &str| {
        std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        daemon.run(&[&["build", "-q", "-t", "built"], flags, &[context.to_str().unwrap()]].concat())
    };
    let refused = build(&["--allow", "network.host"], "FROM busybox\nRUN --network=host true\n");
    assert!(refused.fails_with(1).contains("network.host is not allowed"), "{refused}");
    let refused = build(&["--allow", "security.insecure"], "FROM busybox\nRUN --security=insecure true\n");
    assert!(refused.fails_with(1).contains("security.insecure is not allowed"), "{refused}");
    let _ = build(&[], "FROM busybox\nRUN --mount=type=cache,target=/c echo kept >/c/file && echo built >/file\n").ok();
    let kept = || daemon.run(&["builder", "du", "--verbose"]).ok();
    assert!(kept().contains("exec.cachemount") && kept().contains("regular"), "{}", kept());
    daemon.stop().unwrap();
    // Only now: they are applied a moment after every start, and that of before may have come when all of it was built.
    let gc = r#""gc": {"policy": [{"filter": ["type=exec.cachemount"], "maxUsedSpace": "1b"}, {"all": true, "keepStorage": "1b"}]}"#;
    std::fs::write(&file, format!(r#"{{"builder": {{{entitlements}, {gc}}}}}"#)).unwrap();
    daemon.start().unwrap();
    until("the rules are applied", || !kept().contains("exec.cachemount") && !kept().contains("regular"));
    assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "built", "cat", "/file"]).ok(), "built");
}
