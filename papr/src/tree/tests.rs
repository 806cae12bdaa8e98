use super::cpu::{pa_features, segment_page_sizes};
use super::*;
use fdt::Fdt;
use fdt::node::FdtNode;

const VTYS: &[VtyConfig] = &[
    VtyConfig { unit: FIRST_VTY, source: 0x1000, level: true },
    VtyConfig { unit: FIRST_VTY + 1, source: 0x1001, level: false },
];

fn config() -> GuestConfig<'static> {
    GuestConfig {
        name: "alpha",
        number: 3,
        uuid: Some(*b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef"),
        generation: Generation::Power9,
        pvr: 0x004e_1202,
        memory_bytes: 1 << 30,
        rma_bytes: 1 << 29,
        hpt_shift: 24,
        cpus: &[0, 1, 5],
        boot_cpu: 1,
        timebase_hz: 512_000_000,
        clock_hz: 1_000_000_000,
        slb_entries: 32,
        large_decrementer_bits: Some(56),
        huge_pages: false,
        inhibited_64k: false,
        random: true,
        hpt_resize: false,
        identity: None,
        rng_seed: Some([9; 32]),
        cmdline: "console=hvc0 quiet",
        initrd: Some((0x100_0000, 0x123_4567)),
        rtas_base: 0x1fff_0000,
        vtys: VTYS,
        pci: None,
    }
}

