//! What the tests need of the C library and the kernel, under safe names.
#![expect(unsafe_code, reason = "forks, crashes, signal tables and limits have no safe wrappers")]

use std::{
    ffi::c_int,
    mem,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Child, Command},
    ptr,
    sync::atomic::{AtomicI32, AtomicUsize, Ordering},
    time::Duration,
};

use nix::{errno::Errno, libc, unistd::Pid};

/// Forks a process that runs `child` and ends; a panic in it is exit code 101.
pub(crate) fn fork(child: impl FnOnce()) -> Pid {
    // SAFETY: the child runs code of the test, which knows that it has one thread, and ends here.
    match unsafe { libc::fork() } {
        0 => {
            let result = catch_unwind(AssertUnwindSafe(child));
            exit_now(if result.is_ok() { 0 } else { 101 })
        }
        pid if pid > 0 => Pid::from_raw(pid),
        _ => panic!("fork: {}", Errno::last()),
    }
}

/// Forks, or says why not.
pub(crate) fn try_fork(child: impl FnOnce()) -> Result<Pid, Errno> {
    // SAFETY: as in `fork`.
    match Errno::result(unsafe { libc::fork() })? {
        0 => {
            let result = catch_unwind(AssertUnwindSafe(child));
            exit_now(if result.is_ok() { 0 } else { 101 })
        }
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// `_exit(2)`.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Has the command's process killed when the calling thread ends.
pub(crate) fn die_with_parent(command: &mut Command) {
    let die = || nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(Into::into);
    // SAFETY: prctl is async-signal-safe.
    unsafe { command.pre_exec(die) };
}

/// A descriptor for a process.
pub(crate) fn pidfd(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: has just been opened for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Copies a program that is to be run. By another process: whoever this one forks meanwhile would have the copy open for
/// writing, and then it cannot be run (`ETXTBSY`).
pub(crate) fn copy_program(from: &std::path::Path, to: &std::path::Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success(), "{}", to.display());
}

/// A copy of a descriptor of another process.
pub(crate) fn descriptor_of(process: Pid, number: RawFd) -> Result<OwnedFd, Errno> {
    let process = pidfd(process)?;
    // SAFETY: takes numbers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })?;
    // SAFETY: has just been opened for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Whether a descriptor is a socket that carries whole messages.
pub(crate) fn is_for_messages(fd: &OwnedFd) -> bool {
    use nix::sys::socket::{SockType, getsockopt, sockopt};
    getsockopt(fd, sockopt::SockType) == Ok(SockType::SeqPacket)
}

/// Waits for the end of a child, for at most `bound`; whether it ended. It is not reaped.
pub(crate) fn wait_for_end(child: &Child, bound: Duration) -> bool {
    let pidfd = pidfd(Pid::from_raw(child.id() as i32)).unwrap();
    is_readable_within(&pidfd, bound)
}

fn is_readable_within(fd: &OwnedFd, bound: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let end = std::time::Instant::now() + bound;
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap();
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return true,
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}

/// Closes a descriptor by number.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: the test decides over the descriptors of its own process.
    unsafe { libc::close(fd) };
}

/// Makes `to` another name of `from`.
pub(crate) fn dup_onto(from: RawFd, to: RawFd) {
    // SAFETY: as above.
    let result = unsafe { libc::dup2(from, to) };
    assert_eq!(result, to, "dup2: {}", Errno::last());
}

/// Another name of `fd`, above the usual ones and closed by `exec`.
pub(crate) fn dup(fd: RawFd) -> Option<RawFd> {
    // SAFETY: as above.
    let result = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 100) };
    (result >= 0).then_some(result)
}

/// Writes bytes to a descriptor by number, whatever it is; how many were taken.
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads `bytes` only.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    Errno::result(written).map(|count| count as usize)
}

/// Whether a descriptor is open, and stays so in a program that this process becomes or starts.
pub(crate) fn is_passed_on(fd: RawFd) -> bool {
    // SAFETY: reads a number.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// The capacity of a pipe in bytes.
pub(crate) fn pipe_capacity(fd: RawFd) -> i32 {
    // SAFETY: reads a number.
    unsafe { libc::fcntl(fd, libc::F_GETPIPE_SZ) }
}

/// How many bytes wait in a pipe, told by either end; 0 for what is no pipe.
pub(crate) fn bytes_in_pipe(fd: RawFd) -> c_int {
    let mut count = 0;
    // SAFETY: FIONREAD writes one int, to `count`; whatever else the descriptor is, it is the test's own.
    let result = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) };
    if result == 0 && pipe_capacity(fd) > 0 { count } else { 0 }
}

