//! PID 1 of `--init`: starts the program, passes signals on, reaps orphans, ends as the program does.
//!
//! One file without std or libc when panics abort (see `build.rs`); else an ordinary program. Needs no memory but its stack.
#![cfg_attr(panic = "abort", no_std)]
#![cfg_attr(panic = "abort", no_main)]
#![allow(unsafe_code, reason = "a program without std speaks to the kernel itself")]

use core::ffi::{CStr, c_char};

/// The kernel's calls, by the machine's own convention.
mod kernel {
    #[cfg(target_arch = "x86_64")]
    pub(crate) mod number {
        pub(crate) const WRITE: usize = 1;
        pub(crate) const RT_SIGPROCMASK: usize = 14;
        pub(crate) const IOCTL: usize = 16;
        pub(crate) const GETPID: usize = 39;
        pub(crate) const CLONE: usize = 56;
        pub(crate) const EXECVE: usize = 59;
        pub(crate) const WAIT4: usize = 61;
        pub(crate) const KILL: usize = 62;
        pub(crate) const SETPGID: usize = 109;
        pub(crate) const RT_SIGTIMEDWAIT: usize = 128;
        pub(crate) const EXIT_GROUP: usize = 231;
    }

    #[cfg(target_arch = "aarch64")]
    pub(crate) mod number {
        pub(crate) const WRITE: usize = 64;
        pub(crate) const RT_SIGPROCMASK: usize = 135;
        pub(crate) const IOCTL: usize = 29;
        pub(crate) const GETPID: usize = 172;
        pub(crate) const CLONE: usize = 220;
        pub(crate) const EXECVE: usize = 221;
        pub(crate) const WAIT4: usize = 260;
        pub(crate) const KILL: usize = 129;
        pub(crate) const SETPGID: usize = 154;
        pub(crate) const RT_SIGTIMEDWAIT: usize = 137;
        pub(crate) const EXIT_GROUP: usize = 94;
    }

    /// Makes a call; a negative answer is an errno.
    ///
    /// # Safety
    /// The arguments must be what that call takes.
    #[cfg(target_arch = "x86_64")]
    pub(crate) unsafe fn call(number: usize, arguments: [usize; 5]) -> isize {
        let answer: isize;
        // SAFETY: the caller vouches for the arguments; the kernel changes only the registers named.
        unsafe {
            core::arch::asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") arguments[0], in("rsi") arguments[1],
                in("rdx") arguments[2], in("r10") arguments[3], in("r8") arguments[4], out("rcx") _, out("r11") _, options(nostack));
        }
        answer
    }

    /// Makes a call; a negative answer is an errno.
    ///
    /// # Safety
    /// The arguments must be what that call takes.
    #[cfg(target_arch = "aarch64")]
    pub(crate) unsafe fn call(number: usize, arguments: [usize; 5]) -> isize {
        let answer: isize;
        // SAFETY: the caller vouches for the arguments; the kernel changes only the registers named.
        unsafe {
            core::arch::asm!("svc 0", in("x8") number, inlateout("x0") arguments[0] => answer, in("x1") arguments[1],
                in("x2") arguments[2], in("x3") arguments[3], in("x4") arguments[4], options(nostack));
        }
        answer
    }
}

use kernel::{call, number};

type Strings = *const *const c_char;

const SIGCHLD: usize = 17;
const SIGNAL_SET_SIZE: usize = 8;
const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
const EINTR: isize = -4;
const ENOENT: isize = -2;
const EACCES: isize = -13;
const ENOTDIR: isize = -20;
const TIOCSPGRP: usize = 0x5410;

/// Signals that mean a fault of the process that gets them: they stay with it. SIGTTIN and SIGTTOU stay out as well, since they would stop us.
const NOT_PASSED_ON: [u32; 7] = [4, 5, 6, 7, 8, 11, 31];

fn say(text: &[u8]) {
    // SAFETY: pointer and length are of one slice.
    unsafe { call(number::WRITE, [2, text.as_ptr() as usize, text.len(), 0, 0]) };
}

fn end(code: usize) -> ! {
    loop {
        // SAFETY: takes a number and does not return.
        unsafe { call(number::EXIT_GROUP, [code, 0, 0, 0, 0]) };
    }
}

fn set_mask(mask: u64, old: &mut u64) {
    let (new, old) = ((&raw const mask) as usize, (&raw mut *old) as usize);
    // SAFETY: both point to sets of the size given.
    unsafe { call(number::RT_SIGPROCMASK, [SIG_SETMASK, new, old, SIGNAL_SET_SIZE, 0]) };
}

