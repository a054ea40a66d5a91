// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several reports: `snoop merge` makes one of them and says whether they are enough, `snoop diff` compares two.

pub mod diff;
mod estimate;
pub mod merge;
pub mod several;
