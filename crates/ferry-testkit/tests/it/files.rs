//! Files of containers: copies in and out, export, diff, commit.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ferry_testkit::leak::Watch;
use ferry_testkit::{Daemon, programs};

/// A shell line that must succeed; returns what it printed.
#[track_caller]
fn sh(daemon: &Daemon, line: &str) -> String {
    daemon.sh(&format!("cd {} && {line}", daemon.sandbox().dir().display())).ok()
}

/// A shell line that must fail; returns what it said.
#[track_caller]
fn refused(daemon: &Daemon, line: &str) -> String {
    daemon.sh(&format!("cd {} && {line}", daemon.sandbox().dir().display())).fails_with(1)
}

#[test]
fn copies_follow_dockers_path_rules() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let dir = daemon.sandbox().dir().to_owned();
    sh(&daemon, "mkdir -p src/sub && echo one >src/sub/f && ln -s sub/f src/l && echo two >g && chmod 4751 g");
    sh(&daemon, "ferry run -d --name on busybox sleep 1000 && ferry create --name off busybox true");
    for container in ["on", "off"] {
        let run = |line: &str| sh(&daemon, &line.replace("@", container));
        let read = |path: &str| run(&format!("ferry cp @:{path} - | tar -xO"));
        // File to folder, to a new name, onto a file; folder to a new name, into a folder, its content into a folder.
        run("ferry cp g @:/tmp && ferry cp g @:/tmp/h && ferry cp g @:/tmp/h");
        assert_eq!(read("/tmp/h"), "two");
        run("ferry cp src @:/tmp/new && ferry cp src @:/tmp && ferry cp src/. @:/tmp");
        let names = run("ferry cp @:/tmp - | tar -t | sort | tr '\\n' ' '");
        assert_eq!(
            names,
            "tmp/ tmp/g tmp/h tmp/l tmp/new/ tmp/new/l tmp/new/sub/ tmp/new/sub/f tmp/src/ tmp/src/l tmp/src/sub/ tmp/src/sub/f tmp/sub/ tmp/sub/f"
        );
        // And back.
        run(
            "rm -rf out && ferry cp @:/tmp/src out && ferry cp @:/tmp/src/. out && mkdir there && ferry cp @:/tmp/src there",
        );
        assert_eq!(std::fs::read_to_string(dir.join("out/l")).unwrap(), "one\n");
        assert!(dir.join("there/src/sub/f").is_file());
        run("ferry cp @:/tmp/g back && ferry cp -L @:/tmp/l . && ferry cp @:/tmp/l link && rm -rf there");
        assert_eq!(std::fs::metadata(dir.join("back")).unwrap().mode() & 0o7777, 0o4751);
        assert_eq!(std::fs::read_to_string(dir.join("l")).unwrap(), "one\n");
        assert!(!dir.join("l").is_symlink() && dir.join("link").is_symlink());
        run("rm -f l link back; tar -c src | ferry cp - @:/var && ferry cp @:/var/src/sub - | tar -t");
        // What cannot be.
        for (line, message) in [
            ("ferry cp @:/nope .", "Error response from daemon: Could not find the file /nope in container @"),
            ("ferry cp g @:/nope/x", "Error response from daemon: Could not find the file /nope in container @"),
            ("ferry cp g @:/tmp/nope/", "no such directory"),
            ("ferry cp src @:/tmp/g", "cannot copy directory"),
            ("ferry cp @:/tmp/src g", "cannot copy directory"),
            ("ferry cp @:/tmp/g nowhere/x", "invalid output path: directory \"DIR/nowhere\" does not exist"),
            ("ferry cp nope @:/tmp", "lstat DIR/nope: no such file or directory"),
            ("echo x | ferry cp - @:/tmp/g", "destination \"@:/tmp/g\" must be a directory"),
            ("ferry cp @:/tmp/g/ .", "Error response from daemon: lstat /tmp/g/: not a directory"),
            ("ferry cp a b", "must specify at least one container source"),
            ("ferry cp '' @:/x", "source can not be empty"),
        ] {
            let said = refused(&daemon, &line.replace('@', container));
            let expected = message.replace('@', container).replace("DIR", &dir.display().to_string());
            assert_eq!(said, expected, "{line}");
        }
    }
    // From one to the other, renamed on the way.
    sh(&daemon, "ferry cp on:/tmp/src off:/moved && ferry cp off:/moved/sub/f on:/etc");
    assert_eq!(sh(&daemon, "ferry exec on cat /etc/f"), "one");
    // The summary goes to standard error where it is asked for.
    let said = daemon.sh(&format!("cd {} && ferry cp -q=false g on:/tmp", dir.display()));
    assert_eq!(said.err(), "Successfully copied 4B (transferred 2.05kB) to on:/tmp\n");
}

