//! Step 8: the proof that nothing is missing.
//!
//! On a server without pins the keys of every unit are scanned a second time and must digest to
//! the same value: a row that came, went or was skipped shows. Then `count(*)` must agree with
//! the rows exported; where it is larger, every surplus row must share its key with an exported
//! one, since servers count such rows and hand out only the newest.

use super::unit::scan;
use super::{Effort, Moment, source_changed};
use crate::columns::Keys;
use crate::digest::Hasher;
use crate::error::{Code, Context, Error, ErrorKind, Result};
use crate::milvus::{Client, ServerKind, View};
use crate::pages::{Reader, key_column};
use crate::schema::Key;
use crate::snapshot::{CollectionMeta, CollectionResult, Consistency, Counts, Plan, Receipt, Unit};
use futures::stream::{self, StreamExt, TryStreamExt};

/// Checks every collection of the plan; `receipts` are in the order of its units.
pub async fn all(
    source: &Client,
    plan: &Plan,
    receipts: &[Receipt],
    effort: Effort,
) -> Result<Vec<CollectionResult>> {
    let units: Vec<_> = plan.units.iter().zip(receipts).collect();
    // One for all that is asked: each new one waits for the server's time tick.
    let moment = Moment::now(source, &plan.collections).await?;
    let rescanned = stream::iter(&units)
        .map(|(unit, receipt)| {
            let meta = &plan.collections[unit.collection];
            let check = async move {
                if plan.request.allow_writes || meta.pin.is_some() {
                    return Ok(());
                }
                same_keys(source, meta, unit, receipt, moment.of(meta), effort.page_rows).await
            };
            async move { check.await.context(|| format!("check of {}", meta.name)) }
        })
        .buffer_unordered(effort.jobs);
    rescanned.try_collect::<()>().await?;

    let mut results = Vec::new();
    for (index, meta) in plan.collections.iter().enumerate() {
        let own: Vec<_> = units.iter().filter(|(unit, _)| unit.collection == index).copied().collect();
        let result = collection(source, plan, meta, &own, moment.of(meta), effort.page_rows).await;
        results.push(result.context(|| format!("check of {}", meta.name))?);
    }
    Ok(results)
}

async fn collection(
    source: &Client,
    plan: &Plan,
    meta: &CollectionMeta,
    units: &[(&Unit, &Receipt)],
    view: View,
    page_rows: u32,
) -> Result<CollectionResult> {
    same_collection(source, meta).await?;
    let rows: u64 = units.iter().map(|(_, receipt)| receipt.rows).sum();
    let server = source.count(&meta.name, None, "", view).await.map_err(Error::from)?;
    let (consistency, shared_keys) = if plan.request.allow_writes && meta.pin.is_none() {
        (Consistency::Unchecked, 0)
    } else {
        let consistency = meta.pin.map_or(Consistency::Checked, Consistency::Pinned);
        (consistency, explain_surplus(source, meta, units, (rows, server), view, page_rows).await?)
    };
    Ok(CollectionResult {
        meta: meta.clone(),
        consistency,
        counts: Counts { server, shared_keys },
        parts: units.iter().flat_map(|(_, receipt)| receipt.parts.clone()).collect(),
    })
}

/// Why reading failed: what the server answers after a collection was dropped, made anew or
/// changed says little of it.
pub async fn why(source: &Client, plan: &Plan, error: Error) -> Error {
    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::Integrity) {
        for meta in &plan.collections {
            match same_collection(source, meta).await {
                Err(changed) if changed.kind() == ErrorKind::SourceChanged => {
                    return changed.because(error).context(format!("export of {}", meta.name));
                }
                _ => {}
            }
        }
    }
    error
}

/// The name must still mean the collection that was planned, with the same schema.
pub async fn same_collection(source: &Client, meta: &CollectionMeta) -> Result<()> {
    let now = source.describe(&meta.name).await?;
    let same = now
        .as_ref()
        .is_some_and(|now| now.id == meta.collection_id && now.schema.as_ref().ok() == Some(&meta.schema));
    if same {
        return Ok(());
    }
    let what = match now {
        None => "it was dropped during the export",
        Some(now) if now.id != meta.collection_id => "it was dropped and created again during the export",
        Some(_) => "its schema was changed during the export",
    };
    Err(source_changed(what.to_string()))
}

