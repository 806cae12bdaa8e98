//! The calendar of `get-time-of-day` and `set-time-of-day` (LoPAR, "Time of Day"): UTC, proleptic Gregorian.

/// A second of the calendar. Months and days count from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // what the names say
pub struct Civil {
    pub year: u32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
}

const DAY: u64 = 86_400;
/// Days of 400 years, after which the calendar repeats.
const ERA: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: u64 = 719_468;

impl Civil {
    /// From seconds since 1970. Exact for any year that fits.
    pub const fn from_unix(seconds: u64) -> Civil {
        // Years begin in March here, so that the leap day comes last.
        let days = seconds / DAY + EPOCH;
        let day_of_era = days % ERA;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = days / ERA * 400 + year_of_era + (month <= 2) as u64;
        let of_day = seconds % DAY;
        Civil {
            year: year as u32,
            month: month as u32,
            day: day as u32,
            hour: (of_day / 3600) as u32,
            minute: (of_day / 60 % 60) as u32,
            second: (of_day % 60) as u32,
        }
    }

    /// To seconds since 1970; `None` for what is no date, or one before.
    pub const fn to_unix(self) -> Option<u64> {
        let Civil { year, month, day, hour, minute, second } = self;
        if year < 1970 || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let last = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 => 28 + leap as u32,
            _ => return None,
        };
        if day == 0 || day > last {
            return None;
        }
        let month = month as u64;
        let year = year as u64 - (month <= 2) as u64;
        let year_of_era = year % 400;
        let month_from_march = (month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + day as u64 - 1;
        let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = year / 400 * ERA + day_of_era - EPOCH;
        Some(days * DAY + hour as u64 * 3600 + minute as u64 * 60 + second as u64)
    }
}

/// A partition's clock: the host's, and how far the guest has set it off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PartitionClock {
    offset_ns: i64,
}

impl PartitionClock {
    /// The time when it is this late in the host. Never before 1970.
    pub const fn now(self, host_ns: u64) -> u64 {
        host_ns.saturating_add_signed(self.offset_ns)
    }

    /// It is `ns` in the guest when it is `host_ns` in the host.
    pub const fn set(&mut self, host_ns: u64, ns: u64) {
        self.offset_ns = ns.wrapping_sub(host_ns) as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn civil(year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Civil {
        Civil { year, month, day, hour, minute, second }
    }

    #[test]
    fn known_dates() {
        for (date, seconds) in [
            (civil(1970, 1, 1, 0, 0, 0), 0),
            (civil(1970, 3, 1, 0, 0, 0), 59 * DAY),
            (civil(2000, 2, 29, 23, 59, 59), 951_868_799),
            (civil(2000, 3, 1, 0, 0, 0), 951_868_800),
            (civil(2038, 1, 19, 3, 14, 8), 1 << 31),
            (civil(2100, 3, 1, 0, 0, 0), 4_107_542_400),
            (civil(2554, 7, 21, 23, 34, 33), u64::MAX / 1_000_000_000),
        ] {
            assert_eq!(date.to_unix(), Some(seconds), "{date:?}");
            assert_eq!(Civil::from_unix(seconds), date);
        }
    }

    #[test]
    fn no_dates() {
        for date in [
            civil(1969, 12, 31, 23, 59, 59),
            civil(2001, 2, 29, 0, 0, 0),
            civil(2100, 2, 29, 0, 0, 0),
            civil(2024, 0, 1, 0, 0, 0),
            civil(2024, 13, 1, 0, 0, 0),
            civil(2024, 4, 31, 0, 0, 0),
            civil(2024, 4, 0, 0, 0, 0),
            civil(2024, 4, 1, 24, 0, 0),
            civil(2024, 4, 1, 0, 60, 0),
            civil(2024, 4, 1, 0, 0, 60),
        ] {
            assert_eq!(date.to_unix(), None, "{date:?}");
        }
    }

    #[test]
    fn days_follow_each_other() {
        let mut last = Civil::from_unix(0);
        for day in 1..300_000 {
            let date = Civil::from_unix(day * DAY);
            let next_day = date.month == last.month && date.day == last.day + 1;
            let next_month = date.day == 1 && last.day >= 28 && date.month == last.month % 12 + 1;
            assert!(next_day || next_month, "{last:?} {date:?}");
            last = date;
        }
    }

    #[test]
    fn a_clock_is_an_offset() {
        let mut clock = PartitionClock::default();
        assert_eq!(clock.now(5), 5);
        clock.set(1000, 10);
        assert_eq!(clock.now(1500), 510);
        assert_eq!(clock.now(0), 0);
        clock.set(1000, 1 << 62);
        assert_eq!(clock.now(1001), (1 << 62) + 1);
    }

    proptest! {
        #[test]
        fn round_trips(seconds in 0..200_000_000_000u64) {
            prop_assert_eq!(Civil::from_unix(seconds).to_unix(), Some(seconds));
        }

        #[test]
        fn nothing_panics(c in any::<[u32; 6]>()) {
            let [year, month, day, hour, minute, second] = c;
            let date = civil(year, month % 14, day % 33, hour % 25, minute % 61, second % 61);
            if let Some(seconds) = date.to_unix() {
                prop_assert_eq!(Civil::from_unix(seconds), date);
            }
        }
    }
}
