//! Where the events of a stream end, so that what breaks off can be told from what is whole.

use bytes::Bytes;

/// The most bytes of an event that wait for its end. Guests write an event for each token, of a few hundred bytes; with the
/// twenty likeliest tokens beside each it has under ten thousand.
const MAX_HELD: usize = 64 * 1024;

/// Passes on whole events of a stream of server-sent events (WHATWG HTML section 9.2.5).
///
/// No program can use a part of an event, so that holding it back until its end is there delays nothing. An event that
/// outgrows [`MAX_HELD`] is passed on as it comes.
#[derive(Debug)]
pub(super) struct Events {
    /// The beginning of an event.
    held: Vec<u8>,
    /// Whether what was passed on ends where an event ends.
    between: bool,
    /// Whether the line that comes next, or now, has no character yet.
    at_start: bool,
    /// Where the last byte is a carriage return, to which a line feed may belong: whether it ended an event.
    returned: Option<bool>,
}

impl Events {
    /// Before the first byte, where an event may begin.
    pub(super) fn new() -> Self {
        Self { held: Vec::new(), between: true, at_start: true, returned: None }
    }

    /// Whether something of ours may follow what was passed on, as an event of its own. What is held does not matter: it
    /// was seen by nobody.
    pub(super) fn are_whole(&self) -> bool {
        self.between
    }

    /// Takes what comes next of the stream, and gives what is to be passed on now.
    pub(super) fn take(&mut self, mut data: Bytes) -> Option<Bytes> {
        let end = self.last_end(&data);
        if end == 0 {
            return self.take_part(data);
        }
        let rest = data.split_off(end);
        let whole = self.with_held(data);
        self.held.extend_from_slice(&rest);
        self.between = true;
        Some(whole)
    }

    /// What is left at the end of the stream: the beginning of an event whose end never came, which readers discard.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        (!self.held.is_empty()).then(|| std::mem::take(&mut self.held).into())
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn take_part(&mut self, data: Bytes) -> Option<Bytes> {
        if self.between && self.held.len().saturating_add(data.len()) <= MAX_HELD {
            self.held.extend_from_slice(&data);
            return None;
        }
        self.between = false;
        Some(self.with_held(data))
    }

    fn with_held(&mut self, data: Bytes) -> Bytes {
        if self.held.is_empty() {
            return data;
        }
        self.held.extend_from_slice(&data);
        std::mem::take(&mut self.held).into()
    }

    /// Up to which byte of what comes next all events are whole; 0 where none ends here. An event ends with an empty line,
    /// a line with a line feed, a carriage return, or both.
    fn last_end(&mut self, data: &[u8]) -> usize {
        if data.ends_with(b"\n\n") {
            (self.at_start, self.returned) = (true, None);
            return data.len();
        }
        let mut end = 0;
        for (place, byte) in (1..).zip(data) {
            let ends = match (byte, self.returned.take()) {
                (b'\n', Some(ended)) => ended,
                (b'\n', None) => self.at_start,
                (b'\r', _) => {
                    self.returned = Some(self.at_start);
                    self.at_start
                }
                _ => false,
            };
            self.at_start = matches!(byte, b'\n' | b'\r');
            if ends {
                end = place;
            }
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of pieces, each as it comes.
    fn passed(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Events) {
        let mut events = Events::new();
        let passed = pieces.iter().filter_map(|piece| events.take(Bytes::copy_from_slice(piece)));
        (passed.map(|piece| piece.to_vec()).collect(), events)
    }

    #[test]
    fn whole_events_are_passed_on_as_they_come() {
        for end in ["\n\n", "\r\n\r\n", "\r\r", "\n\r\n"] {
            let pieces = [format!("data: a{end}"), format!(": alive{end}data: b{end}")];
            let (passed, mut events) = passed(&[pieces[0].as_bytes(), pieces[1].as_bytes()]);
            assert_eq!(passed, pieces.map(String::into_bytes), "{end:?}");
            assert!(events.are_whole() && events.is_empty() && events.rest().is_none(), "{end:?}");
        }
    }

    /// However a stream is cut, everything is passed on, and nothing of an event before its end.
    #[test]
    fn a_part_of_an_event_waits_for_its_end() {
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let stream = format!("event: x{end}data: a\ndata: b{end}\n");
            let first = "event: x".len() + end.len();
            for cut in 0..=stream.len() {
                for second in cut..=stream.len() {
                    let bytes = stream.as_bytes();
                    let (passed, mut events) =
                        passed(&[&bytes[..cut], &bytes[cut..second], &bytes[second..]]);
                    assert!(events.are_whole(), "{end:?} {cut} {second}");
                    let all = [passed.concat(), events.rest().unwrap_or_default().to_vec()].concat();
                    assert_eq!(all, bytes, "{end:?} {cut} {second}");
                    if cut > 0 && cut < first - 1 {
                        // A line feed that belongs to the carriage return before it may come later.
                        let least = first - usize::from(end.len() == 4);
                        assert!(passed[0].len() >= least, "{end:?} {cut} {second}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_was_not_passed_on_does_not_stand_before_an_event_of_ours() {
        let (passed, events) = passed(&[b"data: a\n\ndata: b", b"c\n"]);
        assert_eq!(passed, [b"data: a\n\n"]);
        assert!(events.are_whole() && !events.is_empty());
    }

    #[test]
    fn an_event_that_is_too_long_to_wait_for_is_passed_on_in_parts() {
        let half = vec![b'x'; MAX_HELD / 2 + 1];
        let (parts, mut events) = passed(&[&half, &half, b"y"]);
        assert_eq!(parts, [[&half[..], &half[..]].concat(), b"y".to_vec()]);
        assert!(!events.are_whole(), "nothing of ours may follow");
        assert_eq!(events.take(Bytes::from_static(b"\n\ndata")).unwrap(), "\n\n");
        assert!(events.are_whole());
    }
}