/// Gives a pipe another capacity, as far as the user's allowance goes; gives what it became.
pub(crate) fn set_pipe_capacity(fd: RawFd, bytes: c_int) -> Result<c_int, Errno> {
    // SAFETY: takes numbers.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETPIPE_SZ, bytes) })
}

// --- crashes

/// Reads through a null pointer, out of sight of the compiler.
pub(crate) fn read_null() {
    // SAFETY: none: this is a crash on purpose.
    std::hint::black_box(unsafe { libc::strlen(ptr::null()) });
}

/// Divides by zero, behind the compiler's back.
pub(crate) fn divide_by_zero() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: none: this is a crash on purpose.
    unsafe {
        std::arch::asm!("xor edx, edx", "mov eax, 1", "xor ecx, ecx", "div ecx", out("eax") _, out("ecx") _, out("edx") _);
    }
    #[cfg(not(target_arch = "x86_64"))]
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGFPE).unwrap();
}

/// Executes what is no instruction.
pub(crate) fn illegal_instruction() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: none: this is a crash on purpose.
    unsafe {
        std::arch::asm!("ud2");
    }
    #[cfg(not(target_arch = "x86_64"))]
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGILL).unwrap();
}

/// Reads a mapped file beyond its end, as near to the stack as an overflow would be.
pub(crate) fn bus_error() {
    bus_error_at(|_| ());
}

/// The same, and `tell`s the address before.
pub(crate) fn bus_error_at(tell: impl FnOnce(usize)) {
    const PAGE: usize = 4096;
    let mut room = [0u8; 2 * PAGE];
    let place = room.as_mut_ptr().wrapping_add(room.as_ptr().align_offset(PAGE)).cast();
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"empty".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: it takes the place of a page of `room`, which nobody uses.
    let page = unsafe { libc::mmap(place, PAGE, libc::PROT_READ, libc::MAP_SHARED | libc::MAP_FIXED, fd, 0) };
    tell(page.addr());
    // SAFETY: none: this is a crash on purpose.
    std::hint::black_box(unsafe { page.cast::<u8>().read_volatile() });
}

/// Recurses until the stack is used up.
#[expect(unconditional_recursion, reason = "that is the point")]
pub(crate) fn overflow_stack(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    overflow_stack(depth + 1) + frame[(depth % 64) as usize]
}

// --- signals

/// Every signal whose disposition a program can see.
pub(crate) fn signals() -> impl Iterator<Item = c_int> {
    // 32 and 33 belong to the C library.
    (1..=64).filter(|signal| !matches!(signal, 32 | 33))
}

/// What a signal does here, in words.
pub(crate) fn disposition(signal: c_int) -> String {
    // SAFETY: all zeroes is a sigaction.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: reads into `action`.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    let handler = match action.sa_sigaction {
        libc::SIG_DFL => "default".to_owned(),
        libc::SIG_IGN => "ignored".to_owned(),
        handler => format!("{handler:#x}"),
    };
    // SAFETY: a mask that the kernel has filled in.
    let mask: Vec<_> =
        (1..=64).filter(|other| unsafe { libc::sigismember(&raw const action.sa_mask, *other) } == 1).collect();
    // The C library adds SA_RESTORER to what it sets, which says nothing.
    format!("{handler}, flags {:#x}, blocks {mask:?}", action.sa_flags & !0x0400_0000)
}

/// Sets what a signal does: `SIG_IGN`, `SIG_DFL` or a handler, with `flags`.
pub(crate) fn set_disposition(signal: c_int, handler: libc::sighandler_t, flags: c_int) {
    // SAFETY: all zeroes is a sigaction.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: the test passes a disposition or an async-signal-safe handler.
    let result = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    assert_eq!(result, 0, "sigaction: {}", Errno::last());
}

/// Whether a signal is ignored.
pub(crate) fn is_ignored(signal: c_int) -> bool {
    disposition(signal).starts_with("ignored")
}

/// Gives a signal its default effect.
pub(crate) fn set_default(signal: c_int) {
    set_disposition(signal, libc::SIG_DFL, 0);
}

/// Ignores a signal.
pub(crate) fn ignore(signal: c_int) {
    set_disposition(signal, libc::SIG_IGN, 0);
}

