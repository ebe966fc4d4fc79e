//! Cuts JSON5 into tokens, however broken it is.
//!
//! The parser proper stops at the first error and recurses once per level, so what must hold before it
//! runs (a bound on depth) and after it failed (an excerpt without secrets) is worked out here.
//! Up to the first error both see the same strings and comments.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// `{` or `[`.
    Open,
    /// `}` or `]`.
    Close,
    /// `:`.
    Colon,
    /// `,`.
    Comma,
    /// A string with its quotes; a broken one ends with its line.
    String,
    /// A comment with its marks.
    Comment,
    /// Anything else: a number, a literal, a bare key, or rubbish.
    Word,
}

/// A token and where it stands, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The tokens of a text, in order; every byte that is not white space is in one.
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

/// The deepest nesting of brackets, and where an opening one was never closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nesting {
    /// Where the bracket stands that exceeds the bound asked for.
    pub(super) too_deep_at: Option<usize>,
    /// Where the innermost bracket stands that is still open at the end.
    pub(super) unclosed_at: Option<usize>,
}

/// Walks the brackets outside strings and comments, in constant space per level up to `max_depth`.
pub(super) fn nesting(text: &str, max_depth: usize) -> Nesting {
    let mut open = Vec::new();
    for token in Tokens::new(text) {
        match token.kind {
            TokenKind::Open if open.len() == max_depth => {
                return Nesting {
                    too_deep_at: Some(token.start),
                    unclosed_at: None,
                };
            }
            TokenKind::Open => open.push(token.start),
            TokenKind::Close => {
                open.pop();
            }
            TokenKind::Colon
            | TokenKind::Comma
            | TokenKind::String
            | TokenKind::Comment
            | TokenKind::Word => {}
        }
    }
    Nesting {
        too_deep_at: None,
        unclosed_at: open.last().copied(),
    }
}

/// JSON5's white space, line terminators and the byte order mark among it.
pub(super) fn is_blank(character: char) -> bool {
    character.is_whitespace() || character == '\u{feff}'
}

fn is_line_end(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The length of a string that starts the text, to its closing quote or the end of its line.
    fn string_length(text: &str, quote: char) -> usize {
        let mut escaped = false;
        for (offset, character) in text.char_indices().skip(1) {
            if escaped {
                escaped = false;
            } else if character == '\\' {
                escaped = true;
            } else if character == quote {
                return offset + character.len_utf8();
            } else if matches!(character, '\n' | '\r') {
                return offset;
            }
        }
        text.len()
    }

    fn comment_length(text: &str) -> Option<usize> {
        if text.starts_with("//") {
            Some(text.find(is_line_end).unwrap_or(text.len()))
        } else {
            let body = text.strip_prefix("/*")?;
            Some(body.find("*/").map_or(text.len(), |end| end + 4))
        }
    }

    fn word_length(text: &str) -> usize {
        let ends = |character: char| {
            is_blank(character)
                || matches!(character, '{' | '}' | '[' | ']' | ':' | ',' | '"' | '\'')
        };
        let mut end = text.len();
        for (offset, character) in text.char_indices().skip(1) {
            let comment = character == '/' && Self::comment_length(&text[offset..]).is_some();
            if ends(character) || comment {
                end = offset;
                break;
            }
        }
        end
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let rest = &self.text[self.at..];
        let start = self.at + rest.find(|character| !is_blank(character))?;
        let rest = &self.text[start..];
        let first = rest.chars().next()?;
        let (kind, length) = match first {
            '{' | '[' => (TokenKind::Open, 1),
            '}' | ']' => (TokenKind::Close, 1),
            ':' => (TokenKind::Colon, 1),
            ',' => (TokenKind::Comma, 1),
            '"' | '\'' => (TokenKind::String, Self::string_length(rest, first)),
            _ => match Self::comment_length(rest) {
                Some(length) => (TokenKind::Comment, length),
                None => (TokenKind::Word, Self::word_length(rest)),
            },
        };
        self.at = start + length;
        Some(Token {
            kind,
            start,
            end: self.at,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(text: &str) -> Vec<(TokenKind, &str)> {
        Tokens::new(text)
            .map(|token| (token.kind, &text[token.start..token.end]))
            .collect()
    }

    #[test]
    fn brackets_in_strings_and_comments_are_not_brackets() {
        let found = texts("{a: '[{', /* [ */ \"\\\"]\": 1} // }");
        let kinds: Vec<&str> = found.iter().map(|(_, text)| *text).collect();
        assert_eq!(
            kinds,
            [
                "{",
                "a",
                ":",
                "'[{'",
                ",",
                "/* [ */",
                "\"\\\"]\"",
                ":",
                "1",
                "}",
                "// }"
            ]
        );
    }

    #[test]
    fn a_broken_string_ends_with_its_line_unless_the_line_end_is_escaped() {
        assert_eq!(texts("\"ab\nc")[0].1, "\"ab");
        assert_eq!(texts("\"ab\\\nc\"")[0].1, "\"ab\\\nc\"");
        assert_eq!(texts("\"ab")[0].1, "\"ab");
    }

    #[test]
    fn depth_and_the_unclosed_bracket_are_found() {
        assert_eq!(nesting("[[[]]]", 3).too_deep_at, None);
        assert_eq!(nesting("[[[[]]]]", 3).too_deep_at, Some(3));
        assert_eq!(nesting("{a: [1}", 9).unclosed_at, Some(0));
        assert_eq!(nesting("]]]{", 9).unclosed_at, Some(3));
        assert_eq!(nesting("{}", 9).unclosed_at, None);
    }

    proptest! {
        #[test]
        fn tokens_cover_everything_but_blanks(text in "[\\[\\]{}:,'\"/*\\\\a-c\u{e9}\u{2028}\n ]{0,60}") {
            let mut end = 0;
            for token in Tokens::new(&text) {
                prop_assert!(text[end..token.start].chars().all(is_blank));
                prop_assert!(token.start < token.end);
                end = token.end;
            }
            prop_assert!(text[end..].chars().all(is_blank));
        }
    }
}
