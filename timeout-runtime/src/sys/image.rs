//! The program itself: code that runs before `main`, and functions named by where they lie in it.
//!
//! A process that runs the same executable has the same functions at the same distance from the start of its code,
//! wherever the kernel has put that. So a function crosses to such a process as a number. Only what lies in the program's
//! own file does: a shared library may be loaded elsewhere, later, or not at all.

#![expect(
    unsafe_code,
    reason = "an ELF header is read where the kernel says it lies, and functions are called by number"
)]

use std::{
    ffi::{CStr, c_char},
    mem::{size_of, transmute},
    ops::Range,
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::libc;

use super::inflow::Inflow;

/// A function that another process of this program can be told to call. What flows in are its arguments.
pub(crate) type Thunk = fn(Inflow);

/// Whether the constructor of this program has run: where it has not, a second process of it would run `main`.
static IS_CAUGHT: AtomicBool = AtomicBool::new(false);

/// Has the function run before `main` in a process whose name says that it is a server. It gets what stands behind the
/// name, and if it returns, the program runs as usual.
macro_rules! before_main {
    ($server:path) => {
        #[expect(unsafe_code, reason = "the linker is told where the constructor belongs")]
        const _: () = {
            extern "C" fn run() {
                if let Some(argument) = $crate::sys::image::caught() {
                    $server(argument);
                }
            }
            // SAFETY: the section holds pointers to C functions without arguments, and this is one.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static CONSTRUCTOR: extern "C" fn() = run;
        };
    };
}

pub(crate) use before_main;

/// How a server calls itself: no program that a person starts has such a name.
pub(crate) const SERVER: &str = "timeout-runtime: fork server of ";

/// Notes that the constructor has run; gives what stands behind the server's name if this process has that name.
///
/// A look at one string is all that it costs a program that is no server.
pub(crate) fn caught() -> Option<&'static str> {
    unsafe extern "C" {
        static program_invocation_name: *const c_char;
    }
    IS_CAUGHT.store(true, Ordering::Relaxed);
    // SAFETY: the C library sets it before it runs any constructor, and nobody changes it meanwhile.
    let name = unsafe { program_invocation_name };
    if name.is_null() {
        return None;
    }
    // SAFETY: it is the program's first argument, a C string that stays.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().ok()?.strip_prefix(SERVER)
}

/// Whether a new process of this program would be caught before `main`. What a library has caught when it was loaded is
/// not: that process would run `main`, once more.
pub(crate) fn is_caught() -> bool {
    IS_CAUGHT.load(Ordering::Relaxed) && code().is_some()
}

/// Gives the number of a function; `None` if it is not in the program's own file.
pub(crate) fn number_of(thunk: Thunk) -> Option<u64> {
    let code = code()?;
    let address = thunk as usize;
    code.contains(&address).then(|| (address - code.start) as u64)
}

/// Gives the function with this number; `None` if there is no code at all. That it is a function is the word of a process
/// of the same program.
pub(crate) fn thunk_at(number: u64) -> Option<Thunk> {
    let code = code()?;
    let address = code.start.checked_add(usize::try_from(number).ok()?)?;
    // SAFETY: the number came from `number_of` in a process that runs this very executable.
    code.contains(&address).then(|| unsafe { transmute::<usize, Thunk>(address) })
}

/// Where the code of the program begins in this process; 0 if that is not known.
pub(crate) fn code_start() -> u64 {
    code().map_or(0, |code| code.start as u64)
}

/// Gives the address that code of the program has here, from the one that it has in a process of the same program where it
/// begins at `start`; `None` for what is not the program's own.
pub(crate) fn translate(address: u64, start: u64) -> Option<u64> {
    let code = code()?;
    let here = code.start.checked_add(usize::try_from(address.checked_sub(start)?).ok()?)?;
    (start != 0 && code.contains(&here)).then_some(here as u64)
}

/// Where the program's own file has its tables for walks of stacks.
pub(super) fn tables() -> Option<Range<usize>> {
    segments()?.find(|(segment, _)| segment.p_type == libc::PT_GNU_EH_FRAME).map(|(_, range)| range)
}

/// Where the code of this crate lies in memory, if it is in the program's own file.
fn code() -> Option<Range<usize>> {
    let here = number_of as *const () as usize;
    let is_code = |segment: &libc::Elf64_Phdr| segment.p_type == libc::PT_LOAD && segment.p_flags & libc::PF_X != 0;
    segments()?.find(|(segment, range)| is_code(segment) && range.contains(&here)).map(|(_, range)| range)
}

/// The segments of the program's own file, and where they lie in memory.
fn segments() -> Option<impl Iterator<Item = (libc::Elf64_Phdr, Range<usize>)>> {
    let headers = auxiliary(libc::AT_PHDR)? as *const libc::Elf64_Phdr;
    let count = auxiliary(libc::AT_PHNUM)?;
    if auxiliary(libc::AT_PHENT)? != size_of::<libc::Elf64_Phdr>() {
        return None;
    }
    let entry = auxiliary(libc::AT_ENTRY)?;
    // The file's header lies right before the program headers: every linker puts it there.
    let header = headers.cast::<u8>().wrapping_sub(size_of::<libc::Elf64_Ehdr>()).cast::<libc::Elf64_Ehdr>();
    // SAFETY: the page of the program headers begins with the file's header, which is mapped with them.
    let header = unsafe { header.read_unaligned() };
    if header.e_ident[..4] != *b"\x7fELF" {
        return None;
    }
    let moved_by = entry.wrapping_sub(usize::try_from(header.e_entry).ok()?);
    Some((0..count).filter_map(move |index| {
        // SAFETY: the kernel says that there are `count` headers, which stay mapped.
        let segment = unsafe { headers.wrapping_add(index).read_unaligned() };
        let start = moved_by.wrapping_add(usize::try_from(segment.p_vaddr).ok()?);
        let end = start.checked_add(usize::try_from(segment.p_memsz).ok()?)?;
        Some((segment, start..end))
    }))
}

fn auxiliary(kind: libc::c_ulong) -> Option<usize> {
    // SAFETY: takes and gives a number.
    let value = unsafe { libc::getauxval(kind) };
    usize::try_from(value).ok().filter(|value| *value != 0)
}

/// Gives a value of a type that has no bytes: a function, or a closure that captures nothing.
pub(crate) fn conjure<F: Copy>() -> F {
    const {
        assert!(
            size_of::<F>() == 0,
            "a closure that captures something cannot travel to the fork server; pass it as an argument, or use `start = fork`"
        );
    };
    // SAFETY: no bytes are read that could be wrong, and the process that sent for it has a value of this type.
    unsafe { NonNull::<F>::dangling().as_ptr().read() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_by_its_number() {
        fn some(_: Inflow) {}
        let number = number_of(some).unwrap();
        assert_eq!(thunk_at(number).unwrap() as usize, some as *const () as usize);
        assert!(thunk_at(u64::MAX).is_none());
        assert!(thunk_at(1 << 40).is_none());
        let here = some as *const () as u64;
        assert_eq!(translate(here, code_start()), Some(here));
        assert_eq!(translate(here + 4096, code_start() + 4096), Some(here));
        assert_eq!(translate(7, code_start()), None);
        assert_eq!(translate(u64::MAX, code_start()), None);
    }

    #[test]
    fn the_constructor_is_linked_into_a_test() {
        assert!(is_caught());
        assert!(caught().is_none());
    }
}