/// Ends the process with code `CODE` when the signal arrives.
pub(crate) fn exit_on<const CODE: i32>(signal: c_int) {
    extern "C" fn exit<const CODE: i32>(_: c_int) {
        exit_now(CODE);
    }
    set_disposition(signal, exit::<CODE> as *const () as libc::sighandler_t, 0);
}

/// What [`tell_and_chain`] has found.
static BEFORE: [AtomicUsize; 65] = [const { AtomicUsize::new(libc::SIG_DFL) }; 65];

/// Has a handler tell the number of the process in which it runs, and then do what was done before it.
pub(crate) fn tell_and_chain(signal: c_int, mark: &super::Mark) {
    static TOLD: AtomicI32 = AtomicI32::new(-1);
    type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut std::ffi::c_void);
    extern "C" fn tell(signal: c_int, info: *mut libc::siginfo_t, context: *mut std::ffi::c_void) {
        let pid = u64::from(std::process::id());
        let _ = write(TOLD.load(Ordering::Relaxed), &pid.to_le_bytes());
        match BEFORE[signal as usize].load(Ordering::Relaxed) {
            libc::SIG_DFL => set_default(signal),
            before => {
                // SAFETY: those of std and of the library have this signature.
                let before = unsafe { mem::transmute::<usize, Handler>(before) };
                before(signal, info, context);
            }
        }
    }
    TOLD.store(mark.write.as_raw_fd(), Ordering::Relaxed);
    BEFORE[signal as usize].store(handler(signal), Ordering::Relaxed);
    set_disposition(signal, tell as *const () as libc::sighandler_t, libc::SA_SIGINFO | libc::SA_ONSTACK);
}

/// Takes that handler away again.
pub(crate) fn unchain(signal: c_int) {
    match BEFORE[signal as usize].load(Ordering::Relaxed) {
        libc::SIG_DFL => set_default(signal),
        before => set_disposition(signal, before, libc::SA_SIGINFO | libc::SA_ONSTACK),
    }
}

fn handler(signal: c_int) -> libc::sighandler_t {
    // SAFETY: all zeroes is a sigaction.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: reads into `action`.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    action.sa_sigaction
}

/// Registers a handler that runs when this process ends.
pub(crate) fn at_exit(handler: extern "C" fn()) {
    // SAFETY: the handler lives as long as the program.
    unsafe { libc::atexit(handler) };
}

/// Gives this process, which leads a session, a terminal; gives the end where one types, and the terminal.
pub(crate) fn take_terminal() -> (OwnedFd, OwnedFd) {
    let (mut keyboard, mut terminal) = (-1, -1);
    let nothing = ptr::null_mut();
    // SAFETY: the two descriptors are written; the rest is left out.
    let opened = unsafe { libc::openpty(&raw mut keyboard, &raw mut terminal, nothing, ptr::null(), ptr::null()) };
    assert_eq!(opened, 0, "openpty: {}", Errno::last());
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::ioctl(terminal, libc::TIOCSCTTY, 0) }, 0, "TIOCSCTTY: {}", Errno::last());
    // SAFETY: both have just been opened, and nobody else knows them.
    [keyboard, terminal].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).into()
}

// --- attributes of the process

/// Process-wide attributes, by name.
pub(crate) fn attributes() -> Vec<(&'static str, String)> {
    let mut list = Vec::new();
    let [group, session] = [nix::unistd::getpgrp(), nix::unistd::getsid(None).unwrap()];
    list.push(("process group and session", format!("{group} {session}")));
    list.push(("subreaper", format!("{:?}", nix::sys::prctl::get_child_subreaper())));
    list.push(("parent-death signal", format!("{:?}", nix::sys::prctl::get_pdeathsig())));
    for (name, resource) in [
        ("core size limit", libc::RLIMIT_CORE),
        ("CPU limit", libc::RLIMIT_CPU),
        ("address space limit", libc::RLIMIT_AS),
        ("data limit", libc::RLIMIT_DATA),
        ("stack limit", libc::RLIMIT_STACK),
        ("descriptor limit", libc::RLIMIT_NOFILE),
        ("process limit", libc::RLIMIT_NPROC),
        ("file size limit", libc::RLIMIT_FSIZE),
    ] {
        list.push((name, format!("{:?}", limit(resource))));
    }
    list.push(("umask", super::procs::status("Umask").to_string()));
    list
}

/// The number of a resource, as this C library has it.
#[cfg(target_env = "gnu")]
pub(crate) type Limited = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
pub(crate) type Limited = libc::c_int;

