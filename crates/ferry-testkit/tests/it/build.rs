//! Builds: from a Dockerfile to an image, with the cache, mounts and everything that can go wrong.

use std::path::{Path, PathBuf};

use ferry_testkit::{Daemon, programs};

use crate::until;

/// A context on the disk.
struct Tree(PathBuf);

impl Tree {
    fn new(daemon: &Daemon, name: &str, files: &[(&str, &str)]) -> Self {
        let tree = Self(daemon.sandbox().dir().join(name));
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

/// Names of the steps that were not found in the cache.
fn steps_run(progress: &str) -> Vec<String> {
    let cached: Vec<&str> = progress.lines().filter_map(|line| line.strip_suffix(" CACHED")).collect();
    let numbered = progress.lines().filter_map(|line| line.split_once(' '));
    let begun = numbered
        .filter(|(number, rest)| number.starts_with('#') && rest.starts_with('[') && !rest.starts_with("[internal]"));
    begun.filter(|(number, _)| !cached.contains(number)).map(|(_, name)| name.to_owned()).collect()
}

#[test]
fn images_are_built_and_what_did_not_change_is_not_built_again() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let dockerfile = "FROM busybox AS base\n\
        RUN mkdir -p /etc && echo app:x:4321:4321::/:/bin/sh >>/etc/passwd && echo app:x:4321: >>/etc/group\n\
        FROM base\n\
        LABEL who=me\n\
        ENV GREETING=\"hello world\"\n\
        WORKDIR /srv/app\n\
        COPY --chown=app src/ ./\n\
        COPY --link --chmod=640 one.txt /linked.txt\n\
        RUN cat one.txt >copied; echo $GREETING >>copied\n\
        EXPOSE 80\n\
        USER app\n\
        CMD [\"cat\", \"copied\"]\n";
    let tree = Tree::new(
        &daemon,
        "context",
        &[
            ("Dockerfile", dockerfile),
            ("src/one.txt", "one\n"),
            ("one.txt", "top\n"),
            (".dockerignore", "*.log\n"),
            ("x.log", "x"),
        ],
    );
    let build = ["build", "--progress", "plain", "-t", "built:1", "-t", "built:2", tree.path()];
    let first = daemon.run(&build);
    let _ = first.ok();
    assert!(first.err().contains("#1 [internal] load build definition from Dockerfile\n"), "{first}");
    assert!(first.err().contains("RUN cat one.txt >copied"), "{first}");
    assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "built:1"]).ok(), "one\nhello world");
    let looks = daemon.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "built:2",
        "stat",
        "-c",
        "%a %U",
        "/linked.txt",
        "/srv/app/one.txt",
    ]);
    assert_eq!(looks.ok(), "640 root\n644 app");
    assert_eq!(
        daemon.inspect("built:1", "{{.Config.User}} {{.Config.WorkingDir}} {{.Config.Labels.who}}"),
        "app /srv/app me"
    );
    let history = daemon.run(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "built:1"]).ok();
    assert!(history.starts_with("CMD [\"cat\" \"copied\"]\nUSER app\n"), "{history}");
    assert!(history.contains("RUN /bin/sh -c cat one.txt >copied; echo $GREETING >>copied # buildkit"), "{history}");
    assert_eq!(daemon.run(&["ps", "-a", "-q"]).ok(), "", "steps are nobody's containers");

    let id = daemon.inspect("built:1", "{{.Id}}");
    let touched = std::fs::File::open(tree.0.join("src/one.txt")).unwrap();
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let again = daemon.run(&build);
    let _ = again.ok();
    assert_eq!(daemon.inspect("built:1", "{{.Id}}"), id, "times are no change: {again}");
    let run: Vec<String> =
        steps_run(&again.err()).into_iter().filter(|step| step.contains("RUN") || step.contains("COPY")).collect();
    assert!(run.is_empty(), "{run:?}");

    tree.write("src/one.txt", "changed\n");
    let changed = daemon.run(&build);
    let _ = changed.ok();
    let text = changed.err();
    let run: Vec<String> =
        steps_run(&text).into_iter().filter(|step| step.contains("RUN") || step.contains("COPY")).collect();
    assert!(run.iter().all(|step| !step.contains("etc/passwd")) && run.len() >= 2, "{run:?}");
    assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "built:1"]).ok(), "changed\nhello world");

    tree.write("src/one.txt", "again\n");
    let explained = daemon.run(&["build", "--explain", "--progress", "plain", "-t", "explained", tree.path()]);
    let _ = explained.ok();
    assert!(explained.err().contains("not in the cache: step 0 files of"), "{explained}");
    tree.write("src/one.txt", "changed\n");
    let usage = daemon.run(&["builder", "du"]).ok();
    assert!(usage.contains("Reclaimable:"), "{usage}");
    assert!(daemon.run(&["system", "df"]).ok().contains("Build Cache"));
    let pruned = daemon.run(&["builder", "prune", "-af"]).ok();
    assert!(pruned.contains("Total reclaimed space:"), "{pruned}");
    assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "built:1"]).ok(), "changed\nhello world");
    let fresh = daemon.run(&build);
    let _ = fresh.ok();
    assert!(!fresh.err().contains("CACHED"), "{fresh}");
}

