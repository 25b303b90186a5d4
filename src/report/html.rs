//! Writing HTML into which nothing foreign gets as markup. Pure.
//!
//! Markup is text of this program, so it is `&'static str`; everything else goes through an escape.
//! That holds by the types and not by care.

use crate::output::is_odd;
use std::fmt::{Display, Write};

/// Characters of one text that a page shows; names have fewer, descriptions may have millions.
const SHOWN: usize = 1_000;

/// A page, or a piece of one.
#[derive(Default)]
pub(super) struct Html(String);

impl Html {
    /// Our own markup, as it is.
    pub fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, escaped, shortened when it is very long. What would be invisible or move its neighbours
    /// is shown as its code.
    pub fn text(&mut self, text: impl Display) -> &mut Self {
        let text = text.to_string();
        let Some((cut, _)) = text.char_indices().nth(SHOWN) else { return self.whole(&text) };
        let more = text[cut..].chars().count();
        self.whole(&text[..cut]).raw("<span class=\"odd\">… and ").whole(&more.to_string());
        self.raw(" characters more</span>")
    }

    /// Text that must not be shortened.
    pub fn whole(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            if is_odd(c) {
                self.raw("<span class=\"odd\">").escaped(c).raw("</span>");
            } else {
                self.escaped(c);
            }
        }
        self
    }

    /// Text in an attribute between double quotes, or where there can be no elements.
    pub fn plain(&mut self, text: impl Display) -> &mut Self {
        text.to_string().chars().take(SHOWN).for_each(|c| {
            self.escaped(c);
        });
        self
    }

    /// A name that somebody else chose: whatever its direction of writing, it stays by itself.
    pub fn name(&mut self, name: impl Display) -> &mut Self {
        self.raw("<bdi>").text(name).raw("</bdi>")
    }

    /// A length or position in a picture.
    pub fn number(&mut self, number: f64) -> &mut Self {
        let rounded = (number * 100.0).round() / 100.0;
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{rounded}");
        self
    }

    /// The text of it all.
    pub fn finish(self) -> String {
        self.0
    }

    fn escaped(&mut self, c: char) -> &mut Self {
        match c {
            '&' => self.0.push_str("&amp;"),
            '<' => self.0.push_str("&lt;"),
            '>' => self.0.push_str("&gt;"),
            '"' => self.0.push_str("&quot;"),
            '\'' => self.0.push_str("&#39;"),
            c if is_odd(c) => {
                let _ = write!(self.0, "{}", c.escape_unicode());
            }
            c => self.0.push(c),
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(fill: impl FnOnce(&mut Html) -> &mut Html) -> String {
        let mut html = Html::default();
        fill(&mut html);
        html.finish()
    }

    #[test]
    fn nothing_foreign_is_markup() {
        let hostile = "<script>alert('x')</script>\"&";
        let harmless = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;";
        assert_eq!(html(|h| h.text(hostile)), harmless);
        assert_eq!(html(|h| h.plain(hostile)), harmless);
        assert_eq!(html(|h| h.name(hostile)), format!("<bdi>{harmless}</bdi>"));
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        let shown = html(|h| h.text("a\u{202e}b\n\u{200b}é"));
        let odd = |code: &str| format!("<span class=\"odd\">\\u{{{code}}}</span>");
        assert_eq!(shown, format!("a{}b{}{}é", odd("202e"), odd("a"), odd("200b")));
        assert_eq!(html(|h| h.plain("a\u{0}b")), "a\\u{0}b");
    }

    #[test]
    fn what_is_too_long_says_so() {
        let shown = html(|h| h.text("é".repeat(SHOWN + 7)));
        assert!(shown.ends_with("é<span class=\"odd\">… and 7 characters more</span>"), "{shown}");
        assert!(!html(|h| h.text("é".repeat(SHOWN))).contains("more"));
    }
}
