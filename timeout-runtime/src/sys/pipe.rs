//! The result pipe: made, read and written without ever blocking the caller or touching memory that holds no data.

#![expect(unsafe_code, reason = "reading into spare capacity has no safe wrapper")]

use std::{
    mem::{MaybeUninit, size_of},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use bytemuck::{AnyBitPattern, NoUninit};
use nix::{
    Result,
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc, unistd,
};

use super::{
    fault::{self, Op},
    fd::above_stdio,
    raw,
};

/// Makes a pipe whose ends are closed by `exec` and never block; the writing end does after [`disarm`](super::lifeline::disarm).
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    fault::check(Op::Pipe)?;
    let (read, write) = unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    Ok((above_stdio(read)?, above_stdio(write)?))
}

/// Reads what is there, up to the length of `buffer`; 0 means that every writing end is closed.
pub(crate) fn read(pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    fault::check(Op::Read)?;
    unistd::read(pipe, buffer)
}

/// Whether there is something to read. Unlike a read it does not signal a child whose lifeline is armed.
pub(crate) fn has_bytes(pipe: BorrowedFd<'_>) -> bool {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, to `count`.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    result == 0 && count > 0
}

/// Writes all of `bytes`, waiting for the reader where the pipe is full.
#[inline]
pub(crate) fn write_all(pipe: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match fault::check(Op::Write).and_then(|()| write(pipe, bytes)) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Writes parts that together are small enough to go through at once or not at all (`PIPE_BUF`, pipe(7)).
#[inline]
pub(crate) fn write_at_once<const N: usize>(pipe: BorrowedFd<'_>, parts: [&[u8]; N]) -> Result<()> {
    let parts = parts.map(|part| [part.as_ptr().expose_provenance(), part.len()]);
    let arguments = [pipe.as_raw_fd().cast_unsigned() as usize, parts.as_ptr().expose_provenance(), N];
    loop {
        // SAFETY: each part is an address and a length, as in `struct iovec`, and is only read.
        let written = fault::check(Op::Write)
            .and_then(|()| unsafe { raw::call(libc::SYS_writev, arguments) }.map_err(Errno::from_raw));
        match written {
            Err(Errno::EINTR) => {}
            written => return written.map(drop),
        }
    }
}

#[inline]
fn write(pipe: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    let arguments = [pipe.as_raw_fd().cast_unsigned() as usize, bytes.as_ptr().expose_provenance(), bytes.len()];
    // SAFETY: the kernel reads the bytes, and no more of them than there are.
    unsafe { raw::call(libc::SYS_write, arguments) }.map_err(Errno::from_raw)
}

/// Asks for a pipe of 1 MiB; stays as it is where the user's allowance of pipe memory is spent (pipe(7)).
pub(crate) fn widen(pipe: BorrowedFd<'_>) {
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(1 << 20));
}

/// Plain numbers that arrive byte by byte, in a vector that never holds a half-arrived one.
pub(crate) struct PlainVec<P> {
    items: Vec<P>,
    /// Bytes that have arrived, of which the last few may be the beginning of a number.
    filled: usize,
}

impl<P: AnyBitPattern + NoUninit> PlainVec<P> {
    pub(crate) const fn new() -> Self {
        PlainVec { items: Vec::new(), filled: 0 }
    }

    /// Makes room for at least one byte more, for what has arrived once more at the most, and for `left` bytes at the
    /// very most; so a sender's false promise of a huge value costs no memory.
    pub(crate) fn make_room(&mut self, left: u64) -> std::result::Result<(), std::collections::TryReserveError> {
        const FIRST: usize = 64 << 10;
        if self.spare().is_empty() {
            let step = u64::try_from(self.filled.max(FIRST)).unwrap_or(u64::MAX).min(left);
            let more = usize::try_from(step).unwrap_or(usize::MAX).div_ceil(size_of::<P>());
            let begun = usize::from(!self.filled.is_multiple_of(size_of::<P>()));
            self.items.try_reserve_exact(more + begun)?;
        }
        Ok(())
    }

