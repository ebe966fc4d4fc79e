//! Text of others, fit for a terminal and a file: no colours, and nothing that moves a cursor.

/// Whether a terminal does something else with it than to show it.
pub(super) const fn moves_a_cursor(character: char) -> bool {
    matches!(
        character,
        // C1 controls act on a terminal like their escape sequences.
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Bidirectional overrides make a text look like another one.
        | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// The line without escape sequences and control characters; a tab becomes a blank.
#[must_use]
pub fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' if characters.next_if_eq(&'[').is_some() => {
                // ECMA-48: parameters, then one letter that ends the sequence.
                for part in characters.by_ref() {
                    if matches!(part, '\u{40}'..='\u{7e}') {
                        break;
                    }
                }
            }
            '\t' => out.push(' '),
            acts if moves_a_cursor(acts) => {}
            plain => out.push(plain),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_controls_go_and_text_stays() {
        for (line, shown) in [
            (
                "\u{1b}[90m05:04\u{1b}[39m [gateway] ready…",
                "05:04 [gateway] ready…",
            ),
            ("a\tb\r\u{7}c", "a bc"),
            ("\u{1b}]0;title\u{7}x", "]0;titlex"),
            ("\u{1b}[2J\u{1b}", ""),
            ("\u{9b}31mred \u{202e}txt", "31mred txt"),
            ("cut \u{1b}[3", "cut "),
        ] {
            assert_eq!(plain(line), shown);
        }
    }
}
