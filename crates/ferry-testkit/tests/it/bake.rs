//! Bake files: what they describe is printed as buildx prints it, and built.

use ferry_testkit::registry::ADDRESS;
use ferry_testkit::{Daemon, programs};

use crate::place::Place;
use crate::until;

const FILE: &str = r#"variable "TAG" {
  default = "latest"
}
function "named" {
  params = [name]
  result = "baked/${name}:${TAG}"
}
group "default" {
  targets = ["app", "tools"]
}
target "base" {
  dockerfile-inline = <<EOT
FROM busybox
RUN echo from-base >/base
EOT
}
target "app" {
  context = "."
  contexts = { base = "target:base" }
  args = { WHO = "nobody" }
  labels = { "a.b" = upper("label") }
  tags = [named("app")]
}
target "tools" {
  name = "tool-${letter}"
  matrix = { letter = ["a", "b"] }
  dockerfile = "Tool"
  args = { LETTER = letter }
  tags = [named("tool-${letter}")]
}
"#;

#[test]
fn what_a_bake_file_describes_is_built() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let folder = daemon.sandbox().dir().join("bake");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in [
        ("other.hcl", FILE),
        ("Dockerfile", "FROM base\nARG WHO\nRUN echo $WHO >/who\n"),
        ("Tool", "FROM busybox\nARG LETTER\nRUN echo $LETTER >/letter\n"),
        (
            "compose.yaml",
            "services:\n  web:\n    image: composed/web\n    build:\n      context: .\n      dockerfile: Tool\n      args: {LETTER: \"${LETTER:-w}\"}\n",
        ),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let bake = |words: &str| daemon.run_in(&folder, &words.split_whitespace().collect::<Vec<_>>());
    let printed = bake("bake -f other.hcl --print --var TAG=v1 --set app.args.WHO=me").ok();
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["target"]["app"]["tags"][0], "baked/app:v1");
    assert_eq!(printed["target"]["app"]["args"]["WHO"], "me");
    assert_eq!(printed["target"]["base"]["output"][0]["type"], "cacheonly");
    assert_eq!(printed["group"]["tools"]["targets"], serde_json::json!(["tool-a", "tool-b"]));
    let listed = bake("bake --file other.hcl --list targets").ok();
    assert!(listed.starts_with("TARGET\tDESCRIPTION\n") && listed.contains("\ntool-a\t"), "{listed}");

    let built = bake("bake -f other.hcl --progress plain --metadata-file meta.json --var TAG=v1 --set app.args.WHO=me");
    let _ = built.ok();
    let read = |image: &str, path: &str| daemon.run(&["run", "--rm", "--network", "none", image, "cat", path]).ok();
    assert_eq!(read("baked/app:v1", "/base"), "from-base");
    assert_eq!(read("baked/app:v1", "/who"), "me");
    assert_eq!(read("baked/tool-b:v1", "/letter"), "b");
    assert_eq!(daemon.inspect("baked/app:v1", "{{index .Config.Labels \"a.b\"}}"), "LABEL");
    let names = daemon.run(&["images", "--format", "{{.Repository}}"]).ok();
    assert!(!names.contains("ferry-bake"), "what only others use has no name: {names}");
    let metadata: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
    assert_eq!(metadata["app"]["containerimage.digest"], daemon.inspect("baked/app:v1", "{{.Id}}"));

    let _ = bake("buildx bake --progress plain").ok();
    assert_eq!(read("composed/web", "/letter"), "w", "a compose file is found by itself");
    let missing = bake("bake -f other.hcl nothing");
    assert!(missing.fails_with(1).contains("ERROR: failed to find target nothing"), "{missing}");
}

/// Writes `docker-bake.hcl` into a folder of its own, and bakes there.
fn bake(place: &Place, file: &str, words: &str) -> ferry_testkit::command::Outcome {
    place.write("work/docker-bake.hcl", file);
    let words: Vec<&str> = std::iter::once("bake").chain(words.split_whitespace()).collect();
    place.daemon.run_in(&place.dir.join("work"), &words)
}

