//! The broker's identity: one Ed25519 key, which signs answers, heads of the audit log and the TLS certificate.
//!
//! What it signs differs in its first bytes: TLS 1.3 begins with 64 spaces (RFC 8446 section 4.4.3), a certificate with the
//! tag of a sequence, everything of ours with the length of a domain.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use confide_evidence::bytes::Bytes;
use confide_evidence::pem::base64_text;
use confide_release::IdentityKey;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, PublicKeyData};
use rustix::process::geteuid;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{ServerConfig, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::{Zeroize as _, Zeroizing};

/// The largest key file, in bytes. An Ed25519 key in PEM has 119 to 190.
const MAX_KEY: u64 = 4096;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("{path}: the file with the secret cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is no Ed25519 private key.
    #[error("{path}: expected an Ed25519 private key, PKCS#8 in PEM or DER")]
    Invalid {
        /// The file.
        path: PathBuf,
    },
    /// Others than the file's user may read it.
    #[error(
        "{path}: the file with the secret may be read by others (mode {mode:o}, group {group}), expected 600, or 640 where the \
         group is root's"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Its group.
        group: u32,
    },
    /// It belongs to somebody else.
    #[error(
        "{path}: the file with the secret belongs to the user {owner}, expected the broker's own user or root"
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The file is there already, or cannot be written.
    #[error("{path}: the identity key cannot be written")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The cryptographic library failed.
    #[error("the identity key cannot be drawn or certified")]
    Cryptography,
}

/// The key. Clones share it; it shows its public half alone.
#[derive(Clone)]
pub struct Identity {
    pair: Arc<Ed25519KeyPair>,
    public: IdentityKey,
}

impl Identity {
    /// Draws a key and writes it to a new file, PKCS#8 in PEM, which only its user may read.
    ///
    /// # Errors
    /// [`IdentityError`]: also where the file is there already.
    pub fn make(path: &Path) -> Result<Self, IdentityError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| IdentityError::Cryptography)?;
        let body = Zeroizing::new(base64_text(document.as_ref()));
        let text = Zeroizing::new(format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            wrapped(&body).as_str()
        ));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written.map_err(|source| IdentityError::Unwritable { path: path.to_owned(), source })?;
        Self::read(path)
    }

    /// Reads a key: PKCS#8 in PEM or DER, as `openssl genpkey -algorithm ed25519` and [`Self::make`] write it.
    ///
    /// # Errors
    /// [`IdentityError`]: also where others may read the file.
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        let bytes = secret_file(path, MAX_KEY)?;
        let invalid = || IdentityError::Invalid { path: path.to_owned() };
        let mut der = if bytes.starts_with(b"-----BEGIN") {
            PrivatePkcs8KeyDer::from_pem_slice(&bytes).map_err(|_| invalid())?
        } else {
            PrivatePkcs8KeyDer::from(bytes.to_vec())
        };
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        der.zeroize();
        let pair = pair.map_err(|_| invalid())?;
        let raw = pair.public_key().as_ref().try_into().map_err(|_| invalid())?;
        Ok(Self { pair: Arc::new(pair), public: IdentityKey::from_raw(raw) })
    }

    /// The public key, which guests are configured with and measure.
    #[must_use]
    pub fn public(&self) -> &IdentityKey {
        &self.public
    }

    /// Ed25519 (RFC 8032) over a message of ours.
    ///
    /// # Panics
    /// Never: Ed25519 signatures have 64 bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Bytes<64> {
        Bytes::try_from(self.pair.sign(message).as_ref()).expect("Ed25519 signatures have 64 bytes")
    }

    /// TLS 1.3 alone, with a certificate that the key itself signs; no tickets, resumption or early data.
    ///
    /// # Errors
    /// [`IdentityError::Cryptography`].
    pub fn server_config(&self) -> Result<ServerConfig, IdentityError> {
        let provider = CryptoProvider {
            kx_groups: vec![provider::kx_group::X25519MLKEM768, provider::kx_group::X25519],
            ..provider::default_provider()
        };
        let certified = self.certified().map_err(|_| IdentityError::Cryptography)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| IdentityError::Cryptography)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// The key with a self-signed certificate, whose names and dates carry no trust.
    fn certified(&self) -> Result<CertifiedKey, rcgen::Error> {
        let mut parameters = CertificateParams::new(vec!["confide-broker.invalid".to_owned()])?;
        parameters.distinguished_name.push(DnType::CommonName, "confide-broker");
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.self_signed(self)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], Arc::new(self.clone())))
    }
}

