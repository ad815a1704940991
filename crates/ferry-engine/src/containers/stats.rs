//! `GET /containers/{id}/stats`: what a container uses, read once a second while somebody listens.

mod sampler;
mod shape;

use std::sync::Arc;

use ferry_api::container::Stats;
use ferry_shim::protocol::{Reply, Request, ShimErrorKind};

pub(super) use self::sampler::Sampler;
pub use self::sampler::StatsSession;
use super::state::Status;
use super::{Container, Containers};
use crate::error::{Error, Result};
use crate::shims::ShimCallError;

impl Containers {
    /// Reads once. Without `one_shot` a second reading is waited for, so that the answer holds both.
    ///
    /// API: `GET /containers/{id}/stats?stream=false`
    ///
    /// # Errors
    /// NotFound; what reading fails with. A container that does not run is no error: everything is zero.
    pub async fn stats_once(&self, reference: &str, one_shot: bool) -> Result<Stats> {
        let container = self.find(reference)?;
        if container.live().is_none() || container.status() == Status::Restarting {
            return Ok(shape::nothing(&container));
        }
        if one_shot {
            return self.read_stats(&container).await;
        }
        let mut session = self.listen(&container);
        let first = session.next().await;
        let second = session.next().await.or(first);
        second.ok_or_else(|| Error::not_found(format!("No such container: {reference}")))
    }

    /// Listens to a container's readings; all listeners share them.
    ///
    /// API: `GET /containers/{id}/stats`
    ///
    /// # Errors
    /// NotFound.
    pub fn stats(&self, reference: &str) -> Result<StatsSession> {
        Ok(self.listen(&self.find(reference)?))
    }

    /// One reading, without the one before it.
    async fn read_stats(&self, container: &Arc<Container>) -> Result<Stats> {
        let Some(live) = container.live() else { return Ok(shape::nothing(container)) };
        let usage = match live.shim.call(Request::Usage, &[]).await {
            Ok(Reply::Usage(usage)) => usage,
            Ok(_) => return Err(Error::internal("the shim gave an answer that does not fit")),
            // It has ended a moment ago.
            Err(ShimCallError::Gone(_)) => return Ok(shape::nothing(container)),
            Err(ShimCallError::Refused(error)) if error.kind == ShimErrorKind::NotRunning => {
                return Ok(shape::nothing(container));
            }
            Err(error) => {
                let text = format!("cannot read what container {} uses", container.name());
                return Err(Error::internal(text).with_source(error));
            }
        };
        let has_own_network = container.with_record(|record| record.host_config.network_mode != "host");
        Ok(shape::stats(container, *usage, has_own_network))
    }
}
