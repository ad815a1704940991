//! When an IPv6 address can be asked for.
//!
//! A neighbour asks for an address by a packet to the address's solicited-node group (RFC 4291, 2.7.1).
//! The kernel has acknowledged a new address before a worker of its own makes the link listen to that
//! group; what is asked in between is lost, and asked again only after a second.

use std::{
    io,
    net::Ipv6Addr,
    thread,
    time::{Duration, Instant},
};

use ipnet::IpNet;

use crate::netlink::{Netlink, route};

/// The worker waits for whoever else changes links; one that takes longer than this is not waited for.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_micros(200);

/// Waits until those of `addresses` that are IPv6 ones are heard when they are asked for on a link.
pub(crate) fn wait(netlink: &mut Netlink, index: u32, addresses: impl IntoIterator<Item = IpNet>) -> io::Result<()> {
    let wanted: Vec<_> = addresses.into_iter().filter_map(group).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let groups = route::groups(netlink, index)?;
        if wanted.iter().all(|group| groups.contains(group)) || Instant::now() > end {
            return Ok(());
        }
        // The kernel tells nobody of a group.
        thread::sleep(PAUSE);
    }
}

/// The solicited-node group of an address: the last 24 bits behind a fixed beginning.
fn group(net: IpNet) -> Option<Ipv6Addr> {
    let IpNet::V6(net) = net else { return None };
    let [.., last_but_one, last] = net.addr().segments();
    Some(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (last_but_one & 0xff), last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_the_last_three_bytes() {
        // The example of RFC 4291, 2.7.1.
        let net = "4037::01:800:200e:8c6c/64".parse().expect("a net");
        assert_eq!(group(net), Some("ff02::1:ff0e:8c6c".parse().expect("an address")));
        assert_eq!(group("10.0.0.1/8".parse().expect("a net")), None);
    }
}
