//! BuildKit's own protocol, spoken as buildx speaks it.

pub(crate) mod client;

use std::path::PathBuf;
use std::sync::Arc;

use ferry_buildkit_proto::grpc::Metadata;
use ferry_buildkit_proto::messages::content::{self, ReadContentRequest, ReadContentResponse};
use ferry_buildkit_proto::messages::control::{
    BuildHistoryEvent, BuildHistoryRequest, DiskUsageRequest, DiskUsageResponse, Exporter, InfoRequest, InfoResponse,
    ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest, SolveResponse, StatusResponse, UsageRecord,
};
use ferry_buildkit_proto::messages::gateway::SolveRequest as SolveRequestOfGateway;
use ferry_buildkit_proto::messages::llb::{
    Change, ExecOp, FileAction, FileActionMkDir, FileOp, Input, Kind, Meta, Mount, Op, SourceOp,
};
use ferry_buildkit_proto::messages::ops::Definition;
use ferry_buildkit_proto::messages::policy::{Policy, Rule, Selector, Update};
use ferry_testkit::image::Layer;
use ferry_testkit::{Daemon, api, programs};
use prost::Message as _;

use self::client::{Driven, Lent, Order, build, builder, lend, options};
use crate::until;

fn tree(daemon: &Daemon, files: &[(&str, &str)]) -> PathBuf {
    let folder = daemon.sandbox().dir().join("context");
    for (path, text) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn lent(folder: PathBuf) -> Lent {
    let folders = [("context".to_owned(), folder.clone()), ("dockerfile".to_owned(), folder)];
    let secrets = [("token".to_owned(), b"hush".to_vec())];
    Lent { folders: folders.into(), secrets: secrets.into(), ..Lent::default() }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

const DOCKERFILE: &str = "FROM busybox AS base\n\
    ARG WHO=nobody\n\
    RUN --mount=type=secret,id=token echo $WHO >/who; sha256sum </run/secrets/token >/token; echo told\n\
    FROM scratch AS files\n\
    COPY --from=base /who /token /\n\
    COPY sub /sub\n\
    FROM base\n\
    COPY one.txt /one.txt\n\
    CMD [\"cat\", \"/who\", \"/one.txt\"]\n";

const FILES: [(&str, &str); 6] = [
    ("Dockerfile", DOCKERFILE),
    ("one.txt", "one\n"),
    ("sub/deep/two.txt", "two\n"),
    ("sub/skipped.log", "no\n"),
    ("unused.bin", "never read\n"),
    (".dockerignore", "**/*.log\n"),
];

#[test]
fn clients_of_buildkit_build_images_and_take_what_was_built() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let lent = Arc::new(lent(tree(&daemon, &FILES)));
    let socket = daemon.socket();
    run(async {
        let image = build(
            &socket,
            &lent,
            Order {
                reference: "first",
                options: &[("build-arg:WHO", "me"), ("filename", "Dockerfile")],
                exporters: vec![("moby", &[("name", "docker.io/library/built:1,two")])],
            },
        )
        .await;
        let response = image.outcome.as_ref().unwrap_or_else(|error| panic!("{error}\n{image:#?}"));
        let id = daemon.inspect("built:1", "{{.Id}}");
        assert_eq!(response.exporter_response["containerimage.digest"], id);
        assert_eq!(response.exporter_response["image.name"], "docker.io/library/built:1,docker.io/library/two:latest");
        assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "two"]).ok(), "me\none");
        assert!(image.output().contains("told"), "{image:#?}");
        let names: Vec<&str> = image.status.vertexes.iter().map(|vertex| vertex.name.as_str()).collect();
        assert!(names.contains(&"[internal] load build definition from Dockerfile"), "{names:?}");
        assert!(names.contains(&"exporting to image"), "{names:?}");
        let transfers: Vec<&str> = image.status.statuses.iter().map(|status| status.id.as_str()).collect();
        assert!(transfers.contains(&"transferring context:"), "{transfers:?}");
        let asked = lent.asked.lock().unwrap().clone();
        assert!(asked.contains(&"context:one.txt".to_owned()), "{asked:?}");
        assert!(!asked.iter().any(|path| path.contains("unused")), "only what the build needs travels: {asked:?}");

        let files = build(
            &socket,
            &lent,
            Order {
                reference: "second",
                options: &[("build-arg:WHO", "me"), ("target", "files")],
                exporters: vec![("local", &[]), ("tar", &[])],
            },
        )
        .await;
        assert!(files.outcome.is_ok(), "{files:#?}");
        assert!(files.cached().iter().any(|name| name.contains("RUN --mount=type=secret")), "{files:#?}");
        let taken = std::mem::take(&mut *lent.files.lock().unwrap());
        assert_eq!(taken["who"].1, b"me\n");
        assert_eq!(taken["sub/deep/two.txt"].1, b"two\n");
        assert!(!taken.contains_key("sub/skipped.log"), "{:?}", taken.keys());
        let archive = std::mem::take(&mut *lent.archive.lock().unwrap());
        let mut archive = tar::Archive::new(&archive[..]);
        let paths: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert!(paths.contains(&PathBuf::from("sub/deep/two.txt")), "{paths:?}");

        let exporters = vec![Exporter { kind: "none".to_owned(), ..Exporter::default() }];
        let request = SolveRequest { reference: "third".to_owned(), exporters, ..SolveRequest::default() };
        let channel = builder(&socket, false).await;
        let refused = channel.unary::<SolveResponse>("/moby.buildkit.v1.Control/Solve", &request).await.unwrap_err();
        assert_eq!(refused.message, "exporter \"none\" could not be found");
    });
    assert_eq!(daemon.run(&["ps", "-aq"]).ok(), "");
}