fn own_pid() -> usize {
    // SAFETY: takes nothing.
    unsafe { call(number::GETPID, [0; 5]) as usize }
}

/// # Safety
/// Both must be lists of C strings that end with a null pointer.
unsafe fn run(arguments: Strings, environment: Strings) -> ! {
    // SAFETY: a process has at least its name, or nothing at all; the list ends with a null pointer.
    let program = unsafe { program_of(arguments) };
    let Some(program) = program else {
        say(b"usage: ferry-init -- program [arguments]\n");
        end(1);
    };
    let mut handled = u64::MAX;
    for signal in NOT_PASSED_ON {
        handled &= !(1 << (signal - 1));
    }
    let mut before = 0;
    set_mask(handled, &mut before);
    // SAFETY: like fork: no shared memory, so the child has its own copy of this stack.
    let child = unsafe { call(number::CLONE, [SIGCHLD, 0, 0, 0, 0]) };
    if child < 0 {
        say(b"ferry-init: fork failed\n");
        end(1);
    }
    if child == 0 {
        // SAFETY: as promised by the caller.
        unsafe { become_program(program, environment, before) };
    }
    attend(child, handled);
}

/// The list from the program on.
unsafe fn program_of(arguments: Strings) -> Option<Strings> {
    let mut at = arguments;
    // SAFETY: never read beyond the null pointer that ends the list.
    unsafe {
        if (*at).is_null() {
            return None;
        }
        at = at.add(1);
        if !(*at).is_null() && CStr::from_ptr(*at).to_bytes() == b"--" {
            at = at.add(1);
        }
        if (*at).is_null() { None } else { Some(at) }
    }
}

unsafe fn become_program(program: Strings, environment: Strings, mask: u64) -> ! {
    let group = own_pid() as u32;
    // SAFETY: takes numbers; a pointer to a number. Without a terminal the second call fails, which is as good.
    unsafe {
        call(number::SETPGID, [0, 0, 0, 0, 0]);
        call(number::IOCTL, [0, TIOCSPGRP, (&raw const group) as usize, 0, 0]);
    }
    let mut ignored = 0;
    set_mask(mask, &mut ignored);
    // SAFETY: the list holds at least the program.
    let name = unsafe { CStr::from_ptr(*program) }.to_bytes_with_nul();
    let error = if name.contains(&b'/') {
        execute(name, program, environment)
    } else {
        // SAFETY: as promised by the caller.
        search(name, unsafe { path_of(environment) }, program, environment)
    };
    say(b"ferry-init: exec ");
    say(&name[..name.len() - 1]);
    say(match error {
        ENOENT | ENOTDIR => b" failed: no such file or directory\n",
        EACCES => b" failed: permission denied\n",
        _ => b" failed: it is not a program for this machine\n",
    });
    end(if matches!(error, ENOENT | ENOTDIR) { 127 } else { 126 })
}

fn execute(path: &[u8], program: Strings, environment: Strings) -> isize {
    // SAFETY: the path ends with a zero byte, the lists are those that this process was given.
    unsafe { call(number::EXECVE, [path.as_ptr() as usize, program as usize, environment as usize, 0, 0]) }
}

/// Tries the folders of `PATH`.
fn search(name: &[u8], path: &[u8], program: Strings, environment: Strings) -> isize {
    const LONGEST: usize = 4096;
    let mut worst = ENOENT;
    for folder in path.split(|byte| *byte == b':') {
        let mut candidate = [0u8; LONGEST];
        if folder.is_empty() || folder.len() + 1 + name.len() > LONGEST {
            continue;
        }
        let mut length = 0;
        for &byte in folder.iter().chain(b"/").chain(name) {
            candidate[length] = byte;
            length += 1;
        }
        match execute(&candidate[..length], program, environment) {
            ENOENT | ENOTDIR => {}
            other => worst = other,
        }
    }
    worst
}

