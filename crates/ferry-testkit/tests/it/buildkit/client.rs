//! A client of BuildKit's protocol, as buildx is one: what it lends over its session, and how it drives a build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ferry_buildkit_proto::grpc::{Call, Channel, Code, Metadata, Service, Status, serve};
use ferry_buildkit_proto::messages::BytesMessage;
use ferry_buildkit_proto::messages::control::{Exporter, SolveRequest, SolveResponse, StatusRequest, StatusResponse};
use ferry_buildkit_proto::messages::gateway::{self, PingRequest, PongResponse, ReturnRequest, ReturnResponse};
use ferry_buildkit_proto::messages::ops::Definition;
use ferry_buildkit_proto::messages::session::{GetSecretRequest, GetSecretResponse};
use ferry_buildkit_proto::messages::transfer::{Packet, PacketType, Stat, mode};
use ferry_testkit::strip::Strip;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const METHODS: [&str; 3] = [
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.FileSend/DiffCopy",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
];

/// What a client lends, and what it was given.
#[derive(Default)]
pub(crate) struct Lent {
    /// Directories by name.
    pub(crate) folders: BTreeMap<String, PathBuf>,
    /// Secrets by id.
    pub(crate) secrets: BTreeMap<String, Vec<u8>>,
    /// Tells its directories from those of others.
    pub(crate) shared_key: String,
    /// Files that were asked for, as `directory:path`.
    pub(crate) asked: Mutex<Vec<String>>,
    /// Files that came back, by path.
    pub(crate) files: Mutex<BTreeMap<String, (Stat, Vec<u8>)>>,
    /// Bytes that came back.
    pub(crate) archive: Mutex<Vec<u8>>,
}