#[test]
fn failures_reach_clients_of_buildkit_with_their_lines() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let folder =
        tree(&daemon, &[("Dockerfile", "FROM busybox\nRUN echo before; exit 3\n"), ("bad", "FROM a\nBOGUS x\n")]);
    let lent = Arc::new(lent(folder));
    let socket = daemon.socket();
    run(async {
        let failed =
            build(&socket, &lent, Order { reference: "run", options: &[], exporters: vec![("moby", &[])] }).await;
        let status = failed.outcome.as_ref().unwrap_err();
        let text = "process \"/bin/sh -c echo before; exit 3\" did not complete successfully: exit code: 3";
        assert_eq!(status.message, text);
        assert_eq!(status.details[0].type_url, "github.com/moby/buildkit/errdefs.Source+json");
        let source: serde_json::Value = serde_json::from_slice(&status.details[0].value).unwrap();
        assert_eq!(source["ranges"][0]["start"]["line"], 2);
        assert_eq!(source["info"]["filename"], "Dockerfile");
        assert!(failed.output().contains("before"), "{failed:#?}");
        assert!(failed.status.vertexes.iter().any(|vertex| vertex.error == text), "{failed:#?}");

        let bad = Order { reference: "bad", options: &[("filename", "bad")], exporters: vec![] };
        let failed = build(&socket, &lent, bad).await;
        let status = failed.outcome.unwrap_err();
        assert_eq!(status.message, "dockerfile parse error on line 2: unknown instruction: BOGUS");
        let source: serde_json::Value = serde_json::from_slice(&status.details[0].value).unwrap();
        assert_eq!(source["ranges"][0]["start"]["line"], 2);

        let check = Order { reference: "check", options: &[("requestid", "frontend.targets")], exporters: vec![] };
        let told = build(&socket, &lent, check).await;
        let metadata = told.result.unwrap().metadata;
        assert_eq!(metadata["result.txt"], b"TARGET    DESCRIPTION\n(default) \n", "{metadata:?}");

        let caps = Order { reference: "caps", options: &[("frontend.caps", "x")], exporters: vec![] };
        assert_eq!(build(&socket, &lent, caps).await.outcome.unwrap_err().message, "unsupported frontend capability x");
    });
}

#[test]
fn a_client_of_buildkit_that_leaves_takes_its_build_along() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let folder = tree(&daemon, &[("Dockerfile", "FROM busybox\nRUN touch /begun; echo begun; sleep 1000\n")]);
    let lent = Arc::new(lent(folder));
    let socket = daemon.socket();
    let runs = || daemon.sandbox().sh("pgrep -f '[s]leep 1000' || true").out();
    run(async {
        let building = tokio::spawn({
            let (socket, lent) = (socket.clone(), Arc::clone(&lent));
            async move {
                build(&socket, &lent, Order { reference: "long", options: &[], exporters: vec![("moby", &[])] }).await
            }
        });
        until("the step runs", || !runs().is_empty());
        building.abort();
        assert!(building.await.unwrap_err().is_cancelled());
    });
    until("the step is gone", || runs().is_empty());
    until("nothing of it is left", || {
        let left = std::fs::read_dir(daemon.data_root().join("build/trees")).unwrap().count();
        left == 0 && std::fs::read_dir(daemon.data_root().join("build/contexts")).unwrap().count() == 0
    });
}

