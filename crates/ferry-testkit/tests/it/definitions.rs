//! Definitions as clients of BuildKit's protocol make them themselves: what steps leave besides their root, definitions in files, header fields
//! of downloads.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use ferry_buildkit_proto::grpc::Status;
use ferry_buildkit_proto::messages::control::{SolveRequest, SolveResponse};
use ferry_buildkit_proto::messages::llb::{
    BuildInput, BuildOp, Change, ExecOp, FileAction, FileActionMkFile, FileOp, Input, Kind, Meta, Mount, Op, SourceOp,
};
use ferry_buildkit_proto::messages::ops::Definition;
use ferry_testkit::{Daemon, programs};
use prost::Message as _;

use crate::buildkit::client::{Driven, Lent, options};
use crate::until;

const BUSYBOX: &str = "docker-image://docker.io/library/busybox:latest";
/// The input of an operation that carries a definition out.
const FILE: &str = "buildkit.llb.definition";

/// An output of an operation: its digest, and which.
type Made = (String, i64);

/// A definition under construction.
#[derive(Default)]
struct Defining(Definition);

impl Defining {
    fn put(&mut self, kind: Option<Kind>, inputs: &[Made]) -> String {
        let inputs = inputs.iter().map(|(digest, index)| Input { digest: digest.clone(), index: *index }).collect();
        let bytes = Op { inputs, op: kind, ..Op::default() }.encode_to_vec();
        let digest = ferry_spec::Digest::sha256(&bytes).to_string();
        self.0.def.push(bytes);
        digest
    }

    fn source(&mut self, identifier: &str, attrs: &[(&str, &str)]) -> Made {
        let source = SourceOp { identifier: identifier.to_owned(), attrs: options(attrs) };
        (self.put(Some(Kind::Source(source)), &[]), 0)
    }

    /// A shell in busybox; the digest stands for all that it leaves.
    fn run(&mut self, line: &str, mounts: Vec<Mount>, inputs: &[Made]) -> String {
        let args = ["/bin/sh", "-ec", line].map(str::to_owned).into();
        let meta = Meta { args, cwd: "/".to_owned(), env: vec!["PATH=/bin".to_owned()], ..Meta::default() };
        let root = Mount { dest: "/".to_owned(), output: -1, ..Mount::default() };
        let mounts = std::iter::once(root).chain(mounts).collect();
        let busybox = self.source(BUSYBOX, &[]);
        let inputs: Vec<Made> = std::iter::once(busybox).chain(inputs.iter().cloned()).collect();
        self.put(Some(Kind::Exec(ExecOp { meta: Some(meta), mounts, ..ExecOp::default() })), &inputs)
    }

    /// What the file of an output defines.
    fn build(&mut self, file: Made, attrs: &[(&str, &str)]) -> Made {
        let inputs = [(FILE.to_owned(), BuildInput { input: 0 })].into();
        let build = BuildOp { builder: -1, inputs, attrs: options(attrs), ..BuildOp::default() };
        (self.put(Some(Kind::Build(build)), &[file]), 0)
    }

    /// A file in an empty tree.
    fn file(&mut self, path: &str, data: Vec<u8>) -> Made {
        let make = FileActionMkFile { path: path.to_owned(), mode: 0o644, data, timestamp: -1, ..Default::default() };
        let action = FileAction { input: -1, secondary_input: -1, output: 0, action: Some(Change::Mkfile(make)) };
        (self.put(Some(Kind::File(FileOp { actions: vec![action] })), &[]), 0)
    }

    fn end(mut self, output: Made) -> Definition {
        self.put(None, &[output]);
        self.0
    }
}

fn mount(dest: &str, input: i64, output: i64) -> Mount {
    Mount { dest: dest.to_owned(), input, output, ..Mount::default() }
}

/// A daemon, and a client of it.
struct Client {
    daemon: Daemon,
    lent: Arc<Lent>,
    builds: std::cell::Cell<usize>,
}

impl Client {
    fn start() -> Self {
        Self { daemon: Daemon::ready(), lent: Arc::default(), builds: std::cell::Cell::default() }
    }

