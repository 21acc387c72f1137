//! DER written by hand: certificates, revocation lists and OCSP answers that nobody signed.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

/// ecdsa-with-SHA384 as AlgorithmIdentifier.
pub(crate) const ECDSA_SHA384: [u8; 12] = [0x30, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 3];
/// The content octets of id-sha1, id-sha256, id-sha384 and id-sha512.
pub(crate) const DIGESTS: [&[u8]; 4] = [
    &[0x2b, 0x0e, 0x03, 0x02, 0x1a],
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02],
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03],
];

/// One value.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = content.len().to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    let mut out = vec![tag];
    if content.len() >= 0x80 {
        out.push(0x80 | u8::try_from(digits.len()).unwrap());
    }
    out.extend(if digits.is_empty() { vec![0] } else { digits });
    out.extend_from_slice(content);
    out
}

/// A SEQUENCE.
pub(crate) fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// A Name with one common name.
pub(crate) fn name(common_name: &str) -> Vec<u8> {
    let value = tlv(0x0c, common_name.as_bytes());
    seq(&[&tlv(0x31, &seq(&[&tlv(6, &[0x55, 4, 3]), &value]))])
}

/// A GeneralizedTime.
pub(crate) fn time(text: &str) -> Vec<u8> {
    tlv(0x18, text.as_bytes())
}

/// An Extension.
pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    seq(&[&tlv(6, oid), flag, &tlv(4, value)])
}

/// The point of a key of P-384 that is on no curve.
pub(crate) fn point(fill: u8) -> Vec<u8> {
    [&[4][..], &[fill; 96]].concat()
}

/// A self-issued certificate with a key of [`point`] and these extensions.
pub(crate) fn certificate(common_name: &str, fill: u8, extensions: &[Vec<u8>]) -> Vec<u8> {
    let name = name(common_name);
    let validity = seq(&[&time("20250101000000Z"), &time("99991231235959Z")]);
    let curve = [&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1])[..], &tlv(6, &[0x2b, 0x81, 4, 0, 0x22])];
    let bits = [&[0][..], &point(fill)].concat();
    let key = seq(&[&seq(&curve), &tlv(3, &bits)]);
    let list = tlv(0xa3, &seq(&[&extensions.concat()]));
    let tbs = seq(&[
        &tlv(0xa0, &tlv(2, &[2])),
        &tlv(2, &[fill]),
        &ECDSA_SHA384,
        &name,
        &validity,
        &name,
        &key,
        if extensions.is_empty() { &[] } else { &list },
    ]);
    signed(&tbs)
}

/// A revocation list with these entries.
pub(crate) fn revocation_list(entries: &[Vec<u8>]) -> Vec<u8> {
    let (from, to) = (time("20260101000000Z"), time("20260201000000Z"));
    let entries = seq(&[&entries.concat()]);
    signed(&seq(&[&tlv(2, &[1]), &ECDSA_SHA384, &name("a root"), &from, &to, &entries]))
}

/// The structure of everything that is signed, with a signature that is none.
fn signed(tbs: &[u8]) -> Vec<u8> {
    seq(&[tbs, &ECDSA_SHA384, &tlv(3, &[0, 0x30, 0])])
}

/// An OCSP answer in its parts, each as DER.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: Vec<u8>,
    pub(crate) kind: Vec<u8>,
    pub(crate) version: Vec<u8>,
    pub(crate) responder: Vec<u8>,
    pub(crate) produced_at: Vec<u8>,
    pub(crate) singles: Vec<Single>,
    /// With their explicit tag.
    pub(crate) extensions: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    /// With their explicit tag.
    pub(crate) certificates: Vec<u8>,
}

/// A SingleResponse in its parts.
#[derive(Clone)]
pub(crate) struct Single {
    pub(crate) algorithm: Vec<u8>,
    pub(crate) name_hash: Vec<u8>,
    pub(crate) key_hash: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) status: Vec<u8>,
    pub(crate) this_update: Vec<u8>,
    /// With its explicit tag.
    pub(crate) next_update: Vec<u8>,
    /// With their explicit tag.
    pub(crate) extensions: Vec<u8>,
}

impl Default for Single {
    fn default() -> Self {
        Self {
            algorithm: seq(&[&tlv(6, DIGESTS[0]), &[5, 0]]),
            name_hash: tlv(4, &[1; 20]),
            key_hash: tlv(4, &[2; 20]),
            serial: tlv(2, &[0x41, 7]),
            status: vec![0x80, 0],
            this_update: time("20260102030405Z"),
            next_update: tlv(0xa0, &time("20260103030405Z")),
            extensions: Vec::new(),
        }
    }
}

impl Single {
    pub(crate) fn der(&self) -> Vec<u8> {
        let id = seq(&[&self.algorithm, &self.name_hash, &self.key_hash, &self.serial]);
        seq(&[&id, &self.status, &self.this_update, &self.next_update, &self.extensions])
    }

    /// About another serial number.
    pub(crate) fn about(serial: &[u8]) -> Self {
        Self { serial: tlv(2, serial), ..Self::default() }
    }

    /// With another status.
    pub(crate) fn with(status: Vec<u8>) -> Self {
        Self { status, ..Self::default() }
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: tlv(0x0a, &[0]),
            kind: tlv(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]),
            version: Vec::new(),
            responder: tlv(0xa1, &name("a responder")),
            produced_at: time("20260102030406Z"),
            singles: vec![Single::default()],
            extensions: Vec::new(),
            algorithm: ECDSA_SHA384.to_vec(),
            signature: tlv(3, &[0, 0x30, 0]),
            certificates: Vec::new(),
        }
    }
}

impl Answer {
    pub(crate) fn of(singles: Vec<Single>) -> Self {
        Self { singles, ..Self::default() }
    }

    /// The signed part.
    pub(crate) fn tbs(&self) -> Vec<u8> {
        let singles: Vec<u8> = self.singles.iter().flat_map(Single::der).collect();
        seq(&[&self.version, &self.responder, &self.produced_at, &seq(&[&singles]), &self.extensions])
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        let basic = seq(&[&self.tbs(), &self.algorithm, &self.signature, &self.certificates]);
        seq(&[&self.status, &tlv(0xa0, &seq(&[&self.kind, &tlv(4, &basic)]))])
    }

    /// With certificates beside it.
    pub(crate) fn beside(self, certificates: &[Vec<u8>]) -> Self {
        Self { certificates: tlv(0xa0, &seq(&[&certificates.concat()])), ..self }
    }
}

/// The explicit tag of the extensions of an answer or of a single response.
pub(crate) fn extensions(list: &[Vec<u8>]) -> Vec<u8> {
    tlv(0xa1, &seq(&[&list.concat()]))
}

/// The extension id-pkix-ocsp-nonce.
pub(crate) fn nonce(critical: bool, value: &[u8]) -> Vec<u8> {
    extension(&[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2], critical, &tlv(4, value))
}
