//! What the guest's egress was used for, and what it dropped: in whole to root of its own machine, in numbers to whoever asks.
//!
//! A guest is entered by its serving port alone, so that there are two ways. Over a Unix socket `confide-guest egress status` gets
//! everything, destinations too; nobody but root and the guest's own user is answered. Over the attested channel `GET /metrics` has
//! numbers by words that claims and this program have anyway: rules, codes. They change once a minute at most, so that a client
//! that asks all the time does not see when another one's request made the workload go out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use confide_egress::{DropRecord, PacketStatus, RuleUse, Status};
use confide_evidence::document::{Egress, EgressMode};
use confide_evidence::time::format_seconds;
use confide_service::metrics::{Kind, Page};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;

use crate::error::GuestError;

/// Where the guest answers, unless its configuration names another socket.
pub(crate) const SOCKET: &str = "/run/confide/status.sock";
/// How often numbers change for clients.
const PERIOD: Duration = Duration::from_secs(60);
/// How long somebody may take to read a report. It is written to memory of the kernel's at once, mostly.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of a report: 256 records with a destination of 64 bytes and a rule of 400 each take under 200 KiB.
const MAX_REPORT: u64 = 1 << 20;

/// Everything that is known at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// `locked` or `open`.
    mode: String,
    /// SHA-256 of the egress policy.
    policy: Option<String>,
    /// SHA-256 of the rules.
    ruleset: Option<String>,
    /// Unix seconds of the guest's clock.
    locked_at: Option<u64>,
    /// System calls that the engine was refused.
    refused_calls: u64,
    /// What the rules dropped; nothing where none are in force.
    packets: Option<Packets>,
    /// Of the egress broker; nothing where none runs.
    broker: Option<Broker>,
}

/// Packets that the rules of the kernel dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Packets {
    /// Of the guest's own network.
    guest: u64,
    /// Of the workload's.
    workload: u64,
    unlogged: u64,
    /// The latest records of both, oldest first.
    latest: Vec<Dropped>,
}

/// What the egress broker dropped and let through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Broker {
    dropped: BTreeMap<String, u64>,
    connections: u64,
    unlogged: u64,
    rules: Vec<RuleUse>,
    /// The latest records, oldest first.
    latest: Vec<Dropped>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Dropped {
    /// Unix seconds.
    at: u64,
    code: String,
    destination: String,
    rule: Option<String>,
    way: String,
    uid: Option<u32>,
}

/// Who knows.
pub(crate) struct Source {
    egress: Egress,
    locked_at: Option<u64>,
    refused_calls: Box<dyn Fn() -> u64 + Send + Sync>,
    packets: Box<dyn Fn() -> Option<PacketStatus> + Send + Sync>,
    broker: Box<dyn Fn() -> Option<Status> + Send + Sync>,
}

impl Source {
    /// What was claimed for this boot, and who counts: calls that the engine was refused, packets that the rules dropped, and the
    /// egress broker, where one runs.
    pub(crate) fn new(
        egress: Egress,
        locked_at: Option<u64>,
        refused_calls: impl Fn() -> u64 + Send + Sync + 'static,
        packets: impl Fn() -> Option<PacketStatus> + Send + Sync + 'static,
        broker: impl Fn() -> Option<Status> + Send + Sync + 'static,
    ) -> Self {
        let (refused_calls, packets) = (Box::new(refused_calls), Box::new(packets));
        Self { egress, locked_at, refused_calls, packets, broker: Box::new(broker) }
    }

    fn report(&self) -> Report {
        let Egress { mode, policy, ruleset, .. } = &self.egress;
        let mode = match mode {
            EgressMode::Locked => "locked",
            EgressMode::Open => "open",
        };
        Report {
            mode: mode.to_owned(),
            policy: policy.map(|digest| digest.to_string()),
            ruleset: ruleset.map(|digest| digest.to_string()),
            locked_at: self.locked_at,
            refused_calls: (self.refused_calls)(),
            packets: (self.packets)().map(Packets::from),
            broker: (self.broker)().map(Broker::from),
        }
    }
}

impl From<PacketStatus> for Packets {
    fn from(status: PacketStatus) -> Self {
        let PacketStatus { guest, workload, unlogged, latest } = status;
        Self { guest, workload, unlogged, latest: latest.into_iter().map(Dropped::from).collect() }
    }
}

