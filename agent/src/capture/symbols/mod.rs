//! Names for the addresses in call stacks. In: stack records. Out: facts that name their functions.

pub mod bytes;
pub mod demangle;
pub mod elf;
pub mod pclntab;
pub mod symtab;
