//! Keys between keys: where to look for the boundary of a range when only counts can be asked.
//!
//! Pure. A guess that is off only costs another count.

use crate::schema::Key;

/// A key strictly between `low` and `high` (`None`: no end), about `part / whole` of the way; `None`
/// if there is none or none was found.
pub(super) fn between(low: &Key, high: Option<&Key>, part: u64, whole: u64) -> Option<Key> {
    let key = match (low, high) {
        (Key::Int(low), Some(Key::Int(high))) => Key::Int(int_between(*low, *high, part, whole)?),
        (Key::Int(low), None) => Key::Int(int_between(*low, i64::MAX, part, whole)?),
        (Key::Text(low), Some(Key::Text(high))) => Key::Text(text_between(low, Some(high), part, whole)?),
        (Key::Text(low), None) => Key::Text(text_between(low, None, part, whole)?),
        _ => return None,
    };
    (*low < key && high.is_none_or(|high| key < *high)).then_some(key)
}

fn int_between(low: i64, high: i64, part: u64, whole: u64) -> Option<i64> {
    let width = u64::try_from(i128::from(high) - i128::from(low)).ok().filter(|width| *width > 1)?;
    i64::try_from(i128::from(low) + i128::from(share(width, part, whole))).ok()
}

fn share(width: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(width) * u128::from(part) / u128::from(whole.max(1));
    (share as u64).clamp(1, width - 1)
}

/// Texts as numbers: behind what both begin with, a few characters are the digits.
fn text_between(low: &str, high: Option<&str>, part: u64, whole: u64) -> Option<String> {
    let shared = match high {
        Some(high) => low.chars().zip(high.chars()).take_while(|(a, b)| a == b).count(),
        None => 0,
    };
    let behind = |text: &str| text.chars().skip(shared).take(9).collect::<Vec<_>>();
    let (from, to) = (behind(low), high.map(behind));
    // Keys are ASCII nearly everywhere; nine characters of it say more than three of any kind.
    let ascii = from.iter().chain(to.iter().flatten()).all(char::is_ascii);
    let digits = if ascii { Digits { last: '~', count: 9 } } else { Digits { last: char::MAX, count: 3 } };
    let start = digits.number(&from);
    let end = to.map_or(digits.number(&[digits.last; 9]), |to| digits.number(&to));
    let width = end.checked_sub(start).filter(|width| *width > 1)?;
    let mut text: String = low.chars().take(shared).collect();
    digits.append(start + share(width, part, whole), &mut text);
    Some(text)
}

/// Characters from the space to `last` as digits from 1 on. 0 is the end of the text, and what is not
/// printable counts as that. `count` of them fit into 64 bits.
struct Digits {
    last: char,
    count: usize,
}

/// The code before the first printable character.
const BEFORE: u64 = 0x1f;

impl Digits {
    fn base(&self) -> u64 {
        u64::from(self.last) - BEFORE + 1
    }

    fn number(&self, chars: &[char]) -> u64 {
        let digit =
            |at: usize| chars.get(at).map_or(0, |c| u64::from((*c).min(self.last)).saturating_sub(BEFORE));
        (0..self.count).fold(0, |number, at| number * self.base() + digit(at))
    }

    /// Appends the characters of a number, up to the first digit 0. So a greater number never makes a
    /// smaller text.
    fn append(&self, number: u64, text: &mut String) {
        for at in (0..self.count as u32).rev() {
            let digit = number / self.base().pow(at) % self.base();
            if digit == 0 {
                return;
            }
            // Codes of surrogates are no characters; the one before them stands for all.
            let c = u32::try_from(digit + BEFORE).ok().and_then(char::from_u32);
            text.push(c.unwrap_or('\u{d7ff}'));
        }
    }
}

/// Ever greater keys beyond `key`, the first ones close to it: where the keys that are like it end.
pub(super) fn beyond(key: &Key, rows: u64) -> Vec<Key> {
    match key {
        Key::Int(key) => {
            let first = i64::try_from(rows).unwrap_or(i64::MAX).clamp(1, i64::MAX / 2) * 2;
            let steps = std::iter::successors(Some(first), |step| step.checked_mul(256));
            steps.map_while(|step| key.checked_add(step)).map(Key::Int).collect()
        }
        Key::Text(key) => {
            let chars: Vec<char> = key.chars().collect();
            // Of very long keys only the beginning: it is enough, and all of it would be much.
            (1..chars.len().min(256))
                .rev()
                .filter_map(|length| successor(&chars[..length]))
                .map(Key::Text)
                .collect()
        }
    }
}

/// The least text, or nearly so, that is greater than all that begin with `prefix`.
fn successor(prefix: &[char]) -> Option<String> {
    let (last, rest) = prefix.split_last()?;
    let next = char::from_u32(u32::from(*last) + 1)?;
    Some(rest.iter().copied().chain([next]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Key {
        Key::Text(text.into())
    }

    #[test]
    fn guesses_follow_the_share() {
        assert_eq!(between(&Key::Int(0), Some(&Key::Int(100)), 1, 4), Some(Key::Int(25)));
        assert_eq!(between(&Key::Int(i64::MIN), Some(&Key::Int(i64::MAX)), 1, 2), Some(Key::Int(-1)));
        assert_eq!(between(&Key::Int(7), Some(&Key::Int(8)), 1, 2), None);
        let Some(Key::Text(half)) = between(&text("doc-1000"), Some(&text("doc-9")), 1, 2) else {
            panic!("there are keys between")
        };
        assert!(half.starts_with("doc-5"), "{half}");
        assert_eq!(between(&text("a"), Some(&text("c")), 1, 2), Some(text("b")));
        assert_eq!(between(&text("天"), Some(&text("天")), 1, 2), None);
        assert_eq!(between(&text("x"), Some(&text("x\u{1}")), 1, 2), None, "nothing printable is between");
    }

    #[test]
    fn steps_beyond_a_key_leave_its_neighbourhood() {
        assert_eq!(beyond(&text("d-01"), 9), ["d-1", "d.", "e"].map(text));
        assert_eq!(beyond(&text("a"), 9), []);
        let steps = beyond(&Key::Int(5), 10);
        assert_eq!(steps[..2], [Key::Int(25), Key::Int(5 + 20 * 256)]);
        assert_eq!(beyond(&Key::Int(i64::MAX), 10), []);
    }

    proptest! {
        #[test]
        fn what_is_between_is_between(a: String, b: String, part in 0u64..=9, open: bool) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            let (low, high) = (Key::Text(low), Key::Text(high));
            let found = between(&low, Some(&high).filter(|_| !open), part, 9);
            if let Some(found) = found {
                prop_assert!(low < found && (open || found < high));
            }
        }

        #[test]
        fn there_is_something_between_plain_texts(a in "[a-z0-9]{1,20}", b in "[a-z0-9]{1,20}") {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            // Behind "ab" comes "ab0" or greater, so only such neighbours have nothing between.
            if low != high && !high.starts_with(&low) {
                prop_assert!(between(&Key::Text(low), Some(&Key::Text(high)), 1, 2).is_some());
            }
        }

        #[test]
        fn steps_ascend(key: String, number: i64, rows: u64) {
            for key in [Key::Text(key), Key::Int(number)] {
                let steps = beyond(&key, rows);
                prop_assert!(steps.first().is_none_or(|first| *first > key));
                prop_assert!(steps.windows(2).all(|pair| pair[0] <= pair[1]));
            }
        }
    }
}
