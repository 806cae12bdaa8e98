//! The manifest as it is read, and what is said of a wrong one.

extern crate std;
use super::*;
use crate::{Device, Disk, DiskSource, Mac, Net, PciAddress};
use std::vec;

fn parse(text: &str) -> Result<Manifest, String> {
    let exists = |name: &str| ["vmlinux", "initrd.img", "root.img"].contains(&name);
    Manifest::parse("partitions.toml", text, exists).map_err(|error| error.to_string())
}

const GOOD: &str = "[[partition]]\nname = \"a\"\nmemory = \"64M\"\nkernel = \"vmlinux\"\n";

/// Writes `line` as line 5, after a partition that is otherwise good.
fn fails(line: &str, reason: &str) {
    let error = parse(&format!("{GOOD}{line}\n")).unwrap_err();
    assert!(error.starts_with("partitions.toml:5: "), "{error}");
    assert!(error.contains(reason), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

fn device(pci: &str) -> Device {
    Device { pci: PciAddress::parse(pci).unwrap(), line: 0 }
}

fn image(name: &str) -> Disk {
    Disk::new(DiskSource::Image(name.into()))
}

fn host(serial: &str) -> Disk {
    Disk::new(DiskSource::Host(serial.into()))
}

#[test]
fn defaults() {
    let manifest = parse(GOOD).unwrap();
    let expected = Partition {
        name: "a".into(),
        memory: 64 << 20,
        limit: None,
        vcpus: 1,
        weight: 100,
        cpus: None,
        start: true,
        kernel: "vmlinux".into(),
        initrd: None,
        cmdline: String::new(),
        huge_pages: false,
        merge: true,
        rng: false,
        balloon: false,
        second_console: false,
        iommu: false,
        devices: Vec::new(),
        disks: Vec::new(),
        nets: Vec::new(),
        lines: Lines::default(),
    };
    assert_eq!(manifest.partitions, [expected]);
    assert_eq!(
        manifest.hypervisor,
        Hypervisor { console: None, core_scheduling: false, reserve: 4 << 20, merge: false }
    );
    assert_eq!(parse(&format!("[hypervisor]\n{GOOD}")).unwrap(), manifest);
    assert_eq!(manifest.to_toml(), GOOD);
}

#[test]
fn writes_what_it_reads() {
    let first = Partition {
        vcpus: 4,
        weight: 250,
        cpus: CpuSet::parse("0-1,3"),
        start: false,
        initrd: Some("initrd.img".into()),
        cmdline: "a=\"b c\" \\ é \u{7f}\t\n".into(),
        huge_pages: true,
        limit: Some(320 << 20),
        merge: false,
        rng: true,
        balloon: true,
        second_console: true,
        iommu: true,
        devices: ["0000:01:00.0", "0001:ff:1f.7"].map(device).into(),
        disks: vec![image("root.img"), Disk { read_only: true, ..host("disk0") }, host("disk1")],
        nets: vec![Net::new(0, 0), Net { network: "dmz".into(), ..Net::new(7, 1) }],
        ..Partition::new("first", (1 << 30) + (64 << 10), "vmlinux")
    };
    let second = Partition {
        name: "second".into(),
        initrd: None,
        devices: Vec::new(),
        disks: vec![image("root.img")],
        nets: vec![Net::new(1, 0)],
        ..first.clone()
    };
    let third =
        Partition { name: "third".into(), devices: [device("0000:01:00.1")].into(), ..second.clone() };
    let third = Partition { nets: Vec::new(), ..third };
    let hypervisor =
        Hypervisor { console: Some("second".into()), core_scheduling: true, reserve: 16 << 20, merge: true };
    let manifest = Manifest { hypervisor, partitions: [first, second, third].into() };
    assert_eq!(parse(&manifest.to_toml()).unwrap(), manifest);
}

#[test]
fn remembers_lines() {
    let text = format!("# a comment\n{GOOD}\n{GOOD}cpus = \"1\"\ninitrd = \"initrd.img\"\nlimit = \"16M\"\n")
        .replacen("\"a\"", "\"b\"", 1);
    let [b, a] = &parse(&text).unwrap().partitions[..] else { panic!("two partitions") };
    let Lines { name, memory, limit, cpus, kernel, initrd } = b.lines;
    assert_eq!((name, memory, limit, cpus, kernel, initrd), (3, 4, 0, 0, 5, 0));
    let Lines { name, memory, limit, cpus, kernel, initrd } = a.lines;
    assert_eq!((name, memory, limit, cpus, kernel, initrd), (8, 9, 13, 11, 10, 12));
}

#[test]
fn each_error_names_its_line() {
    fails("colour = 1", "unknown field `colour`");
    fails("vcpus = 0", "vcpus: 0 is not between 1 and 128");
    fails("vcpus = -1", "vcpus: -1 is not");
    fails("vcpus = 4294967297", "vcpus: 4294967297 is not");
    fails("vcpus = \"1\"", "invalid type");
    fails("weight = 0", "weight: 0 is not between 1 and 10000");
    fails("weight = 10001", "weight: 10001 is not between 1 and 10000");
    fails("cpus = \"0-\"", "cpus: \"0-\": not a list of CPU numbers below 256, as in 0-3,8");
    fails("cpus = \"256\"", "cpus: \"256\": not a list");
    fails("cpus = \"\"", "cpus: \"\": not a list");
    fails("cpus = 0", "invalid type");
    fails("start = \"yes\"", "invalid type");
    fails("huge-pages = 1", "invalid type");
    fails("rng = 1", "invalid type");
    fails("balloon = \"yes\"", "invalid type");
    fails("second-console = 2", "invalid type");
    fails("iommu = 2", "invalid type");
    fails("initrd = \"none\"", "initrd: the archive has no file \"none\"");
    fails("cmdline = \"\\u0000\"", "NUL");
    fails(&format!("cmdline = \"{}\"", "x".repeat(MAX_CMDLINE + 1)), "longer than 2047");
    fails("name = \"b\"", "duplicate key");
    fails("nonsense", "");
    fails("x = \"\\q\"", "");
    fails("[other]", "unknown field `other`");
}

#[test]
fn values_in_place() {
    for (from, to, expected) in [
        ("64M", "15M", "3: memory: \"15M\": a partition needs at least 16M"),
        ("64M", "0", "3: memory: \"0\": a partition needs"),
        ("64M", "16777217", "3: memory: \"16777217\": not a multiple of 64K"),
        ("64M", "64X", "3: memory: \"64X\": not a size"),
        ("64M", "524289M", "3: memory: \"524289M\": a partition can have at most 512G"),
        ("64M", "99999999999G", "3: memory: \"99999999999G\": more than 64 bits"),
        ("\"64M\"", "64", "3: invalid type"),
        ("\"a\"", "\"\"", "2: name: use"),
        ("\"a\"", "\"a b\"", "2: name: use"),
        ("\"a\"", "\"monitor\"", "2: name: \"monitor\" is the hypervisor's own"),
        ("vmlinux", "vmlinuz", "4: kernel: the archive has no file \"vmlinuz\""),
        ("memory = \"64M\"\n", "", "1: missing field `memory`"),
        (GOOD, "", "1: no [[partition]] is defined"),
    ] {
        let error = parse(&GOOD.replace(from, to)).unwrap_err();
        assert!(error.starts_with(&format!("partitions.toml:{expected}")), "{error}");
    }
    let error = parse(&format!("{GOOD}{GOOD}")).unwrap_err();
    assert_eq!(error, "partitions.toml:6: name: another partition is called \"a\" already");
}

#[test]
fn the_hypervisors_table() {
    let default = Hypervisor::default;
    for (line, expected) in [
        ("console = \"a\"", Hypervisor { console: Some("a".into()), ..default() }),
        ("console = \"monitor\"", Hypervisor { console: Some(MONITOR.into()), ..default() }),
        ("core-scheduling = true", Hypervisor { core_scheduling: true, ..default() }),
        ("core-scheduling = false", default()),
        ("reserve = \"16M\"", Hypervisor { reserve: 16 << 20, ..default() }),
        ("reserve = \"4M\"", default()),
        ("merge = true", Hypervisor { merge: true, ..default() }),
        ("merge = false", default()),
    ] {
        assert_eq!(parse(&format!("[hypervisor]\n{line}\n{GOOD}")).unwrap().hypervisor, expected);
        // TOML leaves the order of tables free.
        assert_eq!(parse(&format!("{GOOD}[hypervisor]\n{line}\n")).unwrap().hypervisor, expected);
    }
    for (line, reason) in [
        ("speed = 1", "unknown field `speed`"),
        ("console = \"b\"", "console: \"b\" is neither a partition's name nor \"monitor\""),
        ("console = true", "invalid type"),
        ("core-scheduling = 1", "invalid type"),
        ("reserve = \"4032K\"", "reserve: \"4032K\": the hypervisor needs at least 4M"),
        ("reserve = \"4100K\"", "reserve: \"4100K\": not a multiple of 64K"),
        ("reserve = \"much\"", "reserve: \"much\": not a size"),
        ("reserve = 16", "invalid type"),
        ("merge = \"on\"", "invalid type"),
    ] {
        let error = parse(&format!("[hypervisor]\n{line}\n{GOOD}")).unwrap_err();
        assert!(error.starts_with(&format!("partitions.toml:2: {reason}")), "{error}");
    }
}

#[test]
fn a_partitions_memory() {
    let partition =
        |line: &str| parse(&format!("{GOOD}{line}\n")).map(|manifest| manifest.partitions[0].clone());
    assert_eq!(partition("limit = \"16M\"").unwrap().limit, Some(16 << 20));
    assert_eq!(partition("limit = \"64M\"").unwrap().limit, Some(64 << 20));
    assert_eq!(partition("limit = \"64M\"").unwrap().lines.limit, 5);
    assert!(!partition("merge = false").unwrap().merge);
    assert!(partition("merge = true").unwrap().merge);
    let large = parse(&GOOD.replace("64M", "512G")).unwrap();
    assert_eq!(large.partitions[0].memory, 512 << 30);
    fails("limit = \"15M\"", "limit: \"15M\": a partition needs at least 16M");
    fails("limit = \"65M\"", "limit: \"65M\": more than the partition's memory of 64M");
    fails("limit = \"16385K\"", "limit: \"16385K\": not a multiple of 64K");
    fails("limit = \"\"", "limit: \"\": not a size");
    fails("limit = 16", "invalid type");
    fails("merge = 1", "invalid type");
}

#[test]
fn devices_of_partitions() {
    let devices = |text: &str| text.replace('D', "[[partition.device]]\npci = ");
    let manifest = parse(&devices(&format!("{GOOD}D'0000:01:00.0'\nD'0000:02:00.0'\n"))).unwrap();
    let found = &manifest.partitions[0].devices;
    assert_eq!(found[..], ["0000:01:00.0", "0000:02:00.0"].map(device));
    assert_eq!(found.iter().map(|device| device.line).collect::<Vec<_>>(), [6, 8]);

    let other = GOOD.replace("\"a\"", "\"b\"");
    for (text, expected) in [
        (
            format!("{GOOD}D'0000:01:00.8'"),
            "6: pci: \"0000:01:00.8\": not a device's address, as in 0000:01:00.0",
        ),
        (format!("{GOOD}D'edu'"), "6: pci: \"edu\": not a device's address, as in 0000:01:00.0"),
        (format!("{GOOD}D5"), "6: invalid type"),
        (format!("{GOOD}D'0000:01:00.0'\nslot = 1"), "7: unknown field `slot`"),
        (format!("{GOOD}[[partition.device]]\n"), "5: missing field `pci`"),
        (
            format!("{GOOD}D'000a:01:00.0'\nD'000A:01:00.0'"),
            "8: pci: 000a:01:00.0 is given away in line 6 already",
        ),
        (
            format!("{GOOD}D'0000:01:00.0'\n{other}D'0000:02:00.0'\nD'0000:01:00.0'"),
            "14: pci: 0000:01:00.0 is given away in line 6 already",
        ),
    ] {
        let error = parse(&devices(&text)).unwrap_err();
        assert!(error.starts_with(&format!("partitions.toml:{expected}")), "{error}");
    }
}

/// What is said of `text`, in which `DISK` and `NET` stand for the headers of tables.
fn refused(text: &str, expected: &str) {
    let text = text.replace("DISK", "[[partition.disk]]\n").replace("NET", "[[partition.net]]\n");
    let error = parse(&text).unwrap_err();
    assert!(error.starts_with(&format!("partitions.toml:{expected}")), "{text}{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn disks() {
    let text = format!(
        "{GOOD}[[partition.disk]]\nimage = 'root.img'\nread-only = true\n[[partition.disk]]\nhost = 'disk-1'\n"
    );
    let found = &parse(&text).unwrap().partitions[0].disks;
    assert_eq!(found[..], [Disk { read_only: true, ..image("root.img") }, host("disk-1")]);
    assert_eq!(found.iter().map(|disk| disk.line).collect::<Vec<_>>(), [6, 9]);
    // An image is only read: any number of partitions can start from it.
    parse(&format!("{text}[[partition.disk]]\nimage = 'root.img'\n")).unwrap();

    let other = GOOD.replace("\"a\"", "\"b\"");
    let many = "DISKimage = 'root.img'\n".repeat(9);
    for (disks, expected) in [
        ("DISK", "5: disk: give it an image, or a disk of the host"),
        ("DISKread-only = true", "5: disk: give it an image"),
        ("DISKimage = 'root.img'\nhost = 'disk0'", "7: host: the disk has an image already"),
        ("DISKhost = 'disk0'\nimage = 'root.img'", "6: host: the disk has an image already"),
        ("DISKimage = 'none.img'", "6: image: the archive has no file \"none.img\""),
        ("DISKimage = 5", "6: invalid type"),
        ("DISKimage = 'root.img'\nread-only = 'no'", "7: invalid type"),
        ("DISKimage = 'root.img'\nsize = '1G'", "7: unknown field `size`"),
        ("DISKhost = ''", "6: host: \"\": not a disk's serial number: 1 to 20 letters"),
        ("DISKhost = 'a disk'", "6: host: \"a disk\": not a disk's serial"),
        ("DISKhost = '123456789012345678901'", "6: host: \"123456789012345678901\": not"),
        ("DISKhost = 'disk0'\nDISKhost = 'disk0'", "8: host: \"disk0\" is given away in line 6 already"),
        (&many, "21: a partition can have at most 8 disks"),
    ] {
        refused(&format!("{GOOD}{disks}"), expected);
    }
    refused(
        &format!("{GOOD}DISKhost = 'disk0'\n{other}DISKhost = 'disk1'\nDISKhost = 'disk0'"),
        "14: host: \"disk0\" is given away in line 6 already",
    );
    let eight = "[[partition.disk]]\nimage = 'root.img'\n".repeat(8);
    assert_eq!(parse(&format!("{GOOD}{eight}")).unwrap().partitions[0].disks.len(), 8);
}

#[test]
fn network_cards() {
    let other = GOOD.replace("\"a\"", "\"b\"");
    let text = format!(
        "{other}{GOOD}[[partition.net]]\n[[partition.net]]\nnetwork='dmz'\nmac='52:54:00:AA:bb:01'\n[[partition.net]]\n"
    );
    let found = &parse(&text).unwrap().partitions[1].nets;
    let mac = Mac([0x52, 0x54, 0, 0xaa, 0xbb, 1]);
    assert_eq!(found[..], [Net::new(1, 0), Net { mac, network: "dmz".into(), line: 0 }, Net::new(1, 2)]);
    assert_eq!(found.iter().map(|net| net.line).collect::<Vec<_>>(), [9, 12, 13]);
    assert_eq!(found[0].mac.to_string(), "52:54:00:00:02:00");
    assert_eq!(found[0].network, "lan");

    let many = "NET".repeat(9);
    for (nets, expected) in [
        (
            "NETmac = '52:54:00:00:01'",
            "6: mac: \"52:54:00:00:01\": not a card's address, as in 52:54:00:00:01:00",
        ),
        ("NETmac = 'ff:ff:ff:ff:ff:ff'", "6: mac: \"ff:ff:ff:ff:ff:ff\": the address of a group"),
        (
            "NETmac = '53:54:00:00:01:00'",
            "6: mac: \"53:54:00:00:01:00\": the address of a group: its first byte is odd",
        ),
        ("NETmac = '00:00:00:00:00:00'", "6: mac: \"00:00:00:00:00:00\": no card has this address"),
        ("NETmac = 1", "6: invalid type"),
        ("NETspeed = 1", "6: unknown field `speed`"),
        ("NETnetwork = ''", "6: network: use 1 to 32 letters"),
        ("NETnetwork = 'a b'", "6: network: use 1 to 32 letters"),
        // The same as another one, or as what another one has by default.
        (
            "NETmac = '52:54:00:ff:00:0a'\nNETmac = '52:54:00:FF:00:0A'",
            "8: mac: 52:54:00:ff:00:0a is the address of the card in line 6 already",
        ),
        (
            "NETNETmac = '52:54:00:00:01:00'",
            "7: mac: 52:54:00:00:01:00 is the address of the card in line 5 already",
        ),
        (
            "NETmac = '52:54:00:00:01:01'\nNET",
            "7: mac: 52:54:00:00:01:01 is the address of the card in line 6",
        ),
        (&many, "13: a partition can have at most 8 network cards"),
    ] {
        refused(&format!("{GOOD}{nets}"), expected);
    }
    refused(
        &format!("{GOOD}NETmac = '52:54:00:00:02:00'\n{other}NET"),
        "11: mac: 52:54:00:00:02:00 is the address of the card in line 6 already",
    );
}

#[test]
fn other_devices() {
    let partition = |line: &str| parse(&format!("{GOOD}{line} = true\n")).unwrap().partitions[0].clone();
    let default = Partition::new("a", 64 << 20, "vmlinux");
    assert_eq!(partition("rng"), Partition { rng: true, ..default.clone() });
    assert_eq!(partition("balloon"), Partition { balloon: true, ..default.clone() });
    assert_eq!(partition("iommu"), Partition { iommu: true, ..default.clone() });
    assert_eq!(partition("second-console"), Partition { second_console: true, ..default });
}

#[test]
fn renames_files_in_place() {
    let text = "[[partition]]\nname = 'vmlinux' # vmlinux\nkernel = '../vmlinux' # ../vmlinux\nmemory = \"64M\"\n\
                initrd=\"a\\u0062\"\n[[partition]]\nname='b'\nmemory='1G'\nkernel='keep'\n\
                [[partition.disk]]\nimage='disks/a'\n[[partition.disk]]\nhost='disks/a'";
    let short = |name: &str| match name {
        "../vmlinux" => "new \"1\"".to_string(),
        "ab" => "new 2".to_string(),
        "keep" => "keep".to_string(),
        "disks/a" => "a".to_string(),
        other => panic!("{other} is not a file"),
    };
    let expected = text
        .replacen("'../vmlinux'", r#""new \"1\"""#, 1)
        .replace("\"a\\u0062\"", "\"new 2\"")
        .replacen("'disks/a'", "\"a\"", 1);
    assert_eq!(Manifest::rename_files("m", text, short).unwrap(), expected);

    let long = text.replace("'keep'", "\"\"\"\nkeep\"\"\"");
    let error = Manifest::rename_files("m", &long, short).unwrap_err().to_string();
    assert_eq!(error, "m:9: a file's name must be on one line");
    assert!(Manifest::rename_files("m", "x", short).is_err());
}

#[test]
fn deep_nesting_is_an_error() {
    assert!(parse(&format!("x = {}", "[".repeat(100_000))).is_err());
}