#[test]
fn volumes_are_written_as_the_container_sees_them() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    sh(&daemon, "mkdir bound && echo host >bound/f && echo x >x");
    let mounts = "-v $PWD/bound:/b:ro -v vol:/v -v vol:/r:ro --tmpfs /t";
    sh(
        &daemon,
        &format!(
            "ferry run -d --name on {mounts} busybox sleep 1000 && ferry create --name off {mounts} busybox true && \
             ferry create --name closed --read-only -v vol:/v busybox true"
        ),
    );
    for container in ["on", "off", "closed"] {
        sh(&daemon, &format!("ferry cp x {container}:/v/of-{container}"));
    }
    assert_eq!(sh(&daemon, "ferry exec on ls /r | tr '\\n' ' '"), "of-closed of-off of-on");
    for container in ["on", "off"] {
        assert_eq!(sh(&daemon, &format!("ferry cp {container}:/b/f - | tar -xO")), "host");
        for place in ["/b", "/r"] {
            let said = refused(&daemon, &format!("ferry cp x {container}:{place}"));
            assert_eq!(said, "Error response from daemon: mounted volume is marked read-only");
        }
    }
    let said = refused(&daemon, "ferry cp x closed:/tmp");
    assert_eq!(said, "Error response from daemon: container rootfs is marked read-only");
    sh(&daemon, "ferry cp x on:/t && ferry exec on cat /t/x");
    // The kernel's places are those of the image.
    assert_eq!(sh(&daemon, "ferry cp on:/proc - | tar -t"), "proc/");
    assert!(!sh(&daemon, "ferry cp on:/ - | tar -t").contains("proc/1/"));
    assert_eq!(sh(&daemon, "ferry cp on:/etc/hostname - | tar -xO | wc -c"), "13");
}

#[test]
fn archives_come_compressed_and_belong_to_whom_they_say() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    sh(&daemon, "ferry run -d --name on busybox sleep 1000 && ferry create --name user -u 33:44 busybox true");
    sh(&daemon, "echo x >x && chown 7:8 x && tar -cf x.tar x");
    for (name, program) in [("gzip", "gzip"), ("zstd", "zstd -q"), ("bzip2", "bzip2"), ("xz", "xz"), ("plain", "cat")] {
        if daemon.sh(&format!("command -v {}", program.split(' ').next().unwrap())).code != 0 {
            continue;
        }
        sh(&daemon, &format!("ferry exec on mkdir /{name} && {program} <x.tar | ferry cp - on:/{name}"));
        assert_eq!(sh(&daemon, &format!("ferry exec on cat /{name}/x")), "x", "{name}");
    }
    assert_eq!(sh(&daemon, "ferry exec on stat -c %u:%g /plain/x"), "7:8");
    sh(&daemon, "ferry cp x user:/tmp/as-said && ferry cp -a x user:/tmp/as-user");
    assert_eq!(
        sh(&daemon, "ferry cp user:/tmp - | tar -tv --numeric-owner | awk '/as-/ {print $2}' | tr '\\n' ' '"),
        "7/8 33/44"
    );
    let said = refused(&daemon, "printf '\\037\\213broken' | ferry cp - on:/tmp");
    assert!(said.starts_with("Error response from daemon: "), "{said}");
}

