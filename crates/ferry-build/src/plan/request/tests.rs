use super::*;

fn request(options: &[(&str, &str)]) -> Result<Request, String> {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Request::from_options(&options).map_err(|error| error.to_string())
}

#[test]
fn every_option_of_the_frontend_is_read() {
    let request = request(&[
        ("target", "build"),
        ("filename", "a/Dockerfile"),
        ("build-arg:A", "1"),
        ("build-arg:BUILDKIT_CACHE_MOUNT_NS", "ns"),
        ("build-arg:BUILDKIT_SANDBOX_HOSTNAME", "box"),
        ("build-arg:BUILDKIT_DOCKERFILE_CHECK", "skip=all"),
        ("label:l", "v"),
        ("no-cache", "a,b"),
        ("platform", "linux/arm64,linux/amd64"),
        ("cache-imports", "[{\"Type\":\"registry\",\"Attrs\":{\"ref\":\"r\"}}]"),
        ("cache-from", "s"),
        ("context:base", "docker-image://alpine"),
        ("image-resolve-mode", "pull"),
        ("add-hosts", "A=10.0.0.1,b=::1"),
        ("force-network-mode", "none"),
        ("shm-size", "1024"),
        ("ulimit", "nofile=1:2,nproc=3"),
        ("cgroup-parent", "/p"),
        ("hostname", "other"),
        ("attest:sbom", ""),
        ("attest:provenance", "mode=max"),
        ("dockerfilekey", "df"),
        ("contextsubdir", "sub"),
        ("requestid", "frontend.outline"),
        ("input-metadata:x", "{}"),
        ("local-sessionid:context", "s1"),
        ("memory", "1000"),
        ("memswap", "-1"),
        ("cpushares", "2"),
        ("cpusetcpus", "0-1"),
    ])
    .unwrap();
    assert_eq!((request.target.as_str(), request.filename.as_str()), ("build", "a/Dockerfile"));
    assert_eq!(request.build_args["A"], "1");
    assert_eq!((request.cache_namespace.as_str(), request.hostname.as_str()), ("ns", "box"));
    assert!(request.check.unwrap().skip_all);
    assert_eq!(request.labels["l"], "v");
    assert_eq!(request.no_cache, NoCache::Stages(vec!["a".into(), "b".into()]));
    assert_eq!(request.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["linux/arm64", "linux/amd64"]);
    assert!(request.multi_platform);
    assert_eq!(request.cache_imports.len(), 2);
    assert_eq!(request.contexts["base"], "docker-image://alpine");
    assert_eq!(request.pull, ImagePullMode::Always);
    assert_eq!(request.extra_hosts[0], ExtraHost { host: "a".into(), ip: "10.0.0.1".into() });
    assert_eq!((request.network, request.shm_size_bytes), (NetworkMode::None, 1024));
    assert_eq!(request.ulimits[0], Ulimit { name: "nofile".into(), soft: 1, hard: 2 });
    assert_eq!(request.cgroup_parent, "/p");
    assert_eq!(request.attestations["provenance"], "mode=max");
    assert_eq!(request.dockerfile_name.as_deref(), Some("df"));
    assert_eq!((request.context_subdirectory.as_str(), request.subrequest.as_str()), ("sub", "frontend.outline"));
    assert_eq!(request.local_sessions["context"], "s1");
    assert_eq!(request.input_metadata["x"], "{}");
    assert_eq!((request.resources.memory, request.resources.memory_swap), (1000, -1));
}

#[test]
fn the_context_may_be_an_address() {
    let context = |value: &str| request(&[("context", value)]).unwrap().context;
    assert_eq!(context(""), MainContext::Local("context".into()));
    assert_eq!(context("https://e.com/a.git#b:c"), MainContext::Git("https://e.com/a.git#b:c".into()));
    assert_eq!(context("https://e.com/a.tgz"), MainContext::Http { url: "https://e.com/a.tgz".into(), archive: false });
    let other = request(&[("contextkey", "src"), ("src", "git@e.com:a.git")]).unwrap();
    assert_eq!(other.context, MainContext::Git("git@e.com:a.git".into()));
}

#[test]
fn wrong_values_are_refused() {
    for (options, error) in [
        (&[("image-resolve-mode", "x")][..], "invalid image-resolve-mode: x"),
        (&[("force-network-mode", "x")], "invalid netmode x"),
        (&[("add-hosts", "a")], "failed to parse additional hosts: invalid key-value pair a"),
        (&[("add-hosts", "a=b")], "failed to parse additional hosts: failed to parse IP b"),
        (&[("ulimit", "x=1")], "failed to parse ulimit: invalid ulimit type: x"),
        (&[("multi-platform", "x")], "invalid boolean value for multi-platform: x"),
        (
            &[("platform", "linux/amd64,linux/arm64"), ("multi-platform", "false")],
            "conflicting config: returning multiple target platforms is not allowed",
        ),
        (&[("memory", "0")], "invalid memory value: 0: must be > 0"),
        (&[("memswap", "-2")], "invalid memswap value: -2: must be -1 (unlimited) or > 0"),
        (
            &[("build-arg:BUILDKIT_DISABLE_FILEOP", "1")],
            "support for \"BUILDKIT_DISABLE_FILEOP\" build-arg was removed in BuildKit 0.11",
        ),
    ] {
        assert_eq!(request(options).unwrap_err(), error);
    }
}

#[test]
fn the_frontend_is_the_options_or_the_files() {
    let options = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
    };
    let source = "# syntax=docker/dockerfile:1 x\nFROM a";
    let image = |pairs| Request::frontend(&options(pairs), source).map(|(image, _)| image);
    assert_eq!(image(&[]).as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(image(&[("build-arg:BUILDKIT_SYNTAX", "other y")]).as_deref(), Some("other"));
    assert_eq!(image(&[("cmdline", "z")]), None);
}
