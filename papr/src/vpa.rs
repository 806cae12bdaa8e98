//! H_REGISTER_VPA (LoPAR, "Shared Processor LPAR Option"): the areas that a virtual processor shares with the hypervisor, as a state
//! machine, and where the hypervisor writes in them.
//!
//! The order of work: [`Request::decode`]; read the declared length at [`Request::length_at`] from guest memory;
//! [`VpaState::apply`]; then do what the [`Change`] says. Whether the area lies in memory is the caller's check.

use power::{GuestReal, Status};

/// The three areas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Area {
    /// The virtual processor area itself.
    Vpa,
    /// The dispatch trace log.
    Dtl,
    /// The SLB shadow buffer.
    SlbShadow,
}

/// A well-formed request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// The guest offers an area at an address.
    Register(Area, GuestReal),
    /// The guest takes it back; the address does not count.
    Deregister(Area),
}

/// What a request did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// An area is in use now, or has moved. For a VPA: write [`offset::STATUS`] and the counters.
    Registered(Area, Region),
    /// An area is no longer in use and must not be written again. There may have been none.
    Dropped(Area),
}

/// An area in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// Its address.
    pub base: GuestReal,
    /// Its length in bytes; for a DTL, of its whole entries.
    pub bytes: u32,
}

/// The least length of a VPA.
pub const VPA_MIN: u32 = 640;
/// What an area must be aligned to: a cache line.
pub const ALIGNMENT: u64 = 128;
/// The length of an entry of the dispatch trace log.
pub const DTL_ENTRY: u32 = 48;
/// VPA and SLB shadow lie within one page of this size.
const PAGE: u64 = 4096;
/// The header of the SLB shadow: no shorter one makes sense.
const SLB_SHADOW_MIN: u32 = 8;

/// Offsets in the VPA (LoPAR, H_REGISTER_VPA, "Per Virtual Processor Area"), big endian all. Those marked "guest" are written by the guest only.
pub mod offset {
    /// 32 bits, guest: [`super::DESCRIPTOR`].
    pub const DESCRIPTOR: u64 = 0;
    /// 16 bits, guest: the area's length.
    pub const SIZE: u64 = 4;
    /// 8 bits: bit [`super::SHARED_PROCESSOR`] says that the processor is dispatched from a pool.
    pub const STATUS: u64 = 9;
    /// 8 bits, guest: which registers it wants kept over H_CEDE and dispatch.
    pub const EBB_IN_USE: u64 = 177;
    /// 8 bits, guest: which events go to the dispatch trace log.
    pub const DTL_ENABLE: u64 = 184;
    /// 8 bits, guest: floating point registers are in use.
    pub const FP_IN_USE: u64 = 186;
    /// 8 bits, guest: performance monitor registers are in use.
    pub const PMC_IN_USE: u64 = 187;
    /// 16 bits, guest: SLB entries to keep over a dispatch.
    pub const SLB_COUNT: u64 = 252;
    /// 8 bits, guest: the processor has nothing to do.
    pub const IDLE: u64 = 254;
    /// 32 bits: the dispatch counter, odd while the processor is not running ("yield count").
    pub const DISPATCH_COUNTER: u64 = 256;
    /// 32 bits: dispatches on another processor than the last one.
    pub const DISPERSION_COUNTER: u64 = 260;
    /// 64 bits: timebase ticks from being queued to being dispatched.
    pub const ENQUEUE_DISPATCH_TB: u64 = 344;
    /// 64 bits: timebase ticks from being ready to being queued.
    pub const READY_ENQUEUE_TB: u64 = 352;
    /// 64 bits: timebase ticks from waiting to being ready.
    pub const WAIT_READY_TB: u64 = 360;
    /// 64 bits: entries ever written to the dispatch trace log.
    pub const DTL_INDEX: u64 = 536;
}

/// What a guest writes at [`offset::DESCRIPTOR`]: "LpPa" in EBCDIC.
pub const DESCRIPTOR: u32 = 0xd397_d781;
/// The bit of [`offset::STATUS`].
pub const SHARED_PROCESSOR: u8 = 2;

impl Request {
    /// From H_REGISTER_VPA's r4 and r6. The sub-function is in bits 16:18 of the flags; all else is zero.
    pub const fn decode(flags: u64, address: u64) -> Result<Request, Status> {
        if flags & !(7 << 45) != 0 {
            return Err(Status::PARAMETER);
        }
        let at = GuestReal(address);
        let request = match flags >> 45 {
            1 => Request::Register(Area::Vpa, at),
            2 => Request::Register(Area::Dtl, at),
            3 => Request::Register(Area::SlbShadow, at),
            5 => return Ok(Request::Deregister(Area::Vpa)),
            6 => return Ok(Request::Deregister(Area::Dtl)),
            7 => return Ok(Request::Deregister(Area::SlbShadow)),
            _ => return Err(Status::PARAMETER),
        };
        if address == 0 || !address.is_multiple_of(ALIGNMENT) || address >> 60 != 0 {
            return Err(Status::PARAMETER);
        }
        Ok(request)
    }

    /// Where the area declares its length, and in how many bytes (big endian).
    pub const fn length_at(self) -> Option<(GuestReal, usize)> {
        match self {
            Request::Register(Area::Vpa, at) => Some((GuestReal(at.0 + 4), 2)),
            Request::Register(_, at) => Some((GuestReal(at.0 + 4), 4)),
            Request::Deregister(_) => None,
        }
    }
}

/// The areas of one virtual processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VpaState {
    /// The VPA.
    pub vpa: Option<Region>,
    /// The dispatch trace log.
    pub dtl: Option<Region>,
    /// The SLB shadow.
    pub slb_shadow: Option<Region>,
}

