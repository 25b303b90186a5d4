//! Whether two JSON texts say the same.
//!
//! Servers may parse documents and print them anew, so spaces, the order of members and the
//! spelling of strings and numbers do not count. Values do, to the last digit:
//!
//! - Integers are compared digit by digit, whatever their length; `-0` is 0.
//! - Numbers with a fraction or an exponent are compared as 64-bit floats, by their bits; beyond
//!   the range of those only the same text is the same number.
//! - An integer is never the same as a number with a fraction or an exponent: `1` is not `1.0`, and
//!   readers tell them apart.
//! - Members of an object that share a name count one by one, in their order: nothing decides
//!   which of them readers would see.
//!
//! What is not JSON, or nested deeper than [`MAX_DEPTH`], is the same only byte for byte.

use std::borrow::Cow;

/// Deepest nesting that is looked into: documents come from servers and files that may be hostile.
const MAX_DEPTH: usize = 128;

/// Whether `a` and `b` say the same.
pub(super) fn same(a: &str, b: &str) -> bool {
    a == b || parse(a).zip(parse(b)).is_some_and(|(a, b)| same_value(&a, &b))
}

/// A parsed document in which numbers keep their text.
enum Value<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    /// Sorted by name; members that share one stay in their order.
    Object(Vec<Member<'a>>),
}

type Member<'a> = (Cow<'a, str>, Value<'a>);

fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same_member = |a: &Member, b: &Member| a.0 == b.0 && same_value(&a.1, &b.1);
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_member(a, b))
        }
        _ => false,
    }
}

fn same_number(a: &str, b: &str) -> bool {
    let is_integer = |text: &str| !text.contains(['.', 'e', 'E']);
    match (is_integer(a), is_integer(b)) {
        // The grammar has no leading zeros, so an integer has one spelling; zero alone has two.
        (true, true) => a == b || (a.trim_start_matches('-') == "0" && b.trim_start_matches('-') == "0"),
        (false, false) => {
            let float = |text: &str| text.parse::<f64>().ok().filter(|f| f.is_finite()).map(f64::to_bits);
            a == b || float(a).zip(float(b)).is_some_and(|(a, b)| a == b)
        }
        _ => false,
    }
}

fn parse(text: &str) -> Option<Value<'_>> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    parser.skip_spaces();
    (parser.at == text.len()).then_some(value)
}

struct Parser<'a> {
    text: &'a str,
    /// Bytes that are read; always at the border of a character.
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Reads `token`, or nothing.
    fn take(&mut self, token: &str) -> Option<()> {
        let found = self.text[self.at..].starts_with(token);
        found.then(|| self.at += token.len())
    }

    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip_spaces();
        match self.peek()? {
            b'n' => self.take("null").map(|()| Value::Null),
            b't' => self.take("true").map(|()| Value::Bool(true)),
            b'f' => self.take("false").map(|()| Value::Bool(false)),
            b'"' => self.string().map(Value::Text),
            b'[' => self.list(depth),
            b'{' => self.object(depth),
            _ => self.number().map(Value::Number),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value<'a>> {
        let mut items = Vec::new();
        self.take("[")?;
        self.skip_spaces();
        if self.take("]").is_some() {
            return Some(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_spaces();
            if self.take("]").is_some() {
                return Some(Value::List(items));
            }
            self.take(",")?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value<'a>> {
        let mut members = Vec::new();
        self.take("{")?;
        self.skip_spaces();
        if self.take("}").is_some() {
            return Some(Value::Object(members));
        }
        loop {
            self.skip_spaces();
            let name = self.string()?;
            self.skip_spaces();
            self.take(":")?;
            members.push((name, self.value(depth + 1)?));
            self.skip_spaces();
            if self.take("}").is_some() {
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                return Some(Value::Object(members));
            }
            self.take(",")?;
        }
    }

    /// A string without its quotes and escapes.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        self.take("\"")?;
        let mut plain = true;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    plain = false;
                    // The escaped character may be of several bytes; only an ASCII one is valid.
                    self.at += 1;
                    self.peek().filter(u8::is_ascii)?;
                    self.at += 1;
                }
                0..=0x1f => return None,
                _ => self.at += self.text[self.at..].chars().next()?.len_utf8(),
            }
        }
        self.at += 1;
        let quoted = &self.text[start..self.at];
        match plain {
            true => Some(Cow::Borrowed(&quoted[1..quoted.len() - 1])),
            // Escapes that stand for no character, such as half a surrogate pair, are refused.
            false => serde_json::from_str(quoted).ok().map(Cow::Owned),
        }
    }

    fn number(&mut self) -> Option<&'a str> {
        let start = self.at;
        let _ = self.take("-");
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.take(".").is_some() {
            self.digits()?;
        }
        if self.take("e").or_else(|| self.take("E")).is_some() {
            let _ = self.take("+").or_else(|| self.take("-"));
            self.digits()?;
        }
        Some(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_say_the_same() {
        for (a, b) in [
            (r#"{"a":1,"b":[true,null]}"#, "{ \"b\" : [ true , null ] ,\n\t\"a\" : 1 }"),
            (r#""\u00e9\/\n""#, "\"é/\\u000a\""),
            ("\"\\ud83d\\ude00\"", "\"😀\""),
            (r#"{"\u0061":1}"#, r#"{"a":1}"#),
            ("-0", "0"),
            ("1.50", "1.5"),
            ("1E5", "100000.0"),
            ("0.1", "0.1000000000000000055511151231257827"),
            (r#"{"x":1,"a":1,"x":2}"#, r#"{"a":1,"x":1,"x":2}"#),
            (" 7", "7 "),
            ("[]", "[ ]"),
            ("{}", "{\n}"),
        ] {
            assert!(same(a, b), "{a} {b}");
            assert!(same(b, a), "{b} {a}");
        }
    }

    #[test]
    fn other_values_are_told_apart() {
        for (a, b) in [
            ("1", "1.0"),
            ("100000", "1e5"),
            ("9223372036854775807", "9223372036854775808"),
            ("123456789012345678901234567890", "123456789012345678901234567891"),
            ("-1", "1"),
            ("0.0", "-0.0"),
            ("0.1", "0.10000000000000002"),
            ("1e400", "1e401"),
            ("null", "false"),
            ("\"1\"", "1"),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#),
            ("[1,2]", "[2,1]"),
            ("[[]]", "[]"),
            ("\"a\"", "\"A\""),
            ("{}", "null"),
        ] {
            assert!(!same(a, b), "{a} {b}");
            assert!(!same(b, a), "{b} {a}");
        }
    }

    #[test]
    fn what_is_not_json_is_the_same_only_byte_for_byte() {
        let deep = |n: usize, inner: &str| format!("{}{inner}{}", "[".repeat(n), "]".repeat(n));
        for (a, b) in [
            ("nulll", "null "),
            ("[1,]", "[1]"),
            ("01", "1"),
            ("1.", "1.0"),
            ("+1", "1"),
            (".5", "0.5"),
            ("1 2", "1"),
            ("\"a", "\"a\""),
            ("\"\t\"", "\"\\t\""),
            ("\"\\é\"", "\"é\""),
            (r#""\ud800""#, r#""\uD800""#),
            ("{\"a\" 1}", "{\"a\":1}"),
            ("NaN", " NaN"),
            ("", " "),
            ("\\", "\""),
            (&deep(200, ""), &deep(200, " ")),
        ] {
            assert!(!same(a, b), "{a} {b}");
            assert!(same(a, a), "{a}");
        }
        assert!(same(&deep(100, ""), &deep(100, " ")));
    }
}
