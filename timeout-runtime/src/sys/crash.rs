//! A last word from a crashing child: the signal, the address, and whether its stack had overflowed.
//!
//! The handler does not change what happens next. It sends its records and hands over to whoever handled the signal
//! before, so that std still prints its line about a stack overflow and the process dies of the true signal. It calls
//! nothing that is not async-signal-safe and never blocks for long: its record fits into an empty pipe.

#![expect(unsafe_code, reason = "signal handlers and alternate stacks")]

use std::{
    alloc::{Layout, handle_alloc_error},
    ffi::{c_int, c_void},
    mem, ptr,
    sync::atomic::{AtomicI32, AtomicPtr, Ordering},
};

use nix::{
    errno::Errno,
    libc,
    unistd::{getpid, gettid},
};

use super::{
    stack,
    unwind::{self, Frames},
};

use super::alloc_failure;

/// What is known about a crash when it happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crash {
    pub(crate) signal: i32,
    /// The address that was accessed, where the signal has one.
    pub(crate) address: Option<u64>,
    pub(crate) stack_overflow: bool,
    /// Whether it came of an allocation that failed.
    pub(crate) alloc_failure: bool,
    /// Whether the kernel has sent it because the CPU time is used up.
    pub(crate) cpu_time_is_up: bool,
    /// On the thread that the body began on.
    pub(crate) on_body: bool,
    /// Where it happened. Empty in the crashing process, where a handler may not allocate: there they go separately.
    pub(crate) frames: Vec<u64>,
}

/// How much of a crash is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// All but the stack. It is told first, as a walk through a destroyed stack may be the end of it.
    First,
    /// Everything.
    Last,
}

/// Called on the crashing thread, with its own stack gone: must be async-signal-safe and must not panic.
pub(crate) type Handler = fn(&Crash, &Frames, Word);

const SIGNALS: [c_int; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, USED_UP_CPU_TIME];

/// Not a crash, but an end like one. The last in [`SIGNALS`], as it is reported on request only.
const USED_UP_CPU_TIME: c_int = libc::SIGXCPU;

static HANDLER: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// The dispositions from before, in the order of [`SIGNALS`]. Written by [`report`] before a handler can run.
static mut BEFORE: [mem::MaybeUninit<libc::sigaction>; SIGNALS.len()] = [mem::MaybeUninit::uninit(); SIGNALS.len()];

/// Has `handler` called when a signal that means a crash arrives. For a child with one thread, once.
#[inline]
pub(crate) fn report(handler: Handler) {
    HANDLER.store(handler as *mut c_void, Ordering::Relaxed);
    prepare();
    use_own_stack();
    (0..SIGNALS.len() - 1).for_each(install);
}

/// The same for the signal that comes when the CPU time is used up. To be called after [`report`].
pub(crate) fn report_used_up_cpu_time() {
    install(SIGNALS.len() - 1);
}

#[inline]
fn install(index: usize) {
    let signal = SIGNALS[index];
    // SAFETY: all zeroes is a valid sigaction.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = on_crash as *const () as usize;
    // Once: a second crash inside the handler kills. Never SA_NODEFER, which would loop on an overflow.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
    // Only these come when a stack is used up; the others find more room on the thread's own.
    if matches!(signal, libc::SIGSEGV | libc::SIGBUS) {
        action.sa_flags |= libc::SA_ONSTACK;
    }
    // SAFETY: as above.
    let mut before: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: `on_crash` has the signature of an SA_SIGINFO handler; `before` is writable.
    unsafe { libc::sigaction(signal, &raw const action, &raw mut before) };
    // A host that is a child itself has this handler, and the one from before that in this copy of its memory.
    if before.sa_sigaction != action.sa_sigaction {
        // SAFETY: no other thread exists, and this one does not crash here: no handler is reading it.
        let place = unsafe { (&raw mut BEFORE[index]).cast::<libc::sigaction>() };
        // SAFETY: `place` is that of a static, large enough and aligned.
        unsafe { place.write(before) };
    }
}

/// Gives the calling thread an alternate stack: std's, where there is one, is small and may be in use by the overflow. A
/// second one is for whichever other thread crashes.
#[inline]
fn use_own_stack() {
    let stacks = STACKS.load(Ordering::Relaxed);
    if !stacks.is_null() {
        let own = libc::stack_t { ss_sp: stacks, ss_flags: 0, ss_size: stack::SIZE };
        // SAFETY: the mapping has SIZE bytes, stays for the life of the process and is used for nothing else.
        unsafe { libc::sigaltstack(&raw const own, ptr::null_mut()) };
        SPARE.store(stacks.wrapping_byte_add(2 * stack::SIZE), Ordering::Release);
    }
}

/// Maps the stacks for crashes, unless that has been done. Mapped by a host, its children have them as well: a mapping
/// that nobody has touched is nothing to copy, and making one is.
pub(crate) fn prepare() {
    if STACKS.load(Ordering::Relaxed).is_null() {
        STACKS.store(stack::map(2), Ordering::Relaxed);
    }
}

static STACKS: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// The upper end of a stack for a thread that crashes on too small a one; null when there is none, or no more.
static SPARE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

