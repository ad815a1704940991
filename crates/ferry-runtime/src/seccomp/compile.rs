//! The generator of classic BPF.
//!
//! Per audit number one section: the call number is searched in a balanced tree of ranges, so that any call costs about seven comparisons; each
//! leaf answers or tests arguments. Jumps of classic BPF reach 255 instructions; longer ones go by an unconditional jump.

use std::collections::BTreeMap;

use ferry_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator};
use ferry_sys::seccomp::Instruction;

use super::table::{Architecture, X32_BIT};
use super::{Call, Calls, Policy, Verdict};
use crate::error::Error;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What the kernel takes.
const MAX_LENGTH: usize = 4096;

const UNKNOWN: Verdict = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

type Code = Vec<Instruction>;

/// Compiles a policy.
pub(super) fn program(policy: &Policy) -> Result<Code, Error> {
    let mut sections: BTreeMap<u32, Vec<(Architecture, &Calls)>> = BTreeMap::new();
    for (architecture, calls) in &policy.architectures {
        sections.entry(architecture.audit_number()).or_default().push((*architecture, calls));
    }
    let mut code = vec![statement(LOAD, ARCHITECTURE)];
    for (audit_number, members) in sections {
        let mut section = vec![statement(LOAD, NUMBER)];
        section.extend(tree(&ranges(&members, policy.default)));
        if_equal(&mut code, audit_number, section);
    }
    code.push(statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
    if code.len() > MAX_LENGTH {
        return Err(Error::unsupported(format!(
            "the seccomp profile makes {} instructions, the kernel takes {MAX_LENGTH}",
            code.len()
        )));
    }
    Ok(code)
}

/// A run of call numbers that are treated alike, from `first` to the next range.
struct Range {
    first: u32,
    leaf: Leaf,
}

#[derive(Clone, PartialEq)]
enum Leaf {
    Verdict(Verdict),
    /// Tests arguments.
    Code(Code),
}

/// The ranges of all calls that share an audit number, from 0 up.
fn ranges(members: &[(Architecture, &Calls)], default: Verdict) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut put = |first: u32, leaf: Leaf| match ranges.last() {
        Some(last) if last.leaf == leaf => {}
        Some(last) if last.first == first => {
            ranges.pop();
            if ranges.last().is_none_or(|before| before.leaf != leaf) {
                ranges.push(Range { first, leaf });
            }
        }
        _ => ranges.push(Range { first, leaf }),
    };
    let with_bit = |wanted: bool| {
        members.iter().find(move |(one, _)| (*one == Architecture::X32) == wanted).map(|(_, calls)| *calls)
    };
    let shares_number = members[0].0.audit_number() == Architecture::X86_64.audit_number();
    if let Some(calls) = with_bit(false) {
        put_calls(&mut put, calls, 0, default);
    } else {
        put(0, Leaf::Verdict(libc::SECCOMP_RET_KILL_PROCESS));
    }
    if shares_number {
        match with_bit(true) {
            Some(calls) => put_calls(&mut put, calls, X32_BIT, default),
            None => put(X32_BIT, Leaf::Verdict(libc::SECCOMP_RET_KILL_PROCESS)),
        }
    }
    ranges
}

fn put_calls(put: &mut impl FnMut(u32, Leaf), calls: &Calls, from: u32, default: Verdict) {
    put(from, Leaf::Verdict(default));
    let end = calls.unknown_beyond.map(|last| last + 1);
    let mut ended = false;
    for (&number, call) in &calls.rules {
        if let Some(end) = end.filter(|end| !ended && number > *end) {
            put(end, Leaf::Verdict(UNKNOWN));
            ended = true;
        }
        put(number, leaf(call, default));
        let after = if end.is_some_and(|end| number + 1 >= end) { UNKNOWN } else { default };
        ended |= after == UNKNOWN && end.is_some();
        put(number + 1, Leaf::Verdict(after));
    }
    if let Some(end) = end.filter(|_| !ended) {
        put(end, Leaf::Verdict(UNKNOWN));
    }
}

fn leaf(call: &Call, default: Verdict) -> Leaf {
    if let Some(verdict) = call.unconditional {
        return Leaf::Verdict(verdict);
    }
    let mut code = Code::new();
    for (conditions, verdict) in &call.conditional {
        // From the last condition to the first: each is put around what follows it.
        let mut block = vec![statement(RETURN, *verdict)];
        for condition in conditions.iter().rev() {
            block = if_condition(condition, block);
        }
        code.extend(block);
    }
    code.push(statement(RETURN, default));
    Leaf::Code(code)
}

