//! What people and programs see of long work on stderr while it runs.
//!
//! Owns: counting rows and bytes by collection and altogether, rates, time left, and the three forms in
//! which they are shown: live lines on a terminal, a plain line every 30 s elsewhere, JSON events for
//! programs. Does not own: what the work is, or its result.

use indicatif::{HumanBytes, HumanCount, HumanDuration};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a plain line is written.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);
/// How often the live lines are drawn anew.
const LIVE_INTERVAL: Duration = Duration::from_millis(200);
/// How often programs are told.
const EVENT_INTERVAL: Duration = Duration::from_secs(1);
/// Over how long the rate is taken: long enough to be steady, short enough to show a change.
const RATE_WINDOW: Duration = Duration::from_secs(30);
/// Collections that are shown beside the total on a terminal.
const SHOWN_LANES: usize = 6;
/// The width of a terminal that does not tell.
const USUAL_WIDTH: usize = 80;
/// The version of the events: fields are added, none is renamed or dropped without a new one.
const EVENT_VERSION: u32 = 1;

/// Whether and how progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Show {
    /// Live on a terminal; elsewhere a line every 30 s.
    Auto,
    /// A line every 30 s, on a terminal too.
    Plain,
    /// A JSON object a line, for programs.
    Json,
    /// None.
    #[value(name = "off")]
    Quiet,
}

/// The running counts of one piece of work, or of one collection within it. Cheap to clone.
#[derive(Clone)]
pub struct Progress {
    all: Arc<Counts>,
    lane: Option<Arc<Lane>>,
}

struct Counts {
    doing: &'static str,
    started: Instant,
    /// What all of it has, as far as that is known.
    total: Total,
    done: Done,
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// How many requests may be on their way, while the server has asked for fewer.
    slowed: Mutex<Option<Slowed>>,
}

type Slowed = Box<dyn Fn() -> Option<usize> + Send>;

#[derive(Debug, Clone, Copy)]
enum Total {
    Unknown,
    Rows(u64),
    Bytes(u64),
}

/// What is done.
#[derive(Default)]
struct Done {
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Of these, what an earlier run had done: no part of the rate.
    rows_before: AtomicU64,
    bytes_before: AtomicU64,
}

impl Done {
    fn add(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add_before(&self, rows: u64, bytes: u64) {
        self.rows_before.fetch_add(rows, Ordering::Relaxed);
        self.bytes_before.fetch_add(bytes, Ordering::Relaxed);
        self.add(rows, bytes);
    }
}

/// One collection.
struct Lane {
    name: String,
    total: u64,
    done: Done,
    /// Ranges or parts that are still to be done.
    pieces: AtomicU64,
    finished: AtomicBool,
}

impl Lane {
    fn text(&self) -> String {
        let rows = self.done.rows.load(Ordering::Relaxed);
        let bytes = HumanBytes(self.done.bytes.load(Ordering::Relaxed));
        format!("{}: {}, {bytes}", self.name, rows_of(rows, Some(self.total)))
    }

