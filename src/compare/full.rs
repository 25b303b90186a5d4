//! Level full: every row and field, by a merge over primary keys in bounded memory.
//!
//! A collection is cut at the ends of its parts, so that several ranges are compared side by side;
//! the ranges leave no key out, so that rows before, between and behind the parts are seen too.

use super::merge::{Merged, merge};
use super::rows::{Chain, Interleaved, PartRows, chains};
use super::{Options, Rows, Sides};
use crate::error::{Context, Error, Result};
use crate::milvus::Scan;
use crate::pages::Reader;
use crate::progress::Progress;
use crate::schema::Key;
use arrow_array::RecordBatch;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Batches of the server that wait for the merge: one, so that the next page is asked for while
/// this one is compared, and no more is held.
const BATCHES_IN_FLIGHT: usize = 1;

/// Compares every row of a collection. With a view that is pinned, all of them as of one moment.
pub(super) async fn compare(
    sides: &Sides,
    rows: &Rows<'_>,
    options: &Options,
    progress: &Progress,
) -> Result<Merged> {
    let partitions = rows.job.attributed().then_some(rows.job.partitions.as_slice());
    let ranges = ranges(chains(&rows.job.source.parts), partitions);
    let compare_one = |range| compare_range(sides, rows, range, options, progress);
    // In order, so that the findings that are kept are those with the smallest keys.
    let mut results = stream::iter(ranges).map(compare_one).buffered(options.jobs);
    let mut all = Merged::default();
    while let Some(merged) = results.try_next().await? {
        all.compared += merged.compared;
        all.found.append(merged.found);
    }
    Ok(all)
}

/// What one worker compares.
#[derive(Debug, PartialEq, Eq)]
struct Range<'a> {
    /// The partition of its rows, where rows are attributed to partitions.
    partition: Option<&'a str>,
    /// Whether the server has that partition; if not, it has none of the rows.
    on_server: bool,
    /// Only rows with a greater key.
    after: Option<Key>,
    /// Only rows with at most this key.
    up_to: Option<Key>,
    /// The parts that hold them.
    chains: Vec<Chain<'a>>,
}

/// Every key of every partition exactly once. `partitions` are the server's, where it can be asked
/// for the rows of one.
fn ranges<'a>(
    mut chains: BTreeMap<Option<&'a str>, Chain<'a>>,
    partitions: Option<&'a [String]>,
) -> Vec<Range<'a>> {
    let Some(partitions) = partitions else {
        if chains.len() <= 1 {
            return cut(None, true, chains.into_values().next().unwrap_or_default());
        }
        let chains = chains.into_values().collect();
        return vec![Range { partition: None, on_server: true, after: None, up_to: None, chains }];
    };
    let mut ranges = Vec::new();
    for partition in partitions {
        let chain = chains.remove(&Some(partition.as_str())).unwrap_or_default();
        ranges.extend(cut(Some(partition), true, chain));
    }
    for (partition, chain) in chains {
        ranges.extend(cut(partition, false, chain));
    }
    ranges
}

/// One range a part, from the end of the part before it; the last one has no end.
fn cut<'a>(partition: Option<&'a str>, on_server: bool, chain: Chain<'a>) -> Vec<Range<'a>> {
    let range = |after, up_to, chains| Range { partition, on_server, after, up_to, chains };
    let Some((last, others)) = chain.split_last() else {
        return vec![range(None, None, Vec::new())];
    };
    let mut ranges = Vec::new();
    let mut after = None;
    for part in others {
        ranges.push(range(after, Some(part.last.clone()), vec![vec![*part]]));
        after = Some(part.last.clone());
    }
    ranges.push(range(after, None, vec![vec![*last]]));
    ranges
}

async fn compare_range(
    sides: &Sides,
    rows: &Rows<'_>,
    range: Range<'_>,
    options: &Options,
    progress: &Progress,
) -> Result<Merged> {
    let shape = &rows.shape;
    let open = |chain: &Chain| PartRows::new(sides.store.clone(), shape.clone(), chain, progress.clone());
    let mut snapshot = Interleaved::new(range.chains.iter().map(open).collect(), &shape.key);
    if !range.on_server {
        return merge(shape, range.partition, &mut snapshot, &mut Vec::new().into_iter()).await;
    }
    let scan = Scan { up_to: range.up_to, ..rows.scan(range.partition) };
    let mut pages =
        Reader::new(sides.server.clone(), scan, shape.server.clone(), range.after, options.page_rows);
    let (sender, mut receiver) = mpsc::channel::<RecordBatch>(BATCHES_IN_FLIGHT);
    let read = async move {
        while let Some((batch, bytes)) = pages.next().await.context(|| "reading the server")? {
            progress.add(0, bytes as u64);
            if sender.send(batch).await.is_err() {
                break; // The merge has failed and says why.
            }
        }
        Ok::<_, Error>(())
    };
    let merging = merge(shape, range.partition, &mut snapshot, &mut receiver);
    let ((), merged) = tokio::try_join!(read, merging)?;
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::part;
    use super::*;
    use crate::snapshot::Part;

    fn described(parts: &[Part], partitions: Option<&[&str]>) -> Vec<String> {
        let names = partitions.map(|p| p.iter().map(|n| n.to_string()).collect::<Vec<_>>());
        let ranges = ranges(chains(parts), names.as_deref());
        let end = |key: &Option<Key>| key.as_ref().map_or("..".into(), Key::to_string);
        let line = |r: &Range| {
            let parts: Vec<_> =
                r.chains.iter().map(|c| c.iter().map(|p| p.first.to_string()).collect()).collect();
            let parts: Vec<String> = parts.iter().map(|c: &Vec<String>| c.join("+")).collect();
            let on_server = if r.on_server { "" } else { " (not there)" };
            let partition = r.partition.unwrap_or("-");
            format!("{partition}{on_server}: ({}, {}] {}", end(&r.after), end(&r.up_to), parts.join("|"))
        };
        ranges.iter().map(line).map(|l| l.trim_end().to_string()).collect()
    }

    #[test]
    fn ranges_cover_every_key_once() {
        assert_eq!(described(&[], None), ["-: (.., ..]"]);
        let parts = [part(None, 1, 5), part(None, 8, 9), part(None, 20, 30)];
        assert_eq!(described(&parts, None), ["-: (.., 5] 1", "-: (5, 9] 8", "-: (9, ..] 20"]);
    }

    #[test]
    fn partitions_are_compared_one_by_one_where_the_server_has_them() {
        let parts =
            [part(Some("a"), 1, 5), part(Some("b"), 2, 3), part(Some("a"), 6, 7), part(Some("c"), 4, 4)];
        assert_eq!(
            described(&parts, Some(&["b", "empty", "a"])),
            ["b: (.., ..] 2", "empty: (.., ..]", "a: (.., 5] 1", "a: (5, ..] 6", "c (not there): (.., ..] 4"]
        );
        assert_eq!(described(&parts, None), ["-: (.., ..] 1+6|2|4"]);
    }
}
