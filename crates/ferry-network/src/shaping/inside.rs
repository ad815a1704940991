//! Limits of links that have no end on the host: those of macvlan and ipvlan networks, and what plugins made. They are kept in the
//! container's own namespace.
//!
//! Whoever may administer that namespace, or send and receive raw frames there, can go around them, so they are for containers that may
//! neither; whoever asks for them sees to that (`docs/design/traffic-limits.md`). What goes out waits at the link itself; what comes in is led
//! through a link of its own, which the container sees, and which ends with the namespace or when the link is left.

use super::{Detour, Shaping, ask, ask_away, bucket, delay_and_limit, delete};
use crate::{
    error::Error,
    netlink::{
        Netlink,
        route::{self, Link},
        traffic::{self, Place},
    },
    sandbox::Sandbox,
};

/// Brings a link inside of a sandbox to what is asked for.
pub(crate) fn apply(sandbox: &Sandbox, interface: &str, shaping: &Shaping) -> Result<(), Error> {
    sandbox.with_netlink(|inside| {
        let link = route::link_by_name(inside, interface)
            .map_err(|source| Error::kernel("look up link", interface, source))?
            .ok_or_else(|| Error::NoSuchLink(interface.to_owned()))?;
        delay_and_limit(inside, &link, shaping)?;
        match shaping.in_bits {
            0 => unshape_in(inside, &link),
            bits => shape_in(inside, &link, bits),
        }
    })
}

fn shape_in(inside: &mut Netlink, link: &Link, bits: u64) -> Result<(), Error> {
    // Numbers of links are not given twice in a namespace, and names fit whatever the link is called.
    let detour = Detour { name: format!("fi{}", link.index), alias: alias(&link.name) };
    let detour = detour.ensure(inside, link)?;
    ask(inside, "tbf", &detour.name, bucket(detour.index, Place::Root, bits))
}

fn unshape_in(inside: &mut Netlink, link: &Link) -> Result<(), Error> {
    ask_away(inside, traffic::ignore_ingress(link.index), &link.name)?;
    remove_detour(inside, &link.name)
}

/// Removes the link that what came in by another one was led through, whether that is still there or not.
pub(crate) fn remove_detour(inside: &mut Netlink, interface: &str) -> Result<(), Error> {
    let alias = alias(interface);
    let links = route::links(inside).map_err(|source| Error::kernel("list", "links", source))?;
    for detour in links.iter().filter(|link| link.alias.as_ref() == Some(&alias)) {
        delete(inside, detour.index).map_err(|source| Error::kernel("delete link", &detour.name, source))?;
    }
    Ok(())
}

fn alias(interface: &str) -> String {
    format!("ferry:limit of {interface}")
}
