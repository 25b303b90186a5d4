//! What people see of long work: a live line on a terminal, a plain line every 30 s elsewhere.
//!
//! Owns: counting rows and bytes, rates and time left. Does not own: what the work is.

use indicatif::{HumanBytes, HumanCount, HumanDuration};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a plain line is written.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);
/// How often the live line is drawn anew.
const LIVE_INTERVAL: Duration = Duration::from_millis(200);

/// Whether and how progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// As the terminal allows.
    Auto,
    /// Not at all.
    Quiet,
}

/// The running counts of one piece of work. Cheap to clone.
#[derive(Clone)]
pub struct Progress(Arc<Counts>);

struct Counts {
    doing: String,
    started: Instant,
    total_rows: Option<u64>,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// Starts counting; nothing is shown until [`Progress::show`].
    pub fn new(doing: impl Into<String>, total_rows: Option<u64>) -> Self {
        Progress(Arc::new(Counts {
            doing: doing.into(),
            started: Instant::now(),
            total_rows,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }))
    }

    /// Counts rows and bytes that are done.
    pub fn add(&self, rows: u64, bytes: u64) {
        self.0.rows.fetch_add(rows, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Runs `work` and shows progress on stderr meanwhile.
    pub async fn show<T>(&self, show: Show, work: impl Future<Output = T>) -> T {
        if show == Show::Quiet {
            return work.await;
        }
        let live = std::io::stderr().is_terminal();
        let mut ticks = tokio::time::interval(if live { LIVE_INTERVAL } else { PLAIN_INTERVAL });
        ticks.tick().await;
        tokio::pin!(work);
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                _ = ticks.tick() => self.draw(live),
            }
        };
        if live {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        result
    }

    fn draw(&self, live: bool) {
        let line = self.line();
        // A broken stderr must not break the work.
        let _ = if live {
            write!(std::io::stderr(), "\r\x1b[K{line}")
        } else {
            writeln!(std::io::stderr(), "{line}")
        };
    }

    fn line(&self) -> String {
        let rows = self.0.rows.load(Ordering::Relaxed);
        let bytes = self.0.bytes.load(Ordering::Relaxed);
        let seconds = self.elapsed().as_secs_f64().max(0.001);
        let rate = HumanBytes((bytes as f64 / seconds) as u64);
        let mut line = format!("{}: {} rows", self.0.doing, HumanCount(rows));
        if let Some(total) = self.0.total_rows.filter(|total| *total > 0) {
            let share = (100 * rows / total).min(100);
            line.push_str(&format!(" of {} ({share}%)", HumanCount(total)));
        }
        line.push_str(&format!(", {}, {rate}/s", HumanBytes(bytes)));
        if let Some(left) =
            self.0.total_rows.and_then(|total| total.checked_sub(rows)).filter(|left| rows > 0 && *left > 0)
        {
            let left = Duration::from_secs_f64(seconds * left as f64 / rows as f64);
            line.push_str(&format!(", {} left", HumanDuration(left)));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let progress = Progress::new("export", Some(2_000));
        progress.add(500, 1 << 20);
        let line = progress.line();
        assert!(line.starts_with("export: 500 rows of 2,000 (25%), 1.00 MiB, "), "{line}");
        assert!(line.ends_with(" left"), "{line}");
        assert!(!Progress::new("verify", None).line().contains(" of "));
    }
}
