//! Registries: pushing, logging in, against Debian's own registry and with other tools.

use ferry_testkit::material::Material;
use ferry_testkit::registry::{ADDRESS, Auth, Registry, Storage};
use ferry_testkit::{Daemon, Sandbox, api, programs};

/// A sandbox with a registry that takes pushes, and a daemon with busybox.
fn writable(auth: Auth) -> (Daemon, Registry) {
    let sandbox = Sandbox::new().unwrap();
    let registry = Registry::writable(&sandbox, &Storage::new(&sandbox.dir().join("pushed")), auth).unwrap();
    let daemon = Daemon::ferry(&sandbox, "a").args(&["--bridge", "none", "--iptables=false"]);
    daemon.start().unwrap();
    daemon.load(&Material::get().busybox());
    daemon.load(&Material::get().full());
    (daemon, registry)
}

#[test]
fn pushed_images_are_the_same_for_everybody() {
    if !programs::need_root() || !programs::need("skopeo", programs::on_path("skopeo").is_some()) {
        return;
    }
    let (daemon, _registry) = writable(Auth::None);
    let name = format!("{ADDRESS}/team/full");
    let _ = daemon.run(&["tag", "full", &format!("{name}:1")]).ok();
    let _ = daemon.run(&["tag", "full", &format!("{name}:2")]).ok();
    let id = daemon.inspect("full", "{{.Id}}");
    let pushed = daemon.run(&["push", &format!("{name}:1")]).ok();
    let lines: Vec<&str> = pushed.lines().collect();
    assert_eq!(lines[0], format!("The push refers to repository [{name}]"));
    assert!(lines.last().unwrap().starts_with(&format!("1: digest: {id} size: ")), "{pushed}");
    assert_eq!(lines.iter().filter(|line| line.ends_with(": Pushed")).count(), 2, "{pushed}");
    let all = daemon.run(&["push", "-a", &name]).ok();
    assert!(all.contains(": Layer already exists") && all.contains("\n2: digest: sha256:"), "{all}");
    let other = format!("{ADDRESS}/other:1");
    let _ = daemon.run(&["tag", "full", &other]).ok();
    let mounted = daemon.run(&["push", &other]).ok();
    assert_eq!(mounted.matches(": Mounted from team/full").count(), 2, "{mounted}");
    assert_eq!(daemon.run(&["push", "-q", &other]).ok(), other);

    let inspected =
        daemon.sh(&format!("skopeo inspect --tls-verify=false --format '{{{{.Digest}}}}' docker://{name}:1"));
    assert_eq!(inspected.ok(), id);
    let _ = daemon.run(&["rmi", "-f", &id]).ok();
    let pulled = daemon.run(&["pull", &other]).ok();
    assert!(pulled.contains(&format!("Digest: {id}")), "{pulled}");
    let answer = daemon.api("GET", &format!("/v1.51/distribution/{other}/json"), None);
    assert_eq!(answer.status, 200);
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(json["Descriptor"]["digest"], id.as_str());
    assert_eq!(json["Platforms"][0]["architecture"], "amd64");

    let missing = daemon.run(&["push", &format!("{name}:none")]);
    assert_eq!(missing.fails_with(1).lines().last(), Some(format!("tag does not exist: {name}:none").as_str()));
    let missing = daemon.run(&["push", "-a", &format!("{name}:1")]);
    assert_eq!(missing.fails_with(1), "tag can't be used with --all-tags/-a");
}