    fn event(&self, doing: &str, finished: bool) -> Value {
        json!({
            "version": EVENT_VERSION,
            "event": "collection",
            "phase": doing,
            "collection": self.name,
            "rows": self.done.rows.load(Ordering::Relaxed),
            "rows_total": self.total,
            "bytes": self.done.bytes.load(Ordering::Relaxed),
            "finished": finished,
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these can panic between two changes that belong together.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// Starts counting; nothing is shown until [`Progress::show`].
    pub fn new(doing: &'static str, total_rows: Option<u64>) -> Self {
        Progress::of(doing, total_rows.map_or(Total::Unknown, Total::Rows))
    }

    /// As [`Progress::new`], for work that is measured in bytes.
    pub fn of_bytes(doing: &'static str, total_bytes: u64) -> Self {
        Progress::of(doing, Total::Bytes(total_bytes))
    }

    fn of(doing: &'static str, total: Total) -> Self {
        let counts = Counts {
            doing,
            started: Instant::now(),
            total,
            done: Done::default(),
            lanes: Mutex::default(),
            slowed: Mutex::default(),
        };
        Progress { all: Arc::new(counts), lane: None }
    }

    /// The counts of one collection, which are part of all. It is finished after so many
    /// [`Progress::piece_done`]. What its rows add up to may be an estimate.
    pub fn collection(&self, name: impl std::fmt::Display, total_rows: u64, pieces: usize) -> Progress {
        let lane = Arc::new(Lane {
            name: harmless(&name.to_string()),
            total: total_rows,
            done: Done::default(),
            pieces: AtomicU64::new(pieces as u64),
            finished: AtomicBool::new(pieces == 0),
        });
        locked(&self.all.lanes).push(lane.clone());
        Progress { all: self.all.clone(), lane: Some(lane) }
    }

    /// Counts rows and bytes that are done.
    pub fn add(&self, rows: u64, bytes: u64) {
        self.all.done.add(rows, bytes);
        self.lane.iter().for_each(|lane| lane.done.add(rows, bytes));
    }

    /// Counts rows and bytes that an earlier run had done.
    pub fn add_before(&self, rows: u64, bytes: u64) {
        self.all.done.add_before(rows, bytes);
        self.lane.iter().for_each(|lane| lane.done.add_before(rows, bytes));
    }

    /// One range or part of this collection is done.
    pub fn piece_done(&self) {
        if let Some(lane) = &self.lane
            && lane.pieces.fetch_sub(1, Ordering::AcqRel) == 1
        {
            lane.finished.store(true, Ordering::Release);
        }
    }

    /// Shows that the server has asked for fewer requests at once, whenever `at_once` says how many.
    pub fn slowed_to(&self, at_once: impl Fn() -> Option<usize> + Send + 'static) {
        *locked(&self.all.slowed) = Some(Box::new(at_once));
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.all.started.elapsed()
    }

    /// Runs `work` and shows progress on stderr meanwhile.
    pub async fn show<T>(&self, show: Show, work: impl Future<Output = T>) -> T {
        let terminal = std::io::stderr().is_terminal() && !is_dumb();
        let (form, interval) = match (show, terminal) {
            (Show::Quiet, _) => return work.await,
            (Show::Json, _) => (Form::Events, EVENT_INTERVAL),
            (Show::Auto, true) => (Form::Live, LIVE_INTERVAL),
            (Show::Auto, false) | (Show::Plain, _) => (Form::Plain, PLAIN_INTERVAL),
        };
        let mut shown = Shown { progress: self, form, rate: Rate::default(), announced: Vec::new() };
        shown.rate.seen(self);
        let mut ticks = tokio::time::interval(interval);
        ticks.tick().await;
        tokio::pin!(work);
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                _ = ticks.tick() => shown.tick(),
            }
        };
        shown.end();
        result
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Live,
    Plain,
    Events,
}

/// Progress as it is being shown.
struct Shown<'a> {
    progress: &'a Progress,
    form: Form,
    rate: Rate,
    /// Collections that were said to be finished, by their position.
    announced: Vec<bool>,
}

impl Shown<'_> {
    fn tick(&mut self) {
        self.rate.seen(self.progress);
        match self.form {
            Form::Live => {
                let width = width();
                let lanes = self.lanes(|lane| !lane.finished.load(Ordering::Acquire));
                let mut lines = vec![self.line()];
                lines.extend(lanes.iter().take(SHOWN_LANES).map(|lane| format!("  {}", lane.text())));
                if lanes.len() > SHOWN_LANES {
                    lines.push(format!("  and {} more", lanes.len() - SHOWN_LANES));
                }
                LIVE.draw(lines.iter().map(|line| cut(line, width)).collect());
            }
            Form::Plain => {
                for lane in self.newly_finished() {
                    LIVE.say(&format!("{}: done {}", self.progress.all.doing, lane.text()));
                }
                LIVE.say(&self.line());
            }
            Form::Events => self.events(),
        }
    }

    /// Programs are told the last counts as well.
    fn end(&mut self) {
        if self.form == Form::Events {
            self.rate.seen(self.progress);
            self.events();
        }
    }

