//! SSH agents of the user's, lent to a build over a session of BuildKit's protocol.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use ferry_buildkit_proto::grpc::{Call, Code, Service, Status};
use ferry_buildkit_proto::messages::BytesMessage;
use ferry_buildkit_proto::messages::session::{CheckAgentRequest, CheckAgentResponse};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const CHECK: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD: &str = "/moby.sshforward.v1.SSH/ForwardAgent";
/// Bytes of one piece.
const PIECE: usize = 32 * 1024;

/// Sockets of agents by their ids.
pub(super) struct Agents(HashMap<String, String>);

impl Agents {
    pub(super) fn new(agents: &[(String, String)]) -> Self {
        Self(agents.iter().cloned().collect())
    }

    /// What can be called.
    pub(super) fn methods(&self) -> &'static [&'static str] {
        if self.0.is_empty() { &[] } else { &[CHECK, FORWARD] }
    }
}

impl Service for Agents {
    fn call(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<(), Status>> {
        Box::pin(async move {
            match call.path.as_str() {
                CHECK => {
                    call.unary(|request: CheckAgentRequest| async move {
                        self.find(&request.id).map(|_| CheckAgentResponse {})
                    })
                    .await
                }
                FORWARD => self.forward(call).await,
                other => Err(Status::unimplemented(other)),
            }
        })
    }
}

impl Agents {
    fn find(&self, id: &str) -> Result<&str, Status> {
        let id = if id.is_empty() { "default" } else { id };
        let found = self.0.get(id).map(String::as_str);
        found.ok_or_else(|| Status::new(Code::NotFound, format!("unset ssh forward key {id}")))
    }

    async fn forward(&self, mut call: Call) -> Result<(), Status> {
        let path = self.find(call.text("buildkit.ssh.id"))?;
        let agent =
            UnixStream::connect(path).await.map_err(|error| Status::failed(format!("connect {path}: {error}")))?;
        let (mut from, mut into) = agent.into_split();
        let incoming = async {
            while let Some(piece) = call.requests.next::<BytesMessage>().await? {
                into.write_all(&piece.data).await.map_err(Status::unavailable)?;
            }
            into.shutdown().await.map_err(Status::unavailable)
        };
        let outgoing = async {
            let mut buffer = vec![0; PIECE];
            loop {
                let read = from.read(&mut buffer).await.map_err(Status::unavailable)?;
                if read == 0 {
                    return Ok(());
                }
                call.replies.send(&BytesMessage { data: Bytes::copy_from_slice(&buffer[..read]) }).await?;
            }
        };
        let (incoming, outgoing) = tokio::join!(incoming, outgoing);
        incoming.and(outgoing)
    }
}