#[test]
fn targets_are_built_side_by_side_and_shown_as_one() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    // Each waits for the other.
    let meets = |own: &str, other: &str| {
        format!(
            "target \"{own}\" {{\n  tags = [\"{own}\"]\n  dockerfile-inline = <<EOT\nFROM busybox\n\
             RUN --mount=type=cache,id=meet,target=/m touch /m/{own}; n=0; until [ -e /m/{other} ]; do n=$((n+1)); \
             [ $n -lt 900 ] || exit 9; sleep 0.1; done; echo met >/met\nEOT\n}}\n"
        )
    };
    let file = format!("{}{}", meets("one", "two"), meets("two", "one"));
    let built = bake(&place, &file, "--progress plain one two");
    assert_eq!(built.code, 0, "{built}");
    assert!(
        built.err().contains(" [one stage-0 2/2] RUN ") && built.err().contains(" [two stage-0 2/2] RUN "),
        "{built}"
    );
    assert!(built.err().contains(" [one internal] load build definition"), "{built}");
    assert_eq!((place.read("one", "/met"), place.read("two", "/met")), ("met".to_owned(), "met".to_owned()));

    // The first that fails ends all.
    let file = "target \"bad\" {\n  dockerfile-inline = \"FROM busybox\\nRUN echo oh; exit 3\\n\"\n}\n\
        target \"slow\" {\n  dockerfile-inline = \"FROM busybox\\nRUN sleep 4321\\n\"\n}\n";
    let failed = bake(&place, file, "--progress plain bad slow");
    let text = failed.fails_with(1);
    assert!(text.contains("   2 | >>> RUN echo oh; exit 3\n"), "{failed}");
    let last = "ERROR: target bad: failed to solve: process \"/bin/sh -c echo oh; exit 3\" did not complete successfully: exit code: 3";
    assert!(text.trim_end().ends_with(last), "{failed}");
    until("the other has ended", || place.sandbox.sh("pgrep -fx 'sleep 4321' || true").ok().is_empty());
    let alone = bake(&place, file, "--progress plain bad");
    assert!(alone.err().contains("ERROR: failed to solve: process ") && alone.err().contains(" [2/2] RUN "), "{alone}");
}

#[test]
fn flags_hold_for_all_targets() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    let file = format!(
        "target \"default\" {{\n  context = \"context\"\n  tags = [\"{ADDRESS}/app:1\"]\n}}\n\
         target \"free\" {{\n  context = \"context\"\n  entitlements = [\"security.insecure\"]\n}}\n\
         target \"away\" {{\n  context = \"context\"\n  output = [\"type=local,dest=/usr/share/away\"]\n}}\n"
    );
    let dockerfile = "FROM busybox as base\nRUN head -c 16 /dev/urandom | md5sum >/r\n";
    place.write("work/context/Dockerfile", dockerfile);
    let run = |words: &str| bake(&place, &file, words);
    let name = format!("{ADDRESS}/app:1");
    let random = |words: &str| {
        let _ = run(words).ok();
        place.read(&name, "/r")
    };
    let first = random("");
    assert_eq!(random(""), first);
    assert_ne!(random("--no-cache"), first);
    assert_eq!(place.daemon.api("GET", &format!("/distribution/{name}/json"), None).status, 404);
    let _ = run("--push").ok();
    assert_eq!(place.daemon.api("GET", &format!("/distribution/{name}/json"), None).status, 200);
    let raw = run("--progress rawjson");
    assert!(raw.code == 0 && raw.err().starts_with('{'), "{raw}");
    let short = run("");
    assert!(short.err().contains("1 warning found (use docker --debug to expand)"), "{short}");
    let long = run("--debug");
    assert!(long.err().contains("More info: https://docs.docker.com/go/dockerfile/rule/"), "{long}");
    let checked = run("--check");
    assert_eq!(checked.code, 1, "{checked}");
    assert!(checked.out().starts_with("default\n\nCheck complete, 1 warning has been found!\n"), "{checked}");
    let called = run("--call targets,format=json").ok();
    let called: serde_json::Value = serde_json::from_str(&called).unwrap();
    assert_eq!(called["target"]["default"]["targets"]["targets"][0]["name"], "base", "{called}");
    assert_eq!(called["target"]["default"]["build"]["context"], "context", "{called}");
    let printed =
        |words: &str| -> serde_json::Value { serde_json::from_str(&run(&format!("--print {words}")).ok()).unwrap() };
    let target = |words: &str| printed(words)["target"]["default"].clone();
    assert_eq!(target("--pull")["pull"], true);
    assert_eq!(target("--provenance mode=max")["attest"][0]["mode"], "max");
    assert_eq!(target("--sbom true")["attest"][0]["type"], "sbom");

    let refused = run("free");
    let text = refused.fails_with(1);
    assert!(text.contains(" - Running privileged containers that can make system changes\n"), "{refused}");
    assert!(text.contains("Pass \"--allow=security.insecure\" to grant requested privileges.\n"), "{refused}");
    assert!(text.trim_end().ends_with("ERROR: additional privileges requested"), "{refused}");
    let _ = run("--allow security.insecure free").ok();
    let refused = run("away");
    assert!(refused.fails_with(1).contains(" - Write access to path /usr/share\n"), "{refused}");
    assert!(!std::path::Path::new("/usr/share/away").exists());
    let out = place.path("out");
    let _ = run(&format!("--set away.output=type=local,dest={out} away")).ok();
    assert!(std::path::Path::new(&out).join("r").exists(), "who says where something goes has granted it");
    for (words, text) in [
        ("--policy filename=p.rego", "--policy does not accept filename"),
        ("--builder nobody", "no builder \"nobody\" found"),
        ("--allow nothing", "unknown entitlement key \"nothing\""),
        ("--on-error shell", "`--on-error shell` needs a terminal"),
    ] {
        let refused = run(words);
        assert!(refused.fails_with(1).contains(text), "{words}: {refused}");
    }
}