    fn events(&mut self) {
        let doing = self.progress.all.doing;
        for lane in self.newly_finished() {
            LIVE.say(&lane.event(doing, true).to_string());
        }
        for lane in self.lanes(|lane| !lane.finished.load(Ordering::Acquire)) {
            LIVE.say(&lane.event(doing, false).to_string());
        }
        LIVE.say(&self.event().to_string());
    }

    /// Collections that something was done of and that are `wanted`.
    fn lanes(&self, wanted: impl Fn(&Lane) -> bool) -> Vec<Arc<Lane>> {
        let begun = |lane: &&Arc<Lane>| lane.done.rows.load(Ordering::Relaxed) > 0;
        locked(&self.progress.all.lanes).iter().filter(begun).filter(|lane| wanted(lane)).cloned().collect()
    }

    fn newly_finished(&mut self) -> Vec<Arc<Lane>> {
        let lanes = locked(&self.progress.all.lanes).clone();
        self.announced.resize(lanes.len(), false);
        let mut fresh = Vec::new();
        for (lane, announced) in lanes.into_iter().zip(&mut self.announced) {
            if !*announced && lane.finished.load(Ordering::Acquire) {
                *announced = true;
                fresh.push(lane);
            }
        }
        fresh
    }

    /// Collections that are finished, and all.
    fn finished(&self) -> (usize, usize) {
        let lanes = locked(&self.progress.all.lanes);
        (lanes.iter().filter(|lane| lane.finished.load(Ordering::Acquire)).count(), lanes.len())
    }

    fn slowed(&self) -> Option<usize> {
        locked(&self.progress.all.slowed).as_ref().and_then(|slowed| slowed())
    }

    /// Seconds until all is done at the present rate.
    fn seconds_left(&self) -> Option<f64> {
        let done = &self.progress.all.done;
        let (left, rate) = match self.progress.all.total {
            Total::Unknown => return None,
            Total::Rows(total) => (total.checked_sub(done.rows.load(Ordering::Relaxed))?, self.rate.rows()),
            Total::Bytes(total) => {
                (total.checked_sub(done.bytes.load(Ordering::Relaxed))?, self.rate.bytes())
            }
        };
        (left > 0 && rate > 0.0).then(|| left as f64 / rate)
    }

    fn line(&self) -> String {
        let all = &self.progress.all;
        let (rows, bytes) = (all.done.rows.load(Ordering::Relaxed), all.done.bytes.load(Ordering::Relaxed));
        let size = HumanBytes(bytes);
        let mut line = match all.total {
            Total::Bytes(total) => {
                format!("{}: {size} of {} ({}%)", all.doing, HumanBytes(total), share(bytes, total))
            }
            Total::Rows(total) => format!("{}: {}, {size}", all.doing, rows_of(rows, Some(total))),
            Total::Unknown if rows == 0 => format!("{}: {size}", all.doing),
            Total::Unknown => format!("{}: {}, {size}", all.doing, rows_of(rows, None)),
        };
        line.push_str(&format!(", {}/s", HumanBytes(self.rate.bytes() as u64)));
        if rows > 0 {
            line.push_str(&format!(", {} rows/s", HumanCount(self.rate.rows() as u64)));
        }
        if let Some(left) = self.seconds_left().and_then(|left| Duration::try_from_secs_f64(left).ok()) {
            line.push_str(&format!(", {} left", HumanDuration(left)));
        }
        let (finished, lanes) = self.finished();
        if lanes > 1 {
            line.push_str(&format!(", {finished} of {lanes} collections done"));
        }
        if let Some(at_once) = self.slowed() {
            line.push_str(&format!(", slowed by the server to {at_once} at once"));
        }
        line
    }

