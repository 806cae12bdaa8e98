//! Checks the machine code that runs with address translation off.
//!
//! Starting at every function whose name begins with `rm_`, and at every function that the hypercall table points to, it follows
//! branches and calls through the linked image. Whatever it reaches must not use floating-point or vector registers (they hold
//! the guest's values), panic, allocate or format, call through a pointer, or enter a function that needs translation (`vm_`).
//! Generic code from other crates is compiled into the image wherever the compiler likes, so the call graph counts, not sections.
//!
//! A function that the table marks as a leaf, or as framed, may do less ([`leaf`]).

use elf::ElfBytes;
use elf::abi::{SHF_EXECINSTR, SHN_UNDEF, STT_FUNC, STT_NOTYPE, STT_OBJECT};
use elf::endian::AnyEndian;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;

mod leaf;

/// Padding.
const NOP: u32 = 0x6000_0000;
/// The table of functions that the hypercall prologue calls.
const TABLE: &str = "HCALL_TABLE";
/// Functions that may call through a pointer: the prologue, if something branches to it.
const DISPATCHERS: [&str; 3] = ["hcall_leaf", "hcall_framed", "hcall_general"];
/// In an address of the table: the function is a leaf, or framed.
const LEAF: u64 = 1;
const FRAMED: u64 = 2;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Number of entry points.
    roots: usize,
    /// Number of functions they reach.
    functions: usize,
    /// One line or more for each offence.
    offences: Vec<String>,
}

impl Report {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.offences.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for offence in &self.offences {
            writeln!(f, "{offence}")?;
        }
        let (roots, functions, offences) = (self.roots, self.functions, self.offences.len());
        writeln!(f, "real mode: {roots} entry points reach {functions} functions; {offences} offences")
    }
}

/// Checks an image. An error means that it could not be checked.
pub fn check(image: &[u8]) -> Result<Report, String> {
    let code = Code::read(image)?;
    let mut walk = Walk::default();
    for &root in &code.roots {
        walk.reach(root, None);
    }
    if code.roots.is_empty() {
        return Err("no function's name begins with rm_: there is nothing to check".into());
    }
    while let Some(start) = walk.queue.pop_front() {
        code.check_function(start, &mut walk);
    }
    for &(start, framed) in &code.leaves {
        code.check_leaf(start, framed, &mut walk);
    }
    Ok(Report { roots: code.roots.len(), functions: walk.from.len(), offences: walk.offences })
}

/// The functions that have been reached, and how.
#[derive(Default)]
struct Walk {
    queue: VecDeque<u64>,
    /// Function → the one that led to it.
    from: BTreeMap<u64, Option<u64>>,
    offences: Vec<String>,
}

impl Walk {
    fn reach(&mut self, function: u64, caller: Option<u64>) {
        self.from.entry(function).or_insert_with(|| {
            self.queue.push_back(function);
            caller
        });
    }
}

struct Function {
    name: String,
    end: u64,
    /// A place in assembly, without a size: what comes before may run into it.
    label: bool,
    code: Vec<u32>,
}

/// The executable part of an image, cut into functions.
struct Code {
    functions: BTreeMap<u64, Function>,
    roots: Vec<u64>,
    /// Leaves, and whether they are framed.
    leaves: Vec<(u64, bool)>,
}

