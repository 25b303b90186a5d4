//! Level sample: some rows of every part, the newest rows, and whatever the server has beyond them.
//!
//! Which rows are drawn follows from the seed and the part's digest alone, so that anyone can draw
//! them again. The newest are those with the greatest keys: entities written last matter most when
//! applications move over.

use super::found::{Finding, Found};
use super::merge::{Batches, Merged, merge};
use super::rows::{Chain, PartRows, chains, chosen};
use super::{Options, Rows, Sides};
use crate::blocking::blocking;
use crate::columns::{Keys, wire_bytes};
use crate::digest::Sha256;
use crate::error::{Context, Error, Result};
use crate::milvus::Scan;
use crate::pages::{Reader, decode_keys, key_column};
use crate::progress::Progress;
use crate::schema::Key;
use crate::snapshot::Part;
use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeSet;

/// Bytes of rows that are looked up at once.
const LOOKUP_BYTES: usize = 8 << 20;

/// Keys that one request names.
const LOOKUP_KEYS: usize = 1_000;

/// Compares drawn rows of every part, and the newest rows of every partition.
pub(super) async fn compare(
    sides: &Sides,
    rows: &Rows<'_>,
    options: &Options,
    progress: &Progress,
) -> Result<Merged> {
    let chains = chains(&rows.job.source.parts);
    let wanted = options.rows_per_part as u64;
    let parts = chains.values().flat_map(|chain| newest(chain, wanted));
    let compare_one = |(part, newest): (&Part, u64)| {
        let picks = picks(part, wanted, newest, options.seed);
        compare_part(sides, rows, part.clone(), picks, options, progress)
    };
    let mut results = stream::iter(parts).map(compare_one).buffered(options.jobs);
    let mut all = Merged::default();
    while let Some(merged) = results.try_next().await? {
        all.compared += merged.compared;
        all.found.append(merged.found);
    }
    let greatest = rows.job.source.parts.iter().map(|part| &part.last).max();
    all.found.append(beyond(sides, rows, greatest, options.rows_per_part).await?);
    Ok(all)
}

/// How many of the `wanted` greatest keys of a chain are in each of its parts.
fn newest<'a>(chain: &Chain<'a>, wanted: u64) -> Vec<(&'a Part, u64)> {
    let mut missing = wanted;
    let mut of_part = |part: &&'a Part| {
        let here = missing.min(part.rows);
        missing -= here;
        (*part, here)
    };
    let mut parts: Vec<_> = chain.iter().rev().map(&mut of_part).collect();
    parts.reverse();
    parts
}

/// Row numbers of a part: `random` different ones, drawn by the seed, and the last `newest`.
fn picks(part: &Part, random: u64, newest: u64, seed: u32) -> BTreeSet<u64> {
    let mut drawn = BTreeSet::new();
    // Floyd's way to draw different numbers: as many draws as numbers.
    for (draw, end) in (part.rows.saturating_sub(random)..part.rows).enumerate() {
        let digest = Sha256::of(format!("{seed} {} {draw}", part.sha256).as_bytes());
        // 16 hexadecimal digits are a u64.
        let number = u64::from_str_radix(&digest.prefix(16), 16).unwrap_or_default() % (end + 1);
        if !drawn.insert(number) {
            drawn.insert(end);
        }
    }
    drawn.extend(part.rows - newest..part.rows);
    drawn
}

/// Reads a part, and looks up the picked rows whenever some megabytes of them are at hand.
async fn compare_part(
    sides: &Sides,
    rows: &Rows<'_>,
    part: Part,
    picks: BTreeSet<u64>,
    options: &Options,
    progress: &Progress,
) -> Result<Merged> {
    let shape = &rows.shape;
    let mut reader = PartRows::new(sides.store.clone(), shape.clone(), &[&part], progress.clone());
    let mut merged = Merged::default();
    let mut picked = Vec::new();
    let mut bytes = 0;
    let mut start = 0;
    while let Some(batch) = reader.next().await? {
        let end = start + batch.num_rows() as u64;
        let here: Vec<u32> = picks.range(start..end).map(|row| (row - start) as u32).collect();
        start = end;
        if !here.is_empty() {
            let batch = blocking(move || chosen(&batch, here)).await?;
            bytes += wire_bytes(&batch);
            picked.push(batch);
        }
        if bytes > LOOKUP_BYTES {
            look_up(sides, rows, &part, std::mem::take(&mut picked), options, &mut merged).await?;
            bytes = 0;
        }
    }
    look_up(sides, rows, &part, picked, options, &mut merged).await?;
    Ok(merged)
}

