//! What `ferry run hello-world` runs: prints what happened on the way here.
//!
//! No standard library, no C library, no allocation: one `write` and one `exit`. The kernel enters at `_start`.

#![no_std]
#![no_main]

use core::arch::asm;
use core::panic::PanicInfo;

const TEXT: &[u8] = b"
Hello from ferry!
Your container engine works. On the way to this line,

 1. the ferry client asked the ferryd daemon for a container, over the Engine API;
 2. the daemon found the image \"hello-world\": here, at a registry, or bundled with itself;
 3. its layer was verified and unpacked, and an overlay gave this container a file system of its own;
 4. a network namespace with an address on the bridge was made while the files were prepared;
 5. a shim built the container: namespaces, cgroup, few capabilities, a seccomp filter;
 6. the shim logs this text and sends it through the daemon to your terminal.

Next, try a shell in an image of your own choice:

 $ ferry run -it --rm debian:12 bash

";

/// The kernel's entry point.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    let mut rest = TEXT;
    while !rest.is_empty() {
        match write(rest) {
            written @ 1.. => rest = &rest[written.unsigned_abs().min(rest.len())..],
            _ => exit(1),
        }
    }
    exit(0)
}

#[cfg(target_arch = "x86_64")]
fn write(bytes: &[u8]) -> isize {
    let result: isize;
    // SAFETY: write(2) reads `bytes.len()` bytes from a live slice and changes nothing but the registers named here. There is no safe
    // call without a standard library.
    unsafe {
        asm!("syscall", inlateout("rax") 1_isize => result, in("rdi") 1, in("rsi") bytes.as_ptr(), in("rdx") bytes.len(),
            lateout("rcx") _, lateout("r11") _, options(nostack, readonly));
    }
    result
}

#[cfg(target_arch = "x86_64")]
fn exit(code: i32) -> ! {
    // SAFETY: exit_group(2) does not return. There is no safe call without a standard library.
    unsafe { asm!("syscall", in("rax") 231, in("rdi") code, options(noreturn, nostack)) }
}

#[cfg(target_arch = "aarch64")]
fn write(bytes: &[u8]) -> isize {
    let result: isize;
    // SAFETY: write(2) reads `bytes.len()` bytes from a live slice and changes nothing but the registers named here. There is no safe
    // call without a standard library.
    unsafe {
        asm!("svc 0", in("x8") 64, inlateout("x0") 1_isize => result, in("x1") bytes.as_ptr(), in("x2") bytes.len(),
            options(nostack, readonly));
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn exit(code: i32) -> ! {
    // SAFETY: exit_group(2) does not return. There is no safe call without a standard library.
    unsafe { asm!("svc 0", in("x8") 94, in("x0") code, options(noreturn, nostack)) }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(101)
}
