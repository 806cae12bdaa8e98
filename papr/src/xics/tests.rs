//! The lock-free [`Xics`] against a plain sequential model, and its races under loom.

use super::*;

fn icps(n: usize) -> Vec<Icp> {
    (0..n).map(|_| Icp::default()).collect()
}

#[cfg(not(loom))]
mod sequential {
    use super::*;
    use proptest::prelude::*;

    const S0: u32 = FIRST_SOURCE;
    const S1: u32 = FIRST_SOURCE + 1;

    fn kicked(kick: Result<Kick, Error>) -> Vec<u32> {
        kick.unwrap().collect()
    }

    #[test]
    fn an_ipi() {
        let icps = icps(2);
        let x = Xics::new(&icps, &[]);
        assert!(kicked(x.h_ipi(1, 4)).is_empty(), "shut out by the CPPR at reset");
        assert!(!x.pending(1));
        assert_eq!(kicked(x.h_cppr(1, 0xff)), [1]);
        assert!(x.pending(1));
        assert!(!x.pending(0));
        assert_eq!(x.h_ipoll(1), Ok((0xff00_0002, 4)));
        assert_eq!(x.h_xirr(1), Ok(0xff00_0002));
        assert_eq!(x.h_xirr(1), Ok(0x0400_0000));
        assert!(kicked(x.h_ipi(1, 0xff)).is_empty());
        assert!(kicked(x.h_eoi(1, 0xff00_0002)).is_empty());
        assert_eq!(x.h_ipoll(1), Ok((0xff00_0000, 0xff)));
        assert_eq!(kicked(x.h_ipi(1, 4)), [1]);
        assert!(kicked(x.h_ipi(1, 4)).is_empty(), "once is enough");
    }

    #[test]
    fn an_ipi_not_cleared_comes_back() {
        let icps = icps(1);
        let x = Xics::new(&icps, &[]);
        let _ = x.h_cppr(0, 0xff);
        let _ = x.h_ipi(0, 4);
        assert_eq!(x.h_xirr(0), Ok(0xff00_0002));
        assert_eq!(kicked(x.h_eoi(0, 0xff00_0002)), [0]);
        assert_eq!(x.h_xirr(0), Ok(0xff00_0002));
    }

    #[test]
    fn nothing_pending_leaves_the_priority() {
        let icps = icps(1);
        let x = Xics::new(&icps, &[]);
        let _ = x.h_cppr(0, 5);
        assert_eq!(x.h_xirr(0), Ok(0x0500_0000));
        assert_eq!(x.h_ipoll(0), Ok((0x0500_0000, 0xff)));
    }

    #[test]
    fn errors() {
        let icps = icps(2);
        let sources = [Source::message()];
        let x = Xics::new(&icps, &sources);
        assert_eq!(x.h_ipi(2, 4), Err(Error::NoSuchServer));
        assert_eq!(x.h_ipi(1 << 32, 4), Err(Error::NoSuchServer));
        assert_eq!(x.h_ipoll(!0), Err(Error::NoSuchServer));
        assert_eq!(x.h_xirr(2), Err(Error::NoSuchServer));
        assert_eq!(x.set_xive(S0, 2, 5), Err(Error::NoSuchServer));
        assert_eq!(x.set_xive(S1, 0, 5), Err(Error::NoSuchSource));
        for bad in [1, IPI, S1, 0xff_ffff, !0] {
            assert_eq!(x.get_xive(bad), Err(Error::NoSuchSource));
        }
        assert_eq!(x.h_eoi(0, 0xff00_0003), Err(Error::NoSuchSource));
        assert!(x.h_eoi(0, 0xff00_0000).is_ok(), "a spurious interrupt may be ended");
        assert_eq!(Status::from(Error::NoSuchServer), Status::PARAMETER);
    }

