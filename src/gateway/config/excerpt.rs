//! Shows the line of an error with a caret under the spot, and nothing that could be a secret.
//!
//! A config is full of tokens and an excerpt goes to a log, so only structure, keys and short plain
//! values are shown. Every other string, word and comment becomes `***`, whichever way a missing quote
//! has turned the file inside out.

use super::scan::{Token, TokenKind, Tokens};
use super::secrets;

/// An excerpt is cut to about this many columns around the caret.
const MAX_COLUMNS: usize = 120;

/// Of a long line only the tokens this near to the error, in bytes, are drawn at all.
const MAX_REACH: usize = 4096;

/// A longer key is masked: it is no key a person wrote.
const MAX_KEY_BYTES: usize = 64;

/// Draws the excerpt: the line, a newline, and a caret under the character at byte `offset`.
///
/// ASCII only, at most 120 columns wide, without the line's indentation.
pub(super) fn draw(text: &str, offset: usize) -> String {
    let (line_start, line_end) = line_around(text, offset);
    let mut shown: Vec<u8> = Vec::new();
    let mut caret = 0;
    let mut shown_to = line_start;
    let near = offset.saturating_sub(MAX_REACH)..offset.saturating_add(MAX_REACH);
    let mut is_cut = false;
    for (token, before, after) in with_neighbours(text) {
        if token.end <= line_start {
            continue;
        }
        if token.end <= near.start {
            is_cut = true;
            continue;
        }
        if token.start >= line_end || token.start >= near.end {
            break;
        }
        if token.start > shown_to && !shown.is_empty() {
            shown.push(b' ');
        }
        if token.start <= offset {
            caret = shown.len();
        }
        let first_on_line = text[line_start..token.start.max(line_start)]
            .trim()
            .is_empty();
        let piece = &text[token.start..token.end];
        let image = image(token, piece, before, after, first_on_line);
        // Only what is shown as it is written can be pointed into.
        if image == piece && (token.start..token.end).contains(&offset) {
            caret += offset - token.start;
        }
        shown.extend_from_slice(image.as_bytes());
        shown_to = token.end;
    }
    if offset >= shown_to && !shown.is_empty() {
        caret = shown.len();
    }
    frame(&shown, caret, is_cut)
}

/// Cuts the line around the caret and draws the caret below it; `is_cut` when more stands to the left.
fn frame(shown: &[u8], caret: usize, is_cut: bool) -> String {
    let caret = caret.min(shown.len());
    let from = caret.saturating_sub(MAX_COLUMNS / 2);
    let to = shown.len().min(from + MAX_COLUMNS);
    let (left, right) = (
        if from > 0 || is_cut { "..." } else { "" },
        if to < shown.len() { "..." } else { "" },
    );
    let middle = String::from_utf8_lossy(&shown[from..to]);
    format!(
        "{left}{middle}{right}\n{}^",
        " ".repeat(left.len() + caret - from)
    )
}

/// The bounds of the line an offset is on, without its line end.
fn line_around(text: &str, offset: usize) -> (usize, usize) {
    let offset = offset.min(text.len());
    let bytes = text.as_bytes();
    let ends = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let start = bytes[..offset]
        .iter()
        .rposition(ends)
        .map_or(0, |at| at + 1);
    let end = bytes[offset..]
        .iter()
        .position(ends)
        .map_or(bytes.len(), |at| offset + at);
    (start, end)
}

/// Each token with the kinds of the one before and after it, comments left out of the count.
fn with_neighbours(
    text: &str,
) -> impl Iterator<Item = (Token, Option<TokenKind>, Option<TokenKind>)> {
    let mut tokens = Tokens::new(text).peekable();
    let mut before = None;
    std::iter::from_fn(move || {
        let token = tokens.next()?;
        let after = tokens.peek().map(|next| next.kind);
        let was = before;
        if token.kind != TokenKind::Comment {
            before = Some(token.kind);
        }
        Some((token, was, after))
    })
}

