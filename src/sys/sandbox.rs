//! What snoop gives up once it traces: capabilities, and every syscall that the loop does not make.
//!
//! An attacker who takes snoop over by a record or a request finds a process that cannot start another process, make
//! memory executable, connect to anything, or load a BPF program.

use crate::error::{Result, cannot};
use crate::sys::{capabilities, seccomp};
use libc::{sock_filter as Instruction, *};

/// Something that may need a capability: the capabilities to try, and a test of whether it works now.
pub type Need<'a> = (&'a [u64], &'a dyn Fn() -> bool);

/// Gives up all capabilities except those without which a need is not met. Which ones these are depends on the kernel
/// and its settings, so the function tries them. Returns the capabilities that it keeps, one bit for each.
pub fn drop_capabilities(needs: &[Need]) -> Result<u64> {
    let refused = |e| cannot("give up capabilities", e);
    let permitted = capabilities::permitted_capabilities().map_err(refused)?;
    let mut kept = 0;
    let set = |kept| capabilities::set_capabilities(permitted, kept).map_err(refused);
    set(kept)?;
    for (candidates, works) in needs {
        for candidate in candidates.iter().filter(|one| permitted & **one != 0) {
            if works() {
                break;
            }
            set(kept | candidate)?;
            if works() {
                kept |= candidate;
            } else {
                set(kept)?;
            }
        }
    }
    capabilities::set_capabilities(kept, kept).map_err(refused)?;
    Ok(kept)
}

/// Refuses all syscalls but the loop's from now on, with EPERM.
pub fn confine() -> Result<()> {
    seccomp::filter_syscalls(&filter()).map_err(|e| cannot("give up syscalls", e))
}

/// Which calls of one syscall are allowed.
enum Rule {
    /// Every call is allowed.
    Always(c_long),
    /// The syscall is allowed if the lower half of that argument is one of these values.
    OneOf(c_long, u32, &'static [u32]),
    /// The syscall is allowed if the lower half of that argument has none of these bits.
    Without(c_long, u32, u32),
}
use Rule::{Always, OneOf, Without};

/// The first four commands of bpf(2): look up, update, delete, next key.
const MAP_COMMANDS: &[u32] = &[1, 2, 3, 4];
/// The ioctl(2) requests that make a socket non-blocking, and those of isatty(3).
const CONTROLS: &[u32] = &[FIONBIO as u32, TCGETS as u32, TIOCGWINSZ as u32];

/// The syscalls of the loop, the frequent ones first. The C libraries make several of them for one name.
const RULES: &[Rule] = &[
    Always(SYS_epoll_pwait),
    OneOf(SYS_bpf, 0, MAP_COMMANDS),
    Always(SYS_read),
    Always(SYS_write),
    Always(SYS_getcpu),
    Always(SYS_close),
    // Connections.
    Always(SYS_accept4),
    Always(SYS_recvfrom),
    Always(SYS_sendto),
    Always(SYS_shutdown),
    OneOf(SYS_ioctl, 1, CONTROLS),
    // The loop's descriptors.
    Always(SYS_epoll_create1),
    Always(SYS_epoll_ctl),
    Always(SYS_ppoll),
    Always(SYS_timerfd_create),
    Always(SYS_timerfd_settime),
    // The report, and files of /proc.
    Always(SYS_openat),
    Always(SYS_writev),
    Always(SYS_lseek),
    Always(SYS_fcntl),
    Always(SYS_flock),
    Always(SYS_fsync),
    Always(SYS_fstat),
    Always(SYS_newfstatat),
    Always(SYS_statx),
    Always(SYS_getdents64),
    Always(SYS_renameat),
    Always(SYS_renameat2),
    Always(SYS_unlinkat),
    Always(SYS_memfd_create),
    Always(SYS_getrandom),
    // Numbers for /metrics.
    Always(SYS_getrusage),
    Always(SYS_prlimit64),
    Always(SYS_clock_gettime),
    // Memory, never to be executed.
    Without(SYS_mmap, 2, PROT_EXEC as u32),
    Without(SYS_mprotect, 2, PROT_EXEC as u32),
    Always(SYS_brk),
    Always(SYS_mremap),
    Always(SYS_munmap),
    Always(SYS_madvise),
    Always(SYS_futex),
    // Signals, and the end.
    Always(SYS_rt_sigprocmask),
    Always(SYS_rt_sigaction),
    Always(SYS_rt_sigreturn),
    Always(SYS_restart_syscall),
    Always(SYS_sigaltstack),
    Always(SYS_exit_group),
];

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::*;

    /// AUDIT_ARCH_X86_64 of linux/audit.h. Calls of x32 have numbers that are in no rule.
    pub const NAME: u32 = 0xc000_003e;
    /// The older forms of some syscalls, which only this architecture has.
    pub const RULES: &[Rule] = &[
        Always(SYS_epoll_wait),
        Always(SYS_poll),
        Always(SYS_open),
        Always(SYS_stat),
        Always(SYS_lstat),
        Always(SYS_rename),
        Always(SYS_unlink),
        Always(SYS_getrlimit),
    ];
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use super::*;

    /// AUDIT_ARCH_AARCH64 of linux/audit.h
    pub const NAME: u32 = 0xc000_00b7;
    pub const RULES: &[Rule] = &[];
}

/// Returns the rules as a program of classic BPF: seccomp(2).
fn filter() -> Vec<Instruction> {
    const ALLOW: u32 = SECCOMP_RET_ALLOW;
    const REFUSE: u32 = SECCOMP_RET_ERRNO | EPERM as u32;
    // Offsets in struct seccomp_data, of little endian machines.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    const ARGUMENTS: u32 = 16;
    let statement = |code: u32, k| Instruction {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let load = |at| statement(BPF_LD | BPF_W | BPF_ABS, at);
    let decide = |what| statement(BPF_RET | BPF_K, what);
    // Jump over that many instructions if the test holds, or does not hold.
    let skip_if = |test: u32, k, skip| Instruction {
        jt: skip,
        ..statement(BPF_JMP | BPF_K | test, k)
    };
    let skip_unless = |test: u32, k, skip| Instruction {
        jf: skip,
        ..statement(BPF_JMP | BPF_K | test, k)
    };

    let mut program = vec![
        load(ARCH),
        skip_if(BPF_JEQ, arch::NAME, 1),
        decide(REFUSE),
        load(NUMBER),
    ];
    for rule in RULES.iter().chain(arch::RULES) {
        let (number, tests) = match rule {
            Always(number) => (number, vec![decide(ALLOW)]),
            OneOf(number, argument, values) => {
                let mut tests = vec![load(ARGUMENTS + 8 * argument)];
                for value in *values {
                    tests.extend([skip_unless(BPF_JEQ, *value, 1), decide(ALLOW)]);
                }
                tests.push(decide(REFUSE));
                (number, tests)
            }
            Without(number, argument, bits) => {
                let tests = [
                    load(ARGUMENTS + 8 * argument),
                    skip_unless(BPF_JSET, *bits, 1),
                    decide(REFUSE),
                    decide(ALLOW),
                ];
                (number, tests.to_vec())
            }
        };
        program.push(skip_unless(BPF_JEQ, *number as u32, tests.len() as u8));
        program.extend(tests);
    }
    program.push(decide(REFUSE));
    program
}
