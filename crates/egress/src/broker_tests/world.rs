//! A made-up internet: a DNS server that is asked over TLS, servers with certificates, and counters at each.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use confide_policy::egress::EgressPolicy;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use crate::enforcement::tests::Guest;
use crate::far_side::{self, FarSide};
use crate::namespace::NetworkThread;
use crate::network::Network;
use crate::plan::PROXY_PORT;
use crate::{Broker, Roots, Status};

/// Where the server of the allowed names is, which also serves another owner's name (a content delivery network).
pub(crate) const CDN: &str = "93.184.215.14";
/// Where the server of another owner is.
pub(crate) const EVIL: &str = "45.33.32.156";
/// Where a server of the host's own network is, which has a certificate of the allowed name.
pub(crate) const INSIDE: &str = "10.0.0.5";
const DNS: &str = "9.9.9.9";

pub(crate) const API: &str = "api.example.com";
/// Served at the same address as `API`, and on no list.
pub(crate) const FRONTED: &str = "fronted.example.org";

/// A server, and what reached it.
#[derive(Debug, Default)]
pub(crate) struct Far {
    pub(crate) connections: AtomicUsize,
    /// Bytes that it read, without those of TLS.
    bytes: AtomicUsize,
    pub(crate) requests: Mutex<Vec<Seen>>,
}

/// A request as the far side saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) host: String,
    /// Names of the other fields.
    pub(crate) fields: Vec<String>,
}

impl Far {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.requests.lock().unwrap().clone()
    }

    fn forget(&self) {
        self.connections.store(0, Ordering::SeqCst);
        self.bytes.store(0, Ordering::SeqCst);
        self.requests.lock().unwrap().clear();
    }
}

/// A stream of which the far side counts what it reads.
struct Counted<S> {
    stream: S,
    far: Arc<Far>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.far.bytes.fetch_add(buffer.filled().len() - before, Ordering::SeqCst);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What the DNS server says of a name: addresses, or the name that it is an alias of.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Address(IpAddr),
    Alias(&'static str),
}

#[derive(Debug, Default)]
pub(crate) struct Zone {
    pub(crate) records: Mutex<HashMap<String, Vec<Record>>>,
    /// In seconds.
    pub(crate) life: AtomicUsize,
    /// Names that were asked for with their types, sorted by arrival.
    pub(crate) questions: Mutex<Vec<(String, u16)>>,
    /// Messages over UDP, also those that are no question.
    datagrams: AtomicUsize,
}

pub(crate) struct World {
    way: Way,
    pub(crate) zone: Arc<Zone>,
    /// At `CDN`, port 443.
    pub(crate) cdn: Arc<Far>,
    /// At `CDN`, port 80, without TLS.
    pub(crate) open: Arc<Far>,
    /// At `EVIL`, port 443.
    pub(crate) evil: Arc<Far>,
    /// At `INSIDE`, port 443.
    pub(crate) inside: Arc<Far>,
    hosts: Hosts,
    roots: Arc<RootCertStore>,
    /// PEM.
    pub(crate) authority: String,
    policy: Arc<EgressPolicy>,
    /// Its text.
    pub(crate) text: String,
}

/// Where the broker is, and what keeps the workload to it.
enum Way {
    /// In this process, with its proxy; nothing does.
    Here { broker: Broker, proxy: SocketAddr },
    /// In a process of its own, as a guest starts it; the kernel does. The guest begins when somebody first needs it.
    Guest { beyond: Mutex<Option<FarSide>>, guest: OnceLock<Box<Mutex<Guest>>> },
}

/// Where on this machine made-up addresses really are.
type Hosts = HashMap<SocketAddr, SocketAddr>;

/// Where a world's servers listen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On ports of 127.0.0.1 that are free.
    Loopback,
    /// At their addresses, which must all be this network's.
    Addresses,
}

/// The DNS protocol of a world's upstream.
#[derive(Clone, Copy)]
pub(crate) enum Upstream {
    Tls,
    Https,
}

impl World {
    /// A world and a broker in it, whose policy has these rules. In a test that runs in a network of its own, it is one beyond a guest.
    pub(crate) async fn new(rules: &str) -> Self {
        if far_side::within().is_none() {
            return Self::asking(Upstream::Tls, rules).await;
        }
        let far = FarSide::new();
        let mut world = Self::beyond(&far, rules).await;
        world.way = Way::Guest { beyond: Mutex::new(Some(far)), guest: OnceLock::new() };
        world
    }

    pub(crate) async fn asking(upstream: Upstream, rules: &str) -> Self {
        Self::at(Place::Loopback, upstream, rules).await
    }