/// How a token is shown.
fn image(
    token: Token,
    piece: &str,
    before: Option<TokenKind>,
    after: Option<TokenKind>,
    first_on_line: bool,
) -> String {
    let opens_a_key = matches!(before, Some(TokenKind::Open | TokenKind::Comma)) || first_on_line;
    let is_key = opens_a_key && after == Some(TokenKind::Colon);
    match token.kind {
        TokenKind::Open | TokenKind::Close | TokenKind::Colon | TokenKind::Comma => {
            piece.to_owned()
        }
        TokenKind::Comment => if piece.starts_with("//") {
            "// ***"
        } else {
            "/* *** */"
        }
        .to_owned(),
        TokenKind::String if is_key && is_plain_key(piece.trim_matches(['"', '\''])) => {
            piece.to_owned()
        }
        TokenKind::Word if (is_key && is_plain_key(piece)) || is_plain_value(piece) => {
            piece.to_owned()
        }
        TokenKind::String => {
            let quote = if piece.starts_with('"') { '"' } else { '\'' };
            let is_closed = piece.len() > 1 && piece.ends_with(quote);
            let end = if is_closed {
                quote.to_string()
            } else {
                String::new()
            };
            let content = if piece.len() == 1 + end.len() {
                ""
            } else {
                "***"
            };
            format!("{quote}{content}{end}")
        }
        TokenKind::Word => "***".to_owned(),
    }
}

fn is_plain_key(key: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_$.:/@-".contains(&byte);
    !key.is_empty()
        && key.len() <= MAX_KEY_BYTES
        && key.bytes().all(plain)
        && !secrets::looks_like_one(key)
}

/// A literal, or a number too short to be a secret.
fn is_plain_value(word: &str) -> bool {
    matches!(
        word,
        "true" | "false" | "null" | "NaN" | "Infinity" | "=" | ";"
    ) || (word.len() <= 5
        && word
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Draws the spot where `§` stands, with `§` taken out.
    fn at(text: &str) -> String {
        let offset = text.find('§').unwrap();
        draw(&text.replace('§', ""), offset)
    }

    #[test]
    fn keys_and_structure_are_shown_and_values_are_not() {
        assert_eq!(
            at(
                "{\n  \"gateway\": {\"port\": 3000, \"token\": \"hunter2\" §\"mode\": \"local\"}\n}"
            ),
            "\"gateway\": {\"port\": 3000, \"token\": \"***\" \"***\": \"***\"}\n                                         ^"
        );
        assert_eq!(at("{\n  a: true\n  §b: \"x\"\n}"), "b: \"***\"\n^");
        assert_eq!(at("{ \"a\": \"x\" // hunter2\n§"), "\n^");
        assert_eq!(at("{a: § /* hunter2 */ 1}"), "{a: /* *** */ 1}\n  ^");
    }

    #[test]
    fn a_missing_quote_does_not_turn_values_into_keys() {
        for text in [
            "{\"a: §\"hunter2\", \"b\": \"hunter2\"}",
            "{token: §hunter2}",
            "{token: §hunter2, b: 1}",
            "{\"token\": §'hunter2}",
            "{\"token\" \"hunter2§\": 1}",
            "[§\"hunter2\", \"hunter2\"]",
            "{a: 'x' §hunter2: 1}",
            "// hunter2 §",
        ] {
            assert!(!at(text).contains("hunter2"), "{text}: {}", at(text));
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!(
            "{{{}§x y{}}}",
            "\"k\":1,".repeat(100),
            ",\"k\":1".repeat(100)
        );
        let drawn = at(&text);
        let (line, caret) = drawn.split_once('\n').unwrap();
        assert!(line.len() <= MAX_COLUMNS + 6);
        assert!(line.starts_with("...") && line.ends_with("..."));
        assert_eq!(&line[caret.len() - 1..caret.len() + 2], "***");
    }

    proptest! {
        #[test]
        fn the_caret_lies_under_the_line_or_right_behind_it(
            text in "[\\[\\]{}:,'\"/*\\\\a-c\u{e9}\u{7}\n ]{0,80}",
            at in 0..80_usize,
        ) {
            let offset = (0..=at.min(text.len())).rev().find(|it| text.is_char_boundary(*it)).unwrap();
            let drawn = draw(&text, offset);
            let (line, caret) = drawn.split_once('\n').unwrap();
            prop_assert!(caret.len() <= line.len() + 1, "{drawn}");
            prop_assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{drawn:?}");
        }
    }
}