impl Code {
    fn read(image: &[u8]) -> Result<Self, String> {
        let broken = |error: elf::ParseError| format!("not a usable ELF file: {error}");
        let file = ElfBytes::<AnyEndian>::minimal_parse(image).map_err(broken)?;
        let sections = file.section_headers().ok_or("the ELF file has no sections")?;
        let (symbols, strings) =
            file.symbol_table().map_err(broken)?.ok_or("the ELF file has no symbols: was it stripped?")?;
        let little = matches!(file.ehdr.endianness, AnyEndian::Little);

        // Where functions start, in each section with code. A label of the assembler is a function here too.
        let mut starts: BTreeMap<u64, (String, usize, u64)> = BTreeMap::new();
        for symbol in symbols.iter() {
            let (kind, index) = (symbol.st_symtype(), usize::from(symbol.st_shndx));
            if symbol.st_shndx == SHN_UNDEF || ![STT_FUNC, STT_NOTYPE].contains(&kind) {
                continue;
            }
            let Ok(section) = sections.get(index) else { continue };
            let end = section.sh_addr + section.sh_size;
            if section.sh_flags & u64::from(SHF_EXECINSTR) == 0
                || !(section.sh_addr..end).contains(&symbol.st_value)
            {
                continue;
            }
            let name = strings.get(symbol.st_name as usize).map_err(broken)?;
            let name = format!("{:#}", rustc_demangle::demangle(name));
            // Of several names for one place a function's is the best: it has a size.
            let size = if kind == STT_FUNC { symbol.st_size } else { 0 };
            let better = starts.get(&symbol.st_value).is_none_or(|&(_, _, known)| size > known);
            if better && !name.is_empty() {
                starts.insert(symbol.st_value, (name, index, size));
            }
        }

        let mut functions = BTreeMap::new();
        let addresses: Vec<u64> = starts.keys().copied().collect();
        for (position, (&start, (name, index, size))) in starts.iter().enumerate() {
            let section = sections.get(*index).map_err(broken)?;
            let limit = section.sh_addr + section.sh_size;
            let next = addresses.get(position + 1).map_or(limit, |&next| next.min(limit));
            // What lies between a function's end and the next one is padding.
            let label = *size == 0;
            let end = if label { next } else { next.min(start.saturating_add(*size)) };
            let (data, _) = file.section_data(&section).map_err(broken)?;
            let range = (start - section.sh_addr) as usize..(end - section.sh_addr) as usize;
            let words = data.get(range).unwrap_or_default().chunks_exact(4);
            let code = words
                .map(|word| {
                    let word = [word[0], word[1], word[2], word[3]];
                    if little { u32::from_le_bytes(word) } else { u32::from_be_bytes(word) }
                })
                .collect();
            functions.insert(start, Function { name: name.clone(), end, label, code });
        }

        let mut roots: Vec<u64> = functions
            .iter()
            .filter(|(_, function)| function.name.starts_with("rm_"))
            .map(|(&at, _)| at)
            .collect();
        let mut leaves = Vec::new();
        let mut tables = 0;
        for symbol in symbols.iter() {
            let kind = symbol.st_symtype();
            if !strings.get(symbol.st_name as usize).is_ok_and(|name| name == TABLE) {
                continue;
            }
            tables += 1;
            let Ok(section) = sections.get(usize::from(symbol.st_shndx)) else { continue };
            if kind != STT_OBJECT || symbol.st_size == 0 {
                return Err(format!("{TABLE} has no size, so its entries cannot be checked"));
            }
            let (data, _) = file.section_data(&section).map_err(broken)?;
            let from = symbol.st_value.wrapping_sub(section.sh_addr) as usize;
            let table = data.get(from..).and_then(|rest| rest.get(..symbol.st_size as usize));
            for entry in table.ok_or(format!("{TABLE} is outside its section"))?.chunks_exact(8) {
                let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
                let entry =
                    if little { entry.iter().rev().fold(0, fold) } else { entry.iter().fold(0, fold) };
                let (function, kind) = (entry & !(LEAF | FRAMED), entry & (LEAF | FRAMED));
                if functions.contains_key(&function) {
                    roots.push(function);
                    leaves.extend((kind != 0).then_some((function, kind == FRAMED)));
                }
            }
        }
        if tables == 0 && functions.values().any(|function| DISPATCHERS.contains(&function.name.as_str())) {
            return Err(format!("there is a hypercall prologue but no {TABLE}"));
        }
        roots.sort_unstable();
        roots.dedup();
        leaves.sort_unstable();
        leaves.dedup();
        Ok(Self { functions, roots, leaves })
    }

    /// The function that an address is in.
    fn containing(&self, address: u64) -> Option<(u64, &Function)> {
        let (&start, function) = self.functions.range(..=address).next_back()?;
        (address < function.end).then_some((start, function))
    }