#[test]
fn archives_and_layouts_go_to_skopeo_and_come_back() {
    if !programs::need_root() || !programs::need("skopeo", programs::on_path("skopeo").is_some()) {
        return;
    }
    let (daemon, _registry) = writable(Auth::None);
    let id = daemon.inspect("full", "{{.Id}}");
    let layers = |name: &str| daemon.inspect(name, "{{json .RootFS.Layers}}");
    let (own, dir) = (layers("full"), daemon.sandbox().dir().join("skopeo"));
    std::fs::create_dir(&dir).unwrap();
    let line = |line: &str| daemon.sh(&format!("set -e; cd {}; {line}", dir.display())).ok();
    let copy = "skopeo copy -q --insecure-policy --src-tls-verify=false --dest-tls-verify=false";

    // One archive of ours is a layout and a Docker archive: read as the first it stays what it is.
    let _ = line("ferry save -o full.tar full");
    let _ = line(&format!("{copy} --preserve-digests oci-archive:full.tar docker://{ADDRESS}/skopeo/oci:1"));
    let _ = line(&format!("{copy} docker-archive:full.tar docker://{ADDRESS}/skopeo/docker:1"));
    for (name, same) in [("oci", true), ("docker", false)] {
        let name = format!("{ADDRESS}/skopeo/{name}:1");
        assert!(daemon.run(&["pull", &name]).ok().contains("Status: Downloaded newer image"));
        assert_eq!(layers(&name), own, "{name}");
        assert!(!same || daemon.inspect(&name, "{{.Id}}") == id, "{name}");
    }
    // What skopeo writes is loaded as what it was.
    let source = format!("docker://{ADDRESS}/skopeo/oci:1");
    let _ = line(&format!("{copy} --preserve-digests {source} oci:layout:came/back:1; tar -C layout -cf layout.tar ."));
    let _ = line(&format!("{copy} --preserve-digests {source} oci-archive:archive.tar:came/back:2"));
    let _ = line(&format!("{copy} {source} docker-archive:docker.tar:came/back:3"));
    for (archive, tag, same) in [("layout", "1", true), ("archive", "2", true), ("docker", "3", false)] {
        let loaded = line(&format!("ferry load -i {archive}.tar"));
        let name = format!("came/back:{tag}");
        assert!(loaded.contains(&format!("Loaded image: {name}")), "{archive}: {loaded}");
        assert_eq!(layers(&name), own, "{archive}");
        assert!(!same || daemon.inspect(&name, "{{.Id}}") == id, "{archive}");
    }
}

