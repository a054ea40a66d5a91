// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hash tables whose elements come and go.

use hashbrown::HashTable;

/// Inserts an element that is not in the table. A removed element may leave a mark that takes its place until the table
/// moves. A table that is full of such marks is cleared of them here; by itself it would grow to twice its size.
pub fn insert<T: Copy>(table: &mut HashTable<T>, new: T, hash: impl Fn(&T) -> u64) {
    let full = table.len() == table.capacity();
    // A table that is full to seven eighths grows.
    let marks = (table.num_buckets() / 8 * 7).saturating_sub(table.len());
    if full && marks > table.num_buckets() / 16 {
        let all: Vec<T> = table.iter().copied().collect();
        table.clear();
        for element in all {
            table.insert_unique(hash(&element), element, &hash);
        }
    }
    table.insert_unique(hash(&new), new, &hash);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_stays_as_full_stays_as_large() {
        let hash = |n: &u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut table = HashTable::new();
        for n in 0..1_000_000u64 {
            insert(&mut table, n, hash);
            if n >= 100_000 {
                let old = n - 100_000;
                let entry = table.find_entry(hash(&old), |other| *other == old);
                entry.unwrap().remove();
            }
        }
        assert_eq!(table.num_buckets(), 131_072);
        let mut left: Vec<_> = table.into_iter().collect();
        left.sort_unstable();
        assert!(left.into_iter().eq(900_000..1_000_000));
    }
}
