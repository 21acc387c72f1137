//! RIMs made from text: one that is read, and for every rule of the reader one that is refused.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

#[path = "support/rim.rs"]
mod made;
#[path = "support/rim_corpus.rs"]
mod recorded;

use confide_evidence::nvidia::{
    Activity, Edition, MAX_ALTERNATIVES, MAX_MEASUREMENTS, MAX_RIM, MAX_XML_ATTRIBUTES, MAX_XML_DEPTH,
    MAX_XML_ELEMENTS, MAX_XML_NAME, MAX_XML_PREFIXES, Measurement, Rim, RimError, XmlFault, canonical_xml,
};
use confide_evidence::x509::X509Error;
use made::{DSIG, RIM, SHA384, SWID, TCG, signed, unsigned};
use recorded::{Verdict, judge};

const GOOD: Verdict = Verdict { digest: true, signature: true };

/// The RIM with one piece of text in place of another.
fn changed(from: &str, to: &str) -> String {
    assert!(RIM.contains(from), "{from}");
    RIM.replacen(from, to, 1)
}

fn refused(from: &str, to: &str) -> RimError {
    match Rim::parse(changed(from, to).as_bytes()) {
        Ok(_) => panic!("accepted: {to} for {from}"),
        Err(error) => error,
    }
}

fn fault(from: &str, to: &str) -> XmlFault {
    match refused(from, to) {
        RimError::Xml { fault, .. } => fault,
        other => panic!("{to} for {from}: {other}"),
    }
}

/// That the change is accepted, and leaves the bytes under the digest and the signature as they are or not.
fn accepted(from: &str, to: &str) -> Verdict {
    let rim = Rim::parse(changed(from, to).as_bytes());
    judge(&rim.unwrap_or_else(|error| panic!("{to} for {from}: {error}")))
}

#[test]
fn every_field_is_read() {
    let rim = Rim::parse(RIM.as_bytes()).unwrap();
    assert_eq!(judge(&rim), GOOD);
    assert_eq!((&*rim.name, &*rim.tag_id, &*rim.version), ("GH100", "c0ffee", "1.0"));
    assert_eq!((&*rim.colloquial_version, rim.edition), ("599.99", Edition::Gpu));
    assert_eq!((&*rim.product, &*rim.revision), ("GH100", "r1"));
    let expected = [
        (0, "first", Activity::Active, vec![[0xaa; 48]]),
        (1, "second", Activity::Inactive, vec![[0; 48]]),
        (63, "last", Activity::Active, vec![[0xbb; 48], [0xcc; 48]]),
    ];
    let expected = expected.map(|(index, name, activity, alternatives)| Measurement {
        index,
        name: name.to_owned(),
        activity,
        alternatives,
    });
    assert_eq!(rim.measurements, expected);
    assert_eq!(rim.certificates.map(|one| one.common_name), ["signer", "L3", "L2", "root"]);
}

#[test]
fn content_is_the_document_without_its_signature_in_canonical_form() {
    let text = format!(
        "\n <SoftwareIdentity version = '1.0' tagId='t&amp;\"' name=\"n\" xmlns:z=\"{SHA384}\" xmlns:b=\"{SWID}\"\n\
         xmlns=\"{SWID}\">\r\n<b:Entity role='' name='&lt;>&#39;'/>a>&gt;\rb</SoftwareIdentity>\n\n"
    );
    // The character reference is refused, the entity of the same character is not.
    assert!(matches!(
        canonical_xml(text.as_bytes()),
        Err(RimError::Xml { fault: XmlFault::CharacterReference, .. })
    ));
    let text = text.replace("&#39;", "&apos;");
    let expected = format!(
        "<SoftwareIdentity xmlns=\"{SWID}\" xmlns:b=\"{SWID}\" xmlns:z=\"{SHA384}\" name=\"n\" tagId=\"t&amp;&quot;\" \
         version=\"1.0\">\n<b:Entity name=\"&lt;>'\" role=\"\"></b:Entity>a&gt;&gt;\nb</SoftwareIdentity>"
    );
    assert_eq!(String::from_utf8(canonical_xml(text.as_bytes()).unwrap()).unwrap(), expected);

    let rim = Rim::parse(RIM.as_bytes()).unwrap();
    let (before, signature) = RIM.split_once("<ds:Signature").unwrap();
    let (_, after) = signature.split_once("</ds:Signature>").unwrap();
    let expected = format!("{before}{}", after.trim_end())
        .replace("/>", "></EMPTY>")
        .replacen("</EMPTY>", "</ns0:Entity>", 1)
        .replacen("</EMPTY>", "</ns0:Meta>", 1)
        .replace("</EMPTY>", "</ns0:Resource>")
        // Attributes without a prefix by their names, then those with one by URI and name.
        .replace(" version=\"1.0\" tagVersion=\"0\"", " tagVersion=\"0\" version=\"1.0\"")
        .replace(
            "colloquialVersion=\"599.99\" edition=\"GPU\" product=\"GH100\" revision=\"r1\" PayloadType=\"direct\"",
            "PayloadType=\"direct\" colloquialVersion=\"599.99\" edition=\"GPU\" product=\"GH100\" revision=\"r1\"",
        )
        .replace(
            " ns1:PlatformManufacturerId=\"5703\" ns1:PlatformManufacturerStr=\"NVIDIA Corporation\" \
             ns1:PlatformModel=\"GH100\" ns1:FirmwareManufacturer=\"NVIDIA Corporation\" \
             ns1:FirmwareManufacturerId=\"5703\"",
            " ns1:FirmwareManufacturer=\"NVIDIA Corporation\" ns1:FirmwareManufacturerId=\"5703\" \
             ns1:PlatformManufacturerId=\"5703\" ns1:PlatformManufacturerStr=\"NVIDIA Corporation\" \
             ns1:PlatformModel=\"GH100\"",
        );
    let resources = [
        ("0", "True", "1", "first", vec!["AA"]),
        ("1", "False", "1", "second", vec!["00"]),
        ("63", "True", "2", "last", vec!["bb", "cc"]),
    ];
    let (head, _) = expected.split_once("<ns0:Resource").unwrap();
    let (_, tail) = expected.split_once("\n    </ns0:Payload>").unwrap();
    let mut whole = head.trim_end().to_owned();
    for (index, active, alternatives, name, hashes) in resources {
        whole += &format!(
            "\n        <ns0:Resource active=\"{active}\" alternatives=\"{alternatives}\" index=\"{index}\" \
             name=\"{name}\" size=\"48\" type=\"Measurement\""
        );
        for (number, hash) in hashes.iter().enumerate() {
            whole += &format!(" ns2:Hash{number}=\"{}\"", hash.repeat(48));
        }
        whole += "></ns0:Resource>";
    }
    whole += "\n    </ns0:Payload>";
    whole += tail;
    assert_eq!(String::from_utf8(rim.content).unwrap(), whole);
}