#[test]
fn export_diff_and_commit_tell_what_a_container_has() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    sh(&daemon, "ferry run --name idle -v vol:/v busybox true");
    assert_eq!(sh(&daemon, "ferry diff idle"), "A /v");
    sh(
        &daemon,
        "ferry run -d --name box busybox sh -c 'mkdir /new /home/d; echo 1 >/new/a; ln /new/a /new/b; ln -s a /new/l; \
         chmod 700 /root; rm -rf /var/www /bin/vi; rm -rf /home/d; echo changed >>/etc/passwd; touch /ready; sleep 1000' && \
         until ferry exec box test -e /ready; do :; done",
    );
    let changes = "C /bin\nD /bin/vi\nC /etc\nC /etc/passwd\nA /new\nA /new/a\nA /new/b\nA /new/l\nA /ready\nC /root";
    assert_eq!(sh(&daemon, "ferry diff box | grep -v /var"), changes);
    let answer = daemon.api("GET", "/containers/box/changes", None).json();
    assert!(answer.as_array().unwrap().iter().any(|change| change["Path"] == "/new/a" && change["Kind"] == 1));
    let names = sh(&daemon, "ferry export box | tar -t");
    assert!(names.lines().any(|name| name == "new/a") && !names.lines().any(|name| name == "bin/vi"), "{names}");
    sh(&daemon, "ferry export -o box.tar box && tar -tf box.tar >/dev/null");
    let id = sh(
        &daemon,
        "ferry commit -a me -m note -c 'CMD [\"cat\", \"/new/a\"]' -c 'ENV X=1 Y=$X' -c 'HEALTHCHECK --interval=3s CMD true' \
         -c 'SHELL [\"/bin/ash\", \"-c\"]' box made:v1",
    );
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(daemon.inspect("box", "{{.State.Status}}"), "running");
    assert_eq!(sh(&daemon, "ferry run --rm made:v1"), "1");
    let inside = "stat -c %h /new/a; test -e /bin/vi || echo gone; stat -c %a /root";
    assert_eq!(sh(&daemon, &format!("ferry run --rm made:v1 sh -c '{inside}'")), "2\ngone\n700");
    let facts = "{{.Author}} {{.Comment}} {{.Config.Cmd}} {{.Config.Healthcheck.Test}} {{.Config.Shell}} {{len .RootFS.Layers}}";
    assert_eq!(daemon.inspect("made:v1", facts), "me note [cat /new/a] [CMD-SHELL true] [/bin/ash -c] 2");
    assert!(daemon.inspect("made:v1", "{{.Config.Env}}").ends_with("X=1 Y=]"));
    let history = sh(&daemon, "ferry history --no-trunc --format '{{.CreatedBy}}|{{.Comment}}' made:v1 | head -1");
    assert!(history.starts_with("sh -c mkdir /new") && history.ends_with("|note"), "{history}");
    // A commit of nothing is an image all the same.
    sh(&daemon, "ferry create --name same busybox true && ferry commit --no-pause same again");
    assert_eq!(daemon.inspect("again", "{{len .RootFS.Layers}}"), "1");
    for (line, message) in [
        ("ferry commit box Upper", "invalid reference format: repository name (library/Upper) must be lowercase"),
        ("ferry commit -c 'FROM x' box", "Error response from daemon: FROM is not a valid change command"),
        ("ferry commit nope", "Error response from daemon: No such container: nope"),
        ("ferry export nope", "Error response from daemon: No such container: nope"),
        ("ferry diff nope", "Error response from daemon: No such container: nope"),
    ] {
        assert_eq!(refused(&daemon, line), message, "{line}");
    }
    sh(&daemon, "ferry rm -fv idle box same && ferry rmi -f made:v1 again && ferry volume rm vol");
    watch.end().unwrap();
}

/// Everything below a folder, with content, mode and links, to see that it was not touched.
fn canary(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_file() { std::fs::read_to_string(&path).unwrap() } else { String::new() };
        found.push(format!("{} {:o} {} {content}", path.display(), metadata.mode(), metadata.nlink()));
    }
    found.sort();
    found
}

