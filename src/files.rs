// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets of files that hold 100,000 paths in a few MiB: one tree of names, and for each container a set of nodes of the
//! tree.

pub mod file_set;
mod hash_table;
pub mod kinds;
pub mod path_tree;
pub mod usage;
