//! Laying the rows of two sides beside each other by their keys, and comparing what meets.
//!
//! Owns: the merge and what it finds. Pure but for asking the sides for more rows. Does not own:
//! where rows come from (`rows`, `full`, `sample`), or when values are the same (`value`).

use super::found::{Finding, Found, Kind};
use super::shape::Shape;
use super::value;
use crate::blocking::blocking;
use crate::columns::Keys;
use crate::error::{Error, Result};
use crate::schema::Key;
use arrow_array::RecordBatch;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// Rows in key order, a batch at a time.
pub(super) trait Batches {
    /// The next rows; `None` at the end, and again whenever asked after that.
    async fn next(&mut self) -> Result<Option<RecordBatch>>;
}

/// Rows that are at hand.
impl Batches for std::vec::IntoIter<RecordBatch> {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        Ok(Iterator::next(self))
    }
}

/// Rows that another task reads meanwhile.
impl Batches for tokio::sync::mpsc::Receiver<RecordBatch> {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        Ok(self.recv().await)
    }
}

/// What a merge has found.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// The differences.
    pub found: Found,
    /// Rows of both sides that were laid beside each other.
    pub compared: u64,
}

/// Merges both sides to their ends. Holds one batch of each; `partition` is only for findings.
/// Where a side has a key twice, one row meets the other side's, and the other is left over.
pub(super) async fn merge(
    shape: &Arc<Shape>,
    partition: Option<&str>,
    snapshot: &mut impl Batches,
    server: &mut impl Batches,
) -> Result<Merged> {
    let mut merged = Merged::default();
    let (mut left, mut right) = (None, None);
    loop {
        left = more(left, snapshot).await?;
        right = more(right, server).await?;
        if left.is_none() && right.is_none() {
            return Ok(merged);
        }
        let (shape, partition) = (shape.clone(), partition.map(str::to_string));
        let done: Step;
        (done, left, right) = blocking(move || {
            let done = step(&shape, partition.as_deref(), left.as_ref(), right.as_ref())?;
            let (left, right) = (rest(left, done.left), rest(right, done.right));
            Ok((done, left, right))
        })
        .await?;
        merged.compared += done.compared;
        merged.found.append(done.found);
    }
}

/// What is at hand, or the next rows that there are.
async fn more(at_hand: Option<RecordBatch>, side: &mut impl Batches) -> Result<Option<RecordBatch>> {
    let mut batch = at_hand;
    while batch.as_ref().is_none_or(|b| b.num_rows() == 0) {
        batch = side.next().await?;
        if batch.is_none() {
            break;
        }
    }
    Ok(batch)
}

fn rest(batch: Option<RecordBatch>, done: usize) -> Option<RecordBatch> {
    batch.filter(|b| b.num_rows() > done).map(|b| b.slice(done, b.num_rows() - done))
}

struct Step {
    found: Found,
    compared: u64,
    /// Rows of each side that are done.
    left: usize,
    right: usize,
}

/// Compares as far as both batches reach. A side without a batch has ended, so the other's rows
/// meet nothing.
fn step(
    shape: &Shape,
    partition: Option<&str>,
    left: Option<&RecordBatch>,
    right: Option<&RecordBatch>,
) -> Result<Step> {
    let left_keys = left.map(|b| Keys::of(b, &shape.key)).transpose()?;
    let right_keys = right.map(|b| Keys::of(b, &shape.key)).transpose()?;
    let runs = match (&left_keys, &right_keys) {
        (Some(left), Some(right)) => align(left, right)?,
        (Some(left), None) => vec![Run::Missing(0..left.len())],
        (None, Some(right)) => vec![Run::Extra(0..right.len())],
        (None, None) => Vec::new(),
    };
    let mut step = Step { found: Found::default(), compared: 0, left: 0, right: 0 };
    let partition = || partition.map(str::to_string);
    for run in runs {
        match run {
            Run::Missing(rows) => {
                step.left = rows.end;
                for key in listed(left_keys.as_ref(), rows) {
                    let make = || Finding::Missing { partition: partition(), key: key() };
                    step.found.add(Kind::Missing, make);
                }
            }
            Run::Extra(rows) => {
                step.right = rows.end;
                for key in listed(right_keys.as_ref(), rows) {
                    let make = || Finding::Extra { partition: partition(), key: key() };
                    step.found.add(Kind::Extra, make);
                }
            }
            Run::Both { left: at, right: other, rows } => {
                (step.left, step.right) = (at + rows, other + rows);
                step.compared += rows as u64;
                if let (Some(left), Some(right)) = (left, right) {
                    let (left, right) = (left.slice(at, rows), right.slice(other, rows));
                    compare_rows(shape, &partition, &left, &right, &mut step.found)?;
                }
            }
        }
    }
    Ok(step)
}

/// The keys of some rows, each made only when it is asked for.
fn listed<'a>(keys: Option<&'a Keys<'a>>, rows: Range<usize>) -> impl Iterator<Item = impl Fn() -> Key + 'a> {
    keys.into_iter().flat_map(move |keys| rows.clone().map(move |row| move || keys.get(row)))
}

