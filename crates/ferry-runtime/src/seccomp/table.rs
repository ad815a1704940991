//! Numbers of system calls by architecture.

use std::collections::HashMap;

use crate::error::Error;

/// One line per call: its name and its number on each architecture, `-` where it has none. From the kernel's headers.
const TABLE: &str = include_str!("syscalls.tsv");

/// Architectures that filters can be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Architecture {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// The bit that tells calls of x32 from those of x86_64, with which it shares its audit number.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Architecture {
    /// The architecture of this build.
    pub(super) fn native() -> Option<Architecture> {
        if cfg!(target_arch = "x86_64") {
            Some(Architecture::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Architecture::Aarch64)
        } else {
            None
        }
    }

    /// The native architecture and those listed. Any that this machine cannot run is refused, since nobody could tell that it was meant.
    pub(super) fn listed(names: &[String]) -> Result<Vec<Architecture>, Error> {
        let native =
            Architecture::native().ok_or_else(|| Error::unsupported("seccomp is not supported on this machine"))?;
        let mut architectures = vec![native];
        for name in names {
            let architecture = match name.as_str() {
                "SCMP_ARCH_NATIVE" => native,
                "SCMP_ARCH_X86_64" => Architecture::X86_64,
                "SCMP_ARCH_X86" => Architecture::X86,
                "SCMP_ARCH_X32" => Architecture::X32,
                "SCMP_ARCH_AARCH64" => Architecture::Aarch64,
                "SCMP_ARCH_ARM" => Architecture::Arm,
                other => return Err(Error::unsupported(format!("seccomp architecture {other:?} is not supported"))),
            };
            if !architectures.contains(&architecture) {
                architectures.push(architecture);
            }
        }
        Ok(architectures)
    }

    /// The kernel's `AUDIT_ARCH_*`.
    pub(super) fn audit_number(self) -> u32 {
        match self {
            Architecture::X86_64 | Architecture::X32 => 0xc000_003e,
            Architecture::X86 => 0x4000_0003,
            Architecture::Aarch64 => 0xc000_00b7,
            Architecture::Arm => 0x4000_0028,
        }
    }

    /// Numbers from here on are outside of the common count.
    pub(super) fn private_numbers(self) -> u32 {
        if self == Architecture::Arm { 0x0f_0000 } else { u32::MAX }
    }

    fn column(self) -> usize {
        match self {
            Architecture::X86_64 => 1,
            Architecture::X86 => 2,
            Architecture::X32 => 3,
            Architecture::Aarch64 => 4,
            Architecture::Arm => 5,
        }
    }
}

/// The numbers of an architecture's calls by name.
pub(super) fn numbers(architecture: Architecture) -> HashMap<&'static str, u32> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let name = fields.next()?;
            Some((name, fields.nth(architecture.column() - 1)?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_agrees_with_libc() {
        let numbers = numbers(Architecture::native().unwrap());
        let known = [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("socket", libc::SYS_socket),
        ];
        for (name, number) in known {
            assert_eq!(i64::from(numbers[name]), number, "{name}");
        }
    }

    #[test]
    fn x32_has_its_bit() {
        assert!(numbers(Architecture::X32).values().all(|number| number & X32_BIT != 0));
        assert!(numbers(Architecture::X86_64).values().all(|number| number & X32_BIT == 0));
    }
}