impl From<Status> for Broker {
    fn from(status: Status) -> Self {
        let Status { dropped, connections, unlogged, latest, rules } = status;
        let dropped = dropped.into_iter().map(|(code, count)| (code.to_owned(), count)).collect();
        Self {
            dropped,
            connections,
            unlogged,
            rules,
            latest: latest.into_iter().map(Dropped::from).collect(),
        }
    }
}

impl From<DropRecord> for Dropped {
    fn from(record: DropRecord) -> Self {
        let DropRecord { at, reason, destination, rule, way, uid } = record;
        Self {
            at: at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            code: reason.code().to_owned(),
            destination,
            rule,
            way: way.name().to_owned(),
            uid,
        }
    }
}

/// The numbers for clients.
pub(crate) struct Metrics {
    made: Mutex<Option<(Instant, Bytes)>>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self { made: Mutex::new(None) }
    }

    /// The page as it was made at most [`PERIOD`] ago.
    pub(crate) fn page(&self, source: &Source, now: Instant) -> Bytes {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, page)) = &*made
            && now.saturating_duration_since(*at) < PERIOD
        {
            return page.clone();
        }
        let page = Bytes::from(page(&source.report()));
        *made = Some((now, page.clone()));
        page
    }
}

/// The report in the text format of Prometheus, without destinations, processes and times.
fn page(report: &Report) -> String {
    let mut page = Page::default();
    let locked = u8::from(report.mode == "locked");
    page.family("confide_egress_locked", Kind::Gauge, "Whether the egress policy is in force, for good.")
        .value(&[], locked);
    page.family(
        "confide_egress_refused_calls_total",
        Kind::Counter,
        "System calls that the engine was refused.",
    )
    .value(&[], report.refused_calls);
    if let Some(packets) = &report.packets {
        let help = "Packets that the rules of the kernel dropped, by network.";
        let mut dropped = page.family("confide_egress_dropped_packets_total", Kind::Counter, help);
        dropped.value(&[("network", "guest")], packets.guest);
        dropped.value(&[("network", "workload")], packets.workload);
    }
    let Some(broker) = &report.broker else { return page.into_text() };
    let mut dropped = page.family(
        "confide_egress_dropped_total",
        Kind::Counter,
        "What the egress broker dropped, by code.",
    );
    for (code, count) in &broker.dropped {
        dropped.value(&[("code", code)], count);
    }
    page.family("confide_egress_connections_total", Kind::Counter, "Connections to the outside.")
        .value(&[], broker.connections);
    page.family("confide_egress_unlogged_total", Kind::Counter, "Records that were too many to be logged.")
        .value(&[], broker.unlogged);
    let mut by_rule = |name, kind, help, value: fn(&RuleUse) -> u64| {
        let mut family = page.family(name, kind, help);
        for rule in &broker.rules {
            family.value(&[("rule", &rule.rule)], value(rule));
        }
    };
    by_rule(
        "confide_egress_rule_dropped_total",
        Kind::Counter,
        "What was dropped of the destinations of a rule.",
        |rule| rule.dropped,
    );
    by_rule(
        "confide_egress_rule_bytes_total",
        Kind::Counter,
        "Bytes by a rule, sent and received.",
        |rule| rule.bytes,
    );
    by_rule("confide_egress_rule_connections", Kind::Gauge, "Open connections by a rule.", |rule| {
        rule.open.into()
    });
    page.into_text()
}

/// Listens where root of this machine asks. Folders are made for this user alone; a socket that nobody listens at any more is
/// replaced.
///
/// # Errors
/// [`GuestError::StatusSocket`].
pub(crate) fn listen(path: &Path) -> Result<UnixListener, GuestError> {
    let open = || {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let left = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        if left && UnixStream::connect(path).is_err() {
            fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    open().map_err(|source| GuestError::StatusSocket { path: path.to_owned(), source })
}

/// Gives a report to each of root and this user that connects, one after the other, for good.
pub(crate) async fn answer(listener: tokio::net::UnixListener, source: &Source) {
    let own = rustix::process::geteuid().as_raw();
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(PATIENCE).await;
            continue;
        };
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own) {
            continue;
        }
        let report = serde_json::to_vec(&source.report()).expect("strings and numbers always serialise");
        // Who does not read gets no more of it.
        let _ = tokio::time::timeout(PATIENCE, stream.write_all(&report)).await;
    }
}

