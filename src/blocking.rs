//! Work that keeps a processor busy or waits for a disk, away from the network threads.

use crate::error::{Error, Result};

/// Runs `work` on a thread that may block. A panic goes on in the caller.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(Error::internal("a worker was stopped").because(e)),
    }
}
