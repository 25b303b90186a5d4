//! Filters over the primary key, as pages and counts use them: comparisons, lists, `&&`, `||` and
//! parentheses; texts with the escapes that Milvus reads.

use std::iter::Peekable;
use std::str::Chars;

/// A primary key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Int(i64),
    Text(String),
}

#[derive(Debug, PartialEq)]
pub enum Filter {
    Everything,
    Compare(String, Key),
    Among(Vec<Key>),
    All(Vec<Filter>),
    Any(Vec<Filter>),
}

impl Filter {
    pub fn passes(&self, key: &Key) -> bool {
        match self {
            Filter::Everything => true,
            Filter::Compare(operator, value) => match operator.as_str() {
                ">" => key > value,
                ">=" => key >= value,
                "<" => key < value,
                "<=" => key <= value,
                _ => key == value,
            },
            Filter::Among(keys) => keys.contains(key),
            Filter::All(filters) => filters.iter().all(|filter| filter.passes(key)),
            Filter::Any(filters) => filters.iter().any(|filter| filter.passes(key)),
        }
    }

    /// Reads a filter over the key field of the given name. `smallest` tells whether the literal
    /// -9223372036854775808 is known (2.6 and later).
    pub fn parse(text: &str, field: &str, smallest: bool) -> Result<Filter, String> {
        if text.trim().is_empty() {
            return Ok(Filter::Everything);
        }
        let mut parser = Parser { rest: text.chars().peekable(), field, smallest };
        let filter = parser.any()?;
        match parser.peek() {
            None => Ok(filter),
            Some(c) => Err(format!("cannot parse expression: {text}, error: unexpected {c:?}")),
        }
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    field: &'a str,
    smallest: bool,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        while self.rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        self.rest.peek().copied()
    }

    fn take(&mut self, wanted: char) -> Result<(), String> {
        match self.peek() {
            Some(c) if c == wanted => {
                self.rest.next();
                Ok(())
            }
            other => Err(format!("cannot parse expression: {wanted:?} is expected, not {other:?}")),
        }
    }

    fn while_some(&mut self, good: impl Fn(char) -> bool) -> String {
        self.peek();
        let mut text = String::new();
        while let Some(c) = self.rest.next_if(|c| good(*c)) {
            text.push(c);
        }
        text
    }

    fn any(&mut self) -> Result<Filter, String> {
        let mut filters = vec![self.all()?];
        while self.peek() == Some('|') {
            self.take('|')?;
            self.take('|')?;
            filters.push(self.all()?);
        }
        Ok(Filter::Any(filters))
    }

    fn all(&mut self) -> Result<Filter, String> {
        let mut filters = vec![self.one()?];
        while self.peek() == Some('&') {
            self.take('&')?;
            self.take('&')?;
            filters.push(self.one()?);
        }
        Ok(Filter::All(filters))
    }

    fn one(&mut self) -> Result<Filter, String> {
        if self.peek() == Some('(') {
            self.take('(')?;
            let filter = self.any()?;
            self.take(')')?;
            return Ok(filter);
        }
        let name = self.while_some(|c| c.is_alphanumeric() || c == '_');
        if name != self.field {
            return Err(format!("cannot parse expression: field {name} not exist"));
        }
        let operator = self.while_some(|c| "<>=in".contains(c));
        match operator.as_str() {
            "in" => {
                self.take('[')?;
                let mut keys = Vec::new();
                while self.peek() != Some(']') {
                    keys.push(self.literal()?);
                    if self.peek() == Some(',') {
                        self.take(',')?;
                    }
                }
                self.take(']')?;
                Ok(Filter::Among(keys))
            }
            "<" | "<=" | ">" | ">=" | "==" => Ok(Filter::Compare(operator, self.literal()?)),
            other => Err(format!("cannot parse expression: operator {other:?}")),
        }
    }

    fn literal(&mut self) -> Result<Key, String> {
        if self.peek() != Some('"') {
            let text = self.while_some(|c| c == '-' || c.is_ascii_digit());
            return match text.parse() {
                Ok(i64::MIN) if !self.smallest => Err(format!("cannot parse expression: {text} overflows")),
                Ok(value) => Ok(Key::Int(value)),
                Err(_) => Err(format!("cannot parse expression: {text:?} is no number")),
            };
        }
        self.rest.next();
        let mut text = String::new();
        loop {
            match self.rest.next() {
                Some('"') => return Ok(Key::Text(text)),
                Some('\\') => match self.rest.next() {
                    Some('n') => text.push('\n'),
                    Some('r') => text.push('\r'),
                    Some('t') => text.push('\t'),
                    Some(c @ ('"' | '\\')) => text.push(c),
                    other => return Err(format!("cannot parse expression: escape {other:?}")),
                },
                Some(c @ ('\n' | '\r')) => {
                    return Err(format!("cannot parse expression: a bare {c:?} in a text"));
                }
                Some(c) => text.push(c),
                None => return Err("cannot parse expression: a text without an end".into()),
            }
        }
    }
}