    /// A world whose servers are at the far side, where their names lead to.
    pub(crate) async fn beyond(far: &FarSide, rules: &str) -> Self {
        for address in [CDN, EVIL, INSIDE, DNS] {
            far.sh(&format!("ip route add local {address} dev lo"));
        }
        let rules = rules.to_owned();
        let serve = async move || Self::at(Place::Addresses, Upstream::Tls, &rules).await;
        far.0.drive(serve).await.unwrap()
    }

    async fn at(place: Place, upstream: Upstream, rules: &str) -> Self {
        let authority = authority();
        let zone = Arc::new(Zone::default());
        zone.life.store(300, Ordering::SeqCst);
        for name in [API, FRONTED, "plain.example.com", "tls.example.com"] {
            zone.set(name, &[Record::Address(CDN.parse().unwrap())]);
        }
        let mut hosts = Hosts::new();
        let far = |_: &str| Arc::new(Far::default());
        let (cdn, open, evil, inside) = (far(CDN), far(CDN), far(EVIL), far(INSIDE));
        let names = [API, FRONTED, "tls.example.com", "one.wild.example.com", "two.wild.example.com"];
        serve(&mut hosts, place, CDN, 443, Some(tls(&authority, &names, b"http/1.1")), &cdn).await;
        serve(&mut hosts, place, CDN, 80, None, &open).await;
        serve(&mut hosts, place, EVIL, 443, Some(tls(&authority, &["evil.example.org"], b"http/1.1")), &evil)
            .await;
        serve(&mut hosts, place, INSIDE, 443, Some(tls(&authority, &[API], b"http/1.1")), &inside).await;
        serve(&mut hosts, place, INSIDE, 80, None, &inside).await;
        let (dns, port) = match upstream {
            Upstream::Tls => (
                "{ protocol = \"tls\", name = \"dns.example.net\", addresses = [\"9.9.9.9\"], port = 853 }",
                853,
            ),
            Upstream::Https => (
                "{ protocol = \"https\", name = \"dns.example.net\", addresses = [\"9.9.9.9\"], port = 443, path = \"/dns-query\" }",
                443,
            ),
        };
        match upstream {
            Upstream::Tls => {
                let config = tls(&authority, &["dns.example.net"], b"dot");
                serve_dot(&mut hosts, place, port, config, Arc::clone(&zone)).await;
            }
            Upstream::Https => {
                let config = tls(&authority, &["dns.example.net"], b"h2");
                serve_doh(&mut hosts, place, port, config, Arc::clone(&zone)).await;
            }
        }
        serve_names(&mut hosts, place, Arc::clone(&zone)).await;
        let text = format!(
            "format = \"confide-egress-policy/1\"\nname = \"test\"\nlog = \"all\"\n[dns]\nupstreams = [{dns}]\n{rules}"
        );
        let policy = Arc::new(EgressPolicy::parse(&text).unwrap());
        let trusted = Roots::pem(authority.pem().as_bytes()).unwrap();
        let broker = Broker::on(Arc::clone(&policy), &trusted, Network::MadeUp(hosts.clone()), None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let served = broker.clone();
        tokio::spawn(async move { served.proxy(listener).await });
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        Self {
            way: Way::Here { broker, proxy },
            zone,
            cdn,
            open,
            evil,
            inside,
            hosts,
            roots: Arc::new(roots),
            authority: authority.pem(),
            policy,
            text,
        }
    }

    /// The broker of this process.
    pub(crate) fn broker(&self) -> &Broker {
        match &self.way {
            Way::Here { broker, .. } => broker,
            Way::Guest { .. } => panic!("the broker is in a process of its own"),
        }
    }

    /// The guest that the workload is kept in, where there is one.
    fn guest(&self) -> Option<MutexGuard<'_, Guest>> {
        let Way::Guest { beyond, guest } = &self.way else { return None };
        let begin = || {
            let far = beyond.lock().unwrap().take().unwrap();
            Box::new(Mutex::new(Guest::of_a_world(self, far, &far_side::within().unwrap())))
        };
        Some(guest.get_or_init(begin).lock().unwrap())
    }

    /// Where somebody is really found who goes around the broker: nothing keeps anybody to it yet.
    fn around(&self, address: &str) -> SocketAddr {
        if let Way::Guest { guest, .. } = &self.way {
            assert!(guest.get().is_none(), "the guest has begun");
        }
        self.hosts[&address.parse().unwrap()]
    }

    /// A connection to a server's address that goes around the broker.
    pub(crate) async fn unprotected(&self, address: &str) -> TcpStream {
        TcpStream::connect(self.around(address)).await.unwrap()
    }

