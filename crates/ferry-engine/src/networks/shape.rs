//! Limits of what a container sends and receives, in each of its networks.
//!
//! Where a network has a bridge they are kept on the host. Elsewhere there is nothing but the container's own namespace to keep them in, so that
//! they are for containers that cannot go around them there: `docs/design/traffic-limits.md`.

use std::os::fd::BorrowedFd;

use ferry_network::Sandbox;

use super::connect::Wish;
use super::live::Running;
use super::places::Place;
use super::record::{Driver, NetworkRecord};
use super::{Networks, find};
use crate::error::{Context, Error, Result};

impl Driver {
    /// Whether links of containers have an end on the host.
    fn has_host_ends(self) -> bool {
        !matches!(self, Self::Macvlan | Self::Ipvlan | Self::Plugin)
    }
}

/// A plugin that sees to the container itself leaves nothing that could be limited.
pub(super) fn refuse_without_link(wish: &Wish, place: &Place) -> Result<()> {
    match wish.shaping.is_any() {
        true => Err(Error::invalid(format!(
            "limits of network traffic cannot be kept in network {}: its plugin makes no link of its own for a container",
            place.network.name
        ))),
        false => Ok(()),
    }
}

impl Networks {
    /// Refuses limits that the container could go around.
    pub(crate) fn check_limits(&self, wish: &Wish) -> Result<()> {
        let Some(right) = wish.way_around.as_deref().filter(|_| wish.shaping.is_any()) else { return Ok(()) };
        let table = self.table();
        // One that is not there is told by what comes next.
        let mut records = wish.endpoints.iter().filter_map(|asked| Some(&find(&table, &asked.network).ok()?.record));
        match records.find(|record| !record.driver.has_host_ends()) {
            Some(record) => Err(way_around(record, right)),
            None => Ok(()),
        }
    }

    /// Limits the traffic of a container that runs, or ends its limits. Blocks.
    pub(crate) fn shape_running(&self, running: &Running<'_>) -> Result<()> {
        self.shape(&running.wish, &self.places(running)?, running.process)
    }

    /// Whether this kernel can delay and lose packets. Blocks.
    pub(crate) fn can_delay(&self) -> std::result::Result<bool, ferry_network::Error> {
        self.inner.networking.can_delay()
    }

    pub(super) fn shape(&self, wish: &Wish, places: &[Place], process: Option<BorrowedFd<'_>>) -> Result<()> {
        const FAILED: &str = "cannot limit the traffic of the container";
        let networking = &self.inner.networking;
        networking.shape(&wish.container_id, &wish.shaping).context(FAILED)?;
        let mut sandbox: Option<Sandbox> = None;
        for place in
            places.iter().filter(|place| !place.network.driver.has_host_ends() && !place.endpoint.interface.is_empty())
        {
            let sandbox = match &sandbox {
                Some(sandbox) => sandbox,
                None => sandbox.insert(self.sandbox_of(process)?),
            };
            networking.shape_inside(sandbox, &place.endpoint.interface, &wish.shaping).context(FAILED)?;
        }
        Ok(())
    }
}

fn way_around(record: &NetworkRecord, right: &str) -> Error {
    Error::invalid(format!(
        "limits of network traffic cannot be kept in network {}: the driver is {}, with which they are in the container's own namespace, and with {right} the container could go around them; take it away (`--cap-drop {}`)",
        record.name,
        record.driver_name(),
        right.trim_start_matches("CAP_")
    ))
}
