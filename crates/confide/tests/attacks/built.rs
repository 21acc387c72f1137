//! The same with the built guest, where the workspace's build has put it beside the program: `confide` against
//! `confide-guest`, on the simulated platform.

use crate::rig::{Outcome, Proxy, SECRET, Victim, decrypted_nothing};
use confide_evidence::bytes::Bytes;
use confide_evidence::document::{
    ATTESTATION_PATH, AttestationRequest, CpuEvidence, EvidenceDocument, REQUEST_MEDIA_TYPE,
};
use confide_evidence::record::{Subject, read_all};
use confide_testkit::attacker::{self, Attack, Attacker};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// GPUs of the guest: so many take a while to report.
const GPUS: u32 = 16;
/// How often programs race at most.
const RACES: usize = 20;

/// A running `confide-guest serve`; it ends when dropped.
struct Guest {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Guest {
    /// Nothing where the program is not there or has no simulator, which is said.
    fn start() -> Option<Self> {
        let program = Path::new(env!("CARGO_BIN_EXE_confide")).with_file_name("confide-guest");
        if !program.is_file() {
            println!("not run: {} is not built: build the whole workspace", program.display());
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let configuration = read("deploy/guest-simulated.toml")
            .replace("127.0.0.1:8443", "127.0.0.1:0")
            .replace("gpus = 1", &format!("gpus = {GPUS}"));
        std::fs::write(folder.path().join("guest.toml"), configuration).unwrap();
        let log = folder.path().join("log");
        let mut child = Command::new(program)
            .current_dir(root())
            .args(["serve", "--config"])
            .arg(folder.path().join("guest.toml"))
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            child.wait().unwrap();
            let log = std::fs::read_to_string(log).unwrap();
            assert!(log.contains("simulator_not_built"), "{log}");
            println!("not run: confide-guest is built without the feature danger-simulator");
            return None;
        }
        let ready: Value = serde_json::from_str(&line).unwrap();
        let address = ready["listen"].as_str().unwrap().strip_prefix("https://").unwrap().parse().unwrap();
        Some(Self { child, address, _folder: folder })
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The committed danger policy, for so many GPUs.
fn policy() -> String {
    let policy = read("policies/danger-simulator.toml");
    let lines = policy.lines().map(|line| match line.split_once(" = ") {
        Some(("gpu_count", _)) => format!("gpu_count = {{ any_of = [{GPUS}] }}\n"),
        Some(("configuration", _)) => {
            "configuration = { waive = \"other GPUs than it was pinned with\" }\n".to_owned()
        }
        _ => format!("{line}\n"),
    });
    lines.collect()
}

fn chat(victim: &Victim, url: &str) -> Command {
    let mut chat = victim.question(url);
    chat.args(["--max-tokens", "4"]);
    chat
}

#[tokio::test(flavor = "multi_thread")]
async fn attackers_in_front_of_the_built_guest_get_nothing() {
    let Some(guest) = Guest::start() else { return };
    let victim = Victim::under(&policy());
    Outcome::of(&mut chat(&victim, &guest.url())).answered();
    for (attack, code) in
        [(Attack::Relay, "report_data"), (Attack::Replay, "report_data"), (Attack::Reflection, "report_data")]
    {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let attacker = Attacker::start(listen, guest.address, attack).await.unwrap();
        let url = format!("https://{}", attacker.address());
        Outcome::of(&mut chat(&victim, &url)).refused(10, code);
        victim.proxy(&url).ask().refused(code);
        decrypted_nothing(&attacker);
    }
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let honest = Attacker::start(listen, guest.address, Attack::Honest).await.unwrap();
    Outcome::of(&mut chat(&victim, &format!("https://{}", honest.address()))).answered();
    assert!(honest.seen().iter().any(|connection| connection.contains(SECRET)), "the control");
}

/// Asks for evidence as anybody may, one request after another.
async fn keep_busy(guest: SocketAddr) {
    loop {
        let mut stream = attacker::connect(guest).await.unwrap();
        let body = AttestationRequest { nonce: Bytes([9; 32]) }.encode();
        let head = format!(
            "POST {ATTESTATION_PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: {REQUEST_MEDIA_TYPE}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

/// The devices are never idle, so that whoever asks shares the next quote: each program finds its own place in it.
#[tokio::test(flavor = "multi_thread")]
async fn programs_that_race_for_one_quote_of_the_built_guest_have_a_place_each() {
    let Some(guest) = Guest::start() else { return };
    let others: Vec<_> = (0..3).map(|_| tokio::spawn(keep_busy(guest.address))).collect();
    let policy = Arc::new(policy());
    let (mut places, mut shared) = (BTreeSet::new(), 0);
    // Whether a quote is under way when they come is the machine's to say: they come again until one was.
    for _ in 0..RACES {
        let racing: Vec<_> = (0..4)
            .map(|_| {
                let (url, policy) = (guest.url(), Arc::clone(&policy));
                std::thread::spawn(move || {
                    let victim = Victim::under(&policy);
                    let record = victim.path("record.cbor");
                    Outcome::of(chat(&victim, &url).arg("--record").arg(&record)).answered();
                    std::fs::read(record).unwrap()
                })
            })
            .collect();
        for record in racing.into_iter().map(|racing| racing.join().unwrap()) {
            let Subject::Document(document) = read_all(&record).next().unwrap().unwrap().subject else {
                panic!("no evidence document was recorded")
            };
            let document = EvidenceDocument::decode(document.as_bytes()).unwrap();
            let CpuEvidence::Tdx { quote } = &document.cpu else { panic!("{:?}", document.cpu) };
            shared += usize::from(document.batch.is_some());
            let place = document.batch.map_or(0, |batch| batch.index);
            assert!(places.insert((quote.as_bytes().to_vec(), place)), "two programs in one place");
        }
        if shared > 0 {
            break;
        }
    }
    assert!(shared > 0, "the guest was idle");
    others.iter().for_each(|other| other.abort());
}

/// Over HTTP/2 all share the connection that was attested, over HTTP/1.1 the verdict about its key.
#[test]
fn requests_at_the_same_time_share_one_attestation_of_the_built_guest() {
    let Some(guest) = Guest::start() else { return };
    for attest in ["every-connection", "per-key"] {
        let victim =
            Victim::under(&policy().replace("attest = \"per-key\"", &format!("attest = \"{attest}\"")));
        let record = victim.path("record.cbor");
        let mut command = victim.command("proxy", "--upstream", &guest.url());
        let mut proxy = Proxy::start(command.arg("--record").arg(&record));
        proxy.model = "tiny";
        let proxy = Arc::new(proxy);
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let proxy = Arc::clone(&proxy);
                std::thread::spawn(move || proxy.ask())
            })
            .collect();
        for answer in asking.into_iter().map(|asking| asking.join().unwrap()) {
            assert!(answer.looks_finished(), "{answer:?}");
        }
        let records = read_all(&std::fs::read(&record).unwrap()).count();
        assert_eq!(records, 1, "{attest}");
    }
}
