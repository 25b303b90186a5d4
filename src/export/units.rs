//! Step 5: cutting collections into ranges that workers can export side by side.
//!
//! By partition first (rows do not carry theirs), unless rows are placed by a partition key; then
//! by ranges of keys with about the same number of rows, found with filtered counts and single
//! keys. There are several times more ranges than workers and the largest are exported first, so
//! that no worker is left alone with a large one at the end.

use super::Moment;
use super::key_space::{between, beyond};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::milvus::{Client, Scan, View};
use crate::pages;
use crate::schema::Key;
use crate::snapshot::{CollectionMeta, Unit, keys};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::HashMap;

/// Pages below which a range is not cut further: smaller ones cost more requests than they save.
const SPLIT_PAGES: u64 = 2;

/// Ranges for each worker, if all collections are cut as finely as they should.
const UNITS_PER_WORKER: u64 = 4;

/// Requests that looking for one boundary may take.
const MAX_PROBES: usize = 32;

/// The units of an export.
pub struct Units {
    /// Every range of every collection, exactly once.
    pub units: Vec<Unit>,
    /// About how many rows each unit has, by its id: for progress and the order of work only.
    pub rows: HashMap<String, u64>,
}

/// Cuts so that `jobs` workers are busy to the end. `moment` is the one at which rows will be read.
pub async fn cut(
    source: &Client,
    collections: &[CollectionMeta],
    moment: Moment,
    jobs: usize,
) -> Result<Units> {
    let mut ranges = Vec::new();
    let mut total = 0;
    for (index, meta) in collections.iter().enumerate() {
        // Ranges and progress need no exact counts; meanwhile the server's clock comes to pass the view.
        let view = moment.of(meta).for_estimates();
        let by_partition = !meta.schema.has_partition_key() && !meta.partitions.is_empty();
        let partitions: Vec<Option<&str>> = if by_partition {
            meta.partitions.iter().map(|p| Some(p.as_str())).collect()
        } else {
            vec![None]
        };
        for partition in partitions {
            let range = Range { source, meta, partition, view };
            let rows = range.count(None).await.context(|| format!("counting {}", meta.name))?;
            total += rows;
            ranges.push((index, range, rows));
        }
    }
    let wanted = UNITS_PER_WORKER * jobs as u64;
    let mut cut = Units { units: Vec::new(), rows: HashMap::new() };
    for (collection, range, rows) in ranges {
        let share = (u128::from(rows) * u128::from(wanted)).div_ceil(u128::from(total.max(1))) as u64;
        let page_rows = u64::from(pages::typical_page_rows(&collections[collection].schema.columns()));
        let pieces = share.min(rows / (SPLIT_PAGES * page_rows)).max(1);
        let bounds = match boundaries(&range, rows, pieces).await {
            // Such as a key that this server cannot be asked about. Ranges are only for speed.
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                tracing::debug!("{} is not cut into ranges: {e}", collections[collection].name);
                Vec::new()
            }
            bounds => bounds?,
        };
        let mut after = None;
        let mut before = 0;
        for (up_to, below) in bounds.into_iter().map(|(key, below)| (Some(key), below)).chain([(None, rows)])
        {
            let id = keys::unit_id(cut.units.len());
            let partition = range.partition.map(str::to_string);
            cut.rows.insert(id.clone(), below.saturating_sub(before));
            let next = up_to.clone();
            cut.units.push(Unit { id, collection, partition, after, up_to });
            (after, before) = (next, below);
        }
    }
    Ok(cut)
}

/// About how many rows each of `units` has, by its id, for units that were cut by an earlier run.
pub async fn estimate(
    source: &Client,
    collections: &[CollectionMeta],
    units: Vec<&Unit>,
    moment: Moment,
    jobs: usize,
) -> Result<HashMap<String, u64>> {
    let count = |unit: &Unit| {
        let meta = &collections[unit.collection];
        let (partition, view) = (unit.partition.clone(), moment.of(meta).for_estimates());
        let (id, after, up_to) = (unit.id.clone(), unit.after.clone(), unit.up_to.clone());
        async move {
            let range = Range { source, meta, partition: partition.as_deref(), view };
            let rows = range.count_between(after.as_ref(), up_to.as_ref()).await;
            Ok((id, rows.context(|| format!("counting {}", meta.name))?))
        }
    };
    stream::iter(units.into_iter().map(count)).buffer_unordered(jobs).try_collect().await
}

/// Gaps after which it is searched how far the keys behind them reach, for one boundary.
const MAX_GAPS: usize = 2;

/// A key, and how many rows have one that is not greater.
type Bound = (Key, u64);

/// The rows of one partition (or all), about which counts are asked.
struct Range<'a> {
    source: &'a Client,
    meta: &'a CollectionMeta,
    partition: Option<&'a str>,
    view: View,
}

/// Rows about whose keys can be asked.
trait Keyed {
    /// Rows whose key is not greater than `up_to`, or all.
    async fn count(&self, up_to: Option<&Key>) -> Result<u64>;
    /// The smallest key that is greater than `after`, or of all.
    async fn first_after(&self, after: Option<&Key>) -> Result<Option<Key>>;
}

