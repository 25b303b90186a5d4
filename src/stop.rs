//! SIGINT and SIGTERM: the first ends the work cleanly, a second one at once.

use crate::error::{Error, ErrorKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells whether the user or the system wants the work to end.
#[derive(Clone)]
pub struct Stop(watch::Receiver<Option<ErrorKind>>);

impl Stop {
    /// Starts listening for signals.
    pub fn listen() -> std::io::Result<Self> {
        let (sender, receiver) = watch::channel(None);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            loop {
                let kind = tokio::select! {
                    _ = interrupt.recv() => ErrorKind::Interrupted,
                    _ = terminate.recv() => ErrorKind::Terminated,
                };
                if sender.borrow().is_some() {
                    std::process::exit(i32::from(kind.exit_code()));
                }
                sender.send_replace(Some(kind));
            }
        });
        Ok(Stop(receiver))
    }

    /// One that nothing ever stops, for tests and for embedding.
    pub fn never() -> Self {
        Stop(watch::channel(None).1)
    }

    /// Runs `work` until it ends or a stop is requested, whichever is first. On a stop the work
    /// is dropped at its next await; what must be undone is undone by the caller.
    pub async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = crate::error::Result<T>>,
    ) -> crate::error::Result<T> {
        tokio::select! {
            result = work => result,
            error = self.requested() => Err(error),
        }
    }

    async fn requested(&self) -> Error {
        let mut receiver = self.0.clone();
        let kind = match receiver.wait_for(Option::is_some).await {
            Ok(kind) => kind.unwrap_or(ErrorKind::Interrupted),
            // Nobody listens: it is never requested.
            Err(_) => std::future::pending().await,
        };
        Error::new(kind, "stopped on request")
    }
}