/// A balanced tree over the ranges; the call number is in the accumulator.
fn tree(ranges: &[Range]) -> Code {
    match ranges {
        [] => vec![statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS)],
        [one] => match &one.leaf {
            Leaf::Verdict(verdict) => vec![statement(RETURN, *verdict)],
            Leaf::Code(code) => code.clone(),
        },
        many => {
            let (low, high) = many.split_at(many.len() / 2);
            let (below, above) = (tree(low), tree(high));
            let mut code = Code::new();
            if let Ok(distance) = u8::try_from(below.len()) {
                code.push(jump(JUMP_GREATER_EQUAL, high[0].first, distance, 0));
            } else {
                code.push(jump(JUMP_GREATER_EQUAL, high[0].first, 0, 1));
                code.push(statement(JUMP, below.len() as u32));
            }
            code.extend(below);
            code.extend(above);
            code
        }
    }
}

/// Runs `then` when the accumulator is `value`; `then` must not come back.
fn if_equal(code: &mut Code, value: u32, then: Code) {
    match u8::try_from(then.len()) {
        Ok(distance) => code.push(jump(JUMP_EQUAL, value, 0, distance)),
        Err(_) => {
            code.push(jump(JUMP_EQUAL, value, 1, 0));
            code.push(statement(JUMP, then.len() as u32));
        }
    }
    code.extend(then);
}

/// Runs `then` (which ends in a return, and is short) when the condition holds, else goes behind it.
fn if_condition(condition: &LinuxSeccompArg, then: Code) -> Code {
    let (high, low) = ((condition.value >> 32) as u32, condition.value as u32);
    // Both supported machines are little-endian.
    let low_word = ARGUMENTS + condition.index * 8;
    let high_word = low_word + 4;
    let length = then.len() as u8;
    let mut code = match condition.op {
        LinuxSeccompOperator::Equal => vec![
            statement(LOAD, high_word),
            jump(JUMP_EQUAL, high, 0, 2 + length),
            statement(LOAD, low_word),
            jump(JUMP_EQUAL, low, 0, length),
        ],
        LinuxSeccompOperator::NotEqual => vec![
            statement(LOAD, high_word),
            jump(JUMP_EQUAL, high, 0, 2),
            statement(LOAD, low_word),
            jump(JUMP_EQUAL, low, length, 0),
        ],
        LinuxSeccompOperator::GreaterThan => compare(high_word, low_word, high, low, JUMP_GREATER, length),
        LinuxSeccompOperator::GreaterOrEqual => compare(high_word, low_word, high, low, JUMP_GREATER_EQUAL, length),
        LinuxSeccompOperator::LessThan => compare_not(high_word, low_word, high, low, JUMP_GREATER_EQUAL, length),
        LinuxSeccompOperator::LessOrEqual => compare_not(high_word, low_word, high, low, JUMP_GREATER, length),
        LinuxSeccompOperator::MaskedEqual => {
            let (wanted_high, wanted_low) = ((condition.value_two >> 32) as u32, condition.value_two as u32);
            vec![
                statement(LOAD, high_word),
                statement(AND, high),
                jump(JUMP_EQUAL, wanted_high, 0, 3 + length),
                statement(LOAD, low_word),
                statement(AND, low),
                jump(JUMP_EQUAL, wanted_low, 0, length),
            ]
        }
    };
    code.extend(then);
    code
}

/// Goes on when the argument is greater (or equal, by `low_test`), else jumps `length` further.
fn compare(high_word: u32, low_word: u32, high: u32, low: u32, low_test: u16, length: u8) -> Code {
    vec![
        statement(LOAD, high_word),
        jump(JUMP_GREATER, high, 3, 0),
        jump(JUMP_EQUAL, high, 0, 2 + length),
        statement(LOAD, low_word),
        jump(low_test, low, 0, length),
    ]
}

/// Goes on when the comparison does not hold.
fn compare_not(high_word: u32, low_word: u32, high: u32, low: u32, low_test: u16, length: u8) -> Code {
    vec![
        statement(LOAD, high_word),
        jump(JUMP_GREATER, high, 3 + length, 0),
        jump(JUMP_EQUAL, high, 0, 2),
        statement(LOAD, low_word),
        jump(low_test, low, length, 0),
    ]
}

fn statement(code: u16, k: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, k }
}

fn jump(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}
