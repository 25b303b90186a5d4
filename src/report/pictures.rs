//! Pictures of a snapshot as inline SVG: bars of rows and bytes, key ranges of parts. Pure.
//!
//! Only shapes are drawn; the words beside them are text of the page, so that they keep their size
//! on a phone and can be searched, copied and read aloud.

use super::html::Html;
use crate::schema::Key;
use crate::snapshot::Part;
use indicatif::{HumanBytes, HumanCount};

/// The width of every picture in its own units.
const WIDTH: f64 = 1000.0;
/// What is there is seen, however little it is.
const LEAST: f64 = 3.0;
/// Bars of one picture; the smaller ones are added up in one more.
const BARS: usize = 60;
/// Lanes of one picture.
const LANES: usize = 40;
/// Blocks of one lane; with more parts a block stands for several.
const BLOCKS: usize = 250;

/// One line of a picture of sizes.
pub(super) struct Bar {
    /// Its name.
    pub label: String,
    /// Where on the page more is said of it.
    pub link: Option<usize>,
    /// Rows.
    pub rows: u64,
    /// Bytes in the snapshot.
    pub bytes: u64,
}

/// Rows and bytes side by side, each against the largest.
pub(super) fn bars(html: &mut Html, caption: &'static str, what: &'static str, bars: &[Bar]) {
    let mut shown: Vec<&Bar> = bars.iter().collect();
    let mut rest = Bar { label: String::new(), link: None, rows: 0, bytes: 0 };
    if bars.len() > BARS {
        shown.sort_by_key(|bar| std::cmp::Reverse((bar.bytes, bar.rows)));
        for bar in shown.split_off(BARS) {
            (rest.rows, rest.bytes) = (rest.rows + bar.rows, rest.bytes + bar.bytes);
        }
        rest.label = format!("{} smaller ones together", HumanCount((bars.len() - BARS) as u64));
        shown.push(&rest);
    }
    let most_rows = shown.iter().map(|bar| bar.rows).max().unwrap_or(0);
    let most_bytes = shown.iter().map(|bar| bar.bytes).max().unwrap_or(0);
    html.raw("<figure><figcaption>")
        .raw(caption)
        .raw("</figcaption>\n<table class=\"bars\"><thead><tr><th scope=\"col\">");
    html.raw(what).raw("</th><th scope=\"col\" colspan=\"2\">rows</th><th scope=\"col\" colspan=\"2\">bytes in the snapshot</th></tr></thead><tbody>\n");
    for bar in shown {
        html.raw("<tr><td class=\"label\">");
        match bar.link {
            Some(at) => html.raw("<a href=\"#c").plain(at).raw("\">").name(&bar.label).raw("</a>"),
            None => html.name(&bar.label),
        };
        html.raw("</td><td class=\"bar\">");
        share(html, "<rect class=\"rows\" height=\"10\" width=\"", bar.rows, most_rows);
        html.raw("</td><td class=\"num\">").text(HumanCount(bar.rows)).raw("</td><td class=\"bar\">");
        share(html, "<rect class=\"bytes\" height=\"10\" width=\"", bar.bytes, most_bytes);
        html.raw("</td><td class=\"num\">").text(HumanBytes(bar.bytes)).raw("</td></tr>\n");
    }
    html.raw("</tbody></table></figure>\n");
}

/// One bar. The number beside it says the same, so it is not read aloud.
fn share(html: &mut Html, rect: &'static str, value: u64, most: u64) {
    html.raw("<svg viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
    html.raw("<rect class=\"track\" width=\"1000\" height=\"10\"/>");
    if value > 0 {
        let width = (value as f64 / most as f64 * WIDTH).max(LEAST);
        html.raw(rect).number(width).raw("\"/>");
    }
    html.raw("</svg>");
}

/// The parts of one partition, in key order.
pub(super) struct Lane<'a> {
    /// Its name.
    pub label: &'a str,
    /// Its parts, at least one.
    pub parts: Vec<&'a Part>,
}

