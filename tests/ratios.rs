// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the results of two runs of the benches are compared.

#[path = "../benches/ratios/mod.rs"]
mod ratios;

use ratios::{Change, Measured, read};
use std::fs;

fn measured(value: f64, noise: f64) -> Option<Measured> {
    Some(Measured { value, noise })
}

#[test]
fn the_median_and_its_noise() {
    let found = Measured::of(vec![9.0, 1.0, 4.0, 2.0, 3.0]);
    assert_eq!(Some(found), measured(3.0, 1.0));
    let ratio = Measured::ratio(&[3.0, 8.0, 9.0], &[1.0, 2.0, 3.0]);
    assert_eq!(Some(ratio), measured(3.0, 0.0));
}

#[test]
fn only_what_exceeds_the_noise_of_both_is_a_change() {
    let before = measured(2.0, 0.1);
    for (after, change) in [
        (measured(2.25, 0.1), Change::Worse),
        (measured(2.15, 0.1), Change::Same),
        (measured(1.85, 0.1), Change::Same),
        (measured(1.75, 0.1), Change::Better),
        (None, Change::Alone),
    ] {
        assert_eq!(Change::between(before, after), change, "{after:?}");
    }
    // Without any noise, two parts of a hundred are no change.
    let change = |after| Change::between(measured(1.0, 0.0), measured(after, 0.0));
    assert_eq!(
        [change(1.019), change(1.021)],
        [Change::Same, Change::Worse]
    );
}

#[test]
fn results_are_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, r#"{"a: b": {"value": 1.5, "noise": 0.25}}"#).unwrap();
    let expected = Measured {
        value: 1.5,
        noise: 0.25,
    };
    assert_eq!(read(file.path()), Ok(vec![("a: b".to_string(), expected)]));
    fs::write(&file, r#"{"a: b": {"value": 1.5}}"#).unwrap();
    assert!(
        read(file.path())
            .unwrap_err()
            .contains("\"a: b\" has no value")
    );
}