/// The report of a guest on this machine: as JSON, or as text for people.
///
/// # Errors
/// [`GuestError::StatusUnreachable`].
pub(crate) fn ask(path: &Path, form: Form) -> Result<String, GuestError> {
    let read = || {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut bytes = Vec::new();
        stream.take(MAX_REPORT).read_to_end(&mut bytes)?;
        let report: Report = serde_json::from_slice(&bytes)?;
        Ok::<_, io::Error>(report)
    };
    let report = read().map_err(|source| GuestError::StatusUnreachable { path: path.to_owned(), source })?;
    Ok(match form {
        Form::Json => {
            let mut text =
                serde_json::to_string_pretty(&report).expect("strings and numbers always serialise");
            text.push('\n');
            text
        }
        Form::Text => report.text(),
    })
}

/// How a report is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        write!(text, "egress: {}", self.mode)?;
        match self.locked_at.and_then(|at| i64::try_from(at).ok()) {
            Some(at) => writeln!(text, " since {}", format_seconds(at))?,
            None => writeln!(text)?,
        }
        for (name, digest) in [("policy", &self.policy), ("rules", &self.ruleset)] {
            if let Some(digest) = digest {
                writeln!(text, "{name}: {digest}")?;
            }
        }
        writeln!(text, "system calls that the engine was refused: {}", self.refused_calls)?;
        if let Some(Packets { guest, workload, unlogged, latest }) = &self.packets {
            writeln!(
                text,
                "packets that the rules dropped: {guest} of the guest, {workload} of the workload; {unlogged} not logged"
            )?;
            latest.iter().try_for_each(|record| record.write(text))?;
        }
        match &self.broker {
            Some(broker) => broker.write(text),
            None => writeln!(text, "no egress broker: nothing is let out by name or network"),
        }
    }
}

impl Broker {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let dropped: u64 = self.dropped.values().fold(0, |sum, count| sum.saturating_add(*count));
        writeln!(text, "connections to the outside: {}", self.connections)?;
        for RuleUse { rule, open, bytes, dropped } in &self.rules {
            writeln!(text, "  {rule}: {open} open, {bytes} bytes, {dropped} dropped")?;
        }
        writeln!(text, "dropped: {dropped}, of which {} were not logged", self.unlogged)?;
        for (code, count) in self.dropped.iter().filter(|(_, count)| **count > 0) {
            writeln!(text, "  {code}: {count}")?;
        }
        writeln!(text, "the latest {} of them:", self.latest.len())?;
        self.latest.iter().try_for_each(|record| record.write(text))
    }
}