/// The soft and hard limit of a resource.
pub(crate) fn limit(resource: Limited) -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads into `limit`.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// Sets the soft limit of a resource; gives the one from before.
pub(crate) fn set_soft_limit(resource: Limited, soft: u64) -> u64 {
    let (before, hard) = limit(resource);
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: reads `limit`.
    let result = unsafe { libc::setrlimit(resource, &raw const limit) };
    assert_eq!(result, 0, "setrlimit: {}", Errno::last());
    before
}

/// Sets the soft limit of another process.
pub(crate) fn limit_process(pid: Pid, resource: Limited, soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills in `limit`.
    let result = unsafe { libc::prlimit(pid.as_raw(), resource, ptr::null(), &raw mut limit) };
    assert_eq!(result, 0, "prlimit: {}", Errno::last());
    limit.rlim_cur = soft;
    // SAFETY: reads `limit`.
    let result = unsafe { libc::prlimit(pid.as_raw(), resource, &raw const limit, ptr::null_mut()) };
    assert_eq!(result, 0, "prlimit: {}", Errno::last());
}

/// The scheduling of the calling thread, with its slice.
pub(crate) fn scheduling() -> String {
    let mut attributes = [0u32; 14];
    let size = size_of_val(&attributes);
    // SAFETY: the kernel writes at most `size` bytes.
    unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), size, 0) };
    format!("{:x?}", &attributes[1..12])
}

/// Maps memory that is never touched; gives where.
pub(crate) fn map_untouched(size: usize) -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping.
    let address = unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_ne!(address, libc::MAP_FAILED, "mmap: {}", Errno::last());
    address.addr()
}

/// Takes back what [`map_untouched`] gave.
pub(crate) fn unmap(address: usize, size: usize) {
    // SAFETY: nobody has used it.
    unsafe { libc::munmap(ptr::without_provenance_mut(address), size) };
}

/// Whether this process has any child, living or dead.
pub(crate) fn has_children() -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: all zeroes is a siginfo.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: writes to `info`; WNOWAIT leaves every child as it was.
    unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) == 0 || Errno::last() != Errno::ECHILD }
}

/// Lets this process look at itself in `/proc` after a change of user.
pub(crate) fn set_dumpable() {
    // SAFETY: takes numbers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
}

/// Becomes the user that owns nothing, if this process may; it then has no privileges left.
pub(crate) fn become_nobody() {
    const NOBODY: libc::uid_t = 65534;
    if is_root() {
        // SAFETY: a list without members.
        assert_eq!(unsafe { libc::setgroups(0, ptr::null()) }, 0);
        // SAFETY: takes a number.
        assert_eq!(unsafe { libc::setgid(NOBODY) }, 0);
        // SAFETY: takes a number.
        assert_eq!(unsafe { libc::setuid(NOBODY) }, 0);
    }
}

/// Whether this process is the superuser.
pub(crate) fn is_root() -> bool {
    // SAFETY: gives a number.
    unsafe { libc::geteuid() == 0 }
}

/// Whether this process has other rights than its user, by a set-uid bit.
pub(crate) fn has_foreign_rights() -> bool {
    // SAFETY: gives a number.
    let user = unsafe { libc::getuid() };
    // SAFETY: gives a number.
    user != unsafe { libc::geteuid() }
}

/// Takes a variable out of the environment, in a process whose other threads do not look.
pub(crate) fn remove_variable(name: &str) {
    // SAFETY: only a test that has its process for itself calls this.
    unsafe { std::env::remove_var(name) };
}

/// Moves this process into new namespaces.
pub(crate) fn unshare(flags: c_int) -> Result<(), Errno> {
    // SAFETY: takes a number.
    Errno::result(unsafe { libc::unshare(flags) }).map(drop)
}

/// Mounts a fresh `/proc` for this process's namespaces.
pub(crate) fn mount_proc() -> Result<(), Errno> {
    let (none, root, proc) = (c"none".as_ptr(), c"/".as_ptr(), c"proc".as_ptr());
    // SAFETY: C strings that live for ever. Keeps what follows from the mount table of the rest of the system.
    Errno::result(unsafe { libc::mount(none, root, ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) })?;
    // SAFETY: as above.
    Errno::result(unsafe { libc::mount(proc, c"/proc".as_ptr(), proc, 0, ptr::null()) }).map(drop)
}

/// Waits until a signal ends the process, or for a minute if none does.
pub(crate) fn pause() -> i32 {
    std::thread::sleep(Duration::from_secs(60));
    1
}