#[test]
fn signed_info_has_the_namespaces_that_it_inherits() {
    let rim = Rim::parse(RIM.as_bytes()).unwrap();
    let digest = confide_evidence::pem::base64_text(&rim.digest);
    let expected = format!(
        "<ds:SignedInfo xmlns=\"{SWID}\" xmlns:ds=\"{DSIG}\" xmlns:ns0=\"{SWID}\" xmlns:ns2=\"{SHA384}\">\
         <ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\">\
         </ds:CanonicalizationMethod>\
         <ds:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384\">\
         </ds:SignatureMethod>\
         <ds:Reference URI=\"\"><ds:Transforms>\
         <ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"></ds:Transform>\
         <ds:Transform Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"></ds:Transform></ds:Transforms>\
         <ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#sha384\"></ds:DigestMethod>\
         <ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
    );
    assert_eq!(String::from_utf8(rim.signed_info).unwrap(), expected);
}

#[test]
fn attributes_are_sorted_by_the_uri_and_not_by_the_prefix() {
    let text = format!(
        "<x xmlns=\"{SWID}\" xmlns:a=\"{TCG}\" xmlns:b=\"{DSIG}\" xmlns:c=\"{SWID}\" a:p=\"1\" b:p=\"2\" c:p=\"3\" p=\"4\" \
         b:o=\"5\" P=\"6\"/>"
    );
    let expected = format!(
        "<x xmlns=\"{SWID}\" xmlns:a=\"{TCG}\" xmlns:b=\"{DSIG}\" xmlns:c=\"{SWID}\" P=\"6\" p=\"4\" c:p=\"3\" b:o=\"5\" \
         b:p=\"2\" a:p=\"1\"></x>"
    );
    assert_eq!(String::from_utf8(canonical_xml(text.as_bytes()).unwrap()).unwrap(), expected);
}

#[test]
fn what_canonical_form_drops_changes_neither_digest_nor_signature() {
    for (from, to) in [
        (" corpus=\"false\" name=\"GH100\"", "\n\tname = 'GH100' \r\n corpus\t=\n\"false\" "),
        ("role=\"softwareCreator tagCreator\"/>", "role='softwareCreator tagCreator'></ns0:Entity >"),
        ("name=\"first\"", "name='first'"),
        ("</SoftwareIdentity>", "</SoftwareIdentity\n>\n\n "),
        ("<SoftwareIdentity", "\r\n\t <SoftwareIdentity"),
        ("    <ns0:Meta", "    <ns0:Meta "),
        ("<ds:SignatureValue>", "<ds:SignatureValue>\n "),
        ("</ds:KeyInfo>", "\n\t</ds:KeyInfo>"),
    ] {
        assert_eq!(accepted(from, to), GOOD, "{to} for {from}");
    }
    let windows = RIM.replace('\n', "\r\n");
    assert_eq!(judge(&Rim::parse(windows.as_bytes()).unwrap()), GOOD, "line ends are read as line feeds");
    let macintosh = RIM.replace('\n', "\r");
    assert_eq!(judge(&Rim::parse(macintosh.as_bytes()).unwrap()), GOOD, "line ends are read as line feeds");
}

#[test]
fn what_is_signed_cannot_be_changed() {
    let digest = Verdict { digest: false, signature: true };
    for (from, to) in [
        ("<ns0:Entity ", "<Entity "),
        ("\n    </ns0:Payload>", "</ns0:Payload>"),
        ("\n<ds:Signature", "\n\n<ds:Signature"),
        ("</ds:Signature>", "</ds:Signature> "),
        ("index=\"0\"", "index=\"2\""),
        ("=\"AAAA", "=\"aAAA"),
        ("xmlns:SHA384=", "xmlns:SHA="),
        ("name=\"last\"", "name=\"la&quot;st\""),
    ] {
        assert_eq!(accepted(from, to), digest, "{to} for {from}");
    }
    let both = Verdict { digest: false, signature: false };
    assert_eq!(accepted("<SoftwareIdentity ", &format!("<SoftwareIdentity xmlns:n=\"{TCG}\" ")), both);
    let signature = Verdict { digest: true, signature: false };
    for (from, to) in [
        ("<ds:Reference URI", "\n<ds:Reference URI"),
        ("<ds:Signature xmlns:ds", &format!("<ds:Signature xmlns:n=\"{TCG}\" xmlns:ds")),
        ("</ds:Transforms>", " </ds:Transforms>"),
    ] {
        assert_eq!(accepted(from, to), signature, "{to} for {from}");
    }
}