    fn event(&self) -> Value {
        let all = &self.progress.all;
        let (finished, lanes) = self.finished();
        let (total_rows, total_bytes) = match all.total {
            Total::Unknown => (None, None),
            Total::Rows(rows) => (Some(rows), None),
            Total::Bytes(bytes) => (None, Some(bytes)),
        };
        json!({
            "version": EVENT_VERSION,
            "event": "progress",
            "phase": all.doing,
            "seconds": self.progress.elapsed().as_secs_f64(),
            "rows": all.done.rows.load(Ordering::Relaxed),
            "rows_total": total_rows,
            "bytes": all.done.bytes.load(Ordering::Relaxed),
            "bytes_total": total_bytes,
            "rows_per_second": self.rate.rows(),
            "bytes_per_second": self.rate.bytes(),
            "seconds_left": self.seconds_left(),
            "collections_finished": finished,
            "collections": lanes,
            "slowed_to": self.slowed(),
        })
    }
}

/// Also when the work is given up.
impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if self.form == Form::Live {
            LIVE.draw(Vec::new());
        }
    }
}

fn share(done: u64, total: u64) -> u64 {
    (u128::from(done) * 100 / u128::from(total.max(1))).min(100) as u64
}

fn rows_of(rows: u64, total: Option<u64>) -> String {
    match total.filter(|total| *total > 0) {
        Some(total) => {
            format!("{} rows of {} ({}%)", HumanCount(rows), HumanCount(total), share(rows, total))
        }
        None => format!("{} rows", HumanCount(rows)),
    }
}

/// What was done lately, without what an earlier run had done.
#[derive(Default)]
struct Rate(VecDeque<(Instant, u64, u64)>);

impl Rate {
    fn seen(&mut self, progress: &Progress) {
        let done = &progress.all.done;
        let new = |all: &AtomicU64, before: &AtomicU64| {
            all.load(Ordering::Relaxed).saturating_sub(before.load(Ordering::Relaxed))
        };
        let now = (Instant::now(), new(&done.rows, &done.rows_before), new(&done.bytes, &done.bytes_before));
        self.0.push_back(now);
        while self.0.len() > 2 && now.0 - self.0[1].0 >= RATE_WINDOW {
            self.0.pop_front();
        }
    }

    fn of(&self, value: impl Fn(&(Instant, u64, u64)) -> u64) -> f64 {
        let (Some(first), Some(last)) = (self.0.front(), self.0.back()) else { return 0.0 };
        let seconds = (last.0 - first.0).as_secs_f64();
        if seconds <= 0.0 { 0.0 } else { value(last).saturating_sub(value(first)) as f64 / seconds }
    }

    fn rows(&self) -> f64 {
        self.of(|seen| seen.1)
    }

    fn bytes(&self) -> f64 {
        self.of(|seen| seen.2)
    }
}

// ---- the terminal ----

/// The live lines at the bottom of stderr. Whatever else is written goes above them.
static LIVE: Live = Live(Mutex::new(0));

/// How many lines are drawn.
struct Live(Mutex<usize>);

impl Live {
    /// Draws these lines in the place of those before. A broken stderr must not break the work.
    fn draw(&self, lines: Vec<String>) {
        let mut drawn = locked(&self.0);
        let mut text = erase(*drawn);
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
        *drawn = lines.len();
    }

    fn say(&self, line: &str) {
        let _ = Stderr.write_all(format!("{line}\n").as_bytes());
    }
}

/// Back to the first of `lines` lines, with everything below it gone.
fn erase(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}A\r\x1b[J") }
}

/// Stderr for everything that may be written while progress is shown: the live lines give way.
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut drawn = locked(&LIVE.0);
        let mut stderr = std::io::stderr();
        stderr.write_all(erase(std::mem::take(&mut *drawn)).as_bytes())?;
        stderr.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

fn width() -> usize {
    let (columns, _) = terminal_size::terminal_size_of(std::io::stderr())
        .map_or((USUAL_WIDTH, 0), |(width, height)| (usize::from(width.0), height.0));
    if columns == 0 { USUAL_WIDTH } else { columns }
}

/// What fits into one line of a terminal: a line that wraps would not be erased. Characters beyond
/// ASCII are taken for wide ones.
fn cut(line: &str, width: usize) -> String {
    let wide = |c: char| if c.is_ascii() { 1 } else { 2 };
    let mut room = width.saturating_sub(1);
    if line.chars().map(wide).sum::<usize>() <= room {
        return line.to_string();
    }
    room = room.saturating_sub(3);
    let mut short = String::new();
    for c in line.chars() {
        let Some(left) = room.checked_sub(wide(c)) else { break };
        room = left;
        short.push(c);
    }
    short + "..."
}

