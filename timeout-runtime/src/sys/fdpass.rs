//! Sockets between processes of one program, and descriptors that travel on them.

#![expect(unsafe_code, reason = "received descriptors are numbers, and credentials have no wrapper here")]

use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    Result,
    errno::Errno,
    sys::socket::{
        self, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, getsockopt, sockopt,
    },
    unistd::{Pid, getuid},
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
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], waits: bool) -> Result<(usize, Vec<OwnedFd>)> {
    let mut room = nix::cmsg_space!([RawFd; MOST]);
    let patience = if waits { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    let flags = patience | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut pieces = [IoSliceMut::new(buffer)];
    let message = loop {
        match socket::recvmsg::<()>(socket.as_raw_fd(), &mut pieces, Some(&mut room), flags) {
            Err(Errno::EINTR) => pieces = [IoSliceMut::new(buffer)],
            result => break result?,
        }
    };
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel has just opened these for us, and nobody else owns them.
            fds.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let fds = fds.into_iter().map(above_stdio).collect::<Result<_>>()?;
    Ok((message.bytes, fds))
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

/// Whether `fd` is a socket that the process `maker` made as one of a pair, with this process's user.
pub(crate) fn is_made_by(fd: BorrowedFd<'_>, maker: Pid) -> bool {
    getsockopt(&fd, sockopt::SockType) == Ok(SockType::SeqPacket)
        && getsockopt(&fd, sockopt::PeerCredentials)
            .is_ok_and(|peer| peer.pid() == maker.as_raw() && peer.uid() == getuid().as_raw())
}
