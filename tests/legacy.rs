//! The object for kernels before 5.8 holds nothing that Linux 5.4 lacks: no helper, map type or instruction.

use object::{Object, ObjectSection, ObjectSymbol};
use std::fs;

/// enum bpf_func_id of linux/bpf.h: the map helpers, probe_read, ktime_get_ns, tail_call,
/// get_current_pid_tgid, perf_event_output, get_current_task, probe_read_str, get_current_cgroup_id (Linux 4.18, the youngest).
const HELPERS: [i32; 11] = [1, 2, 3, 4, 5, 12, 14, 25, 35, 45, 80];

/// enum bpf_map_type: HASH, ARRAY, PROG_ARRAY, PERF_EVENT_ARRAY, PERCPU_ARRAY, LRU_HASH (Linux 4.10).
const MAPS: [u32; 6] = [1, 2, 3, 4, 6, 9];

const CLASS_STX: u8 = 3;
const CLASS_JMP: u8 = 5;
const CLASS_JMP32: u8 = 6;
const LOAD_MAP: u8 = 0x18;
const CALL: u8 = 0x85;
const MODE_ATOMIC: u8 = 0xc0;

/// Instructions of eight bytes: operation, registers, offset, immediate value.
fn check_program(name: &str, code: &[u8]) -> usize {
    let mut calls = 0;
    let mut instructions = code.chunks_exact(8);
    while let Some(instruction) = instructions.next() {
        let (operation, registers) = (instruction[0], instruction[1]);
        let immediate = i32::from_le_bytes(instruction[4..].try_into().unwrap());
        assert_ne!(
            operation & 7,
            CLASS_JMP32,
            "{name}: 32-bit jumps came with Linux 5.1"
        );
        match operation {
            CALL => {
                assert_eq!(registers >> 4, 0, "{name} calls a function of its own");
                assert!(
                    HELPERS.contains(&immediate),
                    "{name} calls helper {immediate}"
                );
                calls += 1;
            }
            // Fills two.
            LOAD_MAP => _ = instructions.next(),
            _ if operation & 7 == CLASS_STX && operation & 0xe0 == MODE_ATOMIC => {
                assert_eq!(
                    immediate, 0,
                    "{name}: atomics other than add came with Linux 5.12"
                );
            }
            _ => assert!(
                operation & 7 != CLASS_JMP || operation >> 4 <= 0xd,
                "{name}: {operation:#x}"
            ),
        }
    }
    calls
}

#[test]
fn linux_5_4_has_all_that_is_used() {
    let bytes = fs::read(env!("SNOOP_LEGACY_OBJECT")).unwrap();
    let file = object::File::parse(&bytes[..]).unwrap();
    let (mut programs, mut maps) = (0, 0);
    for section in file.sections() {
        let name = section.name().unwrap();
        let data = section.data().unwrap();
        if let Some(program) = name.strip_prefix("kprobe/") {
            // Not loaded before 5.8, where iterators came.
            assert!(
                program.starts_with("raw_tp/") || program.starts_with("iter/"),
                "{program}"
            );
            assert!(check_program(program, data) > 0, "{program} calls nothing");
            programs += 1;
        }
        if let Some(map) = name.strip_prefix("maps/") {
            let kind = u32::from_le_bytes(data[..4].try_into().unwrap());
            assert!(MAPS.contains(&kind), "{map} is a map of type {kind}");
            maps += 1;
        }
    }
    assert!(
        programs >= 8 && maps >= 10,
        "{programs} programs, {maps} maps"
    );
    // Every call is to a helper, not to a function of the kernel (Linux 5.13) or one that is linked later.
    assert!(
        file.symbols()
            .all(|symbol| !symbol.is_undefined() || symbol.name() == Ok(""))
    );
}
