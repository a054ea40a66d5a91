// SPDX-License-Identifier: MIT OR Apache-2.0
//! The number of CPUs for which the kernel keeps per-CPU values.

/// CONFIG_NR_CPUS is not higher than this. Where the number is not known, buffers must have room for so many.
const MOST_CPUS: usize = 8192;

/// Returns the number of possible CPUs, which is not the number of those that are online.
pub fn possible_cpus() -> usize {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    count_cpus(&list).unwrap_or(MOST_CPUS)
}

/// Counts a list such as `0-3,8-11`.
fn count_cpus(list: &str) -> Option<usize> {
    let mut count = 0;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        count += last.checked_sub(first)? + 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(count_cpus("0\n"), Some(1));
        assert_eq!(count_cpus("0-127"), Some(128));
        assert_eq!(count_cpus("0-3,8-11,16"), Some(9));
        assert_eq!(count_cpus(""), None);
        assert_eq!(count_cpus("3-1"), None);
    }
}
