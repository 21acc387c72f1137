//! Server-sent events (WHATWG HTML section 9.2.6), as far as the OpenAI API uses them: `data` fields.

/// The longest event, in bytes. An event carries a few tokens: under 1 KiB in practice.
const MAX_EVENT: usize = 1024 * 1024;

/// Takes a stream apart into the data of its events, however its bytes are cut.
#[derive(Default)]
pub(crate) struct Decoder {
    /// Bytes that no line end has followed yet.
    line: Vec<u8>,
    /// Data of the event that no empty line has followed yet.
    data: Option<Vec<u8>>,
    after_return: AfterReturn,
}

/// Whether the last byte was a carriage return, which a line feed may follow as part of the same line end.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum AfterReturn {
    #[default]
    No,
    Yes,
}

/// An event is longer than `MAX_EVENT`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Decoder {
    /// Takes further bytes and gives the data of every event that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let follows = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if follows == AfterReturn::Yes => {}
                b'\n' => events.extend(self.end_line()),
                b'\r' => {
                    self.after_return = AfterReturn::Yes;
                    events.extend(self.end_line());
                }
                _ => self.line.push(byte),
            }
            if self.line.len().saturating_add(self.data.as_ref().map_or(0, Vec::len)) > MAX_EVENT {
                return Err(TooLong);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.data.take();
        }
        if let Some(value) = data_field(&line) {
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            }
        }
        None
    }
}

fn data_field(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let mut decoder = Decoder::default();
        let pushed = pieces.iter().flat_map(|piece| decoder.push(piece).unwrap());
        pushed.map(|event| String::from_utf8(event).unwrap()).collect()
    }

    #[test]
    fn all_line_ends_are_read() {
        for end in ["\n", "\r\n", "\r"] {
            let text =
                format!(": comment{end}data: a{end}data:b{end}{end}event: x{end}id: 1{end}data{end}{end}");
            assert_eq!(events(&[text.as_bytes()]), ["a\nb", ""], "{end:?}");
        }
    }

    #[test]
    fn the_cut_does_not_matter() {
        let text = "data: {\"a\":\"é\"}\r\n\r\ndata: [DONE]\n\n".as_bytes();
        for cut in 0..=text.len() {
            let (first, second) = text.split_at(cut);
            assert_eq!(events(&[first, second]), ["{\"a\":\"é\"}", "[DONE]"], "cut at {cut}");
        }
    }

    #[test]
    fn an_unfinished_event_is_none() {
        assert_eq!(events(&[b"data: a\n", b"database: b\n"]), Vec::<String>::new());
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut decoder = Decoder::default();
        let long = vec![b'a'; MAX_EVENT];
        assert_eq!(decoder.push(&long), Ok(Vec::new()));
        assert_eq!(decoder.push(b"a"), Err(TooLong));
        let mut decoder = Decoder::default();
        let lines = b"data: 0123456789\n".repeat(MAX_EVENT / 8);
        assert_eq!(decoder.push(&lines), Err(TooLong));
    }
}
