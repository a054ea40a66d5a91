// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the benches found, in a file that `make bench-compare` reads: values of which a smaller one is better, each with its noise.

// Each bench uses a part of it.
#![allow(dead_code)]

use serde_json::{Map, Value, json};
use std::path::Path;
use std::{env, fs};

/// The variable that names the file. Without it nothing is written.
const FILE: &str = "SNOOP_BENCH_RESULTS";

/// A value and how much it differs from run to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub value: f64,
    pub noise: f64,
}

impl Measured {
    /// Returns the median of these values. The noise is half of the distance between the quartiles.
    pub fn of(mut values: Vec<f64>) -> Measured {
        values.sort_by(f64::total_cmp);
        let at = |part: usize| values[(values.len() - 1) * part / 4];
        Measured {
            value: at(2),
            noise: (at(3) - at(1)) / 2.0,
        }
    }

    /// Returns the ratio of two columns of measurements that took turns, so that both met the same machine.
    pub fn ratio(ours: &[f64], theirs: &[f64]) -> Measured {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
        Measured::of(ratios.collect())
    }

    /// Writes the value to the file of results.
    pub fn record(self, bench: &str, what: &str) {
        let Some(path) = env::var_os(FILE) else {
            return;
        };
        let text = fs::read(&path).unwrap_or_else(|_| b"{}".into());
        let mut results: Map<String, Value> = serde_json::from_slice(&text).expect("results");
        let Measured { value, noise } = self;
        results.insert(
            format!("{bench}: {what}"),
            json!({"value": value, "noise": noise}),
        );
        let text = serde_json::to_string_pretty(&results).expect("numbers are finite");
        fs::write(&path, text + "\n").expect("the results can be written");
    }
}

/// What became of a value between two runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    Same,
    Better,
    Worse,
    /// Only one of the runs has the value.
    Alone,
}

/// A difference within the noise of both runs, or of less than this part, says nothing.
const PART: f64 = 0.02;

impl Change {
    pub fn between(before: Option<Measured>, after: Option<Measured>) -> Change {
        let (Some(before), Some(after)) = (before, after) else {
            return Change::Alone;
        };
        let noise = (before.noise + after.noise).max(before.value * PART);
        match after.value - before.value {
            more if more > noise => Change::Worse,
            more if -more > noise => Change::Better,
            _ => Change::Same,
        }
    }
}

/// Reads a file of results.
pub fn read(path: &Path) -> Result<Vec<(String, Measured)>, String> {
    let text = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let results: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let measured = |(what, result): (String, Value)| {
        let number = |name: &str| result[name].as_f64();
        let measured = number("value").zip(number("noise"));
        let (value, noise) =
            measured.ok_or_else(|| format!("{}: {what:?} has no value", path.display()))?;
        Ok((what, Measured { value, noise }))
    };
    results.into_iter().map(measured).collect()
}
