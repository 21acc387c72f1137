//! Writes the simulator's roots and issuing certificates with fresh keys; for SEV-SNP the keys alone.
//!
//! Run once; running it again changes the roots and with them every pinned hash, so it replaces files only when
//! given `--replace`, and otherwise writes what is missing. The hashes that it prints belong into the crate's `authority` module, into
//! `fixtures/simulator/README.md` and into `policies/danger-simulator.toml`.
//!
//! The module of the crate that names these authorities embeds the files, so this program builds the parameters
//! itself; the crate's tests compare the names.

#![allow(clippy::print_stdout, reason = "a program")]

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa;
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DistinguishedName, DnType, DnValue, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PublicKeyData,
    SerialNumber, date_time_ymd,
};
use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/simulator");
    let replace = std::env::args().nth(1).as_deref() == Some("--replace");
    type Write = fn(&Path) -> Result<()>;
    let families: [(&str, Write); 6] = [
        ("tdx-root.key.pem", tdx),
        ("gpu-root.key.pem", gpu),
        ("snp-ark.key.pem", snp),
        ("gpu-identity-gb100.key.pem", other_chips),
        ("rim-root.key.pem", rim),
        ("nras-004.key.pem", nras),
    ];
    for (file, write) in families {
        if !replace && folder.join(file).exists() {
            println!("{file} is there; give --replace to change every pinned hash");
        } else {
            write(&folder)?;
        }
    }
    Ok(())
}

fn tdx(folder: &Path) -> Result<()> {
    let root_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut root = intel("SIMULATED SGX Root CA", &root_key, BasicConstraints::Constrained(1));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    write_root(folder, "tdx-root", &root, &root_key)?;
    let issuer = Issuer::new(root, root_key);

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut pck_ca = intel("SIMULATED SGX PCK Platform CA", &key, BasicConstraints::Constrained(0));
    pck_ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    write(folder, "tdx-pck-ca", &pck_ca.signed_by(&key, &issuer)?.pem(), &key)?;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut signing = intel("SIMULATED SGX TCB Signing", &key, BasicConstraints::Unconstrained);
    signing.is_ca = IsCa::ExplicitNoCa;
    signing.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
    write(folder, "tdx-tcb-signing", &signing.signed_by(&key, &issuer)?.pem(), &key)
}

/// A certificate in the style of Intel's hierarchy, valid from 2018 to 2049 as Intel's root is.
fn intel(common_name: &str, key: &KeyPair, constraints: BasicConstraints) -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, "Confide SIMULATED platform");
    name.push(DnType::LocalityName, "Nowhere");
    name.push(DnType::StateOrProvinceName, "NA");
    name.push(DnType::CountryName, "XX");
    let mut params = authority(name, key, constraints);
    params.not_before = date_time_ymd(2018, 5, 21);
    params.not_after = date_time_ymd(2049, 12, 31);
    params.crl_distribution_points =
        vec![CrlDistributionPoint { uris: vec!["https://simulated.invalid/root.crl".into()] }];
    params
}

fn gpu(folder: &Path) -> Result<()> {
    let root_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    let root = nvidia("SIMULATED Device Identity CA", &root_key, BasicConstraints::Unconstrained);
    write_root(folder, "gpu-root", &root, &root_key)?;
    let issuer = Issuer::new(root, root_key);

    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    let identity = nvidia("GH100 Identity SIMULATED", &key, BasicConstraints::Constrained(2));
    write(folder, "gpu-identity", &identity.signed_by(&key, &issuer)?.pem(), &key)?;
    let issuer = Issuer::new(identity, key);

    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    let provisioner = nvidia("GH100 Provisioner ICA 1 SIMULATED", &key, BasicConstraints::Constrained(1));
    write(folder, "gpu-provisioner", &provisioner.signed_by(&key, &issuer)?.pem(), &key)
}

/// The authorities of Blackwell below the device root, and that of LS10 below Hopper's identity CA, as NVIDIA has it.
fn other_chips(folder: &Path) -> Result<()> {
    let root = committed(folder, "gpu-root", "SIMULATED Device Identity CA")?;
    for (chip, file) in [("GB100", "gb100"), ("GB20X", "gb20x")] {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let name = format!("{chip} Identity SIMULATED");
        let identity = nvidia(&name, &key, BasicConstraints::Constrained(2));
        write(folder, &format!("gpu-identity-{file}"), &identity.signed_by(&key, &root)?.pem(), &key)?;
        let issuer = Issuer::new(identity, key);

        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let name = format!("{chip} Provisioner ICA 00000 SIMULATED");
        let provisioner = nvidia(&name, &key, BasicConstraints::Constrained(1));
        write(
            folder,
            &format!("gpu-provisioner-{file}"),
            &provisioner.signed_by(&key, &issuer)?.pem(),
            &key,
        )?;
    }
    let issuer = committed(folder, "gpu-identity", "GH100 Identity SIMULATED")?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    let provisioner = nvidia("LS_10 Provisioner ICA 1 SIMULATED", &key, BasicConstraints::Constrained(1));
    write(folder, "gpu-provisioner-ls10", &provisioner.signed_by(&key, &issuer)?.pem(), &key)
}

/// An authority whose files are there.
fn committed(folder: &Path, file: &str, common_name: &str) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::from_pem(&fs::read_to_string(folder.join(format!("{file}.key.pem")))?)?;
    Ok(Issuer::new(nvidia(common_name, &key, BasicConstraints::Unconstrained), key))
}

