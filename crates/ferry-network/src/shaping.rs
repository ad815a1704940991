//! Limits of bandwidth, delay and loss of a container's endpoints.
//!
//! Where a link has an end on the host, all of it is there: a container cannot change it, whatever rights it has in its own namespace. What
//! goes into a container waits at the host end of its link. What comes out is led through a link of its own (`ifb`), where it waits: a
//! program is slowed down by that, while a plain limit would make it send everything twice. That link carries the container's mark, so
//! that a sweep finds it. Links without such an end are in `inside`.

pub(crate) mod inside;

use std::io;

use crate::{
    bridge::delete,
    error::Error,
    netlink::{
        Netlink, Refused, Request,
        route::{self, Link},
        traffic::{self, Place},
    },
    sandbox::Sandbox,
    types::InstanceId,
};

/// What limits the traffic of each endpoint of a container; zero is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shaping {
    /// Bits a second into the container.
    pub in_bits: u64,
    /// Bits a second out of it.
    pub out_bits: u64,
    /// How much later arrives what the container sends, in nanoseconds.
    pub delay_ns: u64,
    /// How many of a million packets that it sends get lost.
    pub loss_ppm: u32,
}

impl Shaping {
    /// Whether anything is limited.
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    fn shapes_out(&self) -> bool {
        self.out_bits > 0 || self.delays()
    }

    fn delays(&self) -> bool {
        self.delay_ns > 0 || self.loss_ppm > 0
    }
}

/// What may go at once, whatever the rate: some packets of the largest MTU that there is in practice.
const LEAST_BURST_BYTES: u64 = 32 * 1024;
/// Packets that are under way where they are delayed.
const DELAYED_PACKETS: u32 = 100_000;
/// Where a plain queue is taken from.
const PROBED_LINK: u32 = 1;

/// Brings the link of a host end to what is asked for.
pub(crate) fn apply(
    netlink: &mut Netlink,
    instance: &InstanceId,
    container_id: &str,
    host_end: &Link,
    shaping: &Shaping,
) -> Result<(), Error> {
    shape_in(netlink, host_end, shaping)?;
    match shaping.shapes_out() {
        true => shape_out(netlink, instance, container_id, host_end, shaping),
        false => unshape_out(netlink, instance, host_end),
    }
}

fn shape_in(netlink: &mut Netlink, host_end: &Link, shaping: &Shaping) -> Result<(), Error> {
    match shaping.in_bits {
        0 => ask_away(netlink, traffic::delete_root(host_end.index), &host_end.name),
        bits => ask(netlink, "tbf", &host_end.name, bucket(host_end.index, Place::Root, bits)),
    }
}

fn shape_out(
    netlink: &mut Netlink,
    instance: &InstanceId,
    container_id: &str,
    host_end: &Link,
    shaping: &Shaping,
) -> Result<(), Error> {
    let detour = Detour { name: instance.detour_link(&host_end.name), alias: instance.alias(container_id) };
    let detour = detour.ensure(netlink, host_end)?;
    delay_and_limit(netlink, &detour, shaping)
}

/// What the container sends waits in the queue of this link.
fn delay_and_limit(netlink: &mut Netlink, link: &Link, shaping: &Shaping) -> Result<(), Error> {
    // What waits there is lost with the change, as by any change of a queue.
    ask_away(netlink, traffic::delete_root(link.index), &link.name)?;
    let mut place = Place::Root;
    if shaping.delays() {
        let request = traffic::emulation(link.index, shaping.delay_ns, shaping.loss_ppm, DELAYED_PACKETS);
        ask(netlink, "netem", &link.name, request)?;
        place = Place::Inner;
    }
    match shaping.out_bits {
        0 => Ok(()),
        bits => ask(netlink, "tbf", &link.name, bucket(link.index, place, bits)),
    }
}

/// A link that what comes in by another one is led through first, and waits in.
struct Detour {
    name: String,
    /// By which it is known again.
    alias: String,
}

