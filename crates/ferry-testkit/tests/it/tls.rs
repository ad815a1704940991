//! The API over TCP: only with TLS, and only for those whose certificate is known.

use std::path::{Path, PathBuf};

use ferry_testkit::material::Material;
use ferry_testkit::{Daemon, Outcome, Sandbox, command, programs};

const ADDRESS: &str = "tcp://127.0.0.1:2376";

/// An authority, a daemon's certificate, a client's, and a client's of another authority.
fn certificates(folder: &Path) -> bool {
    if !programs::need("openssl", programs::on_path("openssl").is_some()) {
        return false;
    }
    let script = r#"set -e; cd "$1"
        authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$1" -keyout $1-key.pem -out $1.pem; }
        pair() { mkdir -p $2; openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$2 -keyout $2/key.pem -out $2/request.pem
            printf "$3" >$2/extensions; openssl x509 -req -days 2 -in $2/request.pem -CA $1.pem -CAkey $1-key.pem -CAcreateserial -extfile $2/extensions -out $2/cert.pem
            cp $4.pem $2/ca.pem; }
        authority ca; authority other
        pair ca server 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' ca
        pair ca client 'extendedKeyUsage=clientAuth\n' ca
        pair other stranger 'extendedKeyUsage=clientAuth\n' ca
        pair ca misled 'extendedKeyUsage=clientAuth\n' other"#;
    let made = std::process::Command::new("sh").args(["-c", script, "sh"]).arg(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    true
}

struct Tls {
    daemon: Daemon,
    folder: PathBuf,
}

impl Tls {
    fn start() -> Option<Self> {
        let sandbox = Sandbox::new().unwrap();
        let folder = sandbox.dir().join("tls");
        std::fs::create_dir(&folder).unwrap();
        if !certificates(&folder) {
            return None;
        }
        let file = |name: &str| folder.join("server").join(name).display().to_string();
        let (authority, certificate, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
        let daemon = Daemon::ferry(&sandbox, "a").args(&[
            "--tlsverify",
            &format!("--tlscacert={authority}"),
            &format!("--tlscert={certificate}"),
            &format!("--tlskey={key}"),
            "-H",
            ADDRESS,
        ]);
        daemon.start().unwrap();
        daemon.load(&Material::get().busybox());
        Some(Self { daemon, folder })
    }

    /// Runs a client with the certificates of `who`.
    fn client(&self, program: &Path, who: &str, words: &[&str], input: &[u8]) -> Outcome {
        let mut client = self.daemon.sandbox().command(program);
        client.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", self.folder.join(who)).env("DOCKER_HOST", ADDRESS);
        client.args(words);
        command::run_with_input(client, input).unwrap()
    }

    fn ferry(&self, who: &str, words: &[&str]) -> Outcome {
        self.client(&programs::binary("ferry").unwrap(), who, words, b"")
    }

    /// Runs `ferry` with nothing from the environment.
    fn bare(&self, words: &[&str]) -> Outcome {
        let mut client = self.daemon.client(programs::binary("ferry").unwrap());
        client.env_remove("DOCKER_HOST").args(words);
        command::run(client).unwrap()
    }
}

#[test]
fn clients_with_a_good_certificate_have_the_whole_api() {
    if !programs::need_root() {
        return;
    }
    let Some(tls) = Tls::start() else { return };
    assert_eq!(tls.ferry("client", &["run", "--rm", "busybox", "echo", "hello"]).ok(), "hello");
    // Input that ends, output that is long, streams over a connection that was taken over.
    let mut programs_ = vec![programs::binary("ferry").unwrap()];
    programs_.extend(programs::docker());
    let input = vec![b'x'; 3 << 20];
    for program in &programs_ {
        let counted = tls.client(program, "client", &["run", "-i", "--rm", "busybox", "wc", "-c"], &input);
        assert_eq!(counted.ok(), input.len().to_string(), "{}", program.display());
        let words =
            ["run", "--rm", "busybox", "sh", "-c", "head -c 3145728 /dev/zero | tr '\\0' x; echo err >&2; exit 5"];
        let outcome = tls.client(program, "client", &words, b"");
        assert_eq!(
            (outcome.code, outcome.out().len(), outcome.err().as_str()),
            (5, input.len(), "err\n"),
            "{}",
            program.display()
        );
    }
    let options = |who: &str| {
        let file = |name: &str| tls.folder.join(who).join(name).display().to_string();
        [
            format!("--tlscacert={}", file("ca.pem")),
            format!("--tlscert={}", file("cert.pem")),
            format!("--tlskey={}", file("key.pem")),
        ]
    };
    let [authority, certificate, key] = options("client");
    let words = [
        "--tlsverify",
        &authority,
        &certificate,
        &key,
        "-H",
        "tcp://localhost:2376",
        "version",
        "-f",
        "{{.Server.Os}}",
    ];
    assert_eq!(tls.bare(&words).ok(), "linux");
    // Whoever does not want to know the daemon still shows who he is.
    let [_, certificate, key] = options("misled");
    assert_eq!(
        tls.bare(&["--tls", &certificate, &key, "-H", ADDRESS, "version", "-f", "{{.Server.Os}}"]).ok(),
        "linux"
    );
}

#[test]
fn everybody_else_is_refused() {
    if !programs::need_root() {
        return;
    }
    let Some(tls) = Tls::start() else { return };
    let fails = |outcome: Outcome, said: &str| {
        assert_ne!(outcome.code, 0, "{outcome}");
        assert!(outcome.err().contains(said), "{said}: {outcome}");
    };
    fails(tls.ferry("stranger", &["ps"]), "error during connect: ");
    fails(
        tls.ferry("misled", &["ps"]),
        "error during connect: Head \"https://127.0.0.1:2376/_ping\": tls: ".split(": Head").next().unwrap(),
    );
    fails(tls.ferry("missing", &["ps"]), "unable to resolve docker endpoint: open ");
    let authority = format!("--tlscacert={}", tls.folder.join("ca.pem").display());
    fails(tls.bare(&["--tlsverify", &authority, "-H", ADDRESS, "ps"]), "error during connect: ");
    fails(tls.bare(&["-H", ADDRESS, "ps"]), "Client sent an HTTP request to an HTTPS server.");
    // One that connects and says nothing holds nobody else up.
    let _silent = tls.daemon.sandbox().connect("127.0.0.1:2376").unwrap();
    assert_eq!(tls.ferry("client", &["ps", "-q"]).ok(), "");
}

#[test]
fn contexts_bring_their_certificates() {
    if !programs::need_root() || !programs::need_docker_cli() {
        return;
    }
    let Some(tls) = Tls::start() else { return };
    let file = |name: &str| tls.folder.join("client").join(name).display().to_string();
    let endpoint = format!("host={ADDRESS},ca={},cert={},key={}", file("ca.pem"), file("cert.pem"), file("key.pem"));
    let mut docker = tls.daemon.sandbox().command(programs::docker().unwrap());
    docker.args(["context", "create", "far", "--docker", &endpoint]);
    let _ = command::run(docker).unwrap().ok();
    assert_eq!(tls.bare(&["--context", "far", "version", "-f", "{{.Server.Os}}"]).ok(), "linux");
    assert_eq!(tls.bare(&["--context", "far", "run", "--rm", "busybox", "echo", "far"]).ok(), "far");
    let material = tls.bare(&["context", "inspect", "far", "-f", "{{json .TLSMaterial}}"]).ok();
    assert_eq!(material, r#"{"docker":["ca.pem","cert.pem","key.pem"]}"#);
}

#[test]
fn a_daemon_does_not_listen_for_everybody() {
    if !programs::need_root() {
        return;
    }
    let sandbox = Sandbox::new().unwrap();
    let folder = sandbox.dir().join("tls");
    std::fs::create_dir(&folder).unwrap();
    if !certificates(&folder) {
        return;
    }
    let file = |name: &str| folder.join("server").join(name).display().to_string();
    let (certificate, key) = (format!("--tlscert={}", file("cert.pem")), format!("--tlskey={}", file("key.pem")));
    let authority = format!("--tlscacert={}", file("ca.pem"));
    for (arguments, said) in [
        (vec!["-H", ADDRESS], "without TLS"),
        (vec!["-H", ADDRESS, "--tls", &certificate, &key], "with TLS that lets every client in"),
        (
            vec!["-H", ADDRESS, "--tlsverify", &certificate, &key, "--tlscacert=/no/such"],
            "could not read CA certificate \"/no/such\"",
        ),
        (
            vec!["-H", ADDRESS, "--tlsverify", &certificate, "--tlskey=/no/such", &authority],
            "Could not load X509 key pair",
        ),
    ] {
        let daemon = Daemon::ferry(&sandbox, "b").args(&arguments);
        let error = format!("{:#}", daemon.start().unwrap_err());
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}
