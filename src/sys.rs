//! The one door to libc: epoll, signals, timers, mappings and perf events; capabilities, limits and the syscall filter;
//! files in memory, locks, file systems and file handles; random numbers, and what happens before a command is executed.
//! Descriptors are owned.

pub mod confinement;
mod memcpy;
pub mod sandbox;

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What a libc call answered: -1 means "see errno".
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        n => Ok(n),
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// What a descriptor is waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interest {
    Read,
    /// To be told when more arrives, not of what is there.
    Arrivals,
    Write,
}

pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers; the descriptor is new and owned by nobody else.
        unsafe {
            let fd = check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
            Ok(Epoll(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Reports `token` whenever `fd` is ready for what is of interest.
    pub fn add(&self, fd: BorrowedFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes what is of interest about a descriptor that was added.
    pub fn change(&self, fd: BorrowedFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    fn control(&self, what: i32, fd: BorrowedFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: match interest {
                Interest::Read => libc::EPOLLIN as u32,
                Interest::Arrivals => (libc::EPOLLIN | libc::EPOLLET) as u32,
                Interest::Write => libc::EPOLLOUT as u32,
            },
            u64: token,
        };
        // SAFETY: the event is alive during the call and copied by the kernel.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Waits for at least one token, or until the time is over; an interrupted wait answers none.
    pub fn wait(&self, tokens: &mut Vec<u64>, timeout: Option<Duration>) -> io::Result<()> {
        const AT_ONCE: usize = 16;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_ONCE];
        // Rounded up: whoever waits for a point in time wants it to be past.
        let timeout = timeout.map_or(-1, |t| t.as_micros().div_ceil(1000).min(60_000) as i32);
        tokens.clear();
        // SAFETY: the kernel writes at most AT_ONCE events into the array.
        let n = check(unsafe {
            let max = AT_ONCE as i32;
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), max, timeout)
        });
        match n {
            Ok(n) => tokens.extend(events[..n as usize].iter().map(|event| event.u64)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

/// Would a write be taken now? Of a pipe that is so for 4096 bytes: poll(2), pipe(7).
pub fn can_write(fd: BorrowedFd) -> bool {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one structure, alive during the call.
    unsafe { libc::poll(&mut poll, 1, 0) != 0 }
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        set
    }
}

/// Signals as a descriptor. They stay blocked for the process.
pub struct SignalFd(OwnedFd);

/// From now on each of these signals ends this process at once, with 128 + N as its status. By a handler: the first
/// process of a pid namespace does not get signals that it does not handle.
pub fn end_at_once(signals: &[i32]) {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: it may be called in a handler, and does not return.
        unsafe { libc::_exit(128 + signal) }
    }
    let handler: extern "C" fn(libc::c_int) = end;
    // SAFETY: the handler calls _exit(2) only; the set is read.
    unsafe {
        for signal in signals {
            libc::signal(*signal, handler as *const () as libc::sighandler_t);
        }
        let set = signal_set(signals);
        libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
}

/// Makes a write past the limit of file sizes an error like others; it would end this process (setrlimit(2)).
pub fn outlive_file_size_limit() {
    // SAFETY: no handler, and nothing that std relies on.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

pub struct Signal {
    pub number: i32,
    /// Sent by a process, not by the kernel (a key on the terminal).
    pub by_process: bool,
}

impl SignalFd {
    pub fn new(signals: &[i32]) -> io::Result<SignalFd> {
        let set = signal_set(signals);
        // SAFETY: both calls read the set.
        let fd = unsafe {
            check(libc::sigprocmask(
                libc::SIG_BLOCK,
                &set,
                std::ptr::null_mut(),
            ))?;
            check(libc::signalfd(
                -1,
                &set,
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
            ))?
        };
        // SAFETY: a new descriptor that nobody else owns.
        Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that came, if any.
    pub fn next(&self) -> Option<Signal> {
        // SAFETY: all-zero is a value of this structure of integers, and the kernel writes no more
        // than its size.
        let (info, n) = unsafe {
            let mut info: libc::signalfd_siginfo = mem::zeroed();
            let size = mem::size_of_val(&info);
            let n = libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size);
            (info, n)
        };
        (n == mem::size_of_val(&info) as isize).then_some(Signal {
            number: info.ssi_signo as i32,
            by_process: info.ssi_code <= 0,
        })
    }
}

/// A clock that ticks; it does not count time asleep.
pub struct Timer(OwnedFd);

impl Timer {
    pub fn every(interval: Duration) -> io::Result<Timer> {
        let spec = libc::timespec {
            tv_sec: interval.as_secs() as _,
            tv_nsec: interval.subsec_nanos().into(),
        };
        let spec = libc::itimerspec {
            it_interval: spec,
            it_value: spec,
        };
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: no pointers in the first call, whose descriptor is new and owned by nobody else;
        // the second reads `spec`, which is alive.
        unsafe {
            let fd = check(libc::timerfd_create(libc::CLOCK_MONOTONIC, flags))?;
            let fd = OwnedFd::from_raw_fd(fd);
            check(libc::timerfd_settime(
                fd.as_raw_fd(),
                0,
                &spec,
                std::ptr::null_mut(),
            ))?;
            Ok(Timer(fd))
        }
    }

    /// How often it ticked since the last call.
    pub fn ticks(&self) -> u64 {
        let mut ticks = 0u64;
        // SAFETY: a timer's descriptor yields eight bytes or nothing.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut ticks).cast(), 8) };
        ticks
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Memory shared with the kernel.
pub struct Mapping {
    at: *mut u8,
    len: usize,
}

impl Mapping {
    pub fn new(fd: BorrowedFd, offset: usize, len: usize, writable: bool) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { at: at.cast(), len })
    }

    /// The address `offset` bytes in.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.len, "offset past the mapping");
        // SAFETY: the offset lies inside the mapping.
        unsafe { self.at.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length; no reference into it outlives its owner.
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}

/// A perf event of one CPU to which BPF programs write, and which reports when that many bytes wait. Its samples carry
/// the time, by one clock for all CPUs.
pub fn open_bpf_output(cpu: u32, wakeup_bytes: usize) -> io::Result<OwnedFd> {
    /// struct perf_event_attr of linux/perf_event.h, as Linux 4.1 has it (PERF_ATTR_SIZE_VER4).
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        kind: u32,
        size: u32,
        config: u64,
        sample_period: u64,
        sample_type: u64,
        read_format: u64,
        flags: u64,
        wakeup: u32,
        breakpoint: u32,
        config1: u64,
        config2: u64,
        branch_sample_type: u64,
        sample_regs_user: u64,
        sample_stack_user: u32,
        clock: i32,
        sample_regs_intr: u64,
    }
    const SOFTWARE: u32 = 1;
    const BPF_OUTPUT: u64 = 10;
    const SAMPLE_TIME: u64 = 1 << 2;
    const SAMPLE_RAW: u64 = 1 << 10;
    const WATERMARK: u64 = 1 << 14;
    const USE_CLOCK: u64 = 1 << 25;
    const FD_CLOEXEC: u64 = 8;
    let attr = Attr {
        kind: SOFTWARE,
        size: size_of::<Attr>() as u32,
        config: BPF_OUTPUT,
        sample_type: SAMPLE_TIME | SAMPLE_RAW,
        flags: WATERMARK | USE_CLOCK,
        wakeup: wakeup_bytes as u32,
        // The perf events' own clock is that of each CPU.
        clock: libc::CLOCK_MONOTONIC_RAW,
        ..Attr::default()
    };
    // SAFETY: the kernel reads as many bytes of the attribute as it says; no process, no group. The answer is new
    // and owned by nobody else.
    unsafe {
        let (call, process, group) = (libc::SYS_perf_event_open, -1, -1);
        let fd = libc::syscall(call, &attr, process, cpu as i32, group, FD_CLOEXEC);
        Ok(OwnedFd::from_raw_fd(check(fd as i32)?))
    }
}

pub const CAP_DAC_OVERRIDE: u64 = 1 << 1;
pub const CAP_SYS_ADMIN: u64 = 1 << 21;
pub const CAP_PERFMON: u64 = 1 << 38;
pub const CAP_BPF: u64 = 1 << 39;

/// Header and sets of capget(2) and capset(2) in their third version, with 64 capabilities: the lower halves of the
/// effective, permitted and inheritable sets, and the upper ones.
type Capabilities = ([u32; 2], [[u32; 3]; 2]);
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Those that this process has or may take, a bit each.
pub fn permitted_capabilities() -> io::Result<u64> {
    let (mut head, mut sets): Capabilities = ([CAPABILITY_VERSION_3, 0], Default::default());
    // SAFETY: the kernel reads and writes the header, and fills in two sets of three words.
    check(unsafe { libc::syscall(libc::SYS_capget, &mut head, &mut sets) } as i32)?;
    Ok(u64::from(sets[1][1]) << 32 | u64::from(sets[0][1]))
}

/// None of them is inherited by a program that is executed.
pub fn set_capabilities(permitted: u64, effective: u64) -> io::Result<()> {
    let half = |shift: u32| [(effective >> shift) as u32, (permitted >> shift) as u32, 0];
    let (head, sets): Capabilities = ([CAPABILITY_VERSION_3, 0], [half(0), half(32)]);
    // SAFETY: the kernel reads the header and two sets of three words.
    check(unsafe { libc::syscall(libc::SYS_capset, &head, &sets) } as i32).map(|_| ())
}

/// Lets the filter decide about every later syscall of this process; programs that it executes gain no privileges.
pub fn filter_syscalls(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies as many instructions as there are, and checks them.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        let mode = libc::SECCOMP_MODE_FILTER;
        check(libc::prctl(libc::PR_SET_SECCOMP, mode, &program)).map(|_| ())
    }
}

/// Lets this process lock any amount of memory.
pub fn lift_memory_lock() -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the limit is alive during the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }).map(|_| ())
}

/// A second descriptor of the same object.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the answer is new and owned by nobody else.
    unsafe {
        let fd = check(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// What this process has used, and may use.
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    pub max_fds: u64,
}

pub fn usage() -> Usage {
    // SAFETY: all-zero is a value of both structures of integers; the kernel fills them in.
    let (usage, limit) = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        let mut limit: libc::rlimit = mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        (usage, limit)
    };
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    Usage {
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        max_fds: limit.rlim_cur,
    }
}

/// A file that is nowhere but in memory.
pub fn memory_file() -> io::Result<File> {
    // SAFETY: the name ends with a NUL; the answer is new and owned by nobody else.
    unsafe {
        let fd = check(libc::memfd_create(c"report".as_ptr(), libc::MFD_CLOEXEC))?;
        Ok(File::from_raw_fd(fd))
    }
}

/// Locks the file for this process as long as it is open; an error if another one has it: flock(2).
pub fn try_lock(file: &File) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(|_| ())
}