impl Dropped {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { at, code, destination, rule, way, uid } = self;
        let at = format_seconds(i64::try_from(*at).unwrap_or(i64::MAX));
        write!(text, "  {at} {code} {destination} by {way}")?;
        if let Some(uid) = uid {
            write!(text, ", uid {uid}")?;
        }
        match rule {
            Some(rule) => writeln!(text, ", rule {rule}"),
            None => writeln!(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_egress::{Reason, Way};
    use confide_evidence::bytes::Bytes as Fixed;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn status() -> Status {
        let record = DropRecord {
            at: UNIX_EPOCH + Duration::from_secs(1_750_000_000),
            reason: Reason::HostNotListed,
            destination: "secret.evil.example:443".to_owned(),
            rule: None,
            way: Way::Proxy,
            uid: Some(1000),
        };
        Status {
            dropped: vec![("host_not_listed", 4), ("port_not_listed", 0)],
            connections: 2,
            unlogged: 1,
            latest: vec![record],
            rules: vec![RuleUse {
                rule: "terminate api.example.com:443".to_owned(),
                open: 1,
                bytes: 4096,
                dropped: 3,
            }],
        }
    }

    fn packets() -> PacketStatus {
        let record = DropRecord {
            at: UNIX_EPOCH + Duration::from_secs(1_750_000_001),
            reason: Reason::PacketDropped,
            destination: "192.0.2.7:443/udp".to_owned(),
            rule: None,
            way: Way::Packet,
            uid: None,
        };
        PacketStatus { guest: 6, workload: 7, unlogged: 8, latest: vec![record] }
    }

    fn locked() -> Egress {
        let digest = |byte| Some(Fixed([byte; 32]));
        let allowed = vec!["terminate api.example.com:443".to_owned()];
        Egress { mode: EgressMode::Locked, policy: digest(1), allowed, ruleset: digest(2), ..Egress::open() }
    }

    fn source() -> Source {
        Source::new(locked(), Some(1_750_000_000), || 5, || Some(packets()), || Some(status()))
    }

    #[test]
    fn clients_get_numbers_and_no_destination_process_or_time() {
        let expected = "\
# HELP confide_egress_locked Whether the egress policy is in force, for good.
# TYPE confide_egress_locked gauge
confide_egress_locked 1
# HELP confide_egress_refused_calls_total System calls that the engine was refused.
# TYPE confide_egress_refused_calls_total counter
confide_egress_refused_calls_total 5
# HELP confide_egress_dropped_packets_total Packets that the rules of the kernel dropped, by network.
# TYPE confide_egress_dropped_packets_total counter
confide_egress_dropped_packets_total{network=\"guest\"} 6
confide_egress_dropped_packets_total{network=\"workload\"} 7
# HELP confide_egress_dropped_total What the egress broker dropped, by code.
# TYPE confide_egress_dropped_total counter
confide_egress_dropped_total{code=\"host_not_listed\"} 4
confide_egress_dropped_total{code=\"port_not_listed\"} 0
# HELP confide_egress_connections_total Connections to the outside.
# TYPE confide_egress_connections_total counter
confide_egress_connections_total 2
# HELP confide_egress_unlogged_total Records that were too many to be logged.
# TYPE confide_egress_unlogged_total counter
confide_egress_unlogged_total 1
# HELP confide_egress_rule_dropped_total What was dropped of the destinations of a rule.
# TYPE confide_egress_rule_dropped_total counter
confide_egress_rule_dropped_total{rule=\"terminate api.example.com:443\"} 3
# HELP confide_egress_rule_bytes_total Bytes by a rule, sent and received.
# TYPE confide_egress_rule_bytes_total counter
confide_egress_rule_bytes_total{rule=\"terminate api.example.com:443\"} 4096
# HELP confide_egress_rule_connections Open connections by a rule.
# TYPE confide_egress_rule_connections gauge
confide_egress_rule_connections{rule=\"terminate api.example.com:443\"} 1
";
        assert_eq!(page(&source().report()), expected);
        let open = Source::new(Egress::open(), None, || 0, || None, || None);
        let told = page(&open.report());
        assert!(told.contains("confide_egress_locked 0\n") && !told.contains("dropped"), "{told}");
    }

    #[test]
    fn the_numbers_of_clients_change_once_a_minute_at_most() {
        let calls = Arc::new(AtomicU64::new(1));
        let counted = Arc::clone(&calls);
        let source = Source::new(locked(), None, move || counted.load(Ordering::Relaxed), || None, || None);
        let (metrics, start) = (Metrics::new(), Instant::now());
        let first = metrics.page(&source, start);
        calls.store(2, Ordering::Relaxed);
        assert_eq!(metrics.page(&source, start + PERIOD - Duration::from_millis(1)), first);
        assert_ne!(metrics.page(&source, start + PERIOD), first);
    }

    #[tokio::test]
    async fn root_and_the_guests_user_get_everything_over_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/status.sock");
        // One that was left by a guest that was killed.
        fs::create_dir(folder.path().join("run")).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let listener = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listen(&path).unwrap_err().code(), "status_socket", "one guest listens at it");
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        let answering = tokio::spawn(async move { answer(listener, &source()).await });
        let asked = move |form| {
            let path = path.clone();
            tokio::task::spawn_blocking(move || ask(&path, form).unwrap())
        };
        let json: Report = serde_json::from_str(&asked(Form::Json).await.unwrap()).unwrap();
        assert_eq!(json, source().report());
        let text = asked(Form::Text).await.unwrap();
        let expected = [
            "egress: locked since 2025-06-15T15:06:40Z",
            &format!("policy: {}", "01".repeat(32)),
            &format!("rules: {}", "02".repeat(32)),
            "system calls that the engine was refused: 5",
            "packets that the rules dropped: 6 of the guest, 7 of the workload; 8 not logged",
            "  2025-06-15T15:06:41Z packet_dropped 192.0.2.7:443/udp by packet",
            "connections to the outside: 2",
            "  terminate api.example.com:443: 1 open, 4096 bytes, 3 dropped",
            "dropped: 4, of which 1 were not logged",
            "  host_not_listed: 4",
            "the latest 1 of them:",
            "  2025-06-15T15:06:40Z host_not_listed secret.evil.example:443 by proxy, uid 1000",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        answering.abort();
    }

    #[test]
    fn nobody_there_and_nonsense_are_told_apart_from_a_report() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none");
        assert_eq!(ask(&path, Form::Text).unwrap_err().code(), "status_unreachable");
        let listener = UnixListener::bind(&path).unwrap();
        let babbling = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            io::Write::write_all(&mut stream, b"no report").unwrap();
        });
        assert_eq!(ask(&path, Form::Json).unwrap_err().code(), "status_unreachable");
        babbling.join().unwrap();
    }
}
