//! Tables by which the kernel programs walk user stacks (`abi::unwind`). In: tables and images. Out: maps in maps.
//!
//! A call that changes a map of maps comes back when no program can be reading what it took away. So a number that was cleared
//! may be given to another table or process at once.

use super::counters::{CountersError, failed, from_bytes};
use super::programs::{chain, errno};
use crate::capture::symbols::unwind::Kernel;
use aya::{
    Ebpf, Pod,
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError},
};
use slowpod_ebpf::abi::unwind::{Image, Node, Registered};
use zerocopy::{Immutable, IntoBytes};

const IMAGE_BYTES: usize = size_of::<Image>();
const NODE_BYTES: usize = size_of::<Node>();
const REGISTERED_BYTES: usize = size_of::<Registered>();
/// Flags of `linux/bpf.h`: an inner map may have another length than the first; an update is of what is there.
const BPF_F_INNER_MAP: u32 = 1 << 12;
const BPF_EXIST: u64 = 2;

type Maps<const BYTES: usize> = ArrayOfMaps<MapData, Array<MapData, [u8; BYTES]>>;

/// The maps.
pub struct UnwindMaps {
    registered: HashMap<MapData, u32, [u8; REGISTERED_BYTES]>,
    images: Maps<IMAGE_BYTES>,
    tables: Maps<NODE_BYTES>,
    /// What stands in the place of one that was taken away.
    no_image: Array<MapData, [u8; IMAGE_BYTES]>,
    no_table: Array<MapData, [u8; NODE_BYTES]>,
}

impl UnwindMaps {
    /// Takes the maps out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<UnwindMaps, CountersError> {
        let mut map = |name: &str| ebpf.take_map(name).ok_or_else(|| CountersError(format!("no map {name}")));
        let registered: Map = map("REGISTERED")?;
        let (images, tables) = (map("IMAGES")?, map("TABLES")?);
        Ok(UnwindMaps {
            registered: HashMap::try_from(registered).map_err(failed)?,
            images: ArrayOfMaps::try_from(images).map_err(failed)?,
            tables: ArrayOfMaps::try_from(tables).map_err(failed)?,
            no_image: array(std::iter::once([0; IMAGE_BYTES])).map_err(failed)?,
            no_table: array(std::iter::once([0; NODE_BYTES])).map_err(failed)?,
        })
    }
}

/// An array of these values.
fn array<V: Pod>(values: impl ExactSizeIterator<Item = V>) -> Result<Array<MapData, V>, MapError> {
    let length = u32::try_from(values.len()).unwrap_or(u32::MAX);
    let mut array = Array::create(length, BPF_F_INNER_MAP)?;
    for (index, value) in (0..).zip(values) {
        array.set(index, value, 0)?;
    }
    Ok(array)
}

/// A value as its bytes.
fn copied<const BYTES: usize>(value: &(impl IntoBytes + Immutable)) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes.copy_from_slice(value.as_bytes());
    bytes
}

impl Kernel for UnwindMaps {
    fn set_table(&mut self, number: u32, nodes: &[Node]) -> Result<(), String> {
        let table = array(nodes.iter().map(copied));
        table.and_then(|table| self.tables.set(number, &table, 0)).map_err(|error| chain(&error))
    }

    fn clear_table(&mut self, number: u32) -> Result<(), String> {
        self.tables.set(number, &self.no_table, 0).map_err(|error| chain(&error))
    }

    fn set_image(&mut self, number: u32, image: &Image) -> Result<(), String> {
        let image = array(std::iter::once(copied(image)));
        image.and_then(|image| self.images.set(number, &image, 0)).map_err(|error| chain(&error))
    }

    fn clear_image(&mut self, number: u32) -> Result<(), String> {
        self.images.set(number, &self.no_image, 0).map_err(|error| chain(&error))
    }

    fn register(&mut self, tgid: u32, what: Registered) -> Result<(), String> {
        self.registered.insert(tgid, copied(&what), 0).map_err(|error| chain(&error))
    }

    fn update(&mut self, tgid: u32, what: Registered) -> Result<bool, String> {
        match self.registered.insert(tgid, copied(&what), BPF_EXIST) {
            Ok(()) => Ok(true),
            Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(chain(&error)),
        }
    }

    fn registered(&self, tgid: u32) -> Option<Registered> {
        self.registered.get(&tgid, 0).ok().and_then(|bytes| from_bytes(&bytes).ok())
    }

    fn forget(&mut self, tgid: u32) {
        // The kernel may have been first.
        let _ = self.registered.remove(&tgid);
    }
}