impl Service for Lent {
    fn call(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<(), Status>> {
        Box::pin(async move {
            match call.path.as_str() {
                "/moby.filesync.v1.FileSync/DiffCopy" => self.lend_files(call).await,
                "/moby.filesync.v1.FileSend/DiffCopy" if call.text("buildkit-attachable-exporter-id") == "7" => {
                    Err(Status::failed("exporter 7 not found"))
                }
                "/moby.filesync.v1.FileSend/DiffCopy" => self.take(call).await,
                "/moby.buildkit.secrets.v1.Secrets/GetSecret" => {
                    call.unary(|request: GetSecretRequest| async move {
                        let found = self.secrets.get(&request.id).cloned();
                        let found = found.ok_or_else(|| Status::new(Code::NotFound, "secret not found"))?;
                        Ok(GetSecretResponse { data: found })
                    })
                    .await
                }
                other => Err(Status::unimplemented(other)),
            }
        })
    }
}

impl Lent {
    async fn lend_files(&self, mut call: Call) -> Result<(), Status> {
        let name = call.text("dir-name").to_owned();
        let folder = self.folders.get(&name);
        let folder = folder.ok_or_else(|| Status::new(Code::NotFound, format!("no access allowed to dir {name:?}")))?;
        let texts = |key: &str| -> Vec<String> {
            call.metadata.get_all(key).into_iter().map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        let (wanted, unwanted) = (texts("followpaths"), texts("exclude-patterns"));
        let below = |path: &str, all: &[String]| {
            all.iter()
                .any(|one| path == one || path.starts_with(&format!("{one}/")) || one.starts_with(&format!("{path}/")))
        };
        let mut paths = Vec::new();
        for (path, is_folder) in walk(folder, "") {
            if (wanted.is_empty() || below(&path, &wanted)) && !unwanted.iter().any(|pattern| ignores(pattern, &path)) {
                let bits = if is_folder { mode::DIRECTORY | 0o755 } else { 0o644 };
                let size = if is_folder { 0 } else { std::fs::metadata(folder.join(&path)).unwrap().len() };
                let metadata = std::fs::metadata(folder.join(&path)).unwrap();
                let mod_time = std::os::unix::fs::MetadataExt::mtime(&metadata) * 1_000_000_000;
                let stat = Stat { path: path.clone(), mode: bits, size: size as i64, mod_time, ..Stat::default() };
                call.replies.send(&Packet { stat: Some(stat), ..Packet::of(PacketType::Stat) }).await?;
                paths.push(path);
            }
        }
        call.replies.send(&Packet::of(PacketType::Stat)).await?;
        while let Some(packet) = call.requests.next::<Packet>().await? {
            match PacketType::try_from(packet.kind).unwrap() {
                PacketType::Req => {
                    let path = &paths[packet.id as usize];
                    self.asked.lock().unwrap().push(format!("{name}:{path}"));
                    let content = std::fs::read(folder.join(path)).unwrap();
                    let id = packet.id;
                    for data in [Bytes::from(content), Bytes::new()] {
                        call.replies.send(&Packet { id, data, ..Packet::of(PacketType::Data) }).await?;
                    }
                }
                PacketType::Fin => call.replies.send(&Packet::of(PacketType::Fin)).await?,
                other => return Err(Status::failed(format!("{other:?}: {packet:?}"))),
            }
        }
        Ok(())
    }

    /// Takes files, or bytes for the exporter that is named 1.
    async fn take(&self, mut call: Call) -> Result<(), Status> {
        if call.text("buildkit-attachable-exporter-id") == "1" {
            while let Some(piece) = call.requests.next::<BytesMessage>().await? {
                self.archive.lock().unwrap().extend_from_slice(&piece.data);
            }
            return Ok(());
        }
        let (mut stats, mut open) = (Vec::new(), 0);
        while let Some(packet) = call.requests.next::<Packet>().await? {
            match (PacketType::try_from(packet.kind).unwrap(), packet.stat) {
                (PacketType::Stat, Some(stat)) => {
                    if stat.mode & mode::KIND == 0 && stat.linkname.is_empty() {
                        let id = u32::try_from(stats.len()).unwrap();
                        call.replies.send(&Packet { id, ..Packet::of(PacketType::Req) }).await?;
                        open += 1;
                    }
                    self.files.lock().unwrap().insert(stat.path.clone(), (stat.clone(), Vec::new()));
                    stats.push(stat.path);
                }
                (PacketType::Stat, None) => {}
                (PacketType::Data, _) if packet.data.is_empty() => {
                    open -= 1;
                    if open == 0 {
                        call.replies.send(&Packet::of(PacketType::Fin)).await?;
                    }
                }
                (PacketType::Data, _) => {
                    let mut files = self.files.lock().unwrap();
                    files.get_mut(&stats[packet.id as usize]).unwrap().1.extend_from_slice(&packet.data);
                }
                (PacketType::Fin, _) => return Ok(()),
                other => return Err(Status::failed(format!("{other:?}"))),
            }
        }
        Err(Status::failed("the files ended early"))
    }
}

/// As much of the patterns of ignore files as the tests use.
fn ignores(pattern: &str, path: &str) -> bool {
    pattern.strip_prefix("**/*").is_some_and(|end| path.ends_with(end)) || pattern == path
}

fn walk(folder: &Path, below: &str) -> Vec<(String, bool)> {
    let mut names: Vec<_> = std::fs::read_dir(folder.join(below)).unwrap().map(|entry| entry.unwrap()).collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    let mut all = Vec::new();
    for entry in names {
        let name = entry.file_name().to_str().unwrap().to_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let is_folder = entry.file_type().unwrap().is_dir();
        all.push((path.clone(), is_folder));
        if is_folder {
            all.extend(walk(folder, &path));
        }
    }
    all
}

/// Turns a connection of the API into another.
async fn upgraded(socket: &Path, path: &str, headers: &str) -> UnixStream {
    assert!(!Strip::asked().is_some_and(|strip| strip.is_endpoint("POST", path)), "{path} was taken away");
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    stream
}

/// The builder, called over `POST /grpc`, or straight on the socket.
pub(crate) async fn builder(socket: &Path, straight: bool) -> Channel {
    let stream = match straight {
        true => UnixStream::connect(socket).await.unwrap(),
        false => upgraded(socket, "/grpc", "").await,
    };
    let (channel, connection) = Channel::connect(stream).await.unwrap();
    tokio::spawn(connection);
    channel
}

/// A build, and everything that was told of it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) outcome: Result<SolveResponse, Status>,
    pub(crate) result: Option<gateway::SolveResult>,
    pub(crate) status: StatusResponse,
}

impl Told {
    /// All output of steps.
    pub(crate) fn output(&self) -> String {
        self.status.logs.iter().map(|log| String::from_utf8_lossy(&log.msg)).collect()
    }

