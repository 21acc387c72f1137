//! Reference integrity manifests (RIMs): the measurements that NVIDIA signs for a driver or a VBIOS.
//!
//! A RIM is a SWID tag (ISO/IEC 19770-2:2015) with an enveloped XML signature. Fields, the bytes under the digest and
//! the bytes under the signature come from one tree of a strict reader, so that what is used is what is signed. The form
//! is closed: an element or attribute that recorded RIMs do not have is refused. Parsing establishes no trust: the verifier
//! compares [`Rim::digest`], verifies [`Rim::signature`] with the key of the leaf and appraises the chain.

mod canonical;
mod error;
mod xml;

pub use error::RimError;
pub use xml::{
    MAX_XML_ATTRIBUTES, MAX_XML_DEPTH, MAX_XML_ELEMENTS, MAX_XML_NAME, MAX_XML_PREFIXES, XmlFault,
};

use error::shown;
use xml::{Element, Namespace, Node};

use crate::hex;
use crate::pem;
use crate::x509::Certificate;

/// The largest RIM accepted, in bytes. Recorded ones have at most 26 KiB.
pub const MAX_RIM: usize = 128 * 1024;
/// Number of certificates in a RIM, the root included.
pub const RIM_CHAIN_LENGTH: usize = 4;
/// The most measurements of a RIM. Recorded ones have 64, as many as a GPU's report has blocks.
pub const MAX_MEASUREMENTS: usize = 64;
/// The most alternative values of one measurement. Recorded ones have at most four.
pub const MAX_ALTERNATIVES: usize = 16;

/// Canonical XML 1.1 (W3C Recommendation of 2 May 2008), without comments.
const C14N: &str = "http://www.w3.org/2006/12/xml-c14n11";
/// RFC 6931 section 2.3.6.
const ECDSA_SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384";
/// RFC 6931 section 2.1.3.
const SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#sha384";
/// XML Signature 1.1 section 6.6.4.
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
/// NVIDIA's number in IANA's registry of private enterprises.
const NVIDIA: &str = "5703";

/// What kind of device a RIM is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// A GPU.
    Gpu,
    /// An NVSwitch.
    Switch,
}

/// Whether a measurement is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// `active="True"`: the RIM names the values of the block.
    Active,
    /// `active="False"`: the RIM says nothing of the block.
    Inactive,
}

/// The reference values of one block of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// 0 to 63; the block of a report counts from 1.
    pub index: u8,
    /// NVIDIA's name.
    pub name: String,
    /// Whether it is compared.
    pub activity: Activity,
    /// SHA-384 values, 1 to [`MAX_ALTERNATIVES`]: a block must have one of them.
    pub alternatives: Vec<[u8; 48]>,
}

/// A RIM, its signature not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rim {
    /// `name` of the tag: the chip.
    pub name: String,
    /// `tagId`.
    pub tag_id: String,
    /// `version` of the tag's form, "1.0" in recorded ones.
    pub version: String,
    /// `colloquialVersion`: the version of the driver or VBIOS.
    pub colloquial_version: String,
    /// `edition`.
    pub edition: Edition,
    /// `product`: the chip.
    pub product: String,
    /// `revision`, "r1" in recorded ones: it does not tell issues apart.
    pub revision: String,
    /// 1 to [`MAX_MEASUREMENTS`], sorted by their index; none twice.
    pub measurements: Vec<Measurement>,
    /// Leaf first, the root last. Only a pinned key makes a root an anchor.
    pub certificates: [Certificate; RIM_CHAIN_LENGTH],
    /// `DigestValue`: what the signature says that the SHA-384 of [`Self::content`] is.
    pub digest: [u8; 48],
    /// `SignatureValue`: r ‖ s, big endian, ECDSA P-384 with SHA-384 over [`Self::signed_info`].
    pub signature: [u8; 96],
    /// What the digest is over: Canonical XML 1.1 of the document without the signature.
    pub content: Vec<u8>,
    /// What the signature is over: Canonical XML 1.1 of SignedInfo with the namespaces that it inherits.
    pub signed_info: Vec<u8>,
}