/// Which keys are in which part: a lane a partition, a block a part. Integer keys stand at their
/// place on a scale; text has no scale, so there a block is as wide as it has rows.
pub(super) fn key_ranges(html: &mut Html, lanes: &[Lane]) {
    let mut shown: Vec<&Lane> = lanes.iter().collect();
    if lanes.len() > LANES {
        let rows = |lane: &&Lane| lane.parts.iter().map(|part| part.rows).sum::<u64>();
        shown.sort_by_key(|lane| std::cmp::Reverse(rows(lane)));
        shown.truncate(LANES);
    }
    let all = || lanes.iter().flat_map(|lane| &lane.parts);
    let (Some(first), Some(last)) = (all().map(|part| &part.first).min(), all().map(|part| &part.last).max())
    else {
        return;
    };
    html.raw("<figure><figcaption>");
    html.raw(match first {
        Key::Int(_) => "Where the parts lie between the smallest and the greatest key. ",
        Key::Text(_) => "The parts in the order of their keys, each as wide as its share of the rows. ",
    });
    let merged = shown.iter().any(|lane| lane.parts.len() > BLOCKS);
    html.raw(if merged {
        "A block is several parts that follow one another."
    } else {
        "A block is one part."
    });
    if lanes.len() > LANES {
        html.raw(" Shown are the largest partitions; ").text(HumanCount((lanes.len() - LANES) as u64));
        html.raw(" more have parts.");
    }
    html.raw("</figcaption>\n<div class=\"lanes\">\n");
    for lane in shown {
        html.raw("<div class=\"lane\"><span class=\"label\">").name(lane.label).raw("</span>");
        html.raw("<svg viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" role=\"img\"><title>");
        html.plain(HumanCount(lane.parts.len() as u64)).raw(" parts of ").plain(lane.label).raw("</title>");
        html.raw("<rect class=\"track\" width=\"1000\" height=\"10\"/>\n");
        blocks(html, lane, first, last);
        html.raw("</svg></div>\n");
    }
    html.raw("<div class=\"lane\"><span></span><span class=\"ends mono\"><span>").name(first);
    html.raw("</span><span>").name(last).raw("</span></span></div>\n</div></figure>\n");
}

/// A run of parts that is drawn as one block.
struct Block<'a> {
    parts: &'a [&'a Part],
    rows: u64,
}

fn blocks(html: &mut Html, lane: &Lane, first: &Key, last: &Key) {
    let each = lane.parts.len().div_ceil(BLOCKS).max(1);
    let total: u64 = lane.parts.iter().map(|part| part.rows).sum();
    let mut before = 0;
    for (index, parts) in lane.parts.chunks(each).enumerate() {
        let block = Block { parts, rows: parts.iter().map(|part| part.rows).sum() };
        let (from, to) = match (first, last, &parts[0].first, &parts[parts.len() - 1].last) {
            (Key::Int(first), Key::Int(last), Key::Int(a), Key::Int(b)) => {
                (on_scale(*a, *first, *last), on_scale(*b, *first, *last))
            }
            _ => (before as f64 / total as f64, (before + block.rows) as f64 / total as f64),
        };
        before += block.rows;
        html.raw(if index % 2 == 0 { "<rect class=\"part-a\" " } else { "<rect class=\"part-b\" " });
        // What is at the very end is drawn before it and not behind it.
        let width = ((to - from) * WIDTH).max(LEAST);
        let x = (from * WIDTH).min(WIDTH - width).max(0.0);
        html.raw("height=\"10\" x=\"").number(x).raw("\" width=\"").number(width).raw("\"><title>");
        block_title(html, &block);
        html.raw("</title></rect>\n");
    }
}

/// Where a key lies between the ends, from 0 to 1.
fn on_scale(key: i64, first: i64, last: i64) -> f64 {
    let span = i128::from(last) - i128::from(first);
    if span == 0 {
        return if key == first { 0.0 } else { 1.0 };
    }
    (i128::from(key) - i128::from(first)) as f64 / span as f64
}

fn block_title(html: &mut Html, block: &Block) {
    let (first, last) = (block.parts[0], block.parts[block.parts.len() - 1]);
    html.plain("keys ").plain(&first.first).plain(" to ").plain(&last.last).plain(", ");
    html.plain(HumanCount(block.rows)).plain(" rows, ");
    match block.parts {
        [part] => html.plain(HumanBytes(part.size)).plain(", ").plain(&part.key),
        parts => html.plain(parts.len()).plain(" parts"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_at_their_place_to_the_ends_of_their_type() {
        assert_eq!(on_scale(i64::MIN, i64::MIN, i64::MAX), 0.0);
        assert_eq!(on_scale(i64::MAX, i64::MIN, i64::MAX), 1.0);
        assert_eq!(on_scale(5, 0, 10), 0.5);
        assert_eq!(on_scale(7, 7, 7), 0.0);
    }
}
