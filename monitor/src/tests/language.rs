//! Commands: what is understood, what is said of the rest, and what Tab knows.

use proptest::prelude::*;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use crate::commands::{COMMANDS, Command, Merge, Rights, Spec, Watch};
use crate::{Names, Parsed, completions, help, parse, wants_json};

fn names(test: impl FnOnce(&Names<'_>)) {
    let partitions = ["debian", "small", "small-2"].map(String::from);
    let tables = ["debian", "alpine"].map(String::from);
    test(&Names { partitions: &partitions, tables: &tables });
}

/// The command of a line.
fn command(line: &str) -> Command {
    match read(line) {
        Ok(Some(Parsed { command, json: false })) => command,
        other => panic!("{line}: {other:?}"),
    }
}

fn read(line: &str) -> Result<Option<Parsed>, String> {
    let mut result = Ok(None);
    names(|names| result = parse(line, names));
    result
}

fn error(line: &str) -> String {
    let error = read(line).expect_err(line);
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn every_command() {
    let debian = || String::from("debian");
    let watch = |rights| Command::Watch {
        name: debian(),
        order: Some(Watch::Range { start: 0x1_0000, bytes: 0x1_0000, rights }),
    };
    for (line, expected) in [
        ("help", Command::Help(None)),
        ("help trace", Command::Help(Some("trace".into()))),
        ("help inf", Command::Help(Some("info".into()))),
        ("list", Command::List),
        ("info debian", Command::Info(debian())),
        ("stats", Command::Stats(None)),
        ("stats debian", Command::Stats(Some(debian()))),
        ("pause debian", Command::Pause(debian())),
        ("resume debian", Command::Resume(debian())),
        ("start debian", Command::Start(debian())),
        ("stop debian", Command::Stop(debian())),
        ("reset debian", Command::Reset(debian())),
        ("define alpine", Command::Define { table: "alpine".into(), name: None }),
        ("define debian other", Command::Define { table: debian(), name: Some("other".into()) }),
        ("undefine debian", Command::Undefine(debian())),
        ("clone debian new", Command::Clone { name: debian(), copies: ["new".into()].into() }),
        (
            "clone debian small- 2",
            Command::Clone { name: debian(), copies: ["small--1".into(), "small--2".into()].into() },
        ),
        ("clone small debian 1", Command::Clone { name: "small".into(), copies: ["debian-1".into()].into() }),
        ("snapshot debian", Command::Snapshot(debian())),
        ("revert debian", Command::Revert(debian())),
        ("merge", Command::Merge(None)),
        ("merge on", Command::Merge(Some(Merge::On))),
        ("merge off", Command::Merge(Some(Merge::Off))),
        ("merge now", Command::Merge(Some(Merge::Now))),
        ("dirty debian", Command::Dirty { name: debian(), reset: false }),
        ("dirty debian reset", Command::Dirty { name: debian(), reset: true }),
        ("watch debian", Command::Watch { name: debian(), order: None }),
        ("watch debian off", Command::Watch { name: debian(), order: Some(Watch::Off) }),
        ("watch debian 0x10000+64K none", watch(Rights::None)),
        ("watch debian 10000-20000 ro", watch(Rights::ReadOnly)),
        ("watch debian 64K+10000 rw", watch(Rights::ReadWrite)),
        ("memory debian", Command::Memory(debian())),
        ("memory", Command::HostMemory),
        ("hpt debian", Command::Hpt { name: debian(), ea: None, vcpu: None }),
        ("hpt debian 1f0", Command::Hpt { name: debian(), ea: Some(0x1f0), vcpu: None }),
        (
            "hpt debian 0xc000000000000000 --vcpu 3",
            Command::Hpt { name: debian(), ea: Some(0xc << 60), vcpu: Some(3) },
        ),
        ("hpt --vcpu 3 debian 0XF", Command::Hpt { name: debian(), ea: Some(15), vcpu: Some(3) }),
        ("hpt debian --vcpu 0", Command::Hpt { name: debian(), ea: None, vcpu: Some(0) }),
        ("trace debian", Command::Trace { name: debian(), on: None }),
        ("trace debian on", Command::Trace { name: debian(), on: Some(true) }),
        ("trace debian off", Command::Trace { name: debian(), on: Some(false) }),
        ("trace dump", Command::TraceDump { raw: false, last: None }),
        ("trace dump 20", Command::TraceDump { raw: false, last: Some(20) }),
        ("trace dump --raw", Command::TraceDump { raw: true, last: None }),
        ("trace dump 20 --raw", Command::TraceDump { raw: true, last: Some(20) }),
        ("trace --raw dump 20", Command::TraceDump { raw: true, last: Some(20) }),
        ("cpus", Command::Cpus),
        ("devices", Command::Devices),
        ("log", Command::Log),
        ("console debian", Command::Console { name: debian(), second: false }),
        ("console debian 2", Command::Console { name: debian(), second: true }),
        ("balloon debian", Command::Balloon { name: debian(), bytes: None }),
        ("balloon debian 256M", Command::Balloon { name: debian(), bytes: Some(256 << 20) }),
        ("balloon debian 0", Command::Balloon { name: debian(), bytes: Some(0) }),
        ("balloon debian 65536", Command::Balloon { name: debian(), bytes: Some(65536) }),
        ("network", Command::Network),
        ("shutdown", Command::Shutdown),
    ] {
        assert_eq!(command(line), expected, "{line}");
        assert_eq!(command(&format!("  {}\t # why", line.replace(' ', "   "))), expected, "{line}");
        for json in [format!("{line} --json"), format!("--json {line}"), line.replacen(' ', " --json ", 1)] {
            let json = if json == line { format!("{json} --json") } else { json };
            assert_eq!(read(&json), Ok(Some(Parsed { command: expected.clone(), json: true })), "{json}");
        }
    }
}

#[test]
fn nothing_is_no_command() {
    for line in ["", "  \t", "# list", "#list", " #"] {
        assert_eq!(read(line), Ok(None), "{line}");
    }
    assert_eq!(error("--json"), "--json belongs to a command: try 'help'");
    assert!(wants_json("nonsense --json") && wants_json("--json"));
    assert!(!wants_json("list # --json") && !wants_json("list --jsonx"));
}

#[test]
fn commands_may_be_shortened() {
    for spec in COMMANDS {
        for end in 1..=spec.name.len() {
            let word = &spec.name[..end];
            let others = COMMANDS.iter().filter(|other| other.name.starts_with(word)).count();
            match read(&format!("help {word}")) {
                Ok(Some(Parsed { command: Command::Help(Some(name)), .. })) => assert_eq!(name, spec.name),
                other => {
                    assert!(others > 1 && word != spec.name, "{word}: {other:?}");
                    assert!(other.unwrap_err().contains(spec.name));
                }
            }
        }
    }
    assert_eq!(command("sh"), Command::Shutdown);
    assert_eq!(error("st debian"), "'st' can be any of stats, start, stop");
    assert_eq!(error("res debian"), "'res' can be any of resume, reset");
    assert_eq!(error("LIST"), "no command 'LIST': try 'help'");
}

#[test]
fn a_wrong_line_says_what_would_be_right() {
    for (line, expected) in [
        ("lst", "no command 'lst': do you mean 'list'?"),
        ("lsit --json", "no command 'lsit': do you mean 'list'?"),
        ("shutdwon", "no command 'shutdwon': do you mean 'shutdown'?"),
        ("virsh", "no command 'virsh': try 'help'"),
        ("help virsh", "no command 'virsh': try 'help'"),
        ("--raw", "no command '--raw': try 'help'"),
        (
            "exit",
            "the monitor has no 'exit': 'console NAME' goes to a partition, Ctrl-] comes back, 'shutdown' ends everything",
        ),
        (
            "quit now",
            "the monitor has no 'quit': 'console NAME' goes to a partition, Ctrl-] comes back, 'shutdown' ends everything",
        ),
        ("info", "usage: info NAME"),
        ("trace", "usage: trace NAME [on|off] | dump [--raw] [N]"),
        ("define", "usage: define TABLE [NAME]"),
        ("hpt", "usage: hpt NAME [EA] [--vcpu N]"),
        ("hpt debian --vcpu", "usage: hpt NAME [EA] [--vcpu N]"),
        ("hpt debian --vcpu --vcpu 1", "usage: hpt NAME [EA] [--vcpu N]"),
        ("hpt debian --vcpu 1 --vcpu 2", "usage: hpt NAME [EA] [--vcpu N]"),
        ("list debian", "'debian' is too much; usage: list"),
        ("info debian small", "'small' is too much; usage: info NAME"),
        ("info debian --raw", "info has no option '--raw'; usage: info NAME"),
        ("info --raw", "info has no option '--raw'; usage: info NAME"),
        ("trace debian --raw", "usage: trace NAME [on|off] | dump [--raw] [N]"),
        ("trace debian on off", "'off' is too much; usage: trace NAME [on|off] | dump [--raw] [N]"),
        ("info debain", "no partition 'debain': do you mean 'debian'? There is debian, small, small-2"),
        ("memory fedora", "no partition 'fedora': there is debian, small, small-2"),
        ("info deb", "no partition 'deb': there is debian, small, small-2"),
        ("define small", "no table 'small': there is debian, alpine"),
        ("define alpin x", "no table 'alpin': do you mean 'alpine'? There is debian, alpine"),
        (
            "define debian",
            "there is a partition 'debian' already: give another name, as in 'define debian NAME'",
        ),
        ("define alpine small", "there is a partition 'small' already"),
        (
            "define alpine a/b",
            "'a/b' is no name: use 1 to 32 letters, digits, '-', '_' and '.', not 'monitor'",
        ),
        ("clone", "usage: clone NAME NEW [COUNT]"),
        ("clone debian", "usage: clone NAME NEW [COUNT]"),
        ("clone fedora new", "no partition 'fedora': there is debian, small, small-2"),
        ("clone debian small", "there is a partition 'small' already"),
        ("clone debian debian", "there is a partition 'debian' already"),
        ("clone debian small 2", "there is a partition 'small-2' already"),
        (
            "clone debian a/b",
            "'a/b' is no name: use 1 to 32 letters, digits, '-', '_' and '.', not 'monitor'",
        ),
        ("clone debian new 0", "0 is not how many copies: expected 1 to 256"),
        ("clone debian new 257", "257 is not how many copies: expected 1 to 256"),
        ("clone debian new x", "'x' is not how many copies: expected a decimal number"),
        ("console debian 1", "'1' is not '2'"),
        ("balloon debian ff", "'ff' is not a size: expected a number with K, M or G, as in 256M"),
        ("balloon debian -1", "'-1' is not a size: expected a number with K, M or G, as in 256M"),
        (
            "balloon debian 99999999999G",
            "'99999999999G' is not a size: expected a number with K, M or G, as in 256M",
        ),
        ("merge maybe", "'maybe' is none of 'on', 'off' and 'now'"),
        ("dirty debian rest", "'rest' is not 'reset'"),
        (
            "watch debian on",
            "'on' is no range: expected START+LENGTH or START-END, as in 0x10000+64K or 10000-20000",
        ),
        ("watch debian 10000+64K", "usage: watch NAME [off|RANGE none|ro|rw]"),
        ("watch debian 10000+64K wo", "'wo' is none of 'none', 'ro' and 'rw'"),
        ("watch debian off ro", "'ro' is too much; usage: watch NAME [off|RANGE none|ro|rw]"),
        ("trace debian maybe", "'maybe' is neither 'on' nor 'off'"),
        ("trace dump x", "'x' is not how many events: expected a decimal number"),
        ("trace dump -1", "'-1' is not how many events: expected a decimal number"),
        ("trace dump +1", "'+1' is not how many events: expected a decimal number"),
        ("hpt debian --vcpu 0x1", "'0x1' is not the number of a vCPU: expected a decimal number"),
        (
            "hpt debian --vcpu 4294967296",
            "'4294967296' is not the number of a vCPU: expected a decimal number",
        ),
        (
            "hpt debian xyz",
            "'xyz' is not an address: expected up to 16 hexadecimal digits, with or without 0x",
        ),
    ] {
        assert_eq!(error(line), expected, "{line}");
    }
    for bad in ["0x", "+1", "-1", "0x+1", "0x0x1", "1_000", "11112222333344445"] {
        assert!(error(&format!("hpt debian {bad}")).contains("is not an address"), "{bad}");
    }
    for name in ["monitor", &"x".repeat(33), "\u{e9}"] {
        assert!(error(&format!("define alpine {name}")).contains("is no name"), "{name}");
    }
}

#[test]
fn up_to_256_copies() {
    let Command::Clone { copies, .. } = command("clone debian new 256") else { panic!() };
    assert_eq!(copies.len(), 256);
    assert_eq!(copies[255], "new-256");
    let long = "x".repeat(30);
    assert!(read(&format!("clone debian {long} 9")).is_ok());
    assert!(error(&format!("clone debian {long} 10")).starts_with(&format!("'{long}-10' is no name")));
}

#[test]
fn names_may_be_missing_altogether() {
    let none = Names { partitions: &[], tables: &[] };
    assert_eq!(parse("info x", &none).unwrap_err(), "no partition 'x': there is none");
    assert_eq!(completions("info ", &none), [""; 0]);
}

/// The ways to use a command, as its usage says: (required words, all words).
fn usages(spec: &Spec) -> Vec<(Vec<String>, Vec<String>)> {
    spec.arguments
        .split(" | ")
        .map(|alternative| {
            let (mut required, mut all) = (Vec::new(), Vec::new());
            let mut optional = false;
            for word in alternative.split_whitespace() {
                optional |= word.starts_with('[');
                let plain = match word.trim_matches(['[', ']']) {
                    "NAME" if spec.name == "define" => "fresh",
                    "NAME" => "debian",
                    "TABLE" => "alpine",
                    "COMMAND" => "list",
                    "EA" => "c0de",
                    "N" => "3",
                    "on|off" => "off",
                    "on|off|now" => "now",
                    "NEW" => "fresh",
                    "COUNT" => "3",
                    "SIZE" => "3",
                    "off|RANGE" => "10000-20000",
                    "none|ro|rw" => "ro",
                    literal => literal,
                };
                all.push(plain.to_string());
                if !optional {
                    required.push(plain.to_string());
                }
                optional &= !word.ends_with(']');
            }
            (required, all)
        })
        .collect()
}

#[test]
fn every_usage_is_true() {
    for spec in COMMANDS {
        for (required, all) in usages(spec) {
            for words in [&required, &all] {
                command(&format!("{} {}", spec.name, words.join(" ")));
            }
            let surplus = error(&format!("{} {} surplus", spec.name, all.join(" ")));
            assert!(surplus.ends_with(&spec.usage()), "{surplus}");
            if let Some((_, fewer)) = required.split_last()
                && !usages(spec).iter().any(|(other, _)| other == fewer)
            {
                let missing = error(&format!("{} {}", spec.name, fewer.join(" ")));
                assert_eq!(missing, format!("usage: {}", spec.usage()));
            }
        }
    }
}

#[test]
fn every_command_has_help() {
    let mut all = String::new();
    help(None, false, &mut all);
    for spec in COMMANDS {
        assert!(all.contains(&format!("\n{} ", spec.usage())), "{}", spec.name);
        let mut one = String::new();
        help(Some(spec.name), false, &mut one);
        assert!(one.starts_with(&format!("usage    {}\n", spec.usage())), "{one}");
        let details = one.lines().find(|line| line.starts_with("details")).unwrap();
        assert!(details.len() > 40 && details.ends_with('.') && !details.contains("   "), "{details}");
    }
}

#[test]
fn tab_knows_the_words() {
    let commands: Vec<_> = COMMANDS.iter().map(|spec| spec.name).collect();
    names(|names| {
        for (line, expected) in [
            ("", &commands[..]),
            ("  ", &commands[..]),
            ("--json ", &commands[..]),
            ("st", &["stats", "start", "stop"]),
            ("help re", &["resume", "reset", "revert"]),
            ("info ", &["debian", "small", "small-2"]),
            ("info sm", &["small", "small-2"]),
            ("inf --json sm", &["small", "small-2"]),
            ("info debian ", &[]),
            ("info debian", &["debian"]),
            ("define ", &["debian", "alpine"]),
            ("define debian ", &[]),
            ("trace ", &["dump", "debian", "small", "small-2"]),
            ("trace debian ", &["on", "off"]),
            ("trace debian of", &["off"]),
            ("trace dump ", &[]),
            ("trace dump --", &["--raw", "--json"]),
            ("trace --raw ", &["dump", "debian", "small", "small-2"]),
            ("clone ", &["debian", "small", "small-2"]),
            ("clone debian ", &[]),
            ("clone debian new ", &[]),
            ("merge ", &["on", "off", "now"]),
            ("merge o", &["on", "off"]),
            ("dirty debian ", &["reset"]),
            ("watch debian ", &["off"]),
            ("watch debian off ", &[]),
            ("watch debian 0+1 ", &["none", "ro", "rw"]),
            ("watch debian 0+1 r", &["ro", "rw"]),
            ("hpt debian --v", &["--vcpu"]),
            ("hpt --vcpu ", &[]),
            ("hpt --vcpu 1 d", &["debian"]),
            ("hpt debian --vcpu 1 --", &["--json"]),
            ("list --", &["--json"]),
            ("list --json --", &[]),
            ("--", &["--json"]),
            ("nonsense ", &[]),
            ("list # ", &[]),
            ("list #", &[]),
            ("info sm#", &[]),
        ] {
            assert_eq!(completions(line, names), expected, "{line:?}");
        }
    });
}

proptest! {
    #[test]
    fn any_line(line in prop_oneof![
        any::<String>(),
        proptest::collection::vec(proptest::sample::select(std::vec![
            "help", "info", "hpt", "trace", "dump", "define", "debian", "alpine", "--json", "--raw", "--vcpu", "0x1f",
            "7", "on", "#", "clone", "merge", "watch", "dirty", "10000+64K", "off", "none", "st", "\u{e9}", "-",
        ]), 0..7).prop_map(|words| words.join(" ")),
    ]) {
        names(|names| {
            for word in completions(&line, names) {
                assert!(word.starts_with(line.rsplit(char::is_whitespace).next().unwrap()), "{line:?} {word}");
            }
            match parse(&line, names) {
                Ok(Some(parsed)) => assert_eq!(parsed.json, wants_json(&line)),
                Ok(None) => {}
                Err(error) => assert!(!error.is_empty()),
            }
        });
    }
}
