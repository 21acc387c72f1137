//! The recorded evidence beside the repository, where there is one.

use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{Endorsements, TdxCollateral};
use confide_evidence::hex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One row of a table of the corpus.
pub(crate) struct Row(BTreeMap<String, String>);

impl Row {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(crate) fn id(&self) -> &str {
        self.field("id")
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.field("time").parse().unwrap()
    }
}

/// The corpus folder: `CONFIDE_CORPUS`, else `../shared/corpus` beside the repository.
pub(crate) struct Corpus(PathBuf);

impl Corpus {
    /// Says so in one line where the corpus is absent.
    pub(crate) fn open(not_run: &str) -> Option<Self> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
        let folder = std::env::var_os("CONFIDE_CORPUS").map_or(beside, PathBuf::from);
        if folder.is_dir() {
            return Some(Self(folder));
        }
        println!("not run: {not_run}: no corpus at {}", folder.display());
        None
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn rows(&self, table: &str) -> Vec<Row> {
        let text = std::fs::read_to_string(self.0.join(table)).unwrap();
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().unwrap().split('\t').collect();
        lines
            .map(|line| {
                Row(names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .zip(line.split('\t').map(str::to_owned))
                    .collect())
            })
            .collect()
    }

    pub(crate) fn read(&self, row: &Row, column: &str) -> Vec<u8> {
        let path = self.0.join(row.field(column));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn text(&self, row: &Row, column: &str) -> String {
        String::from_utf8(self.read(row, column)).unwrap()
    }

    /// The collateral of a row of either TDX table.
    pub(crate) fn collateral(&self, row: &Row) -> Endorsements {
        let chain =
            if row.field("chain").is_empty() { self.read(row, "quote") } else { self.read(row, "chain") };
        let chain = certificates(&chain);
        let signing_chain = self.text(row, "signing_chain");
        let (tcb_info, tcb_info_signature) = signed(&self.text(row, "tcb_info"), "tcbInfo");
        let (qe_identity, qe_identity_signature) = signed(&self.text(row, "qe_identity"), "enclaveIdentity");
        let tdx = TdxCollateral {
            early: None,
            pck_crl: self.crl(row, "pck_crl"),
            tcb_info,
            qe_identity,
            root_ca_crl: self.crl(row, "root_crl"),
            tcb_info_signature,
            pck_crl_issuer_chain: chain.get(1..).unwrap_or_default().concat(),
            pck_certificate_chain: Some(chain.concat()),
            qe_identity_signature,
            tcb_info_issuer_chain: signing_chain.clone(),
            qe_identity_issuer_chain: signing_chain,
        };
        Endorsements { tdx: Some(tdx), ..Endorsements::default() }
    }

    fn crl(&self, row: &Row, column: &str) -> ByteString {
        let as_hex = format!("{column}_hex");
        if row.field(&as_hex).is_empty() {
            ByteString(self.read(row, column))
        } else {
            ByteString(hex::decode(self.text(row, &as_hex).trim()).unwrap())
        }
    }
}

/// The PEM blocks of a chain, also of one inside a quote.
fn certificates(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let end = "-----END CERTIFICATE-----";
    let mut found = Vec::new();
    let mut rest = &text[..];
    while let Some(start) = rest.find("-----BEGIN CERTIFICATE-----") {
        let Some(stop) = rest[start..].find(end) else { break };
        found.push(format!("{}\n", &rest[start..start + stop + end.len()]));
        rest = &rest[start + stop + end.len()..];
    }
    found
}

/// The exact bytes of the object under `key`, and the signature beside it.
fn signed(answer: &str, key: &str) -> (String, Bytes<64>) {
    let parsed: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(answer).unwrap();
    let signature: String = serde_json::from_str(parsed["signature"].get()).unwrap();
    (parsed[key].get().to_owned(), Bytes(hex::decode_array(&signature).unwrap()))
}

/// The de-facto JSON file of collateral, written here on its own for the differential test's oracle. Without the optional
/// PCK chain, which the oracle would use in place of the quote's own.
pub(crate) fn quote_collateral_v3(collateral: &TdxCollateral) -> String {
    serde_json::json!({
        "pck_crl_issuer_chain": collateral.pck_crl_issuer_chain,
        "root_ca_crl": hex::encode(collateral.root_ca_crl.as_bytes()),
        "pck_crl": hex::encode(collateral.pck_crl.as_bytes()),
        "tcb_info_issuer_chain": collateral.tcb_info_issuer_chain,
        "tcb_info": collateral.tcb_info,
        "tcb_info_signature": hex::encode(collateral.tcb_info_signature.as_bytes()),
        "qe_identity_issuer_chain": collateral.qe_identity_issuer_chain,
        "qe_identity": collateral.qe_identity,
        "qe_identity_signature": hex::encode(collateral.qe_identity_signature.as_bytes()),
    })
    .to_string()
}
