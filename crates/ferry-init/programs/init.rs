//! The PID 1 of `--init`: starts the program after `--`, forwards every signal to it, reaps what is orphaned, and ends with its code.
//!
//! No standard library, no C library, no allocation. The kernel enters at `_start`. All signals are blocked and taken one by one with
//! `rt_sigtimedwait`, so that there is no handler; the child gets an empty mask back.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {main}", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x0, sp", "bl {main}", main = sym main);

#[cfg(target_arch = "x86_64")]
mod number {
    pub(crate) const WRITE: usize = 1;
    pub(crate) const SIGPROCMASK: usize = 14;
    pub(crate) const IOCTL: usize = 16;
    pub(crate) const GETPID: usize = 39;
    pub(crate) const CLONE: usize = 56;
    pub(crate) const EXECVE: usize = 59;
    pub(crate) const WAIT4: usize = 61;
    pub(crate) const KILL: usize = 62;
    pub(crate) const SETPGID: usize = 109;
    pub(crate) const SIGTIMEDWAIT: usize = 128;
    pub(crate) const EXIT_GROUP: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub(crate) const WRITE: usize = 64;
    pub(crate) const SIGPROCMASK: usize = 135;
    pub(crate) const IOCTL: usize = 29;
    pub(crate) const GETPID: usize = 172;
    pub(crate) const CLONE: usize = 220;
    pub(crate) const EXECVE: usize = 221;
    pub(crate) const WAIT4: usize = 260;
    pub(crate) const KILL: usize = 129;
    pub(crate) const SETPGID: usize = 154;
    pub(crate) const SIGTIMEDWAIT: usize = 137;
    pub(crate) const EXIT_GROUP: usize = 94;
}

const SIGTTIN: usize = 21;
const SIGTTOU: usize = 22;
const SIGCHLD: usize = 17;
const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
const TIOCSPGRP: usize = 0x5410;
const ENOENT: isize = -2;
const EACCES: isize = -13;
const ENOTDIR: isize = -20;
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(target_arch = "x86_64")]
fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: the callers below pass live pointers with their lengths, as each call's manual page asks. There is no safe call without a
    // standard library.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") 0,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: the callers below pass live pointers with their lengths, as each call's manual page asks. There is no safe call without a
    // standard library.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") 0, options(nostack));
    }
    result
}

/// Reads the kernel's start-up block: count, arguments, null, environment, null.
extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: the kernel put `argc` there, then `argc` pointers, a null, the environment's pointers, a null (System V ABI).
    let (count, arguments) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    // SAFETY: as above; the environment begins one past the null that ends the arguments.
    let environment = unsafe { arguments.add(count + 1) };
    let first = program_index(count, arguments);
    if first >= count {
        fail(b"no program given", b"", 1);
    }
    // SAFETY: `first` is below `count`.
    let argv = unsafe { arguments.add(first) };
    let all: u64 = !0;
    mask(&all);
    let child = syscall(number::CLONE, SIGCHLD, 0, 0, 0);
    match child {
        0 => start(argv, environment),
        1.. => supervise(child),
        _ => fail(b"cannot fork", b"", 1),
    }
}

fn program_index(count: usize, arguments: *const *const u8) -> usize {
    let has_separator = count > 1 && {
        // SAFETY: index 1 is below the count.
        let second = unsafe { *arguments.add(1) };
        bytes(second) == b"--"
    };
    if has_separator { 2 } else { 1 }
}

fn mask(signals: &u64) {
    syscall(number::SIGPROCMASK, SIG_SETMASK, core::ptr::from_ref(signals) as usize, 0, 8);
}

/// In the child: a process group of its own, in the foreground of a terminal if there is one, then the program.
fn start(argv: *const *const u8, environment: *const *const u8) -> ! {
    syscall(number::SETPGID, 0, 0, 0, 0);
    // Fails harmlessly where standard input is no terminal.
    let group = getpid();
    syscall(number::IOCTL, 0, TIOCSPGRP, core::ptr::from_ref(&group) as usize, 0);
    let none: u64 = 0;
    mask(&none);
    // SAFETY: the caller has checked that there is a first argument.
    let program = bytes(unsafe { *argv });
    let error = if program.contains(&b'/') {
        execute(program, &[], argv, environment)
    } else {
        search(program, argv, environment)
    };
    let (reason, code): (&[u8], i32) = match error {
        ENOENT => (b"no such file or directory", 127),
        EACCES => (b"permission denied", 126),
        _ => (b"cannot be executed", 126),
    };
    fail(program, reason, code)
}

fn getpid() -> i32 {
    i32::try_from(syscall(number::GETPID, 0, 0, 0, 0)).unwrap_or(1)
}

