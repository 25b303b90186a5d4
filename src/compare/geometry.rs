//! Whether two well-known texts (WKT) say the same shape.
//!
//! Servers parse shapes and print them anew. So the case of words, spaces, the spelling of numbers
//! and the optional parentheses around the points of a MULTIPOINT do not count. Everything else
//! does: the kind of shape, the order of points, and every coordinate by its 64 bits.

/// Whether `a` and `b` say the same. What is not made of words, numbers, parentheses and commas is
/// the same only byte for byte.
pub(super) fn same(a: &str, b: &str) -> bool {
    a == b || tokens(a).zip(tokens(b)).is_some_and(|(a, b)| a == b)
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// In capitals.
    Word(String),
    /// By its bits.
    Number(u64),
    /// `(`, `)`, `,` or `;`.
    Mark(char),
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' | ',' | ';' => {
                tokens.push(Token::Mark(first));
                1
            }
            'A'..='Z' | 'a'..='z' => {
                let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..end].to_ascii_uppercase()));
                end
            }
            '0'..='9' | '-' | '+' | '.' => {
                let of_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
                let end = rest.find(|c| !of_number(c)).unwrap_or(rest.len());
                let number: f64 = rest[..end].parse().ok().filter(|n: &f64| n.is_finite())?;
                tokens.push(Token::Number(number.to_bits()));
                end
            }
            _ => return None,
        };
        rest = rest[length..].trim_start();
    }
    Some(without_inner_parentheses(tokens))
}

/// `MULTIPOINT ((1 2), (3 4))` as `MULTIPOINT (1 2, 3 4)`, also within a collection of shapes.
fn without_inner_parentheses(tokens: Vec<Token>) -> Vec<Token> {
    let mut result = Vec::with_capacity(tokens.len());
    // How deep within the parentheses of a MULTIPOINT; `None`: not at all.
    let mut inside: Option<usize> = None;
    for token in tokens {
        match (&token, &mut inside) {
            (Token::Word(word), _) => {
                // `MULTIPOINT Z (...)`: what follows the name of the shape is no other shape.
                let is_suffix = matches!(word.as_str(), "Z" | "M" | "ZM" | "EMPTY");
                if !is_suffix {
                    inside = word.starts_with("MULTIPOINT").then_some(0);
                }
                result.push(token);
            }
            (Token::Mark('('), Some(depth)) => {
                *depth += 1;
                if *depth == 1 {
                    result.push(token);
                }
            }
            (Token::Mark(')'), Some(depth)) => {
                *depth = depth.saturating_sub(1);
                if *depth == 0 {
                    result.push(token);
                    inside = None;
                }
            }
            _ => result.push(token),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_say_the_same() {
        for (a, b) in [
            ("POINT (1 2)", "point(1.0  2e0)"),
            ("LINESTRING(0 0,1 1)", "LINESTRING (0 0, 1 1)\n"),
            ("MULTIPOINT ((1 2), (3 4))", "MULTIPOINT (1 2, 3 4)"),
            (
                "GEOMETRYCOLLECTION (MULTIPOINT Z ((1 2 3)), POLYGON ((0 0, 1 0, 1 1, 0 0)))",
                "GEOMETRYCOLLECTION(MULTIPOINT Z(1 2 3),POLYGON((0 0,1 0,1 1,0 0)))",
            ),
            ("POINT EMPTY", "Point Empty"),
            ("POINT (0.1 -3)", "POINT (0.10000000000000000555 -3.0)"),
        ] {
            assert!(same(a, b) && same(b, a), "{a} {b}");
        }
    }

    #[test]
    fn other_shapes_are_told_apart() {
        for (a, b) in [
            ("POINT (1 2)", "POINT (2 1)"),
            ("POINT (1 2)", "POINT (1 2 3)"),
            ("POINT (1 2)", "POINT Z (1 2)"),
            ("POINT (0 0)", "POINT (-0 0)"),
            ("POINT (0.1 0)", "POINT (0.10000000000000002 0)"),
            ("MULTIPOINT (1 2, 3 4)", "LINESTRING (1 2, 3 4)"),
            ("MULTIPOINT (1 2, 3 4)", "MULTIPOINT (3 4, 1 2)"),
            ("POLYGON ((0 0, 1 0, 1 1, 0 0))", "POLYGON (0 0, 1 0, 1 1, 0 0)"),
            ("MULTIPOLYGON (((0 0, 1 0)), ((1 1)))", "MULTIPOLYGON (((0 0, 1 0), (1 1)))"),
            ("POINT (1 2)", "POINT (1 2"),
            ("POINT (1e999 2)", "POINT (1e998 2)"),
            ("POINT (1 2)", "POINT [1 2]"),
            ("", " x"),
        ] {
            assert!(!same(a, b) && !same(b, a), "{a} {b}");
        }
    }
}