#[test]
fn a_push_by_request_does_what_it_says() {
    if !programs::need_root() {
        return;
    }
    let (daemon, _registry) = writable(Auth::None);
    let name = format!("{ADDRESS}/asked/for");
    for tag in ["1", "2"] {
        let _ = daemon.run(&["tag", "full", &format!("{name}:{tag}")]).ok();
    }
    let there = |tag: &str| daemon.api("GET", &format!("/distribution/{name}:{tag}/json"), None).status == 200;
    let push = |query: &str| {
        let answer = daemon.api("POST", &api::encode(&format!("/images/{name}/push?{query}")), None);
        assert_eq!(answer.status, 200);
        answer.text()
    };
    let other = push(r#"tag=1&platform={"os":"linux","architecture":"s390x"}"#);
    assert!(other.contains("does not provide the specified platform (linux/s390x)"), "{other}");
    assert!(!there("1"));
    assert!(push("tag=2").contains("2: digest: sha256:"));
    assert!(there("2") && !there("1"), "one tag is pushed and not the other");
}

/// Runs podman with a storage of its own.
fn podman(daemon: &Daemon, line: &str) -> ferry_testkit::Outcome {
    let dir = daemon.sandbox().dir().join("podman");
    daemon.sh(&format!(
        "unset DOCKER_CONFIG; mkdir -p {0} && cd {0} && podman --root {0}/root --runroot {0}/run --storage-driver vfs {line}",
        dir.display()
    ))
}

#[test]
fn layouts_go_to_podman_and_come_back() {
    if !programs::need_root() || !programs::need("podman", programs::on_path("podman").is_some()) {
        return;
    }
    let (daemon, _registry) = writable(Auth::None);
    let dir = daemon.sandbox().dir().join("podman");
    std::fs::create_dir(&dir).unwrap();
    let at = |name: &str| dir.join(name).display().to_string();
    let layers = |name: &str| daemon.inspect(name, "{{json .RootFS.Layers}}");
    let (own, id) = (layers("full"), daemon.inspect("full", "{{.Id}}"));
    let _ = daemon.run(&["tag", "full", "mine/full:1"]).ok();
    let _ = daemon.run(&["save", "-o", &at("full.tar"), "mine/full:1"]).ok();
    let _ = daemon.sh(&format!("mkdir {0} && tar -C {0} -xf {1}", at("layout"), at("full.tar"))).ok();

    // A layout in an archive and as a folder; the digest is what it was.
    for source in ["oci-archive:full.tar", "oci:layout"] {
        let _ = podman(&daemon, &format!("pull -q {source}")).ok();
        let seen = podman(&daemon, "images --no-trunc --digests --format '{{.Digest}}' | sort -u");
        assert_eq!(seen.ok(), id, "{source}");
        let shown = podman(
            &daemon,
            "image inspect --format '{{json .RootFS.Layers}}' $(podman --root $PWD/root --runroot $PWD/run --storage-driver vfs images -q | head -n 1)",
        );
        assert_eq!(shown.ok(), own, "{source}");
        let _ = podman(&daemon, "rmi -af").ok();
    }
    // And what podman writes, in each of its forms.
    let _ = podman(&daemon, "pull -q oci-archive:full.tar").ok();
    let image = podman(&daemon, "images -q").ok();
    let _ = podman(&daemon, &format!("tag {image} localhost/theirs:1")).ok();
    for form in ["oci-archive", "docker-archive", "oci-dir"] {
        let _ = podman(&daemon, &format!("save -q --format {form} -o {form} localhost/theirs:1")).ok();
        if form == "oci-dir" {
            let _ = daemon.sh(&format!("tar -C {0} -cf {0}.tar . && rm -r {0} && mv {0}.tar {0}", at(form))).ok();
        }
        let loaded = daemon.run(&["load", "-i", &at(form)]).ok();
        let name = loaded.strip_prefix("Loaded image: ").unwrap_or_else(|| panic!("{form}: {loaded}"));
        assert_eq!(layers(name), own, "{form}");
        let _ = daemon.run(&["rmi", name]).ok();
    }
    let pushed = podman(&daemon, &format!("push -q --tls-verify=false localhost/theirs:1 {ADDRESS}/theirs:1"));
    let _ = pushed.ok();
    let _ = daemon.run(&["pull", "-q", &format!("{ADDRESS}/theirs:1")]).ok();
    assert_eq!(layers(&format!("{ADDRESS}/theirs:1")), own);
}

#[test]
fn older_docker_pulls_what_was_pushed_and_the_other_way_round() {
    let dockerd = programs::on_path("dockerd");
    if !programs::need_root() || !programs::need_docker_cli() || !programs::need("dockerd", dockerd.is_some()) {
        return;
    }
    let (daemon, _registry) = writable(Auth::None);
    let docker = Daemon::new(daemon.sandbox(), "o", dockerd.unwrap()).args(&["--bridge", "none", "--iptables=false"]);
    docker.start().unwrap();
    let ours = format!("{ADDRESS}/ours:1");
    let theirs = format!("{ADDRESS}/theirs:1");
    let _ = daemon.run(&["tag", "full", &ours]).ok();
    let _ = daemon.run(&["push", "-q", &ours]).ok();
    let pulled = docker.docker(&["pull", &ours]).ok();
    let id = daemon.inspect("full", "{{.Id}}");
    assert!(pulled.contains(&format!("Digest: {id}")), "{pulled}");
    let _ = docker.docker(&["tag", &ours, &theirs]).ok();
    let pushed = docker.docker(&["push", &theirs]).ok();
    let pulled = daemon.run(&["pull", &theirs]).ok();
    let digest = pulled.lines().find_map(|line| line.strip_prefix("Digest: ")).unwrap();
    assert!(pushed.contains(digest), "{pushed}\n{pulled}");
    let layers = |name: &str| daemon.inspect(name, "{{json .RootFS.Layers}}");
    assert_eq!(layers(&theirs), layers(&ours));
}

#[test]
fn credentials_are_asked_for_kept_and_forgotten() {
    if !programs::need_root() {
        return;
    }
    let (daemon, _registry) = writable(Auth::Basic);
    let home = daemon.sandbox().dir().join("client");
    let config = home.join("config.json");
    let ferry = |args: &[&str], input: &[u8]| {
        let mut whole = vec!["--config", home.to_str().unwrap()];
        whole.extend_from_slice(args);
        daemon.run_with_input(&whole, input)
    };
    let name = format!("{ADDRESS}/private:1");
    let _ = ferry(&["tag", "busybox", &name], b"").ok();
    let refused = ferry(&["push", &name], b"");
    let text = "push access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials";
    assert_eq!(refused.fails_with(1).lines().last(), Some(text));
    let wrong = ferry(&["login", "-u", "tester", "--password-stdin", ADDRESS], b"nonsense\n");
    let expected = format!(
        "Error response from daemon: login attempt to http://{ADDRESS}/v2/ failed with status: 401 Unauthorized"
    );
    assert_eq!(wrong.fails_with(1), expected);
    assert!(!config.exists());
    let login = ferry(&["login", "-u", "tester", "--password-stdin", ADDRESS], b"secret\n");
    assert_eq!(login.ok(), "Login Succeeded");
    assert!(login.err().contains("WARNING! Your credentials are stored unencrypted in '"), "{login}");
    let stored = std::fs::read_to_string(&config).unwrap();
    assert_eq!(
        stored,
        "{\n\t\"auths\": {\n\t\t\"127.0.0.1:5000\": {\n\t\t\t\"auth\": \"dGVzdGVyOnNlY3JldA==\"\n\t\t}\n\t}\n}"
    );
    assert!(ferry(&["push", &name], b"").ok().contains("1: digest: sha256:"));
    let again = ferry(&["login", ADDRESS], b"");
    assert!(again.err().starts_with("Authenticating with existing credentials... [Username: tester]"), "{again}");
    assert_eq!(again.ok(), "Login Succeeded");
    assert_eq!(ferry(&["logout", ADDRESS], b"").ok(), format!("Removing login credentials for {ADDRESS}"));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "{\n\t\"auths\": {}\n}");
    let terminal = ferry(&["login", ADDRESS], b"");
    assert_eq!(terminal.fails_with(1), "Error: Cannot perform an interactive login from a non TTY device");
}

