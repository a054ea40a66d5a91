// SPDX-License-Identifier: MIT OR Apache-2.0
//! The object for old kernels uses nothing that Linux 5.4 lacks: no newer helper, map type or instruction, and nothing
//! that only a later verifier understands, as far as a test without that kernel can find out.

use object::{Object, ObjectSection, ObjectSymbol};
use std::collections::BTreeMap;
use std::fs;

/// enum bpf_func_id of linux/bpf.h: the map helpers, probe_read, ktime_get_ns, tail_call, get_current_pid_tgid,
/// perf_event_output, get_current_task, probe_read_str, get_current_cgroup_id (Linux 4.18, the newest).
const HELPERS: [i32; 11] = [1, 2, 3, 4, 5, 12, 14, 25, 35, 45, 80];

/// enum bpf_map_type: HASH, ARRAY, PROG_ARRAY, PERF_EVENT_ARRAY, PERCPU_ARRAY, LRU_HASH (Linux 4.10).
const MAPS: [u32; 6] = [1, 2, 3, 4, 6, 9];

const CLASS_LDX: u8 = 1;
const CLASS_ST: u8 = 2;
const CLASS_STX: u8 = 3;
const CLASS_ALU: u8 = 4;
const CLASS_JMP: u8 = 5;
const CLASS_JMP32: u8 = 6;
const CLASS_ALU64: u8 = 7;
const LOAD_MAP: u8 = 0x18;
const CALL: u8 = 0x85;
const MODE_ATOMIC: u8 = 0xc0;