#[test]
fn xml_beyond_that_of_rims_is_refused() {
    use XmlFault as Fault;
    let name = "name=\"first\"";
    let entity = "<ns0:Entity";
    let text = String::from;
    for (from, to, expected) in [
        ("<SoftwareIdentity", "\u{feff}<SoftwareIdentity", Fault::ByteOrderMark),
        ("<SoftwareIdentity", "<?xml version=\"1.0\"?><SoftwareIdentity", Fault::ProcessingInstruction),
        ("</SoftwareIdentity>", "</SoftwareIdentity><?a b?>", Fault::ProcessingInstruction),
        (entity, "<?a b?><ns0:Entity", Fault::ProcessingInstruction),
        ("<SoftwareIdentity", "<!DOCTYPE SoftwareIdentity><SoftwareIdentity", Fault::DocumentType),
        (entity, "<!ENTITY a \"b\"><ns0:Entity", Fault::DocumentType),
        ("<SoftwareIdentity", "<!-- --><SoftwareIdentity", Fault::Comment),
        ("</SoftwareIdentity>", "</SoftwareIdentity><!-- -->", Fault::Comment),
        (entity, "<!-- --><ns0:Entity", Fault::Comment),
        ("<ds:DigestValue>", "<ds:DigestValue><!-- -->", Fault::Comment),
        ("<ds:DigestValue>", "<ds:DigestValue><![CDATA[]]>", Fault::Cdata),
        (name, "name=\"&#x66;irst\"", Fault::CharacterReference),
        ("<ds:DigestValue>", "<ds:DigestValue>&#65;", Fault::CharacterReference),
        (name, "name=\"&first;\"", Fault::Entity),
        (name, "name=\"a & b\"", Fault::Entity),
        (name, "name=\"&ampere;\"", Fault::Entity),
        (name, "name=\"a\tb\"", Fault::AttributeSpace),
        (name, "name=\"a\nb\"", Fault::AttributeSpace),
        (name, "name=\"a\rb\"", Fault::AttributeSpace),
        (name, "name=\"a\u{1}b\"", Fault::Character),
        (name, "name=\"a\u{ffff}b\"", Fault::Character),
        ("<ds:DigestValue>", "<ds:DigestValue>\0", Fault::Character),
        (name, "name=\"a<b\"", Fault::Syntax("quote behind an attribute's value")),
        (name, "name=first", Fault::Syntax("quote before an attribute's value")),
        (name, "name", Fault::Syntax("equals sign")),
        (" name=\"first\" size", " name=\"first\"size", Fault::Syntax("white space before an attribute")),
        (entity, "< ns0:Entity", Fault::Syntax("name")),
        (entity, "<0Entity", Fault::Syntax("name")),
        (entity, "<:Entity", Fault::Syntax("name")),
        (entity, "<ns0:Entit\u{e9}", Fault::Syntax("white space before an attribute")),
        (entity, "<ns0:a:Entity", Fault::Syntax("white space before an attribute")),
        ("tagCreator\"/>", "tagCreator\"/ >", Fault::Syntax("end of a start tag")),
        ("tagCreator\"/>", "tagCreator\"/>]]>", Fault::Syntax("character data that may have ]]>")),
        ("</ns0:Payload>", "</ns0:Payload a=\"\">", Fault::Syntax("end of an end tag")),
        ("</ns0:Payload>", "</Payload>", Fault::EndTag(text("Payload"))),
        ("</ns0:Payload>", "</ns2:Payload>", Fault::EndTag(text("Payload"))),
        ("</SoftwareIdentity>", "", Fault::Unfinished),
        ("</SoftwareIdentity>", "</SoftwareIdentity>a", Fault::Outside),
        ("</SoftwareIdentity>", "</SoftwareIdentity><a/>", Fault::Outside),
        ("<SoftwareIdentity", "a<SoftwareIdentity", Fault::Outside),
        (name, "name=\"first\" name=\"first\"", Fault::DuplicateAttribute(text("name"))),
        (name, "name=\"first\" SHA384:Hash0=\"\"", Fault::DuplicateAttribute(text("Hash0"))),
        (
            "xmlns:SHA384=",
            "xmlns:SHA384=\"http://www.w3.org/2001/04/xmlenc#sha384\" xmlns:SHA384=",
            Fault::DuplicateAttribute(text("SHA384")),
        ),
        (name, "name=\"first\" xml:lang=\"en\"", Fault::Reserved(text("xml:lang"))),
        (name, "name=\"first\" xml:id=\"a\"", Fault::Reserved(text("xml:id"))),
        ("xmlns:SHA384=", "xmlns:xml=", Fault::Reserved(text("xml"))),
        ("xmlns:SHA384=", "xmlns:xmlns=", Fault::Reserved(text("xmlns"))),
        ("xmlns:SHA384=", "xmlns:XmlFoo=", Fault::Reserved(text("XmlFoo"))),
        (
            "xmlns:SHA384=\"http:",
            "xmlns:SHA384=\"https:",
            Fault::UnknownNamespace(text("https://www.w3.org/2001/04/xmlenc#sha384")),
        ),
        (entity, "<ns0:Entity xmlns:a=\"urn:a\"", Fault::UnknownNamespace(text("urn:a"))),
        (entity, "<ns0:Entity xmlns:a=\"\"", Fault::UnknownNamespace(text(""))),
        (entity, "<ns0:Entity xmlns=\"\"", Fault::Redeclared(text(""))),
        (
            "<SoftwareIdentity xmlns=\"http",
            "<SoftwareIdentity xmlns=\"\" xmlns:a=\"http",
            Fault::UnknownNamespace(text("")),
        ),
        (
            "<SoftwareIdentity xmlns=",
            "<SoftwareIdentity xmlns:a=",
            Fault::NoNamespace(text("SoftwareIdentity")),
        ),
        ("<ns0:Payload xmlns:SHA384=", "<ns0:Payload xmlns:ns2=", Fault::Redeclared(text("ns2"))),
        ("<ns0:Payload xmlns:SHA384=", "<ns0:Payload xmlns:ns0=", Fault::Redeclared(text("ns0"))),
        (entity, "<ns9:Entity", Fault::UndeclaredPrefix(text("ns9"))),
        (entity, "<xmlns:Entity", Fault::UndeclaredPrefix(text("xmlns"))),
        (entity, "<ds:Entity", Fault::UndeclaredPrefix(text("ds"))),
        (name, "name=\"first\" ns1:a=\"b\"", Fault::UndeclaredPrefix(text("ns1"))),
    ] {
        assert_eq!(fault(from, to), expected, "{to} for {from}");
    }
    let mut latin: Vec<u8> = RIM.replace("first", "f\u{e9}rst").into();
    let at = latin.iter().position(|byte| *byte == 0xc3).unwrap();
    latin.remove(at);
    assert_eq!(Rim::parse(&latin), Err(RimError::Xml { offset: at, fault: XmlFault::NotText }));
    let utf16: Vec<u8> = RIM.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(Rim::parse(&utf16).is_err());
    assert!(Rim::parse(b"").is_err());
    for length in 0..RIM.trim_end().len() {
        assert!(Rim::parse(&RIM.as_bytes()[..length]).is_err(), "the first {length} bytes");
    }
}

