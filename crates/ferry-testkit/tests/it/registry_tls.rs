//! Registries that are not on loopback: TLS with a private authority, client certificates, tokens, and what may be done without.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_testkit::material::Material;
use ferry_testkit::registry::{Auth, Registry, Settings, Storage, Tls};
use ferry_testkit::{Daemon, Sandbox, command, programs};
use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::until;

/// The sandbox's address that is not loopback.
const HOST: &str = "192.0.2.2";
const TOKENS: &str = include_str!("token-server.py");

/// A sandbox with an `/etc` of its own, certificates in `tls`, and a daemon with busybox.
struct Place {
    sandbox: Arc<Sandbox>,
    tls: PathBuf,
    daemon: Daemon,
}

impl Place {
    fn start(args: &[&str]) -> Option<Self> {
        if !programs::need_root() || !programs::need("openssl", programs::on_path("openssl").is_some()) {
            return None;
        }
        let sandbox = Sandbox::new().unwrap();
        let tls = sandbox.dir().join("tls");
        std::fs::create_dir(&tls).unwrap();
        let _ = sandbox.sh("cp -a /etc /run/etc && mount --bind /run/etc /etc && rm -rf /etc/docker /etc/ferry && echo '{}' >/etc/daemon.json").ok();
        make_certificates(&tls);
        let daemon = Daemon::ferry(&sandbox, "a").args(&["--bridge", "none", "--iptables=false"]).args(args);
        daemon.start().unwrap();
        daemon.load(&Material::get().busybox());
        Some(Self { sandbox, tls, daemon })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.tls.join(name)
    }

    fn tls(&self, client_authority: Option<PathBuf>) -> Tls {
        Tls { certificate: self.file("server.pem"), key: self.file("server-key.pem"), client_authority }
    }

    fn registry(&self, port: u16, auth: Auth, tls: Option<Tls>) -> Registry {
        let storage = Storage::new(&self.sandbox.dir().join(format!("pushed-{port}")));
        let settings = Settings { address: format!("{HOST}:{port}"), read_only: false, auth, tls };
        Registry::serve(&self.sandbox, &storage, &settings).unwrap()
    }

    /// Puts one of the certificates into a folder below `/etc`, as seen by the daemon.
    fn place(&self, folder: &str, source: &str, name: &str) {
        let folder = self.sandbox.host_path("/run/etc").join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(self.file(source), folder.join(name)).unwrap();
    }
}

