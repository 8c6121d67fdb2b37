//! Times as Kubernetes writes them (RFC 3339, UTC, whole seconds), without a calendar's crate.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400;

/// Seconds since 1970 of a time such as `2026-01-31T12:00:00Z`; `None` where it is none.
pub fn seconds(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let sound = bytes.last() == Some(&b'Z')
        && text.len() >= 20
        && marks.iter().all(|(at, mark)| bytes.get(*at) == Some(mark));
    if !sound {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<i64>().ok()).flatten()
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let real = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    real.then(|| u64::try_from(seconds).ok()).flatten()
}

/// The time of now.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    text(since.map(|since| since.as_secs()).unwrap_or_default())
}

/// So many seconds after the beginning of 1970.
pub fn text(seconds: u64) -> String {
    let seconds = seconds.cast_signed();
    let (day, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = date(day);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days since 1970-01-01 of a date of the Gregorian calendar, whose years are taken to begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days`].
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2026-11-27T02:30:39Z", 1_795_746_639),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(super::seconds(text), Some(seconds), "{text}");
            assert_eq!(super::text(seconds), text);
        }
        assert_eq!(seconds("2026-11-27T02:30:39.123456Z"), Some(1_795_746_639));
        for day in (0..80_000).step_by(17) {
            assert_eq!(seconds(&text(day * 86_400)), Some(day * 86_400));
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026-11-27",
            "2026-13-27T02:30:39Z",
            "2026-11-27T24:30:39Z",
            "2026-11-27T02:30:39+01:00",
            "+026-11-27T02:30:39Z",
            "2026-11-27 02:30:39Z",
            "1960-01-01T00:00:00Z",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
