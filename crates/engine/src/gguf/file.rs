//! The container: metadata, and tensors by name.

use std::collections::BTreeMap;

use crate::error::EngineError;

/// Metadata of a file. Published ones have fewer than a hundred.
const MAX_ENTRIES: usize = 1 << 12;
/// Tensors of a file: those of a thousand layers with a dozen each, with room to spare.
const MAX_TENSORS: usize = 1 << 15;
/// Bytes of the name of an entry or a tensor. The format allows 65,535 for one and 64 for the other; published ones have at most 64.
const MAX_NAME: usize = 1 << 10;
/// Dimensions of a tensor. The bound of the format.
const MAX_DIMENSIONS: usize = 4;
/// Arrays inside arrays. Published files have none.
const MAX_NESTING: usize = 2;

const MAGIC: &[u8; 4] = b"GGUF";
/// Where a file says nothing of it, tensors begin at multiples of this.
const ALIGNMENT: usize = 32;
const ALIGNMENT_KEY: &str = "general.alignment";

/// A parsed file. Borrows its bytes.
pub struct Gguf<'a> {
    entries: BTreeMap<&'a str, Value<'a>>,
    tensors: BTreeMap<&'a str, Tensor<'a>>,
}

/// A value of the metadata.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Any unsigned number.
    Unsigned(u64),
    /// Any signed number.
    Signed(i64),
    /// Any number with a fraction.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// Text.
    Text(&'a str),
    /// Values of one type.
    Array(Values<'a>),
}

/// An array of the metadata. Its elements were walked over once, and are decoded when somebody wants them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values<'a> {
    kind: u32,
    count: usize,
    bytes: &'a [u8],
}

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats of IEEE 754.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
    /// Blocks of 32: a scale and 4 bits each.
    Q4_0,
    /// Blocks of 32: a scale and 5 bits each.
    Q5_0,
    /// Blocks of 32: a scale and 8 bits each.
    Q8_0,
    /// Blocks of 256: scales and minima of 6 bits, 4 bits each.
    Q4K,
    /// Blocks of 256: scales of 8 bits, 6 bits each.
    Q6K,
}

impl TensorType {
    fn new(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            6 => Self::Q5_0,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Numbers of a block, and its bytes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q5_0 => (32, 22),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q6K => (256, 210),
        }
    }
}

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    /// Lengths, outermost first: the opposite order of the file.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub kind: TensorType,
    /// The numbers, row after row.
    pub bytes: &'a [u8],
}

impl<'a> Gguf<'a> {
    /// Parses a whole file.
    ///
    /// # Errors
    /// [`EngineError::GgufInvalid`]: it is not of this format or cut off, names something twice, or has a tensor outside of
    /// it. [`EngineError::TensorType`]: a tensor in a format that this engine does not compute with.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EngineError> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(invalid("it does not begin with GGUF"));
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(invalid(format!("version {version}; versions 2 and 3 are supported")));
        }
        let tensors = reader.count("tensors", MAX_TENSORS)?;
        let entries = reader.count("metadata entries", MAX_ENTRIES)?;
        let entries = (0..entries).map(|_| reader.entry());
        let entries = unique("metadata entry", entries.collect::<Result<Vec<_>, _>>()?)?;
        let alignment = alignment(&entries)?;
        let places = (0..tensors).map(|_| reader.place()).collect::<Result<Vec<_>, _>>()?;
        let data = reader.at.checked_next_multiple_of(alignment).and_then(|start| bytes.get(start..));
        let data = data.ok_or_else(cut_off)?;
        let tensors = places.into_iter().map(|place| place.tensor(data, alignment));
        let tensors = unique("tensor", tensors.collect::<Result<Vec<_>, _>>()?)?;
        Ok(Self { entries, tensors })
    }

    /// A value of the metadata.
    pub fn value(&self, key: &str) -> Option<Value<'a>> {
        self.entries.get(key).copied()
    }

    /// Text of the metadata, or nothing where the entry is missing or something else.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        match self.value(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A number of the metadata that is not negative, or nothing where the entry is missing or something else.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            Value::Unsigned(number) => Some(number),
            Value::Signed(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }

    /// A number of the metadata, or nothing where the entry is missing or something else.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.value(key)? {
            Value::Float(number) => Some(number),
            _ => None,
        }
    }

    /// Yes or no of the metadata, or nothing where the entry is missing or something else.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.value(key)? {
            Value::Bool(answer) => Some(answer),
            _ => None,
        }
    }

    /// An array of the metadata, or nothing where the entry is missing or something else.
    pub fn array(&self, key: &str) -> Option<Values<'a>> {
        match self.value(key)? {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<&'a str, Tensor<'a>> {
        &self.tensors
    }
}