    #[test]
    fn level_is_presented_again_until_it_goes_down() {
        let icps = icps(1);
        let sources = [Source::level()];
        let x = Xics::new(&icps, &sources);
        let _ = x.h_cppr(0, 0xff);
        assert!(kicked(x.assert(S0)).is_empty(), "masked");
        assert_eq!(kicked(x.set_xive(S0, 0, 5)), [0]);
        assert_eq!(x.h_xirr(0), Ok(0xff00_0000 | S0));
        assert_eq!(kicked(x.h_eoi(0, 0xff00_0000 | S0)), [0]);
        assert_eq!(x.h_xirr(0), Ok(0xff00_0000 | S0));
        x.deassert(S0).unwrap();
        assert!(kicked(x.h_eoi(0, 0xff00_0000 | S0)).is_empty());
        assert!(!x.pending(0));
    }

    /// One of everything that can be on its way.
    fn in_every_state(x: &Xics<'_>) {
        let _ = x.h_cppr(0, 0xff);
        let _ = x.h_cppr(1, 3);
        for (n, server) in [(0, 0), (1, 0), (2, 0), (3, 1)] {
            let _ = x.set_xive(S0 + n, server, 5);
        }
        let _ = x.assert(S0); // presented, then with the guest; its line stays up
        assert_eq!(x.h_xirr(0), Ok(0xff00_0000 | S0));
        let _ = x.h_eoi(0, 0xff00_0000); // which would take another one now
        let _ = x.assert(S1); // presented
        let _ = x.assert(S0 + 2); // refused: the other one is there
        let _ = x.h_ipi(1, 4); // shut out
        let _ = x.assert(S0 + 3); // refused by the CPPR
    }

    /// What the guest sees from there on.
    fn played_out(x: &Xics<'_>) -> Vec<u32> {
        let mut seen = Vec::new();
        for _ in 0..4 {
            for server in 0..2 {
                let xirr = x.h_xirr(server).unwrap();
                seen.push(xirr);
                let _ = x.h_eoi(server, 0xff00_0000 | xirr & 0xff_ffff);
            }
            if seen.len() == 4 {
                x.deassert(S0).unwrap();
                let _ = x.h_eoi(0, 0xff00_0000 | S0);
                let _ = x.h_ipi(1, 0xff);
            }
        }
        seen
    }

    #[test]
    fn a_copy_goes_on_as_the_original() {
        let (first, second, third) = (icps(2), icps(2), icps(2));
        let sources = || [Source::level(), Source::message(), Source::message(), Source::message()];
        let (a, b, c) = (sources(), sources(), sources());
        let (original, kept, copy) = (Xics::new(&first, &a), Xics::new(&second, &b), Xics::new(&third, &c));
        in_every_state(&original);
        kept.copy_from(&original);
        let expected = played_out(&original);
        assert!(expected.contains(&(0xff00_0000 | S1)) && expected.contains(&0xff00_0002), "{expected:x?}");
        // The original has gone on; what was kept has not.
        copy.copy_from(&kept);
        assert!(copy.pending(0));
        assert_eq!(played_out(&copy), expected);
        original.copy_from(&kept);
        assert_eq!(played_out(&original), expected);
    }

    #[test]
    fn a_copy_keeps_what_it_has_more() {
        let (first, second) = (icps(1), icps(2));
        let (few, many) = ([Source::message()], [Source::level(), Source::message()]);
        let (small, large) = (Xics::new(&first, &few), Xics::new(&second, &many));
        let _ = small.set_xive(S0, 0, 7);
        let _ = large.h_cppr(1, 4);
        let _ = large.set_xive(S1, 1, 6);
        large.copy_from(&small);
        assert_eq!(large.get_xive(S0), Ok((0, 7)));
        assert_eq!(large.get_xive(S1), Ok((1, 6)));
        assert_eq!(large.h_ipoll(1), Ok((0x0400_0000, 0xff)));
        // A level source stays one: it is presented until its line goes down.
        let _ = large.h_cppr(0, 0xff);
        assert_eq!(kicked(large.assert(S0)), [0]);
        assert_eq!(large.h_xirr(0), Ok(0xff00_0000 | S0));
        assert_eq!(kicked(large.h_eoi(0, 0xff00_0000 | S0)), [0]);
        large.deassert(S0).unwrap();
        // And a message source: once is all.
        small.copy_from(&large);
        assert_eq!(small.h_xirr(0), Ok(0xff00_0000 | S0));
        let _ = small.h_eoi(0, 0xff00_0000 | S0);
        assert_eq!(kicked(small.assert(S0)), [0]);
        assert_eq!(small.h_xirr(0), Ok(0xff00_0000 | S0));
        assert!(kicked(small.h_eoi(0, 0xff00_0000 | S0)).is_empty());
    }