/// A name that a server or a snapshot gave, without what a terminal would obey.
fn harmless(name: &str) -> String {
    let fine = |c: char| c.is_alphanumeric() || (c.is_ascii() && !c.is_control());
    name.chars().map(|c| if fine(c) { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<'a>(progress: &'a Progress, seconds: u64) -> Shown<'a> {
        let mut rate = Rate::default();
        let before = Instant::now() - Duration::from_secs(seconds);
        rate.0.push_back((before, 0, 0));
        rate.seen(progress);
        Shown { progress, form: Form::Plain, rate, announced: Vec::new() }
    }

    #[test]
    fn a_line_says_how_far_it_is() {
        let progress = Progress::new("export", Some(2_000));
        progress.add(500, 10 << 20);
        let line = shown(&progress, 10).line();
        assert!(line.starts_with("export: 500 rows of 2,000 (25%), 10.00 MiB, "), "{line}");
        assert!(line.contains(" rows/s, ") && line.ends_with("seconds left"), "{line}");
        let verify = Progress::of_bytes("verify", 4 << 20);
        verify.add(0, 1 << 20);
        let line = shown(&verify, 1).line();
        assert!(line.starts_with("verify: 1.00 MiB of 4.00 MiB (25%), ") && !line.contains("rows"), "{line}");
    }

    #[test]
    fn what_was_done_before_is_no_part_of_the_rate() {
        let progress = Progress::new("import", Some(1_000));
        progress.add_before(500, 0);
        progress.add(100, 0);
        let shown = shown(&progress, 10);
        assert!((9.0..=10.0).contains(&shown.rate.rows()), "{}", shown.rate.rows());
        assert!((39.0..45.0).contains(&shown.seconds_left().unwrap()));
    }

    #[test]
    fn collections_are_counted_and_finish_with_their_last_piece() {
        let progress = Progress::new("export", Some(300));
        let (docs, logs) =
            (progress.collection("default.docs", 100, 2), progress.collection("a.logs", 200, 1));
        docs.add(60, 6);
        docs.piece_done();
        logs.add(200, 20);
        logs.piece_done();
        let mut shown = shown(&progress, 1);
        assert!(shown.line().contains("export: 260 rows of 300 (86%)"), "{}", shown.line());
        assert!(shown.line().contains(", 1 of 2 collections done"), "{}", shown.line());
        let finished: Vec<_> = shown.newly_finished().iter().map(|lane| lane.text()).collect();
        assert_eq!(finished, ["a.logs: 200 rows of 200 (100%), 20 B"]);
        assert!(shown.newly_finished().is_empty(), "said once");
        docs.piece_done();
        assert_eq!(shown.newly_finished().len(), 1);
        let event = shown.event();
        assert_eq!((&event["rows"], &event["collections_finished"]), (&json!(260), &json!(2)));
    }

    #[test]
    fn slowing_down_is_shown_while_it_lasts() {
        let progress = Progress::new("import", None);
        let at_once = Arc::new(Mutex::new(Some(2)));
        let gauge = at_once.clone();
        progress.slowed_to(move || *locked(&gauge));
        assert!(shown(&progress, 1).line().ends_with(", slowed by the server to 2 at once"));
        *locked(&at_once) = None;
        assert!(!shown(&progress, 1).line().contains("slowed"));
    }

    #[test]
    fn lines_fit_and_names_do_nothing() {
        assert_eq!(cut("short", 80), "short");
        assert_eq!(cut("0123456789", 10), "012345...");
        assert_eq!(cut("日本語日本語", 10), "日本語...");
        let progress = Progress::new("export", None);
        progress.collection("a\u{1b}[2J\u{202e}\nb", 1, 1).add(1, 1);
        let text = locked(&progress.all.lanes)[0].text();
        assert!(text.starts_with("a\\u{1b}[2J\\u{202e}\\u{a}b: "), "{text}");
    }
}
