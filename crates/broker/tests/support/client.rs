//! A guest's side of the connection: TLS 1.3 to the broker whose identity key is pinned, and one HTTP/1.1 request at a time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use confide_release::IdentityKey;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Takes the certificate of one key, and nothing else of it.
#[derive(Debug)]
struct Pinned {
    key: IdentityKey,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = confide_evidence::x509::Certificate::parse(certificate).unwrap();
        if parsed.spki == self.key.to_der().as_bytes() {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General("another broker's key".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Where a broker listens, and its key.
#[derive(Clone, Copy)]
pub struct Client {
    pub address: SocketAddr,
    pub key: IdentityKey,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The code of a refusal.
    pub fn code(&self) -> String {
        confide_release::Refusal::from_json(&self.body).unwrap().error.code
    }
}

impl Client {
    pub async fn connect(
        &self,
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(self.address).await?, version).await
    }

    /// The same from another address of this machine.
    pub async fn connect_from(&self, source: Ipv4Addr) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        self.over(socket.connect(self.address).await?, &rustls::version::TLS13).await
    }

    async fn over(
        &self,
        stream: TcpStream,
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Pinned { key: self.key, provider: Arc::clone(&provider) };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let name = ServerName::try_from("broker.invalid").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// One request on a connection of its own.
    pub async fn send(&self, method: Method, path: &str, media_type: &str, body: Vec<u8>) -> Answer {
        let stream = self.connect(&rustls::version::TLS13).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let work = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, "broker");
        if !media_type.is_empty() {
            request = request.header(CONTENT_TYPE, media_type);
        }
        let answer = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        drop(sender);
        work.abort();
        Answer { status, headers, body }
    }

    pub async fn post(&self, path: &str, body: Vec<u8>) -> Answer {
        self.send(Method::POST, path, confide_release::MEDIA_TYPE, body).await
    }
}
