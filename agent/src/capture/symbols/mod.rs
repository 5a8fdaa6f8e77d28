//! Names for the addresses in call stacks. In: stack records. Out: facts that name their functions, files and
//! lines, for the processes of all containers, stripped Go programs included.
//!
//! ```text
//!  stack record -> symboliser (queue, a thread of its own) -> resolver -> places (each told once) -> facts
//!                     image: /proc/PID/{stat,maps} -> files: open -> binary: elf, symtab, pclntab
//!                     lately: what was gone too soon   kernel: /proc/kallsyms   perf_map   vdso
//!  stack that breaks off -> unwind (a thread of its own) -> tables for the kernel
//! ```
//!
//! Everything read here was written by others: files and paths by whoever built or runs a container. So nothing is
//! mapped, every read and table has a bound, and what cannot be read leaves frames as `module+0xoffset`.

pub mod binary;
pub mod bytes;
pub mod cache;
pub mod debug_files;
pub mod demangle;
pub mod dwarf;
pub mod elf;
pub mod files;
pub mod image;
pub mod kernel;
pub mod lately;
pub mod maps;
pub mod open;
pub mod pclntab;
pub mod perf_map;
pub mod places;
pub mod resolver;
pub mod symboliser;
pub mod symtab;
pub mod unwind;
pub mod vdso;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod samples;