    /// Sends something to a server around the broker, over TLS with this name where there is one: that it is stopped would prove
    /// nothing if it did not reach the server's counter. What comes back.
    pub(crate) async fn arrives(
        &self,
        far: &Far,
        address: &str,
        name: Option<&'static str>,
        bytes: impl AsRef<[u8]>,
    ) -> String {
        let (before, stream) = (far.bytes(), self.unprotected(address).await);
        let answer = match name {
            Some(name) => said(self.tls_inside(stream, name).await.unwrap(), bytes.as_ref()).await,
            None => said(stream, bytes.as_ref()).await,
        };
        assert!(far.bytes() > before, "{} does not arrive", String::from_utf8_lossy(bytes.as_ref()));
        answer
    }

    /// Sends a message to the DNS server around the broker, as a program does that knows none: it must arrive there, too.
    pub(crate) async fn question_arrives(&self, message: &[u8]) {
        let datagrams = || self.zone.datagrams.load(Ordering::SeqCst);
        let (before, server) = (datagrams(), self.around("9.9.9.9:53"));
        UdpSocket::bind("0.0.0.0:0").await.unwrap().send_to(message, server).await.unwrap();
        for _ in 0..500 {
            if datagrams() > before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a question does not arrive: {message:x?}");
    }

    /// Counts anew what arrives, from nothing.
    pub(crate) fn forget(&self) {
        [&self.cdn, &self.open, &self.evil, &self.inside].into_iter().for_each(|far| far.forget());
        self.zone.questions.lock().unwrap().clear();
    }

    /// A connection that the workload opens.
    pub(crate) async fn open(&self, to: SocketAddr) -> TcpStream {
        let Some(workload) = self.workload() else { return TcpStream::connect(to).await.unwrap() };
        workload.drive(move || TcpStream::connect(to)).await.unwrap().unwrap()
    }

    /// A socket by which the workload asks for names.
    pub(crate) async fn resolver(&self) -> UdpSocket {
        let Some(workload) = self.workload() else {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.connect(self.names().await).await.unwrap();
            return socket;
        };
        let socket = workload.drive(|| UdpSocket::bind("0.0.0.0:0")).await.unwrap().unwrap();
        // Nobody is there: the kernel leads it to the broker.
        socket.connect("192.0.2.53:53").await.unwrap();
        socket
    }

    fn workload(&self) -> Option<NetworkThread> {
        self.guest().map(|guest| guest.enforcement.workload().clone())
    }

    /// A connection to the proxy.
    pub(crate) async fn connect(&self) -> TcpStream {
        self.open(match self.way {
            Way::Here { proxy, .. } => proxy,
            Way::Guest { .. } => SocketAddr::from((Ipv4Addr::LOCALHOST, PROXY_PORT)),
        })
        .await
    }

    /// What comes back when this is sent to the proxy.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        exchange(self.connect().await, bytes.as_ref()).await
    }

    /// A tunnel to a destination, or the proxy's refusal of one.
    pub(crate) async fn tunnel(&self, to: &str) -> Result<TcpStream, String> {
        let mut stream = self.connect().await;
        stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        if head.starts_with("HTTP/1.1 200") {
            return Ok(stream);
        }
        Err(head + &rest(&mut stream).await)
    }

    /// TLS of the workload's own, with this name in its first message.
    pub(crate) async fn tls_inside(
        &self,
        stream: TcpStream,
        name: &'static str,
    ) -> std::io::Result<client::TlsStream<TcpStream>> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), stream).await
    }

    /// A listener for connections that the kernel leads to the broker, all meant for one address.
    pub(crate) async fn transparent(&self, meant: crate::OriginalDestination) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, broker) = (listener.local_addr().unwrap(), self.broker().clone());
        tokio::spawn(async move { broker.transparent(listener, meant).await });
        address
    }

    /// The workload's DNS server.
    async fn names(&self) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, broker) = (socket.local_addr().unwrap(), self.broker().clone());
        tokio::spawn(async move { broker.names(socket).await });
        address
    }

    /// The proxy of a broker that trusts this world's authority, and finds another world's servers.
    pub(crate) async fn broker_elsewhere(&self, other: &Self) -> SocketAddr {
        let trusted = Roots::pem(self.authority.as_bytes()).unwrap();
        let broker =
            Broker::on(Arc::clone(&self.policy), &trusted, Network::MadeUp(other.hosts.clone()), None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { broker.proxy(listener).await });
        address
    }

    pub(crate) fn status(&self) -> Status {
        match self.guest() {
            Some(mut guest) => guest.broker(),
            None => self.broker().status(),
        }
    }

    /// The codes of all records so far.
    pub(crate) fn dropped(&self) -> Vec<&'static str> {
        self.status().latest.iter().map(|record| record.reason.code()).collect()
    }

    /// Waits until so many drops are recorded, and tells their codes.
    pub(crate) async fn dropped_when(&self, count: usize) -> Vec<&'static str> {
        for _ in 0..500 {
            if self.dropped().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.dropped()
    }
}

