//! Why a RIM could not be read.

use thiserror::Error;

use super::xml::XmlFault;
use super::{MAX_MEASUREMENTS, MAX_RIM};
use crate::x509::X509Error;

/// The longest piece of a document that an error repeats, in characters. The values that recorded documents may have wrong
/// are shorter, but for identifiers of algorithms, whose beginning tells enough.
const MAX_SHOWN: usize = 64;

/// Why a RIM could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RimError {
    /// Larger than [`MAX_RIM`].
    #[error("a RIM of {0} bytes, at most {MAX_RIM} are accepted")]
    TooLarge(usize),
    /// Not the XML that RIMs are written in.
    #[error("byte {offset} of the RIM: {fault}")]
    Xml {
        /// Where, in bytes from the start of the document.
        offset: usize,
        /// What.
        fault: XmlFault,
    },
    /// The root element is not a SWID tag's.
    #[error("a document of the element {0:?}, a RIM is a SoftwareIdentity")]
    Root(String),
    /// An element that stands where the form of a RIM has another one or none.
    #[error("an element {found:?} in {parent} that the form of a RIM does not have there")]
    Element {
        /// Local name of the element it stands in.
        parent: &'static str,
        /// Its local name.
        found: String,
    },
    /// An attribute that the form of a RIM does not have.
    #[error("an attribute {found:?} of {element} that the form of a RIM does not have")]
    Attribute {
        /// Local name of the element.
        element: &'static str,
        /// Local name of the attribute.
        found: String,
    },
    /// An element or attribute is missing.
    #[error("{element} without {missing}")]
    Missing {
        /// Local name of the element that lacks it.
        element: &'static str,
        /// Local name of the element or attribute.
        missing: &'static str,
    },
    /// Text in an element that only has elements.
    #[error("text in {0}")]
    Text(&'static str),
    /// A value that is not of its form.
    #[error("{element} has {found:?} for {field}")]
    Value {
        /// Local name of the element.
        element: &'static str,
        /// Local name of the attribute, or what the text is.
        field: &'static str,
        /// What stands there, its beginning.
        found: String,
    },
    /// Another algorithm, binding or payload type than the ones that RIMs are known to have: a document that may be
    /// good, of a form that nothing here appraises.
    #[error("the {field} {found:?} of {element} is not supported")]
    Unsupported {
        /// Local name of the element.
        element: &'static str,
        /// Local name of the attribute.
        field: &'static str,
        /// What stands there, its beginning.
        found: String,
    },
    /// No measurement at all.
    #[error("a RIM without a measurement")]
    NoMeasurement,
    /// More measurements than [`MAX_MEASUREMENTS`].
    #[error("more than {MAX_MEASUREMENTS} measurements")]
    TooManyMeasurements,
    /// Two measurements of one index.
    #[error("two measurements of index {0}")]
    DuplicateIndex(u8),
    /// The attributes Hash0, Hash1, … of a measurement are not as many as it says.
    #[error("measurement {index} says {said} alternatives and has {found} hashes")]
    Alternatives {
        /// Index of the measurement.
        index: u8,
        /// What the attribute says.
        said: usize,
        /// How many hashes there are.
        found: usize,
    },
    /// A certificate cannot be read.
    #[error("certificate {index} of the RIM: {source}")]
    Certificate {
        /// Its position, 0 for the leaf.
        index: usize,
        /// Why.
        source: X509Error,
    },
}

impl RimError {
    /// Whether the document is well formed and uses what is not supported; all else is malformed.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. })
    }
}

/// The beginning of a piece of a document.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}
