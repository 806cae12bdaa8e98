//! The manifest as it is read, and what is said of a wrong one.

extern crate std;
use super::*;

fn parse(text: &str) -> Result<Manifest, String> {
    let exists = |name: &str| ["vmlinux", "initrd.img"].contains(&name);
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
        devices: Vec::new(),
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
        devices: ["0000:01:00.0", "0001:ff:1f.7"].map(device).into(),
        ..Partition::new("first", (1 << 30) + (64 << 10), "vmlinux")
    };
    let second = Partition { name: "second".into(), initrd: None, devices: Vec::new(), ..first.clone() };
    let third = Partition { name: "third".into(), devices: [device("0000:01:00.1")].into(), ..first.clone() };
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

#[test]
fn renames_files_in_place() {
    let text = "[[partition]]\nname = 'vmlinux' # vmlinux\nkernel = '../vmlinux' # ../vmlinux\nmemory = \"64M\"\n\
                initrd=\"a\\u0062\"\n[[partition]]\nname='b'\nmemory='1G'\nkernel='keep'";
    let short = |name: &str| match name {
        "../vmlinux" => "new \"1\"".to_string(),
        "ab" => "new 2".to_string(),
        "keep" => "keep".to_string(),
        other => panic!("{other} is not a file"),
    };
    let expected = text.replacen("'../vmlinux'", r#""new \"1\"""#, 1).replace("\"a\\u0062\"", "\"new 2\"");
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
