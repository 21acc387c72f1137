//! `confide policy sign`: a detached signature over a file of reference values.

use super::Form;
use crate::input;
use crate::render;
use crate::status::{Failure, Status};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use confide_policy::{MAX_REFERENCE_FILE, ReferenceFile, ReferenceKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize as _, Zeroizing};

/// The largest key file read, in bytes. An Ed25519 key in PEM has 119.
const MAX_KEY: usize = 16 * 1024;

pub(super) fn run(key: &Path, path: &Path, form: Form) -> Result<Status, Failure> {
    let file = input::read(path, MAX_REFERENCE_FILE)?;
    let read = ReferenceFile::parse(&file).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        Failure::new(Status::Malformed, "reference_file_malformed", message)
    })?;
    let signer = Signer::read(key)?;
    let (public, signature) = (signer.public()?, signer.sign(&file)?);
    let beside = PathBuf::from(format!("{}.sig", path.display()));
    write(&beside, &signature)?;
    let algorithm = public.algorithm();
    if form == Form::Json {
        super::print(&json!({
            "signature": beside.display().to_string(),
            "algorithm": algorithm,
            "name": read.name.as_str(),
            "version": read.version,
            "key": public.to_string(),
        }));
        return Ok(Status::Accepted);
    }
    render::prose(&format!(
        "{}: {} version {}, signed with {algorithm}",
        beside.display(),
        read.name,
        read.version
    ));
    render::prose("In policies:");
    render::prose("");
    render::prose("[signed_references]");
    render::prose(&format!("name = \"{}\"", read.name));
    render::prose(&format!("keys = [\"{public}\"]"));
    render::prose(&format!("minimum_version = {}", read.version));
    render::prose("sets = \"all\"");
    Ok(Status::Accepted)
}

enum Signer {
    Ed25519(Ed25519KeyPair),
    EcdsaP256(EcdsaKeyPair),
}

impl Signer {
    fn read(path: &Path) -> Result<Self, Failure> {
        let unusable = || {
            let message = format!("{}: not an Ed25519 or P-256 private key in PKCS#8", path.display());
            Failure::new(Status::Malformed, "signing_key", message)
                .hint("make one with: openssl genpkey -algorithm ed25519 -out key.pem")
        };
        let mut der = pkcs8(path, unusable)?;
        let key = der.secret_pkcs8_der();
        let signer = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key)
            .map(Self::Ed25519)
            .or_else(|_| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key).map(Self::EcdsaP256));
        der.zeroize();
        signer.map_err(|_| unusable())
    }

    fn public(&self) -> Result<ReferenceKey, Failure> {
        let key = match self {
            Self::Ed25519(key) => key.public_key().as_ref().try_into().map(ReferenceKey::Ed25519),
            Self::EcdsaP256(key) => key.public_key().as_ref().try_into().map(ReferenceKey::EcdsaP256),
        };
        key.map_err(|_| Failure::new(Status::Internal, "signing_failed", "a public key of another size"))
    }

    fn sign(&self, file: &[u8]) -> Result<Vec<u8>, Failure> {
        let signature = match self {
            Self::Ed25519(key) => Ok(key.sign(file)),
            Self::EcdsaP256(key) => key.sign(&SystemRandom::new(), file),
        };
        let failed = |_| Failure::new(Status::Internal, "signing_failed", "the signature could not be made");
        signature.map(|signature| signature.as_ref().to_vec()).map_err(failed)
    }
}

/// Reads a private key in PKCS#8, PEM or DER.
pub(crate) fn pkcs8(
    path: &Path,
    unusable: impl Fn() -> Failure,
) -> Result<PrivatePkcs8KeyDer<'static>, Failure> {
    let bytes = Zeroizing::new(input::read(path, MAX_KEY)?);
    if bytes.len() > MAX_KEY {
        return Err(unusable());
    }
    if bytes.starts_with(b"-----BEGIN") {
        PrivatePkcs8KeyDer::from_pem_slice(&bytes).map_err(|_| unusable())
    } else {
        Ok(PrivatePkcs8KeyDer::from(bytes.to_vec()))
    }
}

/// Writes a file, to the disk.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written =
        File::create(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| {
        Failure::new(Status::Internal, "file_unwritable", format!("{}: {error}", path.display()))
    })
}
