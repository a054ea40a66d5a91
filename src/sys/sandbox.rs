// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sandbox: once attached, snoop gives up its capabilities and every syscall that the loop does not make.
//!
//! An attacker who takes over snoop through a record or a request controls a process that cannot start another process,
//! make memory executable, connect to anything, or load a BPF program.

use crate::error::{Result, cannot};
use crate::sys::{capabilities, seccomp};
use libc::{sock_filter as Instruction, *};

/// An operation that may need a capability: the capabilities to try, and a test of whether the operation works now.
pub type Need<'a> = (&'a [u64], &'a dyn Fn() -> bool);

/// Gives up all capabilities except those that the operations in `needs` require. Which ones these are depends on the
/// kernel and its settings, so the function tries them. Returns the capabilities that it keeps, one bit for each.
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

/// Makes the kernel refuse all syscalls except those of the loop from now on, with EPERM.
pub fn confine() -> Result<()> {
    seccomp::filter_syscalls(&filter()).map_err(|e| cannot("give up syscalls", e))
}

/// Which calls of one syscall are allowed.
enum Rule {
    /// Every call is allowed.
    Always(c_long),
    /// A call is allowed if the lower half of the numbered argument is one of these values.
    OneOf(c_long, u32, &'static [u32]),
    /// A call is allowed if the lower half of the numbered argument has none of these bits.
    Without(c_long, u32, u32),
}
use Rule::{Always, OneOf, Without};

/// Commands of bpf(2): look up, update, delete, next key; and what the kernel counts of a program.
const BPF_COMMANDS: &[u32] = &[1, 2, 3, 4, 15];
/// The ioctl(2) requests that make a socket non-blocking, and those of isatty(3).
const CONTROLS: &[u32] = &[FIONBIO as u32, TCGETS as u32, TIOCGWINSZ as u32];

/// The syscalls of the loop, the frequent ones first. The C libraries use different syscalls for the same function.
const RULES: &[Rule] = &[
    Always(SYS_epoll_pwait),
    OneOf(SYS_bpf, 0, BPF_COMMANDS),
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
    // Memory that is never executable.
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

/// Compiles the rules into a program of classic BPF: seccomp(2).
fn filter() -> Vec<Instruction> {
    const ALLOW: u32 = SECCOMP_RET_ALLOW;
    const REFUSE: u32 = SECCOMP_RET_ERRNO | EPERM as u32;
    // Offsets in struct seccomp_data on little-endian machines.
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
    // How many instructions to skip if the test holds, and if it does not.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// A syscall as seccomp(2) shows it to a filter: struct seccomp_data.
    #[derive(Clone, Copy)]
    struct Call {
        arch: u32,
        number: u32,
        arguments: [u64; 6],
    }

    impl Call {
        fn new(number: c_long) -> Call {
            Call {
                arch: arch::NAME,
                number: number as u32,
                arguments: [0; 6],
            }
        }

        fn with(mut self, argument: usize, value: u64) -> Call {
            self.arguments[argument] = value;
            self
        }

        /// Returns the word at an offset of the structure.
        fn word(&self, offset: u32) -> u32 {
            let mut words = vec![self.number, self.arch, 0, 0];
            for argument in self.arguments {
                words.extend([argument as u32, (argument >> 32) as u32]);
            }
            assert_eq!(offset % 4, 0);
            words[offset as usize / 4]
        }

        /// Runs the filter as the kernel does, and returns whether it allows the call. It must refuse with EPERM.
        fn is_allowed(&self) -> bool {
            let (program, mut at, mut accumulator) = (filter(), 0, 0);
            loop {
                let Instruction { code, jt, jf, k } = program[at];
                at += 1;
                let code = u32::from(code);
                if code == BPF_LD | BPF_W | BPF_ABS {
                    accumulator = self.word(k);
                } else if code == BPF_RET | BPF_K {
                    assert!([SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM as u32].contains(&k));
                    return k == SECCOMP_RET_ALLOW;
                } else {
                    let holds = if code == BPF_JMP | BPF_JEQ | BPF_K {
                        accumulator == k
                    } else {
                        assert_eq!(code, BPF_JMP | BPF_JSET | BPF_K);
                        accumulator & k != 0
                    };
                    at += usize::from(if holds { jt } else { jf });
                }
            }
        }
    }

    #[test]
    fn the_syscalls_of_the_loop_are_allowed() {
        for number in [
            SYS_read,
            SYS_write,
            SYS_epoll_pwait,
            SYS_openat,
            SYS_exit_group,
        ] {
            assert!(Call::new(number).is_allowed(), "{number}");
        }
    }

    #[test]
    fn the_syscalls_of_an_attacker_are_refused() {
        for number in [
            SYS_execve,
            SYS_execveat,
            SYS_clone,
            SYS_clone3,
            SYS_socket,
            SYS_connect,
            SYS_ptrace,
            SYS_kill,
            SYS_mount,
            SYS_setns,
            SYS_io_uring_setup,
            SYS_perf_event_open,
        ] {
            assert!(!Call::new(number).is_allowed(), "{number}");
        }
    }

    /// A number without a rule is refused, whatever the arguments are.
    #[test]
    fn syscalls_without_a_rule_are_refused() {
        let numbers = RULES.iter().chain(arch::RULES).map(|rule| match rule {
            Always(number) | OneOf(number, ..) | Without(number, ..) => *number,
        });
        let numbers: HashSet<_> = numbers.collect();
        for number in (0..1000).filter(|number| !numbers.contains(number)) {
            for argument in [0, 1, u64::MAX] {
                let mut call = Call::new(number);
                call.arguments = [argument; 6];
                assert!(!call.is_allowed(), "{number}");
            }
        }
    }

    #[test]
    fn bpf_may_only_access_maps_and_read_counts() {
        let allowed: Vec<_> = (0..40)
            .filter(|command| Call::new(SYS_bpf).with(0, *command).is_allowed())
            .collect();
        assert_eq!(allowed, [1, 2, 3, 4, 15]);
    }

    #[test]
    fn memory_is_never_executable() {
        for number in [SYS_mmap, SYS_mprotect] {
            let with = |protection: c_int| Call::new(number).with(2, protection as u64);
            assert!(with(PROT_READ | PROT_WRITE).is_allowed());
            assert!(!with(PROT_EXEC).is_allowed());
            assert!(!with(PROT_READ | PROT_EXEC).is_allowed());
        }
    }

    #[test]
    fn a_terminal_may_be_recognised_but_not_typed_into() {
        let with = |request: u32| Call::new(SYS_ioctl).with(1, request.into());
        assert!(with(TCGETS as u32).is_allowed());
        assert!(with(FIONBIO as u32).is_allowed());
        assert!(!with(TIOCSTI as u32).is_allowed());
    }

    #[test]
    fn calls_of_another_architecture_are_refused() {
        /// AUDIT_ARCH_I386 of linux/audit.h.
        const I386: u32 = 0x4000_0003;
        /// The bit in the number of a call of x32.
        const X32: u32 = 0x4000_0000;
        let mut call = Call::new(SYS_read);
        assert!(call.is_allowed());
        call.arch = I386;
        assert!(!call.is_allowed());
        let mut call = Call::new(SYS_read);
        call.number |= X32;
        assert!(!call.is_allowed());
    }
}