    fn check_function(&self, start: u64, walk: &mut Walk) {
        let function = &self.functions[&start];
        if let Some(what) = forbidden(&function.name) {
            self.offend(walk, start, start, what);
            return;
        }
        let mut told = HashSet::new();
        let mut ends = false;
        for (index, &word) in function.code.iter().enumerate() {
            let at = start + 4 * index as u64;
            if ends && word == NOP {
                continue;
            }
            ends = false;
            if let Some(what) = registers(word) {
                if told.insert(what) {
                    self.offend(walk, start, at, what);
                }
                continue;
            }
            match flow(word, at) {
                Flow::Next => {}
                Flow::Return => ends = true,
                Flow::To { target, always } => {
                    ends = always;
                    match self.containing(target) {
                        Some((callee, _)) if callee == start => {}
                        Some((callee, _)) => walk.reach(callee, Some(start)),
                        None => self.offend(walk, start, at, "branches to where no function is"),
                    }
                }
                Flow::Pointer { link } => {
                    ends = !link;
                    let allowed = DISPATCHERS.contains(&function.name.as_str());
                    if !allowed && (link || !is_jump_table(&function.code[..index])) {
                        self.offend(walk, start, at, "calls through a pointer");
                    }
                }
            }
        }
        // A label in assembly splits a function in two: the first half runs into the second. A function of the compiler's
        // that does not end with a branch ends with a call that does not return.
        let next = self.functions.get(&function.end);
        if !ends && next.is_some_and(|next| function.label || next.label) {
            walk.reach(function.end, Some(start));
        }
    }

    fn check_leaf(&self, start: u64, framed: bool, walk: &mut Walk) {
        let function = &self.functions[&start];
        // A word of zeroes after the code begins what debuggers want to know of it.
        let code = function.code.iter().take_while(|word| **word != 0);
        for (index, &word) in code.enumerate() {
            let at = start + 4 * index as u64;
            let inside = match flow(word, at) {
                Flow::To { target, .. } => word & 1 == 0 && (start..function.end).contains(&target),
                Flow::Pointer { .. } => false,
                Flow::Next | Flow::Return => true,
            };
            if !inside {
                self.offend(walk, start, at, "leaves a leaf");
            } else if let Err(what) = leaf::check(word, framed) {
                self.offend(walk, start, at, what);
            }
        }
    }

    fn offend(&self, walk: &mut Walk, function: u64, at: u64, what: &str) {
        let mut chain = Vec::new();
        let mut next = Some(function);
        while let Some(start) = next {
            chain.push(self.functions[&start].name.as_str());
            next = walk.from.get(&start).copied().flatten();
        }
        let path: Vec<_> = chain.iter().rev().copied().collect();
        walk.offences.push(format!("{at:#x}: {}: {what}\n    {}", chain[0], path.join("\n    -> ")));
    }
}

/// Functions that real mode must not enter, by name.
fn forbidden(name: &str) -> Option<&'static str> {
    const PANICS: [&str; 8] = [
        "panicking::",
        "rust_begin_unwind",
        "unwrap_failed",
        "expect_failed",
        "slice_index_fail",
        "slice_error_fail",
        "panic_already_",
        "len_mismatch_fail",
    ];
    const ALLOCATES: [&str; 5] =
        ["__rust_alloc", "__rust_realloc", "__rust_dealloc", "__rg_", "handle_alloc_error"];
    if name.starts_with("vm_") {
        return Some("needs address translation");
    }
    if PANICS.iter().any(|part| name.contains(part)) {
        return Some("panics");
    }
    let in_crate = |path: &str| name.strip_prefix('<').unwrap_or(name).starts_with(path);
    if ALLOCATES.iter().any(|part| name.contains(part))
        || in_crate("alloc::")
        || in_crate("linked_list_allocator::")
    {
        return Some("allocates");
    }
    (in_crate("core::fmt::") || name.ends_with(" as core::fmt::Write>::write_str")).then_some("formats")
}

/// What an instruction does to the flow of control.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    Next,
    /// Does not come back here.
    Return,
    /// Goes to `target`, and not on if `always`.
    To {
        target: u64,
        always: bool,
    },
    /// Through CTR or TAR.
    Pointer {
        link: bool,
    },
}