/// Tries each folder of PATH; a file that may not be executed is told only when no other is found.
fn search(program: &[u8], argv: *const *const u8, environment: *const *const u8) -> isize {
    let mut result = ENOENT;
    for folder in path_of(environment).split(|byte| *byte == b':') {
        let folder: &[u8] = if folder.is_empty() { b"." } else { folder };
        let error = execute(folder, program, argv, environment);
        if error != ENOENT && error != ENOTDIR {
            result = error;
        }
    }
    result
}

fn path_of(mut environment: *const *const u8) -> &'static [u8] {
    loop {
        // SAFETY: the environment ends with a null, at which this stops.
        let variable = unsafe { *environment };
        if variable.is_null() {
            return DEFAULT_PATH;
        }
        if let Some(path) = bytes(variable).strip_prefix(b"PATH=") {
            return path;
        }
        // SAFETY: not the null yet, so there is a next one.
        environment = unsafe { environment.add(1) };
    }
}

/// Executes `folder/program`, or `folder` alone when `program` is empty; returns the error.
fn execute(folder: &[u8], program: &[u8], argv: *const *const u8, environment: *const *const u8) -> isize {
    let mut path = [0_u8; 4096];
    let mut length = 0;
    let slash: &[u8] = if program.is_empty() { b"" } else { b"/" };
    for part in [folder, slash, program] {
        let Some(room) = path.get_mut(length..length + part.len()) else { return ENOENT };
        room.copy_from_slice(part);
        length += part.len();
    }
    if length >= path.len() {
        return ENOENT;
    }
    syscall(number::EXECVE, path.as_ptr() as usize, argv as usize, environment as usize, 0)
}

/// In the parent: one signal after another, until the child has ended.
fn supervise(child: isize) -> ! {
    let all: u64 = !0;
    loop {
        let signal = syscall(number::SIGTIMEDWAIT, core::ptr::from_ref(&all) as usize, 0, 0, 8);
        match usize::try_from(signal) {
            Ok(SIGCHLD) => reap(child),
            // Of the terminal's own job control, which is the child's group's business.
            Ok(SIGTTIN | SIGTTOU) => {}
            Ok(signal) => {
                syscall(number::KILL, child.unsigned_abs(), signal, 0, 0);
            }
            // Interrupted; the next wait tells.
            Err(_) => {}
        }
    }
}

fn reap(child: isize) {
    loop {
        let mut status: i32 = 0;
        let ended = syscall(number::WAIT4, usize::MAX, core::ptr::from_mut(&mut status) as usize, WNOHANG, 0);
        if ended <= 0 {
            return;
        }
        if ended == child {
            let signal = status & 0x7f;
            exit(if signal == 0 { (status >> 8) & 0xff } else { 128 + signal });
        }
    }
}

/// The bytes of a C string, without its null.
fn bytes(text: *const u8) -> &'static [u8] {
    let mut length = 0;
    // SAFETY: the kernel's strings end with a null byte and live as long as the process.
    unsafe {
        while *text.add(length) != 0 {
            length += 1;
        }
        core::slice::from_raw_parts(text, length)
    }
}

fn fail(what: &[u8], reason: &[u8], code: i32) -> ! {
    let separator: &[u8] = if reason.is_empty() { b"" } else { b": " };
    for part in [b"ferry-init: " as &[u8], what, separator, reason, b"\n"] {
        syscall(number::WRITE, 2, part.as_ptr() as usize, part.len(), 0);
    }
    exit(code)
}

fn exit(code: i32) -> ! {
    loop {
        syscall(number::EXIT_GROUP, code.unsigned_abs() as usize, 0, 0, 0);
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(101)
}

/// Compilers may put in calls to these; without a C library they must be here.
#[unsafe(no_mangle)]
extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    for index in 0..count {
        // SAFETY: the compiler's contract: both regions hold `count` bytes and do not overlap. Volatile, so that this loop is not itself
        // turned into a call of memcpy.
        unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
    }
    to
}

/// See [`memcpy`].
#[unsafe(no_mangle)]
extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    let byte = byte.to_le_bytes()[0];
    for index in 0..count {
        // SAFETY: the compiler's contract: the region holds `count` bytes.
        unsafe { to.add(index).write_volatile(byte) };
    }
    to
}

/// See [`memcpy`].
#[unsafe(no_mangle)]
extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    for index in 0..count {
        // SAFETY: the compiler's contract: both regions hold `count` bytes.
        let (x, y) = unsafe { (a.add(index).read_volatile(), b.add(index).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

/// See [`memcpy`].
#[unsafe(no_mangle)]
extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    memcmp(a, b, count)
}

/// See [`memcpy`].
#[unsafe(no_mangle)]
extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the compiler's contract: the string ends with a null byte.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

/// The precompiled `core` names it in its tables; with `panic=abort` nobody calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
