use super::*;
use proptest::prelude::*;

/// A program header, and a file made of some.
#[derive(Clone, Copy, Debug)]
struct Ph {
    kind: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
}

#[derive(Clone, Debug)]
struct File {
    class: u8,
    little: bool,
    kind: u16,
    machine: u16,
    entry: u64,
    headers: Vec<Ph>,
    bytes: usize,
}

impl File {
    fn new(entry: u64, headers: &[Ph]) -> File {
        File { class: 2, little: true, kind: 2, machine: 21, entry, headers: headers.to_vec(), bytes: 0x3000 }
    }

    fn build(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |value: u64, bytes: usize| {
            if self.little {
                out.extend_from_slice(&value.to_le_bytes()[..bytes]);
            } else {
                out.extend_from_slice(&value.to_be_bytes()[8 - bytes..]);
            }
        };
        for b in [0x7f, b'E', b'L', b'F', self.class, if self.little { 1 } else { 2 }, 1, 0] {
            put(b.into(), 1);
        }
        put(0, 8);
        put(self.kind.into(), 2);
        put(self.machine.into(), 2);
        put(1, 4);
        put(self.entry, 8);
        put(64, 8);
        put(0, 8);
        put(0, 4);
        for half in [64, 56, self.headers.len() as u64, 64, 0, 0] {
            put(half, 2);
        }
        for h in &self.headers {
            put(h.kind.into(), 4);
            put(7, 4);
            for double in [h.offset, h.vaddr, h.paddr, h.filesz, h.memsz, 0x1_0000] {
                put(double, 8);
            }
        }
        out.resize(self.bytes, 0);
        out
    }

    fn error(&self) -> ElfError {
        plan(&self.build(), 1 << 20).unwrap_err()
    }
}

const LINEAR: u64 = 0xc000_0000_0000_0000;
const TEXT: Ph = Ph { kind: 1, offset: 0x1000, vaddr: LINEAR, paddr: 0, filesz: 0x2000, memsz: 0x5000 };

fn vmlinux() -> File {
    File::new(LINEAR, &[TEXT, Ph { kind: 4, ..TEXT }])
}

#[test]
fn a_vmlinux() {
    for little in [true, false] {
        for kind in [2, 3] {
            let plan = plan(&File { little, kind, ..vmlinux() }.build(), 1 << 20).unwrap();
            assert_eq!(plan.segments, [Segment { file: 0x1000..0x3000, at: GuestReal(0), bytes: 0x5000 }]);
            assert_eq!(plan.entry, GuestReal(0));
            assert_eq!(plan.little_endian, little);
            assert_eq!((plan.start(), plan.end()), (GuestReal(0), GuestReal(0x5000)));
        }
    }
}

#[test]
fn segments_are_sorted_and_entries_found() {
    let high = Ph { vaddr: 0x40_0000, paddr: 0x40_0000, ..TEXT };
    let low = Ph { vaddr: 0x20_0000, paddr: LINEAR | 0x20_0000, filesz: 0x100, memsz: 0x100, ..TEXT };
    let empty = Ph { memsz: 0, filesz: 0, paddr: !0, ..TEXT };
    let plan = plan(&File::new(0x20_0010, &[high, empty, low]).build(), 8 << 20).unwrap();
    assert_eq!(plan.segments.iter().map(|s| s.at.0).collect::<Vec<_>>(), [0x20_0000, 0x40_0000]);
    assert_eq!(plan.entry, GuestReal(0x20_0010));
    assert_eq!(plan.end(), GuestReal(0x40_5000));
}

#[test]
fn each_fault_has_its_message() {
    let with = |ph: Ph| File { headers: vec![ph], ..vmlinux() }.error();
    let cases = [
        (plan(b"#!/bin/sh", 1 << 20).unwrap_err(), "not an ELF image"),
        (plan(b"", 1 << 20).unwrap_err(), "not an ELF image"),
        (
            plan(&vmlinux().build()[..63], 1 << 20).unwrap_err(),
            "the file is cut off: 63 bytes instead of at least 64 bytes",
        ),
        (
            plan(&vmlinux().build()[..100], 1 << 20).unwrap_err(),
            "the file is cut off: 100 bytes instead of at least 176 bytes",
        ),
        (File { class: 1, ..vmlinux() }.error(), "a 32-bit image, but partitions start in 64-bit mode"),
        (
            File { machine: 62, ..vmlinux() }.error(),
            "an image for ELF machine 62, not for 64-bit PowerPC (21)",
        ),
        (
            File { kind: 1, ..vmlinux() }.error(),
            "ELF type 1: neither an executable (2) nor a shared object (3)",
        ),
        (
            File { headers: vec![], ..vmlinux() }.error(),
            "nothing to load: no PT_LOAD segment that takes memory",
        ),
        (with(Ph { kind: 4, ..TEXT }), "nothing to load: no PT_LOAD segment that takes memory"),
        (with(Ph { offset: 0x2000, ..TEXT }), "segment 0 ends 16 KiB into a file of 12 KiB"),
        (with(Ph { offset: !0, ..TEXT }), "segment 0 ends 16777215.9 TiB into a file of 12 KiB"),
        (with(Ph { memsz: 0x1000, ..TEXT }), "segment 0 is 8 KiB in the file but 4 KiB in memory"),
        (
            with(Ph { paddr: 1 << 59, memsz: !0, ..TEXT }),
            "segment 0 of 16777215.9 TiB at 0x800000000000000 runs past the end of the address space",
        ),
        (
            with(Ph { memsz: 1 << 30, ..TEXT }),
            "segment 0 ends at 1 GiB in a partition with 1 MiB of memory there",
        ),
        (
            File { headers: vec![TEXT, Ph { paddr: 0x4fff, ..TEXT }], ..vmlinux() }.error(),
            "two segments overlap at real address 0x4fff",
        ),
        (
            File { entry: LINEAR + 0x2000, ..vmlinux() }.error(),
            "the entry point 0xc000000000002000 is not an instruction of the image",
        ),
        (
            File { entry: LINEAR + 2, ..vmlinux() }.error(),
            "the entry point 0xc000000000000002 is not an instruction of the image",
        ),
    ];
    for (error, message) in cases {
        assert_eq!(error.to_string(), message, "{error:?}");
    }
    let mut bad = vmlinux().build();
    bad[54] = 1;
    assert_eq!(plan(&bad, 1 << 20), Err(ElfError::Malformed));
}