#[test]
fn helpers_keep_credentials_by_their_protocol() {
    if !programs::need_root() {
        return;
    }
    let (daemon, _registry) = writable(Auth::Basic);
    let dir = daemon.sandbox().dir();
    let (home, bin, kept) = (dir.join("client"), dir.join("bin"), dir.join("kept"));
    std::fs::create_dir_all(&home).unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::write(home.join("config.json"), r#"{"credsStore":"none","credHelpers":{"127.0.0.1:5000":"test"}}"#)
        .unwrap();
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat >{0};;\nget) if test -e {0}; then cat {0}; else echo 'credentials not found in native keychain'; \
         exit 1; fi;;\nerase) cat >/dev/null; rm -f {0};;\n\
         list) echo '{{\"{ADDRESS}\":\"tester\"}}';;\nesac\n",
        kept.display()
    );
    daemon.sandbox().program(&bin.join("docker-credential-test"), &script);
    let line = |line: &str| {
        daemon.sh(&format!("export PATH={}:$PATH DOCKER_CONFIG={}; {line}", bin.display(), home.display()))
    };
    let said = line(&format!(
        "echo secret | docker login -u tester --password-stdin {ADDRESS} && docker tag busybox {ADDRESS}/p:1 && \
         docker push -q {ADDRESS}/p:1"
    ));
    assert_eq!(said.ok(), format!("Login Succeeded\n{ADDRESS}/p:1"));
    let stored: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&kept).unwrap()).unwrap();
    assert_eq!(stored, serde_json::json!({"ServerURL": ADDRESS, "Username": "tester", "Secret": "secret"}));
    let config = std::fs::read_to_string(home.join("config.json")).unwrap();
    assert!(config.contains("\"127.0.0.1:5000\": {}") && !config.contains("secret"), "{config}");
    // One that holds everything is asked what that is.
    let other = dir.join("other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("config.json"), r#"{"credsStore":"test","credHelpers":{"r.example":"absent"}}"#).unwrap();
    let socket = line(&format!(
        "export DOCKER_CONFIG={}; ferry create --network none --use-api-socket --name user busybox && ferry cp -q user:/run/secrets/docker/config.json - | tar -xO",
        other.display()
    ));
    assert!(socket.ok().contains("\"127.0.0.1:5000\"") && socket.out().contains("dGVzdGVyOnNlY3JldA=="), "{socket}");
    assert!(socket.err().contains("Failed to get credentials for registry: r.example"), "{socket}");
    let _ = line(&format!("docker logout {ADDRESS}")).ok();
    assert!(!kept.exists());
    assert!(line(&format!("docker push -q {ADDRESS}/p:1")).err().contains("no basic auth credentials"));
}
