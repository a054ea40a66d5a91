// SPDX-License-Identifier: MIT OR Apache-2.0
//! Points in time as text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the time in UTC as RFC 3339 writes it, to the second. A time before 1970 becomes the beginning of 1970.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day comes last. An era of 400 years has 146,097 days.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 {
        (era * 400 + year, month + 3)
    } else {
        (era * 400 + year + 1, month - 9)
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Parses a time that [`rfc3339`] wrote. Returns `None` for any other text.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator: char| -> Option<[u64; 3]> {
        let numbers: Option<Vec<u64>> = text.split(separator).map(|n| n.parse().ok()).collect();
        numbers?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    // Years begin in March here, as above.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Turns times of the kernel's monotonic clock into points in time.
#[derive(Clone, Copy, Debug)]
pub struct KernelClock {
    /// A time of the kernel's monotonic clock in nanoseconds, and the same time by the clock on the wall. User space's monotonic
    /// clock does not do: in a time namespace it differs.
    pub monotonic: u64,
    pub wall: SystemTime,
}

impl KernelClock {
    pub fn wall(&self, monotonic: u64) -> SystemTime {
        let elapsed = Duration::from_nanos(monotonic.abs_diff(self.monotonic));
        let wall = match monotonic >= self.monotonic {
            true => self.wall.checked_add(elapsed),
            false => self.wall.checked_sub(elapsed),
        };
        wall.unwrap_or(self.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_kernel_are_points_in_time() {
        let clock = KernelClock {
            monotonic: 5_000_000_000,
            wall: UNIX_EPOCH + Duration::from_secs(100),
        };
        let seconds = |monotonic| clock.wall(monotonic).duration_since(UNIX_EPOCH).unwrap();
        assert_eq!(seconds(7_000_000_000), Duration::from_secs(102));
        assert_eq!(seconds(4_000_000_000), Duration::from_secs(99));
        assert_eq!(
            seconds(u64::MAX).as_secs(),
            100 + u64::MAX / 1_000_000_000 - 5
        );
    }

    #[test]
    fn times_are_written_and_parsed() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_768_473_000, "2026-01-15T10:30:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(rfc3339(time), text);
            assert_eq!(parse_rfc3339(text), Some(time));
        }
    }

    #[test]
    fn every_day_survives_a_round_trip() {
        for day in 0..100_000 {
            let time = UNIX_EPOCH + Duration::from_secs(day * 86_400 + day % 86_400);
            assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time));
        }
    }

    #[test]
    fn other_text_is_not_a_time() {
        for text in [
            "",
            "Z",
            "2026-01-15T10:30:00",
            "2026-01-15 10:30:00Z",
            "2026-13-15T10:30:00Z",
            "1969-12-31T23:59:59Z",
            "2026-01-15T24:00:00Z",
            "2026-01-15T10:30:00.5Z",
            "99999999999999999999-01-15T10:30:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