#[test]
fn clients_of_buildkit_learn_of_worker_usage_and_history() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let lent = Arc::new(lent(tree(&daemon, &FILES)));
    let socket = daemon.socket();
    let ping = daemon.api("GET", "/_ping", None);
    assert_eq!(ping.header("builder-version"), Some("2"));
    let refused = daemon.api("POST", "/session", None);
    assert_eq!(refused.json()["message"], "no upgrade proto in request");
    run(async {
        let control = |method: &str| format!("/moby.buildkit.v1.Control/{method}");
        let channel = builder(&socket, true).await;
        let info: InfoResponse = channel.unary(&control("Info"), &InfoRequest {}).await.unwrap();
        assert_eq!(info.buildkit_version.unwrap().package, "ferry");
        let workers: ListWorkersResponse =
            channel.unary(&control("ListWorkers"), &ListWorkersRequest::default()).await.unwrap();
        let worker = &workers.record[0];
        assert!(worker.labels.contains_key("org.mobyproject.buildkit.worker.snapshotter"), "{worker:?}");
        let gateway = worker.labels.get("org.mobyproject.buildkit.worker.moby.host-gateway-ip");
        assert!(gateway.is_some_and(|address| address.parse::<std::net::Ipv4Addr>().is_ok()), "{worker:?}");
        assert_eq!(worker.platforms[0].os, "linux");

        let order = || Order { reference: "once", options: &[], exporters: vec![("moby", &[])] };
        let first = build(&socket, &lent, order()).await;
        assert!(first.outcome.is_ok(), "{first:#?}");
        let asked = BuildHistoryRequest { early_exit: true, ..BuildHistoryRequest::default() };
        let (sender, mut replies) = channel.stream(&control("ListenBuildHistory"), Metadata::new());
        sender.send(&asked).await.unwrap();
        drop(sender);
        let event: BuildHistoryEvent = replies.next().await.unwrap().unwrap();
        let record = event.record.unwrap();
        assert_eq!((event.kind, record.reference.as_str(), record.error.is_none()), (1, "once", true));
        assert!(record.num_total_steps > 3 && record.completed_at.is_some(), "{record:?}");
        assert!(replies.next::<BuildHistoryEvent>().await.unwrap().is_none());
        // What was told of it is a blob that the record names: messages of status, each after its length.
        let logs = record.logs.unwrap();
        assert_eq!(logs.media_type, "application/vnd.buildkit.status.v0");
        let (sender, mut replies) = channel.stream(content::READ, Metadata::new());
        sender
            .send(&ReadContentRequest { digest: logs.digest.clone(), ..ReadContentRequest::default() })
            .await
            .unwrap();
        drop(sender);
        let mut log = Vec::new();
        while let Some(piece) = replies.next::<ReadContentResponse>().await.unwrap() {
            log.extend(piece.data);
        }
        assert_eq!(ferry_spec::Digest::sha256(&log).to_string(), logs.digest);
        let (mut rest, mut steps) = (&log[..], Vec::new());
        while let Some((length, message)) = rest.split_first_chunk::<4>() {
            let (message, behind) = message.split_at(u32::from_le_bytes(*length).try_into().unwrap());
            steps.extend(StatusResponse::decode(message).unwrap().vertexes.into_iter().map(|step| step.digest));
            rest = behind;
        }
        steps.sort();
        steps.dedup();
        assert_eq!(steps.len(), usize::try_from(record.num_total_steps).unwrap());

        let usage: DiskUsageResponse =
            channel.unary(&control("DiskUsage"), &DiskUsageRequest::default()).await.unwrap();
        assert!(usage.record.iter().any(|record| record.description.contains("exec /bin/sh -c")), "{usage:?}");
        let (sender, mut replies) = channel.stream(&control("Prune"), Metadata::new());
        sender.send(&PruneRequest { all: true, ..PruneRequest::default() }).await.unwrap();
        drop(sender);
        let mut pruned = 0;
        while replies.next::<UsageRecord>().await.unwrap().is_some() {
            pruned += 1;
        }
        assert_eq!(pruned, usage.record.len());
        let unknown = channel.unary::<InfoResponse>("/moby.buildkit.v1.Other/X", &InfoRequest {}).await.unwrap_err();
        assert_eq!(unknown.message, "unknown service moby.buildkit.v1.Other");
    });
}

