//! cpio archives in the "newc" format: a reader that copies nothing and a writer into a `Vec`.
//!
//! Each entry is a header of 110 ASCII characters (a magic number and thirteen fields of eight hexadecimal digits), the name with its
//! NUL, and the data; name and data each start on a multiple of four. An entry named `TRAILER!!!` ends the archive; what follows it
//! is not looked at.

use alloc::vec::Vec;
use core::fmt;

const MAGIC: &[u8; 6] = b"070701";
const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";
/// Longest name accepted, with its NUL: PATH_MAX of the programs that write such archives.
const MAX_NAME: usize = 4096;

/// The fields of a header, in order.
const FIELDS: [&str; 13] = [
    "inode",
    "mode",
    "uid",
    "gid",
    "link count",
    "time",
    "file size",
    "device",
    "device",
    "device",
    "device",
    "name size",
    "check",
];
const MODE: usize = 1;
const FILE_SIZE: usize = 6;
const NAME_SIZE: usize = 11;

const TYPE_MASK: u32 = 0o170_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_CHARACTER: u32 = 0o020_000;
const TYPE_SYMLINK: u32 = 0o120_000;

/// Why bytes are not a usable archive. `at` is always the offset of the entry's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// There are no bytes at all.
    Empty,
    /// No entry starts here: other data, or an archive of another kind.
    Foreign {
        /// Where a header was expected.
        at: usize,
        /// What is there instead, when it can be told.
        looks_like: Option<&'static str>,
    },
    /// The bytes end inside an entry.
    Truncated {
        /// Offset of the entry's header.
        at: usize,
        /// The part of the entry that is cut.
        part: Part,
        /// How many bytes the archive would need to have.
        needed: u64,
        /// How many it has.
        have: usize,
    },
    /// The bytes end where the next entry, or the one that ends the archive, should be.
    NoTrailer {
        /// The archive's length.
        at: usize,
    },
    /// A header field is not eight hexadecimal digits.
    BadNumber {
        /// Offset of the entry's header.
        at: usize,
        /// The field.
        field: &'static str,
    },
    /// A name is empty, too long, not UTF-8 or not ended by a NUL.
    BadName {
        /// Offset of the entry's header.
        at: usize,
    },
}

/// Parts of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The fixed header.
    Header,
    /// The name.
    Name,
    /// The file's contents.
    Data,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Foreign { at, looks_like } => {
                write!(f, "not a cpio archive in the newc format: no entry at offset {at}")?;
                looks_like.map_or(Ok(()), |what| write!(f, " (this looks like {what})"))
            }
            Self::Truncated { at, part, needed, have } => {
                let part = match part {
                    Part::Header => "header",
                    Part::Name => "name",
                    Part::Data => "data",
                };
                write!(
                    f,
                    "truncated in the {part} of the entry at offset {at}: it needs {needed} bytes, there are {have}"
                )
            }
            Self::NoTrailer { at } => {
                write!(f, "truncated: it ends at offset {at} without a {TRAILER} entry")
            }
            Self::BadNumber { at, field } => {
                write!(f, "the {field} of the entry at offset {at} is not a hexadecimal number")
            }
            Self::BadName { at } => write!(f, "the name of the entry at offset {at} is not usable"),
        }
    }
}

impl core::error::Error for Error {}

/// One entry of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its name, as written.
    pub name: &'a str,
    /// File type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Its contents: a slice of the archive.
    pub data: &'a [u8],
}

impl Entry<'_> {
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & TYPE_MASK == TYPE_FILE
    }
}