/// Checks each instruction of a program, and returns how many calls it makes. An instruction has eight bytes: operation,
/// registers, offset, immediate value.
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
            // This instruction takes up two places.
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
fn linux_5_4_has_everything_that_is_used() {
    let bytes = fs::read(env!("SNOOP_LEGACY_OBJECT")).unwrap();
    let file = object::File::parse(&bytes[..]).unwrap();
    let (mut programs, mut maps) = (0, 0);
    for section in file.sections() {
        let name = section.name().unwrap();
        let data = section.data().unwrap();
        if let Some(program) = name.strip_prefix("kprobe/") {
            // Iterators are loaded only on Linux 5.8 and newer.
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
    // Every call is a call of a helper, not of a kernel function (Linux 5.13) or of a function that is linked later.
    assert!(
        file.symbols()
            .all(|symbol| !symbol.is_undefined() || symbol.name() == Ok(""))
    );
}

/// What the verifier of Linux 5.4 knows about a value, as far as this test follows it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    /// A constant on each path through the program. `Some` if it is the same on all paths.
    Constant(Option<i64>),
    /// A number with an upper and a lower bound.
    Bounded,
    Unbounded,
    /// An address in the program's stack, as an offset from its upper end.
    Stack(i64),
    /// Any other address.
    Address,
    /// Not the same kind on all paths. Nothing is known about it.
    Unclear,
}
use Value::*;

impl Value {
    /// Returns what is known where two paths meet.
    fn or(self, other: Value) -> Value {
        match (self, other) {
            _ if self == other => self,
            (Constant(_), Constant(_)) => Constant(None),
            (Constant(_) | Bounded, Constant(_) | Bounded) => Bounded,
            (Constant(_) | Bounded | Unbounded, Constant(_) | Bounded | Unbounded) => Unbounded,
            // A null pointer.
            (Address, Constant(_)) | (Constant(_), Address) => Address,
            _ => Unclear,
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Constant(_) | Bounded | Unbounded)
    }

    fn has_bounds(self) -> bool {
        matches!(self, Constant(_) | Bounded)
    }
}

#[derive(Clone, PartialEq)]
struct State {
    registers: [Value; 11],
    /// The known stack slots of eight bytes. Any other slot reads as a number without bounds.
    stack: BTreeMap<i64, Value>,
}

impl State {
    fn slot(&self, at: i64) -> Value {
        self.stack.get(&at).copied().unwrap_or(Unbounded)
    }

    fn or(&self, other: &State) -> State {
        let slots = self.stack.keys().chain(other.stack.keys());
        State {
            registers: std::array::from_fn(|i| self.registers[i].or(other.registers[i])),
            stack: slots
                .map(|at| (*at, self.slot(*at).or(other.slot(*at))))
                .collect(),
        }
    }

    /// Notes that a helper has written to the stack.
    fn overwrite(&mut self, at: i64, size: Value) {
        let end = match size {
            Constant(Some(size)) => at + size,
            _ => 0,
        };
        self.stack.retain(|slot, _| slot + 8 <= at || *slot >= end);
    }
}

/// Returns the result of an operation on registers. Linux 5.4 knows nothing about the result of an exclusive or and of a
/// negation.
fn calculate(code: u8, a: Value, b: Value) -> Value {
    let (is_wide, operation) = (code & 7 == CLASS_ALU64, code & 0xf0);
    let result = match operation {
        0xb0 => b,
        0x00 | 0x10 if is_wide && !(a.is_number() && b.is_number()) => match (a, b) {
            (Stack(at), Constant(Some(by))) if operation == 0 => Stack(at + by),
            (Address, _) | (_, Address) if operation == 0 => Address,
            _ => Unclear,
        },
        _ if !(a.is_number() && b.is_number()) => Unclear,
        0x50 => match (a, b) {
            (Constant(_), Constant(_)) => Constant(None),
            (Constant(Some(..0)), other) | (other, Constant(Some(..0))) => other,
            _ if a.has_bounds() || b.has_bounds() => Bounded,
            _ => Unbounded,
        },
        // A shift to the right by a constant.
        0x70 if matches!(b, Constant(_)) && a == Unbounded => Bounded,
        0x00 | 0x10 => a.or(b),
        0x20 | 0x40 | 0x60 | 0x70 | 0xc0 if matches!(b, Constant(_)) => a.or(b),
        _ => Unbounded,
    };
    match result {
        _ if is_wide || result == Unclear => result,
        Constant(_) if operation != 0xb0 => Constant(None),
        Constant(_) => result,
        // The upper half is zero.
        Bounded | Unbounded => Bounded,
        _ => Unclear,
    }
}

/// Returns the register with the number of bytes that a helper copies.
fn size_argument(helper: i32) -> Option<usize> {
    match helper {
        4 | 45 => Some(2), // probe_read, probe_read_str
        25 => Some(5),     // perf_event_output
        _ => None,
    }
}

/// Follows a program like the verifier of Linux 5.4. Later verifiers know more about a number that was on the stack or
/// was compared in another register (5689d49b71ad and 75748837b7e5, Linux 5.10). Returns what that verifier would
/// refuse: numbers without bounds that are added to an address or used as the number of bytes to copy. The function
/// does not follow how large the bounds are. `addresses` are the instructions that load the address of a map or of a
/// value in a map.
fn find_unbounded(code: &[u8], addresses: &[usize]) -> Vec<String> {
    let code: Vec<_> = code.chunks_exact(8).collect();
    let mut begin = State {
        registers: [Unclear; 11],
        stack: BTreeMap::new(),
    };
    (begin.registers[1], begin.registers[10]) = (Address, Stack(0));
    let mut states = vec![None::<State>; code.len()];
    let mut complaints = BTreeMap::new();
    let mut open = vec![(0, begin)];
    while let Some((at, state)) = open.pop() {
        let known = states[at].as_ref();
        let joined = known.map_or(state.clone(), |known| known.or(&state));
        if known == Some(&joined) {
            continue;
        }
        states[at] = Some(joined.clone());
        let mut state = joined;
        let (operation, dst, src) = (code[at][0], code[at][1] & 15, code[at][1] >> 4);
        let (dst, src) = (usize::from(dst), usize::from(src));
        let offset = i64::from(i16::from_le_bytes([code[at][2], code[at][3]]));
        let immediate = i32::from_le_bytes(code[at][4..].try_into().unwrap());
        let (class, is_wide) = (operation & 7, operation & 0x18 == 0x18);
        let constant = Constant(Some(immediate.into()));
        let operand = if operation & 8 == 0 {
            constant
        } else {
            state.registers[src]
        };
        let target = (at as i64 + 1 + offset) as usize;
        let mut next = vec![at + 1];
        let mut complain =
            |what: &str| _ = complaints.insert(at, format!("instruction {at} {what}"));
        match (class, operation) {
            (_, LOAD_MAP) => {
                state.registers[dst] = if addresses.contains(&at) {
                    Address
                } else {
                    Constant(None)
                };
                next = vec![at + 2];
            }
            (CLASS_LDX, _) => {
                state.registers[dst] = match state.registers[src] {
                    _ if !is_wide => Bounded,
                    Stack(base) => state.slot(base + offset),
                    _ => Unbounded,
                }
            }
            (CLASS_ST | CLASS_STX, _) => {
                if let Stack(base) = state.registers[dst] {
                    let slot = (base + offset).div_euclid(8) * 8;
                    state.stack.remove(&slot);
                    let value = match (class, state.registers[src]) {
                        (CLASS_STX, value @ (Constant(_) | Stack(_) | Address | Unclear)) => value,
                        _ => Unbounded,
                    };
                    if is_wide {
                        state.stack.insert(slot, value);
                    }
                }
            }
            (CLASS_ALU | CLASS_ALU64, _) => {
                let value = state.registers[dst];
                let of_address = |a, b| matches!(a, Address | Stack(_)) && b == Unbounded;
                if matches!(operation, 0x0f | 0x1f)
                    && (of_address(value, operand) || of_address(operand, value))
                {
                    complain("adds a number without bounds to an address");
                }
                state.registers[dst] = calculate(operation, value, operand);
            }
            (_, CALL) => {
                let size = size_argument(immediate).map(|size| state.registers[size]);
                if size == Some(Unbounded) {
                    complain("copies a number of bytes that has no bounds");
                }
                if let (4 | 45, Stack(at)) = (immediate, state.registers[1]) {
                    state.overwrite(at, state.registers[2]);
                }
                state.registers[..6].fill(Unclear);
                state.registers[0] = if immediate == 1 { Address } else { Unbounded };
            }
            (_, 0x95) => next.clear(),
            (_, 0x05) => next = vec![target],
            _ => {
                // A comparison gives bounds to the compared register on one of the two paths.
                let mut taken = state.clone();
                let known = match (state.registers[dst], operand) {
                    (Unbounded, Constant(_)) => Some(dst),
                    (Constant(_), Unbounded) => Some(src),
                    _ => None,
                };
                if let Some(known) = known {
                    let is_left = known == dst;
                    match operation & 0xf0 {
                        0x10 => taken.registers[known] = Constant(None),
                        0x50 => state.registers[known] = Constant(None),
                        0x20 | 0x30 if is_left => state.registers[known] = Bounded,
                        0x20 | 0x30 => taken.registers[known] = Bounded,
                        0xa0 | 0xb0 if is_left => taken.registers[known] = Bounded,
                        0xa0 | 0xb0 => state.registers[known] = Bounded,
                        _ => (),
                    }
                }
                open.push((target, taken));
            }
        }
        open.extend(next.into_iter().map(|next| (next, state.clone())));
    }
    complaints.into_values().collect()
}

/// Returns the complaints about the programs of an object.
fn complaints(object: &[u8]) -> Vec<String> {
    let file = object::File::parse(object).unwrap();
    let mut complaints = Vec::new();
    for section in file.sections() {
        let Some(program) = section.name().unwrap().strip_prefix("kprobe/") else {
            continue;
        };
        // Kernels with these tracepoints (Linux 6.4) keep the bounds.
        if program.starts_with("raw_tp/io_uring_") {
            continue;
        }
        let addresses = section.relocations().map(|(at, _)| at as usize / 8);
        let found = find_unbounded(section.data().unwrap(), &addresses.collect::<Vec<_>>());
        complaints.extend(found.into_iter().map(|what| format!("{program}: {what}")));
    }
    complaints
}

#[test]
fn no_number_loses_its_bounds() {
    let complaints = complaints(&fs::read(env!("SNOOP_LEGACY_OBJECT")).unwrap());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn lost_bounds_are_found() {
    let instruction = |code: u8, dst: u8, src: u8, offset: i16, immediate: i32| {
        let mut bytes = vec![code, src << 4 | dst];
        bytes.extend(offset.to_le_bytes());
        bytes.extend(immediate.to_le_bytes());
        bytes
    };
    let load = |dst, src, offset| instruction(0x79, dst, src, offset, 0);
    let store = |dst, src, offset| instruction(0x7b, dst, src, offset, 0);
    let mask = |dst| instruction(0x57, dst, 0, 0, 255);
    let add = |dst, src| instruction(0x0f, dst, src, 0, 0);
    let copy = |dst, src| instruction(0xbf, dst, src, 0, 0);
    let skip_if_above = |dst| instruction(0x25, dst, 0, 1, 255);
    let end = || instruction(0x95, 0, 0, 0, 0);
    let find = |program: &[Vec<u8>]| find_unbounded(&program.concat(), &[]);

    // r2 is read from memory at r1, which is an address.
    assert!(find(&[load(2, 1, 0), mask(2), add(1, 2), end()]).is_empty());
    assert_eq!(
        find(&[load(2, 1, 0), add(1, 2), end()]),
        ["instruction 1 adds a number without bounds to an address"]
    );
    let spill = [load(2, 1, 0), mask(2), store(10, 2, -8), load(2, 10, -8)];
    assert_eq!(find(&[&spill[..], &[add(1, 2), end()]].concat()).len(), 1);
    assert!(find(&[&spill[..], &[mask(2), add(1, 2), end()]].concat()).is_empty());
    assert!(find(&[load(2, 1, 0), skip_if_above(2), add(1, 2), end()]).is_empty());
    let other = [
        load(2, 1, 0),
        copy(3, 2),
        skip_if_above(2),
        add(1, 3),
        end(),
    ];
    assert_eq!(find(&other).len(), 1);
    // The verifier does not forget an address.
    assert!(
        find(&[
            store(10, 1, -8),
            load(3, 10, -8),
            load(2, 3, 0),
            mask(2),
            add(3, 2),
            end()
        ])
        .is_empty()
    );
}