/// A definition of operations, each on the one before; the first is a source.
fn definition(ops: &[Kind]) -> Definition {
    let mut definition = Definition::default();
    let mut before: Option<String> = None;
    for op in ops.iter().cloned().map(Some).chain([None]) {
        let inputs = before.iter().map(|digest| Input { digest: digest.clone(), index: 0 }).collect();
        let bytes = Op { inputs, op, ..Op::default() }.encode_to_vec();
        before = Some(ferry_spec::Digest::sha256(&bytes).to_string());
        definition.def.push(bytes);
    }
    definition
}

fn run_step(line: &str) -> Kind {
    let root = Mount { dest: "/".to_owned(), ..Mount::default() };
    let args = ["/bin/sh", "-c", line].map(str::to_owned).into();
    let meta = Meta { args, cwd: "/".to_owned(), env: vec!["PATH=/bin".to_owned()], ..Meta::default() };
    Kind::Exec(ExecOp { meta: Some(meta), mounts: vec![root], ..ExecOp::default() })
}

#[test]
fn clients_of_buildkit_build_what_they_define_themselves() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let lent = Arc::new(lent(tree(&daemon, &FILES)));
    let socket = daemon.socket();
    run(async {
        let source =
            |identifier: &str| Kind::Source(SourceOp { identifier: identifier.to_owned(), ..SourceOp::default() });
        let make =
            FileActionMkDir { path: "/made".to_owned(), mode: 0o750, timestamp: -1, ..FileActionMkDir::default() };
        let make = FileAction { input: 0, secondary_input: -1, output: 0, action: Some(Change::Mkdir(make)) };
        let whole = definition(&[
            source("docker-image://docker.io/library/busybox:latest"),
            run_step("echo defined >/f"),
            Kind::File(FileOp { actions: vec![make] }),
        ]);
        let attrs = &[
            ("name", "defined"),
            ("containerimage.config", r#"{"os":"linux","architecture":"amd64","config":{"Cmd":["cat","/f"]}}"#),
        ];
        let driven = Driven::begin(&socket, &lent, "defined", &[("image", attrs)], Some(whole)).await;
        let response = driven.end(None).await.unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(response.exporter_response["image.name"], "docker.io/library/defined:latest");
        assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "defined"]).ok(), "defined");
        let modes = daemon.run(&["run", "--rm", "--network", "none", "defined", "stat", "-c", "%a", "/made"]).ok();
        assert_eq!(modes, "750");

        let files = definition(&[source("local://context")]);
        let driven = Driven::begin(&socket, &lent, "files", &[("local", &[])], Some(files)).await;
        driven.end(None).await.unwrap();
        let taken = std::mem::take(&mut *lent.files.lock().unwrap());
        assert_eq!(taken["one.txt"].1, b"one\n");

        // One build takes what another one made, as targets of bake do.
        let dockerfile = "dockerfile.v0".to_owned();
        let base = Driven::begin(&socket, &lent, "base", &[], None).await;
        let request = SolveRequestOfGateway {
            frontend: dockerfile.clone(),
            frontend_opt: options(&[("target", "base"), ("build-arg:WHO", "base")]),
            ..SolveRequestOfGateway::default()
        };
        let made = base.solve(&request).await.unwrap();
        let below = made.reference.clone().unwrap().def.unwrap();
        std::fs::write(lent.folders["context"].join("upper"), "FROM below\nRUN echo upper >>/who\n").unwrap();
        let upper = Driven::begin(&socket, &lent, "upper", &[("image", &[("name", "upper")])], None).await;
        let request = SolveRequestOfGateway {
            frontend: dockerfile,
            frontend_opt: options(&[
                ("filename", "upper"),
                ("context:below", "input:below"),
                ("build-arg:WORD", "hidden"),
            ]),
            frontend_inputs: [("below".to_owned(), below)].into(),
            ..SolveRequestOfGateway::default()
        };
        let result = upper.solve(&request).await.unwrap_or_else(|error| panic!("{error:?}"));
        upper.end(Some(result)).await.unwrap();
        base.end(Some(made)).await.unwrap();
        assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "upper", "cat", "/who"]).ok(), "base\nupper");

        // How it came about is remembered, and so is what was told.
        let channel = builder(&socket, true).await;
        let asked =
            BuildHistoryRequest { early_exit: true, reference: "upper".to_owned(), ..BuildHistoryRequest::default() };
        let (sender, mut replies) = channel.stream("/moby.buildkit.v1.Control/ListenBuildHistory", Metadata::new());
        sender.send(&asked).await.unwrap();
        drop(sender);
        let record = replies.next::<BuildHistoryEvent>().await.unwrap().unwrap().record.unwrap();
        let origin = &record.result.unwrap().attestations[0];
        assert_eq!(origin.annotations["in-toto.io/predicate-type"], "https://slsa.dev/provenance/v1");
        let (sender, mut replies) = channel.stream(content::READ, Metadata::new());
        sender
            .send(&ReadContentRequest { digest: origin.digest.clone(), ..ReadContentRequest::default() })
            .await
            .unwrap();
        drop(sender);
        let blob = replies.next::<ReadContentResponse>().await.unwrap().unwrap().data;
        let told: serde_json::Value = serde_json::from_slice(&blob).unwrap();
        assert!(!told.to_string().contains("hidden"), "values of arguments are not told unasked: {told}");
        let path = &told["buildDefinition"]["externalParameters"]["configSource"]["path"];
        assert_eq!((path, i64::try_from(blob.len()).unwrap()), (&"upper".into(), origin.size));
    });
}

