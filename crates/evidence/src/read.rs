//! A cursor over bytes that an attacker chose: every read is checked, nothing indexes.

/// Reads fields from the front of a byte slice, little endian where a width has an order.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    consumed: usize,
}

/// The input ended before the field that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short {
    /// Offset of the field from the start of the input, in bytes.
    pub(crate) offset: usize,
    /// Bytes the field needs.
    pub(crate) needed: usize,
    /// Bytes that were left.
    pub(crate) left: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { rest: input, consumed: 0 }
    }

    pub(crate) fn offset(&self) -> usize {
        self.consumed
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, needed: usize) -> Result<&'a [u8], Short> {
        match self.rest.split_at_checked(needed) {
            Some((field, rest)) => {
                self.rest = rest;
                self.consumed = self.consumed.saturating_add(needed);
                Ok(field)
            }
            None => Err(Short { offset: self.consumed, needed, left: self.rest.len() }),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Short> {
        let short = Short { offset: self.consumed, needed: N, left: self.rest.len() };
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or(short)?;
        self.rest = rest;
        self.consumed = self.consumed.saturating_add(N);
        Ok(field)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        Ok(u16::from_le_bytes(*self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        Ok(u32::from_le_bytes(*self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        Ok(u64::from_le_bytes(*self.array()?))
    }
}
