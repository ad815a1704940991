//! From a system call profile to the filter the kernel takes.
//!
//! Owns: reading profiles, the tables of call numbers, the generator of classic BPF and the files that keep its output. Leaves out: which
//! calls are good (the profile) and when the filter is put on (the process set-up).
//!
//! Meaning, as libseccomp and runc give it: a rule without conditions beats rules with conditions for the same call; of rules with
//! conditions the first that matches decides; a rule that says what the default says is nothing; names unknown to an architecture are passed
//! over; numbers beyond the largest that the profile names answer ENOSYS where the default refuses, so that programs fall back to older calls; calls of an
//! architecture that the profile does not list end the process.

use std::collections::BTreeMap;
use std::path::Path;

use ferry_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall};

use crate::error::Error;
use crate::init::Filter;

mod cache;
mod compile;
mod interpreter;
mod table;

use table::Architecture;

/// Makes the filter of a profile, or takes it from `cache_dir` where an equal one was made before.
pub(crate) fn filter(profile: &LinuxSeccomp, cache_dir: Option<&Path>) -> Result<Filter, Error> {
    let flags = flags(profile)?;
    let program = match cache_dir {
        Some(directory) => cache::program(profile, directory)?,
        None => compile(profile)?,
    };
    Ok(Filter { program, flags })
}

/// Whether a filter lets through each of these native calls (`SYS_…`) with these arguments; no filter does.
pub(crate) fn allows(filter: Option<&Filter>, calls: &[(libc::c_long, &[u64])]) -> bool {
    let (Some(filter), Some(native)) = (filter, Architecture::native()) else { return filter.is_none() };
    calls.iter().all(|(number, arguments)| {
        let call = interpreter::Call::new(native.audit_number(), *number as u32, arguments);
        interpreter::run(&filter.program, call) == libc::SECCOMP_RET_ALLOW
    })
}

fn compile(profile: &LinuxSeccomp) -> Result<Vec<ferry_sys::seccomp::Instruction>, Error> {
    compile::program(&Policy::new(profile)?)
}

fn flags(profile: &LinuxSeccomp) -> Result<u32, Error> {
    let mut bits = 0;
    for flag in &profile.flags {
        bits |= match flag.as_str() {
            // One thread is all there is.
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            "SECCOMP_FILTER_FLAG_LOG" => 1 << 1,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 1 << 2,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => {
                return Err(Error::unsupported(format!(
                    "seccomp flag {flag} needs a listener, which is not supported"
                )));
            }
            other => return Err(Error::invalid(format!("unknown seccomp flag {other:?}"))),
        };
    }
    if bits != 0 && !ferry_sys::seccomp::knows_flags(bits) {
        return Err(Error::unsupported(format!("this kernel does not know the seccomp flags {:?}", profile.flags)));
    }
    Ok(bits)
}

/// What the kernel is to answer: `SECCOMP_RET_*` with its data.
type Verdict = u32;

/// A profile for each architecture, ready to compile.
#[derive(Debug)]
struct Policy {
    default: Verdict,
    architectures: Vec<(Architecture, Calls)>,
}

/// The rules of one architecture by call number.
#[derive(Debug, Default)]
struct Calls {
    rules: BTreeMap<u32, Call>,
    /// Numbers beyond it are unknown to the profile.
    unknown_beyond: Option<u32>,
}

/// The rules of one call.
#[derive(Debug, Default)]
struct Call {
    unconditional: Option<Verdict>,
    conditional: Vec<(Vec<LinuxSeccompArg>, Verdict)>,
}

impl Policy {
    fn new(profile: &LinuxSeccomp) -> Result<Policy, Error> {
        if profile.listener_path.is_some() || profile.listener_metadata.is_some() {
            return Err(Error::unsupported("a seccomp listener is not supported"));
        }
        let default = verdict(profile.default_action, profile.default_errno_ret)?;
        let refuses = !matches!(
            profile.default_action,
            LinuxSeccompAction::Allow | LinuxSeccompAction::Log | LinuxSeccompAction::Trace
        );
        let architectures = Architecture::listed(&profile.architectures)?
            .into_iter()
            .map(|architecture| Ok((architecture, Calls::new(profile, architecture, default, refuses)?)))
            .collect::<Result<_, Error>>()?;
        Ok(Policy { default, architectures })
    }
}

