//! When an alert may act: days and hours of the local clock. A stretch of hours may go over midnight,
//! and belongs to the day on which it begins. Pure; the time zone is passed in.
//!
//! The hours are those that a clock on the wall shows. In the night in which clocks go back, the hour
//! that comes twice is inside both times; in spring, the hour that is left out is never.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;

use crate::signal::Timestamp;

/// Names of days, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MINUTES: u16 = 24 * 60;

/// A stretch of hours on some days: `mon-fri 08:00-18:00`, `sat,sun 10:00-24:00`, `22:00-07:00`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    text: String,
    /// By days from Monday: whether a stretch begins on it.
    days: [bool; 7],
    /// Minutes from midnight. The end is not inside; before the beginning, it is on the next day.
    from: u16,
    to: u16,
}

/// Why text is no stretch of hours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "hours are written as in \"mon-fri 08:00-18:00\", \"sat,sun 10:00-24:00\" or \"22:00-07:00\""
)]
pub struct NotHours;

impl FromStr for Hours {
    type Err = NotHours;

    fn from_str(text: &str) -> Result<Self, NotHours> {
        let (days, hours) = match text.split_once(' ') {
            Some((days, hours)) => (days_of(days)?, hours),
            None => ([true; 7], text),
        };
        let (from, to) = hours.split_once('-').ok_or(NotHours)?;
        let (from, to) = (minute(from)?, minute(to)?);
        if from == to || from == DAY_MINUTES {
            return Err(NotHours);
        }
        Ok(Self { text: text.to_owned(), days, from, to })
    }
}

fn days_of(text: &str) -> Result<[bool; 7], NotHours> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name).ok_or(NotHours);
    let mut days = [false; 7];
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (day(first)?, day(last)?);
        let length = (last + 7 - first) % 7;
        for (at, is_on) in days.iter_mut().enumerate() {
            *is_on |= (at + 7 - first) % 7 <= length;
        }
    }
    Ok(days)
}

/// `08:00` as minutes from midnight; `24:00` is the end of the day.
fn minute(text: &str) -> Result<u16, NotHours> {
    let (hour, minute) = text.split_once(':').ok_or(NotHours)?;
    let number = |digits: &str| {
        let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|_| is_number).ok_or(NotHours)
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    match (hour, minute) {
        (0..=23, 0..=59) | (24, 0) => Ok(60 * hour + minute),
        _ => Err(NotHours),
    }
}

impl Hours {
    /// Whether a clock in this zone shows one of the hours at this time.
    pub fn contain(&self, at: Timestamp, zone: &TimeZone) -> bool {
        let Ok(time) = jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos())) else {
            return false;
        };
        let local = time.to_zoned(zone.clone());
        let minute =
            60 * u16::from(local.hour().unsigned_abs()) + u16::from(local.minute().unsigned_abs());
        let today = usize::from(local.weekday().to_monday_zero_offset().unsigned_abs());
        let begins_on = |day: usize| self.days.get(day % 7).copied().unwrap_or(false);
        if self.from < self.to {
            return begins_on(today) && (self.from..self.to).contains(&minute);
        }
        begins_on(today) && minute >= self.from || begins_on(today + 6) && minute < self.to
    }
}