impl<'a> Values<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (mut reader, kind) = (Reader { bytes: self.bytes, at: 0 }, self.kind);
        (0..self.count).map_while(move |_| reader.value(kind, MAX_NESTING).ok())
    }
}

/// Where a tensor is.
struct Place<'a> {
    name: &'a str,
    shape: Vec<usize>,
    kind: TensorType,
    offset: usize,
}

impl<'a> Place<'a> {
    /// The tensor, out of the part of the file where they all are.
    fn tensor(self, data: &'a [u8], alignment: usize) -> Result<(&'a str, Tensor<'a>), EngineError> {
        let Self { name, shape, kind, offset } = self;
        let (numbers, block) = kind.block();
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(numbers) {
            return Err(invalid(format!(
                "tensor {name} has rows of {row}, which are no whole blocks of {numbers}"
            )));
        }
        let all = shape.iter().try_fold(1_usize, |product, length| product.checked_mul(*length));
        let bytes = all.and_then(|all| all.checked_div(numbers)).and_then(|blocks| blocks.checked_mul(block));
        let end = bytes.and_then(|bytes| offset.checked_add(bytes));
        let bytes = end.filter(|_| offset.is_multiple_of(alignment)).and_then(|end| data.get(offset..end));
        let bytes =
            bytes.ok_or_else(|| invalid(format!("tensor {name} is not in the file, or not aligned")))?;
        Ok((name, Tensor { shape, kind, bytes }))
    }
}

/// Reads a file from its beginning.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], EngineError> {
        let end = self.at.checked_add(length).ok_or_else(cut_off)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(cut_off)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EngineError> {
        self.take(N)?.try_into().map_err(|_| cut_off())
    }

    fn u32(&mut self) -> Result<u32, EngineError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn length(&mut self) -> Result<usize, EngineError> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| cut_off())
    }

    fn count(&mut self, what: &str, most: usize) -> Result<usize, EngineError> {
        let count = self.length()?;
        if count <= most { Ok(count) } else { Err(invalid(format!("{count} {what}, at most {most}"))) }
    }

    fn text(&mut self) -> Result<&'a str, EngineError> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| invalid("a text is not UTF-8"))
    }

    fn name(&mut self) -> Result<&'a str, EngineError> {
        let name = self.text()?;
        if name.len() <= MAX_NAME {
            Ok(name)
        } else {
            Err(invalid(format!("a name has {} bytes, at most {MAX_NAME}", name.len())))
        }
    }

    fn entry(&mut self) -> Result<(&'a str, Value<'a>), EngineError> {
        let key = self.name()?;
        let kind = self.u32()?;
        Ok((key, self.value(kind, MAX_NESTING)?))
    }

    /// A value of the type with this number.
    fn value(&mut self, kind: u32, nesting: usize) -> Result<Value<'a>, EngineError> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => match self.array()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(invalid("a yes or no is neither")),
            },
            8 => Value::Text(self.text()?),
            9 => Value::Array(self.values(nesting)?),
            10 => Value::Unsigned(u64::from_le_bytes(self.array()?)),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(invalid(format!("type {kind} of a value is not known"))),
        })
    }

    /// An array: it is walked over, so that what is inside is known to be whole.
    fn values(&mut self, nesting: usize) -> Result<Values<'a>, EngineError> {
        let nesting = nesting.checked_sub(1).ok_or_else(|| invalid("arrays nest too deep"))?;
        let (kind, count) = (self.u32()?, self.length()?);
        let start = self.at;
        // Every value takes a byte at least, so that no count keeps this busy for longer than the file is long.
        for _ in 0..count {
            self.value(kind, nesting)?;
        }
        let bytes = self.bytes.get(start..self.at).unwrap_or_default();
        Ok(Values { kind, count, bytes })
    }

    fn place(&mut self) -> Result<Place<'a>, EngineError> {
        let name = self.name()?;
        let dimensions = self.u32()?;
        let dimensions =
            usize::try_from(dimensions).ok().filter(|count| (1..=MAX_DIMENSIONS).contains(count));
        let dimensions = dimensions.ok_or_else(|| {
            invalid(format!("tensor {name} does not have one to {MAX_DIMENSIONS} dimensions"))
        })?;
        let mut shape = (0..dimensions).map(|_| self.length()).collect::<Result<Vec<_>, _>>()?;
        shape.reverse();
        let code = self.u32()?;
        let kind = TensorType::new(code);
        let kind = kind.ok_or_else(|| EngineError::TensorType {
            name: name.to_owned(),
            dtype: format!("ggml {code}"),
        })?;
        let offset = self.length()?;
        Ok(Place { name, shape, kind, offset })
    }
}

