//! Caches of builds that travel: what one daemon made, another that has nothing finds.

use ferry_testkit::image::Layer;
use ferry_testkit::registry::ADDRESS;
use ferry_testkit::{Daemon, api, programs};

use crate::place::Place;

/// Two daemons, and a registry that takes pushes.
struct Pair {
    other: Daemon,
    place: Place,
}

impl Pair {
    fn start() -> Self {
        let place = Place::start();
        place.write("context/Dockerfile", DOCKERFILE);
        place.write("context/one.txt", "one");
        Self { other: place.another(), place }
    }

    fn build(&self, daemon: &Daemon, flags: &str) -> ferry_testkit::command::Outcome {
        let flags: Vec<&str> = flags.split(' ').collect();
        let context = self.place.dir.join("context").display().to_string();
        daemon.run(&[&["build", "--progress", "plain"], &flags[..], &[&context]].concat())
    }

    /// Makes the second daemon forget everything but the base image.
    fn forget(&self) {
        let _ = self.other.run(&["image", "prune", "-af", "--filter", "label=ours"]).ok();
        let _ = self.other.run(&["builder", "prune", "-af"]).ok();
    }
}

/// Each run of it makes other files.
const DOCKERFILE: &str = "FROM busybox AS made\n\
    ARG WORD=none\n\
    RUN --mount=type=cache,target=/c cat /c/x; echo $WORD >/c/x; cat /proc/sys/kernel/random/uuid >/made\n\
    FROM busybox\n\
    LABEL ours=1\n\
    COPY --from=made /made /made\n\
    RUN cat /proc/sys/kernel/random/uuid >/own\n\
    COPY --link one.txt /one.txt\n\
    CMD [\"cat\", \"/made\", \"/own\"]\n";

/// Names of the steps that were carried out.
fn steps_run(progress: &str) -> Vec<&str> {
    let cached: Vec<&str> = progress.lines().filter_map(|line| line.strip_suffix(" CACHED")).collect();
    let numbered = progress.lines().filter_map(|line| line.split_once(' '));
    let begun = numbered.filter(|(number, rest)| {
        number.starts_with('#') && rest.starts_with('[') && !rest.starts_with("[internal]") && !rest.contains("FROM")
    });
    begun.filter(|(number, _)| !cached.contains(number)).map(|(_, name)| name).collect()
}

