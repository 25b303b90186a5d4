//! How many requests are on their way at a time: as many as the callers have, until the server says
//! that it has too much to do.
//!
//! Then half as many, and one more for every round of requests that went well. A pause alone would
//! not help: all workers would come back together.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What no number of workers exceeds.
const MOST: usize = 1024;

/// Within this time, further complaints are about the requests that were on their way already.
const ONE_COMPLAINT: Duration = Duration::from_millis(100);

/// The pace of one connection.
pub(super) struct Pace {
    state: Mutex<State>,
    freed: Notify,
}

struct State {
    limit: usize,
    in_flight: usize,
    /// Requests that went well since the limit last changed.
    good: usize,
    slowed: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        let state = State { limit: MOST, in_flight: 0, good: 0, slowed: None };
        Pace { state: Mutex::new(state), freed: Notify::new() }
    }
}

/// The right to have one request on its way; given back when dropped.
pub(super) struct Pass<'a>(&'a Pace);

impl Pace {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it can panic between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more request may be sent.
    pub async fn enter(&self) -> Pass<'_> {
        loop {
            {
                let mut state = self.state();
                if state.in_flight < state.limit {
                    state.in_flight += 1;
                    if state.in_flight < state.limit && state.limit < MOST {
                        self.freed.notify_one(); // Two that were freed at once wake only one.
                    }
                    return Pass(self);
                }
            }
            // A permit that was given since is kept, so none is missed.
            self.freed.notified().await;
        }
    }

    /// The server has too much to do.
    pub fn slow_down(&self) {
        let mut state = self.state();
        if state.slowed.is_some_and(|before| before.elapsed() < ONE_COMPLAINT) {
            return;
        }
        state.limit = (state.in_flight.min(state.limit) / 2).max(1);
        state.good = 0;
        state.slowed = Some(Instant::now());
        tracing::debug!(at_once = state.limit, "slowing down");
    }

    /// How many requests may be on their way, while callers wait for that.
    pub fn slowed_to(&self) -> Option<usize> {
        let state = self.state();
        (state.limit < MOST && state.in_flight >= state.limit).then_some(state.limit)
    }

    /// A request went well.
    pub fn went_well(&self) {
        let mut state = self.state();
        state.good += 1;
        if state.limit < MOST && state.good >= state.limit {
            state.limit += 1;
            state.good = 0;
            drop(state);
            self.freed.notify_one();
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight -= 1;
        let room = state.in_flight < state.limit;
        drop(state);
        if room {
            self.0.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn complaints_halve_and_success_adds_one() {
        let pace = Pace::default();
        let mut passes: Vec<_> = Vec::new();
        for _ in 0..8 {
            passes.push(pace.enter().now_or_never().expect("nobody has complained"));
        }
        pace.slow_down();
        pace.slow_down(); // About the same requests.
        passes.truncate(4);
        assert!(pace.enter().now_or_never().is_none());
        assert_eq!(pace.slowed_to(), Some(4));
        passes.truncate(3);
        assert_eq!(pace.slowed_to(), None, "nobody waits");
        passes.push(pace.enter().now_or_never().expect("three of four"));

        for _ in 0..4 {
            pace.went_well();
        }
        passes.push(pace.enter().now_or_never().expect("one more after four that went well"));
        assert!(pace.enter().now_or_never().is_none());
    }

    #[tokio::test]
    async fn one_request_is_always_allowed_and_everybody_gets_through() {
        let pace = std::sync::Arc::new(Pace::default());
        let first = pace.enter().await;
        pace.slow_down();
        drop(first);
        let work = (0..50).map(|_| {
            let pace = pace.clone();
            tokio::spawn(async move {
                let pass = pace.enter().await;
                tokio::task::yield_now().await;
                drop(pass);
            })
        });
        for done in futures::future::join_all(work).await {
            done.unwrap();
        }
        assert_eq!(pace.state().in_flight, 0);
    }
}
