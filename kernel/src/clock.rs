//! The time of day: the firmware's clock, read once, and the timebase since.

use papr::rtas::Civil;
use realmode::instructions::timebase;
use spin::Once;

use crate::opal;
use crate::partition::TIMEBASE_HZ;

/// Nanoseconds since 1970 at timebase 0, wrapping.
static EPOCH: Once<u64> = Once::new();

const fn bcd(value: u64) -> u32 {
    ((value >> 4 & 0xf) * 10 + (value & 0xf)) as u32
}

/// Nanoseconds that so many ticks of the timebase take.
fn nanoseconds(ticks: u64) -> u64 {
    let seconds = ticks / TIMEBASE_HZ;
    seconds.wrapping_mul(1_000_000_000).wrapping_add(ticks % TIMEBASE_HZ * 1_000_000_000 / TIMEBASE_HZ)
}

/// Nanoseconds since 1970-01-01 00:00 UTC; from the timebase alone if the firmware has no clock.
pub fn now() -> u64 {
    let epoch = *EPOCH.call_once(|| {
        let seconds = opal::rtc_read().ok().and_then(|(date, time)| {
            let (date, time) = (u64::from(date), time >> 32);
            let civil = Civil {
                year: bcd(date >> 24) * 100 + bcd(date >> 16 & 0xff),
                month: bcd(date >> 8 & 0xff),
                day: bcd(date & 0xff),
                hour: bcd(time >> 24 & 0xff),
                minute: bcd(time >> 16 & 0xff),
                second: bcd(time >> 8 & 0xff),
            };
            civil.to_unix()
        });
        (seconds.unwrap_or(0) * 1_000_000_000).wrapping_sub(nanoseconds(timebase()))
    });
    epoch.wrapping_add(nanoseconds(timebase()))
}