/// Compares rows that belong together, one by one.
fn compare_rows(
    shape: &Shape,
    partition: &impl Fn() -> Option<String>,
    left: &RecordBatch,
    right: &RecordBatch,
    found: &mut Found,
) -> Result<()> {
    let mut changed: Vec<(usize, usize)> = Vec::new();
    for (pair, (a, b)) in shape.pairs.iter().enumerate() {
        let rows = value::differing(&shape.snapshot[*a].kind, left.column(*a), right.column(*b));
        changed.extend(rows.into_iter().map(|row| (row, pair)));
    }
    changed.sort_unstable();
    let keys = Keys::of(left, &shape.key)?;
    let mut last_row = None;
    for (row, pair) in changed {
        found.changed_rows += u64::from(last_row != Some(row));
        last_row = Some(row);
        found.add(Kind::Changed, || {
            let (a, b) = shape.pairs[pair];
            let column = &shape.snapshot[a];
            let (snapshot, server) =
                value::rendered(&column.kind, (left.column(a), row), (right.column(b), row));
            let (partition, key, field) = (partition(), keys.get(row), column.name.clone());
            Finding::Changed { partition, key, field, snapshot, server }
        });
    }
    Ok(())
}

/// Consecutive rows that have the same fate.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Run {
    /// Rows of the left side that meet none of the right.
    Missing(Range<usize>),
    /// Rows of the right side that meet none of the left.
    Extra(Range<usize>),
    /// Rows with the same keys, from a position on each side.
    Both { left: usize, right: usize, rows: usize },
}