fn flow(word: u32, at: u64) -> Flow {
    let link = word & 1 != 0;
    let base = if word & 2 != 0 { 0 } else { at };
    match (word >> 26, word >> 1 & 0x3ff) {
        // b, bl: 26 bits, signed.
        (18, _) => {
            let offset = ((word & 0x03ff_fffc) << 6) as i32 >> 6;
            Flow::To { target: base.wrapping_add_signed(i64::from(offset)), always: !link }
        }
        // bc: 16 bits, signed; BO=1z1zz is unconditional.
        (16, _) => {
            let offset = i64::from((word & 0xfffc) as u16 as i16);
            let unconditional = word >> 21 & 0b10100 == 0b10100;
            Flow::To { target: base.wrapping_add_signed(offset), always: unconditional && !link }
        }
        // bclr: a return, if it is unconditional.
        (19, 16) if word >> 21 & 0b10100 == 0b10100 && !link => Flow::Return,
        (19, 16) if !link => Flow::Next,
        // bclrl, bcctr, bctar.
        (19, 16 | 528 | 560) => Flow::Pointer { link },
        // rfid, hrfid.
        (19, 18 | 274) => Flow::Return,
        // trap: tw 31,0,0.
        (31, 4) if word >> 21 & 31 == 31 => Flow::Return,
        _ => Flow::Next,
    }
}

/// Whether a `bctr` after this code goes to an entry of a table of offsets (a `match`), and not to a function. A function's address
/// must be in r12 when it is entered; the table's entry has just been added to the table's address.
fn is_jump_table(before: &[u32]) -> bool {
    let mut source = None;
    for &word in before.iter().rev().take(12) {
        let (opcode, extended) = (word >> 26, word >> 1 & 0x3ff);
        match source {
            None if opcode == 31 && extended == 467 && word >> 11 & 0x3ff == 9 << 5 => {
                source = Some(word >> 21 & 31)
            }
            None => {}
            // add RT,RA,RB is what makes the address.
            Some(register) if opcode == 31 && extended & 0x1ff == 266 && word >> 21 & 31 == register => {
                return true;
            }
            Some(_) => {}
        }
    }
    false
}