    /// Names of the steps that were found in the cache.
    pub(crate) fn cached(&self) -> Vec<&str> {
        self.status.vertexes.iter().filter(|vertex| vertex.cached).map(|vertex| vertex.name.as_str()).collect()
    }
}

/// What to build.
pub(crate) struct Order<'a> {
    pub(crate) reference: &'a str,
    pub(crate) options: &'a [(&'a str, &'a str)],
    pub(crate) exporters: Vec<(&'a str, &'a [(&'a str, &'a str)])>,
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Builds as buildx does: a session, a solve that waits, and the gateway that drives it.
pub(crate) async fn build(socket: &Path, lent: &Arc<Lent>, order: Order<'_>) -> Told {
    let channel = builder(socket, false).await;
    let session = format!("session-{}", order.reference);
    let headers: String =
        METHODS.iter().map(|method| format!("X-Docker-Expose-Session-Grpc-Method: {method}\r\n")).collect();
    let headers = format!("X-Docker-Expose-Session-Uuid: {session}\r\n{headers}");
    let stream = upgraded(socket, "/session", &headers).await;
    let serving = tokio::spawn(serve(stream, Arc::clone(lent)));
    let request = SolveRequest {
        reference: order.reference.to_owned(),
        session,
        exporters: order
            .exporters
            .iter()
            .map(|(kind, attrs)| Exporter { kind: (*kind).to_owned(), attrs: map(attrs) })
            .collect(),
        ..SolveRequest::default()
    };
    let solving = channel.unary::<SolveResponse>("/moby.buildkit.v1.Control/Solve", &request);
    let driving = drive(&channel, &order);
    let following = follow(&channel, order.reference);
    let (outcome, result, status) = tokio::join!(solving, driving, following);
    serving.abort();
    Told { outcome, result, status }
}

async fn drive(channel: &Channel, order: &Order<'_>) -> Option<gateway::SolveResult> {
    let pong: PongResponse = in_build(channel, order.reference, "Ping", &PingRequest {}).await.unwrap();
    assert!(pong.frontend_api_caps.iter().any(|cap| cap.id == "return" && cap.enabled), "{pong:?}");
    let request = gateway::SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        frontend_opt: map(order.options),
        ..gateway::SolveRequest::default()
    };
    let solved = in_build::<gateway::SolveResponse>(channel, order.reference, "Solve", &request).await;
    let returned = match solved {
        Ok(response) => ReturnRequest { result: response.result, error: None },
        Err(status) => ReturnRequest { result: None, error: Some(status.to_rpc()) },
    };
    let result = returned.result.clone();
    in_build::<ReturnResponse>(channel, order.reference, "Return", &returned).await.unwrap();
    result
}

async fn in_build<A: prost::Message + Default>(
    channel: &Channel,
    reference: &str,
    method: &str,
    question: &impl prost::Message,
) -> Result<A, Status> {
    let mut metadata = Metadata::new();
    metadata.insert("buildkit-controlapi-buildid", reference.parse().unwrap());
    let (sender, mut replies) = channel.stream(&format!("/moby.buildkit.v1.frontend.LLBBridge/{method}"), metadata);
    sender.send(question).await?;
    drop(sender);
    let answer = replies.next().await?;
    replies.next::<A>().await?;
    answer.ok_or_else(|| Status::failed("no answer"))
}

