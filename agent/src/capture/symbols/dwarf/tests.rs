//! The small program, and one that the Rust compiler makes on the spot. Real ones are compared with `llvm-addr2line` in the node tier.

use super::*;
use crate::capture::symbols::demangle::function_name;
use crate::capture::symbols::samples::{DEBUG, INLINED, LOOP, SMALL, START, STRIPPED};

fn read(file: &[u8]) -> Option<Debug> {
    Debug::read(&Elf::read(&file).unwrap(), &file).unwrap()
}

fn frames(debug: &Debug, vaddr: u64) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let show = |frame: &DebugFrame| format!("{} {}:{}", text(&frame.name), text(&frame.file), frame.line);
    debug.find(vaddr).iter().map(show).collect()
}

#[test]
fn functions_lines_and_inlined_calls() {
    assert!(read(STRIPPED).is_none());
    for file in [SMALL, DEBUG] {
        let debug = read(file).unwrap();
        assert_eq!(
            frames(&debug, INLINED),
            ["twice /src/small.c:11", "nested /src/small.c:16", "outer /src/small.c:21"]
        );
        assert_eq!(frames(&debug, LOOP), ["loop_forever /src/small.c:26"]);
        assert_eq!(frames(&debug, START + 0x1000), Vec::<String>::new());
        assert!(!debug.cut && debug.held_bytes() > 500);
    }
}

#[test]
fn compressed_sections() {
    let plain = Elf::read(&SMALL).unwrap();
    let mut file = SMALL.to_vec();
    let mut packed = plain.clone();
    for section in packed.sections.iter_mut().filter(|section| section.name.starts_with(".debug_")) {
        let bytes = &SMALL[section.file.start as usize..section.file.end as usize];
        let start = file.len() as u64;
        file.extend([1_u32.to_le_bytes(), [0; 4]].concat());
        file.extend((bytes.len() as u64).to_le_bytes());
        file.extend(1_u64.to_le_bytes());
        file.extend(stored_zlib(bytes));
        section.file = start..file.len() as u64;
        section.flags |= u64::from(object::elf::SHF_COMPRESSED);
    }
    let debug = Debug::read(&packed, &file).unwrap().unwrap();
    assert_eq!(frames(&debug, LOOP), ["loop_forever /src/small.c:26"]);

    // A size that is not kept, a method that is not known, bytes that are no zlib.
    let info = packed.section(".debug_info").unwrap().file.start as usize;
    for (at, byte, flaw) in [
        (info + 12, 0xff, Flaw::TooMany("bytes of debug information")),
        (info, 2, Flaw::Not("section compressed by zlib")),
        (info + 24, 0, Flaw::Absurd("a compressed section")),
    ] {
        let mut damaged = file.clone();
        damaged[at] = byte;
        assert_eq!(Debug::read(&packed, &damaged).unwrap_err(), flaw);
    }
}

/// A zlib stream of one stored block.
fn stored_zlib(bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len() as u16;
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in bytes {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    let sum = (high << 16 | low).to_be_bytes();
    [&[0x78, 0x01, 0x01][..], &len.to_le_bytes(), &(!len).to_le_bytes(), bytes, &sum].concat()
}

/// What the compiler at hand writes, whatever its version: one function, whose line is known.
#[test]
fn a_program_of_the_rust_compiler() {
    use object::{Object, ObjectSymbol};
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("known.rs"), dir.path().join("known"));
    let text = "#[inline(never)]\n#[unsafe(no_mangle)]\nfn known_line(x: u32) -> u32 {\n    x + 1\n}\n\
                fn main() { std::process::exit(known_line(1) as i32) }\n";
    std::fs::write(&source, text).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let made = std::process::Command::new(rustc).arg("-g").arg(&source).arg("-o").arg(&program).status();
    assert!(made.unwrap().success());
    let file = std::fs::read(&program).unwrap();
    let symbols = object::File::parse(&*file).unwrap();
    let known = symbols.symbols().find(|symbol| symbol.name() == Ok("known_line")).unwrap().address();
    let debug = read(&file).unwrap();
    let found = debug.find(known);
    let outermost = found.last().unwrap();
    assert!(outermost.file.ends_with(b"known.rs") && outermost.line == 3, "{found:?}");
    assert_eq!(function_name(&outermost.name), "known_line");
}
