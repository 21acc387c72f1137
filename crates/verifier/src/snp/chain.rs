//! Certificates and revocation lists: VCEK or VLEK, ASK or ASVK, ARK.

use crate::check::{Checks, Status, Stop};
use crate::rules;
use crate::signature::Algorithms;
use crate::tdx::{Window, is_ca, issued_by, list_issued_by};
use confide_evidence::document::SnpEndorsements;
use confide_evidence::hex;
use confide_evidence::snp::{MAX_CERTIFICATES, MAX_CRLS, Product, SigningKey};
use confide_evidence::x509::{Certificate, Crl, KeyAlgorithm};
use confide_policy::{AppraisalPolicy, HexBytes, Require, amd_root_spki_sha256};
use sha2::{Digest as _, Sha256};

/// AMD's root certificates (`roots/README.md`), for callers who leave the root away.
const ROOTS: [(Product, &[u8]); 3] = [
    (Product::Milan, include_bytes!("../../roots/amd-ark-milan.der")),
    (Product::Genoa, include_bytes!("../../roots/amd-ark-genoa.der")),
    (Product::Turin, include_bytes!("../../roots/amd-ark-turin.der")),
];

/// The certificates and lists of an appraisal, as given.
pub(super) type Parsed = (Vec<Certificate>, Vec<Crl>);

/// Parses endorsements; a certificate that is given twice counts once.
pub(super) fn parse(endorsements: &SnpEndorsements) -> Result<Parsed, String> {
    let mut ders: Vec<&[u8]> = endorsements.certificates.iter().map(|der| der.as_bytes()).collect();
    ders.sort_unstable();
    ders.dedup();
    if ders.len() > MAX_CERTIFICATES {
        return Err(format!("{} certificates, at most {MAX_CERTIFICATES} are accepted", ders.len()));
    }
    if endorsements.crls.len() > MAX_CRLS {
        return Err(format!("{} lists, at most {MAX_CRLS} are accepted", endorsements.crls.len()));
    }
    let certificates = ders.into_iter().map(|der| Certificate::parse(der).map_err(|error| error.to_string()));
    let lists =
        endorsements.crls.iter().map(|der| Crl::parse(der.as_bytes()).map_err(|error| error.to_string()));
    Ok((certificates.collect::<Result<_, _>>()?, lists.collect::<Result<_, _>>()?))
}

/// A chain by its names. Its signatures are checked by [`Chain::signatures`].
pub(super) struct Chain {
    /// VCEK or VLEK.
    pub(super) key: Certificate,
    /// ASK or ASVK.
    issuer: Certificate,
    /// ARK.
    root: Certificate,
    /// The product of ASK or ASVK and ARK.
    pub(super) product: Product,
}

impl Chain {
    /// Finds the signing key's certificate and follows the issuers' names. The root may be missing: it is the one that
    /// AMD publishes for the product.
    pub(super) fn assemble(mut certificates: Vec<Certificate>) -> Result<Self, String> {
        let kinds = [SigningKey::Vcek, SigningKey::Vlek];
        let kind_of = |name: &str| kinds.into_iter().find(|kind| kind.common_name() == name);
        let key = take(&mut certificates, "VCEK or VLEK", |found| kind_of(&found.common_name).is_some())?;
        let key = key.ok_or("no certificate of a VCEK or VLEK")?;
        let issuer = take(&mut certificates, "issuer", |found| found.subject == key.issuer)?;
        let issuer = issuer.ok_or_else(|| format!("no certificate of the issuer of {}", key.common_name))?;
        let kind = kind_of(&key.common_name).ok_or("no certificate of a VCEK or VLEK")?;
        let product = Product::ALL
            .into_iter()
            .find(|product| kind.issuer_common_name(*product) == issuer.common_name)
            .ok_or_else(|| format!("{} issued by {:?}", key.common_name, issuer.common_name))?;
        let root = match take(&mut certificates, "root", |found| found.subject == issuer.issuer)? {
            Some(root) => root,
            None => published(product)?,
        };
        if root.common_name != format!("ARK-{product}") {
            return Err(format!("{} issued by {:?}", issuer.common_name, root.common_name));
        }
        match certificates.first() {
            Some(other) => Err(format!("{:?} is not in the chain of {}", other.common_name, key.common_name)),
            None => Ok(Self { key, issuer, root, product }),
        }
    }

    pub(super) fn describe(&self) -> String {
        let Self { key, issuer, root, .. } = self;
        format!("{}, {}, {}", key.common_name, issuer.common_name, root.common_name)
    }

    /// The root's key is pinned for the product. Gives whether it is another than AMD's.
    pub(super) fn anchor(&self, policy: &AppraisalPolicy, checks: &mut Checks) -> Result<bool, Stop> {
        let spki: [u8; 32] = Sha256::digest(&self.root.spki).into();
        let pinned = if policy.trusts_snp_root(self.product, &spki) {
            Ok(())
        } else {
            Err(format!("{} with SPKI SHA-256 {}", self.root.common_name, HexBytes(spki)))
        };
        checks.need(&rules::SNP_ROOT_ANCHOR, pinned, |()| self.root.common_name.clone())?;
        Ok(amd_root_spki_sha256(self.product) != Some(spki))
    }