#[test]
fn definitions_come_from_elsewhere() {
    if !programs::need_root() || !programs::need("git", programs::on_path("git").is_some()) {
        return;
    }
    let place = Place::start();
    let file = "target \"default\" {\n  tags = [\"far\"]\n}\ntarget \"sub\" {\n  context = \"sub\"\n  tags = [\"below\"]\n}\n\
        target \"own\" {\n  dockerfile-inline = \"FROM busybox\\nCOPY f /own\\n\"\n  tags = [\"own\"]\n}\n\
        target \"here\" {\n  context = BAKE_CMD_CONTEXT\n  tags = [\"here\"]\n}\n\
        target \"steals\" {\n  contexts = { x = \"cwd:///etc\" }\n}\n";
    place.write("tree/docker-bake.hcl", file);
    place.write("tree/Dockerfile", "FROM busybox\nCOPY f /f\n");
    place.write("tree/f", "from afar\n");
    place.write("tree/sub/Dockerfile", "FROM busybox\nCOPY g /g\n");
    place.write("tree/sub/g", "below\n");
    place.write("tree/sub/other.hcl", "target \"default\" {\n  tags = [\"named\"]\n}\n");
    place.write("work/Dockerfile", "FROM busybox\nRUN echo here >/here\n");
    place.write("work/more.hcl", "target \"default\" {\n  labels = { more = \"yes\" }\n}\n");
    let made = place.sandbox.sh(&format!(
        "set -e; cd {}; mkdir www; tar -czf www/tree.tar.gz -C tree .; cp tree/docker-bake.hcl www; \
         cd tree; git init -q -b main; git add -A; git -c user.name=n -c user.email=e commit -qm c; \
         git clone -q --bare . ../www/tree.git",
        place.dir.display()
    ));
    let _ = made.ok();
    let line = format!(
        "cd {0} && (python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 &) && \
         (git daemon --reuseaddr --export-all --base-path={0} {0} >/dev/null 2>&1 &)",
        place.path("www")
    );
    let _servers = place.daemon.sh(&line);
    until("the servers to listen", || {
        place.sandbox.http_get("127.0.0.1:8000", "/").is_ok() && place.sandbox.connect("127.0.0.1:9418").is_ok()
    });
    std::fs::create_dir(place.path("scratch")).unwrap();
    let (work, scratch) = (place.path("work"), place.path("scratch"));
    let bake = |words: &str| place.daemon.sh(&format!("cd {work} && TMPDIR={scratch} ferry bake {words}"));
    let git = "git://127.0.0.1/tree.git";

    let _ = bake(&format!("{git}#main default sub own -f docker-bake.hcl -f cwd://more.hcl")).ok();
    let remembered = place.daemon.run(&["buildx", "history", "ls", "--format", "json"]).ok();
    assert_eq!(remembered.lines().count(), 3, "what brings definitions here is no build of the user's: {remembered}");
    assert_eq!(place.read("far", "/f"), "from afar");
    assert_eq!(place.daemon.inspect("far", "{{.Config.Labels.more}}"), "yes");
    assert_eq!((place.read("below", "/g"), place.read("own", "/own")), ("below".to_owned(), "from afar".to_owned()));
    let printed = bake(&format!("{git} --print sub")).ok();
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["target"]["sub"]["context"], format!("{git}#:sub"));
    let _ = bake(&format!("{git} here")).ok();
    assert_eq!(place.read("here", "/here"), "here", "the context of the command is the folder that it runs in");
    let _ = bake(&format!("{git} -f sub/other.hcl")).ok();
    assert_eq!(place.read("named", "/f"), "from afar");
    let _ = place.daemon.run(&["rmi", "-f", "below"]).ok();
    let _ = bake("http://127.0.0.1:8000/tree.tar.gz sub").ok();
    assert_eq!(place.read("below", "/g"), "below");
    let alone = bake("http://127.0.0.1:8000/docker-bake.hcl here --print").ok();
    assert!(alone.contains("\"here\""), "{alone}");

    for (words, text) in [
        (format!("{git} steals"), "Read access to path /etc"),
        (format!("{git} -f nothing.hcl"), "nothing.hcl"),
        ("http://127.0.0.1:8000/nothing.hcl".to_owned(), "404"),
        (format!("{git} nothing"), "failed to find target nothing"),
    ] {
        let refused = bake(&words);
        assert!(refused.fails_with(1).contains(text), "{words}: {refused}");
    }
    let left = std::fs::read_dir(&scratch).unwrap().count();
    assert_eq!(left, 0, "what was brought here is gone");
}

