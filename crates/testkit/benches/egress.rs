//! What leaves a guest, through the egress broker and by other ways, for `cargo xtask bench`.
//!
//! Arguments are the other ways, `NAME=ADDRESS=PROCESS`: HTTP proxies. The server stands in a network namespace that this program
//! makes, and it and the broker are this program, too. Figures go to standard output, one line each, fields separated by
//! tabs: what, by which way, then median, 10th and 90th percentile.
#![expect(clippy::print_stdout, reason = "a program that measures")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use confide_egress::{Broker, Roots};
use confide_policy::egress::EgressPolicy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[path = "traffic/figures.rs"]
mod figures;
use figures::{percentile, print_times, processor_time};

/// The server, and the device of this side, of a range that is nobody's (RFC 1918).
const SERVER: &str = "10.213.77.2:9000";
const HERE: &str = "10.213.77.1/30";
const THERE: &str = "10.213.77.2/30";
/// How often the ways take turns.
const ROUNDS: usize = 15;
/// New connections of a turn, one after the other.
const IN_A_ROW: usize = 60;
/// What is downloaded in a turn, by all connections together.
const DOWNLOADED: u64 = 256 << 20;
/// Connections of a turn at the same time.
const AT_ONCE: u64 = 8;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match words.as_slice() {
        ["server", address] => runtime.block_on(serve(address.parse()?)),
        ["broker"] => runtime.block_on(broker()),
        ways => {
            let ways = ways.iter().map(|way| way.parse()).collect::<Result<Vec<Way>>>()?;
            let _namespace = Namespace::new()?;
            let _server = Started::new(&["server", SERVER], true)?;
            let broker = Started::new(&["broker"], false)?;
            let mut all = vec![
                Way { name: "direct".to_owned(), proxy: None },
                Way { name: "broker".to_owned(), proxy: Some((broker.said.parse()?, broker.child.id())) },
            ];
            all.extend(ways);
            // One thread for the traffic: what is measured gets what is left.
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&all))
        }
    }
}

/// How the server is reached.
struct Way {
    name: String,
    /// Address and process of an HTTP proxy.
    proxy: Option<(SocketAddr, u32)>,
}

impl FromStr for Way {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('=');
        let mut part = || parts.next().context("expected NAME=ADDRESS=PROCESS");
        Ok(Self { name: part()?.to_owned(), proxy: Some((part()?.parse()?, part()?.parse()?)) })
    }
}

/// A network of its own for the server. It ends with the value.
struct Namespace;

impl Namespace {
    fn name() -> String {
        format!("confide-bench-{}", std::process::id())
    }

    fn new() -> Result<Self> {
        let (name, device) = (Self::name(), "cfbench0");
        let commands = [
            format!("netns add {name}"),
            format!("link add {device} type veth peer name cfbench1 netns {name}"),
            format!("address add {HERE} dev {device}"),
            format!("link set {device} up"),
            format!("-n {name} address add {THERE} dev cfbench1"),
            format!("-n {name} link set cfbench1 up"),
            format!("-n {name} link set lo up"),
        ];
        let namespace = Self;
        for command in commands {
            let status = Command::new("ip").args(command.split(' ')).status().context("ip, of iproute2")?;
            ensure!(status.success(), "ip {command} ended with {status}");
        }
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &Self::name()]).status();
    }
}

/// This program in another part, which says one line when it is ready. It ends with the value.
struct Started {
    child: Child,
    said: String,
}

impl Started {
    fn new(part: &[&str], there: bool) -> Result<Self> {
        let this = std::env::current_exe()?;
        let mut command = if there {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &Namespace::name()]).arg(this);
            command
        } else {
            Command::new(this)
        };
        let mut child = command.args(part).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut said)?;
        Ok(Self { child, said: said.trim().to_owned() })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends as many bytes as it is asked for, again and again: eight bytes, least significant first.
async fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("{address}");
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let bytes = vec![0x5a; 256 * 1024];
            while let Ok(mut left) = stream.read_u64_le().await {
                while left > 0 {
                    let length = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    stream.write_all(bytes.get(..length).unwrap_or_default()).await?;
                    left -= length as u64;
                }
            }
            anyhow::Ok(())
        });
    }
}

