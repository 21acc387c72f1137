//! What a client sees of the guest's TLS, over an in-memory stream.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use confide_channel_guest::{Acceptor, GuestKeys, Protocol};
use confide_evidence::bytes::Bytes;
use confide_evidence::document::{Build, EgressMode};
use confide_evidence::event::*;
use confide_evidence::hash::sha256;
use confide_evidence::transcript::{Binding, EXPORTER_LABEL};
use confide_evidence::x509::Certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, NamedGroup, ProtocolVersion, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const NOT_AFTER: u64 = 1_900_000_000;

fn open_log() -> EventLog {
    let build = Build { image: None, version: "1".into(), revision: "r".into() };
    let mut log = EventLog::new();
    for event in [
        RuntimeEvent::Boot(Boot { build, boot_id: Bytes([1; 16]), broker_key: None }),
        RuntimeEvent::Configuration(Configuration { digest: Bytes([2; 32]) }),
        RuntimeEvent::NoVolumes,
        RuntimeEvent::Model(LoadedModel { manifest: Bytes([3; 32]) }),
        RuntimeEvent::Devices(DevicesInUse { devices: vec![] }),
        RuntimeEvent::Open,
    ] {
        log.push(event).unwrap();
    }
    log
}

fn keys() -> GuestKeys {
    GuestKeys::draw(&open_log().serving(EgressMode::Open).unwrap(), NOT_AFTER).unwrap()
}

/// Verifies CertificateVerify, notes the tickets' absence by the session store, accepts any name.
#[derive(Debug)]
struct AnyName(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn client(provider: CryptoProvider) -> ClientConfig {
    let provider = Arc::new(provider);
    ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyName(provider)))
        .with_no_client_auth()
}

fn tls13() -> ClientConfig {
    client(aws_lc_rs::default_provider())
}

async fn connect(stream: DuplexStream, config: ClientConfig) -> std::io::Result<TlsStream<DuplexStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn both_ends_export_the_same_value_and_only_for_this_connection() {
    let keys = keys();
    let acceptor = Acceptor::new(&keys).unwrap();
    let nonce = Bytes([7; 32]);
    let mut exporters = Vec::new();
    for _ in 0..2 {
        let (ours, theirs) = duplex(1 << 16);
        let (guest, client) = tokio::join!(acceptor.accept(ours), connect(theirs, tls13()));
        let (guest, client) = (guest.unwrap(), client.unwrap());
        let connection = client.get_ref().1;
        let spki = Certificate::parse(&connection.peer_certificates().unwrap()[0]).unwrap().spki;
        assert_eq!(keys.tls_spki(), sha256(&spki));
        let exported = connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(&nonce.0)).unwrap();
        let expected = Binding::Serve { nonce, exporter: Bytes(exported), tls_spki: keys.tls_spki() };
        assert_eq!(guest.exporter().bind(nonce).unwrap().alone(), expected);
        assert_ne!(guest.exporter().bind(Bytes([8; 32])).unwrap().alone().channel(), expected.channel());
        exporters.push(exported);
    }
    assert_ne!(exporters[0], exporters[1]);
}

#[tokio::test]
async fn hybrid_key_exchange_is_the_first_choice_and_x25519_still_served() {
    let acceptor = Acceptor::new(&keys()).unwrap();
    let x25519 =
        CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() };
    let cases = [(aws_lc_rs::default_provider(), NamedGroup::X25519MLKEM768), (x25519, NamedGroup::X25519)];
    for (provider, expected) in cases {
        let (ours, theirs) = duplex(1 << 16);
        let (guest, client) = tokio::join!(acceptor.accept(ours), connect(theirs, client(provider)));
        guest.unwrap();
        let client = client.unwrap();
        let connection = client.get_ref().1;
        assert_eq!(connection.negotiated_key_exchange_group().unwrap().name(), expected);
        assert_eq!(connection.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    }
}

#[tokio::test]
async fn other_groups_and_protocols_are_refused() {
    let acceptor = Acceptor::new(&keys()).unwrap();
    let p256 =
        CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::SECP256R1], ..aws_lc_rs::default_provider() };
    let mut http3 = tls13();
    http3.alpn_protocols = vec![b"h3".to_vec()];
    for config in [client(p256), http3] {
        let (ours, theirs) = duplex(1 << 16);
        let (guest, client) = tokio::join!(acceptor.accept(ours), connect(theirs, config));
        assert!(guest.is_err());
        assert!(client.is_err());
    }
}

