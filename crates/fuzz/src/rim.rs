//! RIMs made from text, which nobody signed: their certificates are the simulated GPU's.

use crate::guest::GPU;
use confide_evidence::nvidia::{
    MAX_ALTERNATIVES, MAX_MEASUREMENTS, MAX_RIM, MAX_XML_ATTRIBUTES, MAX_XML_DEPTH, MAX_XML_ELEMENTS,
    MAX_XML_PREFIXES, RIM_CHAIN_LENGTH,
};
use confide_evidence::pem;

const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const SHA384: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
const TCG: &str =
    "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

/// What canonical form changes, in one document.
pub(crate) const TRICKY: &str = "\r\n<z:e xmlns:z='http://www.w3.org/2000/09/xmldsig#' b = '\"' a=\"&lt;&apos;\"\n\
    xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\" z:a='&amp;'>]]&gt;\r<f xmlns:y=\"\
    http://www.w3.org/2001/04/xmlenc#sha384\" y:b='' a='>'/>\u{e9}&quot;\t</z:e >\n";

/// Elements of measurements with as many values.
pub(crate) fn resources(measurements: usize, alternatives: usize) -> String {
    let hashes: String =
        (0..alternatives).map(|number| format!(" ns2:Hash{number}=\"{}\"", "5a".repeat(48))).collect();
    let resource = |index| {
        format!(
            "        <ns0:Resource type=\"Measurement\" index=\"{index}\" active=\"True\" \
             alternatives=\"{alternatives}\"{hashes} name=\"n\" size=\"48\"/>\n"
        )
    };
    (0..measurements).map(resource).collect()
}

/// The most measurements with the most values.
pub(crate) fn most_resources() -> String {
    resources(MAX_MEASUREMENTS, MAX_ALTERNATIVES)
}

/// A RIM with these elements in its payload.
pub(crate) fn document(resources: &str) -> String {
    let chain = pem::certificates(GPU.chain_pem().as_bytes()).expect("the simulator's chain");
    let certificate =
        |der: &Vec<u8>| format!("<ds:X509Certificate>{}</ds:X509Certificate>", pem::base64_text(der));
    let certificates: String = chain.iter().take(RIM_CHAIN_LENGTH).map(certificate).collect();
    let (digest, value) = (pem::base64_text(&[1; 48]), pem::base64_text(&[2; 96]));
    let more = "http://www.w3.org/2001/04/xmldsig-more#";
    let c14n = "http://www.w3.org/2006/12/xml-c14n11";
    format!(
        "<SoftwareIdentity xmlns=\"{SWID}\" xmlns:ns0=\"{SWID}\" xmlns:ns2=\"{SHA384}\" name=\"GH100\" tagId=\"t\" \
         version=\"1.0\">\n    <ns0:Entity name=\"n\" role=\"tagCreator\"/>\n    <ns0:Meta xmlns:ns1=\"{TCG}\" \
         colloquialVersion=\"1.2\" edition=\"GPU\" product=\"GH100\" revision=\"r1\" PayloadType=\"direct\" \
         ns1:BindingSpec=\"RIMIM\" ns1:BindingSpecVersion=\"1.01\" ns1:PlatformManufacturerId=\"5703\" \
         ns1:FirmwareManufacturerId=\"5703\"/>\n    <ns0:Payload>\n{resources}    </ns0:Payload>\n\
         <ds:Signature xmlns:ds=\"{DSIG}\"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm=\"{c14n}\"/>\
         <ds:SignatureMethod Algorithm=\"{more}ecdsa-sha384\"/><ds:Reference URI=\"\"><ds:Transforms>\
         <ds:Transform Algorithm=\"{DSIG}enveloped-signature\"/><ds:Transform Algorithm=\"{c14n}\"/></ds:Transforms>\
         <ds:DigestMethod Algorithm=\"{more}sha384\"/><ds:DigestValue>{digest}</ds:DigestValue></ds:Reference>\
         </ds:SignedInfo><ds:SignatureValue>{value}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>{certificates}\
         </ds:X509Data></ds:KeyInfo></ds:Signature></SoftwareIdentity>\n"
    )
}

/// The largest documents of their kinds, with a word for each.
pub(crate) fn worst() -> Vec<(String, Vec<u8>)> {
    let root = |inner: &str| format!("<a xmlns=\"{SWID}\">{inner}</a>");
    // As much of a text as there is room for.
    let filled = |unit: &str| root(&unit.repeat((MAX_RIM - 100) / unit.len()));
    // Names so long that the most elements have room.
    let name = "a".repeat(MAX_RIM / (MAX_XML_ELEMENTS * MAX_XML_ATTRIBUTES) - 8);
    let attributes: String =
        (0..MAX_XML_ATTRIBUTES).map(|number| format!(" {name}{number:02}=\"\"")).collect();
    let elements = format!("<a{attributes}/>").repeat(MAX_XML_ELEMENTS - 1);
    let prefixes: String =
        (1..MAX_XML_PREFIXES).map(|number| format!(" xmlns:p{number}=\"{SHA384}\"")).collect();
    let prefixed: String =
        (0..MAX_XML_ATTRIBUTES).map(|number| format!(" p{}:b{number}=\"\"", MAX_XML_PREFIXES - 1)).collect();
    let under = format!(
        "<a xmlns=\"{SWID}\"{prefixes}>{}</a>",
        format!("<a{prefixed}/>").repeat(MAX_XML_ELEMENTS - 1)
    );
    let levels = MAX_XML_DEPTH - 2;
    let nested =
        format!("{}{}", "<b>".repeat(levels), "</b>".repeat(levels)).repeat((MAX_XML_ELEMENTS - 1) / levels);
    let value = format!("<a b='{}'/>", "\"".repeat(MAX_RIM - 200));
    let text = document(&most_resources());
    let spaced = text.clone() + &" ".repeat(MAX_RIM - text.len());
    [
        ("a RIM with the most values", text),
        ("a RIM with the most values and white space behind it", spaced),
        ("the most elements with the most attributes", root(&elements)),
        ("the most prefixes", under),
        ("the most elements nested deep", root(&nested)),
        ("entities in text", filled("&amp;")),
        ("characters to escape in text", filled(">")),
        ("carriage returns in text", filled("\r")),
        ("brackets in text", filled("]")),
        ("quotes in an attribute", root(&value)),
    ]
    .map(|(what, text)| (what.to_owned(), text.into_bytes()))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::nvidia::{Rim, canonical_xml};

    #[test]
    fn the_worst_are_read_to_their_end() {
        for (what, document) in worst() {
            assert!(canonical_xml(&document).is_ok(), "{what}: {:?}", canonical_xml(&document).err());
        }
        assert_eq!(
            Rim::parse(document(&most_resources()).as_bytes()).map(|rim| rim.measurements.len()),
            Ok(64)
        );
        assert!(canonical_xml(TRICKY.as_bytes()).is_ok());
    }
}