fn cells(node: FdtNode<'_, '_>, name: &str) -> Vec<u32> {
    let value = node.property(name).unwrap_or_else(|| panic!("{} has no {name}", node.name)).value;
    value.chunks(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect()
}

fn text<'a>(node: FdtNode<'_, 'a>, name: &str) -> &'a str {
    node.property(name).unwrap_or_else(|| panic!("{} has no {name}", node.name)).as_str().unwrap()
}

fn with(c: &GuestConfig, check: impl FnOnce(&Fdt)) {
    check(&Fdt::new(&build(c).unwrap()).unwrap());
}

#[test]
fn the_root() {
    with(&config(), |t| {
        let root = t.find_node("/").unwrap();
        assert_eq!(text(root, "device_type"), "chrp");
        assert_eq!(text(root, "compatible"), "IBM,pSeries");
        assert_eq!(text(root, "ibm,partition-name"), "alpha");
        assert_eq!(cells(root, "ibm,partition-no"), [3]);
        assert_eq!(text(root, "vm,uuid"), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(text(root, "system-id"), text(root, "vm,uuid"));
        assert_eq!((cells(root, "#address-cells"), cells(root, "#size-cells")), (vec![2], vec![2]));
        assert!(t.find_node("/hypervisor").is_none());
    });
}

#[test]
fn the_header_names_the_boot_processor_and_reserves_rtas() {
    let blob = build(&config()).unwrap();
    assert_eq!(blob[28..32], 1u32.to_be_bytes());
    let t = Fdt::new(&blob).unwrap();
    let reserved: Vec<_> = t.memory_reservations().map(|r| (r.address() as u64, r.size() as u64)).collect();
    assert_eq!(reserved, [(0x1fff_0000, 0x1000), (0x100_0000, 0x23_4567)]);
}

#[test]
fn chosen() {
    with(&config(), |t| {
        let node = t.find_node("/chosen").unwrap();
        assert_eq!(text(node, "bootargs"), "console=hvc0 quiet");
        assert_eq!(cells(node, "linux,initrd-start"), [0, 0x100_0000]);
        assert_eq!(cells(node, "linux,initrd-end"), [0, 0x123_4567]);
        assert_eq!(text(node, "stdout-path"), "/vdevice/vty@71000000");
        assert_eq!(node.property("rng-seed").unwrap().value, [9; 32]);
        assert!(node.property("ibm,architecture-vec-5").is_none());
    });
    with(&GuestConfig { initrd: None, vtys: &[], rng_seed: None, ..config() }, |t| {
        let node = t.find_node("/chosen").unwrap();
        for name in ["linux,initrd-start", "linux,initrd-end", "stdout-path", "rng-seed"] {
            assert!(node.property(name).is_none(), "{name}");
        }
    });
}

#[test]
fn memory_begins_with_the_real_mode_area() {
    with(&config(), |t| {
        let nodes: Vec<_> =
            t.find_node("/").unwrap().children().filter(|n| n.name.starts_with("memory")).collect();
        assert_eq!(nodes.iter().map(|n| n.name).collect::<Vec<_>>(), ["memory@0", "memory@20000000"]);
        assert_eq!(cells(nodes[0], "reg"), [0, 0, 0, 0x2000_0000]);
        assert_eq!(cells(nodes[1], "reg"), [0, 0x2000_0000, 0, 0x2000_0000]);
        assert!(nodes.iter().all(|n| text(*n, "device_type") == "memory"));
    });
    with(&GuestConfig { rma_bytes: 1 << 30, ..config() }, |t| {
        assert!(t.find_node("/memory@40000000").is_none());
        assert_eq!(cells(t.find_node("/memory@0").unwrap(), "reg"), [0, 0, 0, 0x4000_0000]);
    });
}

#[test]
fn processors() {
    with(&config(), |t| {
        let cpus = t.find_node("/cpus").unwrap();
        let names: Vec<_> = cpus.children().map(|n| n.name).collect();
        assert_eq!(names, ["PowerPC,POWER9@0", "PowerPC,POWER9@1", "PowerPC,POWER9@5"]);
        let cpu = cpus.children().last().unwrap();
        for (name, want) in [
            ("reg", &[5][..]),
            ("ibm,ppc-interrupt-server#s", &[5]),
            ("ibm,ppc-interrupt-gserver#s", &[5, 1]),
            ("cpu-version", &[0x004e_1202]),
            ("timebase-frequency", &[512_000_000]),
            ("clock-frequency", &[1_000_000_000]),
            ("ibm,pft-size", &[0, 24]),
            ("ibm,slb-size", &[32]),
            ("ibm,processor-segment-sizes", &[0x1c, 0x28, !0, !0]),
            ("ibm,vmx", &[2]),
            ("ibm,dfp", &[1]),
            ("ibm,dec-bits", &[56]),
            ("d-cache-line-size", &[128]),
            ("i-cache-block-size", &[128]),
        ] {
            assert_eq!(cells(cpu, name), want, "{name}");
        }
        assert_eq!(text(cpu, "device_type"), "cpu");
        assert!(cpu.property("64-bit").is_some());
        assert!(cpu.property("ibm,processor-radix-AP-encodings").is_none());
    });
    with(&GuestConfig { large_decrementer_bits: None, generation: Generation::Power8, ..config() }, |t| {
        let cpu = t.find_node("/cpus/PowerPC,POWER8@0").unwrap();
        assert!(cpu.property("ibm,dec-bits").is_none());
    });
}

#[test]
fn page_sizes_are_those_of_h_enter() {
    assert_eq!(segment_page_sizes(false), [12, 0, 2, 12, 0, 16, 7, 16, 0x110, 1, 16, 1]);
    assert_eq!(
        segment_page_sizes(true),
        [12, 0, 3, 12, 0, 16, 7, 24, 0x38, 16, 0x110, 2, 16, 1, 24, 8, 24, 0x100, 1, 24, 0]
    );
}

#[test]
fn features() {
    let bit = |features: &[u8], byte: usize, mask: u8| features.get(2 + byte).is_some_and(|b| b & mask != 0);
    for (generation, bytes) in [(Generation::Power8, 24), (Generation::Power9, 66), (Generation::Power10, 74)]
    {
        let f = pa_features(generation, false);
        assert_eq!((f.len(), f[0], f[1]), (bytes + 2, bytes as u8, 0));
        assert_eq!(f[2..10], [0xf6, 0x1f, 0xc7, 0xc0, 0, 0xf0, 0x80, 0]);
        assert!(!bit(&f, 22, 0x80), "TM");
        assert!(!bit(&f, 40, 0xff), "radix");
        assert!(!bit(&f, 1, 0x20));
        assert!(bit(&pa_features(generation, true), 1, 0x20));
        assert_eq!(bit(&f, 24, 0x80), generation > Generation::Power8);
    }
}

#[test]
fn interrupts_and_consoles() {
    with(&config(), |t| {
        let xics = t.find_node("/interrupt-controller@0").unwrap();
        assert_eq!(text(xics, "device_type"), "PowerPC-External-Interrupt-Presentation");
        assert_eq!(text(xics, "compatible"), "IBM,ppc-xicp");
        assert_eq!(cells(xics, "ibm,interrupt-server-ranges"), [0, 6]);
        assert_eq!(cells(xics, "#interrupt-cells"), [2]);
        assert_eq!(cells(xics, "phandle"), cells(xics, "linux,phandle"));
        let bus = t.find_node("/vdevice").unwrap();
        assert_eq!(text(bus, "compatible"), "IBM,vdevice");
        let vty = t.find_node("/vdevice/vty@71000000").unwrap();
        assert_eq!(text(vty, "compatible"), "hvterm1");
        assert_eq!(text(vty, "device_type"), "serial");
        assert_eq!(cells(vty, "reg"), [FIRST_VTY]);
        assert_eq!(cells(vty, "interrupts"), [0x1000, 1]);
        assert_eq!(cells(t.find_node("/vdevice/vty@71000001").unwrap(), "interrupts"), [0x1001, 0]);
    });
}

#[test]
fn rtas_lists_every_service() {
    with(&config(), |t| {
        let rtas = t.find_node("/rtas").unwrap();
        for service in Service::ALL {
            let told = rtas.property(service.name()).is_some();
            assert_eq!(told, !service.is_pci(), "{}", service.name());
            assert!(!told || cells(rtas, service.name()) == [service.token()]);
        }
        assert_eq!(cells(rtas, "linux,rtas-base"), [0x1fff_0000]);
        assert_eq!(cells(rtas, "linux,rtas-entry"), [0x1fff_0000]);
        assert_eq!(cells(rtas, "rtas-size"), [0x1000]);
        assert_eq!(cells(rtas, "ibm,lrdr-capacity"), [0, 1 << 30, 0, 256 << 20, 3]);
        let sets = rtas.property("ibm,hypertas-functions").unwrap().value;
        let sets: Vec<_> = sets.strip_suffix(b"\0").unwrap().split(|b| *b == 0).collect();
        assert!(sets.contains(&&b"hcall-pft"[..]) && sets.contains(&&b"hcall-set-mode"[..]));
        assert!(!sets.contains(&&b"hcall-tce"[..]));
        assert_eq!(
            text(t.find_node("/ibm,platform-facilities/ibm,random-v1").unwrap(), "compatible"),
            "ibm,random"
        );
    });
    with(&GuestConfig { random: false, ..config() }, |t| {
        assert!(t.find_node("/ibm,platform-facilities").is_none());
    });
}

#[test]
fn resizing_is_told_of_where_it_exists() {
    for hpt_resize in [false, true] {
        with(&GuestConfig { hpt_resize, ..config() }, |t| {
            let sets = t.find_node("/rtas").unwrap().property("ibm,hypertas-functions").unwrap().value;
            assert_eq!(sets.split(|b| *b == 0).any(|set| set == b"hcall-hpt-resize"), hpt_resize);
        });
    }
}

#[test]
fn the_identity_page() {
    let page = IdentityPage { base: 0xff_ff00_0000, source: 0x1002 };
    with(&GuestConfig { identity: Some(page), ..config() }, |t| {
        let parent = t.find_node("/identity").unwrap();
        // What Linux looks for, and then translates the address by.
        assert_eq!(text(parent, "device_type"), "ibm,persistent-memory");
        assert_eq!((cells(parent, "#address-cells"), cells(parent, "#size-cells")), (vec![2], vec![2]));
        assert!(parent.property("ranges").unwrap().value.is_empty());
        let node = t.find_node("/identity/vmgenid@ffff000000").unwrap();
        assert_eq!(text(node, "compatible"), "microsoft,vmgenid");
        assert_eq!(cells(node, "reg"), [0xff, 0xff00_0000, 0, 0x1_0000]);
        assert_eq!(cells(node, "interrupts"), [0x1002, 0]);
        let xics = t.find_node("/interrupt-controller@0").unwrap();
        assert_eq!(cells(node, "interrupt-parent"), cells(xics, "phandle"));
    });
    with(&config(), |t| assert!(t.find_node("/identity").is_none()));
    for base in [0, (1 << 30) - 0x1_0000, (1 << 30) + 0x1000, 0u64.wrapping_sub(0x1_0000)] {
        let c = GuestConfig { identity: Some(IdentityPage { base, ..page }), ..config() };
        assert_eq!(build(&c).unwrap_err(), Error::IdentityPage, "{base:#x}");
    }
    assert!(
        build(&GuestConfig { identity: Some(IdentityPage { base: 1 << 30, ..page }), ..config() }).is_ok()
    );
}

#[test]
fn the_length_depends_on_no_address() {
    let one = build(&config()).unwrap().len();
    let two =
        build(&GuestConfig { rtas_base: 0x1000, initrd: Some((0x2000, 0x3000)), ..config() }).unwrap().len();
    assert_eq!(one, two);
}

#[test]
fn errors() {
    let c = config();
    let error = |c: GuestConfig| build(&c).unwrap_err();
    assert_eq!(error(GuestConfig { cmdline: "a\0b", ..c.clone() }), Error::Nul("command line"));
    assert_eq!(error(GuestConfig { name: "\0", ..c.clone() }), Error::Nul("partition's name"));
    assert_eq!(error(GuestConfig { cpus: &[], ..c.clone() }), Error::Cpus);
    assert_eq!(error(GuestConfig { boot_cpu: 2, ..c.clone() }), Error::Cpus);
    for (memory_bytes, rma_bytes) in [(0, 0), (1 << 30, 0), (1 << 30, 1 << 31), ((1 << 30) + 1, 1 << 29)] {
        assert_eq!(error(GuestConfig { memory_bytes, rma_bytes, ..c.clone() }), Error::Memory);
    }
    for rtas_base in [0x1fff_f001, !0, 1 << 33] {
        assert_eq!(error(GuestConfig { rtas_base, ..c.clone() }), Error::Outside("RTAS area"));
    }
    for initrd in [Some((2, 1)), Some((0, !0))] {
        assert_eq!(error(GuestConfig { initrd, ..c.clone() }), Error::Outside("initrd"));
    }
    assert_eq!(
        error(GuestConfig { boot_cpu: 9, ..c }).to_string(),
        "no processors, or the boot processor is not one of them"
    );
}

#[test]
fn a_host_bridge_and_its_functions() {
    let memory = |bar, wide, bus, bytes| Memory { bar, wide, prefetchable: wide, bus, bytes };
    let function = FunctionConfig {
        slot: 1,
        vendor: 0x1af4,
        device: 0x1041,
        subsystem_vendor: 0x1af4,
        subsystem: 0x1100,
        class: 0x02_0000,
        revision: 1,
        pin: 1,
        messages: (0, 4),
        memory: vec![memory(1, false, 0x8000_0000, 4096), memory(4, true, 0xf1_0000_0000, 16384)],
    };
    let ranges = vec![BusRange { wide: false, bus: 0x8000_0000, real: 0xf0_8000_0000, bytes: 1 << 31 }];
    let window = (0x8000_0000, 0, 1 << 30);
    let functions = vec![function];
    let bridge = HostBridgeConfig {
        unit: 0x0800_0000_2000_0000,
        ranges,
        lines: (0x1002, 4),
        messages: 128,
        window,
        functions,
    };
    with(&GuestConfig { pci: Some(&bridge), ..config() }, |t| {
        let node = t.find_node("/pci@800000020000000").unwrap();
        assert_eq!(text(node, "compatible"), "IBM,Logical_PHB");
        assert_eq!(cells(node, "ranges"), [0x0200_0000, 0, 0x8000_0000, 0xf0, 0x8000_0000, 0, 1 << 31]);
        assert_eq!(cells(node, "ibm,dma-window"), [0x8000_0000, 0, 0, 0, 1 << 30]);
        let map = cells(node, "interrupt-map");
        let entry = map.chunks(7).find(|entry| entry[0] == 1 << 11 && entry[3] == 2).unwrap();
        assert_eq!(entry[4..], [XICS_PHANDLE, 0x1004, 1], "slot 1, INTB");
        let rtas = t.find_node("/rtas").unwrap();
        for service in Service::ALL {
            assert_eq!(cells(rtas, service.name()), [service.token()]);
        }
        let sets = rtas.property("ibm,hypertas-functions").unwrap().value;
        assert!(sets.split(|b| *b == 0).any(|set| set == b"hcall-multi-tce"));
        let card = t.find_node("/pci@800000020000000/pci1af4,1041@1").unwrap();
        assert_eq!((cells(card, "class-code"), cells(card, "interrupts")), (vec![0x02_0000], vec![1]));
        assert_eq!(cells(card, "ibm,req#msi-x"), [4]);
        assert!(card.property("ibm,req#msi").is_none());
        assert_eq!(
            cells(card, "reg"),
            [0x800, 0, 0, 0, 0, 0x0200_0814, 0, 0, 0, 4096, 0x4300_0820, 0, 0, 0, 16384]
        );
        assert_eq!(
            cells(card, "assigned-addresses"),
            [0x8200_0814, 0, 0x8000_0000, 0, 4096, 0xc300_0820, 0xf1, 0, 0, 16384]
        );
    });
}
