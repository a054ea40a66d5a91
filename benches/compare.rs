// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares the results of two runs of `make bench`: `make bench-compare A=FILE B=FILE`. Exits with 1 if something got worse
//! beyond the noise of both.

#[path = "ratios/mod.rs"]
mod ratios;

use ratios::{Change, Measured};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

type Pair = [Option<Measured>; 2];

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let files: Vec<_> = words.iter().filter(|word| *word != "--bench").collect();
    let [before, after] = files[..] else {
        eprintln!("compare: name two files of results, as make bench writes them");
        return ExitCode::from(2);
    };
    match compare(Path::new(before), Path::new(after)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("compare: {why}");
            ExitCode::from(2)
        }
    }
}

/// Prints a table. Returns whether nothing got worse.
fn compare(before: &Path, after: &Path) -> Result<bool, String> {
    let mut rows: BTreeMap<String, Pair> = BTreeMap::new();
    for (at, file) in [before, after].into_iter().enumerate() {
        for (what, measured) in ratios::read(file)? {
            rows.entry(what).or_default()[at] = Some(measured);
        }
    }
    let shown = |measured: Option<Measured>| match measured {
        Some(Measured { value, noise }) => format!("{value:.3} ± {noise:.3}"),
        None => "none".into(),
    };
    println!("| | before | after | |\n| --- | --- | --- | --- |");
    let mut is_good = true;
    for (what, [before, after]) in rows {
        let change = Change::between(before, after);
        is_good &= change != Change::Worse;
        let word = match change {
            Change::Same | Change::Alone => "",
            Change::Better => "better",
            Change::Worse => "worse",
        };
        println!("| {what} | {} | {} | {word} |", shown(before), shown(after));
    }
    Ok(is_good)
}
