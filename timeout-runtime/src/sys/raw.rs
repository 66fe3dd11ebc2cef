//! System calls that touch nothing of the C library, neither its code nor its `errno`.
//!
//! A forked process maps each page of code when it first runs it and copies each page of data when it first writes to
//! it, and either takes as long as ten system calls. So what every child does before its body runs goes through here or
//! through rustix, which has most of it, and is inlined: it then lies in one or two pages together.

#![expect(unsafe_code, reason = "the instruction that makes a system call")]

use nix::libc;

/// The number of an error. As an [`Errno`] it would need a table of all, which is one page more to come to.
pub(crate) type Number = i32;

/// So many arguments are passed; those that a call does not have are 0.
const MOST: usize = 6;

/// Makes the system call `number`.
///
/// # Safety
/// As for the call; every argument that is an address is exposed and points to what the call expects there.
#[inline(always)]
pub(crate) unsafe fn call<const N: usize>(number: libc::c_long, arguments: [usize; N]) -> Result<usize, Number> {
    let mut all = [0; MOST];
    all[..N].copy_from_slice(&arguments);
    // SAFETY: as the caller promises.
    let result = unsafe { enter(number, all) };
    // The kernel's errors are the numbers from -4095 on.
    match result {
        -4095..0 => Err(-result as Number),
        _ => Ok(result.cast_unsigned()),
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn enter(number: libc::c_long, [a, b, c, d, e, f]: [usize; MOST]) -> isize {
    let result;
    // SAFETY: the kernel keeps every register but these three, and what memory it writes is the caller's to answer for.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn enter(number: libc::c_long, [a, b, c, d, e, f]: [usize; MOST]) -> isize {
    let result;
    // SAFETY: the kernel keeps every register but the result's, and what memory it writes is the caller's to answer for.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn enter(number: libc::c_long, [a, b, c, d, e, f]: [usize; MOST]) -> isize {
    // SAFETY: as the caller promises.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { -(nix::errno::Errno::last_raw() as isize) } else { result as isize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_number_or_an_error() {
        // SAFETY: takes no arguments.
        let pid = unsafe { call(libc::SYS_getpid, []) };
        assert_eq!(pid, Ok(std::process::id() as usize));
        // SAFETY: takes a number.
        let closed = unsafe { call(libc::SYS_close, [usize::MAX]) };
        assert_eq!(closed, Err(libc::EBADF));
    }

    #[test]
    fn every_argument_arrives() {
        let (mut set, size) = (0u64, size_of::<u64>());
        let blocked = nix::sys::signal::SigSet::thread_get_mask().unwrap();
        let how = libc::SIG_BLOCK as usize;
        // SAFETY: reads the mask into `set`, whose size is given.
        unsafe { call(libc::SYS_rt_sigprocmask, [how, 0, (&raw mut set).expose_provenance(), size]) }.unwrap();
        assert_eq!(set.count_ones() as usize, blocked.iter().count());
    }
}
