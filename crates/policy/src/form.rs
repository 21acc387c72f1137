//! How expectations are written: a table of which exactly one field is given, or a word.
//!
//! The tables are read as structures, not as alternatives that are tried in turn, so that an unknown field is an error
//! that names it and its line.

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// The one field that is given. `names` says what may be.
///
/// # Errors
/// When none or more than one is.
pub(crate) fn one<V, E: de::Error, const N: usize>(given: [Option<V>; N], names: &str) -> Result<V, E> {
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(E::custom(format_args!("expected exactly one of {names}"))),
    }
}

/// What is written as one of some words, or as a table that is read as `Table`.
pub(crate) trait WordOrTable: Sized {
    /// The table's form.
    type Table: for<'de> Deserialize<'de>;
    /// What may be written, for errors.
    const EXPECTED: &'static str;

    /// What a word means; nothing where it means nothing.
    fn word(word: &str) -> Option<Self>;

    /// What a table means.
    fn table(table: Self::Table) -> Self;
}

/// Reads a word or a table.
///
/// # Errors
/// When it is neither, or the word has no meaning, or the table's fields are others.
pub(crate) fn word_or_table<'de, T: WordOrTable, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct Either<T>(PhantomData<T>);

    impl<'de, T: WordOrTable> Visitor<'de> for Either<T> {
        type Value = T;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(T::EXPECTED)
        }

        fn visit_str<E: de::Error>(self, word: &str) -> Result<T, E> {
            T::word(word).ok_or_else(|| E::invalid_value(Unexpected::Str(word), &self))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::Table::deserialize(MapAccessDeserializer::new(map)).map(T::table)
        }
    }

    deserializer.deserialize_any(Either(PhantomData))
}
