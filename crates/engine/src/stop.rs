//! Stop strings in streamed text.

use zeroize::Zeroize as _;

use crate::request::StopStrings;

/// Passes text on, up to the first stop string, and holds back what may become one.
pub(crate) struct StopMatcher {
    stops: StopStrings,
    held: String,
}

/// Text that may be shown, and whether a stop string ended it.
pub(crate) enum Passed {
    /// More may follow.
    Text(String),
    /// A stop string followed.
    Stopped(String),
}

impl StopMatcher {
    pub(crate) fn new(stops: StopStrings) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes the next text.
    pub(crate) fn push(&mut self, text: &str) -> Passed {
        self.held.push_str(text);
        let first = self.stops.as_slice().iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(position) = first {
            let passed = self.held[..position].to_owned();
            self.held.zeroize();
            return Passed::Stopped(passed);
        }
        let keep = self.stops.as_slice().iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len().saturating_sub(keep));
        Passed::Text(std::mem::replace(&mut self.held, rest))
    }

    /// What was held back, at the end of the text.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

impl Drop for StopMatcher {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

/// Bytes of the longest end of `text` that begins `stop` without being all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let lengths = stop.char_indices().map(|(index, _)| index).rev();
    lengths.into_iter().find(|length| text.ends_with(&stop[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops = StopStrings::new(stops.iter().map(|stop| (*stop).to_owned()).collect()).unwrap();
        let mut matcher = StopMatcher::new(stops);
        let mut shown = String::new();
        for piece in pieces {
            match matcher.push(piece) {
                Passed::Text(text) => shown.push_str(&text),
                Passed::Stopped(text) => return (shown + &text, true),
            }
        }
        (shown + &matcher.finish(), false)
    }

    #[test]
    fn a_stop_string_across_pieces_is_found() {
        assert_eq!(run(&["END"], &["a E", "N", "D b"]), ("a ".to_owned(), true));
    }

    #[test]
    fn what_only_looked_like_one_is_shown() {
        assert_eq!(run(&["END"], &["a EN", "CODE"]), ("a ENCODE".to_owned(), false));
        assert_eq!(run(&["END"], &["a EN"]), ("a EN".to_owned(), false));
    }

    #[test]
    fn the_earliest_one_counts() {
        assert_eq!(run(&["c", "b"], &["abc"]), ("a".to_owned(), true));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[abé]{0,24}", stop in "[abé]{1,3}", cuts in prop::collection::vec(0usize..24, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| text.is_char_boundary(*cut)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let expected = match text.find(&stop) {
                Some(position) => (text[..position].to_owned(), true),
                None => (text.clone(), false),
            };
            prop_assert_eq!(run(&[&stop], &pieces), expected);
        }
    }
}