#[test]
fn what_one_daemon_made_another_takes_from_its_cache() {
    if !programs::need_root() {
        return;
    }
    let pair = Pair::start();
    let local = pair.place.dir.join("cache").display().to_string();
    let image = format!("{ADDRESS}/app:1");
    let caches = [
        ("--cache-to type=inline --push".to_owned(), format!("--cache-from {image}")),
        (format!("--cache-to {ADDRESS}/min"), format!("--cache-from {ADDRESS}/min")),
        (
            format!("--cache-to type=registry,ref={ADDRESS}/max:2,mode=max,image-manifest=false,compression=zstd"),
            format!("--cache-from type=registry,ref={ADDRESS}/max:2"),
        ),
        (
            format!("--cache-to type=local,dest={local},mode=max,mounts=all,tag=t --build-arg WORD=none"),
            format!("--cache-from type=local,src={local},tag=t"),
        ),
    ];
    let mut first = String::new();
    for (to, from) in &caches {
        let built = pair.build(&pair.place.daemon, &format!("-t {image} {to}"));
        assert!(built.code == 0, "{to}: {built}");
        let made = pair.place.daemon.run(&["run", "--rm", "--network", "none", &image]).ok();
        if first.is_empty() {
            first.clone_from(&made);
        }
        assert_eq!(made, first, "its own cache finds it too");
        pair.forget();
        let taken = pair.build(&pair.other, &format!("-t app {from}"));
        assert!(taken.code == 0, "{from}: {taken}");
        assert_eq!(steps_run(&taken.err()), Vec::<&str>::new(), "{from}: {taken}");
        assert_eq!(pair.other.run(&["run", "--rm", "--network", "none", "app"]).ok(), made, "{from}");
        // Compressed in another way, as what travels is, or with the keys inside, it is another image of the same layers.
        let layers = "{{json .RootFS.Layers}}";
        assert_eq!(pair.other.inspect("app", layers), pair.place.daemon.inspect(&image, layers), "{taken}");
        let again = pair.build(&pair.other, "-t app --target made");
        assert!(again.code == 0, "what was found is the base of more: {again}");
    }
    // Cache mounts came along with the last of them.
    pair.forget();
    let (_, from) = &caches[3];
    let more = pair.build(&pair.other, &format!("--build-arg WORD=more {from}"));
    assert!(more.err().lines().any(|line| line.ends_with(" none")), "{more}");
    assert_eq!(steps_run(&more.err()).len(), 3, "{more}");
    let index = std::fs::read_to_string(pair.place.dir.join("cache/index.json")).unwrap();
    assert!(index.contains(r#""org.opencontainers.image.ref.name":"t""#), "{index}");
}

#[test]
fn caches_that_cannot_be_had_are_told() {
    if !programs::need_root() {
        return;
    }
    let pair = Pair::start();
    for (flags, text) in [
        ("--cache-to type=gha", "unknown cache exporter: \"gha\""),
        ("--cache-to type=registry", "registry cache exporter requires ref"),
        ("--cache-to type=registry,ref=127.0.0.1:1/x", "127.0.0.1:1"),
        ("--cache-to type=local,dest=/tmp/x,compression=estargz", "not implemented: compression=estargz of layers"),
    ] {
        let refused = pair.build(&pair.place.daemon, flags);
        assert!(refused.code != 0 && refused.err().contains(text), "{flags}: {refused}");
    }
    for (flags, text) in [
        ("--cache-from type=gha", "unknown cache importer: gha"),
        ("--cache-from 127.0.0.1:5000/none", "importing cache manifest from 127.0.0.1:5000/none"),
        ("--cache-from type=local,src=/nowhere", "local cache import at /nowhere skipped due to err: could not read"),
        ("--cache-to type=registry,ref=127.0.0.1:1/x,ignore-error=true", "exporting cache to registry"),
    ] {
        let built = pair.build(&pair.place.daemon, flags);
        assert!(built.code == 0 && built.err().contains(text), "{flags}: {built}");
    }
}

#[test]
fn the_builder_before_buildkit_takes_caches_out_of_images() {
    if !programs::need_root() {
        return;
    }
    let pair = Pair::start();
    let dockerfile = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/made\nCOPY f /f\nRUN cat /made /f >/all\n";
    let post = |daemon: &Daemon, query: &str, f: &str| {
        let tar =
            Layer::default().file("Dockerfile", 0o644, dockerfile.as_bytes()).file("f", 0o644, f.as_bytes()).into_tar();
        let path = api::encode(&format!("/v1.43/build?{query}"));
        let told = api::send(&daemon.socket(), "POST", &path, "application/x-tar", &tar).unwrap().text();
        assert!(told.contains("Successfully built"), "{told}");
        told.matches("Using cache").count()
    };
    let read =
        |daemon: &Daemon, image: &str| daemon.run(&["run", "--rm", "--network", "none", image, "cat", "/all"]).ok();
    let daemon = &pair.place.daemon;
    let image = format!("{ADDRESS}/app:1");
    assert_eq!(post(daemon, &format!("t={image}"), "one"), 0);
    let made = read(daemon, &image);
    let _ = daemon.run(&["builder", "prune", "-af"]).ok();
    let caches = format!(r#"cachefrom=["nothing","{image}"]"#);
    assert_eq!(post(daemon, &format!("t=again&{caches}"), "one"), 3);
    assert_eq!(read(daemon, "again"), made);
    let _ = daemon.run(&["builder", "prune", "-af"]).ok();
    assert_eq!(post(daemon, &format!("t=changed&{caches}"), "two"), 1, "what was copied is another file");
    assert_eq!(read(daemon, "changed"), made.replace("one", "two"));
    let _ = daemon.run(&["builder", "prune", "-af"]).ok();
    assert_eq!(post(daemon, &format!("t=anew&nocache=1&{caches}"), "one"), 0);
    assert_ne!(read(daemon, "anew"), made);

    // The image carries it to wherever it goes.
    let _ = daemon.run(&["push", "-q", &image]).ok();
    assert_eq!(post(&pair.other, "t=own", "one"), 0);
    let _ = pair.other.run(&["rmi", "own"]).ok();
    let _ = pair.other.run(&["builder", "prune", "-af"]).ok();
    let _ = pair.other.run(&["pull", "-q", &image]).ok();
    assert_eq!(post(&pair.other, &format!("t=taken&{caches}"), "one"), 3);
    assert_eq!(read(&pair.other, "taken"), made);
}