#[test]
fn archives_and_racers_do_not_reach_the_host() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let host = daemon.sandbox().dir().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("secret"), "host bytes").unwrap();
    let before = canary(&host);
    let away = host.display().to_string();
    // The racer swaps a folder with a link to the host's, by name and by every way that leads up; on a volume's mount point, too.
    let racer = format!(
        "mkdir -p /d /vols/v; ln -s {away} /l; ln -s /../../../../..{away} /vols/w; echo mine >/d/secret; echo mine >/vols/v/secret; \
         touch /ready; while :; do mv -T /d /x 2>/dev/null; mv -T /l /d; mv -T /d /l; mv -T /x /d; \
         mv -T /vols /vx; ln -s {away} /vols; rm /vols; mv -T /vx /vols; done"
    );
    let started = daemon.run(&["run", "-d", "--name", "racer", "-v", "vol:/vols/v", "busybox", "sh", "-c", &racer]);
    let _ = started.ok();
    sh(&daemon, "until ferry exec racer test -e /ready; do :; done; echo x >planted");
    let rounds = sh(
        &daemon,
        "n=0; while [ $n -lt 25 ]; do n=$((n+1)); \
         ferry cp racer:/d/secret - 2>/dev/null | tar -xO 2>/dev/null; ferry cp racer:/d - 2>/dev/null | tar -xO 2>/dev/null; \
         ferry cp racer:/vols/v/secret - 2>/dev/null | tar -xO 2>/dev/null; \
         ferry cp planted racer:/d 2>/dev/null; ferry cp planted racer:/vols/v/ 2>/dev/null; ferry cp planted racer:/l 2>/dev/null; \
         done; true",
    );
    assert!(rounds.contains("mine"), "the copies must reach the container");
    assert!(!rounds.contains("host bytes"), "{rounds}");
    assert_eq!(canary(&host), before);

    // Archives that try the same.
    sh(&daemon, "ferry rm -f racer && ferry run -d --name box busybox sleep 1000 && ferry exec box mkdir /t");
    let escapes = hostile(&away);
    for (name, archive) in &escapes {
        let _ = daemon.run_with_input(&["cp", "-", "box:/t"], archive);
        assert_eq!(canary(&host), before, "{name}");
    }
    assert_eq!(sh(&daemon, "ferry exec box cat /t/fine"), "control");
    assert_eq!(sh(&daemon, "ferry exec box ls /t/.wh.fine"), "/t/.wh.fine", "a name like any other");
    assert!(sh(&daemon, "ferry exec box ls -l /t/disk").starts_with('b'));
    assert!(daemon.run(&["exec", "box", "head", "-c1", "/t/disk"]).code != 0, "a device is of no use");
    // And out again, to a folder of ours.
    sh(
        &daemon,
        &format!(
            "ferry exec box sh -c 'mkdir -p /evil && ln -s {away} /evil/way' && mkdir got && ferry cp box:/evil/. got"
        ),
    );
    let _ = sh(&daemon, "ferry exec box sh -c 'rm /evil/way; mkdir /evil/way; echo over >/evil/way/secret'");
    let _ = daemon.sh(&format!("cd {} && ferry cp box:/evil/. got", daemon.sandbox().dir().display()));
    assert_eq!(canary(&host), before);
}