    #[test]
    fn a_message_while_busy_comes_after_the_eoi() {
        let icps = icps(1);
        let sources = [Source::message()];
        let x = Xics::new(&icps, &sources);
        let _ = x.h_cppr(0, 0xff);
        let _ = x.set_xive(S0, 0, 5);
        assert_eq!(kicked(x.assert(S0)), [0]);
        assert_eq!(x.h_xirr(0), Ok(0xff00_0000 | S0));
        assert!(kicked(x.assert(S0)).is_empty());
        assert!(kicked(x.assert(S0)).is_empty());
        assert_eq!(kicked(x.h_eoi(0, 0xff00_0000 | S0)), [0]);
        assert_eq!(x.h_xirr(0), Ok(0xff00_0000 | S0));
        assert!(kicked(x.h_eoi(0, 0xff00_0000 | S0)).is_empty());
    }

    #[test]
    fn more_favoured_displaces_and_the_other_returns() {
        let icps = icps(1);
        let sources = [Source::message(), Source::message()];
        let x = Xics::new(&icps, &sources);
        let _ = x.h_cppr(0, 0xff);
        let _ = x.set_xive(S0, 0, 7);
        let _ = x.set_xive(S1, 0, 3);
        assert_eq!(kicked(x.assert(S0)), [0]);
        assert_eq!(kicked(x.assert(S1)), [0]);
        assert_eq!(x.h_xirr(0), Ok(0xff00_0000 | S1));
        assert!(!x.pending(0));
        assert_eq!(kicked(x.h_eoi(0, 0xff00_0000 | S1)), [0]);
        assert_eq!(x.h_xirr(0), Ok(0xff00_0000 | S0));
    }

    #[test]
    fn a_queued_source_follows_its_route() {
        let icps = icps(2);
        let sources = [Source::message()];
        let x = Xics::new(&icps, &sources);
        let _ = x.h_cppr(1, 0xff);
        let _ = x.set_xive(S0, 0, 7);
        assert!(kicked(x.assert(S0)).is_empty());
        assert_eq!(kicked(x.set_xive(S0, 1, 7)), [1]);
        assert!(kicked(x.h_cppr(0, 0xff)).is_empty());
    }

    #[test]
    fn off_and_on() {
        let icps = icps(1);
        let sources = [Source::message()];
        let x = Xics::new(&icps, &sources);
        let _ = x.h_cppr(0, 0xff);
        let _ = x.set_xive(S0, 0, 6);
        assert!(kicked(x.int_off(S0)).is_empty());
        assert!(kicked(x.int_off(S0)).is_empty());
        assert_eq!(x.get_xive(S0), Ok((0, 0xff)));
        assert!(kicked(x.assert(S0)).is_empty());
        assert_eq!(kicked(x.int_on(S0)), [0]);
        assert_eq!(x.get_xive(S0), Ok((0, 6)));
        x.reset();
        assert!(!x.pending(0));
        assert_eq!(x.get_xive(S0), Ok((0, 0xff)));
    }

    #[test]
    fn kicks_are_a_set() {
        let mut kick = Kick::NONE;
        assert!(kick.is_empty());
        kick.add(127);
        kick.add(3);
        kick.add(128);
        assert!(kick.contains(3) && kick.contains(127) && !kick.contains(4) && !kick.contains(128));
        assert_eq!(kick.collect::<Vec<_>>(), [3, 127]);
    }