impl Calls {
    fn new(
        profile: &LinuxSeccomp,
        architecture: Architecture,
        default: Verdict,
        refuses: bool,
    ) -> Result<Calls, Error> {
        let numbers = table::numbers(architecture);
        let mut calls = Calls::default();
        for rule in &profile.syscalls {
            let verdict = verdict(rule.action, rule.errno_ret)?;
            if let Some(argument) = rule.args.iter().find(|argument| argument.index > 5) {
                return Err(Error::invalid(format!(
                    "seccomp rule for {:?}: no argument {}",
                    rule.names, argument.index
                )));
            }
            for name in &rule.names {
                let Some(&number) = numbers.get(name.as_str()) else { continue };
                if refuses && number < architecture.private_numbers() {
                    calls.unknown_beyond = calls.unknown_beyond.max(Some(number));
                }
                if verdict != default {
                    calls.rules.entry(number).or_default().add(rule, verdict);
                }
            }
        }
        Ok(calls)
    }
}

impl Call {
    fn add(&mut self, rule: &LinuxSyscall, verdict: Verdict) {
        if rule.args.is_empty() {
            // Of two that contradict each other, the stricter.
            self.unconditional = Some(self.unconditional.map_or(verdict, |known| stricter(known, verdict)));
            return;
        }
        // Two conditions on one argument have always meant either of them.
        let repeated =
            rule.args.iter().enumerate().any(|(at, one)| rule.args[..at].iter().any(|other| other.index == one.index));
        if repeated {
            self.conditional.extend(rule.args.iter().map(|one| (vec![*one], verdict)));
        } else {
            self.conditional.push((rule.args.clone(), verdict));
        }
    }
}

/// As the kernel ranks the answers of several filters: the lower action value is the stricter, as a signed number.
fn stricter(one: Verdict, other: Verdict) -> Verdict {
    let rank = |verdict: Verdict| (verdict & 0xffff_0000) as i32;
    if rank(other) < rank(one) { other } else { one }
}

