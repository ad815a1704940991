//! Bake files: what they describe is printed as buildx prints it, and built.

use ferry_testkit::{Daemon, programs};

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
    let bake = |words: &str| daemon.sh(&format!("cd {} && ferry {words}", folder.display()));
    let printed = bake("bake -f other.hcl --print --var TAG=v1 --set app.args.WHO=me").ok();
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["target"]["app"]["tags"][0], "baked/app:v1");
    assert_eq!(printed["target"]["app"]["args"]["WHO"], "me");
    assert_eq!(printed["target"]["base"]["output"][0]["type"], "cacheonly");
    assert_eq!(printed["group"]["tools"]["targets"], serde_json::json!(["tool-a", "tool-b"]));
    let listed = bake("buildx bake --file other.hcl --list targets").ok();
    assert!(listed.starts_with("TARGET ") && listed.contains("\ntool-a"), "{listed}");

    let built =
        bake("buildx bake -f other.hcl --progress plain --metadata-file meta.json --var TAG=v1 --set app.args.WHO=me");
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

    let _ = bake("bake --progress plain").ok();
    assert_eq!(read("composed/web", "/letter"), "w", "a compose file is found by itself");
    let missing = bake("bake -f other.hcl nothing");
    assert!(missing.fails_with(1).contains("ERROR: failed to find target nothing"), "{missing}");
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