/// The hierarchy that signs reference integrity manifests: a root, and for each product two levels below it.
fn rim(folder: &Path) -> Result<()> {
    let root_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    let root = manifests("SIMULATED CoRIM signing Root CA", &root_key, BasicConstraints::Unconstrained);
    write_root(folder, "rim-root", &root, &root_key)?;
    let root = Issuer::new(root, root_key);
    let products = [
        ("gh100", "Reference Value GH100 CA SIMULATED", "Reference Value L3 GH100 001 SIMULATED"),
        ("gb100", "Reference Value GB1XX CA 001 SIMULATED", "Reference Value L3 GB100-CC 001 SIMULATED"),
        ("gb20x", "Reference Value GB2XX CA 001 SIMULATED", "Reference Value L3 GB20X-CC 001 SIMULATED"),
        ("ls10", "Reference Value LS10 CA SIMULATED", "Reference Value L3 LS10 001 SIMULATED"),
    ];
    for (product, level_2, level_3) in products {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let params = manifests(level_2, &key, BasicConstraints::Unconstrained);
        write(folder, &format!("rim-l2-{product}"), &params.signed_by(&key, &root)?.pem(), &key)?;
        let issuer = Issuer::new(params, key);

        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let params = manifests(level_3, &key, BasicConstraints::Constrained(0));
        write(folder, &format!("rim-l3-{product}"), &params.signed_by(&key, &issuer)?.pem(), &key)?;
    }
    Ok(())
}

/// Who issues the keys of the attestation service, with an RSA key and with one on P-384. Their own issuer is nowhere kept.
fn nras(folder: &Path) -> Result<()> {
    let above = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    let name = "Attestation Service CA 001 SIMULATED";
    let above = Issuer::new(nvidia(name, &above, BasicConstraints::Unconstrained), above);
    let rsa: Pkcs8V1Der<'_> = rsa::KeyPair::generate(rsa::KeySize::Rsa2048)?.as_der()?;
    let keys =
        [("004", KeyPair::try_from(rsa.as_ref())?), ("005", KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?)];
    for (number, key) in keys {
        let name = format!("Attestation Service GPU Intermediate {number} SIMULATED");
        let params = nvidia(&name, &key, BasicConstraints::Unconstrained);
        println!("nras-{number}: SPKI SHA-256 {}", digits(&Sha256::digest(key.subject_public_key_info())));
        write(folder, &format!("nras-{number}"), &params.signed_by(&key, &above)?.pem(), &key)?;
    }
    Ok(())
}

/// A certificate in the style of NVIDIA's manifest hierarchy. NVIDIA's lower levels end after ten and three years;
/// these last as long as their root, because the files are committed.
fn manifests(common_name: &str, key: &KeyPair, constraints: BasicConstraints) -> CertificateParams {
    let mut params = nvidia(common_name, key, constraints);
    params.not_before = date_time_ymd(2023, 3, 16);
    params.not_after = date_time_ymd(2053, 3, 8);
    params
}

/// A certificate in the style of NVIDIA's device hierarchy, valid to the end of 9999.
fn nvidia(common_name: &str, key: &KeyPair, constraints: BasicConstraints) -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "XX");
    name.push(DnType::OrganizationName, "Confide SIMULATED device");
    name.push(DnType::CommonName, common_name);
    let mut params = authority(name, key, constraints);
    params.not_before = date_time_ymd(2021, 11, 5);
    params.not_after = date_time_ymd(9999, 12, 31);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Keys alone: their certificates are signed at run time, for each product and always the same.
fn snp(folder: &Path) -> Result<()> {
    for name in ["snp-ark", "snp-ask", "snp-asvk"] {
        let key = rsa::KeyPair::generate(rsa::KeySize::Rsa4096)?;
        let pkcs8: Pkcs8V1Der<'_> = key.as_der()?;
        let key = KeyPair::try_from(pkcs8.as_ref())?;
        println!("{name}: SPKI SHA-256 {}", digits(&Sha256::digest(key.subject_public_key_info())));
        fs::write(folder.join(format!("{name}.key.pem")), key.serialize_pem())?;
    }
    Ok(())
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn authority(name: DistinguishedName, key: &KeyPair, constraints: BasicConstraints) -> CertificateParams {
    debug_assert!(
        name.iter()
            .any(|(_, value)| matches!(value, DnValue::Utf8String(text) if text.contains("SIMULATED")))
    );
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(constraints);
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(&Sha256::digest(key.public_key_raw())[..16]));
    params
}

fn write_root(folder: &Path, name: &str, params: &CertificateParams, key: &KeyPair) -> Result<()> {
    let certificate = params.self_signed(key)?;
    let spki_sha256 = Sha256::digest(key.subject_public_key_info());
    fs::write(folder.join(format!("{name}.der")), certificate.der())?;
    println!("{name}: SPKI SHA-256 {}", digits(&spki_sha256));
    write(folder, name, &certificate.pem(), key)
}

fn write(folder: &Path, name: &str, certificate: &str, key: &KeyPair) -> Result<()> {
    fs::write(folder.join(format!("{name}.pem")), certificate)?;
    fs::write(folder.join(format!("{name}.key.pem")), key.serialize_pem())?;
    Ok(())
}
