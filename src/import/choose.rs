//! Which route rows take when the user leaves it open, and why.
//!
//! Owns: the choice. Does not own: what a bulk import takes (`takes`).

use super::plan::Job;
use super::{Route, takes};
use crate::error::Result;
use crate::milvus::{Client, Endpoint};
use indicatif::HumanBytes;

/// From this size on the server's own import is taken. Below, the seconds that each of its jobs
/// takes at least outweigh what it saves.
const BULK_FROM: u64 = 4 << 30;

/// The route and the reason. What an earlier run has begun goes on the same way.
pub async fn route(
    target: &Endpoint,
    bulk: Option<&Route>,
    jobs: &[Job<'_>],
    is_begun: impl Fn(&Route) -> bool,
) -> Result<(Route, String)> {
    let insert = |why: String| Ok((Route::Insert, why));
    let Some(bulk) = bulk.cloned() else {
        return insert(
            "neither `--stage` nor a `--cloud` option names a place from which the server could read".into(),
        );
    };
    for route in [Route::Insert, bulk.clone()] {
        if is_begun(&route) {
            return Ok((route, "an earlier run of this import has begun that way".into()));
        }
    }
    let info = Client::connect(target).await?.info;
    if let Some(reason) = jobs.iter().flat_map(|job| takes::unsupported_by_bulk(&info, job)).next() {
        return insert(reason);
    }
    if let Route::Cloud(service) = &bulk {
        let too_large = jobs.iter().flat_map(|job| takes::too_large_for_bulk(service.endpoint.limits, job));
        if let Some(reason) = { too_large }.next() {
            return insert(reason);
        }
    }
    let bytes = jobs.iter().map(|job| job.source.bytes()).sum();
    let size = HumanBytes(bytes);
    if bytes < BULK_FROM {
        return insert(format!(
            "{size} are less than {}, from where on the server's jobs pay",
            HumanBytes(BULK_FROM)
        ));
    }
    Ok((bulk, format!("the server can read all {size} by itself")))
}