fn kernel(at: u64, bytes: u64) -> LoadPlan {
    LoadPlan {
        segments: vec![Segment { file: 0..0, at: GuestReal(at), bytes }],
        entry: GuestReal(at),
        little_endian: true,
    }
}

#[test]
fn everything_has_its_place() {
    const M: u64 = 1 << 20;
    let layout = place(&kernel(0, 40 * M), 512 * M, 10_000, 30 * M + 5).unwrap();
    assert_eq!(layout.rtas.0, 512 * M - 0x1_0000);
    assert_eq!(layout.tree.0, 512 * M - 0x2_0000);
    assert_eq!(layout.initrd, 481 * M + 0xd_0000..511 * M + 0xd_0005);
    let large = place(&kernel(0, 40 * M), 8192 * M, 10_000, 0).unwrap();
    assert_eq!(large.rtas.0, 1024 * M - 0x1_0000);
    assert!(large.initrd.is_empty());
    let above = place(&kernel(0, 40 * M), 8192 * M, 10_000, 2048 * M).unwrap();
    assert_eq!(above.initrd.start, 1024 * M);
    assert!(place(&kernel(0x1000, 0x1000), M, 10_000, 0).is_ok(), "a small one in a small partition");

    let error = place(&kernel(0, 40 * M), 64 * M, 10_000, 30 * M).unwrap_err();
    assert_eq!(error.to_string(), "initrd of 30 MiB does not fit: there is room for 23.8 MiB");
    let error = place(&kernel(0, 40 * M), 40 * M, 10_000, 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no room for RTAS and the device tree: 40 MiB of memory, and the kernel needs the first 40 MiB"
    );
    assert!(place(&kernel(64 * M, 10 * M), 100 * M, 10_000, 0).is_err(), "no room for the heap");
    assert!(place(&kernel(64 * M, 10 * M), 128 * M, 10_000, 0).is_ok());
    assert!(place(&kernel(0, 1), 0, 0, 0).is_err());
}

fn wild() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..0x4000u64,
        Just(0),
        Just(!0),
        Just(LINEAR),
        (0..0x4000u64).prop_map(|n| LINEAR + n)
    ]
}

proptest! {
    #[test]
    fn a_plan_keeps_its_promises(
        headers in prop::collection::vec((wild(), wild(), wild(), wild(), wild()), 0..4),
        entry in wild(),
        little in any::<bool>(),
    ) {
        let headers: Vec<Ph> = headers
            .into_iter()
            .map(|(offset, vaddr, paddr, filesz, memsz)| Ph { kind: 1, offset, vaddr, paddr, filesz, memsz })
            .collect();
        let image = File { little, ..File::new(entry, &headers) }.build();
        if let Ok(plan) = plan(&image, 0x8000) {
            let mut last = 0;
            for s in &plan.segments {
                prop_assert!(s.at.0 >= last && s.file.start <= s.file.end && s.file.end <= image.len());
                prop_assert!(s.file.len() as u64 <= s.bytes);
                last = s.end().0;
            }
            prop_assert!(last <= 0x8000);
            prop_assert!(plan.segments.iter().any(|s| s.at <= plan.entry && plan.entry < s.end()));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..176usize, value in any::<u8>()) {
        let _ = plan(&bytes, 1 << 20);
        let mut image = vmlinux().build();
        image[at] = value;
        let _ = plan(&image, 1 << 20);
    }

    #[test]
    fn a_layout_keeps_its_promises(start in wild(), bytes in wild(), memory in 0..1u64 << 34, tree in 0..1u64 << 20, initrd in 0..1u64 << 34) {
        let start = start % (1 << 32);
        let kernel = kernel(start, bytes % (1 << 32));
        if let Ok(l) = place(&kernel, memory, tree, initrd) {
            let mut ranges = [
                (kernel.start().0, kernel.end().0),
                (l.rtas.0, l.rtas.0 + RTAS_BYTES),
                (l.tree.0, l.tree.0 + tree),
                (l.initrd.start, l.initrd.end),
            ]
            .into_iter()
            .filter(|(a, b)| a < b)
            .collect::<Vec<_>>();
            ranges.sort();
            prop_assert!(ranges.windows(2).all(|w| w[0].1 <= w[1].0), "{:x?}", ranges);
            prop_assert!(ranges.last().unwrap().1 <= memory);
            prop_assert!(l.rtas.0 + RTAS_BYTES <= 1 << 30);
        }
    }
}
