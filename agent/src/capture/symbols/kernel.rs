//! Names of the kernel's own functions. In: `/proc/kallsyms`. Out: function and kernel module by address.
//!
//! Without `CAP_SYSLOG`, or with `kernel.kptr_restrict=2`, the kernel shows all addresses as 0; then there are
//! none, and frames stay without names. Format: an address in hexadecimal, a letter as in nm(1), a name, and behind
//! a tab the module in brackets.

use super::bytes::Flaw;
use std::collections::BTreeMap;
use std::io::{BufRead, Read};

/// Functions kept; a distribution's kernel with its modules has 150,000 to 250,000. This many take 12 MiB.
const FUNCTIONS_MAX: usize = 400_000;
/// Bytes of names kept of those.
const NAMES_BYTES_MAX: usize = 16 << 20;
/// Read at most: ten times what a large kernel shows.
const TEXT_BYTES_MAX: u64 = 128 << 20;
/// Longest line believed in; `KSYM_NAME_LEN` is 512.
const LINE_BYTES_MAX: u64 = 1 << 10;
/// How far behind its beginning a function may reach. The largest are some ten KiB; beyond is something that the
/// kernel does not list, such as a BPF program of another boot of the table.
const REACH_BYTES: u64 = 256 << 10;
/// The module of what is built in.
const BUILT_IN: &str = "[kernel]";

/// The kernel's functions by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    functions: Vec<Function>,
    names: Vec<u8>,
    modules: Vec<Module>,
    /// There were more than are kept.
    pub cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Function {
    address: u64,
    name: u32,
    name_bytes: u16,
    module: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Module {
    name: String,
    /// Its first function.
    start: u64,
}

/// A place in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPlace<'a> {
    /// Name of the function; `None` when none is known there.
    pub function: Option<&'a [u8]>,
    /// `[kernel]` or a module's name in brackets.
    pub module: &'a str,
    /// Distance from the module's first function, which is the same after each boot.
    pub offset: u64,
}

impl Kernel {
    /// Reads the table.
    ///
    /// # Errors
    /// [`Flaw::Not`] when the kernel hides its addresses; [`Flaw::Unreadable`].
    pub fn read(text: impl BufRead) -> Result<Kernel, Flaw> {
        let mut text = text.take(TEXT_BYTES_MAX);
        let mut kernel =
            Kernel { modules: vec![Module { name: BUILT_IN.into(), start: u64::MAX }], ..Kernel::default() };
        let mut module_numbers = BTreeMap::from([(BUILT_IN.as_bytes().to_vec(), 0)]);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut text).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.map_err(|_| Flaw::Unreadable)? == 0 {
                break;
            }
            let Some((address, name, module)) = function(&line) else { continue };
            let room =
                kernel.functions.len() < FUNCTIONS_MAX && kernel.names.len() + name.len() <= NAMES_BYTES_MAX;
            let module = match module_numbers.get(module) {
                Some(number) => Some(*number),
                None => u16::try_from(kernel.modules.len()).ok().inspect(|number| {
                    module_numbers.insert(module.to_vec(), *number);
                    let name = crate::enrich::text::safe(module, 64).into_owned();
                    kernel.modules.push(Module { name, start: u64::MAX });
                }),
            };
            let Some(module) = module.filter(|_| room) else {
                kernel.cut = true;
                continue;
            };
            let start = &mut kernel.modules[usize::from(module)].start;
            *start = address.min(*start);
            // A name is shorter than a line, and all names than 4 GiB.
            let (at, len) = (kernel.names.len() as u32, name.len() as u16);
            kernel.functions.push(Function { address, name: at, name_bytes: len, module });
            kernel.names.extend_from_slice(name);
        }
        if kernel.functions.is_empty() {
            return Err(Flaw::Not("table of kernel functions with their addresses"));
        }
        // Stable: of several names for one address the first is the one the kernel itself prints.
        kernel.functions.sort_by_key(|function| function.address);
        kernel.functions.dedup_by_key(|function| function.address);
        kernel.functions.shrink_to_fit();
        kernel.names.shrink_to_fit();
        Ok(kernel)
    }

    /// What is at an address.
    pub fn find(&self, address: u64) -> KernelPlace<'_> {
        let after = self.functions.partition_point(|function| function.address <= address);
        let function = after.checked_sub(1).and_then(|index| self.functions.get(index));
        let function = function.filter(|function| address - function.address < REACH_BYTES);
        let module = function.map_or(0, |function| usize::from(function.module));
        let name = function.map(|function| {
            let start = function.name as usize;
            &self.names[start..start + usize::from(function.name_bytes)]
        });
        let Some(Module { name: module, start }) = self.modules.get(module) else {
            return KernelPlace { function: None, module: BUILT_IN, offset: address };
        };
        KernelPlace { function: name, module, offset: address.wrapping_sub(*start) }
    }

    /// Functions held.
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Memory it takes.
    pub fn held_bytes(&self) -> usize {
        self.functions.capacity() * size_of::<Function>() + self.names.capacity()
    }
}

