//! The image's code, cut into functions.

use elf::ElfBytes;
use elf::abi::{PT_LOAD, SHF_EXECINSTR, SHN_UNDEF, STT_FUNC, STT_NOTYPE};
use elf::endian::AnyEndian;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// In hypervisor real mode the processor ignores these bits of an address, so the image runs at two of them.
const MODE_BITS: u64 = 0xf << 60;
/// Where firmware puts the file; it runs there until it has copied itself to real address 0.
const LOADED_AT: u64 = 0x2000_0000;

/// A function, or a label of the assembler that has no function around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name, demangled.
    pub name: String,
    /// Where it begins: a number of instructions from the image's start.
    pub start: u32,
}

/// What an instruction does to the flow of control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Nothing: the next one follows.
    Next,
    /// A branch that leaves no return address.
    Jump,
    /// A branch that does.
    Call,
    /// A branch to LR.
    Return,
    /// `rfid` or `hrfid`: to what was interrupted, or to another mode.
    Resume,
}

/// The executable part of the hypervisor. Instructions are counted from its start, which is linked at the linear map's
/// base and copied to real address 0.
#[derive(Debug, Clone, Default)]
pub struct Image {
    words: Vec<u32>,
    /// The function of each word.
    owners: Vec<u32>,
    functions: Vec<Function>,
    /// Where the image is linked.
    base: u64,
    /// Where it is before it has copied itself.
    in_place: u64,
}

impl Image {
    /// Reads an ELF file.
    pub fn read(file: &[u8]) -> Result<Self, String> {
        let broken = |error: elf::ParseError| format!("not a usable ELF file: {error}");
        let file = ElfBytes::<AnyEndian>::minimal_parse(file).map_err(broken)?;
        let segment = file.segments().and_then(|all| all.iter().find(|one| one.p_type == PT_LOAD));
        let segment = segment.ok_or("the ELF file has nothing to load")?;
        let sections = file.section_headers().ok_or("the ELF file has no sections")?;
        let (symbols, strings) =
            file.symbol_table().map_err(broken)?.ok_or("the ELF file has no symbols: was it stripped?")?;

        let base = segment.p_vaddr;
        let mut image = Self { base, in_place: LOADED_AT + segment.p_offset, ..Self::default() };
        let mut names: BTreeMap<u32, (String, u64)> = BTreeMap::new();
        for (index, section) in sections.iter().enumerate() {
            if section.sh_flags & u64::from(SHF_EXECINSTR) == 0 {
                continue;
            }
            let (code, _) = file.section_data(&section).map_err(broken)?;
            let first = (section.sh_addr.wrapping_sub(base) / 4) as usize;
            if first + code.len() / 4 > 1 << 24 {
                return Err("code is far from the image's start".into());
            }
            image.words.resize(image.words.len().max(first + code.len() / 4), 0);
            for (slot, word) in image.words[first..].iter_mut().zip(code.chunks_exact(4)) {
                *slot = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            }
            for symbol in symbols.iter() {
                let kind = symbol.st_symtype();
                let inside = symbol.st_value.wrapping_sub(section.sh_addr) < section.sh_size;
                if symbol.st_shndx == SHN_UNDEF
                    || usize::from(symbol.st_shndx) != index
                    || ![STT_FUNC, STT_NOTYPE].contains(&kind)
                    || !inside
                {
                    continue;
                }
                let name = strings.get(symbol.st_name as usize).map_err(broken)?;
                let start = (symbol.st_value.wrapping_sub(base) / 4) as u32;
                // Of several names for one place a function's is the best: it has a size.
                let size = if kind == STT_FUNC { symbol.st_size } else { 0 };
                if !name.is_empty() && names.get(&start).is_none_or(|&(_, known)| size > known) {
                    names.insert(start, (format!("{:#}", rustc_demangle::demangle(name)), size));
                }
            }
        }
        image.name(names.into_iter().map(|(start, (name, _))| Function { name, start }).collect());
        Ok(image)
    }

    /// An image made up of these words.
    pub fn of(words: &[u32], functions: &[(&str, u32)]) -> Self {
        let mut image =
            Self { words: words.to_vec(), base: 0xc << 60, in_place: LOADED_AT, ..Self::default() };
        image
            .name(functions.iter().map(|&(name, start)| Function { name: name.to_owned(), start }).collect());
        image
    }

    /// What lies before the first function, or between two, is the one's before.
    fn name(&mut self, functions: Vec<Function>) {
        self.functions = functions;
        let mut times: HashMap<String, u32> = HashMap::new();
        self.functions.iter().for_each(|function| *times.entry(function.name.clone()).or_default() += 1);
        for function in &mut self.functions {
            // Closures of one kind, or what was made for several types.
            if times[&function.name] > 1 {
                function.name.push_str(&format!(" at {:x}", self.base + 4 * u64::from(function.start)));
            }
        }
        self.owners = vec![0; self.words.len()];
        for (index, function) in self.functions.iter().enumerate() {
            if let Some(rest) = self.owners.get_mut(function.start as usize..) {
                rest.fill(index as u32);
            }
        }
    }

    /// The instruction at an effective address of the hypervisor's, if `word` is what the image has there. At the same
    /// addresses firmware and guests have code of their own.
    pub fn find(&self, address: u64, word: u32) -> Option<u32> {
        let real = address & !MODE_BITS;
        [real, real.wrapping_sub(self.in_place)].into_iter().find_map(|offset| {
            let at = u32::try_from(offset / 4).ok()?;
            (self.words.get(at as usize) == Some(&word)).then_some(at)
        })
    }