#[test]
fn steps_may_have_folders_of_the_host_when_asked() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let folder = daemon.sandbox().dir().join("context");
    std::fs::create_dir_all(&folder).unwrap();
    let shared = daemon.sandbox().dir().join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    std::fs::write(shared.join("f"), "from the host\n").unwrap();
    std::fs::write(
        folder.join("Dockerfile"),
        "FROM busybox\nRUN cat /data/f >/seen; touch /data/new 2>/dev/null || echo ro >>/seen\n",
    )
    .unwrap();
    std::os::unix::fs::symlink("/etc", folder.join("escape")).unwrap();
    let context = folder.to_str().unwrap();
    let volume = format!("{}:/data:ro", shared.display());
    let _ = daemon.run(&["build", "-q", "-t", "seen", "-v", &volume, context]).ok();
    let seen = daemon.run(&["run", "--rm", "--network", "none", "seen", "cat", "/seen"]).ok();
    assert_eq!(seen, "from the host\nro");
    assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "seen", "ls", "/"]).ok().find("data"), None);
    let wrong = daemon.run(&["build", "-v", "relative:/data", context]);
    assert!(wrong.fails_with(1).contains("both paths are absolute"), "{wrong}");

    // Links in a context lead nowhere outside of it.
    for mount in ["source=escape,target=/m", "source=escape/passwd,target=/m"] {
        std::fs::write(folder.join("Dockerfile"), format!("FROM busybox\nRUN --mount=type=bind,{mount} cat /m\n"))
            .unwrap();
        let refused = daemon.run(&["build", "--progress", "plain", context]);
        assert_eq!(refused.code, 1, "{refused}");
        assert!(!refused.err().contains("root:"), "{refused}");
    }
}
