//! Points in time as people write them.

use crate::signal::Timestamp;

/// RFC 3339, a date or a date and time in UTC, or how long ago: `90s`, `30m`, `2h`, `7d`.
///
/// # Errors
/// When it is none of these.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let full = |tail: &str| format!("{text}{tail}").parse::<Timestamp>().ok();
    let date =
        || [full(""), full("T00:00:00Z"), full(":00Z"), full("Z")].into_iter().flatten().next();
    ago(text).map(|seconds| now.plus_seconds(-seconds)).or_else(date).ok_or_else(|| {
        format!("{text:?} is no time: write 2026-05-01, 2026-05-01T18:00Z, or how long ago: 90s, 30m, 2h, 7d")
    })
}

/// For arguments: relative to the present.
pub fn argument(text: &str) -> Result<Timestamp, String> {
    parse(text, Timestamp::now())
}

fn ago(text: &str) -> Option<f64> {
    let unit = text.chars().last()?;
    let scale = match unit {
        's' => 1.0,
        'm' => 60.0,
        'h' => 3_600.0,
        'd' => 86_400.0,
        _ => return None,
    };
    let count: f64 = text.strip_suffix(unit)?.parse().ok()?;
    (0.0..=1e6).contains(&count).then_some(count * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now: Timestamp = "2026-05-02T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-05-01", "2026-05-01T00:00:00.000Z"),
            ("2026-05-01T18:00Z", "2026-05-01T18:00:00.000Z"),
            ("2026-05-01T18:00", "2026-05-01T18:00:00.000Z"),
            ("2026-05-01T18:00:30", "2026-05-01T18:00:30.000Z"),
            ("2026-05-01T18:00:00+02:00", "2026-05-01T16:00:00.000Z"),
            ("90s", "2026-05-02T11:58:30.000Z"),
            ("0.5h", "2026-05-02T11:30:00.000Z"),
            ("7d", "2026-04-25T12:00:00.000Z"),
        ] {
            assert_eq!(
                parse(text, now).map(|time| time.to_string()),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
        for text in ["", "h", "-2h", "nand", "infh", "2026-13-01", "yesterday", "1e99d", "ä"] {
            assert!(parse(text, now).is_err(), "{text}");
        }
    }
}
