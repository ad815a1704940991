//! Addresses of one subnet: who has which is kept in memory and derived from records after a start.
//!
//! Pure. The lowest free address is given first, as Docker does, so a container that is alone on a
//! new /16 gets `.2`.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// The addresses of a subnet and which of them are taken.
#[derive(Debug, Clone)]
pub struct AddressPool {
    subnet: IpNet,
    first: u128,
    last: u128,
    taken: BTreeSet<u128>,
    lowest_candidate: u128,
}

/// Why an address was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Every address is taken.
    #[error("no available {} addresses on this network's address pools", family(.0))]
    Exhausted(IpNet),
    /// The wanted address is taken.
    #[error("Address already in use")]
    Taken(IpAddr),
    /// The wanted address is not of the subnet, or is its network or broadcast address.
    #[error("invalid address: {address}: it does not belong to subnet {subnet}")]
    OutOfRange {
        /// The address asked for.
        address: IpAddr,
        /// The pool's subnet.
        subnet: IpNet,
    },
}

fn family(subnet: &IpNet) -> &'static str {
    match subnet {
        IpNet::V4(_) => "IPv4",
        IpNet::V6(_) => "IPv6",
    }
}

impl AddressPool {
    /// Makes a pool of `subnet`; addresses are given from `range` only, when there is one, but any
    /// address of the subnet can be reserved. The gateway is taken from the start. A range that is not of the subnet has
    /// nothing to give.
    ///
    /// # Errors
    /// `OutOfRange` when the gateway is not of the subnet.
    pub fn new(subnet: IpNet, range: Option<IpNet>, gateway: Option<IpAddr>) -> Result<Self, PoolError> {
        let subnet = subnet.trunc();
        let given = range.unwrap_or(subnet).trunc();
        let (low, high) = usable(subnet);
        let first = number(given.network()).max(low);
        let last = number(given.broadcast()).min(high);
        let mut pool = Self { subnet, first, last, taken: BTreeSet::new(), lowest_candidate: first };
        if let Some(gateway) = gateway {
            pool.reserve(gateway)?;
        }
        Ok(pool)
    }

    /// Returns the subnet.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// Returns how many addresses of the subnet are in use, those that no host may have among them, and how many can still be given out.
    pub fn usage(&self) -> (u64, u64) {
        let saturated = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        let taken = |low: u128, high: u128| if low > high { 0 } else { self.taken.range(low..=high).count() as u128 };
        let (network, broadcast) = (number(self.subnet.network()), number(self.subnet.broadcast()));
        let (low, high) = usable(self.subnet);
        let reserved = (low - network) + (broadcast - high);
        let in_use = taken(network, broadcast) + reserved;
        let size = if self.last < self.first { 0 } else { self.last - self.first + 1 };
        (saturated(in_use), saturated(size - taken(self.first, self.last).min(size)))
    }

    /// Takes the lowest free address.
    ///
    /// # Errors
    /// `Exhausted` when none is free.
    pub fn allocate(&mut self) -> Result<IpAddr, PoolError> {
        let mut candidate = self.lowest_candidate;
        for taken in self.taken.range(candidate..) {
            if *taken != candidate {
                break;
            }
            candidate = candidate.saturating_add(1);
        }
        if candidate > self.last {
            return Err(PoolError::Exhausted(self.subnet));
        }
        self.taken.insert(candidate);
        self.lowest_candidate = candidate.saturating_add(1);
        Ok(self.address(candidate))
    }

    /// Takes a particular address.
    ///
    /// # Errors
    /// `Taken` when somebody has it, `OutOfRange` when it is not of the subnet.
    pub fn reserve(&mut self, address: IpAddr) -> Result<(), PoolError> {
        let (low, high) = usable(self.subnet);
        let value = number(address);
        if !self.subnet.contains(&address) || value < low || value > high {
            return Err(PoolError::OutOfRange { address, subnet: self.subnet });
        }
        if !self.taken.insert(value) {
            return Err(PoolError::Taken(address));
        }
        Ok(())
    }

    /// Gives an address back; one that is free already is fine.
    pub fn release(&mut self, address: IpAddr) {
        let value = number(address);
        if self.subnet.contains(&address) && self.taken.remove(&value) && value >= self.first {
            self.lowest_candidate = self.lowest_candidate.min(value);
        }
    }

    /// Tells whether an address is taken.
    pub fn is_taken(&self, address: IpAddr) -> bool {
        self.subnet.contains(&address) && self.taken.contains(&number(address))
    }

    fn address(&self, value: u128) -> IpAddr {
        match self.subnet {
            IpNet::V4(_) => {
                let bits = u32::try_from(value).expect("values of an IPv4 subnet have 32 bits");
                Ipv4Addr::from_bits(bits).into()
            }
            IpNet::V6(_) => Ipv6Addr::from_bits(value).into(),
        }
    }
}

/// Returns the first address of a subnet that a host may have: Docker's default gateway.
pub fn first_host(subnet: IpNet) -> IpAddr {
    match (subnet, subnet.network()) {
        // The first of all is every router's (RFC 4291, section 2.6.1), which the list of hosts does not leave out.
        (IpNet::V6(net), IpAddr::V6(network)) if net.prefix_len() < 127 => {
            Ipv6Addr::from_bits(network.to_bits() + 1).into()
        }
        (subnet, network) => subnet.hosts().next().unwrap_or(network),
    }
}

