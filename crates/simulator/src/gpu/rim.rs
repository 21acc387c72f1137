//! Reference integrity manifests: SWID tags (ISO/IEC 19770-2) in the shape that NVIDIA publishes, with an enveloped XML
//! signature.

use sha2::{Digest as _, Sha384};

use super::c14n::canonical_rim;
use super::flaw::FlawedCertificate;
use super::rim_signer::RimSigner;
use crate::text::{base64, hex, lines_of_64};
use crate::{SimulatorError, Window};

/// Measurements in every recorded manifest, switches' included.
const RESOURCES: u8 = 64;
/// One day in seconds.
const DAY: u64 = 86_400;

/// Products whose manifests have signers of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RimProduct {
    /// Hopper.
    Gh100,
    /// Blackwell for data centres.
    Gb100,
    /// Blackwell for workstations and servers, GB202 and its siblings.
    Gb20x,
    /// NVSwitch.
    Ls10,
}

impl RimProduct {
    /// What a manifest calls the product.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gh100 => "GH100",
            Self::Gb100 => "GB100",
            Self::Gb20x => "GB202",
            Self::Ls10 => "LS10",
        }
    }
}

/// Whether a measurement is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RimActivity {
    /// `active="True"`.
    Active,
    /// `active="False"`.
    Inactive,
}

/// One `Resource` of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RimMeasurement {
    /// Index, from 0: that of the report's block less one.
    pub index: u8,
    /// Name, as in `Measurement_7`.
    pub name: String,
    /// Whether it is compared.
    pub activity: RimActivity,
    /// SHA-384 values, any of which a report may show.
    pub alternatives: Vec<[u8; 48]>,
}

/// A way in which a manifest is wrong although everything that the flaw leaves alone still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RimFlaw {
    /// Nothing is wrong.
    #[default]
    None,
    /// DigestValue, rightly signed, is that of another document.
    Digest,
    /// The signature is over another `SignedInfo`.
    Signature,
    /// The signer's certificate is signed by another key than the third level's.
    SignerOfAnotherKey,
    /// The chain ends in a root of the same name with another key.
    ForeignRoot,
    /// The signer's certificate is for signing certificates.
    SignerMayCertify,
    /// The signer's certificate says that it is an authority's.
    SignerIsAuthority,
    /// The third level is called one for debug.
    DebugIssuer,
    /// The second and the third level stand in each other's place.
    SwappedCertificates,
    /// The root's certificate is left out.
    WithoutRoot,
    /// The device root follows as a fifth certificate.
    FifthCertificate,
}

/// A manifest before it is signed. Start from `rims` of a [`SimulatedGpu`](crate::SimulatedGpu), from `rim` of a
/// [`SimulatedSwitch`](crate::SimulatedSwitch), or from [`RimOptions::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RimOptions {
    /// The id under which NVIDIA's service would keep it; it does not stand in the document.
    pub id: String,
    /// `name` of the tag: the product.
    pub name: String,
    /// `tagId` of the tag: 96 hexadecimal digits.
    pub tag_id: String,
    /// `version` of the tag.
    pub version: String,
    /// `colloquialVersion`: version of the driver or the VBIOS.
    pub colloquial_version: String,
    /// `edition`: `GPU` or `SWITCH`.
    pub edition: String,
    /// `product`.
    pub product: String,
    /// `revision`.
    pub revision: String,
    /// The measurements in order.
    pub measurements: Vec<RimMeasurement>,
    /// Whose signer signs.
    pub signer: RimProduct,
    /// notBefore and notAfter of the signer's certificate, Unix seconds.
    pub window: Window,
    /// What is wrong.
    pub flaw: RimFlaw,
    /// What is wrong with one certificate of the chain, 0 for the signer's.
    pub flawed: Option<FlawedCertificate>,
}

impl RimOptions {
    /// A manifest of 64 inactive measurements, signed for two years of which one has passed at `now_unix`.
    #[must_use]
    pub fn new(product: RimProduct, id: &str, colloquial_version: &str, now_unix: u64) -> Self {
        let edition = match product {
            RimProduct::Ls10 => "SWITCH",
            _ => "GPU",
        };
        Self {
            id: id.to_owned(),
            name: product.name().to_owned(),
            tag_id: hex(&Sha384::digest(format!("SIMULATED {id}"))),
            version: "1.0".to_owned(),
            colloquial_version: colloquial_version.to_owned(),
            edition: edition.to_owned(),
            product: product.name().to_owned(),
            revision: "r1".to_owned(),
            measurements: (0..RESOURCES)
                .map(|index| RimMeasurement {
                    index,
                    name: format!("Measurement_{index}"),
                    activity: RimActivity::Inactive,
                    alternatives: vec![[0; 48]],
                })
                .collect(),
            signer: product,
            window: Window {
                from: now_unix.saturating_sub(365 * DAY),
                until: now_unix.saturating_add(365 * DAY),
            },
            flaw: RimFlaw::None,
            flawed: None,
        }
    }

    /// The measurement with this index.
    pub fn measurement(&mut self, index: u8) -> Option<&mut RimMeasurement> {
        self.measurements.iter_mut().find(|measurement| measurement.index == index)
    }

    /// The certificates that stand in the document, DER, in its order: leaf first.
    ///
    /// # Errors
    /// [`SimulatorError`] if the signer's certificate cannot be made.
    pub fn certificates(&self) -> Result<Vec<Vec<u8>>, SimulatorError> {
        Ok(RimSigner::new(self)?.certificates)
    }

