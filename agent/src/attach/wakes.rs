//! Who wakes whom, while somebody asks: hooks that come and go, and the counts they leave. In: what is wanted. Out:
//! rows as they stand.

use super::counters::{CountersError, failed, from_bytes};
use super::programs;
use super::verdict::Failure;
use super::{Hooks, offsets::Offsets};
use aya::{
    Btf, Ebpf,
    maps::{HashMap, MapData},
};
use slowpod_ebpf::abi::probes::{Program, WAKES};
use slowpod_ebpf::abi::wakes::{WakeCount, WakeKey};
use zerocopy::IntoBytes;

const KEY_BYTES: usize = size_of::<WakeKey>();
const COUNT_BYTES: usize = size_of::<WakeCount>();

/// Handle on the counts.
pub struct WakeCounts {
    rows: HashMap<MapData, [u8; KEY_BYTES], [u8; COUNT_BYTES]>,
    /// Why they cannot be had on this kernel, in words.
    lacking: Option<String>,
}

impl WakeCounts {
    pub(super) fn take(ebpf: &mut Ebpf, offsets: &Offsets) -> Result<WakeCounts, CountersError> {
        let rows = ebpf.take_map("WAKES").ok_or_else(|| CountersError("no map WAKES".into()))?;
        let missing = offsets.missing(WAKES.fields);
        let lacking = (!missing.is_empty()).then(|| Failure::MissingFields(missing).to_string());
        Ok(WakeCounts { rows: HashMap::try_from(rows).map_err(failed)?, lacking })
    }

    /// All rows.
    ///
    /// # Errors
    /// When the kernel refuses a look-up, which it does not in practice; so for what follows.
    pub fn rows(&self) -> Result<Vec<(WakeKey, WakeCount)>, CountersError> {
        let row = |row: Result<([u8; KEY_BYTES], [u8; COUNT_BYTES]), _>| {
            let (key, count) = row.map_err(failed)?;
            Ok((from_bytes(&key)?, from_bytes(&count)?))
        };
        self.rows.iter().map(row).collect()
    }

    /// Forgets rows. Only while nothing is hooked.
    ///
    /// # Errors
    /// As [`WakeCounts::rows`].
    pub fn forget<'a>(&mut self, keys: impl Iterator<Item = &'a WakeKey>) -> Result<(), CountersError> {
        for key in keys {
            let mut bytes = [0; KEY_BYTES];
            bytes.copy_from_slice(key.as_bytes());
            self.rows.remove(&bytes).map_err(failed)?;
        }
        Ok(())
    }

    /// Hooks what counts.
    ///
    /// # Errors
    /// Why it cannot be had, in words.
    pub fn hook(&self, hooks: &mut Hooks) -> Result<(), String> {
        if let Some(lacking) = &self.lacking {
            return Err(lacking.clone());
        }
        let types = Btf::from_sys_fs().map_err(|error| error.to_string())?;
        for (index, program) in WAKES.programs.iter().enumerate() {
            match programs::hook(&mut hooks.programs, &types, program) {
                Ok(()) => {}
                Err(Failure::NoHook { .. }) if program.optional => {}
                Err(failure) => {
                    unhook_all(hooks, &WAKES.programs[..index]);
                    return Err(failure.to_string());
                }
            }
        }
        Ok(())
    }

    /// Unhooks it again.
    pub fn unhook(&self, hooks: &mut Hooks) {
        unhook_all(hooks, WAKES.programs);
    }
}

/// All of them at once: the kernel waits for each until no CPU can be inside it.
fn unhook_all(hooks: &mut Hooks, which: &[Program]) {
    let ours = |name: &str| which.iter().any(|program| program.name == name);
    std::thread::scope(|scope| {
        for (_, loaded) in hooks.programs.programs_mut().filter(|(name, _)| ours(name)) {
            // Without a thread its hook stays until the agent ends, and counts on.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || programs::unload(loaded));
        }
    });
}