/// Address, name and module of a line, if it is a function's whose address is shown.
fn function(line: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let line = line.trim_ascii_end();
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let address = std::str::from_utf8(fields.next()?).ok()?;
    let address = u64::from_str_radix(address, 16).ok().filter(|address| *address != 0)?;
    if !matches!(fields.next()?, b"t" | b"T" | b"w" | b"W") {
        return None;
    }
    let rest = fields.next()?;
    let tab = rest.iter().position(|byte| *byte == b'\t');
    let (name, module) = tab.map_or((rest, BUILT_IN.as_bytes()), |tab| (&rest[..tab], &rest[tab + 1..]));
    (!name.is_empty()).then_some((address, name, module))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000000 T startup_64
ffffffff81000160 t __pfx_verify
ffffffff82209988 D _etext
ffffffffc0201000 t nf_tables_newrule\t[nf_tables]
ffffffffc0200000 t nft_trans\t[nf_tables]
ffffffffc0300000 t bpf_prog_6deef7357e7b4530\t[bpf]
";

    fn place<'a>(function: &'a str, module: &'a str, offset: u64) -> KernelPlace<'a> {
        let function = (!function.is_empty()).then_some(function.as_bytes());
        KernelPlace { function, module, offset }
    }

    #[test]
    fn functions_by_address() {
        let kernel = Kernel::read(TEXT).unwrap();
        assert_eq!(kernel.find(0xffff_ffff_8100_0000), place("_text", "[kernel]", 0));
        assert_eq!(kernel.find(0xffff_ffff_8100_0163), place("__pfx_verify", "[kernel]", 0x163));
        assert_eq!(kernel.find(0xffff_ffff_c020_1004), place("nf_tables_newrule", "[nf_tables]", 0x1004));
        assert_eq!(kernel.find(0xffff_ffff_9000_0000), place("", "[kernel]", 0xf00_0000));
        assert_eq!(kernel.find(5).function, None);
    }

    #[test]
    fn hidden_addresses_are_none() {
        let hidden = b"0000000000000000 T _text\n0000000000000000 t x\t[m]\n";
        assert_eq!(
            Kernel::read(&hidden[..]).unwrap_err(),
            Flaw::Not("table of kernel functions with their addresses")
        );
        assert!(Kernel::read(&b""[..]).is_err());
    }

    #[test]
    fn rubbish_is_left_out_and_too_much_is_cut() {
        let kernel =
            Kernel::read(&b"zz T a\n\n10 T\n10\n20 T b\n 30 T c\n40 T \n50 T d\t\n\xff\xff"[..]).unwrap();
        assert_eq!(kernel.functions.iter().map(|f| f.address).collect::<Vec<_>>(), [0x20, 0x50]);
        let long = [b"10 T ".to_vec(), vec![b'a'; 5_000], b"\n20 T b\n".to_vec()].concat();
        assert_eq!(Kernel::read(&long[..]).unwrap().find(0x20).function, Some(&b"b"[..]));
        let many: String = (1..=FUNCTIONS_MAX + 1).map(|n| format!("{n:x} T a\n")).collect();
        let kernel = Kernel::read(many.as_bytes()).unwrap();
        assert_eq!((kernel.len(), kernel.cut), (FUNCTIONS_MAX, true));
        let modules: String = (1..70_000).map(|n| format!("{n:x} T a\t[m{n}]\n")).collect();
        assert!(Kernel::read(modules.as_bytes()).unwrap().cut);
    }
}
