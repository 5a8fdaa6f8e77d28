//! Counts of who woke whom, as records. In: what clients want, and the kernel's rows, read on each turn of the live loop
//! while somebody asks. Out: what each grew by.

use crate::attach::Hooks;
use crate::attach::wakes::WakeCounts;
use crate::demand::{Demand, Watch};
use slowpod_ebpf::abi::wakes::{WakeCount, WakeKey, Wakes};
use slowpod_ebpf::abi::{Header, Kind};
use std::collections::HashMap;
use zerocopy::IntoBytes;

/// What was told of the kernel's rows.
pub struct WakeReader {
    counts: WakeCounts,
    hooked: bool,
    told: HashMap<WakeKey, WakeCount>,
}

impl WakeReader {
    /// A reader that counts nothing yet.
    pub fn new(counts: WakeCounts) -> Self {
        WakeReader { counts, hooked: false, told: HashMap::new() }
    }

    /// Counts while somebody asks, and hands over what was counted since the last turn.
    pub fn turn(&mut self, now_ns: u64, demand: &Demand, hooks: &mut Hooks, mut emit: impl FnMut(&[u8])) {
        let wanted = demand.wants_wakes();
        if self.hooked {
            match self.counts.rows() {
                Ok(rows) => self.tell(now_ns, &rows, &mut emit),
                Err(error) => tracing::warn!(%error, "who wakes whom is not known for now"),
            }
        }
        if wanted == self.hooked {
            return;
        }
        if wanted {
            match self.counts.hook(hooks) {
                Ok(()) => self.hooked = true,
                // Told to those who ask, and tried again for the next.
                Err(why) => return demand.wakes_are(Watch::Refused(why)),
            }
            demand.wakes_are(Watch::On);
        } else {
            if !demand.wakes_end() {
                return;
            }
            self.counts.unhook(hooks);
            self.hooked = false;
            let told = std::mem::take(&mut self.told);
            // What is not forgotten is told again in full the next time, as if it had just happened.
            if let Err(error) = self.counts.forget(told.keys()) {
                tracing::warn!(%error, "counts of who woke whom could not be cleared");
                self.told = told;
            }
        }
    }

    fn tell(&mut self, now_ns: u64, rows: &[(WakeKey, WakeCount)], emit: &mut impl FnMut(&[u8])) {
        for (key, now) in rows {
            let before = self.told.insert(*key, *now).unwrap_or_default();
            let count = WakeCount {
                wakes: now.wakes.wrapping_sub(before.wakes),
                blocked_ns: now.blocked_ns.wrapping_sub(before.blocked_ns),
            };
            if count.wakes > 0 {
                let header = Header {
                    ktime_ns: now_ns,
                    kind: Kind::Wakes as u32,
                    len_bytes: size_of::<Wakes>() as u32,
                };
                emit(Wakes { header, key: *key, count }.as_bytes());
            }
        }
    }
}