#[test]
fn a_fault_names_its_place() {
    let at = RIM.find("second").unwrap();
    for (to, place) in [("sec\tnd", at + 3), ("sec&nd;", at + 3), ("sec\u{2}nd", at + 3), ("<cond", at)] {
        match refused("second", to) {
            RimError::Xml { offset, .. } => assert_eq!(offset, place, "{to:?}"),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_document_is_no_larger_than_its_limits() {
    let filled = |length: usize| {
        let room = length - RIM.len();
        RIM.clone() + &" ".repeat(room)
    };
    assert_eq!(judge(&Rim::parse(filled(MAX_RIM).as_bytes()).unwrap()), GOOD);
    assert_eq!(Rim::parse(filled(MAX_RIM + 1).as_bytes()), Err(RimError::TooLarge(MAX_RIM + 1)));

    let read = |text: String| canonical_xml(text.as_bytes()).map(drop);
    let faulty = |text: String| match canonical_xml(text.as_bytes()) {
        Err(RimError::Xml { fault, .. }) => fault,
        other => panic!("{other:?}"),
    };
    let nested = |depth: usize| {
        format!("<a xmlns=\"{SWID}\">{}{}</a>", "<a>".repeat(depth - 1), "</a>".repeat(depth - 1))
    };
    assert_eq!(read(nested(MAX_XML_DEPTH)), Ok(()));
    assert_eq!(faulty(nested(MAX_XML_DEPTH + 1)), XmlFault::TooDeep);
    let siblings = |count: usize| format!("<a xmlns=\"{SWID}\">{}</a>", "<a/>".repeat(count - 1));
    assert_eq!(read(siblings(MAX_XML_ELEMENTS)), Ok(()));
    assert_eq!(faulty(siblings(MAX_XML_ELEMENTS + 1)), XmlFault::TooManyElements);
    let attributes = |count: usize| {
        let list: String = (1..count).map(|number| format!(" a{number}=\"\"")).collect();
        format!("<a xmlns=\"{SWID}\"{list}/>")
    };
    assert_eq!(read(attributes(MAX_XML_ATTRIBUTES)), Ok(()));
    assert_eq!(faulty(attributes(MAX_XML_ATTRIBUTES + 1)), XmlFault::TooManyAttributes);
    let prefixes = |count: usize| {
        let list: String = (1..count).map(|number| format!(" xmlns:a{number}=\"{SWID}\"")).collect();
        format!("<a xmlns=\"{SWID}\"><a{list}/></a>")
    };
    assert_eq!(read(prefixes(MAX_XML_PREFIXES)), Ok(()));
    assert_eq!(faulty(prefixes(MAX_XML_PREFIXES + 1)), XmlFault::TooManyPrefixes);
    let named = |length: usize| format!("<{0} xmlns=\"{SWID}\"></{0}>", "a".repeat(length));
    assert_eq!(read(named(MAX_XML_NAME)), Ok(()));
    assert_eq!(faulty(named(MAX_XML_NAME + 1)), XmlFault::LongName);
    // A prefix may come again where it is no longer in scope.
    let twice = format!("<a xmlns=\"{SWID}\"><b xmlns:c=\"{SWID}\"/><b xmlns:c=\"{TCG}\"/></a>");
    assert_eq!(read(twice), Ok(()));
}

#[test]
fn a_rim_has_one_form() {
    let element = |parent, found: &str| RimError::Element { parent, found: found.to_owned() };
    let attribute = |element, found: &str| RimError::Attribute { element, found: found.to_owned() };
    let missing = |element, missing| RimError::Missing { element, missing };
    let (_, signature) = RIM.split_once("<ds:Signature").unwrap();
    let (signature, _) = signature.split_once("</SoftwareIdentity>").unwrap();
    let signature = format!("<ds:Signature{signature}");
    let (reference, _) = signature.split_once("</ds:SignedInfo>").unwrap();
    let (_, reference) = reference.split_once("<ds:Reference").unwrap();
    let reference = format!("<ds:Reference{reference}");
    let (_, certificate) = signature.split_once("<ds:X509Data>").unwrap();
    let (certificate, _) = certificate
        .split_once("<ds:X509Certificate>")
        .map(|_| {
            let end = certificate.find("</ds:X509Certificate>").unwrap() + "</ds:X509Certificate>".len();
            certificate.split_at(end)
        })
        .unwrap();
    let twice = |part: &str| format!("{part}{part}");
    let data = format!("<ds:X509Data>{certificate}</ds:X509Data>");
    for (from, to, expected) in [
        (
            "</SoftwareIdentity>",
            format!("{signature}</SoftwareIdentity>"),
            element("SoftwareIdentity", "Signature"),
        ),
        ("</SoftwareIdentity>", "<ns0:Link/></SoftwareIdentity>".into(), element("SoftwareIdentity", "Link")),
        (&signature, String::new(), missing("SoftwareIdentity", "Signature")),
        ("</ds:Signature>", "<ds:Object></ds:Object></ds:Signature>".into(), element("Signature", "Object")),
        (&reference, twice(&reference), element("SignedInfo", "Reference")),
        (&reference, String::new(), missing("SignedInfo", "Reference")),
        (certificate, twice(certificate), element("X509Data", "X509Certificate")),
        (certificate, String::new(), missing("X509Data", "X509Certificate")),
        (certificate, format!("<ds:X509CRL/>{certificate}"), element("X509Data", "X509CRL")),
        (certificate, format!("<ds:X509SubjectName/>{certificate}"), element("X509Data", "X509SubjectName")),
        ("</ds:KeyInfo>", format!("{data}</ds:KeyInfo>"), element("KeyInfo", "X509Data")),
        ("<ds:KeyInfo>", "<ds:KeyInfo><ds:KeyName/>".into(), element("KeyInfo", "KeyName")),
        ("</ds:KeyInfo>", "<ds:KeyValue/></ds:KeyInfo>".into(), element("KeyInfo", "KeyValue")),
        (
            "<ns0:Entity",
            format!("{}<ns0:Entity", certificate.replace("ds:", "ns0:")),
            element("SoftwareIdentity", "X509Certificate"),
        ),
        (
            "name=\"last\" size=\"48\"/>",
            format!("name=\"last\" size=\"48\">{}</ns0:Resource>", certificate.replace("ds:", "ns0:")),
            element("Resource", "X509Certificate"),
        ),
        ("<ns0:Meta", "<ns0:Entity/><ns0:Meta".into(), element("SoftwareIdentity", "Entity")),
        (
            "<ns0:Entity name=\"NVIDIA Corporation\" role=\"softwareCreator tagCreator\"/>",
            String::new(),
            element("SoftwareIdentity", "Meta"),
        ),
        ("</ns0:Payload>", "<ns0:File/></ns0:Payload>".into(), element("Payload", "File")),
        ("</ns0:Payload>", "<ns2:Resource/></ns0:Payload>".into(), element("Payload", "Resource")),
        (
            "<SoftwareIdentity",
            "<SoftwareIdentity tagRole=\"\"".into(),
            attribute("SoftwareIdentity", "tagRole"),
        ),
        (
            "<SoftwareIdentity",
            "<SoftwareIdentity ns2:name=\"\"".into(),
            attribute("SoftwareIdentity", "name"),
        ),
        (" tagId=\"c0ffee\"", String::new(), missing("SoftwareIdentity", "tagId")),
        (" name=\"GH100\"", String::new(), missing("SoftwareIdentity", "name")),
        (" version=\"1.0\"", String::new(), missing("SoftwareIdentity", "version")),
        ("<ns0:Entity", "<ns0:Entity regid=\"\"".into(), attribute("Entity", "regid")),
        ("<ns0:Meta", "<ns0:Meta entitlementKey=\"\"".into(), attribute("Meta", "entitlementKey")),
        (" ns1:BindingSpec=\"RIMIM\"", String::new(), missing("Meta", "BindingSpec")),
        (" ns1:BindingSpec=\"RIMIM\"", " BindingSpec=\"RIMIM\"".into(), missing("Meta", "BindingSpec")),
        (" colloquialVersion=\"599.99\"", String::new(), missing("Meta", "colloquialVersion")),
        (" edition=\"GPU\"", String::new(), missing("Meta", "edition")),
        (" product=\"GH100\"", String::new(), missing("Meta", "product")),
        (" revision=\"r1\"", String::new(), missing("Meta", "revision")),
        (" PayloadType=\"direct\"", String::new(), missing("Meta", "PayloadType")),
        ("<ns0:Payload", "<ns0:Payload name=\"\"".into(), attribute("Payload", "name")),
        ("<ns0:Resource", "<ns0:Resource key=\"\"".into(), attribute("Resource", "key")),
        (" name=\"last\"", String::new(), missing("Resource", "name")),
        (" index=\"63\"", String::new(), missing("Resource", "index")),
        (" type=\"Measurement\"", String::new(), missing("Resource", "type")),
        (" active=\"True\"", String::new(), missing("Resource", "active")),
        (" alternatives=\"1\"", String::new(), missing("Resource", "alternatives")),
        (" size=\"48\"", String::new(), missing("Resource", "size")),
        ("<ds:Signature ", "<ds:Signature Id=\"a\" ".into(), attribute("Signature", "Id")),
        ("<ds:SignedInfo>", "<ds:SignedInfo Id=\"a\">".into(), attribute("SignedInfo", "Id")),
        ("<ds:Reference ", "<ds:Reference Type=\"a\" ".into(), attribute("Reference", "Type")),
        (" URI=\"\"", String::new(), missing("Reference", "URI")),
        ("<ds:Transforms>", "<ds:Transforms Id=\"a\">".into(), attribute("Transforms", "Id")),
        ("<ds:Transform ", "<ds:Transform Id=\"a\" ".into(), attribute("Transform", "Id")),
        (
            "#enveloped-signature\"/>",
            "#enveloped-signature\"><ds:XPath/></ds:Transform>".into(),
            element("Transform", "XPath"),
        ),
        ("<ds:DigestValue>", "<ds:DigestValue Id=\"a\">".into(), attribute("DigestValue", "Id")),
        ("<ds:SignatureValue>", "<ds:SignatureValue Id=\"a\">".into(), attribute("SignatureValue", "Id")),
        ("<ds:SignatureValue>", "<ds:SignatureValue><ds:a/>".into(), element("SignatureValue", "a")),
        ("<ds:KeyInfo>", "<ds:KeyInfo Id=\"a\">".into(), attribute("KeyInfo", "Id")),
        ("<ds:X509Data>", "<ds:X509Data Id=\"a\">".into(), attribute("X509Data", "Id")),
        ("<ds:X509Certificate>", "<ds:X509Certificate Id=\"a\">".into(), attribute("X509Certificate", "Id")),
        ("<ns0:Meta", "a<ns0:Meta".into(), RimError::Text("SoftwareIdentity")),
        ("</ns0:Payload>", "a</ns0:Payload>".into(), RimError::Text("Payload")),
        ("<ds:KeyInfo>", "a<ds:KeyInfo>".into(), RimError::Text("Signature")),
        ("</ds:Transforms>", "\u{a0}</ds:Transforms>".into(), RimError::Text("Transforms")),
    ] {
        let error = refused(from, &to);
        assert_eq!(error, expected, "{to} for {from}");
        assert!(!error.is_unsupported());
    }
    // The signature in another element than the root.
    let text = RIM.replace(&signature, "").replace("</ns0:Payload>", &format!("{signature}</ns0:Payload>"));
    assert_eq!(Rim::parse(text.as_bytes()), Err(missing("SoftwareIdentity", "Signature")));
    // The signature around the content, and a root of another name or namespace.
    for (from, to) in [("SoftwareIdentity", "Softwareidentity"), ("SoftwareIdentity", "ns2:SoftwareIdentity")]
    {
        let text = RIM.replace(from, to);
        assert!(matches!(Rim::parse(text.as_bytes()), Err(RimError::Root(_))), "{to}");
    }
    // A Signature in the tag's own namespace is no signature.
    let text = RIM.replace("<ds:Signature ", "<Signature ").replace("</ds:Signature>", "</Signature>");
    assert_eq!(Rim::parse(text.as_bytes()), Err(element("SoftwareIdentity", "Signature")));
}

#[test]
fn a_signature_by_another_prefix_is_one() {
    let text = unsigned().replace("ds:", "sig:").replace(":ds=", ":sig=");
    let text = text.replace("[CERTIFICATES]", "CERTIFICATES");
    let signed_with = |text: &str| {
        // The certificates' elements are written with the usual prefix.
        let certificates = RIM.split_once("<ds:X509Data>").unwrap().1.split_once("</ds:X509Data>").unwrap().0;
        signed(&text.replace("CERTIFICATES", &certificates.replace("ds:", "sig:")))
    };
    assert_eq!(judge(&Rim::parse(signed_with(&text).as_bytes()).unwrap()), GOOD);
}

#[test]
fn a_value_has_one_form() {
    for (from, to, element, field) in [
        ("active=\"True\"", "active=\"true\"", "Resource", "active"),
        ("active=\"True\"", "active=\"TRUE\"", "Resource", "active"),
        ("active=\"True\"", "active=\"1\"", "Resource", "active"),
        ("active=\"False\"", "active=\"\"", "Resource", "active"),
        ("active=\"False\"", "active=\"False \"", "Resource", "active"),
        ("index=\"0\"", "index=\"00\"", "Resource", "index"),
        ("index=\"0\"", "index=\"+0\"", "Resource", "index"),
        ("index=\"0\"", "index=\"-0\"", "Resource", "index"),
        ("index=\"0\"", "index=\"\"", "Resource", "index"),
        ("index=\"0\"", "index=\"0x0\"", "Resource", "index"),
        ("index=\"63\"", "index=\"64\"", "Resource", "index"),
        ("index=\"63\"", "index=\"256\"", "Resource", "index"),
        ("alternatives=\"2\"", "alternatives=\"0\"", "Resource", "alternatives"),
        ("alternatives=\"2\"", "alternatives=\"17\"", "Resource", "alternatives"),
        ("alternatives=\"2\"", "alternatives=\"two\"", "Resource", "alternatives"),
        ("size=\"48\"", "size=\"32\"", "Resource", "size"),
        ("size=\"48\"", "size=\"048\"", "Resource", "size"),
        ("type=\"Measurement\"", "type=\"measurement\"", "Resource", "type"),
        ("name=\"last\"", "name=\"\"", "Resource", "name"),
        ("ns2:Hash0=\"AA", "ns2:Hash0=\"A", "Resource", "Hash"),
        ("ns2:Hash0=\"AA", "ns2:Hash0=\"AAAA", "Resource", "Hash"),
        ("ns2:Hash0=\"AA", "ns2:Hash0=\"AG", "Resource", "Hash"),
        ("ns2:Hash0=\"AA", "ns2:Hash0=\" A", "Resource", "Hash"),
        ("edition=\"GPU\"", "edition=\"gpu\"", "Meta", "edition"),
        ("edition=\"GPU\"", "edition=\"CPU\"", "Meta", "edition"),
        ("product=\"GH100\"", "product=\"\"", "Meta", "product"),
        ("ManufacturerId=\"5703\"", "ManufacturerId=\"5704\"", "Meta", "PlatformManufacturerId"),
        (
            "FirmwareManufacturerId=\"5703\"",
            "FirmwareManufacturerId=\"343\"",
            "Meta",
            "FirmwareManufacturerId",
        ),
        ("patch=\"false\"", "patch=\"true\"", "SoftwareIdentity", "patch"),
        ("corpus=\"false\"", "corpus=\"true\"", "SoftwareIdentity", "corpus"),
        ("supplemental=\"false\"", "supplemental=\"0\"", "SoftwareIdentity", "supplemental"),
        ("URI=\"\"", "URI=\"#a\"", "Reference", "URI"),
        ("URI=\"\"", "URI=\"#xpointer(/)\"", "Reference", "URI"),
        ("<ds:DigestValue>", "<ds:DigestValue>AAAA", "DigestValue", "its length in bytes"),
        ("<ds:DigestValue>", "<ds:DigestValue>*", "DigestValue", "base64"),
        ("<ds:SignatureValue>", "<ds:SignatureValue>AAAA", "SignatureValue", "its length in bytes"),
        ("</ds:SignatureValue>", "=</ds:SignatureValue>", "SignatureValue", "base64"),
        ("<ds:X509Certificate>", "<ds:X509Certificate>.", "X509Certificate", "base64"),
    ] {
        match refused(from, to) {
            RimError::Value { element: found, field: of, .. } => {
                assert_eq!((found, of), (element, field), "{to} for {from}");
            }
            other => panic!("{to} for {from}: {other}"),
        }
    }
    assert_eq!(accepted("edition=\"GPU\"", "edition=\"SWITCH\""), Verdict { digest: false, signature: true });
    let without = changed(" corpus=\"false\"", "").replace(" patch=\"false\"", "");
    assert!(Rim::parse(without.as_bytes()).is_ok(), "false is what these are where they are absent");
}

#[test]
fn measurements_are_unique_and_have_as_many_values_as_they_say() {
    assert_eq!(refused("index=\"63\"", "index=\"1\""), RimError::DuplicateIndex(1));
    let wrong = |index, said, found| RimError::Alternatives { index, said, found };
    assert_eq!(refused("alternatives=\"2\"", "alternatives=\"1\""), wrong(63, 1, 2));
    assert_eq!(refused("alternatives=\"2\"", "alternatives=\"3\""), wrong(63, 3, 2));
    assert_eq!(refused("ns2:Hash1=", "ns2:Hash2="), wrong(63, 2, 2), "numbered from 0 without a gap");
    assert_eq!(refused("ns2:Hash0=", "ns2:Hash00="), wrong(0, 1, 1));
    assert_eq!(refused("ns2:Hash0=", "ns2:Hash="), wrong(0, 1, 1));
    assert_eq!(refused("ns2:Hash0=", "Hash0="), wrong(0, 1, 0), "a hash of no namespace is none");
    assert_eq!(refused("ns2:Hash0=", "ns0:Hash0="), wrong(0, 1, 0));
    let more = "ns2:Hash0=\"00\" ns2:Hash9=".replace("00", &"00".repeat(48));
    assert_eq!(refused("ns2:Hash0=", &more), wrong(0, 1, 2));
    let by_name = "SHA384:Hash0=";
    assert!(Rim::parse(changed("ns2:Hash0=", by_name).as_bytes()).is_ok(), "any prefix of the namespace");

    let (before, rest) = RIM.split_once("        <ns0:Resource").unwrap();
    let (_, after) = rest.split_once("    </ns0:Payload>").unwrap();
    let with = |resources: &str| Rim::parse(format!("{before}{resources}</ns0:Payload>{after}").as_bytes());
    let resource = |index: usize, alternatives: usize| {
        let hashes: String =
            (0..alternatives).map(|number| format!(" ns2:Hash{number}=\"{}\"", "0f".repeat(48))).collect();
        format!(
            "<Resource type=\"Measurement\" index=\"{index}\" active=\"True\" alternatives=\"{alternatives}\" \
             name=\"n\" size=\"48\"{hashes}/>"
        )
    };
    assert_eq!(with(""), Err(RimError::NoMeasurement));
    let all: String = (0..MAX_MEASUREMENTS).rev().map(|index| resource(index, 1)).collect();
    let rim = with(&all).unwrap();
    let indices: Vec<usize> = rim.measurements.iter().map(|one| one.index.into()).collect();
    assert!(indices.into_iter().eq(0..MAX_MEASUREMENTS), "sorted by index");
    assert_eq!(with(&(all + &resource(0, 1))), Err(RimError::TooManyMeasurements));
    let most = with(&resource(5, MAX_ALTERNATIVES)).unwrap();
    assert_eq!(most.measurements[0].alternatives, vec![[0x0f; 48]; MAX_ALTERNATIVES]);
    assert!(with(&resource(5, MAX_ALTERNATIVES + 1)).is_err());
}

#[test]
fn another_algorithm_or_binding_is_unsupported_and_not_malformed() {
    let more = "http://www.w3.org/2001/04/xmldsig-more#";
    let c14n = "CanonicalizationMethod Algorithm=\"http://www.w3.org/2006/12/xml-c14n11";
    let transform = "#enveloped-signature\"/><ds:Transform Algorithm=\"http://www.w3.org/2006/12/xml-c14n11";
    for (from, to, element, field) in [
        (c14n, format!("{c14n}#WithComments"), "CanonicalizationMethod", "Algorithm"),
        (
            c14n,
            c14n.replace("2006/12/xml-c14n11", "2001/10/xml-exc-c14n#"),
            "CanonicalizationMethod",
            "Algorithm",
        ),
        (
            transform,
            transform.replace("2006/12/xml-c14n11", "TR/2001/REC-xml-c14n-20010315"),
            "Transform",
            "Algorithm",
        ),
        ("#enveloped-signature", "#base64".into(), "Transform", "Algorithm"),
        ("more#ecdsa-sha384", "more#rsa-sha384".into(), "SignatureMethod", "Algorithm"),
        ("more#ecdsa-sha384", "more#ecdsa-sha256".into(), "SignatureMethod", "Algorithm"),
        (
            &format!("{more}sha384\""),
            "http://www.w3.org/2001/04/xmlenc#sha256\"".into(),
            "DigestMethod",
            "Algorithm",
        ),
        ("=\"RIMIM\"", "=\"CoRIM\"".into(), "Meta", "BindingSpec"),
        ("=\"1.01\"", "=\"2.0\"".into(), "Meta", "BindingSpecVersion"),
        ("=\"direct\"", "=\"indirect\"".into(), "Meta", "PayloadType"),
        ("=\"direct\"", "=\"hybrid\"".into(), "Meta", "PayloadType"),
    ] {
        let error = refused(from, &to);
        assert!(error.is_unsupported(), "{to}: {error}");
        match error {
            RimError::Unsupported { element: found, field: of, .. } => {
                assert_eq!((found, of), (element, field))
            }
            other => panic!("{other}"),
        }
    }
    // The transforms in the other order.
    let (enveloped, canonical) =
        ("2000/09/xmldsig#enveloped-signature", "2006/12/xml-c14n11\"/></ds:Transforms");
    let turned = RIM
        .replace(canonical, "ENVELOPED\"/></ds:Transforms")
        .replace(enveloped, "2006/12/xml-c14n11")
        .replace("ENVELOPED", enveloped);
    assert!(Rim::parse(turned.as_bytes()).unwrap_err().is_unsupported());
    // A third transform, or one alone, is no form of a RIM.
    let third = refused(
        "</ds:Transforms>",
        "<ds:Transform Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"/></ds:Transforms>",
    );
    assert_eq!(third, RimError::Element { parent: "Transforms", found: "Transform".into() });
    let one =
        refused("<ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>", "");
    assert_eq!(one, RimError::Missing { element: "Transforms", missing: "Transform" });
}

#[test]
fn certificates_are_der_and_nothing_more() {
    let broken = refused("<ds:X509Certificate>M", "<ds:X509Certificate>N");
    assert!(matches!(broken, RimError::Certificate { index: 0, source: X509Error::Der(_) }), "{broken}");
    let trailing = confide_evidence::pem::base64_text(&[made::certificate("x"), vec![0]].concat());
    let rest = RIM.rsplit_once("<ds:X509Certificate>").unwrap();
    let (_, after) = rest.1.split_once("</ds:X509Certificate>").unwrap();
    let text = format!("{}<ds:X509Certificate>{trailing}</ds:X509Certificate>{after}", rest.0);
    match Rim::parse(text.as_bytes()) {
        Err(RimError::Certificate { index: 3, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_an_error_repeats_is_short() {
    let long = "a".repeat(10_000);
    for (from, to) in [
        ("active=\"True\"", format!("active=\"{long}\"")),
        ("=\"direct\"", format!("=\"{long}\"")),
        ("xmlns:SHA384=\"", format!("xmlns:SHA384=\"{long}")),
        ("<ds:DigestValue>", format!("<ds:DigestValue>{long}*")),
    ] {
        let text = refused(from, &to).to_string();
        assert!(text.len() < 200, "{text}");
    }
}