/// Iterates over the entries of an archive. The first error ends the iteration.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    archive: &'a [u8],
    /// Where the next header is, or `None` at the end.
    next: Option<usize>,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `archive`.
    pub fn new(archive: &'a [u8]) -> Self {
        Self { archive, next: Some(0) }
    }

    /// The entry whose header is at `at`, and where the next one is; `None` for the trailer.
    fn entry(&self, at: usize) -> Result<Option<(Entry<'a>, usize)>, Error> {
        let have = self.archive.len();
        let rest = self.archive.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Err(if at == 0 { Error::Empty } else { Error::NoTrailer { at: have } });
        }
        // A short rest is a truncation only if what is there could begin a header.
        let shown = rest.len().min(MAGIC.len());
        if rest[..shown] != MAGIC[..shown] {
            return Err(Error::Foreign { at, looks_like: recognise(rest) });
        }
        let truncated = |part, needed| Error::Truncated { at, part, needed, have };
        // 32-bit fields added in 64 bits cannot overflow: an offset is less than 2^63.
        let start = at as u64;
        let name_at = start + HEADER as u64;
        let header = rest.get(..HEADER).ok_or(truncated(Part::Header, name_at))?;
        let mut fields = [0u32; FIELDS.len()];
        for (index, (digits, field)) in header[MAGIC.len()..].chunks_exact(8).zip(&mut fields).enumerate() {
            *field = hexadecimal(digits).ok_or(Error::BadNumber { at, field: FIELDS[index] })?;
        }
        let name_size = fields[NAME_SIZE] as usize;
        if name_size == 0 || name_size > MAX_NAME {
            return Err(Error::BadName { at });
        }
        let name_end = name_at + name_size as u64;
        let name = self.slice(name_at, name_end).ok_or(truncated(Part::Name, name_end))?;
        let name = match name.split_last() {
            Some((0, name)) if !name.is_empty() && !name.contains(&0) => name,
            _ => return Err(Error::BadName { at }),
        };
        let name = core::str::from_utf8(name).map_err(|_| Error::BadName { at })?;
        if name == TRAILER {
            return Ok(None);
        }
        let data_at = name_end.next_multiple_of(4);
        let data_end = data_at + u64::from(fields[FILE_SIZE]);
        let data = self.slice(data_at, data_end).ok_or(truncated(Part::Data, data_end))?;
        let next = usize::try_from(data_end.next_multiple_of(4)).unwrap_or(usize::MAX);
        Ok(Some((Entry { name, mode: fields[MODE], data }, next)))
    }

    fn slice(&self, from: u64, to: u64) -> Option<&'a [u8]> {
        self.archive.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Entry<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.next.take()?;
        match self.entry(at) {
            Ok(None) => None,
            Ok(Some((entry, next))) => {
                self.next = Some(next);
                Some(Ok(entry))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value: u32, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

/// What people hand over by mistake.
fn recognise(bytes: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 9] = [
        (b"\x1f\x8b", "gzip: the archive must not be compressed"),
        (b"\x28\xb5\x2f\xfd", "zstd: the archive must not be compressed"),
        (b"\xfd7zXZ", "xz: the archive must not be compressed"),
        (b"BZh", "bzip2: the archive must not be compressed"),
        (b"070702", "cpio's crc format"),
        (b"070707", "cpio's odc format"),
        (b"\xc7\x71", "cpio's old binary format"),
        (b"\x71\xc7", "cpio's old binary format"),
        (b"\x7fELF", "an ELF file"),
    ];
    KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|&(_, name)| name)
}

/// Why an entry cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteError {
    /// The name is empty, too long, holds a NUL or is the trailer's.
    BadName,
    /// The contents are 4 GiB or more.
    TooLarge,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadName => "not a name that a cpio archive can hold",
            Self::TooLarge => "4 GiB or more do not fit into a cpio archive",
        })
    }
}

impl core::error::Error for WriteError {}

/// Builds an archive in memory. The same calls give the same bytes: owners are root and times are zero.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    out: Vec<u8>,
    inode: u32,
}

impl Writer {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a regular file.
    pub fn file(&mut self, name: &str, permissions: u32, data: &[u8]) -> Result<(), WriteError> {
        self.entry(name, TYPE_FILE | permissions, (0, 0), data)
    }