async fn follow(channel: &Channel, reference: &str) -> StatusResponse {
    let (sender, mut replies) = channel.stream("/moby.buildkit.v1.Control/Status", Metadata::new());
    sender.send(&StatusRequest { reference: reference.to_owned() }).await.unwrap();
    drop(sender);
    let mut all = StatusResponse::default();
    while let Some(piece) = replies.next::<StatusResponse>().await.unwrap() {
        all.vertexes.extend(piece.vertexes);
        all.statuses.extend(piece.statuses);
        all.logs.extend(piece.logs);
        all.warnings.extend(piece.warnings);
    }
    all
}

/// Opens a session; it ends with the task that is returned.
pub(crate) async fn lend(socket: &Path, lent: &Arc<Lent>, session: &str) -> tokio::task::JoinHandle<()> {
    let headers: String =
        METHODS.iter().map(|method| format!("X-Docker-Expose-Session-Grpc-Method: {method}\r\n")).collect();
    let headers = format!(
        "X-Docker-Expose-Session-Uuid: {session}\r\nX-Docker-Expose-Session-Sharedkey: {}\r\n{headers}",
        lent.shared_key
    );
    let stream = upgraded(socket, "/session", &headers).await;
    let lent = Arc::clone(lent);
    tokio::spawn(async move { drop(serve(stream, lent).await) })
}

/// A build that the test drives itself.
pub(crate) struct Driven {
    channel: Channel,
    reference: String,
    solving: tokio::task::JoinHandle<Result<SolveResponse, Status>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Driven {
    /// Begins a build; with a definition it needs no more driving.
    pub(crate) async fn begin(
        socket: &Path,
        lent: &Arc<Lent>,
        reference: &str,
        exporters: &[(&str, &[(&str, &str)])],
        definition: Option<Definition>,
    ) -> Self {
        let request = SolveRequest { definition, ..SolveRequest::default() };
        Self::begin_with(socket, lent, reference, exporters, request).await
    }

    /// As [`Self::begin`], with what else the request says.
    pub(crate) async fn begin_with(
        socket: &Path,
        lent: &Arc<Lent>,
        reference: &str,
        exporters: &[(&str, &[(&str, &str)])],
        request: SolveRequest,
    ) -> Self {
        let channel = builder(socket, false).await;
        let session = format!("session-{reference}");
        let serving = lend(socket, lent, &session).await;
        let exporters = exporters.iter().map(|(kind, attrs)| Exporter { kind: (*kind).to_owned(), attrs: map(attrs) });
        let request =
            SolveRequest { reference: reference.to_owned(), session, exporters: exporters.collect(), ..request };
        let calling = channel.clone();
        let solving =
            tokio::spawn(
                async move { calling.unary::<SolveResponse>("/moby.buildkit.v1.Control/Solve", &request).await },
            );
        Self { channel, reference: reference.to_owned(), solving, serving }
    }

    /// Solves something as a part of it.
    pub(crate) async fn solve(&self, request: &gateway::SolveRequest) -> Result<gateway::SolveResult, Status> {
        let answer: gateway::SolveResponse = in_build(&self.channel, &self.reference, "Solve", request).await?;
        Ok(answer.result.unwrap())
    }

    /// Names the outcome, if there is one to name, and waits for the end.
    pub(crate) async fn end(self, result: Option<gateway::SolveResult>) -> Result<SolveResponse, Status> {
        if let Some(result) = result {
            let returned = ReturnRequest { result: Some(result), error: None };
            in_build::<ReturnResponse>(&self.channel, &self.reference, "Return", &returned).await?;
        }
        let outcome = self.solving.await.unwrap();
        self.serving.abort();
        outcome
    }
}

/// Options of a frontend.
pub(crate) fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    map(pairs)
}
