//! Text that evidence may have chosen, where people see it.

/// Whether a terminal obeys a character or reorders text by it: control characters, C1 among them, line and paragraph
/// separators, and bidirectional formatting (UAX 9 section 2).
#[must_use]
pub fn steers(one: char) -> bool {
    one.is_control()
        || matches!(one, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same JSON with `\u` escapes for all that [steers](steers) a terminal. JSON has such characters within strings
/// alone, but for the line feeds between its members, which stay (RFC 8259 sections 2 and 7).
#[must_use]
pub fn escape_json(json: String) -> String {
    let raw = |one: char| one != '\n' && steers(one);
    if !json.contains(raw) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len().saturating_add(64));
    for one in json.chars() {
        if raw(one) {
            // All of them are in the basic multilingual plane: four digits are enough.
            escaped.push_str(&format!("\\u{:04x}", u32::from(one)));
        } else {
            escaped.push(one);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_nothing_that_steers_a_terminal() {
        let text =
            "a\u{1b}\u{7f}\u{85}\u{9b}2J\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202e}\u{2066}\u{2069}é🦀\n";
        let value = serde_json::json!({ text: [text, "\t"] });
        for json in [value.to_string(), format!("{value:#}")] {
            let escaped = escape_json(json.clone());
            assert!(!escaped.contains(|one| one != '\n' && steers(one)), "{escaped:?}");
            assert!(escaped.contains("\\u009b2J") && escaped.contains("é🦀"), "{escaped}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value, "the same value");
            assert_eq!(escaped.matches('\n').count(), json.matches('\n').count());
        }
    }

    #[test]
    fn ordinary_json_stays_as_it_is() {
        let json = r#"{"a":["é","\u001b","\\"]}"#.to_owned();
        assert_eq!(escape_json(json.clone()), json);
    }
}
