//! The words of `buildx` that build nothing: what was built before, the builder itself, images in registries.

use ferry_testkit::command::Outcome;
use ferry_testkit::programs;
use ferry_testkit::registry::ADDRESS;
use serde_json::Value;

use crate::place::Place;

fn buildx(place: &Place, words: &str) -> Outcome {
    let words: Vec<&str> = words.split(' ').collect();
    place.daemon.run(&[&["buildx"], &words[..]].concat())
}

#[test]
fn builds_are_remembered_and_can_be_asked_about() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    let lines = |words: &str| -> Vec<Value> {
        let told = buildx(&place, words).ok();
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(buildx(&place, "history ls").ok().lines().count(), 1, "a head alone");
    place.write("context/Dockerfile", "FROM busybox AS app\nARG WHO\nRUN echo hello $WHO >/who; cat /who\n");
    let id = place.build(&["-t", "app:1", "--build-arg", "WHO=me", "--target", "app"]);
    place.write("context/Dockerfile", "FROM busybox\nRUN echo near the end; exit 3\n");
    let failed = place.show(&[]);
    assert_eq!(failed.code, 1, "{failed}");

    let all = lines("history ls --format json");
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!((&all[0]["status"], &all[1]["status"]), (&"Error".into(), &"Completed".into()));
    let name = all[1]["name"].as_str().unwrap();
    assert!(name.ends_with("context (app)"), "{name}");
    let reference = |one: &Value| one["ref"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let (bad, good) = (reference(&all[0]), reference(&all[1]));
    let errors = lines("--builder default history ls --filter status=error --format json");
    assert_eq!(errors.iter().map(reference).collect::<Vec<_>>(), std::slice::from_ref(&bad));
    let table = buildx(&place, "history ls").ok();
    assert!(table.starts_with("BUILD ID ") && table.contains(&good) && table.contains(" Completed "), "{table}");

    let shown = buildx(&place, &format!("history inspect {good}")).ok();
    for part in ["Dockerfile:\tDockerfile", "Target:\t\tapp", "Build Steps:", "https://slsa.dev/provenance/v1"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("WHO"), "arguments may be secrets: {shown}");
    let status = buildx(&place, &format!("history inspect --format {{{{.Status}}}} {good}")).ok();
    assert_eq!(status, "completed");
    let shown = buildx(&place, "history inspect").ok();
    assert!(shown.contains("did not complete successfully: exit code: 3"), "the newest: {shown}");
    assert!(shown.contains("> near the end\n"), "{shown}");
    let logs = buildx(&place, "history logs ^1");
    assert!(logs.err().contains("hello me\n") && logs.err().contains("RUN echo hello"), "{logs}");
    let origin = buildx(&place, &format!("history inspect attachment --type provenance {good}")).ok();
    let origin: Value = serde_json::from_str(&origin).unwrap();
    assert!(origin["buildDefinition"].is_object(), "{origin}");
    assert!(
        buildx(&place, &format!("history inspect {good}")).ok().contains("application/vnd.oci.image.manifest.v1+json")
    );
    let manifest = buildx(&place, &format!("history inspect attachment --type manifest {good}")).ok();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert!(manifest["config"].is_object(), "{manifest}");
    let image = lines("history ls --format json").remove(1);
    assert!(image["total_steps"].as_u64().unwrap() > 2 && id.starts_with("sha256:"), "{image}");

    for (words, text) in [
        ("history trace ^1", "is missing a trace"),
        ("history inspect nothing", "no record found for ref \"nothing\""),
        ("history inspect ^9", "no completed build found with offset 7"),
        ("history inspect attachment", "at least one of --type, --platform or DIGEST must be specified"),
        ("history ls --filter name=x", "unsupported filter \"name=x\""),
        ("history rm", "rm requires at least one argument"),
        ("history rm nothing", "no build record found for ref nothing"),
        ("history ls --builder nobody", "no builder \"nobody\" found"),
        ("history open", "Docker Desktop"),
        ("history import -", "unknown command \"-\" for \"ferry buildx history import\""),
        (
            "history import",
            "failed to send request, check if Docker Desktop is running: Post \"http://docker-desktop/upload\": dial unix ",
        ),
        ("history import -f /none", "failed to open file /none: open /none: no such file or directory"),
    ] {
        let refused = buildx(&place, words);
        assert!(refused.fails_with(1).contains(text), "{words}: {refused}");
    }
    // What leaves the host is an OCI layout, with the log of each build.
    let bundle = place.path("bundle.dockerbuild");
    let _ = buildx(&place, &format!("history export -o {bundle} {good}")).ok();
    let read =
        |script: &str| place.sandbox.sh(&format!("set -e; rm -rf b; mkdir b; tar -xzf {bundle} -C b; cd b; {script}"));
    let index: Value = serde_json::from_str(&read("cat index.json").ok()).unwrap();
    let blob = |one: &Value| -> Value {
        let digest = one["digest"].as_str().unwrap().trim_start_matches("sha256:");
        serde_json::from_str(&read(&format!("cat blobs/sha256/{digest}")).ok()).unwrap()
    };
    let exported = blob(&index["manifests"][0]);
    let config = blob(&exported["config"]);
    assert_eq!((&config["Ref"], &config["FrontendAttrs"]["target"]), (&good.as_str().into(), &"app".into()));
    assert_eq!(exported["layers"][0]["mediaType"], "application/vnd.buildkit.status.v0");
    assert!(read("grep -la 'hello me' blobs/sha256/*").ok().contains("blobs/"), "the log of the build is there");
    let all = place.daemon.sh(&format!("ferry buildx history export --all >{bundle}"));
    assert_eq!(all.code, 0, "{all}");
    let index: Value = serde_json::from_str(&read("cat index.json").ok()).unwrap();
    assert_eq!(blob(&index["manifests"][0])["manifests"].as_array().unwrap().len(), 2);
    let refused = buildx(&place, &format!("history export --all {good}"));
    assert!(refused.fails_with(1).contains("cannot specify refs when using --all"), "{refused}");

    let _ = buildx(&place, &format!("history rm {bad}")).ok();
    assert_eq!(lines("history ls --format json").iter().map(reference).collect::<Vec<_>>(), [good]);
    let _ = buildx(&place, "history rm --all").ok();
    assert!(buildx(&place, "history inspect").fails_with(1).contains("no records found"));
}

#[test]
fn there_is_one_builder() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    let listed = buildx(&place, "ls").ok();
    assert!(
        listed.starts_with("NAME/NODE ") && listed.contains("\ndefault* ") && listed.contains(" \\_ default "),
        "{listed}"
    );
    assert!(listed.contains(" running ") && listed.contains("linux/"), "{listed}");
    let json: Value = serde_json::from_str(&buildx(&place, "ls --format json").ok()).unwrap();
    assert_eq!((&json["Name"], &json["Current"]), (&"default".into(), &true.into()));
    let shown = buildx(&place, "inspect --bootstrap default").ok();
    assert!(shown.starts_with("Name:   default\nDriver: docker\n\nNodes:\n"), "{shown}");
    assert!(shown.contains("org.mobyproject.buildkit.worker.snapshotter:"), "{shown}");
    assert!(buildx(&place, "version").ok().starts_with("ferry v"));
    for words in ["use default", "stop", "rm --all-inactive -f"] {
        let _ = buildx(&place, words).ok();
    }
    for (words, text) in [
        ("create --name other", "the builder \"other\" cannot be created"),
        ("create --driver nothing", "failed to find driver \"nothing\""),
        ("use other", "failed to find instance \"other\""),
        ("rm other", "failed to remove other: no builder \"other\" found"),
        ("rm", "context builder cannot be removed"),
        ("inspect other", "no builder \"other\" found"),
        ("stop other", "no builder \"other\" found"),
        ("dap build .", "not implemented"),
        ("histroy ls", "Did you mean 'history'?"),
    ] {
        let refused = buildx(&place, words);
        assert!(refused.code != 0 && refused.err().contains(text), "{words}: {refused}");
    }
    let dialled = place.daemon.run_with_input(&["buildx", "dial-stdio"], b"");
    assert_eq!(dialled.code, 0, "{dialled}");

    place.write("context/Dockerfile", "FROM busybox\nRUN --mount=type=cache,target=/c echo x >/c/x\n");
    let _ = place.build(&[]);
    let usage = buildx(&place, "du").ok();
    assert!(usage.starts_with("ID ") && usage.contains("\nReclaimable:\t") && usage.contains("\nTotal:\t"), "{usage}");
    let mounts = buildx(&place, "du --filter type=exec.cachemount --format {{.ID}}").ok();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert!(buildx(&place, "du --verbose").ok().contains("\nType:         exec.cachemount\n"));
    assert!(buildx(&place, "du --verbose --format json").fails_with(1).contains("cannot be used together"));
    let pruned = buildx(&place, "prune -f --filter type=exec.cachemount").ok();
    assert!(pruned.starts_with("ID\t") && pruned.contains(&mounts) && pruned.contains("\nTotal:\t"), "{pruned}");
    assert_eq!(buildx(&place, "du --filter type=exec.cachemount --format {{.ID}}").ok(), "");
}

