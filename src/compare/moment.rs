//! Whether two ISO 8601 texts say the same moment.
//!
//! Servers keep moments as numbers and print them in the time zone that they find fitting. So
//! `2026-01-01T00:00:00Z` and `2026-01-01T08:00:00.000+08:00` are the same. A text without a time
//! zone means the collection's, which is not known here: it is the same only as another one
//! without.

/// Whether `a` and `b` say the same. What is not a moment is the same only byte for byte.
pub(super) fn same(a: &str, b: &str) -> bool {
    a == b || parse(a).zip(parse(b)).is_some_and(|(a, b)| a == b)
}

#[derive(Debug, PartialEq, Eq)]
struct Moment<'a> {
    /// Since 1970, in UTC if there is a time zone.
    seconds: i64,
    /// Digits behind the decimal point, without zeros at the end.
    fraction: &'a str,
    has_zone: bool,
}

fn parse(text: &str) -> Option<Moment<'_>> {
    let mut rest = text;
    let year: i64 = number(&mut rest, 4)?;
    take(&mut rest, &['-'])?;
    let month = number(&mut rest, 2).filter(|m| (1..=12).contains(m))?;
    take(&mut rest, &['-'])?;
    let day = number(&mut rest, 2).filter(|d| (1..=31).contains(d))?;
    take(&mut rest, &['T', 't', ' '])?;
    let hour = number(&mut rest, 2).filter(|h| *h < 24)?;
    take(&mut rest, &[':'])?;
    let minute = number(&mut rest, 2).filter(|m| *m < 60)?;
    let mut second = 0;
    let mut fraction = "";
    if take(&mut rest, &[':']).is_some() {
        second = number(&mut rest, 2).filter(|s| *s < 61)?;
        if take(&mut rest, &['.', ',']).is_some() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            fraction = rest[..end].trim_end_matches('0');
            rest = (end > 0).then(|| &rest[end..])?;
        }
    }
    let zone = zone(rest)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Moment { seconds: seconds - zone.unwrap_or(0), fraction, has_zone: zone.is_some() })
}

/// Seconds ahead of UTC, or that there is no time zone; `None` if it is neither.
fn zone(text: &str) -> Option<Option<i64>> {
    let mut rest = text;
    if rest.is_empty() {
        return Some(None);
    }
    if matches!(rest, "Z" | "z") {
        return Some(Some(0));
    }
    let sign = match take(&mut rest, &['+', '-'])? {
        '-' => -1,
        _ => 1,
    };
    let hours = number(&mut rest, 2).filter(|h| *h < 24)?;
    let _ = take(&mut rest, &[':']);
    let minutes = if rest.is_empty() { 0 } else { number(&mut rest, 2).filter(|m| *m < 60)? };
    rest.is_empty().then_some(Some(sign * (hours * 3_600 + minutes * 60)))
}

/// Reads exactly this many digits.
fn number(rest: &mut &str, digits: usize) -> Option<i64> {
    let read = rest.get(..digits)?;
    let number = read.bytes().all(|b| b.is_ascii_digit()).then(|| read.parse().ok())??;
    *rest = &rest[digits..];
    Some(number)
}

fn take(rest: &mut &str, marks: &[char]) -> Option<char> {
    let first = rest.chars().next().filter(|c| marks.contains(c))?;
    *rest = &rest[first.len_utf8()..];
    Some(first)
}

/// Days from 1970-01-01 in the Gregorian calendar, which is taken to have always been in use. Years
/// are counted from March, so that the day that some of them have more is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Months from March have 31, 30, 31, 30, 31 days, and again.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 2, 29), 11_016);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(1969, 12, 31), -1);
        assert_eq!(days(1, 1, 1), -719_162);
        assert_eq!(days(9999, 12, 31), 2_932_896);
    }

    #[test]
    fn other_spellings_say_the_same() {
        for (a, b) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T08:00:00.000+08:00"),
            ("2024-02-29T23:30:00-01:30", "2024-03-01 01:00:00z"),
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.500000+00"),
            ("2026-01-01T00:00Z", "2026-01-01T05:30:00+0530"),
            ("2026-01-01 00:00:00", "2026-01-01T00:00:00.0"),
            ("1969-12-31T23:59:59Z", "1970-01-01T00:59:59+01:00"),
        ] {
            assert!(same(a, b) && same(b, a), "{a} {b}");
        }
    }

    #[test]
    fn other_moments_are_told_apart() {
        for (a, b) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00"),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00+01:00"),
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.500001Z"),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00ZZ"),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.Z"),
            ("2026-13-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2026-01-01", "2026-01-01T00:00:00"),
            ("", " "),
            ("2026-é1-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ] {
            assert!(!same(a, b) && !same(b, a), "{a} {b}");
        }
    }
}
