// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hash tables whose elements are often removed.

use hashbrown::HashTable;

/// Inserts an element that is not in the table. A removed element may leave a mark (a tombstone) that takes up its place
/// until the table is rebuilt. If a table is full of such marks, this function clears them. Otherwise the table would
/// double its size.
pub fn insert<T: Copy>(table: &mut HashTable<T>, new: T, hash: impl Fn(&T) -> u64) {
    let full = table.len() == table.capacity();
    // A table grows when seven eighths of it are full.
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
    fn a_table_does_not_grow_while_its_length_stays() {
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