#[tokio::test]
async fn http_2_is_spoken_with_whoever_offers_it_and_evidence_is_bound_to_the_same_connection() {
    let acceptor = Acceptor::new(&keys()).unwrap();
    for (offered, expected) in [
        (&[][..], Protocol::Http1),
        (&[&b"http/1.1"[..]], Protocol::Http1),
        (&[b"h2"], Protocol::Http2),
        (&[b"http/1.1", b"h2"], Protocol::Http2),
    ] {
        let mut config = tls13();
        config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        let (ours, theirs) = duplex(1 << 16);
        let (guest, client) = tokio::join!(acceptor.accept(ours), connect(theirs, config));
        let (guest, client) = (guest.unwrap(), client.unwrap());
        assert_eq!(guest.protocol(), expected, "{offered:?}");
        let nonce = Bytes([7; 32]);
        let exported =
            client.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, Some(&nonce.0)).unwrap();
        assert_eq!(guest.exporter().bind(nonce).unwrap().exporter, Bytes(exported));
    }
}

/// A ClientHello of TLS 1.2 (RFC 5246 section 7.4.1.2) that a server of that version accepts.
fn tls12_client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let groups = [0, 10, 0, 4, 0, 2, 0, 29];
    let schemes = [0, 13, 0, 4, 0, 2, 4, 3];
    body.extend([0, 16]);
    body.extend(groups.iter().chain(&schemes));
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(body);
    record
}

#[tokio::test]
async fn tls_1_2_is_answered_with_the_alert_protocol_version() {
    let acceptor = Acceptor::new(&keys()).unwrap();
    let (ours, mut theirs) = duplex(1 << 16);
    theirs.write_all(&tls12_client_hello()).await.unwrap();
    assert!(acceptor.accept(ours).await.is_err());
    let mut answer = Vec::new();
    theirs.read_to_end(&mut answer).await.unwrap();
    assert_eq!((answer[0], answer[answer.len() - 1]), (21, 70), "alert protocol_version: {answer:02x?}");
}

/// Counts the tickets that a server offers.
#[derive(Debug, Default)]
struct TicketCounter(Mutex<usize>);

impl rustls::client::ClientSessionStore for TicketCounter {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: rustls::client::Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: rustls::client::Tls13ClientSessionValue) {
        *self.0.lock().unwrap() += 1;
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<rustls::client::Tls13ClientSessionValue> {
        None
    }
}

#[tokio::test]
async fn no_ticket_is_given_and_bytes_flow_both_ways() {
    let acceptor = Acceptor::new(&keys()).unwrap();
    let counter = Arc::new(TicketCounter::default());
    let mut config = tls13();
    config.resumption = rustls::client::Resumption::store(counter.clone());
    let (ours, theirs) = duplex(1 << 16);
    let (guest, client) = tokio::join!(acceptor.accept(ours), connect(theirs, config));
    let (mut guest, mut client) = (guest.unwrap(), client.unwrap());
    client.write_all(b"ping").await.unwrap();
    let mut received = [0; 4];
    guest.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"ping");
    guest.write_all(b"pong").await.unwrap();
    guest.flush().await.unwrap();
    client.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"pong");
    assert_eq!(*counter.0.lock().unwrap(), 0);
}

#[tokio::test]
async fn garbage_instead_of_a_handshake_is_an_error() {
    let acceptor = Acceptor::new(&keys()).unwrap();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 5]] {
        let (ours, mut theirs) = duplex(1 << 16);
        theirs.write_all(garbage).await.unwrap();
        theirs.shutdown().await.unwrap();
        assert!(acceptor.accept(ours).await.is_err());
    }
}

#[test]
fn receipts_verify_under_the_published_key_and_keys_differ_between_boots() {
    let keys = keys();
    let public = keys.key_set().serving().unwrap();
    assert_eq!(public.not_after, NOT_AFTER);
    let signature = keys.sign_receipt(b"input");
    let verifying = ::aws_lc_rs::signature::UnparsedPublicKey::new(
        &::aws_lc_rs::signature::ED25519,
        public.receipt.public.as_bytes(),
    );
    verifying.verify(b"input", signature.as_bytes()).unwrap();
    assert!(verifying.verify(b"other", signature.as_bytes()).is_err());
    assert_eq!(public.kem, keys.kem().public());
    let other = self::keys();
    assert_ne!(other.tls_spki(), keys.tls_spki());
    assert_ne!(other.key_set(), keys.key_set());
}
