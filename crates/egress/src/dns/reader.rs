//! Reading the parts of a message, within its bounds.

use super::{MAX_LABEL, MAX_NAME};

/// The bytes break off, or a name is not one of a host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A place in a message.
#[derive(Clone)]
pub(super) struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    pub(super) fn new(message: &'m [u8]) -> Self {
        Self { message, at: 0 }
    }

    #[cfg(test)]
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.message.len()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'m [u8], Malformed> {
        let end = self.at.checked_add(length).ok_or(Malformed)?;
        let bytes = self.message.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(Malformed)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into().map_err(|_| Malformed)?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().map_err(|_| Malformed)?))
    }

    /// A name in lower case, of letters, digits, hyphens and underscores: other bytes cannot be compared as text, and no
    /// host has them. The root is no host either.
    ///
    /// Each pointer (RFC 1035 section 4.1.4) leads to before the place where the labels began that it ends: a name cannot
    /// go in circles.
    pub(super) fn name(&mut self) -> Result<String, Malformed> {
        let mut name = String::new();
        let mut labels = self.clone();
        let mut began = self.at;
        let mut followed = false;
        loop {
            let length = usize::from(labels.u8()?);
            if length == 0 {
                break;
            }
            if length & 0xc0 == 0xc0 {
                let target = (length & 0x3f) << 8 | usize::from(labels.u8()?);
                if !followed {
                    self.at = labels.at;
                    followed = true;
                }
                if target >= began {
                    return Err(Malformed);
                }
                began = target;
                labels.at = target;
                continue;
            }
            if length > MAX_LABEL {
                return Err(Malformed);
            }
            let label = labels.take(length)?;
            if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                return Err(Malformed);
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
            if name.len() > MAX_NAME {
                return Err(Malformed);
            }
        }
        if !followed {
            self.at = labels.at;
        }
        if name.is_empty() { Err(Malformed) } else { Ok(name) }
    }
}
