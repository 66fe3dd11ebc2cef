//! Sockets between processes of one program, and descriptors that travel on them.

#![expect(unsafe_code, reason = "received descriptors are numbers, and credentials have no wrapper here")]

use std::{
    io::IoSlice,
    mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    Result,
    errno::Errno,
    libc,
    sys::socket::{self, AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, getsockopt, sockopt},
    unistd::{Pid, geteuid},
};

use super::fd::above_stdio;

/// The most descriptors that travel with one message.
pub(crate) const MOST: usize = 4;

/// Makes two connected sockets for messages, each of which arrives whole or not at all.
pub(crate) fn messages() -> Result<(OwnedFd, OwnedFd)> {
    pair(SockType::SeqPacket)
}

/// Makes two connected sockets for bytes.
pub(crate) fn stream() -> Result<(OwnedFd, OwnedFd)> {
    pair(SockType::Stream)
}

fn pair(kind: SockType) -> Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socket::socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((above_stdio(ours)?, above_stdio(theirs)?))
}

/// Sends what there is room for, with `fds`. Never waits, and never raises `SIGPIPE`.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) -> Result<usize> {
    let message = [ControlMessage::ScmRights(fds)];
    let with = if fds.is_empty() { &[][..] } else { &message[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match socket::sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], with, flags, None) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Receives into `buffer`; 0 bytes mean that the other side is gone. Without `waits`, `EAGAIN` means that nothing is there.
///
/// Where this process has no room for all descriptors, fewer come.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], waits: bool) -> Result<(usize, Vec<OwnedFd>)> {
    let mut room = Room([0; ROOM]);
    let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a message without anything.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut piece, 1);
    let patience = if waits { 0 } else { libc::MSG_DONTWAIT };
    let received = loop {
        (message.msg_control, message.msg_controllen) = ((&raw mut room).cast(), ROOM as _);
        // SAFETY: the message points to a buffer and a room that live as long, with their sizes.
        let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, patience | libc::MSG_CMSG_CLOEXEC) };
        match Errno::result(result) {
            Err(Errno::EINTR) => {}
            // Not negative.
            result => break result?.unsigned_abs(),
        }
    };
    // All are taken, those of a message that was cut as well: what the kernel has opened is ours to close.
    let fds = descriptors(&message).into_iter().map(above_stdio).collect::<Result<_>>()?;
    Ok((received, fds))
}

/// How much room the descriptors of a message take.
// SAFETY: computes a number.
const ROOM: usize = unsafe { libc::CMSG_SPACE((MOST * size_of::<RawFd>()) as libc::c_uint) } as usize;

/// The room for them, where their header may lie.
#[repr(C, align(8))]
struct Room([u8; ROOM]);

/// Takes the descriptors that have come with a message. To be called once.
fn descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled the message in.
    let mut part = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !part.is_null() {
        // SAFETY: it lies in the room, which is aligned for it.
        let header = unsafe { &*part };
        if (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: the numbers lie behind the header, in the room.
            let numbers = unsafe { libc::CMSG_DATA(part) }.cast::<RawFd>();
            // SAFETY: computes a number.
            let empty = unsafe { libc::CMSG_LEN(0) };
            let count = (header.cmsg_len as usize).saturating_sub(empty as usize) / size_of::<RawFd>();
            for index in 0..count.min(MOST) {
                // SAFETY: the length in the header covers it.
                let number = unsafe { numbers.wrapping_add(index).read_unaligned() };
                // SAFETY: the kernel has just opened it for us, and nobody else owns it.
                fds.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
        // SAFETY: as for the first.
        part = unsafe { libc::CMSG_NXTHDR(message, part) };
    }
    fds
}

/// Looks at the first byte of the next message and leaves it there; `EAGAIN` means that there is none.
pub(crate) fn peek(socket: BorrowedFd<'_>) -> Result<u8> {
    let mut byte = [0];
    match socket::recv(socket.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK)? {
        0 => Err(Errno::ECONNRESET),
        _ => Ok(byte[0]),
    }
}

/// Ends a connection for everybody who has an end of it, copies of forked processes included.
pub(crate) fn hang_up(socket: BorrowedFd<'_>) {
    let _ = socket::shutdown(socket.as_raw_fd(), socket::Shutdown::Both);
}

/// Whether `fd` is a socket that the process `maker` made as one of a pair, with the user in effect here.
pub(crate) fn is_made_by(fd: BorrowedFd<'_>, maker: Pid) -> bool {
    getsockopt(&fd, sockopt::SockType) == Ok(SockType::SeqPacket)
        && getsockopt(&fd, sockopt::PeerCredentials)
            .is_ok_and(|peer| peer.pid() == maker.as_raw() && peer.uid() == geteuid().as_raw())
}