/// As it was written.
impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hours(text: &str) -> Hours {
        text.parse().unwrap()
    }

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").expect("the package tzdata is needed")
    }

    fn contain(text: &str, at: &str) -> bool {
        hours(text).contain(at.parse().unwrap(), &berlin())
    }

    #[test]
    fn only_what_is_meant_is_accepted() {
        for good in ["00:00-24:00", "22:00-07:00", "mon 01:00-02:00", "sat-mon,wed 23:59-00:00"] {
            assert_eq!(hours(good).to_string(), good);
        }
        for bad in [
            "",
            "8:00-9:00",
            "08:00",
            "08:00-08:00",
            "24:00-08:00",
            "08:00-24:01",
            "25:00-26:00",
            "08:60-09:00",
            "mo 08:00-09:00",
            "mon-  08:00-09:00",
            "mon,  08:00-09:00",
            "Mon 08:00-09:00",
            "mon-fri",
            "+8:00-09:00",
            "08:00-09:00-10:00",
            "mon-tue-wed 08:00-09:00",
        ] {
            assert!(bad.parse::<Hours>().is_err(), "{bad}");
        }
    }

    #[test]
    fn days_and_hours_are_those_of_the_wall() {
        // 2026-05-01 is a Friday; Berlin is two hours ahead.
        assert!(contain("mon-fri 08:00-18:00", "2026-05-01T06:00:00Z"));
        assert!(!contain("mon-fri 08:00-18:00", "2026-05-01T05:59:59Z"));
        assert!(contain("mon-fri 08:00-18:00", "2026-05-01T15:59:59Z"));
        assert!(!contain("mon-fri 08:00-18:00", "2026-05-01T16:00:00Z"));
        assert!(!contain("mon-fri 08:00-18:00", "2026-05-02T08:00:00Z"));
        assert!(contain("sat,sun 10:00-24:00", "2026-05-02T21:59:59Z"));
        assert!(!contain("sat,sun 10:00-24:00", "2026-05-03T22:00:00Z"));
        // From Saturday over Sunday to Monday.
        for (at, expected) in
            [("01", false), ("02", true), ("03", true), ("04", true), ("05", false)]
        {
            assert_eq!(
                contain("sat-mon 12:00-13:00", &format!("2026-05-{at}T10:30:00Z")),
                expected
            );
        }
    }

    #[test]
    fn hours_over_midnight_belong_to_the_day_they_begin_on() {
        let friday_night = "fri 22:00-07:00";
        assert!(!contain(friday_night, "2026-05-01T04:00:00Z"), "Friday at 06:00");
        assert!(contain(friday_night, "2026-05-01T20:00:00Z"), "Friday at 22:00");
        assert!(contain(friday_night, "2026-05-02T04:59:59Z"), "Saturday before 07:00");
        assert!(!contain(friday_night, "2026-05-02T05:00:00Z"), "Saturday at 07:00");
        assert!(!contain(friday_night, "2026-05-02T20:00:00Z"), "Saturday at 22:00");
        // The night from Sunday to Monday, over the week's end.
        assert!(contain("sun 22:00-07:00", "2026-05-04T04:00:00Z"));
    }

    #[test]
    fn clocks_that_are_set_are_followed() {
        // 2026-03-29: at 01:00 UTC, 02:00 becomes 03:00.
        assert!(contain("01:59-02:00", "2026-03-29T00:59:59Z"));
        assert!(contain("03:00-03:01", "2026-03-29T01:00:00Z"));
        assert!(!contain("02:00-03:00", "2026-03-29T01:00:00Z"));
        // 2026-10-25: at 01:00 UTC, 03:00 becomes 02:00, and that hour comes twice.
        for at in ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"] {
            assert!(contain("02:00-03:00", at), "{at}");
        }
        assert!(!contain("02:00-03:00", "2026-10-25T02:00:00Z"));
        // A night that is an hour shorter or longer ends by the clock all the same.
        for (inside, outside) in [
            ("2026-03-29T04:59:59Z", "2026-03-29T05:00:00Z"),
            ("2026-10-25T05:59:59Z", "2026-10-25T06:00:00Z"),
        ] {
            assert!(contain("22:00-07:00", inside) && !contain("22:00-07:00", outside));
        }
    }

    /// The C library and its `date` show the same clock.
    #[test]
    fn the_clock_is_that_of_the_system() {
        let mut random = fastrand::Rng::with_seed(4);
        for zone in ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"] {
            let zoned = TimeZone::get(zone).expect("the package tzdata is needed");
            for _ in 0..8 {
                let seconds = random.i64(1_700_000_000..1_900_000_000);
                let output = std::process::Command::new("date")
                    .env("TZ", zone)
                    .env("LC_ALL", "C")
                    .args([&format!("--date=@{seconds}"), "+%a %H:%M"])
                    .output()
                    .expect("date is everywhere");
                let shown = String::from_utf8(output.stdout).unwrap().trim().to_lowercase();
                let (_, minute) = shown.split_once(' ').unwrap();
                let to = if minute == "23:59" { "24:00" } else { "23:59" };
                let from_now = hours(&format!("{shown}-{to}"));
                let at = Timestamp::from_nanos(seconds * 1_000_000_000);
                assert!(from_now.contain(at, &zoned), "{zone} {seconds} {shown}");
                let before = Timestamp::from_nanos((seconds - 60) * 1_000_000_000);
                let is_first = minute == "00:00";
                assert!(is_first || !from_now.contain(before, &zoned), "{zone} {seconds} {shown}");
            }
        }
    }

    proptest! {
        #![proptest_config(crate::testing::cases(256))]

        #[test]
        fn any_text_is_hours_or_is_refused(text in "(mon|sun|[ ,:-]|[0-9]{2}|.){0,9}", nanos in any::<i64>()) {
            if let Ok(hours) = text.parse::<Hours>() {
                hours.contain(Timestamp::from_nanos(nanos), &TimeZone::UTC);
            }
        }

        /// A night and the day that is left of it share nothing and leave nothing out.
        #[test]
        fn the_rest_of_the_day_is_the_opposite(from in 0u16..1440, to in 0u16..1440, nanos in any::<i64>()) {
            prop_assume!(from != to);
            let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            let inside = hours(&format!("{}-{}", clock(from), clock(to)));
            let outside = hours(&format!("{}-{}", clock(to), clock(from)));
            let at = Timestamp::from_nanos(nanos);
            let zone = berlin();
            prop_assert_ne!(inside.contain(at, &zone), outside.contain(at, &zone));
        }
    }
}