#[test]
fn policies_decide_about_the_sources_of_builds() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let lent = Arc::new(lent(tree(&daemon, &[("Dockerfile", "FROM nosuch:1.2\nRUN echo built >/f\n")])));
    let socket = daemon.socket();
    let rule = |action: i32, identifier: &str, to: &str| Rule {
        action,
        selector: Some(Selector { identifier: identifier.to_owned(), ..Selector::default() }),
        updates: (!to.is_empty()).then(|| Update { identifier: to.to_owned(), ..Update::default() }),
    };
    let begin = async |reference: &str, rules: Vec<Rule>, definition: Option<Definition>| {
        let source_policy = Some(Policy { version: 1, rules });
        let request = SolveRequest { source_policy, definition, ..SolveRequest::default() };
        let attrs: &[(&str, &str)] = &[("name", reference)];
        Driven::begin_with(&socket, &lent, reference, &[("image", attrs)], request).await
    };
    let dockerfile =
        || SolveRequestOfGateway { frontend: "dockerfile.v0".to_owned(), ..SolveRequestOfGateway::default() };
    run(async {
        let denied = "denied by policy";
        let busybox = "docker-image://docker.io/library/busybox:latest";
        let source = Kind::Source(SourceOp { identifier: busybox.to_owned(), ..SourceOp::default() });
        let defined = definition(&[source]);
        let driven = begin("denied", vec![rule(1, "docker-image://*/busybox:*", "")], Some(defined.clone())).await;
        let refused = driven.end(None).await.unwrap_err();
        assert!(refused.message.contains(denied) && refused.message.contains(busybox), "{refused:?}");
        let allowed = vec![rule(1, "docker-image://*", ""), rule(0, "docker-image://*/busybox*", "")];
        begin("allowed", allowed, Some(defined)).await.end(None).await.unwrap();

        let converts = rule(2, "docker-image://*/nosuch:1.*", "docker-image://${1}/busybox:latest");
        let driven = begin("converted", vec![converts.clone()], None).await;
        let result = driven.solve(&dockerfile()).await.unwrap_or_else(|error| panic!("{error:?}"));
        driven.end(Some(result)).await.unwrap();
        assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "converted", "cat", "/f"]).ok(), "built");
        let driven = begin("both", vec![converts, rule(1, "docker-image://*busybox*", "")], None).await;
        let refused = driven.solve(&dockerfile()).await.unwrap_err();
        assert!(refused.message.contains(denied), "{refused:?}");
    });
}