impl Range<'_> {
    async fn count_between(&self, after: Option<&Key>, up_to: Option<&Key>) -> Result<u64> {
        let (name, schema) = (&self.meta.name, &self.meta.schema);
        if after.is_none() && up_to.is_none() {
            return self.source.count_partition(name, schema, self.partition, self.view).await;
        }
        let filter = self.source.range_filter(&schema.primary_key().name, after, up_to);
        self.source.count(name, self.partition, &filter, self.view).await.map_err(Error::from)
    }
}

impl Keyed for Range<'_> {
    async fn count(&self, up_to: Option<&Key>) -> Result<u64> {
        self.count_between(None, up_to).await
    }

    async fn first_after(&self, after: Option<&Key>) -> Result<Option<Key>> {
        let key_field = self.meta.schema.primary_key().name.clone();
        let scan = Scan {
            collection: self.meta.name.clone(),
            collection_id: self.meta.collection_id,
            partition: self.partition.map(str::to_string),
            key_field: key_field.clone(),
            up_to: None,
            among: Vec::new(),
            fields: vec![key_field],
            view: self.view,
        };
        let page = self.source.page(&scan, after, 1).await.map_err(Error::from)?;
        let keys = pages::decode_keys(&self.meta.schema, page.fields)?;
        Ok(keys.and_then(|keys| keys.into_iter().next()))
    }
}

/// Ascending keys that cut the rows into about `pieces` equal ranges. They need not be keys
/// of rows; a wrong guess only makes uneven ranges.
async fn boundaries(keys: &impl Keyed, rows: u64, pieces: u64) -> Result<Vec<Bound>> {
    if pieces < 2 {
        return Ok(Vec::new());
    }
    let Some(smallest) = keys.first_after(None).await? else { return Ok(Vec::new()) };
    // What is known of the keys, ascending: it helps to find every further boundary.
    let mut known: Vec<Bound> = vec![(smallest, 1)];
    let mut found: Vec<Bound> = Vec::new();
    let size = rows / pieces;
    for piece in 1..pieces {
        let target = (u128::from(rows) * u128::from(piece) / u128::from(pieces)) as u64;
        if found.last().is_some_and(|(_, below)| *below + size / 2 > target) {
            continue; // The range before this one came out larger.
        }
        let boundary = quantile(keys, target, size / 4, rows, &mut known).await?;
        let ascends = found.last().is_none_or(|(key, below)| *key < boundary.0 && *below < boundary.1);
        if ascends && boundary.1 > 0 && boundary.1 < rows {
            found.push(boundary);
        }
    }
    Ok(found)
}