impl Rim {
    /// Reads a RIM: the XML document of at most [`MAX_RIM`] bytes.
    ///
    /// # Errors
    /// [`RimError`].
    pub fn parse(document: &[u8]) -> Result<Self, RimError> {
        let root = read(document)?;
        if (root.namespace, root.name.local) != (Namespace::Swid, "SoftwareIdentity") {
            return Err(RimError::Root(shown(root.name.local)));
        }
        check_attributes(&root, "SoftwareIdentity", ROOT_ATTRIBUTES)?;
        for field in ["corpus", "patch", "supplemental"] {
            one_of("SoftwareIdentity", field, attribute(&root, None, field).unwrap_or("false"), &["false"])?;
        }
        let [entity, meta, payload, signature] = sequence(
            &root,
            "SoftwareIdentity",
            [
                (Namespace::Swid, "Entity"),
                (Namespace::Swid, "Meta"),
                (Namespace::Swid, "Payload"),
                (Namespace::Signature, "Signature"),
            ],
        )?;
        check_attributes(entity, "Entity", &[(None, "name"), (None, "role")])?;
        let [] = sequence(entity, "Entity", [])?;
        check_meta(meta)?;
        let signature_parts = SignatureParts::read(signature)?;
        Ok(Self {
            name: text(&root, "SoftwareIdentity", "name")?,
            tag_id: text(&root, "SoftwareIdentity", "tagId")?,
            version: text(&root, "SoftwareIdentity", "version")?,
            colloquial_version: text(meta, "Meta", "colloquialVersion")?,
            edition: match required(meta, "Meta", None, "edition")? {
                "GPU" => Edition::Gpu,
                "SWITCH" => Edition::Switch,
                other => return Err(value("Meta", "edition", other)),
            },
            product: text(meta, "Meta", "product")?,
            revision: text(meta, "Meta", "revision")?,
            measurements: measurements(payload)?,
            certificates: certificates(signature_parts.certificates)?,
            digest: bytes(signature_parts.digest, "DigestValue")?,
            signature: bytes(signature_parts.value, "SignatureValue")?,
            content: canonical::document(&root, Some(signature), document.len()),
            signed_info: canonical::subset(&[&root, signature, signature_parts.signed_info]),
        })
    }
}

/// Canonical XML 1.1 without comments of a document in the XML of RIMs, of at most [`MAX_RIM`] bytes: what
/// [`Rim::content`] is where the document has no signature.
///
/// # Errors
/// [`RimError::TooLarge`], [`RimError::Xml`].
pub fn canonical_xml(document: &[u8]) -> Result<Vec<u8>, RimError> {
    Ok(canonical::document(&read(document)?, None, document.len()))
}

fn read(document: &[u8]) -> Result<Element<'_>, RimError> {
    if document.len() > MAX_RIM {
        return Err(RimError::TooLarge(document.len()));
    }
    xml::parse(document)
}