/// Archives with a name for each.
fn hostile(away: &str) -> Vec<(&'static str, Vec<u8>)> {
    use ferry_spec::tar::{END, Entry, Kind, header};
    let file = |path: &str| Entry { size: 0, ..Entry::new(Kind::File, path.as_bytes(), 0o644) };
    let link =
        |kind, path: &str, target: &str| Entry { link: target.into(), ..Entry::new(kind, path.as_bytes(), 0o777) };
    let archive = |entries: &[Entry]| {
        let mut bytes: Vec<u8> = entries.iter().flat_map(header).collect();
        bytes.extend(END);
        bytes
    };
    let up = "../../../../../../../..";
    let device = |kind, path: &str, device| Entry { device, ..Entry::new(kind, path.as_bytes(), 0o666) };
    let control = {
        let mut bytes = header(&Entry { size: 7, stored_bytes: 7, ..Entry::new(Kind::File, *b"fine", 0o644) });
        bytes.extend(b"control");
        bytes.resize(1024, 0);
        bytes.extend(END);
        bytes
    };
    vec![
        ("absolute", archive(&[file(&format!("{away}/planted"))])),
        ("dots", archive(&[file(&format!("{up}{away}/planted"))])),
        ("dots inside", archive(&[file(&format!("a/../{up}{away}/planted"))])),
        ("link as parent", archive(&[link(Kind::Symlink, "p", away), file("p/planted")])),
        ("dotted link as parent", archive(&[link(Kind::Symlink, "q", &format!("{up}{away}")), file("q/planted")])),
        ("link replaced", archive(&[link(Kind::Symlink, "s", &format!("{away}/secret")), file("s")])),
        ("hard link out", archive(&[link(Kind::HardLink, "h", &format!("{away}/secret"))])),
        ("dotted hard link out", archive(&[link(Kind::HardLink, "i", &format!("{up}{away}/secret"))])),
        ("hard link by a link", archive(&[link(Kind::Symlink, "k", away), link(Kind::HardLink, "m", "k/secret")])),
        (
            "folder over a link",
            archive(&[link(Kind::Symlink, "n", away), Entry::new(Kind::Folder, *b"n", 0o777), file("n/planted")]),
        ),
        ("whiteouts", archive(&[file(".wh.fine"), file(".wh..wh..opq"), file(".wh..")])),
        ("devices", archive(&[device(Kind::BlockDevice, "disk", (254, 0)), device(Kind::CharDevice, "mem", (1, 1))])),
        ("whiteout device", archive(&[device(Kind::CharDevice, "gone", (0, 0))])),
        ("magic links", archive(&[link(Kind::Symlink, "r", "/proc/1/root"), file(&format!("r{away}/planted"))])),
        ("control", control),
    ]
}

#[test]
fn debug_has_tools_for_containers_without_any() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    // One without a shell: all it has is a program that sleeps.
    sh(
        &daemon,
        "mkdir -p bare && cp /bin/busybox bare/sleep && echo mine >bare/file && tar -c -C bare . | ferry import -c 'ENTRYPOINT [\"/sleep\"]' - bare >/dev/null",
    );
    sh(&daemon, "ferry run -d --name on --init=false bare 1000 && ferry create --name off bare 1000");
    let before = sh(&daemon, "ferry diff on");
    assert_eq!(sh(&daemon, "ferry debug on cat file"), "mine");
    assert_eq!(sh(&daemon, "ferry debug -c 'tr \"\\0\" \" \" </proc/1/cmdline' on"), "/sleep 1000");
    assert_eq!(sh(&daemon, "echo 'cat file; exit 7' | ferry debug on; echo $?"), "mine\n7");
    assert_eq!(sh(&daemon, "ferry debug on sh -c 'echo seen >written; cat written'"), "seen");
    assert_eq!(sh(&daemon, "ferry cp on:/written - | tar -xO"), "seen", "the files are the container's own");
    assert_eq!(sh(&daemon, "ferry debug off sh -c 'cat file; echo x >lost' 2>/dev/null"), "mine");
    assert!(refused(&daemon, "ferry cp off:/lost -").contains("Could not find the file"));
    assert_eq!(sh(&daemon, "ferry debug --image busybox on cat file"), "mine");
    assert!(refused(&daemon, "ferry debug nope").contains("No such container: nope"));
    assert_eq!(sh(&daemon, "ferry ps -aq | wc -l"), "2", "the tools go with their user");
    assert_eq!(before, sh(&daemon, "ferry diff on | grep -v written || true"));
    sh(&daemon, "ferry rm -f on off >/dev/null; ferry rmi -f bare $(ferry images -q ferry-toolbox) >/dev/null");
    watch.end().unwrap();
}