#[test]
fn mounts_heredocs_and_archives_work() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let dockerfile = "FROM busybox AS one\n\
        RUN <<EOF\nset -e\nmkdir /out\necho from-one >/out/file\nln -s /out/file /out/link\nEOF\n\
        FROM busybox\n\
        COPY <<'TEXT' /etc/text\nliteral $HOME\nTEXT\n\
        COPY --from=one /out /out\n\
        ADD archive.tar.gz /unpacked/\n\
        RUN --mount=type=cache,target=/var/cache/x,id=shared echo run >>/var/cache/x/log; wc -l </var/cache/x/log >/count\n\
        RUN --mount=type=secret,id=token,target=/run/token,required cat /run/token | sha256sum >/token-digest\n\
        RUN --mount=type=secret,id=token,env=TOKEN test -n \"$TOKEN\"\n\
        RUN --mount=type=tmpfs,target=/scratch touch /scratch/gone\n\
        RUN --mount=type=bind,source=data,target=/data --mount=type=bind,from=one,source=/out,target=/one cat /data/file /one/file >/bound\n\
        RUN --network=none ! ping -c1 -w1 10.0.0.1 2>/dev/null; ls / >/names\n";
    let tree = Tree::new(
        &daemon,
        "context",
        &[("Dockerfile", dockerfile), ("data/file", "data\n"), ("packed/inner", "inner\n")],
    );
    let _ = daemon.sandbox().sh(&format!("cd {} && tar -czf archive.tar.gz -C packed .", tree.path())).ok();
    let secret = daemon.sandbox().dir().join("token");
    std::fs::write(&secret, "s3cr3t-marker-value").unwrap();
    let source = format!("id=token,src={}", secret.display());
    let build = ["build", "--progress", "plain", "--secret", &source, "-t", "mounts", tree.path()];
    let _ = daemon.run(&build).ok();
    let show = |path: &str| daemon.run(&["run", "--rm", "--network", "none", "mounts", "cat", path]).ok();
    assert_eq!(show("/etc/text"), "literal $HOME");
    assert_eq!(show("/out/link"), "from-one");
    assert_eq!(show("/unpacked/inner"), "inner");
    assert_eq!(show("/count"), "1");
    assert_eq!(show("/bound"), "data\nfrom-one");
    let names = show("/names");
    assert!(!names.contains("scratch") && !names.contains("data\n"), "places of mounts are gone: {names}");
    let _ = daemon.run(&["build", "--no-cache", "--secret", &source, "-t", "mounts", tree.path()]).ok();
    assert_eq!(show("/count"), "2", "a cache mount outlives builds");
    let root = daemon.data_root();
    let found = daemon.sandbox().sh(&format!(
        "grep -rl s3cr3t-marker {} {} || true",
        root.display(),
        daemon.exec_root().display()
    ));
    assert_eq!(found.ok(), "", "secrets are kept nowhere");
    assert!(!daemon.log().contains("s3cr3t-marker"));
    let missing = daemon.run(&["build", "--no-cache", tree.path()]);
    assert!(missing.fails_with(1).contains("secret token: not found"), "{missing}");
}

