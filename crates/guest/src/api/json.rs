//! JSON read a level at a time: memory stays in proportion to the body, unread values stay where they are, and
//! every fault names its parameter.

use std::fmt;

use serde::de::{Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::fault::Fault;

/// Members of one object. OpenAI's API has about forty parameters.
const MAX_MEMBERS: usize = 128;

/// The type of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// The name in errors.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// One unread value and the parameter that it is. Neither `Debug` nor `Display`: it is content.
pub(super) struct Value<'a> {
    path: String,
    raw: &'a RawValue,
}

/// Reads the outermost value of a body.
pub(super) fn read(body: &[u8]) -> Result<Value<'_>, Fault> {
    let text = std::str::from_utf8(body).map_err(|error| Fault::NotUtf8 { offset: error.valid_up_to() })?;
    let raw = serde_json::from_str(text)
        .map_err(|error| Fault::NotJson { line: error.line(), column: error.column() })?;
    Ok(Value { path: String::new(), raw })
}

impl<'a> Value<'a> {
    /// The parameter: `messages[2].content`.
    pub(super) fn path(&self) -> String {
        match self.path.as_str() {
            "" => "the body".to_owned(),
            path => path.to_owned(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.raw.get().as_bytes().first() {
            Some(b'n') => Kind::Null,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'"') => Kind::String,
            Some(b'[') => Kind::Array,
            Some(b'{') => Kind::Object,
            _ => Kind::Number,
        }
    }

    /// Refuses another type than `kind`, which errors call `expected`.
    pub(super) fn expect(&self, kind: Kind, expected: &'static str) -> Result<(), Fault> {
        if self.kind() == kind { Ok(()) } else { Err(self.mistyped(expected)) }
    }

    pub(super) fn mistyped(&self, expected: &'static str) -> Fault {
        Fault::Type { param: self.path(), expected, found: self.kind() }
    }

    pub(super) fn invalid(&self, reason: impl Into<String>) -> Fault {
        Fault::Value { param: self.path(), reason: reason.into() }
    }

    pub(super) fn unsupported(&self, supported: &'static str) -> Fault {
        Fault::UnsupportedParameter { param: self.path(), supported }
    }

    pub(super) fn boolean(&self) -> Result<bool, Fault> {
        self.expect(Kind::Boolean, "a boolean")?;
        Ok(self.raw.get() == "true")
    }

    pub(super) fn number(&self) -> Result<f64, Fault> {
        self.expect(Kind::Number, "a number")?;
        serde_json::from_str(self.raw.get()).map_err(|_| self.invalid("the number is too large"))
    }

    /// An integer without fraction or exponent.
    pub(super) fn integer(&self) -> Result<i128, Fault> {
        self.expect(Kind::Number, "an integer")?;
        if self.raw.get().contains(['.', 'e', 'E']) {
            return Err(self.mistyped("an integer"));
        }
        serde_json::from_str(self.raw.get()).map_err(|_| self.invalid("the number is too large"))
    }

    pub(super) fn string(&self) -> Result<Zeroizing<String>, Fault> {
        self.expect(Kind::String, "a string")?;
        let text = serde_json::from_str(self.raw.get()).map_err(|_| Fault::Escape { param: self.path() })?;
        Ok(Zeroizing::new(text))
    }

    /// Members of an object, in order.
    pub(super) fn object(&self) -> Result<Vec<(String, Value<'a>)>, Fault> {
        self.expect(Kind::Object, "an object")?;
        let mut json = serde_json::Deserializer::from_str(self.raw.get());
        let members = json.deserialize_map(Members).map_err(|error| match error.is_data() {
            true => self.invalid(format!("more than {MAX_MEMBERS} members")),
            false => Fault::Escape { param: self.path() },
        })?;
        let mut object: Vec<(String, Value<'a>)> = Vec::with_capacity(members.len());
        for (name, raw) in members {
            let path = if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
            if object.iter().any(|(other, _)| *other == name) {
                return Err(Fault::Duplicate { param: path });
            }
            object.push((name, Value { path, raw }));
        }
        Ok(object)
    }

    /// Elements of an array, at most `limit`.
    pub(super) fn array(&self, limit: usize) -> Result<Vec<Value<'a>>, Fault> {
        self.expect(Kind::Array, "an array")?;
        let mut json = serde_json::Deserializer::from_str(self.raw.get());
        let elements = json
            .deserialize_seq(Elements { limit })
            .map_err(|_| self.invalid(format!("more than {limit} elements")))?;
        let at = |(index, raw)| Value { path: format!("{}[{index}]", self.path), raw };
        Ok(elements.into_iter().enumerate().map(at).collect())
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key()? {
            if members.len() == MAX_MEMBERS {
                return Err(A::Error::custom("too many members"));
            }
            members.push((name, map.next_value()?));
        }
        Ok(members)
    }
}

struct Elements {
    limit: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            if elements.len() == self.limit {
                return Err(A::Error::custom("too many elements"));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}