fn alignment(entries: &BTreeMap<&str, Value<'_>>) -> Result<usize, EngineError> {
    let Some(value) = entries.get(ALIGNMENT_KEY) else { return Ok(ALIGNMENT) };
    let alignment = match value {
        Value::Unsigned(alignment) => usize::try_from(*alignment).ok(),
        _ => None,
    };
    let alignment = alignment.filter(|alignment| alignment.is_power_of_two() && *alignment >= 8);
    alignment.ok_or_else(|| invalid(format!("{ALIGNMENT_KEY} is no power of two from eight on")))
}

/// By name, where no name is given twice.
fn unique<'a, T>(what: &str, named: Vec<(&'a str, T)>) -> Result<BTreeMap<&'a str, T>, EngineError> {
    let mut found = BTreeMap::new();
    for (name, value) in named {
        if found.insert(name, value).is_some() {
            return Err(invalid(format!("{what} {name} appears twice")));
        }
    }
    Ok(found)
}

fn cut_off() -> EngineError {
    invalid("it is cut off")
}

pub(super) fn invalid(reason: impl Into<String>) -> EngineError {
    EngineError::GgufInvalid { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    fn head(tensors: u64, entries: u64) -> Vec<u8> {
        [&MAGIC[..], &3u32.to_le_bytes(), &tensors.to_le_bytes(), &entries.to_le_bytes()].concat()
    }

    fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        [&text(key)[..], &kind.to_le_bytes(), value].concat()
    }

    fn place(name: &str, shape: &[u64], kind: u32, offset: u64) -> Vec<u8> {
        let mut bytes = [&text(name)[..], &(shape.len() as u32).to_le_bytes()].concat();
        shape.iter().rev().for_each(|length| bytes.extend(length.to_le_bytes()));
        [&bytes[..], &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
    }

    /// One entry of many types and two tensors.
    fn file() -> Vec<u8> {
        let strings = [&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &text("a"), &text("")].concat();
        let mut file = [
            head(2, 6),
            entry("n", 4, &7u32.to_le_bytes()),
            entry("minus", 11, &(-3i64).to_le_bytes()),
            entry("f", 6, &1.5f32.to_le_bytes()),
            entry("yes", 7, &[1]),
            entry("list", 9, &strings),
            entry("name", 8, &text("Ein Modell")),
            place("x", &[2, 3], 0, 0),
            place("q", &[1, 32], 8, 32),
        ]
        .concat();
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        (0..6u32).for_each(|number| file.extend((number as f32).to_le_bytes()));
        file.resize(file.len() + 8, 0);
        file.extend([9; 34]);
        file
    }

    fn reason(bytes: &[u8]) -> String {
        match Gguf::parse(bytes) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("it must be refused"),
        }
    }

    #[test]
    fn values_and_tensors_are_found() {
        let file = file();
        let gguf = Gguf::parse(&file).unwrap();
        assert_eq!((gguf.unsigned("n"), gguf.unsigned("minus"), gguf.float("f")), (Some(7), None, Some(1.5)));
        assert_eq!(
            (gguf.bool("yes"), gguf.text("name"), gguf.text("n")),
            (Some(true), Some("Ein Modell"), None)
        );
        let list = gguf.array("list").unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), [Value::Text("a"), Value::Text("")]);
        let x = &gguf.tensors()["x"];
        assert_eq!((&x.shape[..], x.kind, x.bytes.len()), (&[2, 3][..], TensorType::F32, 24));
        assert_eq!(x.bytes[4..8], 1f32.to_le_bytes());
        assert_eq!(gguf.tensors()["q"].bytes, [9; 34]);
    }

    #[test]
    fn every_truncation_is_refused() {
        let file = file();
        for length in 0..file.len() {
            assert!(Gguf::parse(&file[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let tensor = |place: Vec<u8>| [head(1, 0), place, vec![0; 128]].concat();
        for (file, part) in [
            (b"GGML".to_vec(), "does not begin with GGUF"),
            ([&MAGIC[..], &9u32.to_le_bytes(), &[0; 16]].concat(), "version 9"),
            (head(u64::MAX, 0), "tensors, at most"),
            (head(1 << 40, 0), "tensors, at most"),
            (head(0, 1 << 40), "metadata entries, at most"),
            ([head(0, 1), text(&"k".repeat(2000))].concat(), "a name has 2000 bytes"),
            ([head(0, 1), entry("k", 13, &[])].concat(), "type 13 of a value"),
            ([head(0, 1), entry("k", 7, &[2])].concat(), "neither"),
            ([head(0, 1), entry("k", 8, &[&1u64.to_le_bytes()[..], b"\xff"].concat())].concat(), "not UTF-8"),
            ([head(0, 2), entry("k", 7, &[1]), entry("k", 7, &[1])].concat(), "entry k appears twice"),
            ([head(0, 1), entry(ALIGNMENT_KEY, 4, &3u32.to_le_bytes())].concat(), "no power of two"),
            (tensor(place("t", &[], 0, 0)), "one to 4 dimensions"),
            (tensor(place("t", &[1, 1, 1, 1, 1], 0, 0)), "one to 4 dimensions"),
            (tensor(place("t", &[64], 0, 0)), "not in the file"),
            (tensor(place("t", &[1], 0, 1)), "not aligned"),
            (tensor(place("t", &[u64::MAX, 2], 0, 0)), "not in the file"),
            (tensor(place("t", &[1], 0, u64::MAX - 31)), "not in the file"),
            (tensor(place("t", &[33], 8, 0)), "whole blocks"),
            (tensor(place("t", &[32], 99, 0)), "ggml 99"),
            (
                [head(2, 0), place("t", &[1], 0, 0), place("t", &[1], 0, 0), vec![0; 99]].concat(),
                "appears twice",
            ),
        ] {
            assert!(reason(&file).contains(part), "{} must say {part:?}", reason(&file));
        }
    }

    #[test]
    fn arrays_without_end_and_arrays_in_arrays_are_refused() {
        let endless = [&0u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
        assert!(reason(&[head(0, 1), entry("k", 9, &endless)].concat()).contains("cut off"));
        let mut deep = Vec::new();
        (0..100).for_each(|_| deep.extend([&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat()));
        assert!(reason(&[head(0, 1), entry("k", 9, &deep)].concat()).contains("nest too deep"));
    }

    proptest! {
        #[test]
        fn no_changed_byte_panics(at in 0usize..500, byte: u8) {
            let mut file = file();
            let at = at % file.len();
            file[at] = byte;
            let _ = Gguf::parse(&file);
        }
    }
}