#[test]
fn failures_show_where_and_leave_nothing() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let tree = Tree::new(&daemon, "context", &[("Dockerfile", "FROM busybox\nRUN echo before; exit 7\n")]);
    let failed = daemon.run(&["build", "--progress", "plain", tree.path()]);
    let text = failed.fails_with(1);
    assert!(text.contains("before\n"), "{failed}");
    assert!(text.contains("   2 | >>> RUN echo before; exit 7\n"), "{failed}");
    let last = "ERROR: failed to build: failed to solve: process \"/bin/sh -c echo before; exit 7\" did not complete successfully: exit code: 7";
    assert!(text.trim_end().ends_with(last), "{failed}");

    for (dockerfile, message) in [
        ("FROM busybox\nCOPY none /\n", "\"/none\": not found"),
        ("FROM busybox\nRUNN x\n", "unknown instruction: RUNN"),
        ("FROM busybox\nCOPY --from=nostage /x /\n", "nostage"),
        ("FROM busybox\nCOPY ../../../../etc/hostname /x\n", "\"/etc/hostname\": not found"),
        ("FROM busybox\nCOPY escape /x\n", "not found"),
        ("", "the Dockerfile cannot be empty"),
    ] {
        tree.write("Dockerfile", dockerfile);
        let _ = std::os::unix::fs::symlink("/etc/hostname", Path::new(tree.path()).join("escape"));
        let failed = daemon.run(&["build", tree.path()]);
        assert!(failed.fails_with(1).contains(message), "{dockerfile}: {failed}");
    }
    tree.write("Dockerfile", "FROM busybox as Base\n");
    let checked = daemon.run(&["build", "--check", tree.path()]);
    assert_eq!(checked.code, 1, "{checked}");
    assert!(checked.out().starts_with("Check complete, 2 warnings have been found!\n\nWARNING: "), "{checked}");
    let nothing = daemon.run(&["build", "-f", "nofile", tree.path()]);
    assert!(nothing.fails_with(1).contains("failed to read dockerfile: open nofile: no such file or directory"));

    tree.write("Dockerfile", "FROM busybox\nRUN echo begun; sleep 1000\n");
    let running = daemon.spawn(&["build", "--progress", "plain", tree.path()]);
    let steps = || daemon.sandbox().sh("pgrep -x sleep || true").ok();
    until("the step runs", || !steps().is_empty());
    running.signal(rustix::process::Signal::INT).unwrap();
    let _ = running.finish(ferry_testkit::command::LIMIT).unwrap();
    until("the step has ended with its client", || steps().is_empty());
    let left = || {
        let folder = |name: &str| std::fs::read_dir(daemon.data_root().join(name)).map(Iterator::count).unwrap_or(0);
        folder("containers") + folder("build/trees") + folder("build/contexts")
    };
    until("nothing is left", || {
        // The directory of the client is kept for its next build.
        let _ = daemon.run(&["builder", "prune", "-af"]).ok();
        left() == 0
    });

    let running = daemon.spawn(&["build", "--progress", "plain", tree.path()]);
    until("the step runs", || !steps().is_empty());
    daemon.kill().unwrap();
    let _ = running.finish(ferry_testkit::command::LIMIT).unwrap();
    daemon.start().unwrap();
    until("a start removes what a killed daemon left", || steps().is_empty() && left() == 0);
}

#[test]
fn changes_of_a_context_are_seen_however_they_look() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let large = "x".repeat(5 << 20);
    let files = [
        ("Dockerfile", "FROM busybox\nCOPY . /c\n"),
        ("d/f", "one"),
        ("d/g", "other"),
        ("same", "same"),
        ("large", &large),
    ];
    let tree = Tree::new(&daemon, "context", &files);
    let path = |name: &str| tree.0.join(name);
    let built = || daemon.run(&["build", "-q", tree.path()]).ok();
    let read =
        |image: &str, command: &str| daemon.run(&["run", "--rm", "--network", "none", image, "sh", "-c", command]).ok();
    let look = "cd /c; cat d/* same 2>&1; wc -c < large; stat -c %h large; ls d";
    let first = built();
    assert_eq!(read(&first, look), format!("oneothersame{}\n1\nf\ng", large.len()));
    assert_eq!(built(), first);
    let before = std::fs::metadata(path("d/f")).unwrap();
    tree.write("d/f", "two");
    let times = std::fs::FileTimes::new().set_modified(before.modified().unwrap());
    std::fs::File::options().write(true).open(path("d/f")).unwrap().set_times(times).unwrap();
    let second = built();
    assert_eq!(read(&second, look), format!("twoothersame{}\n1\nf\ng", large.len()));
    std::fs::remove_file(path("d/g")).unwrap();
    std::fs::rename(path("same"), path("d/h")).unwrap();
    std::os::unix::fs::symlink("d", path("same")).unwrap();
    let third = built();
    assert_eq!(read(&third, "cd /c; cat same/f d/h; ls d; wc -c < large"), format!("twosamef\nh\n{}", large.len()));
    assert_eq!(read(&first, look), format!("oneothersame{}\n1\nf\ng", large.len()), "what was built stays");
    std::fs::remove_dir_all(path("d")).unwrap();
    tree.write("d", "file");
    assert_eq!(read(&built(), "cd /c; cat d"), "file");
}