#[test]
fn images_in_registries_are_looked_at_and_put_together() {
    if !programs::need_root() {
        return;
    }
    let place = Place::start();
    place.write("context/Dockerfile", "FROM scratch\nCOPY f /f\n");
    place.write("context/f", "content");
    for (platform, name) in [("linux/amd64", "one"), ("linux/arm64", "other")] {
        let _ = place.build(&["--platform", platform, "--push", "-t", &format!("{ADDRESS}/{name}:1")]);
    }
    let both = format!("{ADDRESS}/both:1");
    let created = buildx(
        &place,
        &format!(
            "imagetools create --progress plain --annotation index:k=v -t {both} {ADDRESS}/one:1 {ADDRESS}/other:1"
        ),
    );
    assert_eq!(created.code, 0, "{created}");
    assert!(created.err().contains(&format!("[internal] pushing {both}")), "{created}");
    let shown = buildx(&place, &format!("imagetools inspect {both}")).ok();
    assert!(
        shown.starts_with(&format!("Name:      {both}\nMediaType: application/vnd.oci.image.index.v1+json\n")),
        "{shown}"
    );
    assert!(shown.contains("  Platform:  linux/amd64") && shown.contains("  Platform:  linux/arm64"), "{shown}");
    let raw = buildx(&place, &format!("imagetools inspect --raw {both}"));
    let index: Value = serde_json::from_slice(&raw.stdout).unwrap();
    assert_eq!(index["annotations"]["k"], "v");
    let told = place.daemon.run(&["buildx", "imagetools", "inspect", "--format", "{{json .Image}}", &both]);
    assert!(told.code == 0 && told.out().contains("arm64"), "{told}");
    let digest = buildx(&place, &format!("imagetools inspect --format {{{{.Manifest.Digest}}}}{{{{.Name}}}} {both}"));
    assert!(digest.code == 0, "{digest}");
    let arm = buildx(&place, &format!("imagetools create --dry-run --platform linux/arm64 {both}")).ok();
    let arm: Value = serde_json::from_str(&arm).unwrap();
    assert_eq!(arm["manifests"].as_array().unwrap().len(), 1, "{arm}");

    // What was put together can be had, with blobs that lay in another repository.
    let _ = place.daemon.run(&["pull", "-q", &both]).ok();
    let id = place.daemon.inspect(&both, "{{.Id}}");
    assert!(shown.contains(&id), "{id}: {shown}");
    let more = format!("{ADDRESS}/more:1");
    let _ = buildx(&place, &format!("imagetools create -t {more} {ADDRESS}/one:1")).ok();
    let _ = buildx(&place, &format!("imagetools create --append -t {more} {ADDRESS}/other:1")).ok();
    let shown = buildx(&place, &format!("imagetools inspect {more}")).ok();
    assert_eq!(shown.matches("Platform:").count(), 2, "{shown}");
    for (words, text) in [
        ("imagetools create -t x".to_owned(), "no sources specified"),
        (format!("imagetools create {both}"), "can't push with no tags specified, please set --tag or --dry-run"),
        (format!("imagetools inspect {ADDRESS}/nothing"), "not found"),
        (format!("imagetools inspect --raw --format x {both}"), "format and raw cannot be used together"),
        (format!("imagetools create --dry-run --platform linux/s390x {both}"), "none of the manifests match"),
    ] {
        let refused = buildx(&place, &words);
        assert!(refused.fails_with(1).contains(text), "{words}: {refused}");
    }
}