/// The rows of two ascending lists of keys in runs, until one of the lists ends: what follows on
/// the other cannot be judged yet.
fn align(left: &Keys, right: &Keys) -> Result<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        let order = match (left, right) {
            (Keys::Int(left), Keys::Int(right)) => left[i].cmp(&right[j]),
            (Keys::Text(left), Keys::Text(right)) => left.value(i).cmp(right.value(j)),
            _ => return Err(Error::internal("keys of different types are compared")),
        };
        match (order, runs.last_mut()) {
            (Ordering::Less, Some(Run::Missing(rows))) => rows.end += 1,
            (Ordering::Less, _) => runs.push(Run::Missing(i..i + 1)),
            (Ordering::Greater, Some(Run::Extra(rows))) => rows.end += 1,
            (Ordering::Greater, _) => runs.push(Run::Extra(j..j + 1)),
            (Ordering::Equal, Some(Run::Both { rows, .. })) => *rows += 1,
            (Ordering::Equal, _) => runs.push(Run::Both { left: i, right: j, rows: 1 }),
        }
        i += usize::from(order != Ordering::Greater);
        j += usize::from(order != Ordering::Less);
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::{field, schema};
    use super::super::shape::{self, Side};
    use super::*;
    use crate::columns::arrow_schema;
    use crate::schema::FieldType;
    use crate::select::AutoId;
    use arrow_array::{ArrayRef, Float32Array, Int64Array, StringArray};

    fn int_shape() -> Arc<Shape> {
        let fields = vec![
            field("title", FieldType::VarChar { max_length: 99 }),
            field("id", FieldType::Int64),
            field("x", FieldType::Float),
        ];
        let schema = schema(fields, false);
        let side = Side { schema: &schema, partitions: &[] };
        Arc::new(shape::compare(side, side, AutoId::Preserve).1.unwrap())
    }

    type Row = (i64, &'static str, f32);

    fn batch(rows: &[Row]) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
            Arc::new(Float32Array::from_iter_values(rows.iter().map(|r| r.2))),
        ];
        RecordBatch::try_new(arrow_schema(&int_shape().snapshot), columns).unwrap()
    }

    /// Merges rows that come in batches of these sizes, the last one repeated.
    async fn merged(left: &[Row], right: &[Row], sizes: (&[usize], &[usize])) -> Merged {
        let batches = |rows: &[Row], sizes: &[usize]| {
            let mut batches = Vec::new();
            let mut sizes = sizes.iter().copied().chain(std::iter::repeat(*sizes.last().unwrap()));
            let mut at = 0;
            while at < rows.len() {
                let end = (at + sizes.next().unwrap()).min(rows.len());
                batches.push(batch(&rows[at..end]));
                at = end;
            }
            batches.into_iter()
        };
        let (mut left, mut right) = (batches(left, sizes.0), batches(right, sizes.1));
        merge(&int_shape(), Some("p"), &mut left, &mut right).await.unwrap()
    }

    /// In all ways in which pages may end; the findings must not depend on them.
    async fn findings(left: &[Row], right: &[Row]) -> (Vec<Finding>, u64) {
        let all: [&[usize]; 5] = [&[1], &[2], &[1, 3, 2], &[0, 4], &[99]];
        let mut first: Option<(Found, u64)> = None;
        for a in all {
            for b in all {
                let merged = merged(left, right, (a, b)).await;
                let result = (merged.found, merged.compared);
                assert_eq!(first.get_or_insert_with(|| result.clone()), &result, "{a:?} {b:?}");
            }
        }
        let (found, compared) = first.unwrap();
        let kept: Vec<_> = Kind::ALL.iter().flat_map(|kind| found.kept(*kind).to_vec()).collect();
        assert_eq!(kept.len() as u64, found.all());
        (kept, compared)
    }

    fn missing(key: i64) -> Finding {
        Finding::Missing { partition: Some("p".into()), key: Key::Int(key) }
    }

    fn extra(key: i64) -> Finding {
        Finding::Extra { partition: Some("p".into()), key: Key::Int(key) }
    }

    fn changed(key: i64, field: &str, snapshot: &str, server: &str) -> Finding {
        Finding::Changed {
            partition: Some("p".into()),
            key: Key::Int(key),
            field: field.into(),
            snapshot: snapshot.into(),
            server: server.into(),
        }
    }

    const ROWS: [Row; 6] = [
        (i64::MIN, "a", 0.0),
        (-3, "b", 1.0),
        (0, "c", 2.0),
        (7, "d", 3.0),
        (8, "e", 4.0),
        (i64::MAX, "f", 5.0),
    ];

    #[tokio::test]
    async fn equal_rows_have_no_findings() {
        assert_eq!(findings(&ROWS, &ROWS).await, (vec![], 6));
        assert_eq!(findings(&[], &[]).await, (vec![], 0));
    }

    #[tokio::test]
    async fn a_row_that_one_side_lacks_is_named_wherever_it_stands() {
        for gone in 0..ROWS.len() {
            let mut fewer = ROWS.to_vec();
            let key = fewer.remove(gone).0;
            assert_eq!(findings(&ROWS, &fewer).await, (vec![missing(key)], 5));
            assert_eq!(findings(&fewer, &ROWS).await, (vec![extra(key)], 5));
        }
        let keys = || ROWS.iter().map(|row| row.0);
        assert_eq!(findings(&ROWS, &[]).await, (keys().map(missing).collect(), 0));
        assert_eq!(findings(&[], &ROWS).await, (keys().map(extra).collect(), 0));
        let both = findings(&ROWS[..3], &ROWS[3..]).await;
        let expected = keys().take(3).map(missing).chain(keys().skip(3).map(extra)).collect();
        assert_eq!(both, (expected, 0));
    }

    #[tokio::test]
    async fn every_changed_field_is_named() {
        for at in 0..ROWS.len() {
            let mut other = ROWS;
            other[at].2 += 0.5;
            let key = ROWS[at].0;
            let (was, is) = (format!("{:?}", ROWS[at].2), format!("{:?}", other[at].2));
            assert_eq!(findings(&ROWS, &other).await, (vec![changed(key, "x", &was, &is)], 6));
        }
        let mut other = ROWS;
        other[0].2 = -0.0;
        other[3].1 = "D";
        other[3].2 = f32::INFINITY;
        let expected = vec![
            changed(i64::MIN, "x", "0.0", "-0.0"),
            changed(7, "title", "\"d\"", "\"D\""),
            changed(7, "x", "3.0", "inf"),
        ];
        assert_eq!(findings(&ROWS, &other).await, (expected, 6));
        assert_eq!(merged(&ROWS, &other, (&[4], &[5])).await.found.changed_rows, 2);
    }

    #[tokio::test]
    async fn a_key_that_one_side_has_twice_is_left_over() {
        let twice = [ROWS[1], ROWS[2], ROWS[2], ROWS[3]];
        let once = [ROWS[1], ROWS[2], ROWS[3]];
        assert_eq!(findings(&twice, &once).await, (vec![missing(0)], 3));
        assert_eq!(findings(&once, &twice).await, (vec![extra(0)], 3));
    }

    #[tokio::test]
    async fn mixed_differences_are_all_found() {
        let server = [(-4, "new", 0.5), ROWS[1], (0, "C", 2.0), (5, "new", 0.5), ROWS[4], (9, "new", 0.5)];
        let (findings, compared) = findings(&ROWS, &server).await;
        assert_eq!(compared, 3);
        assert_eq!(
            findings,
            [
                missing(i64::MIN),
                missing(7),
                missing(i64::MAX),
                extra(-4),
                extra(5),
                extra(9),
                changed(0, "title", "\"c\"", "\"C\""),
            ]
        );
    }

    #[test]
    fn text_keys_meet_by_their_bytes() {
        let keys = |texts: &[&str]| StringArray::from(texts.to_vec());
        let (left, right) =
            (keys(&["", "Z", "a", "é", "\u{ffff}"]), keys(&["", "a", "\u{ffff}", "\u{10000}"]));
        assert_eq!(
            align(&Keys::Text(&left), &Keys::Text(&right)).unwrap(),
            [
                Run::Both { left: 0, right: 0, rows: 1 },
                Run::Missing(1..2),
                Run::Both { left: 2, right: 1, rows: 1 },
                Run::Missing(3..4),
                Run::Both { left: 4, right: 2, rows: 1 },
            ]
        );
        assert!(align(&Keys::Text(&left), &Keys::Int(&[1])).is_err());
    }
}
