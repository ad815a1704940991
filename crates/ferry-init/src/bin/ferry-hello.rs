//! The program of the bundled hello-world image: prints what was done to run it.
//!
//! One file without std or libc when panics abort (see `build.rs`); else an ordinary program.
#![cfg_attr(panic = "abort", no_std)]
#![cfg_attr(panic = "abort", no_main)]
#![allow(unsafe_code, reason = "a program without std speaks to the kernel itself")]

const TEXT: &str = "
Hello from ferry!
Your installation works. To show you this text, these steps were taken:

 1. The client, `ferry`, asked the daemon, `ferryd`, over its API to run the image
    hello-world.
 2. The daemon found the image at hand or pulled it from its registry, and checked every
    part of it by its digest.
 3. It unpacked the layers, read-only and shared by all containers of the image, and put a
    writable layer on top for this container alone.
 4. It made a container with namespaces, a cgroup, a seccomp filter, few capabilities and
    a network of its own, and ran this program in it.
 5. The container's shim carried what the program writes to the log and to your terminal.

Something larger to try:
 $ ferry run -it debian bash

";

fn write(text: &[u8]) -> isize {
    #[cfg(panic = "abort")]
    let answer = bare::write(text);
    #[cfg(not(panic = "abort"))]
    let answer = std::io::Write::write(&mut std::io::stdout(), text).map_or(-1, |written| written as isize);
    answer
}

/// Writes the whole text; the exit code says whether it could be written.
fn hello() -> usize {
    let mut rest = TEXT.as_bytes();
    while !rest.is_empty() {
        match write(rest) {
            written if written > 0 => rest = rest.get(written as usize..).unwrap_or_default(),
            // Interrupted.
            -4 => {}
            _ => return 1,
        }
    }
    0
}

#[cfg(panic = "abort")]
mod bare {
    //! What std and libc would bring.

    #[cfg(target_arch = "x86_64")]
    core::arch::global_asm!(
        ".globl _start",
        "_start:",
        "xor %ebp, %ebp",
        "and $-16, %rsp",
        "call ferry_start",
        options(att_syntax)
    );

    #[cfg(target_arch = "aarch64")]
    core::arch::global_asm!(".globl _start", "_start:", "mov x29, #0", "bl ferry_start");

    #[cfg(target_arch = "x86_64")]
    const NUMBERS: (usize, usize) = (1, 231);
    #[cfg(target_arch = "aarch64")]
    const NUMBERS: (usize, usize) = (64, 94);

    #[cfg(target_arch = "x86_64")]
    fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
        let answer: isize;
        // SAFETY: only write of a valid slice and exit are called; the kernel changes only the registers named.
        unsafe {
            core::arch::asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") a, in("rsi") b, in("rdx") c,
                out("rcx") _, out("r11") _, options(nostack));
        }
        answer
    }

    #[cfg(target_arch = "aarch64")]
    fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
        let answer: isize;
        // SAFETY: only write of a valid slice and exit are called; the kernel changes only the registers named.
        unsafe {
            core::arch::asm!("svc 0", in("x8") number, inlateout("x0") a => answer, in("x1") b, in("x2") c, options(nostack));
        }
        answer
    }

    pub(super) fn write(text: &[u8]) -> isize {
        call(NUMBERS.0, 1, text.as_ptr() as usize, text.len())
    }

    #[unsafe(no_mangle)]
    extern "C" fn ferry_start() -> ! {
        let code = super::hello();
        loop {
            call(NUMBERS.1, code, 0, 0);
        }
    }

    /// Named by unwind tables of core, which nobody reads here.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {
            call(NUMBERS.1, 101, 0, 0);
        }
    }
}

#[cfg(not(panic = "abort"))]
fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(hello() as u8)
}