type Name = (Option<Namespace>, &'static str);

const ROOT_ATTRIBUTES: &[Name] = &[
    (None, "corpus"),
    (None, "name"),
    (None, "patch"),
    (None, "supplemental"),
    (None, "tagId"),
    (None, "tagVersion"),
    (None, "version"),
];

const META_ATTRIBUTES: &[Name] = &[
    (None, "PayloadType"),
    (None, "colloquialVersion"),
    (None, "edition"),
    (None, "product"),
    (None, "revision"),
    (Some(Namespace::Tcg), "BindingSpec"),
    (Some(Namespace::Tcg), "BindingSpecVersion"),
    (Some(Namespace::Tcg), "FirmwareManufacturer"),
    (Some(Namespace::Tcg), "FirmwareManufacturerId"),
    (Some(Namespace::Tcg), "PlatformManufacturerId"),
    (Some(Namespace::Tcg), "PlatformManufacturerStr"),
    (Some(Namespace::Tcg), "PlatformModel"),
];

/// That the payload is bound and held in the one way that is known (TCG RIM Information Model 1.01).
fn check_meta(meta: &Element<'_>) -> Result<(), RimError> {
    supported(meta, "Meta", Some(Namespace::Tcg), "BindingSpec", "RIMIM")?;
    supported(meta, "Meta", Some(Namespace::Tcg), "BindingSpecVersion", "1.01")?;
    supported(meta, "Meta", None, "PayloadType", "direct")?;
    check_attributes(meta, "Meta", META_ATTRIBUTES)?;
    for field in ["PlatformManufacturerId", "FirmwareManufacturerId"] {
        one_of("Meta", field, required(meta, "Meta", Some(Namespace::Tcg), field)?, &[NVIDIA])?;
    }
    let [] = sequence(meta, "Meta", [])?;
    Ok(())
}

/// The parts of the one signature, all algorithms checked.
struct SignatureParts<'e, 'd> {
    signed_info: &'e Element<'d>,
    digest: &'e Element<'d>,
    value: &'e Element<'d>,
    /// Leaf first.
    certificates: [&'e Element<'d>; RIM_CHAIN_LENGTH],
}

impl<'e, 'd> SignatureParts<'e, 'd> {
    fn read(signature: &'e Element<'d>) -> Result<Self, RimError> {
        let ds = |name| (Namespace::Signature, name);
        let [signed_info, value, key_info] =
            plain(signature, "Signature", [ds("SignedInfo"), ds("SignatureValue"), ds("KeyInfo")])?;
        let [canonicalization, method, reference] = plain(
            signed_info,
            "SignedInfo",
            [ds("CanonicalizationMethod"), ds("SignatureMethod"), ds("Reference")],
        )?;
        check_algorithm(canonicalization, "CanonicalizationMethod", C14N)?;
        check_algorithm(method, "SignatureMethod", ECDSA_SHA384)?;
        check_attributes(reference, "Reference", &[(None, "URI")])?;
        one_of("Reference", "URI", required(reference, "Reference", None, "URI")?, &[""])?;
        let [transforms, digest_method, digest] =
            sequence(reference, "Reference", [ds("Transforms"), ds("DigestMethod"), ds("DigestValue")])?;
        let [enveloped, canonical] = plain(transforms, "Transforms", [ds("Transform"), ds("Transform")])?;
        check_algorithm(enveloped, "Transform", ENVELOPED)?;
        check_algorithm(canonical, "Transform", C14N)?;
        check_algorithm(digest_method, "DigestMethod", SHA384)?;
        let [data] = plain(key_info, "KeyInfo", [ds("X509Data")])?;
        let certificates = plain(data, "X509Data", [ds("X509Certificate"); RIM_CHAIN_LENGTH])?;
        Ok(Self { signed_info, digest, value, certificates })
    }
}

/// That a method is this one, without parameters.
fn check_algorithm(
    element: &Element<'_>,
    name: &'static str,
    expected: &'static str,
) -> Result<(), RimError> {
    supported(element, name, None, "Algorithm", expected)?;
    check_attributes(element, name, &[(None, "Algorithm")])?;
    let [] = sequence(element, name, [])?;
    Ok(())
}

fn measurements(payload: &Element<'_>) -> Result<Vec<Measurement>, RimError> {
    check_attributes(payload, "Payload", &[])?;
    let mut found: Vec<Measurement> = Vec::new();
    for resource in elements(payload, "Payload")? {
        if (resource.namespace, resource.name.local) != (Namespace::Swid, "Resource") {
            return Err(RimError::Element { parent: "Payload", found: shown(resource.name.local) });
        }
        if found.len() >= MAX_MEASUREMENTS {
            return Err(RimError::TooManyMeasurements);
        }
        found.push(measurement(resource)?);
    }
    found.sort_by_key(|measurement| measurement.index);
    if let Some((twice, _)) =
        found.iter().zip(found.iter().skip(1)).find(|(one, next)| one.index == next.index)
    {
        return Err(RimError::DuplicateIndex(twice.index));
    }
    if found.is_empty() { Err(RimError::NoMeasurement) } else { Ok(found) }
}

fn measurement(resource: &Element<'_>) -> Result<Measurement, RimError> {
    const NAME: &str = "Resource";
    let [] = sequence(resource, NAME, [])?;
    one_of(NAME, "type", required(resource, NAME, None, "type")?, &["Measurement"])?;
    one_of(NAME, "size", required(resource, NAME, None, "size")?, &["48"])?;
    let activity = match required(resource, NAME, None, "active")? {
        "True" => Activity::Active,
        "False" => Activity::Inactive,
        other => return Err(value(NAME, "active", other)),
    };
    let written = required(resource, NAME, None, "index")?;
    let index = decimal(written)
        .filter(|index| usize::from(*index) < MAX_MEASUREMENTS)
        .ok_or_else(|| value(NAME, "index", written))?;
    Ok(Measurement {
        index,
        name: text(resource, NAME, "name")?,
        activity,
        alternatives: hashes(resource, index)?,
    })
}

/// The values Hash0, Hash1, … of a measurement, in their order.
fn hashes(resource: &Element<'_>, index: u8) -> Result<Vec<[u8; 48]>, RimError> {
    const NAME: &str = "Resource";
    const FIELDS: &[Name] = &[
        (None, "active"),
        (None, "alternatives"),
        (None, "index"),
        (None, "name"),
        (None, "size"),
        (None, "type"),
    ];
    let written = required(resource, NAME, None, "alternatives")?;
    let said = decimal(written)
        .map(usize::from)
        .filter(|said| (1..=MAX_ALTERNATIVES).contains(said))
        .ok_or_else(|| value(NAME, "alternatives", written))?;
    let mut found = Vec::with_capacity(said);
    for number in 0..said {
        let Some(hash) = attribute(resource, Some(Namespace::Sha384), &format!("Hash{number}")) else {
            break;
        };
        found.push(hex::decode_array(hash).ok_or_else(|| value(NAME, "Hash", hash))?);
    }
    let hashes =
        resource.attributes.iter().filter(|found| found.namespace == Some(Namespace::Sha384)).count();
    if found.len() != said || hashes != said {
        return Err(RimError::Alternatives { index, said, found: hashes });
    }
    let others = resource.attributes.iter().filter(|found| found.namespace != Some(Namespace::Sha384));
    check_names(others, NAME, FIELDS)?;
    Ok(found)
}

fn certificates(
    elements: [&Element<'_>; RIM_CHAIN_LENGTH],
) -> Result<[Certificate; RIM_CHAIN_LENGTH], RimError> {
    let mut parsed = Vec::with_capacity(RIM_CHAIN_LENGTH);
    for (index, element) in elements.into_iter().enumerate() {
        let der = base64(element, "X509Certificate")?;
        parsed.push(Certificate::parse_owned(der).map_err(|source| RimError::Certificate { index, source })?);
    }
    parsed.try_into().map_err(|_| RimError::Missing { element: "X509Data", missing: "X509Certificate" })
}

/// The bytes of a text of base64.
fn base64(element: &Element<'_>, name: &'static str) -> Result<Vec<u8>, RimError> {
    check_attributes(element, name, &[])?;
    let text = match element.children.as_slice() {
        [] => "",
        [Node::Text(text)] => text,
        children => {
            let inner = children.iter().find_map(|child| match child {
                Node::Element(inner) => Some(inner.name.local),
                Node::Text(_) => None,
            });
            return Err(RimError::Element { parent: name, found: shown(inner.unwrap_or_default()) });
        }
    };
    pem::base64(text).map_err(|_| value(name, "base64", text))
}

fn bytes<const N: usize>(element: &Element<'_>, name: &'static str) -> Result<[u8; N], RimError> {
    base64(element, name)?
        .try_into()
        .map_err(|found: Vec<u8>| value(name, "its length in bytes", &found.len().to_string()))
}

/// The elements in an element that has no text.
fn elements<'e, 'd>(element: &'e Element<'d>, name: &'static str) -> Result<Vec<&'e Element<'d>>, RimError> {
    let mut found = Vec::new();
    for child in &element.children {
        match child {
            Node::Element(child) => found.push(child),
            Node::Text(text) if text.chars().all(|character| matches!(character, ' ' | '\t' | '\n')) => {}
            Node::Text(_) => return Err(RimError::Text(name)),
        }
    }
    Ok(found)
}

/// The elements in an element, which are these in this order.
fn sequence<'e, 'd, const N: usize>(
    element: &'e Element<'d>,
    name: &'static str,
    names: [(Namespace, &'static str); N],
) -> Result<[&'e Element<'d>; N], RimError> {
    let found = elements(element, name)?;
    for (position, child) in found.iter().enumerate() {
        if names.get(position) != Some(&(child.namespace, child.name.local)) {
            return Err(RimError::Element { parent: name, found: shown(child.name.local) });
        }
    }
    let missing = names.get(found.len()).map_or("", |(_, missing)| missing);
    found.try_into().map_err(|_| RimError::Missing { element: name, missing })
}

/// As [`sequence`], of an element without attributes.
fn plain<'e, 'd, const N: usize>(
    element: &'e Element<'d>,
    name: &'static str,
    names: [(Namespace, &'static str); N],
) -> Result<[&'e Element<'d>; N], RimError> {
    check_attributes(element, name, &[])?;
    sequence(element, name, names)
}

fn check_attributes(element: &Element<'_>, name: &'static str, known: &[Name]) -> Result<(), RimError> {
    check_names(element.attributes.iter(), name, known)
}

fn check_names<'a, 'd: 'a>(
    mut attributes: impl Iterator<Item = &'a xml::Attribute<'d>>,
    element: &'static str,
    known: &[Name],
) -> Result<(), RimError> {
    match attributes.find(|found| !known.contains(&(found.namespace, found.name.local))) {
        Some(unknown) => Err(RimError::Attribute { element, found: shown(unknown.name.local) }),
        None => Ok(()),
    }
}

fn attribute<'e>(element: &'e Element<'_>, namespace: Option<Namespace>, local: &str) -> Option<&'e str> {
    let found =
        element.attributes.iter().find(|found| found.namespace == namespace && found.name.local == local);
    found.map(|found| &*found.value)
}

fn required<'e>(
    element: &'e Element<'_>,
    name: &'static str,
    namespace: Option<Namespace>,
    field: &'static str,
) -> Result<&'e str, RimError> {
    attribute(element, namespace, field).ok_or(RimError::Missing { element: name, missing: field })
}

/// An attribute that is not empty.
fn text(element: &Element<'_>, name: &'static str, field: &'static str) -> Result<String, RimError> {
    match required(element, name, None, field)? {
        "" => Err(value(name, field, "")),
        text => Ok(text.to_owned()),
    }
}

fn one_of(element: &'static str, field: &'static str, found: &str, known: &[&str]) -> Result<(), RimError> {
    if known.contains(&found) { Ok(()) } else { Err(value(element, field, found)) }
}

fn supported(
    element: &Element<'_>,
    name: &'static str,
    namespace: Option<Namespace>,
    field: &'static str,
    expected: &'static str,
) -> Result<(), RimError> {
    let found = required(element, name, namespace, field)?;
    if found == expected {
        Ok(())
    } else {
        Err(RimError::Unsupported { element: name, field, found: shown(found) })
    }
}

fn value(element: &'static str, field: &'static str, found: &str) -> RimError {
    RimError::Value { element, field, found: shown(found) }
}

/// A number as it is written: digits alone, no zero before others.
fn decimal(text: &str) -> Option<u8> {
    let number: u8 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pieces that documents are made of, so that random ones get far into the reader.
    const PIECES: &[&str] = &[
        "<SoftwareIdentity xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\">",
        "</SoftwareIdentity>",
        "<a>",
        "</a>",
        "<a/>",
        "<b c='d'",
        " e = \"f\"",
        " xmlns:s=\"http://www.w3.org/2001/04/xmlenc#sha384\"",
        " s:g=\"h\"",
        "<s:a>",
        "</s:a>",
        ">",
        "/>",
        "&lt;&gt;&amp;&quot;&apos;",
        "'",
        "\"",
        "\r\n",
        "\r",
        "\t",
        " ",
        "text",
        "\u{e9}\u{1f980}",
        "]]>",
        "<!--",
        "<?",
        "&#10;",
    ];

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Rim::parse(&bytes);
        }

        #[test]
        fn what_is_canonical_stays_as_it_is(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24)) {
            let inner = pieces.concat();
            for document in [inner.clone(), format!("{}{inner}{}", PIECES[0], PIECES[1])] {
                let _ = Rim::parse(document.as_bytes());
                if let Ok(canonical) = canonical_xml(document.as_bytes()) {
                    prop_assert_eq!(canonical_xml(&canonical), Ok(canonical));
                }
            }
        }

        #[test]
        fn text_and_values_are_read_as_they_are_written(value in "[ -~\u{a0}-\u{d7ff}]{0,40}", spare in "[ -~]{0,8}") {
            let escaped = |text: &str| {
                text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
            };
            let uri = Namespace::Swid.uri();
            let document = format!("<a xmlns=\"{uri}\" b=\"{}\">{}</a>", escaped(&value), escaped(&spare));
            let root = xml::parse(document.as_bytes()).unwrap();
            prop_assert_eq!(attribute(&root, None, "b"), Some(&*value));
            match root.children.as_slice() {
                [] => prop_assert_eq!(spare, ""),
                [Node::Text(text)] => prop_assert_eq!(text, &spare),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn numbers_are_written_in_one_way() {
        for (text, number) in [("0", Some(0)), ("63", Some(63)), ("255", Some(255)), ("256", None)] {
            assert_eq!(decimal(text), number, "{text}");
        }
        for bad in ["", "00", "01", "+1", "-0", " 1", "1 ", "\u{661}"] {
            assert_eq!(decimal(bad), None, "{bad:?}");
        }
    }
}
