//! Capability sets of the calling thread, as bit masks over capability numbers.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
};

/// Number of `CAP_SYS_ADMIN`.
pub const SYS_ADMIN: u32 = 21;
/// Number of `CAP_SYS_RESOURCE`.
pub const SYS_RESOURCE: u32 = 24;
/// Number of `CAP_SETPCAP`.
pub const SETPCAP: u32 = 8;

/// The three sets of `capset`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sets {
    /// What is checked.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What goes over an execve with file capabilities.
    pub inheritable: u64,
}

/// Returns the sets of the calling thread.
///
/// # Errors
/// What `capget` answers.
pub fn get() -> io::Result<Sets> {
    let sets = capabilities(None)?;
    Ok(Sets {
        effective: sets.effective.bits(),
        permitted: sets.permitted.bits(),
        inheritable: sets.inheritable.bits(),
    })
}

/// Sets them.
///
/// # Errors
/// What `capset` answers.
pub fn set(sets: Sets) -> io::Result<()> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(sets.effective),
        permitted: CapabilitySet::from_bits_retain(sets.permitted),
        inheritable: CapabilitySet::from_bits_retain(sets.inheritable),
    };
    Ok(set_capabilities(None, sets)?)
}

/// Returns the bounding set; it ends where the kernel's knowledge does.
pub fn bounding() -> u64 {
    let mut mask = 0;
    for number in numbers() {
        match capability_is_in_bounding_set(single(number)) {
            Ok(held) => mask |= u64::from(held) << number,
            // The kernel does not know it, nor any after it.
            Err(_) => break,
        }
    }
    mask
}

/// Reduces the bounding set to `keep`.
///
/// # Errors
/// What `prctl` answers.
pub fn limit_bounding(keep: u64) -> io::Result<()> {
    for number in numbers().filter(|number| keep & (1 << number) == 0) {
        match remove_capability_from_bounding_set(single(number)) {
            Ok(()) => {}
            // The kernel does not know it, nor any after it.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes the ambient set exactly `wanted`.
///
/// # Errors
/// What `prctl` answers, such as EPERM for one that is not permitted and inheritable.
pub fn set_ambient(wanted: u64) -> io::Result<()> {
    clear_ambient_capability_set()?;
    for number in numbers().filter(|number| wanted & (1 << number) != 0) {
        configure_capability_in_ambient_set(single(number), true)?;
    }
    Ok(())
}

/// Keeps the permitted set over the next change of user id.
///
/// # Errors
/// What `prctl` answers.
pub fn keep_over_user_change(keep: bool) -> io::Result<()> {
    Ok(set_keep_capabilities(keep)?)
}

fn numbers() -> impl Iterator<Item = u32> {
    0..64
}

fn single(number: u32) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_agree_with_proc() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        assert_eq!(bounding(), field("CapBnd:"));
        assert_eq!(get().unwrap().effective, field("CapEff:"));
    }
}