/// Scans a unit's keys again.
async fn same_keys(
    source: &Client,
    meta: &CollectionMeta,
    unit: &Unit,
    receipt: &Receipt,
    view: View,
    page_rows: u32,
) -> Result<()> {
    let column = key_column(&meta.schema);
    let scan = scan(meta, unit, vec![column.name.clone()], view);
    let mut reader = Reader::new(source.clone(), scan, vec![column.clone()], unit.after.clone(), page_rows);
    let mut digest = Hasher::default();
    let mut rows: u64 = 0;
    while let Some((batch, _)) = reader.next().await? {
        let keys = Keys::of(&batch, &column.name)?;
        keys.hash_into(&mut digest);
        rows += keys.len() as u64;
    }
    if rows == receipt.rows && digest.finish() == receipt.keys_sha256 {
        return Ok(());
    }
    let place = unit.partition.as_ref().map(|p| format!(" in partition {p:?}")).unwrap_or_default();
    Err(source_changed(format!(
        "rows were written or deleted during the export{place}: {} keys were exported, a second scan finds {rows}{}",
        receipt.rows,
        if rows == receipt.rows { ", not the same ones" } else { "" },
    )))
}

/// How many of the rows that the server counts share a key with an exported row. Anything else
/// that it counts and does not hand out is an error.
async fn explain_surplus(
    source: &Client,
    meta: &CollectionMeta,
    units: &[(&Unit, &Receipt)],
    (rows, server): (u64, u64),
    view: View,
    page_rows: u32,
) -> Result<u64> {
    if server == rows {
        return Ok(0);
    }
    if server < rows {
        let changed =
            source_changed(format!("{rows} rows were exported, but the server now counts {server}"));
        return Err(match source.info.kind {
            ServerKind::Milvus => changed,
            _ => changed.also_hint(
                "Milvus Lite counts a key that stands in several partitions once, but hands out each: delete all but one",
            ),
        });
    }
    let mut explained = 0;
    let mut examples = Vec::new();
    for (unit, _) in units {
        explained += shared_in_unit(source, meta, unit, view, page_rows, &mut examples).await?;
    }
    if explained == server - rows {
        tracing::warn!(
            "{}: {explained} rows share a key with a newer row, such as {}",
            meta.name,
            examples.join(", ")
        );
        return Ok(explained);
    }
    Err(Error::new(
        Code::Count,
        format!(
            "the server counts {server} rows, but hands out {rows}; {explained} of the missing ones share a key with \
             a newer row, {} are not explained",
            server - rows - explained.min(server - rows)
        ),
    )
    .hint(
        "before 2.6 a row with the key 9223372036854775807 cannot be read; otherwise compact or reload the collection \
         on the source and export again",
    ))
}

/// Rows of one unit that are counted under an exported key beyond the one that is handed out. The
/// keys are paged once more; per page, the count of its range must be the count of its keys.
async fn shared_in_unit(
    source: &Client,
    meta: &CollectionMeta,
    unit: &Unit,
    view: View,
    page_rows: u32,
    examples: &mut Vec<String>,
) -> Result<u64> {
    let count = |filter: String| async move {
        source.count(&meta.name, unit.partition.as_deref(), &filter, view).await.map_err(Error::from)
    };
    let column = key_column(&meta.schema);
    let mut reader = Reader::new(
        source.clone(),
        scan(meta, unit, vec![column.name.clone()], view),
        vec![column.clone()],
        unit.after.clone(),
        page_rows,
    );
    let mut after = unit.after.clone();
    let mut shared = 0;
    while let Some((batch, _)) = reader.next().await? {
        let keys = Keys::of(&batch, &column.name)?;
        let last = keys.last();
        let counted = count(source.range_filter(&column.name, after.as_ref(), last.as_ref())).await?;
        if counted > keys.len() as u64 {
            let listed: Vec<Key> = (0..keys.len()).map(|row| keys.get(row)).collect();
            for some in listed.chunks(KEYS_PER_COUNT) {
                let with_these = count(source.list_filter(&column.name, some)).await?;
                let surplus = with_these.saturating_sub(some.len() as u64);
                shared += surplus;
                if surplus > 0 && examples.len() < MAX_EXAMPLES {
                    examples.extend(find_shared(source, &count, &column.name, some).await?);
                }
            }
        }
        after = last;
    }
    Ok(shared)
}

/// Keys that one `in [...]` filter names.
const KEYS_PER_COUNT: usize = 1_000;

/// Keys that share a row, named in messages.
const MAX_EXAMPLES: usize = 5;

/// One key of `keys` that has more than one row, by halving.
async fn find_shared<F: Future<Output = Result<u64>>>(
    source: &Client,
    count: &impl Fn(String) -> F,
    column: &str,
    keys: &[Key],
) -> Result<Option<String>> {
    let mut some = keys;
    while some.len() > 1 {
        let (left, right) = some.split_at(some.len() / 2);
        let rows = count(source.list_filter(column, left)).await?;
        some = if rows > left.len() as u64 { left } else { right };
    }
    Ok(some.first().map(Key::to_string))
}