#[test]
fn builds_that_are_posted_take_what_a_session_lends() {
    if !programs::need_root() {
        return;
    }
    let daemon = Daemon::ready();
    let lent = Arc::new(lent(tree(&daemon, &FILES)));
    let socket = daemon.socket();
    run(async {
        let serving = lend(&socket, &lent, "posted").await;
        let post = |query: &str, body: Vec<u8>| {
            let (path, socket) = (api::encode(&format!("/v1.41/build?version=2&{query}")), socket.clone());
            tokio::task::spawn_blocking(move || {
                api::send(&socket, "POST", &path, "application/x-tar", &body).unwrap().text()
            })
        };
        let arguments = r#"buildargs={"WHO":"me"}"#;
        let told =
            post(&format!("session=posted&remote=client-session&t=posted&{arguments}"), Vec::new()).await.unwrap();
        assert!(told.contains(r#"{"id":"moby.buildkit.trace","aux":""#), "{told}");
        let id = daemon.inspect("posted", "{{.Id}}");
        assert!(told.contains(&format!(r#"{{"id":"moby.image.id","aux":{{"ID":"{id}"}}}}"#)), "{told}");
        assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "posted"]).ok(), "me\none");
        let told = post(r#"session=posted&remote=client-session&outputs=[{"Type":"local"}]&target=files"#, Vec::new());
        assert!(!told.await.unwrap().contains("errorDetail"));
        assert_eq!(lent.files.lock().unwrap()["sub/deep/two.txt"].1, b"two\n");
        serving.abort();

        // What has not changed does not travel again.
        let lent = Arc::new(Lent { folders: lent.folders.clone(), shared_key: "mine".to_owned(), ..Lent::default() });
        let serving = lend(&socket, &lent, "again").await;
        let asked = || std::mem::take(&mut *lent.asked.lock().unwrap());
        let of_context = |asked: Vec<String>| -> Vec<String> {
            asked.into_iter().filter(|path| path.starts_with("context:") && !path.contains(".dockerignore")).collect()
        };
        for (text, files) in
            [("one\n", vec!["context:one.txt", "context:sub/deep/two.txt"]), ("changed\n", vec!["context:one.txt"])]
        {
            std::fs::write(lent.folders["context"].join("one.txt"), text).unwrap();
            let dockerfile = "FROM busybox\nCOPY one.txt sub /\n";
            std::fs::write(lent.folders["context"].join("again"), dockerfile).unwrap();
            let told = post("session=again&remote=client-session&t=again&dockerfile=again", Vec::new()).await.unwrap();
            assert!(told.contains("moby.image.id"), "{told}");
            assert_eq!(of_context(asked()), files);
        }
        assert_eq!(daemon.run(&["run", "--rm", "--network", "none", "again", "cat", "/one.txt"]).ok(), "changed");
        let kept = daemon.run(&["builder", "du", "--verbose"]).ok();
        assert!(kept.contains("local source for context"), "{kept}");
        let _ = daemon.run(&["builder", "prune", "-af"]).ok();
        assert_eq!(std::fs::read_dir(daemon.data_root().join("build/contexts")).unwrap().count(), 0);
        serving.abort();

        // An archive that comes with a request of its own, before the other or after it.
        let dockerfile = b"FROM busybox\nCOPY f /f\nCMD [\"cat\", \"/f\"]\n";
        let tar = Layer::default().file("Dockerfile", 0o644, dockerfile).file("f", 0o644, b"uploaded").into_tar();
        for name in ["uploaded", "again"] {
            let query = format!("remote=upload-request&buildid={name}&t={name}&nocache=1");
            let (told, taken) = match name {
                "again" => {
                    let taken = post("buildid=upload-request:again", tar.clone());
                    tokio::join!(post(&query, Vec::new()), taken)
                }
                _ => tokio::join!(post(&query, Vec::new()), post("buildid=upload-request:uploaded", tar.clone())),
            };
            let (told, taken) = (told.unwrap(), taken.unwrap());
            assert!(told.contains("moby.image.id") && taken.is_empty(), "{told} {taken}");
            assert_eq!(daemon.run(&["run", "--rm", "--network", "none", name]).ok(), "uploaded");
        }
        let told = post("t=quiet&q=1", tar.clone()).await.unwrap();
        let id = daemon.inspect("quiet", "{{.Id}}");
        assert_eq!(told.trim_end(), format!(r#"{{"stream":"{id}\n"}}"#));
        let broken = "remote=upload-request&buildid=broken";
        let (told, taken) = tokio::join!(post(broken, Vec::new()), post("buildid=upload-request:broken", vec![1; 600]));
        assert_eq!(told.unwrap(), taken.unwrap());
        let alone = post("remote=upload-request", Vec::new()).await.unwrap();
        assert!(alone.contains("needs the parameter buildid"), "{alone}");

        let tar = Layer::default().file("Dockerfile", 0o644, b"FROM busybox\nRUN exit 7\n").into_tar();
        let told = post("t=failed", tar).await.unwrap();
        assert!(told.contains("did not complete successfully: exit code: 7"), "{told}");
        let told = post("remote=client-session", Vec::new()).await.unwrap();
        assert!(told.contains("a context of the client's session needs the parameter session"), "{told}");
    });
}
