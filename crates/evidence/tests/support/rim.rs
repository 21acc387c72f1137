//! A RIM made from text, with certificates and a signature of a key of its own.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use confide_evidence::nvidia::Rim;
use confide_evidence::pem;
use sha2::{Digest as _, Sha384};

pub(crate) const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
pub(crate) const SHA384: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
pub(crate) const TCG: &str =
    "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/";
pub(crate) const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

/// Three measurements; the capitals at the end are put in by [`signed`].
const TEXT: &str = r##"<SoftwareIdentity xmlns="SWID" xmlns:ns0="SWID" xmlns:ns2="SHA384" corpus="false" name="GH100" patch="false" supplemental="false" tagId="c0ffee" version="1.0" tagVersion="0">
    <ns0:Entity name="NVIDIA Corporation" role="softwareCreator tagCreator"/>
    <ns0:Meta xmlns:ns1="TCG" colloquialVersion="599.99" edition="GPU" product="GH100" revision="r1" PayloadType="direct" ns1:BindingSpec="RIMIM" ns1:BindingSpecVersion="1.01" ns1:PlatformManufacturerId="5703" ns1:PlatformManufacturerStr="NVIDIA Corporation" ns1:PlatformModel="GH100" ns1:FirmwareManufacturer="NVIDIA Corporation" ns1:FirmwareManufacturerId="5703"/>
    <ns0:Payload xmlns:SHA384="SHA384">
        <ns0:Resource type="Measurement" index="0" active="True" alternatives="1" ns2:Hash0="AA" name="first" size="48"/>
        <ns0:Resource type="Measurement" index="1" active="False" alternatives="1" ns2:Hash0="00" name="second" size="48"/>
        <ns0:Resource type="Measurement" index="63" active="True" alternatives="2" ns2:Hash0="bb" ns2:Hash1="cc" name="last" size="48"/>
    </ns0:Payload>
<ds:Signature xmlns:ds="DSIG"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2006/12/xml-c14n11"/><ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"/><ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/><ds:Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"/><ds:DigestValue>[DIGEST]</ds:DigestValue></ds:Reference></ds:SignedInfo><ds:SignatureValue>[VALUE]</ds:SignatureValue><ds:KeyInfo><ds:X509Data>[CERTIFICATES]</ds:X509Data></ds:KeyInfo></ds:Signature></SoftwareIdentity>
"##;

static KEY: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());

/// The same RIM in every call of a process.
pub(crate) static RIM: LazyLock<String> = LazyLock::new(|| signed(&unsigned()));

/// The RIM before its digest, signature and certificates are put in.
pub(crate) fn unsigned() -> String {
    let mut text = TEXT.to_owned();
    for (short, long) in [("SWID", SWID), ("SHA384", SHA384), ("TCG", TCG), ("DSIG", DSIG)] {
        text = text.replace(&format!("=\"{short}\""), &format!("=\"{long}\""));
    }
    for digits in ["AA", "00", "bb", "cc"] {
        text = text.replace(&format!("=\"{digits}\""), &format!("=\"{}\"", digits.repeat(48)));
    }
    text
}

/// Puts digest, signature and certificates into a RIM of the form of [`unsigned`].
pub(crate) fn signed(unsigned: &str) -> String {
    let certificates: String = ["signer", "L3", "L2", "root"].map(x509).concat();
    let filled = unsigned.replace("[CERTIFICATES]", &certificates);
    let empty = filled
        .replace("[DIGEST]", &pem::base64_text(&[0; 48]))
        .replace("[VALUE]", &pem::base64_text(&[0; 96]));
    let digest = Sha384::digest(Rim::parse(empty.as_bytes()).unwrap().content);
    let digested = filled.replace("[DIGEST]", &pem::base64_text(&digest));
    let empty = digested.replace("[VALUE]", &pem::base64_text(&[0; 96]));
    let signed_info = Rim::parse(empty.as_bytes()).unwrap().signed_info;
    let value = KEY.sign(&SystemRandom::new(), &signed_info).unwrap();
    digested.replace("[VALUE]", &pem::base64_text(value.as_ref()))
}

/// The element of a certificate of [`KEY`], in lines of 64 digits.
fn x509(name: &str) -> String {
    let text = pem::base64_text(&certificate(name));
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("<ds:X509Certificate>{}\n</ds:X509Certificate>", lines.join("\n"))
}

/// DER of a certificate with this common name and [`KEY`], whose own signature nobody made.
pub(crate) fn certificate(name: &str) -> Vec<u8> {
    let algorithm = der(0x30, &der(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]));
    let attribute = [der(0x06, &[0x55, 0x04, 0x03]), der(0x0c, name.as_bytes())].concat();
    let subject = der(0x30, &der(0x31, &der(0x30, &attribute)));
    let validity = der(0x30, &[der(0x17, b"260101000000Z"), der(0x17, b"360101000000Z")].concat());
    let key = [
        der(
            0x30,
            &[
                der(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]),
                der(0x06, &[0x2b, 0x81, 0x04, 0x00, 0x22]),
            ]
            .concat(),
        ),
        der(0x03, &[&[0], KEY.public_key().as_ref()].concat()),
    ]
    .concat();
    let tbs = [
        der(0xa0, &der(0x02, &[2])),
        der(0x02, &[7]),
        algorithm.clone(),
        subject.clone(),
        validity,
        subject,
        der(0x30, &key),
    ]
    .concat();
    let signature = der(0x30, &[der(0x02, &[1]), der(0x02, &[1])].concat());
    der(0x30, &[der(0x30, &tbs), algorithm, der(0x03, &[&[0], &signature[..]].concat())].concat())
}

/// DER of one value of less than 64 KiB.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let size = u16::try_from(content.len()).unwrap().to_be_bytes();
    let header = match size {
        [0, short @ 0..0x80] => vec![tag, short],
        [0, byte] => vec![tag, 0x81, byte],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [header, content.to_vec()].concat()
}