    /// Adds a directory.
    pub fn directory(&mut self, name: &str, permissions: u32) -> Result<(), WriteError> {
        self.entry(name, TYPE_DIRECTORY | permissions, (0, 0), &[])
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, name: &str, target: &str) -> Result<(), WriteError> {
        self.entry(name, TYPE_SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, permissions: u32, major: u32, minor: u32) -> Result<(), WriteError> {
        self.entry(name, TYPE_CHARACTER | permissions, (major, minor), &[])
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.raw(TRAILER, 0, 0, (0, 0), &[]);
        self.out
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) -> Result<(), WriteError> {
        if name.is_empty() || name == TRAILER || name.len() >= MAX_NAME || name.contains('\0') {
            return Err(WriteError::BadName);
        }
        if u32::try_from(data.len()).is_err() {
            return Err(WriteError::TooLarge);
        }
        self.inode += 1;
        self.raw(name, self.inode, mode, device, data);
        Ok(())
    }

    fn raw(&mut self, name: &str, inode: u32, mode: u32, device: (u32, u32), data: &[u8]) {
        let mut fields = [0u32; FIELDS.len()];
        fields[0] = inode;
        fields[MODE] = mode;
        fields[4] = 1;
        // The callers have checked both lengths.
        fields[FILE_SIZE] = data.len() as u32;
        (fields[9], fields[10]) = device;
        fields[NAME_SIZE] = name.len() as u32 + 1;
        self.out.extend_from_slice(MAGIC);
        for field in fields {
            self.out
                .extend((0..8).rev().map(|digit| b"0123456789abcdef"[(field >> (4 * digit)) as usize & 15]));
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(0);
        self.pad();
        self.out.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::{String, ToString};
    use std::vec;

    fn read(archive: &[u8]) -> Result<Vec<Entry<'_>>, Error> {
        Reader::new(archive).collect()
    }

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new();
        writer.directory("dev", 0o755).unwrap();
        writer.device("dev/console", 0o600, 5, 1).unwrap();
        writer.file("odd", 0o644, b"12345").unwrap();
        writer.file("empty", 0o600, b"").unwrap();
        writer.symlink("link", "odd").unwrap();
        writer.finish()
    }

    #[test]
    fn reads_what_it_writes() {
        let archive = sample();
        let entries = read(&archive).unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["dev", "dev/console", "odd", "empty", "link"]);
        assert_eq!(entries[2].data, b"12345");
        assert!(entries[2].is_file() && entries[3].is_file());
        assert!(!entries[0].is_file() && !entries[1].is_file() && !entries[4].is_file());
        assert_eq!(entries[4].data, b"odd");
    }

    #[test]
    fn what_follows_the_trailer_is_not_read() {
        let mut archive = sample();
        archive.extend_from_slice(b"anything");
        assert_eq!(read(&archive).unwrap().len(), 5);
    }

    #[test]
    fn tells_foreign_data_apart() {
        assert_eq!(read(b""), Err(Error::Empty));
        let gzip = read(b"\x1f\x8b\x08\0").unwrap_err();
        assert!(gzip.to_string().contains("offset 0 (this looks like gzip"), "{gzip}");
        assert_eq!(read(b"07070"), Err(truncated(Part::Header, 0, 110, 5)));
        assert_eq!(read(b"07x"), Err(Error::Foreign { at: 0, looks_like: None }));
        let mut second = sample();
        second[112] = b'!'; // the name, then the second header is at 116
        second[116] = b'x';
        assert_eq!(read(&second), Err(Error::Foreign { at: 116, looks_like: None }));
    }

    fn truncated(part: Part, at: usize, needed: u64, have: usize) -> Error {
        Error::Truncated { at, part, needed, have }
    }

    fn header(fields: [&str; 13], rest: &[u8]) -> Vec<u8> {
        let mut archive = b"070701".to_vec();
        archive.extend(fields.concat().bytes());
        archive.extend(rest);
        archive
    }

    fn with(index: usize, value: &'static str) -> [&'static str; 13] {
        let mut fields = ["00000000"; 13];
        fields[NAME_SIZE] = "00000002";
        fields[index] = value;
        fields
    }

    #[test]
    fn checks_every_field() {
        for (index, &field) in FIELDS.iter().enumerate() {
            for bad in ["0000000g", "-0000001", "+0000001", "0x000001", "        "] {
                let error = read(&header(with(index, bad), b"a\0")).unwrap_err();
                assert_eq!(error, Error::BadNumber { at: 0, field }, "{bad}");
            }
        }
        assert_eq!(
            read(&header(with(FILE_SIZE, "FFFFFFFF"), b"a\0")),
            Err(truncated(Part::Data, 0, 112 + 0xffff_ffff, 112))
        );
        assert_eq!(
            read(&header(with(NAME_SIZE, "00000008"), b"a\0")),
            Err(truncated(Part::Name, 0, 118, 112))
        );
        for size in ["00000000", "00001001", "ffffffff"] {
            assert_eq!(read(&header(with(NAME_SIZE, size), b"a\0")), Err(Error::BadName { at: 0 }));
        }
        for name in [&b"\0\0"[..], b"ab", b"\xff\0"] {
            assert_eq!(read(&header(with(0, "00000001"), name)), Err(Error::BadName { at: 0 }));
        }
        assert_eq!(read(&header(with(0, "00000001"), b"a\0")), Err(Error::NoTrailer { at: 112 }));
    }

    #[test]
    fn refuses_to_write_nonsense() {
        let mut writer = Writer::new();
        for name in ["", "a\0b", TRAILER, &String::from_utf8(vec![b'a'; MAX_NAME]).unwrap()] {
            assert_eq!(writer.file(name, 0o644, b""), Err(WriteError::BadName));
        }
        assert_eq!(read(&writer.finish()).unwrap(), []);
    }
}