/// Whether an instruction touches floating-point or vector registers.
fn registers(word: u32) -> Option<&'static str> {
    const FLOAT: Option<&str> = Some("uses floating-point registers");
    const VECTOR: Option<&str> = Some("uses vector registers");
    let extended = word >> 1 & 0x3ff;
    match word >> 26 {
        // maddhd, maddhdu and maddld are for integers.
        4 if matches!(word & 0x3f, 48 | 49 | 51) => None,
        4 | 6 | 60 => VECTOR,
        48..=55 | 59 | 63 => FLOAT,
        // lfdp, lxsd, lxssp; stfdp, stxsd, stxssp, lxv, stxv.
        57 | 61 => VECTOR,
        31 => match extended {
            // lfsx lfsux lfdx lfdux stfsx stfsux stfdx stfdux, lfdpx stfdpx, lfiwax lfiwzx stfiwx.
            535 | 567 | 599 | 631 | 663 | 695 | 727 | 759 | 791 | 919 | 855 | 887 | 983 => FLOAT,
            // lvsl lvsr lvebx lvehx lvewx lvx lvxl stvebx stvehx stvewx stvx stvxl.
            6 | 38 | 7 | 39 | 71 | 103 | 359 | 135 | 167 | 199 | 231 | 487 => VECTOR,
            // Moves between general and vector registers, then loads and stores of VSX.
            51 | 115 | 179 | 211 | 243 | 307 | 403 | 435 => VECTOR,
            12 | 76 | 140 | 332 | 364 | 524 | 588 | 652 | 716 | 780 | 781 | 812 | 813 | 844 | 876 | 908
            | 909 | 940 | 941 | 972 | 1004 => VECTOR,
            268 | 269 | 300 | 301 | 333 | 365 | 396 | 397 | 428 | 429 | 461 | 493 => VECTOR,
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const BLR: u32 = 0x4e80_0020;
    const BASE: u64 = 0xc000_0000_0000_1000;

    /// An ELF file with these functions one after the other, and a table that points to some of them. A name with a dot is
    /// a label.
    fn image(functions: &[(&str, &[u32])], table: &[usize]) -> Vec<u8> {
        image_with_leaves(functions, table, 0)
    }

    /// The same, with `mark` added to each address of the table.
    fn image_with_leaves(functions: &[(&str, &[u32])], table: &[usize], mark: u64) -> Vec<u8> {
        let mut text = Vec::new();
        let mut names = vec![0];
        let mut symbols = vec![0; 24];
        let mut starts = Vec::new();
        let mut symbol = |name: &str, kind: u8, section: u16, value: u64, size: u64| {
            symbols.extend((names.len() as u32).to_le_bytes());
            symbols.extend([kind | 0x10, 0]);
            symbols.extend(section.to_le_bytes());
            symbols.extend(value.to_le_bytes());
            symbols.extend(size.to_le_bytes());
            names.extend(name.bytes().chain([0]));
        };
        for (name, code) in functions {
            let start = BASE + text.len() as u64;
            starts.push(start);
            match name.contains('.') {
                true => symbol(name, STT_NOTYPE, 1, start, 0),
                false => symbol(name, STT_FUNC, 1, start, 4 * code.len() as u64),
            }
            text.extend(code.iter().flat_map(|word| word.to_le_bytes()));
        }
        let data: Vec<u8> = table.iter().flat_map(|&index| (starts[index] + mark).to_le_bytes()).collect();
        if !table.is_empty() {
            symbol(TABLE, STT_OBJECT, 2, 0x9000, data.len() as u64);
        }
        // Kind, flags, address, contents, linked section, size of an entry.
        let sections = [
            (0u32, 0u64, 0u64, &[][..], 0u32, 0u64),
            (1, 6, BASE, &text, 0, 0),
            (1, 2, 0x9000, &data, 0, 0),
            (2, 0, 0, &symbols, 4, 24),
            (3, 0, 0, &names, 0, 0),
        ];
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[18] = 21;
        file[20] = 1;
        let mut headers = Vec::new();
        for (kind, flags, address, bytes, link, entry) in sections {
            headers.extend(0u32.to_le_bytes());
            headers.extend(kind.to_le_bytes());
            for value in [flags, address, file.len() as u64, bytes.len() as u64] {
                headers.extend(value.to_le_bytes());
            }
            headers.extend(link.to_le_bytes());
            headers.extend(1u32.to_le_bytes());
            headers.extend(4u64.to_le_bytes());
            headers.extend(entry.to_le_bytes());
            file.extend(bytes);
        }
        let at = file.len() as u64;
        file.extend(headers);
        file[40..48].copy_from_slice(&at.to_le_bytes());
        file[52] = 64;
        file[58] = 64;
        file[60] = 5;
        file
    }

    fn bl(words: i32) -> u32 {
        18 << 26 | (4 * words) as u32 & 0x03ff_fffc | 1
    }

    fn offences(functions: &[(&str, &[u32])]) -> Vec<String> {
        check(&image(functions, &[])).unwrap().offences
    }

    #[test]
    fn clean_code_passes() {
        let report =
            check(&image(&[("rm_a", &[bl(2), BLR]), ("helper", &[NOP, BLR]), ("vm_b", &[BLR])], &[]))
                .unwrap();
        assert!(report.is_clean(), "{report}");
        assert_eq!((report.roots, report.functions), (1, 2));
    }

    #[test]
    fn offences_are_found_with_the_way_to_them() {
        let found = offences(&[
            ("rm_a", &[bl(3), BLR]),
            ("unused", &[0xc022_0000]),
            ("_ZN4core9panicking9panic_fmt17h0123456789abcdefE", &[BLR]),
        ]);
        assert_eq!(
            found,
            [
                "0xc00000000000100c: core::panicking::panic_fmt: panics\n    rm_a\n    -> core::panicking::panic_fmt"
            ]
        );
        assert!(offences(&[("rm_a", &[bl(1)]), ("vm_b", &[BLR])])[0].contains("needs address translation"));
        assert!(offences(&[("rm_a", &[bl(-2), BLR])])[0].contains("where no function is"));
        for name in ["__rust_alloc", "alloc::raw_vec::finish_grow", "<alloc::vec::Vec<u8>>::push"] {
            assert!(offences(&[("rm_a", &[bl(1)]), (name, &[BLR])])[0].contains("allocates"));
        }
    }

    #[test]
    fn every_edge_is_followed() {
        let bad = ("vm_b", &[BLR][..]);
        // A tail call, a conditional branch.
        for code in [bl(1) & !1, 0x4182_0004] {
            assert_eq!(offences(&[("rm_a", &[code]), bad]).len(), 1, "{code:#x}");
        }
        // Running into a label; beqlr may go on.
        for code in [NOP, 0x4d82_0020] {
            assert_eq!(offences(&[("rm_a", &[code]), ("label.", &[bl(1)]), bad]).len(), 1, "{code:#x}");
        }
        for end in [BLR, 0x4c00_0024, 0x4c00_0224, 0x7fe0_0008, 0x4800_0000] {
            assert_eq!(offences(&[("rm_a.", &[end]), bad]), [""; 0], "{end:#x}");
            assert_eq!(offences(&[("rm_a.", &[end, NOP, NOP]), bad]), [""; 0], "{end:#x}");
        }
        // A call that does not return is the last instruction.
        assert_eq!(offences(&[("end", &[BLR]), ("rm_a", &[bl(-1)]), bad]), [""; 0]);
        // The table counts.
        assert_eq!(
            check(&image(&[("a", &[BLR]), bad, ("rm_c", &[BLR])], &[0, 1])).unwrap().offences.len(),
            1
        );
    }

    #[test]
    fn pointers() {
        const MTCTR_12: u32 = 0x7d89_03a6;
        const BCTR: u32 = 0x4e80_0420;
        let pointer = |code: &[u32]| !offences(&[("rm_a", code)]).is_empty();
        assert!(pointer(&[MTCTR_12, BCTR | 1, BLR]));
        assert!(pointer(&[MTCTR_12, BCTR]));
        assert!(pointer(&[0x4e80_0021, BLR])); // blrl
        // add r12, r4, r3; mtctr r12; bctr
        assert!(!pointer(&[0x7d84_1a14, MTCTR_12, BCTR]));
        let prologue: [(&str, &[u32]); 2] =
            [("hcall_general", &[MTCTR_12, BCTR | 1, BLR]), ("rm_a", &[bl(-3), BLR])];
        assert!(check(&image(&prologue, &[1])).unwrap().is_clean());
        assert!(check(&image(&prologue, &[])).unwrap_err().contains("no HCALL_TABLE"));
    }

    #[test]
    fn leaves() {
        const LI_3: u32 = 0x3860_0000;
        let found_in = |code: &[u32], kind| {
            let image = image_with_leaves(&[("rm_a", &[BLR]), ("a", code)], &[1], kind);
            check(&image).unwrap().offences.len()
        };
        let found = |code: &[u32]| found_in(code, LEAF);
        // beq over an instruction.
        assert_eq!(found(&[LI_3, 0x4182_0008, NOP, BLR]), 0);
        // A call, a branch to elsewhere, the stack, CTR.
        for word in [bl(-1), bl(-1) & !1, 0xf821_ffe1, 0x7c69_03a6] {
            assert_eq!(found(&[word, BLR]), 1, "{word:#x}");
        }
        for (word, offences) in [(bl(-1), 1), (0xf821_ffe1, 0), (0x7c69_03a6, 1)] {
            assert_eq!(found_in(&[word, BLR], FRAMED), offences, "{word:#x}");
        }
        // What follows the code is for debuggers.
        assert_eq!(found(&[LI_3, BLR, 0, 0x2040]), 0);
        // It is a root, too.
        let image = image_with_leaves(&[("rm_a", &[BLR]), ("a", &[0xc022_0000, BLR])], &[1], LEAF);
        assert_eq!(check(&image).unwrap().offences.len(), 2);
    }

    #[test]
    fn registers_of_the_guest() {
        for word in [
            0xc022_0000, // lfs f1, 0(r2)
            0xd822_0000, // stfd f1, 0(r2)
            0xfc22_182a, // fadd f1, f2, f3
            0x7c22_1c2e, // lfsx f1, r2, r3
            0x1022_1800, // vaddubm v1, v2, v3
            0x7c22_18ce, // lvx v1, r2, r3
            0x7c00_1e98, // lxvd2x vs0, 0, r3
            0x7c00_1f98, // stxvd2x vs0, 0, r3
            0x7c64_0066, // mfvsrd r4, vs3
            0xf421_0009, // lxv vs1, 0(r1)
            0xf000_0097, // xxlxor family
        ] {
            assert!(registers(word).is_some(), "{word:#x}");
            assert_eq!(offences(&[("rm_a", &[word, word, BLR])]).len(), 1);
        }
        for word in [BLR, NOP, 0x7c63_2214, 0xe863_0000, 0xf863_0000, 0x7c08_02a6, 0x7c00_04ac, 0x1064_2933] {
            assert!(registers(word).is_none(), "{word:#x}");
        }
    }

    #[test]
    fn nothing_to_check_is_an_error() {
        assert!(check(b"").is_err());
        assert!(check(&image(&[("main", &[BLR])], &[])).unwrap_err().contains("nothing to check"));
    }
}
