//! Hardware addresses for endpoints and bridges.

use std::{io, net::Ipv4Addr};

use crate::types::MacAddr;

/// Returns the address that Docker before 28 gave to an endpoint: `02:42` and the IPv4 address.
pub fn from_ipv4(address: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = address.octets();
    MacAddr([0x02, 0x42, a, b, c, d])
}

/// Returns a random address, locally administered and unicast, as Docker 28 and later give.
///
/// # Errors
/// Fails when the kernel gives no random bytes.
pub fn random() -> io::Result<MacAddr> {
    let mut bytes = [0; 6];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if length != bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes[0] = (bytes[0] & 0xfe) | 0x02;
    Ok(MacAddr(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_address_is_the_tail() {
        assert_eq!(from_ipv4(Ipv4Addr::new(172, 17, 0, 2)).to_string(), "02:42:ac:11:00:02");
    }

    #[test]
    fn random_addresses_are_local_unicast_and_differ() {
        let addresses: std::collections::HashSet<_> = (0..100).map(|_| random().expect("random bytes")).collect();
        assert_eq!(addresses.len(), 100);
        assert!(addresses.iter().all(|address| address.0[0] & 0x03 == 0x02));
    }

    #[test]
    fn addresses_are_read_and_refused() {
        assert_eq!("02-42-AC-11-00-02".parse::<MacAddr>().expect("valid"), from_ipv4(Ipv4Addr::new(172, 17, 0, 2)));
        for text in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "02:42:ac:11:00:0", "xx:42:ac:11:00:02"] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }
}