fn make_certificates(folder: &Path) {
    let script = r#"set -e; cd "$1"
        key() { openssl req "$@" -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes; }
        for name in ca other; do key -x509 -days 2 -subj "/CN=$name" -keyout $name-key.pem -out $name.pem; done
        for name in server client; do
            key -subj /CN=$name -keyout $name-key.pem -out $name.csr
            printf 'subjectAltName=IP:192.0.2.2\nextendedKeyUsage=serverAuth,clientAuth\n' >extensions
            openssl x509 -req -days 2 -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -extfile extensions -out $name.pem
        done
        openssl req -x509 -days 2 -newkey rsa:2048 -nodes -subj /CN=issuer -keyout sign-key.pem -out sign.pem"#;
    let made = std::process::Command::new("sh").args(["-c", script, "sh"]).arg(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A process that ends with the test.
struct TokenServer(std::process::Child);

impl TokenServer {
    fn start(place: &Place, port: u16) -> Self {
        let script = place.file("token-server.py");
        std::fs::write(&script, TOKENS).unwrap();
        let mut python = place.sandbox.command("/usr/bin/python3");
        python.arg(script).arg(&place.tls).args([HOST, &port.to_string()]);
        let child = python.spawn().unwrap();
        until("the token server to listen", || place.sandbox.connect((HOST, port)).is_ok());
        Self(child)
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        command::kill_tree(self.0.id());
        drop(self.0.wait());
    }
}

#[test]
fn a_private_authority_is_believed_where_its_certificate_lies() {
    let Some(place) = Place::start(&[]) else { return };
    let daemon = &place.daemon;
    let auth = Auth::Token { realm: format!("https://{HOST}:5444/token"), certificate: place.file("sign.pem") };
    let _registry = place.registry(5443, auth, Some(place.tls(Some(place.file("ca.pem")))));
    let _tokens = TokenServer::start(&place, 5444);
    let (host, name) = (format!("{HOST}:5443"), format!("{HOST}:5443/team/app:1"));
    let _ = daemon.run(&["tag", "busybox", &name]).ok();

    // Files count as soon as they are there, one after the other; neither needs the daemon to start anew.
    let push = || daemon.run(&["push", &name]);
    let unknown = push();
    assert!(unknown.fails_with(1).contains("x509: certificate signed by unknown authority"), "{unknown}");
    let folder = format!("docker/certs.d/{host}");
    place.place(&folder, "ca.pem", "ca.crt");
    let nobody = push();
    assert!(nobody.fails_with(1).contains("remote error: tls: "), "the client has to show a certificate: {nobody}");
    place.place(&folder, "client.pem", "client.cert");
    let keyless = push();
    assert!(keyless.fails_with(1).contains("missing key "), "{keyless}");
    place.place(&folder, "client-key.pem", "client.key");
    let stranger = push();
    assert!(stranger.fails_with(1).contains("authentication required"), "{stranger}");

    // The token server has no files of its own: the registry's vouch for it too.
    let login =
        |password: &[u8]| daemon.run_with_input(&["login", "-u", "tester", "--password-stdin", &host], password);
    let wrong = login(b"nonsense");
    assert!(wrong.fails_with(1).contains("unauthorized"), "{wrong}");
    assert_eq!(login(b"secret").ok(), "Login Succeeded");
    let config = place.sandbox.dir().join("cli/config.json");
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let entry = &stored["auths"][&host];
    assert_eq!(entry["identitytoken"], "identity-of-tester");
    assert_eq!(entry["auth"], "dGVzdGVyOg==", "the password is not kept");

    let pushed = push().ok();
    let digest = daemon.inspect("busybox", "{{.Id}}");
    assert!(pushed.contains(&format!("1: digest: {digest}")), "{pushed}");
    let _ = daemon.run(&["rmi", &name]).ok();
    assert!(daemon.run(&["pull", &name]).ok().contains(&format!("Digest: {digest}")));
    let asked = std::fs::read_to_string(place.file("asked")).unwrap();
    assert!(asked.contains("POST 200"), "the identity token was exchanged: {asked}");
    if programs::need_docker_cli() {
        assert!(daemon.docker(&["pull", &name]).ok().contains(&digest), "by its own client too");
    }

    // Another authority in its place, and nobody is believed any more; ferry's own folder goes before Docker's.
    place.place(&format!("ferry/certs.d/{host}"), "other.pem", "ca.crt");
    let deceived = daemon.run(&["pull", &name]);
    assert!(deceived.fails_with(1).contains("x509: certificate signed by unknown authority"), "{deceived}");
    let _ = daemon.run(&["logout", &host]).ok();
    let log = daemon.log();
    assert!(!log.contains("secret") && !log.contains("identity-of-tester"), "no secret is logged");
}

#[test]
fn registries_are_reached_as_flags_and_the_file_say() {
    let Some(place) = Place::start(&["--config-file", "/run/etc/daemon.json"]) else { return };
    let daemon = &place.daemon;
    let _secure = place.registry(5443, Auth::None, Some(place.tls(None)));
    let _plain = place.registry(5000, Auth::Basic, None);
    let authority = place.file("ca.pem").display().to_string();
    let (secure, plain) = (format!("{HOST}:5443/app:1"), format!("{HOST}:5000/app:1"));
    let _ = daemon.run(&["tag", "busybox", &secure]).ok();
    let _ = daemon.run(&["tag", "busybox", &plain]).ok();
    let digest = daemon.inspect("busybox", "{{.Id}}");
    let fails = |args: &[&str], part: &str| {
        let outcome = daemon.run(args);
        assert!(outcome.fails_with(1).contains(part), "{args:?}: {outcome}");
    };

    fails(&["push", &secure], "certificate signed by unknown authority");
    fails(&["push", "--tls-ca", "/no/such", &secure], "cannot read the CA certificate /no/such: ");
    fails(
        &["pull", "--tls-ca", "/etc/hostname", &secure],
        "cannot use the CA certificate: there is no certificate in it",
    );
    fails(&["pull", "--plain-http", "--tls-ca", &authority, &secure], "conflicting options");
    assert!(daemon.run(&["push", "--tls-ca", &authority, &secure]).ok().contains(&digest));
    let _ = daemon.run(&["rmi", &secure]).ok();
    fails(&["pull", &secure], "certificate signed by unknown authority");
    assert!(daemon.run(&["pull", "--tls-ca", &authority, &secure]).ok().contains(&digest));

    // Nothing goes without TLS unless that is said, and then the password goes with it.
    fails(&["push", &plain], "server gave HTTP response to HTTPS client");
    fails(&["push", "--plain-http", &plain], "no basic auth credentials");
    let auths = json!({"auths": {"192.0.2.2:5000": {"auth": "dGVzdGVyOnNlY3JldA=="}}});
    std::fs::create_dir_all(place.sandbox.dir().join("cli")).unwrap();
    std::fs::write(place.sandbox.dir().join("cli/config.json"), auths.to_string()).unwrap();
    assert!(daemon.run(&["push", "--plain-http", &plain]).ok().contains(&digest));
    let _ = daemon.run(&["rmi", &plain]).ok();
    assert!(daemon.run(&["pull", "--plain-http", &plain]).ok().contains(&digest));

    // The same from the file, while the daemon runs: mirrors in their order, the first of them dead, one with a user of its own.
    let mirror = format!("http://tester:secret@{HOST}:5000");
    let file = json!({
        "insecure-registries": ["192.0.2.0/24"],
        "registry": {"*.example": {"mirrors": [format!("http://{HOST}:9"), mirror]}},
    });
    std::fs::write(place.sandbox.host_path("/run/etc/daemon.json"), file.to_string()).unwrap();
    kill_process(command::process(daemon.pid()).unwrap(), Signal::HUP).unwrap();
    until("the file to be in force", || {
        let info = daemon.api("GET", "/info", None).json();
        info["RegistryConfig"]["InsecureRegistryCIDRs"]
            .as_array()
            .is_some_and(|all| all.contains(&json!("192.0.2.0/24")))
    });
    let _ = daemon.run(&["rmi", &secure, &plain]).ok();
    for name in [&secure, &plain] {
        assert!(daemon.run(&["pull", name]).ok().contains(&digest), "{name}");
    }
    let mirrored = daemon.run(&["pull", "quay.example/app:1"]);
    assert!(mirrored.ok().contains(&digest), "{mirrored}");
    assert!(daemon.run(&["images", "--format", "{{.Repository}}"]).ok().contains("quay.example/app"));
    fails(&["pull", "quay.invalid/app:1"], "quay.invalid");
    assert!(!daemon.log().contains("tester:secret"), "no secret is logged");
}
