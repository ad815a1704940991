//! Which devices may be used: lines for the v1 controller, an eBPF program on v2.

use std::path::Path;

use ferry_spec::runtime::{LinuxDeviceCgroup, defaults};
use ferry_sys::{bpf::Instruction, cgroup_bpf::replace_device_program};
use rustix::fs::{CWD, Mode, OFlags};

use super::write;
use crate::error::Error;

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// A checked rule; of several that match, the last wins, and what none matches is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    allow: bool,
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    All,
    Block,
    Character,
}

impl Rule {
    fn parse(rule: &LinuxDeviceCgroup) -> Result<Rule, Error> {
        let invalid = || Error::invalid(format!("invalid device rule {rule:?}"));
        let kind = match rule.kind.as_deref() {
            None | Some("" | "a") => Kind::All,
            Some("b") => Kind::Block,
            Some("c" | "u") => Kind::Character,
            Some(_) => return Err(invalid()),
        };
        let number = |value: Option<i64>| match value {
            None | Some(-1) => Ok(None),
            Some(value) => u32::try_from(value).map(Some).map_err(|_| invalid()),
        };
        let mut access = 0;
        for letter in rule.access.as_deref().unwrap_or("rwm").chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => return Err(invalid()),
            };
        }
        let access = if access == 0 { ALL } else { access };
        Ok(Rule { allow: rule.allow, kind, major: number(rule.major)?, minor: number(rule.minor)?, access })
    }

    fn is_everything(&self) -> bool {
        self.kind == Kind::All && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }

    fn line(&self) -> String {
        let kind = match self.kind {
            Kind::All => "a",
            Kind::Block => "b",
            Kind::Character => "c",
        };
        let number = |value: Option<u32>| value.map_or("*".to_owned(), |value| value.to_string());
        let letters: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .map(|(_, letter)| *letter)
            .collect();
        format!("{kind} {}:{} {letters}", number(self.major), number(self.minor))
    }
}