impl Zone {
    pub(crate) fn set(&self, name: &str, records: &[Record]) {
        self.records.lock().unwrap().insert(name.to_owned(), records.to_vec());
    }

    pub(crate) fn questions(&self) -> Vec<(String, u16)> {
        self.questions.lock().unwrap().clone()
    }

    /// Name and type that a message asks for, and where the name ends; by a reader of its own.
    fn asked(message: &[u8]) -> Option<(String, u16, usize)> {
        let (mut at, mut labels) = (12, Vec::new());
        while *message.get(at)? != 0 {
            let end = at + 1 + usize::from(message[at]);
            labels.push(std::str::from_utf8(message.get(at + 1..end)?).ok()?);
            at = end;
        }
        Some((labels.join("."), u16::from_be_bytes(message.get(at + 1..at + 3)?.try_into().ok()?), at))
    }

    /// The answer to a message, by an encoder of its own.
    fn answer(&self, message: &[u8]) -> Vec<u8> {
        let (name, kind, at) = Self::asked(message).unwrap();
        self.questions.lock().unwrap().push((name.clone(), kind));
        let records = self.records.lock().unwrap();
        let mut answer =
            [&message[..2], &[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0], &message[12..at + 5]].concat();
        let (mut owner, mut count) = (name, 0_u8);
        let life = u32::try_from(self.life.load(Ordering::SeqCst)).unwrap().to_be_bytes();
        loop {
            let Some(found) = records.get(&owner) else {
                // NXDOMAIN.
                answer[3] |= 3;
                break;
            };
            let mut next = None;
            for record in found {
                let (record_type, data) = match record {
                    Record::Alias(target) => {
                        next = Some((*target).to_owned());
                        (5, wire(target))
                    }
                    Record::Address(IpAddr::V4(address)) => (1, address.octets().to_vec()),
                    Record::Address(IpAddr::V6(address)) => (28, address.octets().to_vec()),
                };
                if record_type != 5 && record_type != kind {
                    continue;
                }
                answer.extend_from_slice(&wire(&owner));
                answer.extend_from_slice(&record_type.to_be_bytes());
                answer.extend_from_slice(&[0, 1]);
                answer.extend_from_slice(&life);
                answer.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
                answer.extend_from_slice(&data);
                count += 1;
            }
            match next {
                Some(next) if count < 40 => owner = next,
                _ => break,
            }
        }
        answer[7] = count;
        answer
    }
}

fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.') {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(root, key).unwrap()
}

fn tls(authority: &CertifiedIssuer<'static, KeyPair>, names: &[&str], protocol: &[u8]) -> Arc<ServerConfig> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, authority).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}

async fn listen(hosts: &mut Hosts, place: Place, address: &str, port: u16) -> TcpListener {
    let made_up = SocketAddr::new(address.parse().unwrap(), port);
    let really = match place {
        Place::Loopback => SocketAddr::from(([127, 0, 0, 1], 0)),
        Place::Addresses => made_up,
    };
    let listener = TcpListener::bind(really).await.unwrap();
    hosts.insert(made_up, listener.local_addr().unwrap());
    listener
}

async fn serve(
    hosts: &mut Hosts,
    place: Place,
    address: &str,
    port: u16,
    tls: Option<Arc<ServerConfig>>,
    far: &Arc<Far>,
) {
    let listener = listen(hosts, place, address, port).await;
    let far = Arc::clone(far);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            far.connections.fetch_add(1, Ordering::SeqCst);
            let (far, tls) = (Arc::clone(&far), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => serve_http(stream, far).await,
                    Some(config) => {
                        if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                            serve_http(stream, far).await;
                        }
                    }
                }
            });
        }
    });
}

async fn serve_http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, far: Arc<Far>) {
    let stream = Counted { stream, far: Arc::clone(&far) };
    let service = service_fn(move |request| {
        let far = Arc::clone(&far);
        async move { Ok::<_, Infallible>(respond(&far, request)) }
    });
    let _ = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(stream), service).await;
}