    /// Where a model's source is.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Place {
        Idle,
        Waiting,
        Presented,
        Service,
    }

    #[derive(Clone, Debug)]
    struct ModelSource {
        level: bool,
        line: bool,
        remembered: bool,
        again: bool,
        place: Place,
        server: usize,
        priority: u8,
        saved: u8,
    }

    #[derive(Clone, Debug)]
    struct ModelServer {
        cppr: u8,
        mfrr: u8,
        pending: Option<(u32, u8)>,
    }

    /// What PAPR says, without a thought for concurrency: after every call, anything that waits is offered again.
    #[derive(Clone, Debug)]
    struct Model {
        servers: Vec<ModelServer>,
        sources: Vec<ModelSource>,
    }

    impl Model {
        fn put_back(&mut self, number: u32) {
            if number != IPI {
                self.sources[(number - FIRST_SOURCE) as usize].place = Place::Waiting;
            }
        }

        fn settle(&mut self) {
            for (s, server) in self.servers.clone().into_iter().enumerate() {
                if server.mfrr < server.cppr && server.pending.is_none_or(|(_, p)| server.mfrr <= p) {
                    if let Some((old, _)) = server.pending {
                        self.put_back(old);
                    }
                    self.servers[s].pending = Some((IPI, server.mfrr));
                }
            }
            for source in &mut self.sources {
                let masked = source.priority == MASKED;
                if source.level && source.place == Place::Idle && source.line && !masked {
                    source.place = Place::Waiting;
                }
                if source.level && source.place == Place::Waiting && (!source.line || masked) {
                    source.place = Place::Idle;
                }
                if !source.level && source.place == Place::Waiting && masked {
                    (source.place, source.remembered, source.again) = (Place::Idle, true, false);
                }
                if !source.level && source.remembered && !masked {
                    source.remembered = false;
                    match source.place {
                        Place::Idle => source.place = Place::Waiting,
                        Place::Waiting => {}
                        _ => source.again = true,
                    }
                }
            }
            loop {
                let ready = (0..self.sources.len()).find(|n| {
                    let source = &self.sources[*n];
                    let server = &self.servers[source.server];
                    source.place == Place::Waiting
                        && source.priority < server.cppr
                        && source.priority < server.mfrr
                        && server.pending.is_none_or(|(_, p)| source.priority < p)
                });
                let Some(n) = ready else { break };
                self.sources[n].place = Place::Presented;
                let source = self.sources[n].clone();
                if let Some((old, _)) =
                    self.servers[source.server].pending.replace((FIRST_SOURCE + n as u32, source.priority))
                {
                    self.put_back(old);
                    return self.settle();
                }
            }
        }

        fn set_cppr(&mut self, s: usize, cppr: u8) {
            self.servers[s].cppr = cppr;
            if let Some((old, p)) = self.servers[s].pending
                && cppr <= p
            {
                self.servers[s].pending = None;
                self.put_back(old);
            }
        }

        fn xirr(&mut self, s: usize) -> u32 {
            let server = &mut self.servers[s];
            let cppr = u32::from(server.cppr) << 24;
            match server.pending.take() {
                None => cppr,
                Some((number, p)) => {
                    server.cppr = p;
                    if number != IPI {
                        self.sources[(number - FIRST_SOURCE) as usize].place = Place::Service;
                    }
                    cppr | number
                }
            }
        }

        fn eoi(&mut self, s: usize, xirr: u32) {
            self.set_cppr(s, (xirr >> 24) as u8);
            self.settle();
            if xirr & 0xff_ffff != IPI && xirr & 0xff_ffff != 0 {
                let source = &mut self.sources[((xirr & 0xff_ffff) - FIRST_SOURCE) as usize];
                source.place = if source.again { Place::Waiting } else { Place::Idle };
                source.again = false;
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Xirr(usize),
        /// End the last interrupt that the server took.
        Eoi(usize),
        Cppr(usize, u8),
        Ipi(usize, u8),
        Xive(usize, usize, u8),
        Off(usize),
        On(usize),
        Assert(usize),
        Deassert(usize),
    }

    const SERVERS: usize = 3;
    const SOURCES: usize = 5;

    fn priority() -> impl Strategy<Value = u8> {
        prop_oneof![Just(0u8), 3..7u8, Just(0xff)]
    }

    fn op() -> impl Strategy<Value = Op> {
        let s = 0..SERVERS;
        let n = 0..SOURCES;
        prop_oneof![
            4 => s.clone().prop_map(Op::Xirr),
            4 => s.clone().prop_map(Op::Eoi),
            2 => (s.clone(), priority()).prop_map(|(s, p)| Op::Cppr(s, p)),
            2 => (s.clone(), priority()).prop_map(|(s, p)| Op::Ipi(s, p)),
            3 => (n.clone(), s, priority()).prop_map(|(n, s, p)| Op::Xive(n, s, p)),
            1 => n.clone().prop_map(Op::Off),
            2 => n.clone().prop_map(Op::On),
            5 => n.clone().prop_map(Op::Assert),
            1 => n.prop_map(Op::Deassert),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn agrees_with_the_model(ops in prop::collection::vec(op(), 1..120)) {
            let icps = icps(SERVERS);
            let sources: Vec<Source> =
                (0..SOURCES).map(|n| if n < 2 { Source::level() } else { Source::message() }).collect();
            let x = Xics::new(&icps, &sources);
            let mut m = Model {
                servers: vec![ModelServer { cppr: 0, mfrr: 0xff, pending: None }; SERVERS],
                sources: (0..SOURCES)
                    .map(|n| ModelSource {
                        level: n < 2, line: false, remembered: false, again: false, place: Place::Idle,
                        server: 0, priority: MASKED, saved: MASKED,
                    })
                    .collect(),
            };
            let mut taken: Vec<Vec<u32>> = vec![Vec::new(); SERVERS];
            for op in ops {
                let before: Vec<u32> = (0..SERVERS).map(|s| x.h_ipoll(s as u64).unwrap().0 & 0xff_ffff).collect();
                let number = |n: usize| FIRST_SOURCE + n as u32;
                let kick = match op {
                    Op::Xirr(s) => {
                        let xirr = m.xirr(s);
                        prop_assert_eq!(x.h_xirr(s as u32).unwrap(), xirr);
                        if xirr & 0xff_ffff != 0 {
                            taken[s].push(xirr);
                        }
                        Kick::NONE
                    }
                    Op::Eoi(s) => match taken[s].pop() {
                        None => Kick::NONE,
                        Some(xirr) => {
                            m.eoi(s, xirr);
                            x.h_eoi(s as u32, xirr).unwrap()
                        }
                    },
                    Op::Cppr(s, p) => {
                        m.set_cppr(s, p);
                        x.h_cppr(s as u32, p).unwrap()
                    }
                    Op::Ipi(s, p) => {
                        m.servers[s].mfrr = p;
                        x.h_ipi(s as u64, p).unwrap()
                    }
                    Op::Xive(n, s, p) => {
                        let source = &mut m.sources[n];
                        (source.server, source.priority, source.saved) = (s, p, p);
                        x.set_xive(number(n), s as u32, p).unwrap()
                    }
                    Op::Off(n) => {
                        let source = &mut m.sources[n];
                        if source.priority != MASKED {
                            source.saved = source.priority;
                        }
                        source.priority = MASKED;
                        x.int_off(number(n)).unwrap()
                    }
                    Op::On(n) => {
                        m.sources[n].priority = m.sources[n].saved;
                        x.int_on(number(n)).unwrap()
                    }
                    Op::Assert(n) => {
                        let source = &mut m.sources[n];
                        if source.level { source.line = true } else { source.remembered = true }
                        x.assert(number(n)).unwrap()
                    }
                    Op::Deassert(n) => {
                        m.sources[n].line = false;
                        x.deassert(number(n)).unwrap();
                        Kick::NONE
                    }
                };
                m.settle();
                for (s, server) in m.servers.iter().enumerate() {
                    let (xirr, mfrr) = x.h_ipoll(s as u64).unwrap();
                    let pending = server.pending.map_or(0, |(n, _)| n);
                    prop_assert_eq!(xirr, u32::from(server.cppr) << 24 | pending);
                    prop_assert_eq!(mfrr, server.mfrr);
                    prop_assert_eq!(x.pending(s as u32), pending != 0);
                    if pending != 0 && pending != before[s] {
                        prop_assert!(kick.contains(s as u32), "server {} was not kicked", s);
                    }
                }
                for (n, source) in m.sources.iter().enumerate() {
                    prop_assert_eq!(x.get_xive(number(n)).unwrap(), (source.server as u32, source.priority));
                }
            }
        }

        /// Whatever a guest does, nothing panics or hangs, and a clean start still works.
        #[test]
        fn survives_nonsense(ops in prop::collection::vec((0..9u8, any::<u32>(), 0..4u32, any::<u8>()), 0..300)) {
            let icps = icps(3);
            let sources = [Source::level(), Source::message(), Source::message()];
            let x = Xics::new(&icps, &sources);
            for (op, wild, small, byte) in ops {
                let number = FIRST_SOURCE + small;
                let xirr = u32::from(byte) << 24 | if wild & 1 == 0 { number } else { wild & 0xff_ffff };
                let _ = match op {
                    0 => x.h_xirr(small).map(|_| Kick::NONE),
                    1 => x.h_eoi(small, xirr),
                    2 => x.h_cppr(small, byte),
                    3 => x.h_ipi(u64::from(small), byte),
                    4 => x.set_xive(number, small, byte),
                    5 => x.int_off(number),
                    6 => x.int_on(number),
                    7 => x.assert(number),
                    _ => x.deassert(number).map(|_| Kick::NONE),
                };
            }
            x.reset();
            let _ = x.h_cppr(0, 0xff);
            let _ = x.set_xive(S1, 0, 5);
            let _ = x.assert(S1);
            prop_assert_eq!(x.h_xirr(0), Ok(0xff00_0000 | S1));
        }
    }

    /// Many threads hammer one partition: every message must come through at least once after it was sent.
    #[test]
    fn no_message_is_lost_among_threads() {
        use std::sync::atomic::{AtomicBool, AtomicU32};
        const ROUNDS: u32 = 3000;
        let icps = icps(2);
        let sources: Vec<Source> = (0..4).map(|_| Source::message()).collect();
        let seen: Vec<AtomicU32> = (0..4).map(|_| AtomicU32::new(0)).collect();
        let stop = AtomicBool::new(false);
        let x = Xics::new(&icps, &sources);
        for n in 0..4 {
            let _ = x.set_xive(FIRST_SOURCE + n, n % 2, 4 + n as u8 / 2);
        }
        std::thread::scope(|scope| {
            for server in 0..2 {
                let (seen, stop) = (&seen, &stop);
                scope.spawn(move || {
                    let _ = x.h_cppr(server, 0xff);
                    while !stop.load(SeqCst) {
                        let xirr = x.h_xirr(server).unwrap();
                        match xirr & 0xff_ffff {
                            0 => {
                                std::thread::yield_now();
                                continue;
                            }
                            IPI => assert!(x.h_ipi(server.into(), 0xff).is_ok()),
                            n => assert!(seen[(n - FIRST_SOURCE) as usize].fetch_add(1, SeqCst) < u32::MAX),
                        }
                        let _ = x.h_eoi(server, xirr);
                    }
                });
            }
            for round in 0..ROUNDS {
                for n in 0..4 {
                    let before = seen[n as usize].load(SeqCst);
                    let _ = x.assert(FIRST_SOURCE + n);
                    let _ = x.h_ipi(u64::from(round % 2), 3);
                    let _ = x.set_xive(FIRST_SOURCE + n, (n + round) % 2, 4 + n as u8 / 2);
                    let start = std::time::Instant::now();
                    while seen[n as usize].load(SeqCst) == before {
                        assert!(start.elapsed().as_secs() < 20, "round {round}: source {n} was lost: {x:?}");
                        std::thread::yield_now();
                    }
                }
            }
            stop.store(true, SeqCst);
        });
    }
}

#[cfg(loom)]
mod races {
    use super::*;
    use loom::sync::Arc;

    struct Partition {
        icps: Vec<Icp>,
        sources: Vec<Source>,
    }

    impl Partition {
        fn x(&self) -> Xics<'_> {
            Xics::new(&self.icps, &self.sources)
        }

        /// Take and end everything server 0 has; what that was.
        fn drain(&self) -> Vec<u32> {
            let mut all = Vec::new();
            loop {
                let xirr = self.x().h_xirr(0).unwrap();
                match xirr & 0xff_ffff {
                    0 => break,
                    IPI => assert!(self.x().h_ipi(0, 0xff).is_ok()),
                    _ => {}
                }
                all.push(xirr & 0xff_ffff);
                let _ = self.x().h_eoi(0, xirr);
            }
            all.sort();
            all
        }
    }

    type Step = fn(Xics) -> u32;

    /// A call that succeeds, for a step that takes nothing.
    fn go(result: Result<Kick, Error>) -> u32 {
        assert!(result.is_ok());
        0
    }

    /// Two steps at once, in every order that matters; `then` gets what the second one took.
    fn check(sources: u32, setup: Step, one: Step, other: Step, then: fn(&Partition, u32)) {
        loom::model(move || {
            let p = Arc::new(Partition {
                icps: icps(1),
                sources: (0..sources).map(|_| Source::message()).collect(),
            });
            setup(p.x());
            let q = p.clone();
            let thread = loom::thread::spawn(move || one(q.x()));
            let took = other(p.x());
            thread.join().unwrap();
            then(&p, took);
        });
    }

    #[test]
    fn an_ipi_against_taking_a_source() {
        check(
            1,
            |x| {
                let _ = x.h_cppr(0, 0xff);
                let _ = x.set_xive(FIRST_SOURCE, 0, 5);
                go(x.assert(FIRST_SOURCE))
            },
            |x| go(x.h_ipi(0, 4)),
            |x| {
                let xirr = x.h_xirr(0).unwrap();
                if xirr & 0xff_ffff == IPI {
                    // The source it displaced may still be in the other's hands.
                    let _ = x.h_ipi(0, 0xff);
                }
                let _ = x.h_eoi(0, xirr);
                xirr & 0xff_ffff
            },
            |p, took| {
                let mut all = p.drain();
                all.push(took);
                all.sort();
                assert_eq!(all, [IPI, FIRST_SOURCE]);
            },
        );
    }

    #[test]
    fn an_event_against_opening_up() {
        check(
            1,
            |x| go(x.set_xive(FIRST_SOURCE, 0, 5)),
            |x| go(x.assert(FIRST_SOURCE)),
            |x| go(x.h_cppr(0, 0xff)),
            |p, _| assert_eq!(p.drain(), [FIRST_SOURCE]),
        );
    }

    #[test]
    fn an_event_against_the_end_of_an_ipi() {
        check(
            1,
            |x| {
                let _ = x.h_cppr(0, 0xff);
                let _ = x.set_xive(FIRST_SOURCE, 0, 5);
                let _ = x.h_ipi(0, 4);
                let _ = x.h_xirr(0);
                0
            },
            |x| go(x.assert(FIRST_SOURCE)),
            |x| {
                let _ = x.h_ipi(0, 0xff);
                go(x.h_eoi(0, 0xff00_0000 | IPI))
            },
            |p, _| assert_eq!(p.drain(), [FIRST_SOURCE]),
        );
    }

    #[test]
    fn two_events_of_one_server() {
        check(
            2,
            |x| {
                let _ = x.h_cppr(0, 0xff);
                let _ = x.set_xive(FIRST_SOURCE, 0, 5);
                go(x.set_xive(FIRST_SOURCE + 1, 0, 3))
            },
            |x| go(x.assert(FIRST_SOURCE)),
            |x| go(x.assert(FIRST_SOURCE + 1)),
            |p, _| {
                assert_eq!(p.x().h_ipoll(0).unwrap().0, 0xff00_0000 | (FIRST_SOURCE + 1));
                assert_eq!(p.drain(), [FIRST_SOURCE, FIRST_SOURCE + 1]);
            },
        );
    }

    #[test]
    fn an_event_against_its_eoi() {
        check(
            1,
            |x| {
                let _ = x.h_cppr(0, 0xff);
                let _ = x.set_xive(FIRST_SOURCE, 0, 5);
                let _ = x.assert(FIRST_SOURCE);
                let _ = x.h_xirr(0);
                0
            },
            |x| go(x.assert(FIRST_SOURCE)),
            |x| go(x.h_eoi(0, 0xff00_0000 | FIRST_SOURCE)),
            |p, _| assert_eq!(p.drain(), [FIRST_SOURCE]),
        );
    }

    #[test]
    fn a_route_against_opening_up() {
        check(
            1,
            |x| {
                let _ = x.set_xive(FIRST_SOURCE, 0, 5);
                go(x.assert(FIRST_SOURCE))
            },
            |x| go(x.set_xive(FIRST_SOURCE, 0, 6)),
            |x| go(x.h_cppr(0, 0xff)),
            |p, _| assert_eq!(p.drain(), [FIRST_SOURCE]),
        );
    }
}