/// Checks the rules and adds those without which no container works. What comes before a rule over everything has no effect.
pub(super) fn rules(asked: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, Error> {
    let mut rules: Vec<Rule> = Vec::new();
    for rule in asked.iter().chain(&defaults::required_device_rules()) {
        let rule = Rule::parse(rule)?;
        if rule.is_everything() {
            rules.clear();
        }
        let covered =
            rules.first().is_some_and(|first| first.is_everything() && first.allow) && rule.allow && rules.len() == 1;
        if !covered {
            rules.retain(|known| known != &rule);
            rules.push(rule);
        }
    }
    if !rules.first().is_some_and(Rule::is_everything) {
        rules.insert(0, Rule { allow: false, kind: Kind::All, major: None, minor: None, access: ALL });
    }
    Ok(rules)
}

/// Writes the rules to a v1 group.
pub(super) fn apply_v1(folder: &Path, rules: &[Rule]) -> Result<(), Error> {
    for rule in rules {
        let file = folder.join(if rule.allow { "devices.allow" } else { "devices.deny" });
        // With types the kernel takes no wildcard over them: a rule over all types is a rule for each.
        if rule.kind == Kind::All && !rule.is_everything() {
            for kind in [Kind::Block, Kind::Character] {
                write(&file, &Rule { kind, ..rule.clone() }.line())?;
            }
        } else if rule.is_everything() {
            write(&file, "a")?;
        } else {
            write(&file, &rule.line())?;
        }
    }
    Ok(())
}

/// Attaches the rules to a v2 group.
pub(super) fn apply_v2(folder: &Path, rules: &[Rule]) -> Result<(), Error> {
    let step = |error: std::io::Error| Error::step(format!("set the device rules of {}", folder.display()), error);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let group = rustix::fs::openat(CWD, folder, flags, Mode::empty()).map_err(|error| step(error.into()))?;
    replace_device_program(std::os::fd::AsFd::as_fd(&group), &program(rules)).map_err(step)
}

const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 1;

const LOAD_WORD: u8 = 0x61;
const MOVE_32: u8 = 0xbc;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_EQUAL: u8 = 0x15;
const MOVE_IMMEDIATE: u8 = 0xb7;
const EXIT: u8 = 0x95;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`.
const DEVICE_BLOCK: i32 = 1;
const DEVICE_CHARACTER: i32 = 2;

fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// Compiles the rules: tried from the last to the first, the first that matches decides.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let from = |source: u8, target: u8| source << 4 | target;
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }; the kind is the low half of access_type.
    let mut program = vec![
        instruction(LOAD_WORD, from(1, KIND), 0, 0),
        instruction(MOVE_32, from(KIND, ACCESS), 0, 0),
        instruction(AND_32, KIND, 0, 0xffff),
        instruction(SHIFT_RIGHT_32, ACCESS, 0, 16),
        instruction(LOAD_WORD, from(1, MAJOR), 4, 0),
        instruction(LOAD_WORD, from(1, MINOR), 8, 0),
    ];
    let mut decided = false;
    for rule in rules.iter().rev() {
        program.extend(block(rule));
        if rule.is_everything() {
            // What follows could not be reached, which the kernel refuses.
            decided = true;
            break;
        }
    }
    if !decided {
        program.extend([instruction(MOVE_IMMEDIATE, 0, 0, 0), instruction(EXIT, 0, 0, 0)]);
    }
    program
}

/// One rule: conditions that jump behind it, then its verdict.
fn block(rule: &Rule) -> Vec<Instruction> {
    let mut block = Vec::new();
    match rule.kind {
        Kind::All => {}
        Kind::Block => block.push(instruction(JUMP_NOT_EQUAL, KIND, 0, DEVICE_BLOCK)),
        Kind::Character => block.push(instruction(JUMP_NOT_EQUAL, KIND, 0, DEVICE_CHARACTER)),
    }
    if rule.access != ALL {
        block.push(instruction(MOVE_32, ACCESS << 4 | SCRATCH, 0, 0));
        if rule.allow {
            // Allowed is what asks for nothing beyond the rule.
            block.push(instruction(AND_32, SCRATCH, 0, i32::from(ALL & !rule.access)));
            block.push(instruction(JUMP_NOT_EQUAL, SCRATCH, 0, 0));
        } else {
            // Denied is what asks for any of it.
            block.push(instruction(AND_32, SCRATCH, 0, i32::from(rule.access)));
            block.push(instruction(JUMP_EQUAL, SCRATCH, 0, 0));
        }
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(number) = number {
            block.push(instruction(JUMP_NOT_EQUAL, register, 0, number as i32));
        }
    }
    block.push(instruction(MOVE_IMMEDIATE, 0, 0, i32::from(rule.allow)));
    block.push(instruction(EXIT, 0, 0, 0));
    let end = block.len();
    for (at, instruction) in block.iter_mut().enumerate() {
        if matches!(instruction.code, JUMP_NOT_EQUAL | JUMP_EQUAL) {
            instruction.offset = (end - at - 1) as i16;
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would; as much of eBPF as is used here.
    fn run(program: &[Instruction], kind: i32, access: u8, major: u32, minor: u32) -> bool {
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (target, source) = (usize::from(pair & 15), usize::from(pair >> 4));
            at += 1;
            match code {
                LOAD_WORD => registers[target] = u64::from(context[offset as usize / 4]),
                MOVE_32 => registers[target] = registers[source] & 0xffff_ffff,
                AND_32 => registers[target] &= u64::from(immediate as u32),
                SHIFT_RIGHT_32 => registers[target] >>= immediate,
                MOVE_IMMEDIATE => registers[target] = immediate as u64,
                JUMP_NOT_EQUAL if registers[target] != immediate as i64 as u64 => at += offset as usize,
                JUMP_EQUAL if registers[target] == immediate as i64 as u64 => at += offset as usize,
                JUMP_NOT_EQUAL | JUMP_EQUAL => {}
                EXIT => return registers[0] == 1,
                other => panic!("unknown operation {other:#x}"),
            }
        }
    }

    #[test]
    fn default_rules_open_the_harmless_devices_only() {
        let program = program(&rules(&defaults::device_rules()).unwrap());
        let allowed = |kind, access, major, minor| run(&program, kind, access, major, minor);
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, 0), (136, 77)] {
            assert!(allowed(DEVICE_CHARACTER, READ | WRITE, major, minor), "{major}:{minor}");
        }
        for (major, minor) in [(1, 1), (1, 2), (1, 4), (1, 11), (10, 200), (10, 229), (4, 0), (254, 0)] {
            assert!(!allowed(DEVICE_CHARACTER, READ, major, minor), "{major}:{minor}");
            assert!(allowed(DEVICE_CHARACTER, MKNOD, major, minor), "making a node is harmless");
        }
        assert!(!allowed(DEVICE_BLOCK, READ, 8, 0) && !allowed(DEVICE_BLOCK, WRITE | MKNOD, 1, 3));
    }

    #[test]
    fn last_rule_wins() {
        let rule = |allow, major: Option<i64>, access: &str| LinuxDeviceCgroup {
            allow,
            kind: major.map(|_| "c".into()),
            major,
            minor: None,
            access: Some(access.into()),
        };
        let ask = |asked: &[LinuxDeviceCgroup], access, major| {
            run(&program(&rules(asked).unwrap()), DEVICE_CHARACTER, access, major, 9)
        };
        let list = [rule(true, None, "rwm"), rule(false, Some(10), "w")];
        assert!(ask(&list, READ, 10) && ask(&list, WRITE, 11));
        assert!(!ask(&list, WRITE, 10) && !ask(&list, READ | WRITE, 10));
        let list = [rule(false, Some(10), "w"), rule(true, None, "rwm")];
        assert!(ask(&list, WRITE, 10), "a rule over everything undoes those before it");
        assert!(!ask(&[], READ, 10), "nothing is allowed that nobody asked for");
    }

    #[test]
    fn rule_over_everything_comes_first_and_alone() {
        let everything = LinuxDeviceCgroup { allow: true, ..LinuxDeviceCgroup::default() };
        assert_eq!(rules(&[everything]).unwrap().len(), 1);
        assert!(rules(&[]).unwrap()[0].is_everything());
        let lines: Vec<String> = rules(&defaults::device_rules()).unwrap().iter().map(Rule::line).collect();
        assert_eq!(lines[..3], ["a *:* rwm", "c 5:1 rwm", "c 10:229 rwm"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for (kind, access) in [("x", "r"), ("c", "rx")] {
            let rule = LinuxDeviceCgroup {
                kind: Some(kind.into()),
                access: Some(access.into()),
                ..LinuxDeviceCgroup::default()
            };
            assert!(rules(&[rule]).is_err());
        }
        assert!(rules(&[LinuxDeviceCgroup { major: Some(-2), ..LinuxDeviceCgroup::default() }]).is_err());
    }
}
