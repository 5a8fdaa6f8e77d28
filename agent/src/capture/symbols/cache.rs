//! A table bounded by bytes, in which the least lately used makes room.

use std::collections::HashMap;
use std::hash::Hash;

/// What a row costs beside what it says of itself.
const ROW_BYTES: usize = 128;

/// Rows, each with the memory it takes.
#[derive(Debug)]
pub struct Cache<K, V> {
    rows: HashMap<K, Row<V>>,
    bytes: usize,
    bytes_max: usize,
    clock: u64,
    /// The clock at the last rest.
    rested: u64,
    /// Rows that had to make room.
    pub evicted: u64,
}

#[derive(Debug)]
struct Row<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V> Cache<K, V> {
    /// An empty table for at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Cache { rows: HashMap::new(), bytes: 0, bytes_max, clock: 0, rested: 0, evicted: 0 }
    }

    /// The row of this key, which is now the most lately used.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let row = self.rows.get_mut(key)?;
        self.clock += 1;
        row.used = self.clock;
        Some(&mut row.value)
    }

    /// Adds or replaces a row of `bytes` bytes. Others make room; the new row stays in any case, alone if it must.
    pub fn put(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        let bytes = bytes + ROW_BYTES;
        while self.bytes + bytes > self.bytes_max
            && let Some(oldest) = self.rows.iter().min_by_key(|(_, row)| row.used).map(|(key, _)| key.clone())
        {
            self.remove(&oldest);
            self.evicted += 1;
        }
        self.clock += 1;
        self.bytes += bytes;
        self.rows.insert(key, Row { value, bytes, used: self.clock });
    }

    /// Takes a row out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let row = self.rows.remove(key)?;
        self.bytes -= row.bytes;
        Some(row.value)
    }

    /// Takes out what was not used since the last time this was called.
    pub fn rest(&mut self) {
        let Cache { rows, bytes, rested, .. } = self;
        rows.retain(|_, row| {
            let used = row.used > *rested;
            *bytes -= if used { 0 } else { row.bytes };
            used
        });
        self.rested = self.clock;
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.bytes = 0;
    }

    /// All rows, to change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.rows.values_mut().map(|row| &mut row.value)
    }

    /// Bytes held.
    pub fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_between_two_rests_goes() {
        let mut cache = Cache::new(1_000_000);
        cache.put(1, 1, 100);
        cache.put(2, 2, 100);
        cache.rest();
        assert_eq!(cache.len(), 2, "both came since the last one");
        assert!(cache.get(&2).is_some());
        cache.rest();
        assert!(cache.get(&1).is_none() && cache.get(&2).is_some());
        assert_eq!((cache.held_bytes(), cache.evicted), (100 + ROW_BYTES, 0), "nothing had to make room");
        cache.rest();
        cache.rest();
        assert!(cache.is_empty());
        assert_eq!(cache.held_bytes(), 0);
    }

    #[test]
    fn the_least_lately_used_makes_room() {
        let mut cache = Cache::new(3 * (100 + ROW_BYTES));
        for key in 1..=3 {
            cache.put(key, key, 100);
        }
        assert!(cache.get(&1).is_some());
        cache.put(4, 4, 100);
        assert!(cache.get(&2).is_none());
        assert_eq!((cache.evicted, cache.len()), (1, 3));
        cache.put(5, 5, 10_000);
        assert_eq!(cache.get(&5), Some(&mut 5), "too large for the table");
        assert_eq!(cache.len(), 1, "so it is alone");
        cache.put(5, 6, 1);
        assert_eq!((cache.held_bytes(), cache.evicted), (1 + ROW_BYTES, 4));
    }
}
