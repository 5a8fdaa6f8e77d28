//! The kernel's counts of waits in run queues, read on a tick. In: maps. Out: rows as they stand.

use super::counters::{CountersError, failed, from_bytes};
use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, Queue},
};
use slowpod_ebpf::abi::{
    queue::{CpuRow, PushedCount, PushedKey, QueueKey, QueueRow},
    settings::QUEUE_ROWS_MAX,
};
use zerocopy::{FromZeros, IntoBytes};

const ROW_BYTES: usize = size_of::<QueueRow>();
const CPU_BYTES: usize = size_of::<CpuRow>();
const KEY_BYTES: usize = size_of::<QueueKey>();
const PUSHED_KEY_BYTES: usize = size_of::<PushedKey>();
const PUSHED_COUNT_BYTES: usize = size_of::<PushedCount>();

/// Handles on the counts.
pub struct Queues {
    cpus: PerCpuArray<MapData, [u8; CPU_BYTES]>,
    rows: Array<MapData, [u8; ROW_BYTES]>,
    index: HashMap<MapData, [u8; KEY_BYTES], u32>,
    free: Queue<MapData, u32>,
    pushed: HashMap<MapData, [u8; PUSHED_KEY_BYTES], [u8; PUSHED_COUNT_BYTES]>,
}

impl Queues {
    /// Takes the maps out of a loaded object, and makes their rows free to take. To be called before anything is
    /// hooked.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Queues, CountersError> {
        let mut map = |name: &str| ebpf.take_map(name).ok_or_else(|| CountersError(format!("no map {name}")));
        let cpus: Map = map("QUEUE_CPU")?;
        let rows = map("QUEUE_ROWS")?;
        let index = map("QUEUE_INDEX")?;
        let free = map("QUEUE_FREE")?;
        let pushed = map("PUSHED")?;
        let mut queues = Queues {
            cpus: PerCpuArray::try_from(cpus).map_err(failed)?,
            rows: Array::try_from(rows).map_err(failed)?,
            index: HashMap::try_from(index).map_err(failed)?,
            free: Queue::try_from(free).map_err(failed)?,
            pushed: HashMap::try_from(pushed).map_err(failed)?,
        };
        // Row 0 is for what finds none.
        for row in 1..QUEUE_ROWS_MAX {
            queues.free.push(row, 0).map_err(failed)?;
        }
        Ok(queues)
    }

    /// One row per possible CPU, by its number.
    ///
    /// # Errors
    /// When the kernel refuses a look-up, which it does not in practice; so for all that follows.
    pub fn cpus(&self) -> Result<Vec<CpuRow>, CountersError> {
        self.cpus.get(&0, 0).map_err(failed)?.iter().map(|bytes| from_bytes(bytes)).collect()
    }

    /// Who has which row.
    ///
    /// # Errors
    /// As [`Queues::cpus`].
    pub fn index(&self) -> Result<Vec<(QueueKey, u32)>, CountersError> {
        let entry = |entry: Result<([u8; KEY_BYTES], u32), _>| {
            let (key, row) = entry.map_err(failed)?;
            Ok((from_bytes(&key)?, row))
        };
        self.index.iter().map(entry).collect()
    }

    /// One row.
    ///
    /// # Errors
    /// As [`Queues::cpus`].
    pub fn row(&self, row: u32) -> Result<QueueRow, CountersError> {
        from_bytes(&self.rows.get(&row, 0).map_err(failed)?)
    }

    /// Takes a row back from a process that is gone.
    ///
    /// # Errors
    /// As [`Queues::cpus`].
    pub fn release(&mut self, key: &QueueKey, row: u32) -> Result<(), CountersError> {
        let mut key_bytes = [0; KEY_BYTES];
        key_bytes.copy_from_slice(key.as_bytes());
        self.index.remove(&key_bytes).map_err(failed)?;
        let mut blank = [0; ROW_BYTES];
        blank.copy_from_slice(QueueRow::new_zeroed().as_bytes());
        self.rows.set(row, blank, 0).map_err(failed)?;
        self.free.push(row, 0).map_err(failed)
    }

    /// Who ran while others waited.
    ///
    /// # Errors
    /// As [`Queues::cpus`].
    pub fn pushed(&self) -> Result<Vec<(PushedKey, PushedCount)>, CountersError> {
        let entry = |entry: Result<([u8; PUSHED_KEY_BYTES], [u8; PUSHED_COUNT_BYTES]), _>| {
            let (key, count) = entry.map_err(failed)?;
            Ok((from_bytes(&key)?, from_bytes(&count)?))
        };
        self.pushed.iter().map(entry).collect()
    }
}