impl Detour {
    /// Makes it, with the way into it.
    fn ensure(&self, netlink: &mut Netlink, watched: &Link) -> Result<Link, Error> {
        let failed = |call| move |source| Error::kernel(call, &self.name, source);
        if let Some(found) = route::link_by_name(netlink, &self.name).map_err(failed("look up link"))? {
            if found.alias.as_ref() != Some(&self.alias) {
                return Err(Error::LinkTaken { link: self.name.clone(), owner: "belongs to somebody else".to_owned() });
            }
            return Ok(found);
        }
        match netlink.send(&[route::new_link_of_kind(&self.name, "ifb")]) {
            Ok(()) => {}
            Err(Refused { source, .. }) if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                return Err(Error::NoKind("ifb"));
            }
            Err(Refused { source, .. }) => return Err(Error::kernel("create link", &self.name, source)),
        }
        let made = self.lead_through(netlink, watched);
        if made.is_err()
            && let Ok(Some(half_made)) = route::link_by_name(netlink, &self.name)
            && let Err(error) = delete(netlink, half_made.index)
        {
            tracing::warn!(link = self.name, %error, "cannot remove a half-made link");
        }
        made
    }

    fn lead_through(&self, netlink: &mut Netlink, watched: &Link) -> Result<Link, Error> {
        netlink
            .send(&[route::mark_and_set_up(&self.name, &self.alias)])
            .map_err(|refused| Error::kernel("set up link", &self.name, refused.source))?;
        let made = route::link_by_name(netlink, &self.name);
        let made = made
            .map_err(|source| Error::kernel("look up link", &self.name, source))?
            .ok_or_else(|| Error::NoSuchLink(self.name.clone()))?;
        // What led to an earlier one that somebody took away.
        ask_away(netlink, traffic::ignore_ingress(watched.index), &watched.name)?;
        ask(netlink, "ingress", &watched.name, traffic::watch_ingress(watched.index))?;
        ask(netlink, "mirred", &watched.name, traffic::redirect_ingress(watched.index, made.index))?;
        Ok(made)
    }
}

fn unshape_out(netlink: &mut Netlink, instance: &InstanceId, host_end: &Link) -> Result<(), Error> {
    let name = instance.detour_link(&host_end.name);
    let failed = |source| Error::kernel("look up link", &name, source);
    let Some(detour) = route::link_by_name(netlink, &name).map_err(failed)? else { return Ok(()) };
    ask_away(netlink, traffic::ignore_ingress(host_end.index), &host_end.name)?;
    delete(netlink, detour.index).map_err(|source| Error::kernel("delete link", &name, source))
}

/// Brings every endpoint of a container that has a host end to what is asked for.
pub(crate) fn apply_to_all(
    netlink: &mut Netlink,
    instance: &InstanceId,
    container_id: &str,
    shaping: &Shaping,
) -> Result<(), Error> {
    let links = links_of(netlink, instance, container_id)?;
    let mut host_ends = links.iter().filter(|link| instance.is_host_link(&link.name));
    host_ends.try_for_each(|host_end| apply(netlink, instance, container_id, host_end, shaping))
}

/// Removes the links of a container that nothing is led through any more: all, or those whose host end has gone.
pub(crate) fn remove_detours(
    netlink: &mut Netlink,
    instance: &InstanceId,
    container_id: &str,
    all: bool,
) -> Result<(), Error> {
    let links = links_of(netlink, instance, container_id)?;
    let lives = |name: &str| links.iter().any(|link| instance.detour_link(&link.name) == name && link.name != name);
    for detour in links.iter().filter(|link| instance.is_detour_link(&link.name)) {
        if all || !lives(&detour.name) {
            delete(netlink, detour.index).map_err(|source| Error::kernel("delete link", &detour.name, source))?;
        }
    }
    Ok(())
}

fn links_of(netlink: &mut Netlink, instance: &InstanceId, container_id: &str) -> Result<Vec<Link>, Error> {
    let alias = instance.alias(container_id);
    let mut links = route::links(netlink).map_err(|source| Error::kernel("list", "links", source))?;
    links.retain(|link| link.alias.as_deref() == Some(&alias));
    Ok(links)
}

/// Tells whether the kernel can delay and lose packets; tried in a namespace of its own.
pub(crate) fn can_delay() -> Result<bool, Error> {
    let sandbox = Sandbox::new()?;
    sandbox.with_netlink(|inside| {
        match ask(inside, "netem", "lo", traffic::emulation(PROBED_LINK, 1_000_000, 0, DELAYED_PACKETS)) {
            Ok(()) => Ok(true),
            Err(Error::NoQueueing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    })
}

fn bucket(link: u32, place: Place, bits: u64) -> Request {
    let bytes = (bits / 8).max(1);
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    // Ten milliseconds at once, and a queue of a hundred: short enough to be felt as slowness, not as delay.
    let burst = (bytes / 100).max(LEAST_BURST_BYTES);
    traffic::token_bucket(link, place, bytes, narrow(burst), narrow(burst.saturating_add(bytes / 10)))
}

fn ask(netlink: &mut Netlink, what: &'static str, link: &str, request: Request) -> Result<(), Error> {
    match netlink.send(&[request]) {
        Ok(()) => Ok(()),
        // Neither built in nor a module that could be loaded.
        Err(Refused { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => Err(Error::NoQueueing(what)),
        Err(Refused { source, .. }) => Err(Error::kernel("limit the traffic of", link, source)),
    }
}

/// Asks for something to go that may not be there.
fn ask_away(netlink: &mut Netlink, request: Request, link: &str) -> Result<(), Error> {
    match netlink.send(&[request]) {
        Err(Refused { source, .. }) if !is_absent(&source) => {
            Err(Error::kernel("end the limit of the traffic of", link, source))
        }
        _ => Ok(()),
    }
}

/// A link has no discipline of its own until it is given one, and a link that has gone has none at all.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV))
}