#[test]
fn a_limit_of_the_layer_that_nothing_keeps_is_told_and_a_wrong_one_refused() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let outcome = daemon.run(&["create", "--name", "unlimited", "--storage-opt", "size=10M", "busybox"]);
    assert!(outcome.code == 0 && outcome.err().contains("Size of --storage-opt discarded"), "{outcome}");
    for (options, message) in [("size=many", "invalid size: 'many'"), ("inodes=5", "unknown option inodes")] {
        let outcome = daemon.run(&["create", "--storage-opt", options, "busybox"]);
        assert!(outcome.fails_with(1).contains(message), "{outcome}");
    }
    assert_eq!(daemon.run(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "unlimited");
}

#[test]
fn a_reader_that_does_not_read_holds_up_no_removal() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let watch = Watch::daemon(&daemon);
    for command in ["sleep 1000", "true"] {
        let fill = "dd if=/dev/zero of=/big bs=1M count=16 2>/dev/null";
        let _ = daemon
            .run(&["run", "-d", "--name", "box", "busybox", "sh", "-c", &format!("{fill}; touch /ready; {command}")])
            .ok();
        sh(
            &daemon,
            "until ferry cp box:/ready - >/dev/null 2>&1; do :; done; [ $(ferry inspect -f '{{.State.Running}}' box) = true ] || true",
        );
        let host = daemon.host();
        let socket = std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap();
        (&mut &socket).write_all(b"GET /containers/box/archive?path=/big HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut head = [0; 12];
        std::io::Read::read_exact(&mut &socket, &mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200", "{host}");
        let starting = (command == "true").then(|| daemon.spawn(&["start", "box"]));
        assert_eq!(daemon.run(&["ps", "-aq"]).ok().len(), 12);
        assert_eq!(daemon.run(&["rm", "-f", "box"]).ok(), "box");
        if let Some(starting) = starting {
            assert_ne!(starting.finish(ferry_testkit::command::LIMIT).unwrap().code, 0);
        }
        drop(socket);
    }
    watch.end().unwrap();
}

#[test]
fn a_layer_is_limited_where_the_file_system_keeps_limits() {
    if !programs::need_root() {
        return;
    }
    let sandbox = ferry_testkit::Sandbox::new().unwrap();
    let daemon = Daemon::ferry(&sandbox, "a");
    let root = daemon.data_root().display().to_string();
    let made = format!(
        "mkdir -p {root} && truncate -s 400M {root}.img && mkfs.ext4 -q -O quota,project -E quotatype=prjquota {root}.img && \
         mount -o loop,prjquota {root}.img {root}"
    );
    if sandbox.sh(&made).code != 0 {
        programs::skip("project quotas on ext4", "this kernel keeps none");
        return;
    }
    daemon.start().unwrap();
    daemon.load(&ferry_testkit::material::Material::get().busybox());
    let fill = |options: &[&str]| {
        let command = ["busybox", "dd", "if=/dev/zero", "of=/fill", "bs=1M", "count=20"];
        daemon.run(&[&["run", "--rm"], options, &command].concat())
    };
    let _ = fill(&[]).ok();
    for _ in 0..2 {
        let limited = fill(&["--storage-opt", "size=10M"]);
        assert!(limited.code != 0 && limited.err().contains("No space left on device"), "{limited}");
    }
    let _ = fill(&["--storage-opt", "size=40m"]).ok();
    daemon.stop().unwrap();
    let _ = sandbox.sh(&format!("umount {root}")).ok();
}

#[test]
fn a_commit_pauses_unless_it_is_told_not_to() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let _ = daemon.run(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let pauses = || {
        let now = daemon.sandbox().sh("date +%s.%N").ok();
        let words = ["events", "--since", "0", "--until", &now, "--filter", "event=pause", "--format", "{{.Action}}"];
        daemon.run(&words).ok().lines().count()
    };
    let _ = daemon.run(&["commit", "--no-pause", "box", "running"]).ok();
    assert_eq!(pauses(), 0);
    let _ = daemon.run(&["commit", "box", "paused"]).ok();
    assert_eq!(pauses(), 1);
}