    /// The signed document.
    ///
    /// # Errors
    /// [`SimulatorError`] if the signer's certificate cannot be made.
    pub fn encode(&self) -> Result<Vec<u8>, SimulatorError> {
        let signer = RimSigner::new(self)?;
        let certificates: String = signer
            .certificates
            .iter()
            .map(|der| format!("<ds:X509Certificate>{}</ds:X509Certificate>", lines_of_64(&base64(der))))
            .collect();
        let (before, after) = self.document();
        let unsigned = format!(
            "{before}<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\">{SIGNED_INFO}\
             <ds:SignatureValue></ds:SignatureValue><ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data>\
             </ds:KeyInfo></ds:Signature>{after}"
        );
        Ok(self.sign_with(&signer, &unsigned).into_bytes())
    }

    /// Signs an edited document of these options anew: puts in DigestValue and SignatureValue what its content and
    /// its `SignedInfo` ask for. Certificates stay as they stand.
    ///
    /// # Errors
    /// [`SimulatorError::Key`] if the signer's key cannot be derived.
    pub fn resign(&self, document: &str) -> Result<Vec<u8>, SimulatorError> {
        let signer = RimSigner::new(self)?;
        Ok(self.sign_with(&signer, document).into_bytes())
    }

    fn sign_with(&self, signer: &RimSigner, document: &str) -> String {
        let mut digest = Sha384::digest(canonical_rim(document).content);
        if self.flaw == RimFlaw::Digest {
            digest[0] ^= 1;
        }
        let with_digest = with_content(document, "ds:DigestValue", &base64(&digest));
        let mut signed_info = canonical_rim(&with_digest).signed_info;
        if self.flaw == RimFlaw::Signature {
            signed_info.push(' ');
        }
        let signature = signer.key.sign(signed_info.as_bytes());
        with_content(&with_digest, "ds:SignatureValue", &base64(&signature))
    }

    /// The document up to its signature, and its end.
    fn document(&self) -> (String, &'static str) {
        let Self { name, tag_id, version, colloquial_version, edition, product, revision, .. } = self;
        let resources: String = self.measurements.iter().map(resource).collect();
        let before = format!(
            "<SoftwareIdentity xmlns=\"{SWID}\" xmlns:ns0=\"{SWID}\" xmlns:ns2=\"{SHA384}\" corpus=\"false\" \
             name=\"{name}\" patch=\"false\" supplemental=\"false\" tagId=\"{tag_id}\" version=\"{version}\" \
             tagVersion=\"0\">\n    \
             <ns0:Entity name=\"SIMULATED Corporation\" role=\"softwareCreator tagCreator\"/>\n    \
             <ns0:Meta xmlns:ns1=\"{RIM}\" colloquialVersion=\"{colloquial_version}\" edition=\"{edition}\" \
             product=\"{product}\" revision=\"{revision}\" PayloadType=\"direct\" ns1:BindingSpec=\"RIMIM\" \
             ns1:BindingSpecVersion=\"1.01\" ns1:PlatformManufacturerId=\"5703\" \
             ns1:PlatformManufacturerStr=\"SIMULATED Corporation\" ns1:PlatformModel=\"{name}\" \
             ns1:FirmwareManufacturer=\"SIMULATED Corporation\" ns1:FirmwareManufacturerId=\"5703\"/>\n    \
             <ns0:Payload xmlns:SHA384=\"{SHA384}\">\n{resources}    </ns0:Payload>\n"
        );
        (before, "</SoftwareIdentity>")
    }
}

/// One measurement, a line.
fn resource(measurement: &RimMeasurement) -> String {
    let RimMeasurement { index, name, activity, alternatives } = measurement;
    let active = match activity {
        RimActivity::Active => "True",
        RimActivity::Inactive => "False",
    };
    let hashes: String = (0..)
        .zip(alternatives)
        .map(|(at, value): (u32, _)| format!(" ns2:Hash{at}=\"{}\"", hex(value)))
        .collect();
    format!(
        "        <ns0:Resource type=\"Measurement\" index=\"{index}\" active=\"{active}\" \
         alternatives=\"{}\"{hashes} name=\"{name}\" size=\"48\"/>\n",
        alternatives.len()
    )
}

/// The text with other content in its first element of this name.
fn with_content(text: &str, element: &str, content: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    match text.split_once(&open).and_then(|(before, rest)| Some((before, rest.split_once(&close)?.1))) {
        Some((before, after)) => format!("{before}{open}{content}{close}{after}"),
        None => text.to_owned(),
    }
}

/// Namespace of SWID tags.
const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
/// Namespace of the hash attributes.
const SHA384: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
/// Namespace of the Trusted Computing Group's attributes.
const RIM: &str =
    "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/";

/// `SignedInfo` without its digest.
const SIGNED_INFO: &str = "<ds:SignedInfo><ds:CanonicalizationMethod \
    Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"/><ds:SignatureMethod \
    Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384\"/><ds:Reference URI=\"\"><ds:Transforms>\
    <ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/><ds:Transform \
    Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"/></ds:Transforms><ds:DigestMethod \
    Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#sha384\"/><ds:DigestValue></ds:DigestValue></ds:Reference>\
    </ds:SignedInfo>";