    /// How many instructions there are.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// All functions, by address.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The number of the function that an instruction belongs to.
    pub fn owner(&self, at: u32) -> u32 {
        self.owners.get(at as usize).copied().unwrap_or(0)
    }

    /// The name of a function.
    pub fn function_name(&self, function: u32) -> &str {
        self.functions.get(function as usize).map_or("?", |function| &function.name)
    }

    /// The instructions of a function, and what lies behind them.
    pub fn range(&self, function: u32) -> Option<Range<u32>> {
        let start = self.functions.get(function as usize)?.start;
        let next = self.functions.get(function as usize + 1).map(|next| next.start);
        Some(start..next.unwrap_or(self.words.len() as u32))
    }

    /// Where an instruction is linked.
    pub fn address(&self, at: u32) -> u64 {
        self.base + 4 * u64::from(at)
    }

    /// Where a branch goes, if the instruction says so itself.
    pub fn target(&self, at: u32) -> Option<u32> {
        let word = self.word(at);
        let offset = match (word >> 26, word & 2) {
            // b: 24 bits, signed, counting instructions. bc: 14 bits.
            (18, 0) => ((word & 0x03ff_fffc) << 6) as i32 >> 8,
            (16, 0) => i32::from((word & 0xfffc) as u16 as i16) >> 2,
            _ => return None,
        };
        at.checked_add_signed(offset).filter(|&target| (target as usize) < self.words.len())
    }

    /// The instruction itself.
    pub fn word(&self, at: u32) -> u32 {
        self.words.get(at as usize).copied().unwrap_or(0)
    }

    /// What it does to the flow of control.
    pub fn flow(&self, at: u32) -> Flow {
        let word = self.word(at);
        let link = word & 1 != 0;
        match (word >> 26, word >> 1 & 0x3ff) {
            // b, bc; bcctr, bctar.
            (16 | 18, _) | (19, 528 | 560) => {
                if link {
                    Flow::Call
                } else {
                    Flow::Jump
                }
            }
            // bclr.
            (19, 16) => {
                if link {
                    Flow::Call
                } else {
                    Flow::Return
                }
            }
            // rfid, hrfid.
            (19, 18 | 274) => Flow::Resume,
            _ => Flow::Next,
        }
    }

    /// The interrupt vector that begins at an instruction. Each has 32 bytes or more, and code before one never runs into it.
    pub fn vector(at: u32) -> Option<u16> {
        let offset = at.checked_mul(4)?;
        ((0x100..0x1600).contains(&offset) && offset.is_multiple_of(0x20)).then_some(offset as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instruction_has_three_addresses() {
        let image = Image::of(&[10, 11, 12], &[("a", 0), ("b", 2)]);
        assert_eq!(image.find(0xc000_0000_0000_0004, 11), Some(1));
        assert_eq!(image.find(0x4, 11), Some(1));
        assert_eq!(image.find(0x2000_0004, 11), Some(1));
        assert_eq!(image.find(0x4, 12), None, "somebody else's code at the same address");
        assert_eq!(image.find(0x3000_0004, 11), None);
        assert_eq!((image.owner(1), image.owner(2)), (0, 1));
    }

    #[test]
    fn two_functions_have_two_names() {
        let image = Image::of(&[0; 3], &[("a", 0), ("b", 1), ("a", 2)]);
        let names: Vec<_> = image.functions().iter().map(|function| function.name.as_str()).collect();
        assert_eq!(names, ["a at c000000000000000", "b", "a at c000000000000008"]);
    }

    #[test]
    fn flow_by_instruction() {
        let flow = |word| Image::of(&[word], &[]).flow(0);
        for (word, expected) in [
            (0x6000_0000, Flow::Next),
            (0x4800_0008, Flow::Jump),   // b
            (0x4182_0008, Flow::Jump),   // beq
            (0x4e80_0420, Flow::Jump),   // bctr
            (0x4800_0009, Flow::Call),   // bl
            (0x4e80_0421, Flow::Call),   // bctrl
            (0x4e80_0020, Flow::Return), // blr
            (0x4d82_0020, Flow::Return), // beqlr
            (0x4c00_0024, Flow::Resume), // rfid
            (0x4c00_0224, Flow::Resume), // hrfid
        ] {
            assert_eq!(flow(word), expected, "{word:#x}");
        }
    }

    #[test]
    fn branches_by_their_words() {
        let image = Image::of(&[0x4800_0008, 0x4082_fffc, 0x4bff_fffd, 0x4e80_0020], &[]);
        let targets: Vec<_> = (0..4).map(|at| image.target(at)).collect();
        assert_eq!(targets, [Some(2), Some(0), Some(1), None]);
    }

    #[test]
    fn vectors_are_where_the_hardware_enters() {
        assert_eq!(Image::vector(0xc00 / 4), Some(0xc00));
        assert_eq!(Image::vector(0xe20 / 4), Some(0xe20));
        assert_eq!(Image::vector(0xe24 / 4), None);
        assert_eq!(Image::vector(0x1600 / 4), None);
        assert_eq!(Image::vector(0), None);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(Image::read(b"#!/bin/sh").unwrap_err().starts_with("not a usable ELF file"));
    }
}