impl VpaState {
    /// None registered.
    pub const NEW: VpaState = VpaState { vpa: None, dtl: None, slb_shadow: None };

    /// Carry a request out, with the length that the area declares (0 for a deregistration).
    /// On an error nothing has changed.
    pub const fn apply(&mut self, request: Request, length: u32) -> Result<Change, Status> {
        match request {
            Request::Register(area, base) => {
                let within_page = length as u64 <= PAGE - base.0 % PAGE;
                let fits = match area {
                    Area::Vpa => length >= VPA_MIN && within_page,
                    Area::SlbShadow => length >= SLB_SHADOW_MIN && within_page,
                    Area::Dtl => length >= DTL_ENTRY,
                };
                if !fits {
                    return Err(Status::PARAMETER);
                }
                let bytes = if matches!(area, Area::Dtl) { length - length % DTL_ENTRY } else { length };
                let region = Some(Region { base, bytes });
                match area {
                    Area::Vpa => self.vpa = region,
                    _ if self.vpa.is_none() => return Err(Status::RESOURCE),
                    Area::Dtl => self.dtl = region,
                    Area::SlbShadow => self.slb_shadow = region,
                }
                Ok(Change::Registered(area, Region { base, bytes }))
            }
            Request::Deregister(area) => {
                match area {
                    Area::Vpa if self.dtl.is_some() || self.slb_shadow.is_some() => {
                        return Err(Status::RESOURCE);
                    }
                    Area::Vpa => self.vpa = None,
                    Area::Dtl => self.dtl = None,
                    Area::SlbShadow => self.slb_shadow = None,
                }
                Ok(Change::Dropped(area))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(sub: u64) -> u64 {
        sub << 45
    }

    #[test]
    fn decoding() {
        assert_eq!(Request::decode(flags(1), 0x1000), Ok(Request::Register(Area::Vpa, GuestReal(0x1000))));
        assert_eq!(Request::decode(flags(5), 0x1001), Ok(Request::Deregister(Area::Vpa)));
        for sub in [0, 4] {
            assert_eq!(Request::decode(flags(sub), 0x1000), Err(Status::PARAMETER));
        }
        assert_eq!(Request::decode(flags(1) | 1, 0x1000), Err(Status::PARAMETER));
        assert_eq!(Request::decode(flags(8), 0x1000), Err(Status::PARAMETER));
        for address in [0, 0x1040, 1 << 63] {
            assert_eq!(Request::decode(flags(1), address), Err(Status::PARAMETER));
        }
        let (at, bytes) = Request::decode(flags(1), 0x1000).unwrap().length_at().unwrap();
        assert_eq!((at.0, bytes), (0x1004, 2));
        let (at, bytes) = Request::decode(flags(3), 0x1000).unwrap().length_at().unwrap();
        assert_eq!((at.0, bytes), (0x1004, 4));
    }

    #[test]
    fn lengths() {
        let mut s = VpaState::NEW;
        let at = |a| Request::Register(Area::Vpa, GuestReal(a));
        assert_eq!(s.apply(at(0x1000), 639), Err(Status::PARAMETER));
        assert_eq!(s.apply(at(0x1d80), 641), Err(Status::PARAMETER));
        assert_eq!(s, VpaState::NEW);
        assert!(s.apply(at(0x1d80), 640).is_ok());
        assert!(s.apply(at(0x2000), 4096).is_ok());
        assert_eq!(s.vpa.unwrap().base, GuestReal(0x2000));
        let dtl = Request::Register(Area::Dtl, GuestReal(0x3f80));
        assert_eq!(s.apply(dtl, 47), Err(Status::PARAMETER));
        assert!(s.apply(dtl, 4096).is_ok(), "a log may cross pages");
        assert_eq!(s.dtl.unwrap().bytes, 4080);
        let slb = |a| Request::Register(Area::SlbShadow, GuestReal(a));
        assert_eq!(s.apply(slb(0x4000), 7), Err(Status::PARAMETER));
        assert_eq!(s.apply(slb(0x4f80), 129), Err(Status::PARAMETER));
        assert!(s.apply(slb(0x4f80), 128).is_ok());
    }

    #[test]
    fn order() {
        let mut s = VpaState::NEW;
        let dtl = Request::Register(Area::Dtl, GuestReal(0x3000));
        let slb = Request::Register(Area::SlbShadow, GuestReal(0x4000));
        let vpa = Request::Register(Area::Vpa, GuestReal(0x5000));
        assert_eq!(s.apply(dtl, 4096), Err(Status::RESOURCE));
        assert_eq!(s.apply(slb, 128), Err(Status::RESOURCE));
        s.apply(vpa, 640).unwrap();
        s.apply(dtl, 4096).unwrap();
        s.apply(slb, 128).unwrap();
        assert_eq!(s.apply(Request::Deregister(Area::Vpa), 0), Err(Status::RESOURCE));
        s.apply(Request::Deregister(Area::Dtl), 0).unwrap();
        assert_eq!(s.apply(Request::Deregister(Area::Vpa), 0), Err(Status::RESOURCE));
        s.apply(Request::Deregister(Area::SlbShadow), 0).unwrap();
        assert_eq!(s.apply(Request::Deregister(Area::Vpa), 0), Ok(Change::Dropped(Area::Vpa)));
        assert_eq!(s, VpaState::NEW);
        assert!(s.apply(Request::Deregister(Area::SlbShadow), 0).is_ok(), "nothing to drop is no error");
    }
}