/// Reads a file that holds a secret, which nobody but its user may read, of at most `limit` bytes.
pub(crate) fn secret_file(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    may_hold_a_secret(path, found.mode() & 0o777, found.uid(), found.gid())?;
    let room = usize::try_from(limit).unwrap_or_default().saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() >= room {
        return Err(IdentityError::Invalid { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Whether a file with these permissions and this owner is one that nobody but the broker's user and root may read.
fn may_hold_a_secret(path: &Path, mode: u32, owner: u32, group: u32) -> Result<(), IdentityError> {
    // Of a systemd credential the group is root's (0440).
    let allowed = if group == 0 { 0o740 } else { 0o700 };
    if mode & !allowed != 0 {
        return Err(IdentityError::Open { path: path.to_owned(), mode, group });
    }
    if owner != 0 && owner != geteuid().as_raw() {
        return Err(IdentityError::Owner { path: path.to_owned(), owner });
    }
    Ok(())
}

/// Lines of 64 characters (RFC 7468 section 2).
fn wrapped(text: &str) -> Zeroizing<String> {
    let ends = (text.len() / 64).saturating_add(1);
    let mut lines = Zeroizing::new(String::with_capacity(text.len().saturating_add(ends)));
    for (place, character) in text.chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    lines
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.public)
    }
}

impl PublicKeyData for Identity {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for Identity {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}

impl SigningKey for Identity {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| -> Box<dyn Signer> { Box::new(self.clone()) })
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for Identity {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_drawn_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.pem");
        let made = Identity::make(&path).unwrap();
        let read = Identity::read(&path).unwrap();
        assert_eq!(made.public(), read.public());
        assert!(made.public().signed(b"message", &read.sign(b"message").0));
        assert!(!made.public().signed(b"other", &read.sign(b"message").0));
        assert!(matches!(Identity::make(&path), Err(IdentityError::Unwritable { .. })));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        read.server_config().unwrap();
    }

    #[test]
    fn a_secret_is_read_by_its_user_and_root_alone() {
        let (own, path) = (geteuid().as_raw(), Path::new("key"));
        let (user, another) = (1000, own.wrapping_add(1000));
        for (mode, owner, group) in [
            (0o600, own, user),
            (0o400, own, user),
            (0o700, own, user),
            (0o440, own, 0),
            (0o640, 0, 0),
            (0o400, 0, user),
        ] {
            assert!(may_hold_a_secret(path, mode, owner, group).is_ok(), "{mode:o} {owner} {group}");
        }
        for (mode, group) in [
            (0o640, user),
            (0o440, user),
            (0o604, 0),
            (0o644, 0),
            (0o660, 0),
            (0o650, 0),
            (0o601, 0),
            (0o610, user),
        ] {
            let refused = may_hold_a_secret(path, mode, own, group);
            assert!(matches!(refused, Err(IdentityError::Open { .. })), "{mode:o} {group}");
        }
        assert!(matches!(may_hold_a_secret(path, 0o600, another, 0), Err(IdentityError::Owner { .. })));
    }

    #[test]
    fn a_key_that_others_may_read_and_what_is_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.pem");
        Identity::make(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Identity::read(&path), Err(IdentityError::Open { mode: 0o644, .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = std::fs::read(&path).unwrap();
        for wrong in [&text[..40], b"", b"text", &[b'a'; 5000][..]] {
            std::fs::write(&path, wrong).unwrap();
            assert!(matches!(Identity::read(&path), Err(IdentityError::Invalid { .. })));
        }
        let missing = folder.path().join("none");
        assert!(matches!(Identity::read(&missing), Err(IdentityError::Unreadable { .. })));
    }
}
