//! Networks of a container that runs: joined and left while it does.

use std::os::fd::BorrowedFd;

use ferry_network::{PublishedPort, Sandbox};

use super::connect::Wish;
use super::places::{Gateways, Place, view};
use super::record::Driver;
use super::{Networks, find};
use crate::containers::record::EndpointRecord;
use crate::error::{Context, Error, Result};

/// A place that is the way out of no family.
const NOT_OUT: (bool, bool) = (false, false);

/// A running container as its record knows it.
pub(crate) struct Running<'a> {
    /// What it wants, with every network that it is in or is to be in, in one order with `given`.
    pub(crate) wish: Wish,
    /// What it has.
    pub(crate) given: Vec<EndpointRecord>,
    /// Its first process; none when it has just ended.
    pub(crate) process: Option<BorrowedFd<'a>>,
    /// Ports that are published now.
    pub(crate) published: Vec<PublishedPort>,
}

/// What a change made of it.
pub(crate) struct Changed {
    /// The place that is new; none when a network was left.
    pub(crate) endpoint: Option<EndpointRecord>,
    /// Ports that are published from now on.
    pub(crate) published: Vec<PublishedPort>,
}

impl Networks {
    /// Joins the last network of the wish. Blocks; on failure nothing has changed.
    pub(crate) fn join(&self, running: &Running<'_>) -> Result<Changed> {
        let wish = &running.wish;
        let asked = wish.endpoints.last().ok_or_else(|| Error::internal("no network to join"))?;
        self.check_limits(wish)?;
        let sandbox = self.sandbox_of(running.process)?;
        let mut places = self.places(running)?;
        let before = Gateways::of(&places);
        let taken: Vec<String> = running.given.iter().map(|endpoint| endpoint.interface.clone()).collect();
        let mut place = self.take_place(wish, asked, &taken)?;
        if let Err(error) = self.join_remotes(&sandbox, wish, std::slice::from_mut(&mut place)) {
            self.leave_remote_place(&place, &wish.container_id);
            return Err(error);
        }
        places.push(place.clone());
        match self.bring_in(&sandbox, wish, &places, before, running) {
            Ok(published) => {
                self.publish_event("connect", &place.endpoint.network_id, &wish.container_id);
                Ok(Changed { endpoint: Some(place.endpoint), published })
            }
            Err(error) => {
                if place.network.driver == Driver::Plugin {
                    self.give_back_link(&sandbox, &place);
                } else if let Ok(spec) = place.endpoint_spec(wish, NOT_OUT)
                    && let Err(second) = self.inner.networking.detach(&sandbox, &spec)
                {
                    tracing::warn!(container = %wish.container_name, error = %second, "half-made endpoint left behind");
                }
                self.leave_remote_place(&place, &wish.container_id);
                Err(error)
            }
        }
    }

    fn bring_in(
        &self,
        sandbox: &Sandbox,
        wish: &Wish,
        places: &[Place],
        before: Gateways,
        running: &Running<'_>,
    ) -> Result<Vec<PublishedPort>> {
        let place = places.last().expect("just joined");
        let spec = place.endpoint_spec(wish, NOT_OUT)?;
        // Before there is a way, and again when there is: the port is known then.
        self.restrict(wish, places)?;
        let attached = match place.network.driver {
            Driver::Plugin => Ok(()),
            _ => self.inner.networking.attach(sandbox, &spec),
        };
        attached.context(format!("cannot attach to network {}", place.network.name))?;
        self.restrict(wish, places)?;
        self.introduce(sandbox, wish, places)?;
        self.follow_gateway(sandbox, wish, places, before, &running.published)
    }

    /// Leaves a network that the container is in. Blocks. What cannot be undone in the kernel is told, and the container is out all the same.
    pub(crate) fn leave(&self, running: &Running<'_>, network_id: &str) -> Result<Changed> {
        let wish = &running.wish;
        let sandbox = self.sandbox_of(running.process)?;
        let mut places = self.places(running)?;
        let at = running.given.iter().position(|endpoint| endpoint.network_id == network_id);
        let at = at.ok_or_else(|| Error::internal("the container is not in that network"))?;
        let before = Gateways::of(&places);
        let left = places.remove(at);
        if !left.network.driver.has_endpoints() {
            // `none`: there is nothing to take away.
            self.leave_place(network_id, &wish.container_id);
            self.publish_event("disconnect", network_id, &wish.container_id);
            return Ok(Changed { endpoint: None, published: running.published.clone() });
        }
        let spec = left.endpoint_spec(wish, NOT_OUT)?;
        match left.network.driver {
            Driver::Plugin => self.give_back_link(&sandbox, &left),
            _ => {
                let detached = self.inner.networking.detach(&sandbox, &spec);
                detached.context(format!("cannot leave network {}", left.network.name))?;
            }
        }
        if left.network.user_defined
            && let Err(error) = self.inner.networking.leave_names(network_id, &wish.container_id)
        {
            tracing::warn!(container = %wish.container_name, %error, "names of a left network stay for now");
        }
        self.leave_remote_place(&left, &wish.container_id);
        let mut rest = wish.clone();
        rest.endpoints.remove(at);
        self.restrict(&rest, &places)?;
        self.introduce(&sandbox, &rest, &places)?;
        let before = before.without(at);
        let published = self.follow_gateway(&sandbox, &rest, &places, before, &running.published)?;
        self.publish_event("disconnect", network_id, &wish.container_id);
        Ok(Changed { endpoint: None, published })
    }

    /// Default route and published ports go with the gateway's endpoint.
    fn follow_gateway(
        &self,
        sandbox: &Sandbox,
        wish: &Wish,
        places: &[Place],
        before: Gateways,
        published: &[PublishedPort],
    ) -> Result<Vec<PublishedPort>> {
        let now = Gateways::of(places);
        if now == before && now != Gateways::default() {
            return Ok(published.to_vec());
        }
        let networking = &self.inner.networking;
        let ways: Vec<usize> = (0..places.len()).filter(|at| now.is(*at) != NOT_OUT).collect();
        let specs = ways.iter().map(|at| places[*at].endpoint_spec(wish, now.is(*at)));
        let specs = specs.collect::<Result<Vec<_>>>()?;
        let names = ways.iter().map(|at| places[*at].network.name.as_str()).collect::<Vec<_>>().join(", ");
        networking.set_gateways(sandbox, &specs).context(format!("cannot go out by network {names}"))?;
        if published.is_empty() && wish.ports.is_empty() {
            return Ok(Vec::new());
        }
        networking.unpublish(&wish.container_id).context("cannot move published ports")?;
        self.publish_ports(wish, places, now)
    }

    /// Where the container is now.
    pub(super) fn places(&self, running: &Running<'_>) -> Result<Vec<Place>> {
        let table = self.table();
        let places = running.given.iter().map(|endpoint| {
            Ok(Place { endpoint: endpoint.clone(), network: view(find(&table, &endpoint.network_id)?) })
        });
        places.collect()
    }
}