/// Returns the first and last address that a host may have.
fn usable(subnet: IpNet) -> (u128, u128) {
    let (network, broadcast) = (number(subnet.network()), number(subnet.broadcast()));
    match subnet {
        IpNet::V4(net) if net.prefix_len() < 31 => (network + 1, broadcast - 1),
        IpNet::V6(net) if net.prefix_len() < 127 => (network + 1, broadcast),
        _ => (network, broadcast),
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a subnet")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn pool(subnet: &str, gateway: &str) -> AddressPool {
        AddressPool::new(net(subnet), None, Some(ip(gateway))).expect("valid")
    }

    #[test]
    fn lowest_free_address_comes_first() {
        let mut pool = pool("172.17.0.0/16", "172.17.0.1");
        assert_eq!(pool.allocate(), Ok(ip("172.17.0.2")));
        assert_eq!(pool.allocate(), Ok(ip("172.17.0.3")));
        assert_eq!(pool.allocate(), Ok(ip("172.17.0.4")));
        pool.release(ip("172.17.0.2"));
        assert_eq!(pool.allocate(), Ok(ip("172.17.0.2")));
        assert_eq!(pool.allocate(), Ok(ip("172.17.0.5")));
    }

    #[test]
    fn reserved_addresses_are_skipped_and_not_given_twice() {
        let mut pool = pool("172.17.0.0/16", "172.17.0.1");
        pool.reserve(ip("172.17.0.2")).expect("free");
        assert_eq!(pool.reserve(ip("172.17.0.2")), Err(PoolError::Taken(ip("172.17.0.2"))));
        assert_eq!(pool.allocate(), Ok(ip("172.17.0.3")));
        assert!(pool.is_taken(ip("172.17.0.1")));
    }

    #[test]
    fn a_small_subnet_runs_out_before_its_broadcast_address() {
        let mut pool = pool("10.0.0.0/29", "10.0.0.1");
        let given: Vec<_> = std::iter::from_fn(|| pool.allocate().ok()).collect();
        assert_eq!(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"].map(ip));
        let error = pool.allocate().expect_err("full");
        assert_eq!(error.to_string(), "no available IPv4 addresses on this network's address pools");
        pool.release(ip("10.0.0.4"));
        assert_eq!(pool.allocate(), Ok(ip("10.0.0.4")));
    }

    #[test]
    fn addresses_outside_are_refused() {
        let mut pool = pool("10.0.0.0/24", "10.0.0.1");
        for address in ["10.0.1.2", "10.0.0.0", "10.0.0.255", "fd00::2"] {
            assert!(matches!(pool.reserve(ip(address)), Err(PoolError::OutOfRange { .. })), "{address}");
        }
        pool.release(ip("10.0.1.2"));
        assert_eq!(pool.allocate(), Ok(ip("10.0.0.2")));
    }

    #[test]
    fn a_range_limits_what_is_given_but_not_what_is_reserved() {
        let mut pool =
            AddressPool::new(net("10.0.0.0/16"), Some(net("10.0.5.0/30")), Some(ip("10.0.0.1"))).expect("valid");
        pool.reserve(ip("10.0.9.9")).expect("of the subnet");
        let given: Vec<_> = std::iter::from_fn(|| pool.allocate().ok()).collect();
        assert_eq!(given, ["10.0.5.0", "10.0.5.1", "10.0.5.2", "10.0.5.3"].map(ip));
        pool.release(ip("10.0.9.9"));
        assert!(pool.allocate().is_err());
    }

    #[test]
    fn ipv6_starts_after_the_anycast_address() {
        let mut pool = pool("fd00:1::/64", "fd00:1::1");
        assert_eq!(pool.allocate(), Ok(ip("fd00:1::2")));
        let mut all = AddressPool::new(net("::/0"), None, None).expect("valid");
        assert_eq!(all.allocate(), Ok(ip("::1")));
    }

    #[test]
    fn use_is_counted_as_docker_does() {
        let mut pool = pool("10.0.0.0/24", "10.0.0.1");
        assert_eq!(pool.usage(), (3, 253));
        pool.allocate().expect("free");
        assert_eq!(pool.usage(), (4, 252));
        assert_eq!(
            AddressPool::new(net("fd00::/64"), None, Some(ip("fd00::1"))).expect("valid").usage(),
            (2, u64::MAX - 1)
        );
        let range =
            AddressPool::new(net("10.0.0.0/16"), Some(net("10.0.5.0/24")), Some(ip("10.0.5.0"))).expect("valid");
        assert_eq!(range.usage(), (3, 255));
    }

    #[test]
    fn first_host_is_the_default_gateway() {
        assert_eq!(first_host(net("172.18.0.0/16")), ip("172.18.0.1"));
        assert_eq!(first_host(net("10.0.0.4/31")), ip("10.0.0.4"));
        assert_eq!(first_host(net("fd00:1::/64")), ip("fd00:1::1"));
    }

    #[test]
    fn a_range_counts_as_far_as_it_is_of_the_subnet() {
        let gateway = ip("10.9.0.1");
        let mut wider = AddressPool::new(net("10.9.0.0/24"), Some(net("10.9.0.0/16")), Some(gateway)).expect("a pool");
        assert_eq!(wider.allocate(), Ok(ip("10.9.0.2")));
        for range in ["10.8.0.0/24", "10.10.0.0/24"] {
            let mut outside = AddressPool::new(net("10.9.0.0/24"), Some(net(range)), Some(gateway)).expect("a pool");
            assert_eq!(outside.allocate(), Err(PoolError::Exhausted(net("10.9.0.0/24"))), "{range}");
            assert_eq!(outside.usage().1, 0);
            outside.release(gateway);
            assert!(outside.allocate().is_err(), "what is given back is not of the range");
        }
    }
}
