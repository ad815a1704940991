//! Runs a filter as the kernel would: classic BPF, as much of it as the generator makes.

use ferry_sys::seccomp::Instruction;

/// A system call, `struct seccomp_data`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    words: [u32; 16],
}

impl Call {
    pub(super) fn new(audit_number: u32, number: u32, arguments: &[u64]) -> Call {
        let mut words = [0u32; 16];
        words[0] = number;
        words[1] = audit_number;
        for (at, argument) in arguments.iter().enumerate() {
            words[4 + at * 2] = *argument as u32;
            words[5 + at * 2] = (*argument >> 32) as u32;
        }
        Call { words }
    }
}

/// Returns the verdict; ends the process for what the kernel would refuse to load.
pub(super) fn run(program: &[Instruction], call: Call) -> u32 {
    let mut accumulator = 0u32;
    let mut at = 0;
    loop {
        let Some(&Instruction { code, jump_true, jump_false, k }) = program.get(at) else {
            return libc::SECCOMP_RET_KILL_PROCESS;
        };
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { jump_true } else { jump_false });
        match code {
            0x20 if k % 4 == 0 && k < 64 => accumulator = call.words[k as usize / 4],
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x06 => return k,
            _ => return libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}
