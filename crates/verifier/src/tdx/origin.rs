//! What a quote shows of its origin by itself, before anybody is asked for collateral.

use super::{
    INTEL_SGX_ROOT_SPKI_SHA256, PCK, is_ca, is_signer, issued_in_profile, quote_signatures, root_signature,
};
use crate::check::{Check, Checks, Status, Stop};
use crate::platform::PckCa;
use crate::rules;
use crate::signature::Algorithms;
use confide_evidence::pem;
use confide_evidence::tdx::Quote;
use confide_evidence::x509::{Certificate, KeyAlgorithm};
use confide_policy::{AppraisalPolicy, HexBytes};
use sha2::{Digest as _, Sha256};

/// Verifies what needs no collateral: that the quote, its QE report and the binding of its attestation key are signed by
/// the PCK in the quote, and that the chain there leads from this PCK to a root whose key `policy` accepts.
///
/// It is no appraisal: nothing is said of revocation, validity, TCB or the policy's reference values, and
/// [`evaluate`](crate::evaluate) verifies all of it again. Who asks a service about a quote's platform can hold that back
/// from quotes that no platform has signed.
///
/// # Errors
/// The check that failed.
pub fn verify_origin(
    quote: &Quote<'_>,
    policy: &AppraisalPolicy,
    algorithms: &Algorithms,
) -> Result<(), Box<Check>> {
    let mut checks = Checks::default();
    match origin(quote, policy, algorithms, &mut checks, &mut false) {
        Ok(()) => Ok(()),
        Err(Stop) => {
            let failed = checks.into_list().into_iter().find(|check| check.status == Status::Fail);
            Err(Box::new(failed.expect("whoever stops has noted a failure")))
        }
    }
}

/// The three certificates that a quote brings.
struct Chain {
    pck: Certificate,
    ca: Certificate,
    root: Certificate,
}

/// As [`verify_origin`], with every check noted, and whether the chain ended in another anchor than Intel's.
pub(crate) fn origin(
    quote: &Quote<'_>,
    policy: &AppraisalPolicy,
    algorithms: &Algorithms,
    checks: &mut Checks,
    simulated: &mut bool,
) -> Result<(), Stop> {
    let parsed = chain(quote.signature.pck_chain);
    let chain = checks.need(&rules::PCK_CHAIN_FORM, parsed, |chain| chain.pck.common_name.clone())?;
    let Chain { pck, ca, root } = &chain;
    let spki: [u8; 32] = Sha256::digest(&root.spki).into();
    let pinned = if policy.tdx_roots().contains(&spki) {
        Ok(())
    } else {
        Err(format!("{} with SPKI SHA-256 {}", root.common_name, HexBytes(spki)))
    };
    checks.need(&rules::ROOT_ANCHOR, pinned, |()| root.common_name.clone())?;
    *simulated = spki != INTEL_SGX_ROOT_SPKI_SHA256;
    root_signature(root, algorithms, checks)?;
    let authority = issued_in_profile(root, ca, algorithms)
        .and_then(|()| is_ca(ca))
        .and_then(|()| PckCa::named(&ca.common_name).map(drop));
    checks.need(&rules::PCK_CA_SIGNATURE, authority, |()| ca.common_name.clone())?;
    let signed = issued_in_profile(ca, pck, algorithms).and_then(|()| is_signer(pck, PCK));
    checks.need(&rules::PCK_SIGNATURE, signed, |()| format!("issued by {}", ca.common_name))?;
    quote_signatures(quote, pck, None, algorithms, checks)
}

fn chain(text: &[u8]) -> Result<Chain, String> {
    let bodies = pem::bodies(text).map_err(|error| error.to_string())?;
    let bodies: [&str; 3] =
        bodies.try_into().map_err(|bodies: Vec<_>| format!("{} certificates", bodies.len()))?;
    let [pck, ca, root] = bodies.map(|body| {
        let der = pem::base64(body).map_err(|error| error.to_string())?;
        Certificate::parse(&der).map_err(|error| error.to_string())
    });
    let (pck, ca, root) = (pck?, ca?, root?);
    if pck.key_algorithm != KeyAlgorithm::P256 {
        return Err("a PCK that is not on P-256".to_owned());
    }
    Ok(Chain { pck, ca, root })
}