    /// The bytes behind what has arrived.
    fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        let begun = self.filled - self.items.len() * size_of::<P>();
        let spare = self.items.spare_capacity_mut();
        let (start, length) = (spare.as_mut_ptr().cast::<MaybeUninit<u8>>(), size_of_val(spare));
        // SAFETY: memory of P seen as bytes that may be uninitialized; the borrow of `self` covers it.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start, length) };
        &mut bytes[begun..]
    }

    /// Says that `count` bytes of the spare ones now hold data.
    ///
    /// # Safety
    /// They do.
    unsafe fn advance(&mut self, count: usize) {
        self.filled += count;
        // SAFETY: the caller vouches for `filled` bytes, every whole P of them is initialized, and a P may have any bits.
        unsafe { self.items.set_len(self.filled / size_of::<P>()) };
    }

    /// Takes as many of `bytes` as there is room for.
    pub(crate) fn copy_from(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let count = bytes.len().min(spare.len());
        spare[..count].write_copy_of_slice(&bytes[..count]);
        // SAFETY: the first `count` spare bytes have just been written.
        unsafe { self.advance(count) };
        count
    }

    /// Reads what is there, into the room there is, up to `at_most` bytes; 0 means that every writing end is closed.
    pub(crate) fn read_from(&mut self, pipe: BorrowedFd<'_>, at_most: u64) -> Result<usize> {
        fault::check(Op::Read)?;
        let spare = self.spare();
        let length = spare.len().min(usize::try_from(at_most).unwrap_or(usize::MAX));
        // SAFETY: the kernel writes at most `length` bytes to memory that is ours and that long.
        let count = Errno::result(unsafe { libc::read(pipe.as_raw_fd(), spare.as_mut_ptr().cast(), length) })?;
        // A successful read is not negative.
        let count = count.unsigned_abs();
        // SAFETY: the kernel has written that many bytes from the start of the spare ones on.
        unsafe { self.advance(count) };
        Ok(count)
    }

    /// The numbers; `None` if the last one is not whole.
    pub(crate) fn finish(self) -> Option<Vec<P>> {
        (self.items.len() * size_of::<P>() == self.filled).then_some(self.items)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn numbers_arrive_whole_whatever_the_pieces() {
        let numbers: Vec<u32> = (0..1000u32).map(|n| n.wrapping_mul(0x0101_0101)).collect();
        let bytes: &[u8] = bytemuck::cast_slice(&numbers);
        for piece in [1, 3, 4, 7, 1000] {
            let mut landing = PlainVec::<u32>::new();
            for mut chunk in bytes.chunks(piece) {
                while !chunk.is_empty() {
                    landing.make_room(1).unwrap();
                    let taken = landing.copy_from(chunk);
                    chunk = &chunk[taken..];
                }
            }
            assert_eq!(landing.finish().unwrap(), numbers);
        }
    }

    #[test]
    fn a_half_number_is_not_a_vector() {
        let mut landing = PlainVec::<u64>::new();
        landing.make_room(8).unwrap();
        assert_eq!(landing.copy_from(&[1, 2, 3]), 3);
        assert!(landing.finish().is_none());
    }

    #[test]
    fn a_promise_of_a_huge_value_costs_no_memory() {
        let mut landing = PlainVec::<u8>::new();
        landing.make_room(u64::MAX).unwrap();
        assert!(landing.items.capacity() <= 64 << 10);
    }

    #[test]
    fn the_reading_end_does_not_block() {
        let (read_end, write_end) = pipe().unwrap();
        assert_eq!(read(read_end.as_fd(), &mut [0; 8]), Err(Errno::EAGAIN));
        write_all(write_end.as_fd(), b"abc").unwrap();
        let mut landing = PlainVec::<u8>::new();
        landing.make_room(3).unwrap();
        assert_eq!(landing.read_from(read_end.as_fd(), 2), Ok(2));
        assert_eq!(landing.read_from(read_end.as_fd(), 2), Ok(1));
        assert_eq!(landing.finish().unwrap(), b"abc");
    }
}
