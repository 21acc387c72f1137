//! Fuzzers' bytes as a list of small decisions.

/// Reads decisions from bytes. Where there are no more, every decision is zero.
#[derive(Debug)]
pub(crate) struct Edits<'a> {
    rest: &'a [u8],
}

/// The most bytes that are read as decisions: some hundred changes.
const MAX_DECISIONS: usize = 4096;

impl<'a> Edits<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: &bytes[..bytes.len().min(MAX_DECISIONS)] }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// A number below `limit`, zero where that is zero.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let number =
            usize::from(self.byte()) << 16 | usize::from(self.byte()) << 8 | usize::from(self.byte());
        if limit == 0 { 0 } else { number % limit }
    }

    /// Up to `limit` bytes as they stand.
    pub(crate) fn take(&mut self, limit: usize) -> &'a [u8] {
        let size = self.below(limit + 1).min(self.rest.len());
        let (taken, rest) = self.rest.split_at(size);
        self.rest = rest;
        taken
    }

    /// Changes one place of `bytes`: overwrites, inserts or removes.
    pub(crate) fn change(&mut self, bytes: &mut Vec<u8>) {
        let kind = self.byte() % 4;
        let at = self.below(bytes.len());
        match kind {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= self.byte();
                }
            }
            1 => {
                for (byte, new) in bytes.iter_mut().skip(at).zip(self.take(64)) {
                    *byte = *new;
                }
            }
            2 => {
                let new = self.take(64).to_vec();
                let at = at.min(bytes.len());
                bytes.splice(at..at, new);
            }
            _ => {
                let end = at.saturating_add(self.below(64)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
        }
    }

    /// Changes one place of a text, which stays a text.
    pub(crate) fn change_text(&mut self, text: &mut String) {
        let mut bytes = std::mem::take(text).into_bytes();
        self.change(&mut bytes);
        *text = String::from_utf8_lossy(&bytes).into_owned();
    }
}
