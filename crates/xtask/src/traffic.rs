//! The sections of `cargo xtask bench` that are about traffic: what `confide proxy` costs beside nginx, the first attested
//! byte, fresh attestations, idle connections.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bench::{Target, cargo_bench, held};
use crate::programs::{Flavour, Programs};
use crate::running::{self, Running};
use crate::{cargo, process};

/// What every guest of these sections has beside the demonstration's.
const GUEST: &str = "\n[limits]\nconnections = 2048\nrequests = 512\nattestations = 2048\n";
/// How long a program may take to listen.
const START: Duration = Duration::from_secs(10);

/// A guest that answers without a model, and a policy that accepts it.
struct Stage {
    programs: Programs,
    folder: PathBuf,
    guest: Running,
    policy: PathBuf,
}

impl Stage {
    fn new(name: &str, simulated: &str, attest: &str) -> Result<Self> {
        let programs = Programs::build(Flavour::Optimised)?;
        let folder = running::folder(name)?;
        let guest = Running::guest_with(None, &format!("{simulated}{GUEST}"), &programs, &folder)?;
        let policy = folder.join("danger-traffic.toml");
        std::fs::write(&policy, accepting(attest)?)?;
        Ok(Self { programs, folder, guest, policy })
    }

    /// The figures of one kind of traffic.
    fn lines(&self, kind: &str, more: &[String]) -> Result<Vec<Vec<String>>> {
        let mut command = cargo_bench("traffic")?;
        command.arg(kind).arg(self.guest.address().to_string()).arg(&self.policy).args(more);
        let lines = process::output(&mut command)?;
        Ok(lines.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }
}

/// The demonstration's policy, for a guest whose answers no model makes.
pub(crate) fn accepting(attest: &str) -> Result<String> {
    let path = cargo::root().join("policies/danger-simulator.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut changed = String::new();
    let mut changes = 0;
    for line in text.lines() {
        let name = line.split('=').next().unwrap_or_default().trim();
        let instead = match name {
            "engine" => Some(r#"engine = { any_of = ["fixed"] }"#.to_owned()),
            "configuration" => Some(r#"configuration = { waive = "a benchmark" }"#.to_owned()),
            "attest" => Some(format!("attest = \"{attest}\"")),
            _ => None,
        };
        changes += usize::from(instead.is_some());
        writeln!(changed, "{}", instead.as_deref().unwrap_or(line))?;
    }
    ensure!(changes == 3, "{} has other lines than expected", path.display());
    Ok(changed)
}

/// Finds a line by its first words, and its numbers.
pub(crate) fn numbers(lines: &[Vec<String>], first: &[&str]) -> Result<Vec<f64>> {
    let begins =
        |line: &&Vec<String>| line.len() > first.len() && line.iter().zip(first).all(|(a, b)| a == b);
    let line = lines.iter().find(begins).with_context(|| format!("the benchmark has no line {first:?}"))?;
    line.iter().skip(first.len()).map(|text| Ok(text.parse()?)).collect()
}

pub(crate) fn number(lines: &[Vec<String>], first: &[&str], place: usize) -> Result<f64> {
    numbers(lines, first)?.get(place).copied().with_context(|| format!("too few figures of {first:?}"))
}

/// What `confide proxy` costs.
pub(crate) fn proxy() -> Result<String> {
    let stage = Stage::new("bench-proxy", "\n[simulated.answers]\ntokens = 8\n", "per-key")?;
    let (programs, guest, folder) = (&stage.programs, stage.guest.address(), &stage.folder);
    let proxy = |receipts: &str| {
        let more = [OsStr::new("--receipts"), OsStr::new(receipts)];
        Running::proxy_of(&[guest], &more, programs, &stage.policy, folder)
    };
    let (proxy, alike) = (proxy("where-present")?, proxy("not-asked")?);
    let nginx = Nginx::start(guest, folder)?;
    let ways = [
        format!("confide proxy={}={}", proxy.address(), proxy.id()),
        format!("without receipts={}={}", alike.address(), alike.id()),
        format!("nginx={}={}", nginx.server.address, nginx.server.id()),
    ];
    let lines = stage.lines("streams", &ways)?;
    let mut text = format!(
        "## `confide proxy` beside nginx\n\n\
         Streamed answers of eight tokens, from a SIMULATED guest that answers without a model. Both take plain HTTP and keep \
         connections of TLS 1.3 to the guest; {}, two worker processes, without buffering and without any verification of the \
         guest. A receipt is signed by the guest and verified by `confide proxy` for each answer, but with \
         `--receipts not-asked`; nginx asks for none. Guest, proxies and the generator share the machine's cores and take turns.\n\n\
         | one request after the other | median µs | 10 % | 90 % |\n|---|---:|---:|---:|\n",
        nginx.version
    );
    for (name, shown) in [
        ("direct", "directly, by the SDK"),
        ("confide proxy", "through `confide proxy`"),
        ("without receipts", "through `confide proxy --receipts not-asked`"),
        ("nginx", "through nginx"),
    ] {
        let [median, p10, p90] = numbers(&lines, &["latency", name])?[..] else {
            bail!("unexpected figures")
        };
        writeln!(text, "| {shown} | {median:.0} | {p10:.0} | {p90:.0} |")?;
    }
    text += "\n| 64 connections | answers a second, median | 10 % | 90 % | processor µs an answer |\n|---|---:|---:|---:|---:|\n";
    for name in ["confide proxy", "without receipts", "nginx"] {
        let [median, p10, p90, each] = numbers(&lines, &["load", name])?[..] else {
            bail!("unexpected figures")
        };
        writeln!(text, "| {name} | {median:.0} | {p10:.0} | {p90:.0} | {each:.0} |")?;
    }
    let rate = |name| number(&lines, &["load", name], 0);
    writeln!(
        text,
        "\nWith a receipt of each answer, which nobody signs or verifies for nginx, the throughput is {:.2} of nginx's.",
        rate("confide proxy")? / rate("nginx")?
    )?;
    text += &held(&[
        Target {
            what: "`confide proxy`: added to the median of a request",
            unit: "µs",
            most: 300.0,
            found: number(&lines, &["latency", "confide proxy"], 0)?
                - number(&lines, &["latency", "direct"], 0)?,
        },
        Target {
            what: "time of an answer at 64 connections, of nginx's: at least 0.9 of its throughput, both without receipts",
            unit: "%",
            most: 100.0 / 0.9,
            found: 100.0 * rate("nginx")? / rate("without receipts")?,
        },
    ])?;
    Ok(text)
}

/// The first attested byte.
pub(crate) fn first() -> Result<String> {
    let stage = Stage::new("bench-first", "\n[simulated.answers]\ntokens = 8\n", "every-connection")?;
    let lines = stage.lines("first", &[])?;
    let mut text = "## The first attested byte\n\n\
        A connection to a SIMULATED guest on loopback whose platform and collateral are known to the client.\n\n\
        | | median µs | 10 % | 90 % |\n|---|---:|---:|---:|\n"
        .to_owned();
    for line in &lines {
        let [name, median, p10, p90] = line.as_slice() else { bail!("unexpected line: {line:?}") };
        let rounded = |number: &str| number.parse::<f64>();
        writeln!(text, "| {name} | {:.0} | {:.0} | {:.0} |", rounded(median)?, rounded(p10)?, rounded(p90)?)?;
    }
    let whole = number(&lines, &["TCP connect to the head of the first answer"], 0)?;
    let quoting = number(&lines, &["of which the simulator's quote and GPU report"], 0)?;
    text += &held(&[Target {
        what: "connect, attest, verify, first request answered, without the simulator's quoting",
        unit: "µs",
        most: 15_000.0,
        found: whole - quoting,
    }])?;
    Ok(text)
}

/// Fresh attestations by batching.
pub(crate) fn attestations() -> Result<String> {
    const WANTED: f64 = 2000.0;
    let stage = Stage::new(
        "bench-attestations",
        "quote_milliseconds = 40\n\n[simulated.answers]\ntokens = 8\n",
        "per-key",
    )?;
    let lines = stage.lines("attestations", &[])?;
    let mut text = "## Fresh attestations\n\n\
        An attestation has its own nonce, on a connection that is there; a quote takes 40 ms, and there is one simulated GPU. Of \
        each answer the path to the report data is checked, and one of a hundred is appraised in full.\n\n| | |\n|---|---:|\n"
        .to_owned();
    let rate = number(&lines, &["rate"], 0)?;
    for (name, shown) in [
        ("rate", "attestations a second"),
        ("connections", "connections"),
        ("largest batch", "attestations in the largest batch"),
        ("appraised", "appraised in full"),
    ] {
        writeln!(text, "| {shown} | {:.0} |", number(&lines, &[name], 0)?)?;
    }
    text += "\n| | median µs | 10 % | 90 % |\n|---|---:|---:|---:|\n";
    for line in lines.iter().filter(|line| line.first().is_some_and(|kind| kind == "time")) {
        let [_, name, figures @ ..] = line.as_slice() else { bail!("unexpected line: {line:?}") };
        writeln!(text, "| {name} | {} |", figures.join(" | "))?;
    }
    text += &held(&[Target {
        what: "time of an attestation's share: 2,000 a second",
        unit: "µs",
        most: 1e6 / WANTED,
        found: 1e6 / rate,
    }])?;
    Ok(text)
}

/// What an idle connection costs.
pub(crate) fn idle() -> Result<String> {
    let stage = Stage::new("bench-idle", "\n[simulated.answers]\ntokens = 8\n", "per-key")?;
    let lines = stage.lines("idle", &[stage.guest.id().to_string()])?;
    let mut text =
        "## An idle attested connection\n\n| | KiB of resident memory each |\n|---|---:|\n".to_owned();
    for name in ["client", "guest"] {
        writeln!(text, "| {name} | {:.1} |", number(&lines, &[name], 0)?)?;
    }
    Ok(text)
}

/// nginx in front of a guest.
struct Nginx {
    server: Listening,
    version: String,
}

impl Nginx {
    fn start(guest: SocketAddr, folder: &Path) -> Result<Self> {
        let program = nginx()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let place = folder.join("nginx");
        std::fs::create_dir_all(&place)?;
        let configuration = place.join("nginx.conf");
        let shown = place.display();
        std::fs::write(
            &configuration,
            format!(
                "worker_processes 2;\ndaemon off;\npid {shown}/pid;\nerror_log {shown}/error.log;\n\
                 events {{ worker_connections 1024; }}\n\
                 http {{\n  access_log off;\n  client_body_temp_path {shown}/body;\n  proxy_temp_path {shown}/proxy;\n\
                 \u{20} fastcgi_temp_path {shown}/fastcgi;\n  uwsgi_temp_path {shown}/uwsgi;\n  scgi_temp_path {shown}/scgi;\n\
                 \u{20} keepalive_requests 1000000000;\n\
                 \u{20} upstream guest {{ server {guest}; keepalive 128; keepalive_requests 1000000000; }}\n\
                 \u{20} server {{\n    listen {address};\n    location / {{\n      proxy_pass https://guest;\n\
                 \u{20}     proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_buffering off;\n\
                 \u{20}     proxy_ssl_protocols TLSv1.3;\n      proxy_ssl_session_reuse off;\n    }}\n  }}\n}}\n"
            ),
        )?;
        let version = process::output(Command::new("sh").args(["-c", "\"$0\" -v 2>&1"]).arg(&program))?;
        let version = version.trim().rsplit("version: ").next().unwrap_or_default().to_owned();
        let mut command = Command::new(&program);
        command.arg("-p").arg(&place).arg("-e").arg(place.join("error.log")).arg("-c").arg(&configuration);
        let server = Listening::start(&mut command, address)
            .with_context(|| format!("nginx: see {shown}/error.log"))?;
        Ok(Self { server, version })
    }
}

/// A program that listens. It ends when the value is dropped.
pub(crate) struct Listening {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Listening {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// When it does not start, ends, or does not listen in time.
    pub(crate) fn start(command: &mut Command, address: SocketAddr) -> Result<Self> {
        let child = command.stdin(Stdio::null()).spawn().with_context(|| process::shown(command))?;
        let mut server = Self { child, address };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = server.child.try_wait()?;
            ensure!(ended.is_none() && start.elapsed() < START, "it does not listen on {address}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // nginx's workers end with it on SIGTERM alone, and squid takes its segments of shared memory with it.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// nginx as it is installed, else from Debian's package: a package that is installed would start a web server.
fn nginx() -> Result<PathBuf> {
    let installed = PathBuf::from("/usr/sbin/nginx");
    if installed.exists() {
        return Ok(installed);
    }
    Ok(unpacked(&["nginx"])?.join("usr/sbin/nginx"))
}

/// The folder with the files of Debian packages, unpacked and not installed. It is named after the first one.
pub(crate) fn unpacked(packages: &[&str]) -> Result<PathBuf> {
    let name = packages.first().context("a package")?;
    let folder = cargo::root().join("target").join(name);
    let done = folder.join("unpacked");
    if done.exists() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder)?;
    process::run(Command::new("apt-get").args(["download", "--quiet"]).args(packages).current_dir(&folder))
        .with_context(|| format!("the Debian package {name}, to compare with"))?;
    for entry in std::fs::read_dir(&folder)? {
        let package = entry?.path();
        if package.extension().is_some_and(|found| found == "deb") {
            process::run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&folder))?;
        }
    }
    std::fs::write(done, "")?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_of_the_demonstration_is_changed_in_three_lines() {
        let text = accepting("every-connection").unwrap();
        for line in [
            r#"engine = { any_of = ["fixed"] }"#,
            r#"configuration = { waive = "a benchmark" }"#,
            r#"attest = "every-connection""#,
        ] {
            assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line}");
        }
    }

    #[test]
    fn figures_are_found_by_name() {
        let lines = [vec!["load".to_owned(), "nginx".to_owned(), "5".to_owned(), "4.5".to_owned()]];
        assert_eq!(numbers(&lines, &["load", "nginx"]).unwrap(), [5.0, 4.5]);
        assert_eq!(number(&lines, &["load", "nginx"], 1).unwrap(), 4.5);
        assert!(numbers(&lines, &["load", "other"]).is_err());
        assert!(number(&lines, &["load", "nginx"], 2).is_err());
    }
}
