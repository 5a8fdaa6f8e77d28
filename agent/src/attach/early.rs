//! Processes that were there before the kernel programs, and whose ends are to be told all the same. In: what the scan found. Out: the
//! map that the program on exits looks into.

use super::counters::CountersError;
use crate::decode::fact::Fact;
use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};

/// The processes whose ends are wanted.
pub struct Early {
    tgids: HashMap<MapData, u32, u32>,
}

impl Early {
    /// Takes the map of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Early, CountersError> {
        let map = ebpf.take_map("EARLY").ok_or_else(|| CountersError("no map EARLY".into()))?;
        Ok(Early { tgids: HashMap::try_from(map).map_err(|error| CountersError(error.to_string()))? })
    }

    /// Asks for the end of a process that the scan found, if it does a CNI call.
    pub fn see(&mut self, fact: &Fact) {
        if let Fact::Process(process) = fact
            && process.cni_environment.is_some()
            && let Err(error) = self.tgids.insert(process.tgid, 1, 0)
        {
            tracing::warn!(pid = process.tgid, %error, "the end of a CNI call will not be seen");
        }
    }
}