fn respond(far: &Far, request: Request<Incoming>) -> Response<BoxBody<Bytes, hyper::Error>> {
    let text = |name: header::HeaderName| {
        request.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let names = request.headers().keys().map(|name| name.as_str().to_owned());
    let seen = Seen {
        line: format!("{} {}", request.method(), request.uri()),
        host: text(header::HOST).unwrap_or_default(),
        fields: names.filter(|name| name != "host").collect(),
    };
    let host = seen.host.clone();
    far.requests.lock().unwrap().push(seen);
    let whole = |bytes: Vec<u8>| Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed();
    let path = request.uri().path().to_owned();
    let mut answer = Response::new(match (path.as_str(), path.strip_prefix("/bytes/")) {
        ("/echo", _) if request.method() == Method::POST => request.into_body().boxed(),
        (_, Some(count)) => whole(vec![b'x'; count.parse().unwrap()]),
        _ => whole(format!("you reached {host}").into_bytes()),
    });
    if path == "/redirect" {
        *answer.status_mut() = StatusCode::FOUND;
        answer.headers_mut().insert(header::LOCATION, "http://evil.example.org:443/".parse().unwrap());
    }
    answer.headers_mut().insert("keep-alive", "timeout=5".parse().unwrap());
    answer
}

/// Answers questions over UDP: whom a program asks that nothing keeps from it.
async fn serve_names(hosts: &mut Hosts, place: Place, zone: Arc<Zone>) {
    let made_up = SocketAddr::new(DNS.parse().unwrap(), 53);
    let really = match place {
        Place::Loopback => SocketAddr::from(([127, 0, 0, 1], 0)),
        Place::Addresses => made_up,
    };
    let socket = UdpSocket::bind(really).await.unwrap();
    hosts.insert(made_up, socket.local_addr().unwrap());
    tokio::spawn(async move {
        let mut message = [0; 1024];
        loop {
            let (length, from) = socket.recv_from(&mut message).await.unwrap();
            let message = &message[..length];
            if Zone::asked(message).is_some() {
                let _ = socket.send_to(&zone.answer(message), from).await;
            }
            zone.datagrams.fetch_add(1, Ordering::SeqCst);
        }
    });
}

async fn serve_dot(hosts: &mut Hosts, place: Place, port: u16, config: Arc<ServerConfig>, zone: Arc<Zone>) {
    serve_tls(listen(hosts, place, DNS, port).await, config, move |mut stream| {
        let zone = Arc::clone(&zone);
        async move {
            while let Ok(length) = stream.read_u16().await {
                let mut message = vec![0; length.into()];
                stream.read_exact(&mut message).await.unwrap();
                let answer = zone.answer(&message);
                stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        }
    });
}

async fn serve_doh(hosts: &mut Hosts, place: Place, port: u16, config: Arc<ServerConfig>, zone: Arc<Zone>) {
    serve_tls(listen(hosts, place, DNS, port).await, config, move |stream| {
        let zone = Arc::clone(&zone);
        let service = service_fn(move |request: Request<Incoming>| {
            let zone = Arc::clone(&zone);
            async move {
                assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/dns-query"));
                let message = request.into_body().collect().await.unwrap().to_bytes();
                let mut answer = Response::new(Full::new(Bytes::from(zone.answer(&message))));
                let media_type = "application/dns-message".parse().unwrap();
                answer.headers_mut().insert(header::CONTENT_TYPE, media_type);
                Ok::<_, Infallible>(answer)
            }
        });
        async move {
            let connection =
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
        }
    });
}

/// Serves each connection on which TLS comes about, beside the others.
fn serve_tls<F>(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    serve: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (accepting, serve) =
                (TlsAcceptor::from(Arc::clone(&config)).accept(stream), Arc::clone(&serve));
            tokio::spawn(async move {
                if let Ok(stream) = accepting.await {
                    serve(stream).await;
                }
            });
        }
    });
}

/// Sends this and reads until the other side ends.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.unwrap();
    rest(&mut stream).await
}

/// Sends this and nothing more, and reads until the other side ends. Who refuses it may do so before it is sent.
pub(crate) async fn said<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, bytes: &[u8]) -> String {
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    rest(&mut stream).await
}

/// Everything until the other side ends.
pub(crate) async fn rest<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut read = Vec::new();
    let reading = timeout(Duration::from_secs(20), stream.read_to_end(&mut read)).await;
    // A reset ends it too.
    let _ = reading.expect("the other side ends");
    String::from_utf8_lossy(&read).into_owned()
}

/// The head of an answer.
pub(crate) async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(Duration::from_secs(20), stream.read_u8()).await.expect("an answer in time");
        match byte {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}
