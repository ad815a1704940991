//! Queueing disciplines and filters: requests as functions, written by hand after `linux/pkt_sched.h`, `pkt_cls.h` and `tc_act/tc_mirred.h`.

use crate::netlink::{Request, attribute::Attributes, flag};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;

/// `TC_H_ROOT`
const ROOT: u32 = 0xffff_ffff;
/// `TC_H_INGRESS`
const INGRESS: u32 = 0xffff_fff1;
/// The handle that the kernel gives a discipline for what comes in.
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// Where a discipline that has another inside is found.
const OUTER_HANDLE: u32 = 0x0001_0000;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;

/// Where a discipline stands on its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The link's own.
    Root,
    /// Inside the one that delays.
    Inner,
}

fn message(kind: u16, flags: u16, head: [u32; 4], attributes: impl FnOnce(Attributes) -> Attributes) -> Request {
    let [link, handle, parent, info] = head;
    let mut bytes = vec![0; 4];
    for word in [link, handle, parent, info] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    Request { kind, flags, payload: attributes(Attributes::after(&bytes)).into_bytes() }
}

/// A bucket of tokens: `rate_bytes` a second, `burst_bytes` at once, and what waits longer than a `limit_bytes` queue is dropped.
pub(crate) fn token_bucket(link: u32, place: Place, rate_bytes: u64, burst_bytes: u32, limit_bytes: u32) -> Request {
    const PARAMETERS: u16 = 1;
    const RATE64: u16 = 4;
    const BURST: u16 = 6;
    let parent = match place {
        Place::Root => ROOT,
        Place::Inner => OUTER_HANDLE | 1,
    };
    let rate32 = u32::try_from(rate_bytes).unwrap_or(u32::MAX);
    // struct tc_tbf_qopt: rate, peak rate, limit, buffer, mtu. The link layer is said so that no table of costs is asked for.
    let rate = |bytes: u32| {
        let mut spec = vec![0, u8::from(bytes > 0), 0, 0, 0, 0, 0, 0];
        spec.extend_from_slice(&bytes.to_ne_bytes());
        spec
    };
    let words = [limit_bytes, 0, 0].map(u32::to_ne_bytes).concat();
    let parameters = [rate(rate32), rate(0), words].concat();
    let options = Attributes::default()
        .bytes(PARAMETERS, &parameters)
        .bytes(BURST, &burst_bytes.to_ne_bytes())
        .bytes(RATE64, &rate_bytes.to_ne_bytes());
    message(RTM_NEWQDISC, flag::ACK | flag::CREATE | flag::REPLACE, [link, 0, parent, 0], |attributes| {
        attributes.text(KIND, "tbf").nested(OPTIONS, options)
    })
}

/// What leaves the link does so later, and some of it never: `loss_ppm` of a million packets.
pub(crate) fn emulation(link: u32, delay_ns: u64, loss_ppm: u32, limit_packets: u32) -> Request {
    // The kernel counts in ticks of 64 nanoseconds, and chances in parts of 2^32.
    let ticks = u32::try_from(delay_ns >> 6).unwrap_or(u32::MAX);
    let chance = u64::from(loss_ppm.min(1_000_000)) * u64::from(u32::MAX) / 1_000_000;
    let chance = u32::try_from(chance).unwrap_or(u32::MAX);
    // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
    let options = [ticks, limit_packets, chance, 0, 0, 0].map(u32::to_ne_bytes).concat();
    message(RTM_NEWQDISC, flag::ACK | flag::CREATE | flag::REPLACE, [link, OUTER_HANDLE, ROOT, 0], |attributes| {
        attributes.text(KIND, "netem").bytes(OPTIONS, &options)
    })
}

/// Gives a link its plain queue back.
pub(crate) fn delete_root(link: u32) -> Request {
    message(RTM_DELQDISC, flag::ACK, [link, 0, ROOT, 0], |attributes| attributes)
}

/// Lets filters see what comes in by a link.
pub(crate) fn watch_ingress(link: u32) -> Request {
    message(RTM_NEWQDISC, flag::ACK | flag::CREATE | flag::REPLACE, [link, INGRESS_HANDLE, INGRESS, 0], |attributes| {
        attributes.text(KIND, "ingress")
    })
}

/// Ends that, with all filters.
pub(crate) fn ignore_ingress(link: u32) -> Request {
    message(RTM_DELQDISC, flag::ACK, [link, INGRESS_HANDLE, INGRESS, 0], |attributes| attributes)
}

/// Leads all that comes in by a link through another one first.
pub(crate) fn redirect_ingress(link: u32, through: u32) -> Request {
    const SELECTOR: u16 = 5;
    const ACTIONS: u16 = 7;
    const TERMINAL: u8 = 1;
    const STOLEN: u32 = 4;
    const EGRESS_REDIRECT: u32 = 1;
    let priority_and_protocol = 1 << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
    // struct tc_u32_sel with one key that all packets have: no bit is compared.
    let mut selector = vec![0; 16 + 16];
    selector[0] = TERMINAL;
    selector[2] = 1;
    // struct tc_mirred: index, capabilities, action, references, bindings, what is done, link.
    let parameters = [0, 0, STOLEN, 0, 0, EGRESS_REDIRECT, through].map(u32::to_ne_bytes).concat();
    let action = Attributes::default().text(1, "mirred").nested(2, Attributes::default().bytes(2, &parameters));
    let options =
        Attributes::default().bytes(SELECTOR, &selector).nested(ACTIONS, Attributes::default().nested(1, action));
    message(
        RTM_NEWTFILTER,
        flag::ACK | flag::CREATE | flag::EXCL,
        [link, 0, INGRESS_HANDLE, priority_and_protocol],
        |attributes| attributes.text(KIND, "u32").nested(OPTIONS, options),
    )
}
