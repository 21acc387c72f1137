//! What an event's data says, for people.

use super::EventType;
use crate::hex;
use crate::read::{Reader, Short};
use std::fmt::Write as _;

/// The longest description, in bytes. About two lines of a terminal.
pub const MAX_DESCRIPTION: usize = 160;

/// Bytes of data that are shown where it is not text.
const SHOWN: usize = 16;
/// Device path nodes that are looked at. Recorded paths have fewer than eight.
const MAX_NODES: usize = 16;

/// One line of printable ASCII, at most [`MAX_DESCRIPTION`] bytes.
pub(super) fn describe(event_type: EventType, data: &[u8]) -> String {
    let structured = match event_type {
        EventType::SEPARATOR => Some(separator(data)),
        EventType::NO_ACTION => data.get(..16).map(text),
        EventType::EVENT_TAG => tagged(data).ok(),
        EventType::EFI_VARIABLE_DRIVER_CONFIG
        | EventType::EFI_VARIABLE_BOOT
        | EventType::EFI_VARIABLE_BOOT2
        | EventType::EFI_VARIABLE_AUTHORITY => variable(data).ok(),
        EventType::EFI_BOOT_SERVICES_APPLICATION
        | EventType::EFI_BOOT_SERVICES_DRIVER
        | EventType::EFI_RUNTIME_SERVICES_DRIVER => image(data).ok(),
        EventType::EFI_PLATFORM_FIRMWARE_BLOB2 | EventType::EFI_HANDOFF_TABLES2 => named(data).ok(),
        EventType::EFI_GPT_EVENT | EventType::EFI_GPT_EVENT2 => {
            Some(format!("GUID partition table, {} bytes", data.len()))
        }
        _ => None,
    };
    bounded(structured.unwrap_or_else(|| text_or_bytes(data)))
}

fn separator(data: &[u8]) -> String {
    if data == [0; 4] { "end of the pre-boot phase".to_owned() } else { text_or_bytes(data) }
}

/// TCG_PCClientTaggedEvent: id, size, data.
fn tagged(data: &[u8]) -> Result<String, Short> {
    let mut reader = Reader::new(data);
    let (id, size) = (reader.u32()?, reader.u32()?);
    let content = reader.take(usize::try_from(size).unwrap_or(usize::MAX))?;
    Ok(format!("tag {id:08x}: {}", text_or_bytes(content)))
}

/// UEFI_VARIABLE_DATA: GUID, length of the name in UTF-16 units, length of the data.
fn variable(data: &[u8]) -> Result<String, Short> {
    let mut reader = Reader::new(data);
    let guid = guid(reader.array()?);
    let (units, size) = (reader.u64()?, reader.u64()?);
    let name = reader.take(usize::try_from(units).unwrap_or(usize::MAX).saturating_mul(2))?;
    Ok(format!("{} of {guid}, {size} bytes", utf16(name)))
}

/// UEFI_IMAGE_LOAD_EVENT: address, length, link-time address, length of the device path.
fn image(data: &[u8]) -> Result<String, Short> {
    let mut reader = Reader::new(data);
    reader.u64()?;
    let length = reader.u64()?;
    reader.u64()?;
    let path = reader.u64()?;
    let path = reader.take(usize::try_from(path).unwrap_or(usize::MAX))?;
    Ok(match file_of(path) {
        Some(file) => format!("image of {length} bytes, {file}"),
        None => format!("image of {length} bytes"),
    })
}

/// The file that a device path ends in (UEFI Specification 2.10, section 10.3.5): a path of a file system, or a file of
/// a firmware volume.
fn file_of(path: &[u8]) -> Option<String> {
    let mut reader = Reader::new(path);
    for _ in 0..MAX_NODES {
        let [kind, subtype, low, high] = *reader.array().ok()?;
        let content = reader.take(usize::from(u16::from_le_bytes([low, high])).checked_sub(4)?).ok()?;
        match (kind, subtype) {
            (4, 4) => return Some(utf16(content)),
            (4, 6) => return Some(format!("firmware file {}", guid(content.try_into().ok()?))),
            _ => {}
        }
    }
    None
}

/// Length of a description in one byte, then the description.
fn named(data: &[u8]) -> Result<String, Short> {
    let mut reader = Reader::new(data);
    let [length] = *reader.array()?;
    reader.take(usize::from(length)).map(text)
}

/// A GUID in its mixed byte order (RFC 9562 section 4, as UEFI stores it).
fn guid(bytes: &[u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, tail @ ..] = bytes;
    let [i, j, node @ ..] = tail;
    format!(
        "{}-{}-{}-{}-{}",
        hex::encode(&[*d, *c, *b, *a]),
        hex::encode(&[*f, *e]),
        hex::encode(&[*h, *g]),
        hex::encode(&[*i, *j]),
        hex::encode(node)
    )
}

fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).filter_map(|pair| Some(u16::from_le_bytes(pair.try_into().ok()?)));
    let letters = char::decode_utf16(units.take_while(|unit| *unit != 0).take(MAX_DESCRIPTION));
    escaped(letters.map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)))
}

/// ASCII up to the first NUL or to the end; what is not printable is escaped.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.iter().take_while(|byte| **byte != 0).take(MAX_DESCRIPTION);
    escaped(bytes.map(|byte| char::from(*byte)))
}

/// Data that begins with four or more printable bytes up to a NUL is text; of all else the first bytes are shown.
fn text_or_bytes(data: &[u8]) -> String {
    let content = data.iter().take_while(|byte| **byte != 0);
    let printable = |byte: &u8| (0x20..0x7f).contains(byte) || matches!(byte, b'\n' | b'\t');
    if data.len() >= 4 && content.clone().count() >= 4 && content.take(MAX_DESCRIPTION).all(printable) {
        return text(data);
    }
    let shown = hex::encode(data.get(..SHOWN).unwrap_or(data));
    if data.len() > SHOWN { format!("{} bytes: {shown}...", data.len()) } else { format!("bytes {shown}") }
}

fn escaped(letters: impl Iterator<Item = char>) -> String {
    let mut out = String::new();
    for letter in letters {
        match letter {
            ' '..='~' => out.push(letter),
            _ => {
                let _ = write!(out, "{}", letter.escape_unicode());
            }
        }
    }
    out
}

/// Every description is ASCII: it may be cut anywhere.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_DESCRIPTION {
        text.truncate(MAX_DESCRIPTION.saturating_sub(3));
        text.push_str("...");
    }
    text
}