pub fn page_size() -> usize {
    // SAFETY: no pointers.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// The magic number of the file system that holds `path`: statfs(2).
pub fn file_system(path: &Path) -> io::Result<u64> {
    let path = c_path(path)?;
    // SAFETY: all-zero is a value of this structure of integers; the path ends with a NUL.
    let statfs = unsafe {
        let mut statfs: libc::statfs = mem::zeroed();
        check(libc::statfs(path.as_ptr(), &mut statfs))?;
        statfs
    };
    // Of another width and sign on each architecture.
    Ok(statfs.f_type as u64 & 0xffff_ffff)
}

/// The id the kernel gives to a cgroup, by its directory: the eight bytes of its file handle.
pub fn cgroup_id(directory: &Path) -> io::Result<u64> {
    #[repr(C)]
    struct Handle {
        head: libc::file_handle,
        id: [u8; 8],
    }
    let path = c_path(directory)?;
    let mut mount = 0;
    // SAFETY: the header says how many bytes follow it, and eight do.
    let id = unsafe {
        let mut handle: Handle = mem::zeroed();
        handle.head.handle_bytes = 8;
        check(libc::name_to_handle_at(
            libc::AT_FDCWD,
            path.as_ptr(),
            (&raw mut handle).cast(),
            &mut mount,
            0,
        ))?;
        handle.id
    };
    Ok(u64::from_ne_bytes(id))
}

/// A random number from the kernel.
pub fn random() -> io::Result<u64> {
    let mut value = 0u64;
    // SAFETY: the kernel writes eight bytes at most.
    match unsafe { libc::getrandom((&raw mut value).cast(), 8, 0) } {
        8 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The call that our programs answer: getcpu(2), whose third argument the kernel does not use.
pub fn own_call(cookie: u64) {
    // SAFETY: both addresses may be null; the third argument is not looked at. It cannot fail, and a
    // filter that refuses it shows in the answer that does not come.
    unsafe { libc::syscall(libc::SYS_getcpu, 0usize, 0usize, cookie) };
}

pub fn send_signal(process: u32, signal: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::kill(process as i32, signal) }).map(|_| ())
}

/// Makes the command move into a cgroup before its first instruction, with no signal blocked: the
/// child writes "0", which means itself, into the open `cgroup.procs`.
pub fn start_in_cgroup(command: &mut Command, procs: OwnedFd) {
    let nothing_blocked = signal_set(&[]);
    let join = move || {
        // SAFETY: one byte and one set are read; both calls may be made between fork and exec.
        unsafe {
            check(libc::sigprocmask(
                libc::SIG_SETMASK,
                &nothing_blocked,
                std::ptr::null_mut(),
            ))?;
            match libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) {
                1 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        }
    };
    // SAFETY: the closure only calls sigprocmask(2) and write(2), which are safe after fork.
    unsafe { command.pre_exec(join) };
}

/// May this user execute the file? access(2)
pub fn is_executable(path: &OsStr) -> bool {
    c_path(Path::new(path)).is_ok_and(|path| {
        // SAFETY: the path ends with a NUL.
        unsafe { libc::access(path.as_ptr(), libc::X_OK) == 0 }
    })
}