/// A key with about `target` of all `rows` up to it. Guesses by interpolation, which is right at
/// once for evenly spread keys, and by halving in turn. Where a guess turns out to lie in a gap, the
/// next key that there is shows where the gap ends, and steps from there show how far the keys
/// reach: so keys in clusters far apart, or behind a long common prefix, take a few
/// requests more.
async fn quantile(
    keys: &impl Keyed,
    target: u64,
    tolerance: u64,
    rows: u64,
    known: &mut Vec<Bound>,
) -> Result<Bound> {
    let place = known.partition_point(|(_, below)| *below <= target);
    let mut low = known[place.saturating_sub(1)].clone();
    let mut high = known.get(place).map_or((None, rows), |(key, below)| (Some(key.clone()), *below));
    // Where the keys that are like `low` end: searched first, by halving, if nothing is known of it.
    let mut steps = if high.0.is_none() { beyond(&low.0, rows) } else { Vec::new() };
    let mut gaps = 0;
    for probe in 0..MAX_PROBES {
        if target.abs_diff(low.1) <= tolerance {
            break;
        }
        steps.retain(|key| *key > low.0 && high.0.as_ref().is_none_or(|high| key < high));
        let stepping = !steps.is_empty();
        let (part, whole) = if probe % 3 == 2 || high.1 <= low.1 {
            (1, 2)
        } else {
            (target.saturating_sub(low.1), high.1 - low.1)
        };
        let step = steps.get(steps.len() / 2).cloned();
        let guess = step.or_else(|| between(&low.0, high.0.as_ref(), part, whole));
        let Some(middle) = guess else { break };
        let below = keys.count(Some(&middle)).await?;
        let place = known.partition_point(|(key, _)| *key < middle);
        known.insert(place, (middle.clone(), below));
        if below > target {
            high = (Some(middle), below);
            if below - target <= tolerance {
                break;
            }
        } else if below > low.1 || stepping {
            low = (middle, below);
        } else {
            let Some(next) = keys.first_after(Some(&middle)).await? else { break };
            if high.0.as_ref().is_some_and(|high| next >= *high) {
                break;
            }
            gaps += 1;
            if gaps <= MAX_GAPS {
                steps = beyond(&next, rows);
            }
            low = (next, below + 1);
        }
    }
    // The nearer end; the upper one may be beyond all keys.
    Ok(match high {
        (Some(key), below) if below.abs_diff(target) < target.abs_diff(low.1) => (key, below),
        _ => low,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Keys in memory that count the questions.
    struct Sorted {
        keys: Vec<Key>,
        asked: Cell<usize>,
    }

    impl Keyed for Sorted {
        async fn count(&self, up_to: Option<&Key>) -> Result<u64> {
            self.asked.set(self.asked.get() + 1);
            Ok(up_to.map_or(self.keys.len(), |up_to| self.keys.partition_point(|key| key <= up_to)) as u64)
        }

        async fn first_after(&self, after: Option<&Key>) -> Result<Option<Key>> {
            self.asked.set(self.asked.get() + 1);
            let place = after.map_or(0, |after| self.keys.partition_point(|key| key <= after));
            Ok(self.keys.get(place).cloned())
        }
    }

    fn noise(seed: u64) -> u64 {
        let x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 3
    }

    type MakeKey = Box<dyn Fn(u64) -> Key>;

    const ROWS: u64 = 40_000;
    const PIECES: u64 = 16;

    /// Cuts the keys; gives the largest piece in parts of an even one, and the questions per boundary.
    async fn cut(name: &str, key: impl Fn(u64) -> Key) -> (f64, usize) {
        let mut keys: Vec<Key> = (0..ROWS).map(key).collect();
        keys.sort();
        keys.dedup();
        let sorted = Sorted { keys, asked: Cell::new(0) };
        let rows = sorted.keys.len() as u64;
        let bounds = boundaries(&sorted, rows, PIECES).await.unwrap();
        assert!(bounds.windows(2).all(|pair| pair[0].0 < pair[1].0), "{name}: {bounds:?}");
        let mut before = 0;
        let mut largest = 0;
        for below in bounds.iter().map(|(_, below)| *below).chain([rows]) {
            largest = largest.max(below - before);
            before = below;
        }
        (largest as f64 * PIECES as f64 / rows as f64, sorted.asked.get() / (PIECES as usize - 1))
    }

    #[tokio::test]
    async fn keys_of_any_distribution_are_cut_evenly_with_few_questions() {
        let text = |text: String| Key::Text(text);
        let cases: Vec<(&str, MakeKey)> = vec![
            ("dense", Box::new(|n| Key::Int(n as i64))),
            ("dense, negative", Box::new(|n| Key::Int(n as i64 - 20_000))),
            ("sparse", Box::new(|n| Key::Int(noise(n) as i64))),
            ("all of i64", Box::new(|n| Key::Int((noise(n) << 3) as i64))),
            (
                "auto ids",
                Box::new(|n| {
                    Key::Int((450_000_000_000_000_000 + (n / 1_000) * 40_000_000 + n % 1_000) as i64)
                }),
            ),
            (
                "two clusters",
                Box::new(|n| Key::Int(if n % 2 == 0 { n as i64 } else { (1 << 60) + n as i64 })),
            ),
            ("one far out", Box::new(|n| Key::Int(if n == 0 { i64::MIN } else { n as i64 * 3 }))),
            ("ever wider", Box::new(|n| Key::Int((1.001f64.powi(n as i32)) as i64 + n as i64))),
            ("numbered", Box::new(move |n| text(format!("{n}")))),
            ("padded", Box::new(move |n| text(format!("doc-{n:012}")))),
            ("hexadecimal", Box::new(move |n| text(format!("{:016x}", noise(n))))),
            (
                "long prefix",
                Box::new(move |n| {
                    text(format!("{}{:x}", "https://example.org/a/very/long/path/".repeat(3), noise(n)))
                }),
            ),
            (
                "longer than its prefix",
                Box::new(move |n| text(format!("tenant/documents/{:016x}{:08x}", noise(n), noise(n + 1)))),
            ),
            ("few prefixes", Box::new(move |n| text(format!("tenant-{}/item-{n:09}", n % 3)))),
            (
                "one far out, text",
                Box::new(move |n| text(if n == 0 { "A".into() } else { format!("doc-{n:012}") })),
            ),
            (
                "skewed",
                Box::new(move |n| {
                    text(format!("{}{:08x}", if n % 10 == 0 { "m" } else { "zz" }, noise(n) as u32))
                }),
            ),
            (
                "Greek",
                Box::new(move |n| {
                    text(
                        (0..6)
                            .map(|i| char::from_u32(0x3b1 + (noise(n) >> (i * 5)) as u32 % 24).unwrap())
                            .collect(),
                    )
                }),
            ),
        ];
        for (name, key) in cases {
            let (largest, asked) = cut(name, key).await;
            assert!(largest < 1.5, "{name}: the largest piece is {largest:.2} of an even one");
            assert!(asked <= 12, "{name}: {asked} questions for a boundary");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_cut_is_left_whole() {
        let (largest, _) = cut("one key", |_| Key::Int(7)).await;
        assert_eq!(largest, PIECES as f64);
        let sorted = Sorted { keys: Vec::new(), asked: Cell::new(0) };
        assert_eq!(boundaries(&sorted, 0, 4).await.unwrap(), []);
        // A server that counts as no server can.
        let sorted = Sorted { keys: vec![Key::Int(1), Key::Int(2)], asked: Cell::new(0) };
        let _ = boundaries(&sorted, u64::MAX, PIECES).await.unwrap();
    }
}