/// Gives the calling thread a lower priority.
pub(crate) fn be_nice() {
    // SAFETY: takes a number.
    unsafe { libc::nice(1) };
}

/// Goes on in a new process and ends the present one.
pub(crate) fn become_successor() {
    // SAFETY: as in `fork`; the parent ends at once.
    match unsafe { libc::fork() } {
        0 => {}
        _ => exit_now(0),
    }
}

/// Has a signal arrive every so many microseconds; 0 ends that.
pub(crate) fn alarm_every(micros: i64) {
    let time = libc::timeval { tv_sec: 0, tv_usec: micros };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: reads `timer`.
    unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const timer, ptr::null_mut::<u8>()) };
}

/// A handler that does nothing but interrupt.
pub(crate) fn interrupt_on(signal: c_int) {
    extern "C" fn nothing(_: c_int) {}
    set_disposition(signal, nothing as *const () as libc::sighandler_t, 0);
}

/// The function at an address, which another process of this program has worked out.
pub(crate) fn function_at<R>(address: usize) -> fn() -> R {
    // SAFETY: the address comes from a function of this very type, by its distance from another one.
    unsafe { std::mem::transmute::<usize, fn() -> R>(address) }
}

/// Puts a variable into the environment, in a process whose other threads do not look.
pub(crate) fn set_variable(name: &str, value: &str) {
    // SAFETY: as for `remove_variable`.
    unsafe { std::env::set_var(name, value) };
}

/// Whether a signal waits for this thread or its process.
pub(crate) fn is_pending(signal: c_int) -> bool {
    let mut pending = std::mem::MaybeUninit::uninit();
    // SAFETY: fills in the set.
    unsafe { libc::sigpending(pending.as_mut_ptr()) };
    // SAFETY: it has just been filled in.
    unsafe { libc::sigismember(pending.as_ptr(), signal) == 1 }
}

/// Covers `/proc` with an empty directory, for this process's mount namespace.
pub(crate) fn hide_proc() -> Result<(), Errno> {
    let (none, root, tmpfs) = (c"none".as_ptr(), c"/".as_ptr(), c"tmpfs".as_ptr());
    // SAFETY: as in `mount_proc`.
    Errno::result(unsafe { libc::mount(none, root, ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) })?;
    // SAFETY: as above.
    Errno::result(unsafe { libc::mount(none, c"/proc".as_ptr(), tmpfs, 0, ptr::null()) }).map(drop)
}

// --- libraries

/// A library that was loaded while this process ran.
pub(crate) struct Library(*mut std::ffi::c_void);

impl Library {
    pub(crate) fn open(path: &std::path::Path) -> Library {
        let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the name is a C string, and a library of these tests does no harm when it is loaded.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!library.is_null(), "dlopen {path:?}");
        Library(library)
    }

    fn function(&self, name: &std::ffi::CStr) -> *mut std::ffi::c_void {
        // SAFETY: the library is open, and the name is a C string.
        let function = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!function.is_null(), "no {name:?}");
        function
    }

    /// How far behind the beginning of the library a symbol is.
    pub(crate) fn offset_of(&self, name: &std::ffi::CStr) -> u64 {
        let symbol = self.function(name);
        // SAFETY: all zeroes is a Dl_info.
        let mut info: libc::Dl_info = unsafe { mem::zeroed() };
        // SAFETY: fills in `info`.
        assert_ne!(unsafe { libc::dladdr(symbol, &raw mut info) }, 0);
        (symbol.addr() - info.dli_fbase.addr()) as u64
    }

    /// Calls a function that returns when the flag it is given is 0, which never happens.
    pub(crate) fn call_with_flag(&self, name: &std::ffi::CStr) -> c_int {
        let function = self.function(name);
        // SAFETY: the test names a function of this type.
        let function =
            unsafe { mem::transmute::<*mut std::ffi::c_void, extern "C" fn(*const c_int) -> c_int>(function) };
        let flag = 1;
        function(std::hint::black_box(&raw const flag))
    }

    /// Calls a function that calls `back`.
    pub(crate) fn call_with_function(&self, name: &std::ffi::CStr, back: extern "C" fn() -> c_int) -> c_int {
        let function = self.function(name);
        type Caller = extern "C" fn(extern "C" fn() -> c_int) -> c_int;
        // SAFETY: the test names a function of this type.
        let function = unsafe { mem::transmute::<*mut std::ffi::c_void, Caller>(function) };
        function(back)
    }
}