/// Compares picked rows with what the server has under their keys.
async fn look_up(
    sides: &Sides,
    rows: &Rows<'_>,
    part: &Part,
    picked: Vec<RecordBatch>,
    options: &Options,
    merged: &mut Merged,
) -> Result<()> {
    let Some(first) = picked.first() else { return Ok(()) };
    let picked = concat_batches(&first.schema(), &picked)
        .map_err(|e| Error::internal("picked rows do not form a batch").because(e))?;
    let shape = &rows.shape;
    let partition = part.partition.as_deref().filter(|_| rows.job.attributed());
    let on_server = partition.is_none_or(|p| rows.job.partitions.iter().any(|name| name == p));
    for start in (0..picked.num_rows()).step_by(LOOKUP_KEYS) {
        let some = picked.slice(start, LOOKUP_KEYS.min(picked.num_rows() - start));
        let keys = Keys::of(&some, &shape.key)?;
        let among: Vec<Key> = (0..keys.len()).map(|row| keys.get(row)).collect();
        let theirs = match on_server {
            true => rows_of(sides, rows, partition, among, options.page_rows)
                .await
                .context(|| "looking rows up by their keys")?,
            false => Vec::new(),
        };
        let (mut ours, mut theirs) = (vec![some].into_iter(), theirs.into_iter());
        let step = merge(shape, partition, &mut ours, &mut theirs).await?;
        merged.compared += step.compared;
        merged.found.append(step.found);
    }
    Ok(())
}

/// The server's rows with these keys, which ascend; they come as pages do, so that of rows which
/// share a key the same one counts as in an export.
async fn rows_of(
    sides: &Sides,
    rows: &Rows<'_>,
    partition: Option<&str>,
    among: Vec<Key>,
    page_rows: u32,
) -> Result<Vec<RecordBatch>> {
    let greatest = among.last().cloned();
    let scan = Scan { among, ..rows.scan(partition) };
    let mut pages = Reader::new(sides.server.clone(), scan, rows.shape.server.clone(), None, page_rows);
    let mut found = Vec::new();
    while let Some((page, _)) = pages.next().await? {
        let last = Keys::of(&page, &rows.shape.key)?.last();
        found.push(page);
        // Behind the greatest key there is nothing to ask for.
        if last == greatest {
            break;
        }
    }
    Ok(found)
}

/// Rows of the server with keys greater than the greatest of the snapshot: at most `wanted`.
async fn beyond(sides: &Sides, rows: &Rows<'_>, greatest: Option<&Key>, wanted: u32) -> Result<Found> {
    let schema = &rows.job.source.meta.schema;
    let scan = Scan { fields: vec![key_column(schema).name], ..rows.scan(None) };
    let page = sides.server.page(&scan, greatest, wanted).await.map_err(Error::from);
    let page = page.context(|| "looking for newer rows")?;
    let mut found = Found::default();
    for key in decode_keys(schema, page.fields)?.into_iter().flatten().take(wanted as usize) {
        found.push(Finding::Extra { partition: None, key });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::part;
    use super::*;

    fn sized(rows: u64, first: i64) -> Part {
        Part { rows, ..part(None, first, first + rows as i64 - 1) }
    }

    #[test]
    fn the_newest_rows_are_in_the_last_parts() {
        let parts = [sized(10, 0), sized(3, 10), sized(4, 13)];
        let chain: Chain = parts.iter().collect();
        let tails = |wanted| newest(&chain, wanted).iter().map(|(_, rows)| *rows).collect::<Vec<_>>();
        assert_eq!(tails(3), [0, 0, 3]);
        assert_eq!(tails(6), [0, 2, 4]);
        assert_eq!(tails(99), [10, 3, 4]);
    }

    #[test]
    fn draws_are_different_repeatable_and_within_the_part() {
        let part = sized(1_000, 0);
        let draw = |seed| picks(&part, 50, 0, seed);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_eq!(draw(1).len(), 50);
        assert!(draw(1).iter().all(|row| *row < 1_000));
        let (low, high) = (draw(1).first().copied(), draw(1).last().copied());
        assert!(low < Some(200) && high > Some(800), "{low:?} {high:?}");
        assert!(picks(&part, 50, 3, 1).is_superset(&[997, 998, 999].into()));
        assert_eq!(picks(&sized(5, 0), 50, 5, 1).len(), 5);
        assert_eq!(picks(&sized(1, 0), 1, 0, 7), [0].into());
    }

    #[test]
    fn every_row_is_as_likely_as_another() {
        let mut seen = [0; 20];
        for seed in 0..2_000 {
            picks(&sized(20, 0), 5, 0, seed).into_iter().for_each(|row| seen[row as usize] += 1);
        }
        assert!(seen.iter().all(|times| (380..620).contains(times)), "{seen:?}");
    }
}
