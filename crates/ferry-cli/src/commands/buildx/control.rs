//! A connection to the builder by BuildKit's own protocol.

use ferry_buildkit_proto::Message;
use ferry_buildkit_proto::grpc::{Channel, Metadata, Replies, Status};

use super::{check_builder, failed};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;

/// Where the methods of the builder are.
const CONTROL: &str = "/moby.buildkit.v1.Control/";

/// The connection, as long as this lives.
pub(super) struct Control {
    channel: Channel,
    driving: tokio::task::JoinHandle<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

impl Control {
    /// Opens one to the builder that is asked for.
    pub(super) async fn open(parsed: &Parsed, context: &Context) -> Result<Self> {
        check_builder(parsed)?;
        let taken = context.client().await?.build_control().await?;
        let connected = Channel::connect(tokio::io::join(taken.output, taken.input)).await;
        let (channel, driving) = connected.map_err(worded)?;
        Ok(Self { channel, driving: tokio::spawn(driving) })
    }

    /// Asks for one answer.
    pub(super) async fn ask<A: Message + Default>(&self, method: &str, question: &impl Message) -> Result<A> {
        self.channel.unary(&format!("{CONTROL}{method}"), question).await.map_err(worded)
    }

    /// Asks for answers, as many as there are.
    pub(super) async fn listen(&self, method: &str, question: &impl Message) -> Result<Replies> {
        self.listen_to(&format!("{CONTROL}{method}"), question).await
    }

    /// As [`Self::listen`], of any service.
    pub(super) async fn listen_to(&self, path: &str, question: &impl Message) -> Result<Replies> {
        let (sender, replies) = self.channel.stream(path, Metadata::new());
        sender.send(question).await.map_err(worded)?;
        Ok(replies)
    }
}

/// The next answer.
pub(super) async fn next<M: Message + Default>(replies: &mut Replies) -> Result<Option<M>> {
    replies.next().await.map_err(worded)
}

fn worded(status: Status) -> Failure {
    failed(status.message)
}
