// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the reports are enough: the chance that the next pod uses a file that none of them lists, after Good and Turing.

use crate::files::path_tree::Id;

/// How many reports list each file.
#[derive(Default)]
pub struct Spread {
    /// For each file the number of reports, and the report that listed it last.
    files: Vec<(u32, u32)>,
    reports: u32,
}

/// What the reports say about the next pod.
#[derive(Debug, PartialEq)]
pub struct Estimate {
    pub reports: u32,
    pub files: u32,
    /// The files that only one of the reports lists.
    pub alone: u32,
    /// The reports that list a file that no other report lists.
    pub with_alone: u32,
}

impl Spread {
    /// Adds the files of a report, which may be listed several times.
    pub fn add(&mut self, files: impl Iterator<Item = Id>) {
        self.reports += 1;
        for file in files {
            let len = self.files.len().max(file as usize + 1);
            self.files.resize(len, (0, 0));
            let (count, last) = &mut self.files[file as usize];
            *count += u32::from(*last != self.reports);
            *last = self.reports;
        }
    }

    /// Returns the estimate for the files for which `counts` holds.
    pub fn estimate(&self, counts: impl Fn(Id) -> bool) -> Estimate {
        let mut estimate = Estimate {
            reports: self.reports,
            files: 0,
            alone: 0,
            with_alone: 0,
        };
        let mut with_alone = vec![false; self.reports as usize + 1];
        for (file, (count, last)) in (0..).zip(&self.files) {
            if *count > 0 && counts(file) {
                estimate.files += 1;
                estimate.alone += u32::from(*count == 1);
                with_alone[*last as usize] |= *count == 1;
            }
        }
        estimate.with_alone = with_alone.iter().filter(|with| **with).count() as u32;
        estimate
    }
}

impl Estimate {
    fn share(&self) -> String {
        let Estimate {
            reports,
            alone,
            with_alone,
            ..
        } = self;
        let percent = f64::from(100 * with_alone) / f64::from(*reports);
        let files = f64::from(*alone) / f64::from(*reports);
        format!(
            "a chance of {percent:.0} % ({with_alone} of {reports}), and {files:.1} such files on average"
        )
    }
}

/// Returns what to tell people: the estimates for all files and for those that come from the image, each on a line, then
/// the method and what it assumes.
pub fn text(all: &Estimate, of_image: &Estimate, incomplete: usize) -> Vec<String> {
    let (n, files, alone) = (all.reports, all.files, all.alone);
    if n == 1 {
        return vec![format!(
            "one report, with {files} files, cannot tell what the next pod will use; merge the reports of several pods"
        )];
    }
    let mut lines = vec![
        format!("{n} reports list {files} files; {alone} of these are in one report only"),
        format!(
            "the next pod uses a file that no report lists: {}",
            all.share()
        ),
    ];
    if of_image.files < files {
        lines.push(format!(
            "the same without files that were written or only looked at: {}",
            of_image.share()
        ));
    }
    if of_image.with_alone == 0 {
        // What never happened in n tries is, with a confidence of 95 %, no more likely than this.
        let bound = 100.0 * (1.0 - 0.05_f64.powf(1.0 / f64::from(n)));
        lines.push(format!(
            "0 % is what was seen, not a promise: after {n} reports the chance may still be up to {bound:.0} %"
        ));
    }
    if incomplete > 0 {
        lines.push(format!(
            "{incomplete} of {n} reports are incomplete: files that they lack are not counted, so the chance is higher"
        ));
    }
    lines.push(
        "the method (Good-Turing): each report in turn is taken for the next pod; the files that it alone lists are those that \
         the other reports would have missed"
            .into(),
    );
    lines.push(
        "it assumes that the next pod runs the same image, has the same kind of work for as long, and that each report is of \
         another pod; it knows nothing of work that no pod has had yet"
            .into(),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(reports: &[&[Id]]) -> Spread {
        let mut spread = Spread::default();
        for files in reports {
            spread.add(files.iter().copied());
        }
        spread
    }

    #[test]
    fn files_of_one_report_only_are_counted() {
        let spread = spread(&[&[1, 2, 3, 3], &[1, 2, 7, 9], &[1, 2], &[2, 1, 1]]);
        let all = Estimate {
            reports: 4,
            files: 5,
            alone: 3,
            with_alone: 2,
        };
        assert_eq!(spread.estimate(|_| true), all);
        assert_eq!(
            all.share(),
            "a chance of 50 % (2 of 4), and 0.8 such files on average"
        );
        let some = spread.estimate(|file| file != 3 && file != 9);
        assert_eq!((some.files, some.alone, some.with_alone), (3, 1, 1));
    }

    #[test]
    fn one_report_cannot_tell() {
        let one = spread(&[&[1, 2]]).estimate(|_| true);
        let said = text(&one, &one, 0);
        assert!(said[0].starts_with("one report, with 2 files, cannot tell"));
        assert_eq!(said.len(), 1);
    }

    #[test]
    fn nothing_alone_is_no_promise() {
        let four = spread(&[&[1], &[1], &[1], &[1]]).estimate(|_| true);
        let said = text(&four, &four, 3).join("\n");
        assert!(said.contains("a chance of 0 % (0 of 4)"), "{said}");
        assert!(said.contains("may still be up to 53 %"), "{said}");
        assert!(said.contains("3 of 4 reports are incomplete"), "{said}");
    }
}