fn verdict(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Verdict, Error> {
    let data = errno.unwrap_or(libc::EPERM as u32);
    if data > 0xffff {
        return Err(Error::invalid(format!("seccomp errnoRet {data} is out of range")));
    }
    Ok(match action {
        LinuxSeccompAction::Kill | LinuxSeccompAction::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        LinuxSeccompAction::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::Trap => libc::SECCOMP_RET_TRAP,
        LinuxSeccompAction::Errno => libc::SECCOMP_RET_ERRNO | data,
        LinuxSeccompAction::Trace => libc::SECCOMP_RET_TRACE | data,
        LinuxSeccompAction::Allow => libc::SECCOMP_RET_ALLOW,
        LinuxSeccompAction::Log => libc::SECCOMP_RET_LOG,
        LinuxSeccompAction::Notify => {
            return Err(Error::unsupported("seccomp action SCMP_ACT_NOTIFY is not supported"));
        }
    })
}

#[cfg(test)]
mod tests {
    use ferry_spec::runtime::{LinuxSeccompOperator, defaults};

    use super::interpreter::{Call as Made, run};
    use super::*;

    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    const ARM64: u32 = 0xc000_00b7;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    fn number(architecture: Architecture, name: &str) -> u32 {
        table::numbers(architecture)[name]
    }

    fn call(architecture: Architecture, name: &str, arguments: &[u64]) -> Made {
        Made::new(architecture.audit_number(), number(architecture, name), arguments)
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn default_profile_decides_as_dockers() {
        let program = compile(&defaults::seccomp_profile(&defaults::capabilities())).unwrap();
        let ask = |name: &str, arguments: &[u64]| run(&program, call(Architecture::X86_64, name, arguments));
        for name in ["read", "execve", "chroot", "ptrace", "arch_prctl", "statx", "modify_ldt", "removexattrat"] {
            assert_eq!(ask(name, &[]), ALLOW, "{name}");
        }
        for name in [
            "mount",
            "keyctl",
            "add_key",
            "bpf",
            "userfaultfd",
            "perf_event_open",
            "io_uring_setup",
            "unshare",
            "setns",
            "reboot",
            "open_by_handle_at",
            "kexec_load",
        ] {
            assert_eq!(ask(name, &[]), EPERM, "{name}");
        }
        assert_eq!(ask("clone3", &[]), ENOSYS);
        assert_eq!(ask("clone", &[0x11]), ALLOW);
        for flag in [0x2_0000u64, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
            assert_eq!(ask("clone", &[0x11 | flag]), EPERM, "{flag:#x}");
        }
        for (family, verdict) in [
            (1u64, ALLOW),
            (2, ALLOW),
            (16, ALLOW),
            (37, ALLOW),
            (38, EPERM),
            (39, ALLOW),
            (40, EPERM),
            (41, ALLOW),
            (1 << 32, ALLOW),
        ] {
            assert_eq!(ask("socket", &[family]), verdict, "family {family}");
        }
        for (domain, verdict) in
            [(0u64, ALLOW), (8, ALLOW), (0x2_0000, ALLOW), (0xffff_ffff, ALLOW), (0x4_0000, EPERM), (1 << 32, EPERM)]
        {
            assert_eq!(ask("personality", &[domain]), verdict, "domain {domain:#x}");
        }
        let last = number(Architecture::X86_64, "removexattrat");
        assert_eq!(run(&program, Made::new(X86_64, last + 1, &[])), ENOSYS);
        assert_eq!(run(&program, Made::new(X86_64, 0x3fff_ffff, &[])), ENOSYS);
        assert_eq!(run(&program, Made::new(ARM64, 0, &[])), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn other_call_numbers_of_the_machine_are_no_way_around() {
        let program = compile(&defaults::seccomp_profile(&defaults::capabilities())).unwrap();
        assert_eq!(run(&program, call(Architecture::X86, "mount", &[])), EPERM);
        assert_eq!(run(&program, call(Architecture::X86, "read", &[])), ALLOW);
        assert_eq!(run(&program, call(Architecture::X86, "umount", &[])), EPERM);
        assert_eq!(run(&program, call(Architecture::X32, "mount", &[])), EPERM);
        assert_eq!(run(&program, call(Architecture::X32, "read", &[])), ALLOW);
        assert_eq!(run(&program, call(Architecture::X32, "clone", &[0x1000_0000])), EPERM);
        assert_eq!(run(&program, Made::new(I386, 5000, &[])), ENOSYS);
        assert_eq!(run(&program, Made::new(X86_64, 0xffff_ffff, &[])), ENOSYS);
    }

    #[test]
    fn filter_is_asked_before_it_is_put_on() {
        let names = defaults::capabilities();
        let filter = filter(&defaults::seccomp_profile(&names), None).unwrap();
        assert!(allows(None, &[(libc::SYS_mount, &[])]));
        assert!(allows(
            Some(&filter),
            &[(libc::SYS_clone, &[ferry_sys::process::SIBLING_FLAGS]), (libc::SYS_setsid, &[])]
        ));
        assert!(!allows(Some(&filter), &[(libc::SYS_setsid, &[]), (libc::SYS_mount, &[])]));
        assert!(!allows(Some(&filter), &[(libc::SYS_clone, &[libc::CLONE_NEWUSER as u64])]));
    }

    #[test]
    fn capabilities_open_their_calls() {
        let program = compile(&defaults::seccomp_profile(&["CAP_SYS_ADMIN"])).unwrap();
        let native = Architecture::native().unwrap();
        for name in ["mount", "clone3", "bpf", "setns"] {
            assert_eq!(run(&program, call(native, name, &[])), ALLOW, "{name}");
        }
        assert_eq!(run(&program, call(native, "clone", &[0x1000_0000])), ALLOW);
        assert_eq!(run(&program, call(native, "chroot", &[])), EPERM);
    }

    fn profile(syscalls: Vec<LinuxSyscall>) -> LinuxSeccomp {
        LinuxSeccomp { default_action: LinuxSeccompAction::Allow, syscalls, ..LinuxSeccomp::default() }
    }

    fn rule(name: &str, action: LinuxSeccompAction, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
        LinuxSyscall { names: vec![name.into()], action, errno_ret: None, args }
    }

    #[test]
    fn every_comparison_is_unsigned_and_64_bits_wide() {
        use LinuxSeccompOperator::*;
        let native = Architecture::native().unwrap();
        let values = [0u64, 1, 5, 6, 7, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0006, u64::MAX, 1 << 63];
        for bound in [0u64, 6, 0xffff_ffff, 0x1_0000_0006, 1 << 63, u64::MAX] {
            for op in [NotEqual, LessThan, LessOrEqual, Equal, GreaterOrEqual, GreaterThan, MaskedEqual] {
                let argument = LinuxSeccompArg { index: 3, value: bound, value_two: 6, op };
                let program = compile(&profile(vec![rule("read", LinuxSeccompAction::Errno, vec![argument])])).unwrap();
                for value in values {
                    let holds = match op {
                        NotEqual => value != bound,
                        LessThan => value < bound,
                        LessOrEqual => value <= bound,
                        Equal => value == bound,
                        GreaterOrEqual => value >= bound,
                        GreaterThan => value > bound,
                        MaskedEqual => value & bound == 6,
                    };
                    let expected = if holds { EPERM } else { ALLOW };
                    assert_eq!(
                        run(&program, call(native, "read", &[9, 9, 9, value, 9])),
                        expected,
                        "{value:#x} {op:?} {bound:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn rules_of_one_call_combine_as_in_libseccomp() {
        let native = Architecture::native().unwrap();
        let equal = |index, value| LinuxSeccompArg { index, value, value_two: 0, op: LinuxSeccompOperator::Equal };
        let both =
            compile(&profile(vec![rule("read", LinuxSeccompAction::Errno, vec![equal(0, 1), equal(1, 2)])])).unwrap();
        assert_eq!(run(&both, call(native, "read", &[1, 2])), EPERM);
        assert_eq!(run(&both, call(native, "read", &[1, 3])), ALLOW);
        let either =
            compile(&profile(vec![rule("read", LinuxSeccompAction::Errno, vec![equal(0, 1), equal(0, 2)])])).unwrap();
        assert_eq!(run(&either, call(native, "read", &[2])), EPERM);
        assert_eq!(run(&either, call(native, "read", &[3])), ALLOW);
        let whole = compile(&profile(vec![
            rule("read", LinuxSeccompAction::Trap, vec![equal(0, 1)]),
            rule("read", LinuxSeccompAction::Errno, vec![]),
        ]))
        .unwrap();
        assert_eq!(run(&whole, call(native, "read", &[1])), EPERM);
    }

    #[test]
    fn default_that_allows_lets_new_calls_through() {
        let program = compile(&profile(vec![rule("mount", LinuxSeccompAction::KillProcess, vec![])])).unwrap();
        let native = Architecture::native().unwrap();
        assert_eq!(run(&program, Made::new(native.audit_number(), 4000, &[])), ALLOW);
        assert_eq!(run(&program, call(native, "mount", &[])), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let notify = profile(vec![rule("read", LinuxSeccompAction::Notify, vec![])]);
        assert!(compile(&notify).unwrap_err().to_string().contains("NOTIFY"));
        let foreign = LinuxSeccomp { architectures: vec!["SCMP_ARCH_S390X".into()], ..LinuxSeccomp::default() };
        assert!(compile(&foreign).is_err());
        let flag = LinuxSeccomp { flags: vec!["SECCOMP_FILTER_FLAG_MAGIC".into()], ..LinuxSeccomp::default() };
        assert!(filter(&flag, None).is_err());
    }
}