    /// The signatures from the root down to the signing key.
    pub(super) fn signatures(&self, algorithms: &Algorithms, checks: &mut Checks) -> Result<(), Stop> {
        let Self { key, issuer, root, .. } = self;
        // The certificates that AMD publishes are known byte for byte.
        let known = ROOTS.iter().any(|(_, der)| *der == root.der);
        let signed = if known { Ok(()) } else { issued_by(root, root, algorithms) };
        checks.need(&rules::SNP_ROOT_SIGNATURE, signed, |()| "self-signed")?;
        let signed =
            may_issue(root).and_then(|()| issued_by(root, issuer, algorithms)).and_then(|()| is_ca(issuer));
        checks.need(&rules::SNP_ISSUER_SIGNATURE, signed, |()| issuer.common_name.clone())?;
        let signed = issued_by(issuer, key, algorithms).and_then(|()| is_endorsement_key(key));
        checks.need(&rules::SNP_KEY_SIGNATURE, signed, |()| format!("issued by {}", issuer.common_name))
    }

    /// The lists, each by an authority of the chain, and whether they have one of its certificates. Lists that are given
    /// count, whatever the policy says of their absence.
    pub(super) fn revocation(
        &self,
        lists: &[Crl],
        required: &Require,
        algorithms: &Algorithms,
        checks: &mut Checks,
    ) -> Result<(), Stop> {
        let Self { issuer, root, .. } = self;
        let of_root = self.lists_of_root(lists).next().is_some();
        if lists.is_empty() {
            checks.not_run(&rules::SNP_CRL_SIGNATURE, "no list was given");
        } else {
            let signed = lists.iter().try_for_each(|list| {
                let authority = if list.issuer == issuer.subject { issuer } else { root };
                list_issued_by(authority, list, algorithms)
            });
            checks.need(&rules::SNP_CRL_SIGNATURE, signed, |()| {
                let names: Vec<&str> = lists.iter().map(|list| self.authority(list)).collect();
                format!("issued by {}", names.join(", "))
            })?;
        }
        if let Some(found) = self.revoked(lists) {
            checks.fail(&rules::SNP_REVOCATION, found);
            return Err(Stop);
        }
        match required {
            _ if of_root => checks.pass(&rules::SNP_REVOCATION, "none is revoked"),
            Require::Waive(reason) => checks.push(
                &rules::SNP_REVOCATION,
                Status::NotRun,
                format!("waived: {reason}"),
                "no list of the ARK was given",
            ),
            Require::Required => {
                checks.fail(&rules::SNP_REVOCATION, "no list of the ARK was given");
                return Err(Stop);
            }
        }
        Ok(())
    }

    /// The root's own lists.
    pub(super) fn lists_of_root<'l>(&self, lists: &'l [Crl]) -> impl Iterator<Item = &'l Crl> {
        lists.iter().filter(|list| list.issuer == self.root.subject)
    }

    fn authority(&self, list: &Crl) -> &str {
        let authority = if list.issuer == self.issuer.subject { &self.issuer } else { &self.root };
        &authority.common_name
    }

    /// A list speaks of the certificates that its issuer has issued (RFC 5280 section 5): the root's of the root and the
    /// ASK or ASVK, theirs of the signing keys.
    fn revoked(&self, lists: &[Crl]) -> Option<String> {
        let Self { key, issuer, root, .. } = self;
        [(root, root), (issuer, root), (key, issuer)].into_iter().find_map(|(certificate, authority)| {
            let listed = |list: &&Crl| list.issuer == authority.subject && list.revokes(&certificate.serial);
            let serial = hex::encode(&certificate.serial);
            lists
                .iter()
                .find(listed)
                .map(|_| format!("{}, serial {serial}, is revoked", certificate.common_name))
        })
    }

    pub(super) fn windows(&self) -> Vec<Window> {
        vec![
            Window::of_certificate("the ARK certificate", &self.root),
            Window::of_certificate("the ASK or ASVK certificate", &self.issuer),
            Window::of_certificate("the VCEK or VLEK certificate", &self.key),
        ]
    }
}

/// Takes the one certificate out of the list that fits.
fn take(
    certificates: &mut Vec<Certificate>,
    what: &str,
    fits: impl Fn(&Certificate) -> bool,
) -> Result<Option<Certificate>, String> {
    let (mut found, rest): (Vec<_>, Vec<_>) = certificates.drain(..).partition(fits);
    *certificates = rest;
    let one = found.pop();
    if found.is_empty() { Ok(one) } else { Err(format!("several certificates that may be the {what}")) }
}

fn published(product: Product) -> Result<Certificate, String> {
    let der = ROOTS.iter().find(|(of, _)| *of == product).map(|(_, der)| *der);
    let der = der.ok_or_else(|| format!("no root certificate of {product}"))?;
    Certificate::parse(der).map_err(|error| error.to_string())
}

/// The root may have an authority below it (RFC 5280 section 4.2.1.9).
fn may_issue(root: &Certificate) -> Result<(), String> {
    match root.basic_constraints.and_then(|constraints| constraints.path_len) {
        Some(0) => Err(format!("{} may have no authority below it", root.common_name)),
        _ => Ok(()),
    }
}

/// A key on P-384 that is no authority's. AMD's certificates name no usage; one that does must allow signing.
fn is_endorsement_key(key: &Certificate) -> Result<(), String> {
    let ca = key.basic_constraints.is_some_and(|constraints| constraints.ca);
    let signs = key.key_usage.is_none_or(|usage| usage.digital_signature);
    if key.key_algorithm != KeyAlgorithm::P384 {
        Err(format!("{} certifies a key that is not on P-384", key.common_name))
    } else if ca || !signs {
        Err(format!("{} is not a signing certificate", key.common_name))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_roots_are_the_pinned_ones_and_sign_themselves() {
        let algorithms = crate::signature::tests::algorithms();
        for (product, der) in ROOTS {
            let root = Certificate::parse(der).unwrap();
            assert_eq!(root.common_name, format!("ARK-{product}"));
            assert_eq!(amd_root_spki_sha256(product), Some(Sha256::digest(&root.spki).into()));
            assert_eq!(issued_by(&root, &root, &algorithms), Ok(()));
        }
    }
}