#[test]
fn contexts_come_from_everywhere() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let alone = daemon.run_with_input(&["build", "-q", "-"], b"FROM busybox\nRUN echo alone >/x\n").ok();
    assert!(alone.starts_with("sha256:"), "{alone}");
    let tree = Tree::new(
        &daemon,
        "context",
        &[("sub/Other", "FROM busybox\nCOPY f /f\n"), ("f", "content"), ("named/g", "named")],
    );
    let iid = daemon.sandbox().dir().join("iid");
    let other = format!("{}/sub/Other", tree.path());
    let built = daemon.run(&["build", "-q", "-f", &other, "--iidfile", iid.to_str().unwrap(), tree.path()]).ok();
    assert_eq!(std::fs::read_to_string(&iid).unwrap(), built);
    let archive = daemon.sandbox().dir().join("context.tar");
    let _ = daemon.sandbox().sh(&format!("tar -C {} -cf {} .", tree.path(), archive.display())).ok();
    let from_tar =
        daemon.run_with_input(&["build", "-q", "-f", "sub/Other", "-"], &std::fs::read(&archive).unwrap()).ok();
    let text = |id: &str, path: &str| daemon.run(&["run", "--rm", "--network", "none", id, "cat", path]).ok();
    assert_eq!(text(&from_tar, "/f"), "content");
    let named = format!("extra={}/named", tree.path());
    tree.write("Dockerfile", "FROM busybox\nCOPY --from=extra g /g\nARG WHO=nobody\nRUN echo $WHO >/who\n");
    let with_named = daemon.run(&["build", "-q", "--build-context", &named, "--build-arg", "WHO=me", tree.path()]).ok();
    assert_eq!(text(&with_named, "/g"), "named");
    assert_eq!(text(&with_named, "/who"), "me");
    let target = Tree::new(
        &daemon,
        "stages",
        &[(
            "Dockerfile",
            "FROM busybox AS a\nRUN echo a >/a\nFROM busybox AS unused\nRUN exit 1\nFROM a AS last\nRUN echo last >/last\n",
        )],
    );
    let out = daemon.sandbox().dir().join("out");
    let _ = daemon.run(&["build", "-q", "--target", "a", "-o", out.to_str().unwrap(), target.path()]).ok();
    assert_eq!(std::fs::read_to_string(out.join("a")).unwrap(), "a\n");
    let tar = daemon.run(&["build", "-q", "--target", "a", "-o", "type=tar,dest=-", target.path()]);
    assert!(tar.code == 0 && tar.stdout.len() > 10_240, "{}", tar.err());
    let first = daemon.run(&["build", "-q", "--target", "a", target.path()]).ok();
    assert_eq!(text(&first, "/a"), "a");
    let _ = daemon.run(&["build", "-q", target.path()]).ok();
}

#[test]
fn clients_before_buildkit_are_answered_in_their_words() {
    if !programs::need_root() || !programs::need("docker", programs::on_path("docker").is_some()) {
        return;
    }
    let daemon = Daemon::ready();
    let dockerfile = "FROM busybox\nENV A=1\nRUN echo hello-from-run\n";
    let tree = Tree::new(&daemon, "context", &[("Dockerfile", dockerfile)]);
    let built = daemon.sandbox().sh(&format!(
        "DOCKER_BUILDKIT=0 docker -H {} build -t classic {} 2>/dev/null",
        daemon.host(),
        tree.path()
    ));
    let text = built.ok();
    assert!(text.contains("Step 1/3 : FROM busybox\n"), "{text}");
    assert!(text.contains("Step 2/3 : ENV A=1\n"), "{text}");
    assert!(text.contains("hello-from-run\n"), "{text}");
    assert!(text.contains("Successfully built ") && text.ends_with("Successfully tagged classic:latest"), "{text}");
    tree.write("Dockerfile", "FROM busybox\nRUN exit 3\n");
    let failed = daemon.sandbox().sh(&format!("DOCKER_BUILDKIT=0 docker -H {} build {}", daemon.host(), tree.path()));
    assert!(failed.fails_with(3).contains("The command '/bin/sh -c exit 3' returned a non-zero code: 3"), "{failed}");
}