/// The egress broker, which lets the server through.
async fn broker() -> Result<()> {
    const CAPS: &str =
        "connections = 1024\nbytes_per_second = 1000000000000\ntotal_bytes = 1000000000000000\n";
    let rule =
        |phase| format!("[[{phase}]]\ncidr = \"10.213.77.2/32\"\nports = [9000]\nprotocol = \"tcp\"\n{CAPS}");
    let policy = format!(
        "format = \"confide-egress-policy/1\"\nname = \"bench\"\nlog = \"drops\"\n{}{}",
        rule("bootstrap"),
        rule("serving")
    );
    let broker = Broker::new(Arc::new(EgressPolicy::parse(&policy)?), &Roots::web());
    broker.lock().await;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    broker.proxy(listener).await;
    Ok(())
}

async fn measure(ways: &[Way]) -> Result<()> {
    let mut times = vec![Vec::new(); ways.len()];
    for round in 0..=ROUNDS {
        for (way, times) in ways.iter().zip(&mut times) {
            for _ in 0..IN_A_ROW {
                let started = Instant::now();
                download(connect(way).await?, 1).await?;
                times.extend((round > 0).then(|| started.elapsed()));
            }
        }
    }
    for (way, times) in ways.iter().zip(&mut times) {
        print_times(&format!("latency\t{}", way.name), times);
    }
    throughput("one", ways, 1).await?;
    throughput("eight", ways, AT_ONCE).await
}

/// Downloads by so many connections at once.
async fn throughput(what: &str, ways: &[Way], at_once: u64) -> Result<()> {
    let mut rates = vec![Vec::new(); ways.len()];
    let mut spent = vec![Duration::ZERO; ways.len()];
    for round in 0..=ROUNDS {
        for ((way, rates), spent) in ways.iter().zip(&mut rates).zip(&mut spent) {
            let mut streams = Vec::new();
            for _ in 0..at_once {
                streams.push(connect(way).await?);
            }
            let before = way.processor_time()?;
            let started = Instant::now();
            let mut downloads = tokio::task::JoinSet::new();
            for stream in streams {
                downloads.spawn(download(stream, DOWNLOADED / at_once));
            }
            while let Some(download) = downloads.join_next().await {
                download??;
            }
            let seconds = started.elapsed().as_secs_f64();
            if round > 0 {
                rates.push((DOWNLOADED as f64 / f64::from(1 << 20) / seconds) as u64);
                *spent += way.processor_time()?.saturating_sub(before);
            }
        }
    }
    let total = (DOWNLOADED >> 20) * ROUNDS as u64;
    for ((way, mut rates), spent) in ways.iter().zip(rates).zip(spent) {
        let mut at = |percent| percentile(&mut rates, percent).unwrap_or_default();
        let (median, low, high) = (at(50), at(10), at(90));
        println!(
            "{what}\t{}\t{median}\t{low}\t{high}\t{:.1}",
            way.name,
            spent.as_secs_f64() * 1e6 / total as f64
        );
    }
    Ok(())
}

impl Way {
    fn processor_time(&self) -> Result<Duration> {
        self.proxy.map_or(Ok(Duration::ZERO), |(_, process)| processor_time(process))
    }
}

/// A connection to the server.
async fn connect(way: &Way) -> Result<TcpStream> {
    let Some((proxy, _)) = way.proxy else {
        let stream = TcpStream::connect(SERVER).await.context(SERVER)?;
        stream.set_nodelay(true)?;
        return Ok(stream);
    };
    let mut stream = TcpStream::connect(proxy).await.with_context(|| format!("connecting to {proxy}"))?;
    stream.set_nodelay(true)?;
    let request = format!("CONNECT {SERVER} HTTP/1.1\r\nHost: {SERVER}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            bail!("{}: ended within its answer {:?}", way.name, String::from_utf8_lossy(&head));
        }
    }
    ensure!(head.starts_with(b"HTTP/1.1 200 "), "{}: {}", way.name, String::from_utf8_lossy(&head));
    Ok(stream)
}

/// Asks for so many bytes and reads them all.
async fn download(mut stream: TcpStream, bytes: u64) -> Result<()> {
    stream.write_u64_le(bytes).await?;
    let mut buffer = vec![0; 256 * 1024];
    let mut left = bytes;
    while left > 0 {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "cut short by {left} bytes");
        left = left.saturating_sub(read as u64);
    }
    Ok(())
}