extern "C" fn on_crash(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel passes a valid pointer to an SA_SIGINFO handler.
    let info = unsafe { &*info };
    // SAFETY: as above, and what it points to is a ucontext_t.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    // Codes above 0 come from the kernel for a fault; the others from kill, tgkill, sigqueue.
    let is_fault = info.si_code > 0 && signal != USED_UP_CPU_TIME;
    let address = is_fault.then(|| {
        // SAFETY: a fault's siginfo has an address.
        unsafe { info.si_addr() as u64 }
    });
    // A stack that cannot grow is never a SIGBUS on Linux.
    let stack_overflow = signal == libc::SIGSEGV
        && address.is_some_and(|address| stack_pointer(context).is_some_and(|sp| is_just_outside(address, sp)));
    let alloc_failure = alloc_failure::is_likely_cause_of(signal, address, stack_overflow);
    let by_kernel = matches!(info.si_code, libc::SI_KERNEL | libc::SI_TIMER);
    let cpu_time_is_up = signal == USED_UP_CPU_TIME && by_kernel;
    let handler = HANDLER.load(Ordering::Relaxed);
    if !handler.is_null() {
        // SAFETY: the only non-null value ever stored is a `Handler`.
        let handler = unsafe { mem::transmute::<*mut c_void, Handler>(handler) };
        let on_body = gettid() == getpid();
        let crash =
            Crash { signal, address, stack_overflow, alloc_failure, cpu_time_is_up, on_body, frames: Vec::new() };
        tell(handler, crash, context);
    }
    hand_over(signal, is_fault);
    Errno::set_raw(errno);
}

/// Tells what is known, and then what a walk finds, where there is room for one.
fn tell(handler: Handler, crash: Crash, context: &libc::ucontext_t) {
    let mut walk = Walk { handler, crash, context };
    let argument = (&raw mut walk).cast();
    if has_room() {
        handler(&walk.crash, &Frames::NONE, Word::First);
        tell_with_frames(argument);
        return;
    }
    let spare = SPARE.swap(ptr::null_mut(), Ordering::Acquire);
    if spare.is_null() || !stack::CAN_SWITCH {
        handler(&walk.crash, &Frames::NONE, Word::Last);
        return;
    }
    handler(&walk.crash, &Frames::NONE, Word::First);
    // SAFETY: whoever takes the spare stack has it for good, and nothing in there unwinds.
    unsafe { stack::call_on(spare, tell_with_frames, argument) };
}

/// A walk to be made, and whom to tell.
struct Walk<'a> {
    handler: Handler,
    crash: Crash,
    context: &'a libc::ucontext_t,
}

/// Not merged into the handler, which may have to do with little stack.
#[inline(never)]
extern "C" fn tell_with_frames(walk: *mut c_void) {
    // SAFETY: `tell` passes a `Walk` that it does not touch meanwhile.
    let Walk { handler, crash, context } = unsafe { &mut *walk.cast::<Walk<'_>>() };
    let frames = unwind::interrupted(context);
    let give_up: fn(Layout) -> ! = handle_alloc_error;
    crash.alloc_failure |= crash.signal == libc::SIGABRT && unwind::is_within(&frames, give_up as *const () as usize);
    handler(crash, &frames, Word::Last);
}

/// Whether there is stack enough for a walk. The alternate stacks that std gives its threads are too small.
fn has_room() -> bool {
    // SAFETY: all zeroes is a valid stack_t.
    let mut current: libc::stack_t = unsafe { mem::zeroed() };
    // SAFETY: writes to `current`.
    unsafe { libc::sigaltstack(ptr::null(), &raw mut current) };
    current.ss_flags & libc::SS_ONSTACK == 0 || current.ss_size >= stack::SIZE
}

/// Lets the signal do what it would have done without this module, as soon as the handler returns.
fn hand_over(signal: c_int, is_fault: bool) {
    /// The process in which that was done for a fault.
    static HANDED_OVER: AtomicI32 = AtomicI32::new(0);
    let Some(index) = SIGNALS.iter().position(|known| *known == signal) else { return };
    let pid = getpid().as_raw();
    if is_fault && HANDED_OVER.swap(pid, Ordering::Relaxed) == pid {
        // It has come back: whoever was before us calls whom it has found, and that was us in a process further out.
        super::signal::set_default(signal);
    } else if is_fault {
        // The faulting instruction runs again.
        // SAFETY: BEFORE was filled in before this handler was installed and has not changed since.
        let before = unsafe { (&raw const BEFORE[index]).cast::<libc::sigaction>() };
        // SAFETY: `before` is a disposition that this process had.
        unsafe { libc::sigaction(signal, before, ptr::null_mut()) };
    } else {
        // Somebody sent it, abort(3) or another process; nothing need raise it again. std's handler would swallow it, so straight to the default.
        super::signal::set_default(signal);
        // SAFETY: async-signal-safe; the signal stays pending until this handler returns.
        unsafe { libc::raise(signal) };
    }
}

/// An overflow touches the page the stack pointer is in or just left; large frames are probed page by page.
fn is_just_outside(address: u64, stack_pointer: u64) -> bool {
    const NEAR: u64 = 64 << 10;
    address.abs_diff(stack_pointer) < NEAR
}

#[cfg(target_arch = "x86_64")]
fn stack_pointer(context: &libc::ucontext_t) -> Option<u64> {
    // REG_RSP is 15; the conversion fails for no value of it.
    let register = usize::try_from(libc::REG_RSP).ok()?;
    Some(context.uc_mcontext.gregs[register].cast_unsigned())
}

#[cfg(target_arch = "aarch64")]
fn stack_pointer(context: &libc::ucontext_t) -> Option<u64> {
    Some(context.uc_mcontext.sp)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn stack_pointer(_context: &libc::ucontext_t) -> Option<u64> {
    None
}