unsafe fn path_of<'a>(environment: Strings) -> &'a [u8] {
    let mut at = environment;
    // SAFETY: never read beyond the null pointer that ends the list; the strings live as long as the process.
    unsafe {
        while !(*at).is_null() {
            if let Some(path) = CStr::from_ptr(*at).to_bytes().strip_prefix(b"PATH=") {
                return path;
            }
            at = at.add(1);
        }
    }
    b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

fn attend(child: isize, handled: u64) -> ! {
    loop {
        // SAFETY: points to a set of the size given; no details are asked for, no time is set.
        let signal =
            unsafe { call(number::RT_SIGTIMEDWAIT, [(&raw const handled) as usize, 0, 0, SIGNAL_SET_SIZE, 0]) };
        match signal {
            EINTR => {}
            signal if signal == SIGCHLD as isize => reap(child),
            // SIGTTIN and SIGTTOU concern whoever is in the background, which is us.
            21 | 22 => {}
            signal if signal > 0 => {
                // SAFETY: takes numbers; our child was not waited for yet, so the pid is its.
                unsafe { call(number::KILL, [child as usize, signal as usize, 0, 0, 0]) };
            }
            _ => {}
        }
    }
}

/// Waits for all that have ended; ends when the program is among them.
fn reap(child: isize) {
    let mut code = None;
    loop {
        let mut status = 0u32;
        // SAFETY: points to a number; no usage is asked for.
        let pid = unsafe { call(number::WAIT4, [usize::MAX, (&raw mut status) as usize, WNOHANG, 0, 0]) };
        match pid {
            EINTR => continue,
            pid if pid <= 0 => break,
            pid if pid == child => {
                let signal = status & 0x7f;
                code = Some(if signal == 0 { status >> 8 & 0xff } else { 128 + signal });
            }
            _ => {}
        }
    }
    if let Some(code) = code {
        end(code as usize);
    }
}

#[cfg(panic = "abort")]
mod bare {
    //! What std and libc would bring.

    use core::ffi::c_char;

    #[cfg(target_arch = "x86_64")]
    core::arch::global_asm!(
        ".globl _start",
        "_start:",
        "xor %ebp, %ebp",
        "mov %rsp, %rdi",
        "and $-16, %rsp",
        "call ferry_start",
        options(att_syntax)
    );

    #[cfg(target_arch = "aarch64")]
    core::arch::global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x0, sp", "bl ferry_start");

    /// # Safety
    /// `stack` is where the kernel has put the number of arguments, the arguments and the environment.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn ferry_start(stack: *const usize) -> ! {
        // SAFETY: the layout of a new process' stack.
        unsafe {
            let arguments = stack.add(1).cast::<*const c_char>();
            super::run(arguments, arguments.add(*stack + 1));
        }
    }

    /// Named by unwind tables of core, which nobody reads here.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        super::end(101)
    }

    /// # Safety
    /// As C has it.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
        for at in 0..count {
            // SAFETY: both are valid for `count` bytes; volatile keeps this from being made a call of itself.
            unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
        }
        to
    }

    /// # Safety
    /// As C has it.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
        for at in 0..count {
            // SAFETY: valid for `count` bytes; volatile keeps this from being made a call of itself.
            unsafe { to.add(at).write_volatile(byte as u8) };
        }
        to
    }

    /// # Safety
    /// As C has it.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
        for at in 0..count {
            // SAFETY: both are valid for `count` bytes; volatile keeps this from being made a call of itself.
            let (a, b) = unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
            if a != b {
                return i32::from(a) - i32::from(b);
            }
        }
        0
    }

    /// # Safety
    /// As C has it.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
        // SAFETY: the same contract.
        unsafe { memcmp(one, other, count) }
    }

    /// # Safety
    /// As C has it.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const c_char) -> usize {
        let mut length = 0;
        // SAFETY: a C string is valid up to its zero byte.
        while unsafe { text.add(length).read_volatile() } != 0 {
            length += 1;
        }
        length
    }
}

#[cfg(not(panic = "abort"))]
fn main() {
    use std::os::unix::ffi::OsStringExt as _;
    let text = |bytes: Vec<u8>| std::ffi::CString::new(bytes).expect("the kernel's strings have no zero byte in them");
    let arguments: Vec<_> = std::env::args_os().map(|argument| text(argument.into_vec())).collect();
    let environment: Vec<_> =
        std::env::vars_os().map(|(name, value)| text([name.into_vec(), value.into_vec()].join(&b'='))).collect();
    let list = |strings: &[std::ffi::CString]| -> Vec<*const c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([core::ptr::null()]).collect()
    };
    let (arguments, environment) = (list(&arguments), list(&environment));
    // SAFETY: lists of C strings that outlive the call, with a null pointer at their ends.
    unsafe { run(arguments.as_ptr(), environment.as_ptr()) }
}
