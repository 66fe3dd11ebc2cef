//! Forbids one system call to this process and all it will start, as a sandbox does.
#![expect(unsafe_code, reason = "prctl(2) takes a raw filter program")]

use nix::{errno::Errno, libc};

/// Has the system call `number` fail with `errno` from now on.
pub(crate) fn forbid(number: libc::c_long, errno: Errno) {
    install(&mut [
        load(0),
        skip_unless(number as u32, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ]);
}

/// The same, for one value of its first argument.
pub(crate) fn forbid_with_first_argument(number: libc::c_long, argument: u32, errno: Errno) {
    forbid_with_argument(number, 16, argument, errno);
}

/// The same, for one value of its second argument.
pub(crate) fn forbid_with_second_argument(number: libc::c_long, argument: u32, errno: Errno) {
    forbid_with_argument(number, 24, argument, errno);
}

fn forbid_with_argument(number: libc::c_long, offset: u32, argument: u32, errno: Errno) {
    install(&mut [
        load(0),
        skip_unless(number as u32, 3),
        load(offset),
        skip_unless(argument, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ]);
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Loads a word of `struct seccomp_data`: the call's number is first, the arguments begin at 16.
fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn skip_unless(value: u32, lines: u8) -> libc::sock_filter {
    libc::sock_filter { jf: lines, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value) }
}

fn install(program: &mut [libc::sock_filter]) {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: takes numbers.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0, "no_new_privs: {}", Errno::last());
    // SAFETY: the program lives for the call, and the kernel copies it. It applies to the calling thread only; the
    // scenario's other thread does nothing but wait for it.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(result, 0, "seccomp: {}", Errno::last());
}
