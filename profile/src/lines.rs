//! From an instruction to its place in the source, and to the functions that were inlined there.

use addr2line::Context;
use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};
use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::AnyEndian;

/// The line table of an image.
pub struct Lines<'file> {
    context: Context<EndianSlice<'file, LittleEndian>>,
    base: u64,
    root: String,
}

/// A place in the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The function, as it is in the source: perhaps inlined into another one.
    pub function: String,
    /// File and line, as far as they are known.
    pub at: String,
    /// Whether the file is one of this project's.
    pub own: bool,
}

impl Place {
    /// The function without what it was made for, and its file: what all its copies have in common.
    pub fn source(&self) -> String {
        let file = self.at.rsplit_once(':').map_or("", |(file, _)| file);
        format!("{} ({file})", self.name())
    }

    /// The last part of the function's name: `take` of `hpt::take<Hardware>`.
    pub fn name(&self) -> &str {
        let name = self.function.trim_start_matches('<');
        let plain = name.split('<').next().unwrap_or(name);
        plain.rsplit("::").next().unwrap_or(plain)
    }
}

impl<'file> Lines<'file> {
    /// Reads the line table of an ELF file. Names of files below `root` are shown without it.
    pub fn read(file: &'file [u8], root: &str) -> Result<Self, String> {
        let broken = |error: elf::ParseError| format!("not a usable ELF file: {error}");
        let elf = ElfBytes::<AnyEndian>::minimal_parse(file).map_err(broken)?;
        let base = elf.segments().and_then(|all| all.iter().find(|one| one.p_type == PT_LOAD));
        let section = |id: SectionId| {
            let header = elf.section_header_by_name(id.name()).ok().flatten();
            let data = header.and_then(|header| elf.section_data(&header).ok());
            Ok::<_, String>(EndianSlice::new(data.map_or(&[][..], |(data, _)| data), LittleEndian))
        };
        let context = Context::from_dwarf(Dwarf::load(section)?);
        Ok(Self {
            context: context.map_err(|error| format!("its line table cannot be read: {error}"))?,
            base: base.map_or(0, |segment| segment.p_vaddr),
            root: format!("{}/", root.trim_end_matches('/')),
        })
    }

    /// One that knows nothing.
    pub fn none() -> Self {
        // An empty section is no error.
        let nothing = Dwarf::default();
        Self {
            context: Context::from_dwarf(nothing).unwrap_or_else(|error| unreachable!("{error}")),
            base: 0,
            root: "/".into(),
        }
    }

    /// Where an instruction comes from: the innermost function first. Empty if nobody knows, as in assembly.
    pub fn places(&self, at: u32) -> Vec<Place> {
        let mut places = Vec::new();
        let Ok(mut frames) = self.context.find_frames(self.base + 4 * u64::from(at)).skip_all_loads() else {
            return places;
        };
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
            let place = frame.location.as_ref().and_then(|location| Some((location.file?, location.line?)));
            places.push(Place {
                own: place.is_some_and(|(file, _)| file.starts_with(&self.root)),
                function: name
                    .map_or_else(String::new, |name| format!("{:#}", rustc_demangle::demangle(&name))),
                at: place.map_or_else(String::new, |(file, line)| format!("{}:{line}", self.short(file))),
            });
        }
        places
    }

    /// A file's name without what is of the machine that compiled it.
    fn short<'name>(&self, file: &'name str) -> &'name str {
        shorten(file, &self.root)
    }
}

fn shorten<'name>(file: &'name str, root: &str) -> &'name str {
    if let Some(own) = file.strip_prefix(root) {
        return own;
    }
    // The core library: …/library/core/src/…. Crates: …/registry/src/INDEX/NAME-VERSION/src/….
    if let Some((_, rest)) = file.rsplit_once("/rust/library/") {
        return rest;
    }
    if let Some((_, rest)) = file.split_once("/registry/src/") {
        return rest.split_once('/').map_or(rest, |(_, rest)| rest);
    }
    file.strip_prefix('/').and_then(|path| path.rsplit('/').next()).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_parameters() {
        let place = |function: &str| Place { function: function.into(), at: "a/b.rs:7".into(), own: true };
        assert_eq!(place("take").name(), "take");
        assert_eq!(place("enter_with<realmode::machine::Hardware<65536>, true>").name(), "enter_with");
        assert_eq!(place("core::sync::atomic::atomic_load<u64>").source(), "atomic_load (a/b.rs)");
    }

    #[test]
    fn nothing_of_the_building_machine_is_shown() {
        let root = "/home/me/partita/";
        for (file, shown) in [
            ("/home/me/partita/hpt/src/mmu.rs", "hpt/src/mmu.rs"),
            ("/x/lib/rustlib/src/rust/library/core/src/ptr/mod.rs", "core/src/ptr/mod.rs"),
            ("/x/registry/src/index-1/spin-0.10.0/src/once.rs", "spin-0.10.0/src/once.rs"),
            ("/elsewhere/a.rs", "a.rs"),
            ("kernel/src/a.rs", "kernel/src/a.rs"),
        ] {
            assert_eq!(shorten(file, root), shown);
        }
    }
}