    /// Builds, and takes the files of the outcome.
    async fn build(&self, definition: Definition) -> Result<SolveResponse, Status> {
        self.lent.files.lock().unwrap().clear();
        let reference = format!("build-{}", self.builds.replace(self.builds.get() + 1));
        let socket = self.daemon.socket();
        let request = SolveRequest { definition: Some(definition), ..SolveRequest::default() };
        Driven::begin_with(&socket, &self.lent, &reference, &[("local", &[])], request).await.end(None).await
    }

    fn text(&self, path: &str) -> String {
        let files = self.lent.files.lock().unwrap();
        let (_, bytes) = files.get(path).unwrap_or_else(|| panic!("{path} is not among {:?}", files.keys()));
        String::from_utf8(bytes.clone()).unwrap()
    }

    fn paths(&self) -> Vec<String> {
        self.lent.files.lock().unwrap().keys().cloned().collect()
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

#[test]
fn what_a_step_leaves_in_its_mounts_is_taken() {
    if !programs::need_root() {
        return;
    }
    let client = Client::start();
    run(async {
        let line = "echo made >/out/made; echo more >>/in/below/file; ln -s made /out/link; test ! -e /fixed/made; \
            ! touch /fixed/x 2>/dev/null; echo lost >/lost";
        let begin = |all: &mut Defining| {
            let given = all.file("/file", b"given\n".to_vec());
            let held = all.run(
                "mkdir /held/below; cp /given/file /held/below/",
                vec![mount("/given", 1, -1), mount("/held", -1, 0)],
                &[given],
            );
            let fixed = Mount { readonly: true, ..mount("/fixed", 1, 2) };
            all.run(line, vec![mount("/out", -1, 0), mount("/in", 1, 1), fixed], &[(held, 0)])
        };
        for (output, paths) in
            [(0, vec!["link", "made"]), (1, vec!["below", "below/file"]), (2, vec!["below", "below/file"])]
        {
            let mut all = Defining::default();
            let step = begin(&mut all);
            client.build(all.end((step, output))).await.unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(client.paths(), paths, "{output}");
            match output {
                0 => assert_eq!(client.text("made"), "made\n"),
                1 => assert_eq!(client.text("below/file"), "given\nmore\n"),
                _ => assert_eq!(client.text("below/file"), "given\n"),
            }
        }
        // The next step is given them like any other tree, and finds them in the cache.
        let mut all = Defining::default();
        let step = begin(&mut all);
        let looks = all.run(
            "cat /a/made /b/below/file >/out/all",
            vec![mount("/a", 1, -1), Mount { selector: String::new(), ..mount("/b", 2, -1) }, mount("/out", -1, 0)],
            &[(step.clone(), 0), (step, 1)],
        );
        client.build(all.end((looks, 0))).await.unwrap();
        assert_eq!(client.text("all"), "made\ngiven\nmore\n");

        let mut all = Defining::default();
        let step = all.run("echo half >/out/half; exit 4", vec![mount("/out", -1, 0)], &[]);
        let failed = client.build(all.end((step, 0))).await.unwrap_err();
        assert!(failed.message.contains("did not complete successfully: exit code: 4"), "{failed:?}");
    });
    until("nothing of the steps is left", || {
        let count = |folder: &str| std::fs::read_dir(client.daemon.data_root().join(folder)).unwrap().count();
        count("containers") == 0 && count("build/trees") == 0
    });
}

#[test]
fn definitions_in_files_are_carried_out() {
    if !programs::need_root() {
        return;
    }
    let client = Client::start();
    run(async {
        let inner = |text: &str| {
            let mut inner = Defining::default();
            let step = inner.run(&format!("echo {text} >/out/f"), vec![mount("/out", -1, 0)], &[]);
            inner.end((step, 0)).encode_to_vec()
        };
        let mut all = Defining::default();
        let file = all.file(&format!("/{FILE}"), inner("nested"));
        let built = all.build(file, &[]);
        let step = all.run("cat /in/f >/out/seen", vec![mount("/in", 1, -1), mount("/out", -1, 0)], &[built]);
        client.build(all.end((step, 0))).await.unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(client.text("seen"), "nested\n");

        // A definition inside of a definition, under another name.
        let mut middle = Defining::default();
        let file = middle.file("/other", inner("deep"));
        let built = middle.build(file, &[("llbbuild.filename", "other")]);
        let middle = middle.end(built).encode_to_vec();
        let mut all = Defining::default();
        let file = all.file(&format!("/{FILE}"), middle);
        let built = all.build(file, &[]);
        client.build(all.end(built)).await.unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(client.text("f"), "deep\n");

        let mut deep = inner("never");
        for _ in 0..33 {
            let mut around = Defining::default();
            let file = around.file(&format!("/{FILE}"), deep);
            let built = around.build(file, &[]);
            deep = around.end(built).encode_to_vec();
        }
        let refused = client.build(Definition::decode(&deep[..]).unwrap()).await.unwrap_err();
        let text = "failed to load LLB: more than 32 definitions inside of each other";
        assert_eq!(refused.message, text);

        for (path, data, text) in [
            ("/x", Vec::new(), "failed to open buildkit.llb.definition: no such file or directory"),
            ("/buildkit.llb.definition", b"no definition".to_vec(), "failed to load LLB: failed to parse a definition"),
            ("/buildkit.llb.definition", Vec::new(), "failed to load LLB: invalid empty definition"),
            ("/buildkit.llb.definition", inner("x; exit 6"), "did not complete successfully: exit code: 6"),
        ] {
            let mut all = Defining::default();
            let file = all.file(path, data);
            let built = all.build(file, &[]);
            let refused = client.build(all.end(built)).await.unwrap_err();
            assert!(refused.message.contains(text), "{text}: {refused:?}");
        }
    });
}

/// Answers requests with a file, and notes their heads.
fn answer(listener: TcpListener, heads: std::sync::mpsc::Sender<String>) {
    for mut stream in listener.incoming().flatten() {
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            head.push(byte[0]);
        }
        let body = if head.starts_with(b"HEAD") { "" } else { "fetched" };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n{body}");
        let _ = stream.write_all(answer.as_bytes());
        if heads.send(String::from_utf8_lossy(&head).into_owned()).is_err() {
            return;
        }
    }
}

#[test]
fn downloads_are_asked_for_as_their_definition_says() {
    if !programs::need_root() {
        return;
    }
    let client = Client::start();
    let listener = client.daemon.sandbox().listen("127.0.0.1:8091").unwrap();
    let (sender, heads) = std::sync::mpsc::channel();
    std::thread::spawn(move || answer(listener, sender));
    run(async {
        let url = "http://127.0.0.1:8091/a/file.txt";
        let download = |attrs: &[(&str, &str)]| {
            let mut all = Defining::default();
            let file = all.source(url, attrs);
            all.end(file)
        };
        let attrs = [
            ("http.header.Accept", "text/x-ferry"),
            ("http.header.user-agent", "test/1"),
            ("http.filename", "named"),
            ("http.perm", "0640"),
        ];
        client.build(download(&attrs)).await.unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(client.text("named"), "fetched");
        assert_eq!(client.lent.files.lock().unwrap()["named"].0.mode & 0o777, 0o640);
        let head = heads.recv().unwrap().to_lowercase();
        for line in ["get /a/file.txt http/1.1\r\n", "\r\naccept: text/x-ferry\r\n", "\r\nuser-agent: test/1\r\n"] {
            assert!(head.contains(line), "no {line:?}: {head}");
        }
        let refused = client.build(download(&[("http.header.Cookie", "x")])).await.unwrap_err();
        assert_eq!(refused.message, "not implemented: attribute http.header.Cookie of a source");
        let wrong = format!("sha256:{}", "0".repeat(64));
        let refused = client.build(download(&[("http.checksum", &wrong)])).await.unwrap_err();
        assert!(refused.message.contains("digest mismatch sha256:"), "{refused:?}");
        let head = heads.recv().unwrap().to_lowercase();
        assert!(!head.contains("x-ferry") && !head.contains("cookie"), "{head}");
    });
}
