//! Folders of records: written by the program, audited by the program, and damaged in every way in between.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::hash::sha256;
use confide_evidence::pem::base64_text;
use confide_evidence::receipt::{KeptReceipt, Receipt};
use confide_evidence::record::{FIRST, Record};
use confide_record::{APPRAISALS, Entries, Entry, RECEIPTS};
use confide_testkit::guest::{self, Attestation, Guest, Listening, MODEL, Receipts, WORDS};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A guest that signs, and a folder with a policy that accepts it.
struct Rig {
    guest: Listening,
    folder: TempDir,
}

impl Rig {
    async fn new(receipts: Receipts) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("danger-test.toml"), guest::policy("per-key", 300)).unwrap();
        let guest = Guest::new(0).unwrap().signing(receipts).listen().await.unwrap();
        Self { guest, folder }
    }

    /// A folder in which the same client was told two answers, was refused once and told a third.
    async fn recorded() -> Self {
        let rig = Self::new(Receipts::Honest).await;
        run(rig.chat().args(["--record"]).arg(rig.new_records()).arg("--json").arg("one"), 0);
        run(rig.chat().args(["--record"]).arg(rig.records()).arg("two"), 0);
        let _ = rig.guest.guest.clone().attesting(Attestation::OtherKey);
        run(rig.chat().args(["--record"]).arg(rig.records()).arg("none"), 10);
        let _ = rig.guest.guest.clone().attesting(Attestation::Honest);
        run(rig.chat().args(["--record"]).arg(rig.records()).arg("three"), 0);
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn records(&self) -> PathBuf {
        self.path("records")
    }

    /// The name of a folder that is not there yet.
    fn new_records(&self) -> PathBuf {
        self.path("records/")
    }

    fn command(&self, word: &str, flag: &str) -> Command {
        let mut command = confide();
        command.args([word, flag, &self.guest.url(), "--danger-policy"]).arg(self.path("danger-test.toml"));
        command
    }

    fn chat(&self) -> Command {
        self.command("chat", "--url")
    }

    fn audit(&self) -> Command {
        let mut command = confide();
        command.arg("audit").arg(self.records());
        command
    }

    /// The codes of an audit's findings, which ends with this status.
    fn codes(&self, more: &[&str], status: i32) -> Vec<String> {
        let report = report(self.audit().args(more), status);
        let codes = report["findings"].as_array().unwrap().iter();
        codes.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
    }

    fn entries<E: Entry>(&self, file: &str) -> Vec<E> {
        let file = std::fs::File::open(self.records().join(file)).unwrap();
        Entries::new(file).map(|link| link.unwrap().entry).collect()
    }

    fn write<E: Entry>(&self, file: &str, entries: &[E]) {
        let bytes: Vec<u8> = entries.iter().flat_map(Entry::encode).collect();
        std::fs::write(self.records().join(file), bytes).unwrap();
    }

    /// Writes receipts with their hashes computed anew.
    fn write_chained(&self, mut receipts: Vec<KeptReceipt>) {
        let mut last = FIRST;
        for kept in &mut receipts {
            kept.prev = last;
            last = kept.hash();
        }
        self.write(RECEIPTS, &receipts);
    }

    /// A key pair in two files, with this name before their endings.
    fn keys(&self, name: &str) -> (PathBuf, PathBuf) {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        // RFC 8410 section 4.
        let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let public = [&prefix[..], key.public_key().as_ref()].concat();
        let (private_file, public_file) =
            (self.path(&format!("{name}.pem")), self.path(&format!("{name}.pub")));
        std::fs::write(&private_file, pem("PRIVATE KEY", pkcs8.as_ref())).unwrap();
        std::fs::write(&public_file, pem("PUBLIC KEY", &public)).unwrap();
        (private_file, public_file)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64_text(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn confide() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn run(command: &mut Command, status: i32) -> Output {
    let output = command.output().unwrap();
    let told = (out(&output), err(&output));
    assert_eq!(output.status.code(), Some(status), "{command:?}\n{}\n{}", told.0, told.1);
    output
}

fn report(command: &mut Command, status: i32) -> Value {
    serde_json::from_slice(&run(command.arg("--json"), status).stdout).unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_holds_verdicts_and_receipts_and_the_audit_says_what_happened() {
    let rig = Rig::recorded().await;
    let found = report(&mut rig.audit(), 0);
    assert_eq!((&found["records"]["count"], &found["receipts"]["count"]), (&json!(4), &json!(3)));
    let records: Vec<Record> = rig.entries(APPRAISALS);
    assert_eq!(found["records"]["last"], records[3].hash().to_string());
    let verdicts = found["verdicts"].as_array().unwrap();
    let counted: Vec<_> = verdicts.iter().map(|one| (&one["outcome"], &one["code"], &one["count"])).collect();
    let rejected = (&json!("rejected"), &json!("report_data"), &json!(1));
    assert_eq!(counted, [(&json!("accepted"), &Value::Null, &json!(3)), rejected]);
    let instances = found["instances"].as_array().unwrap();
    assert_eq!(
        (instances.len(), &instances[0]["count"], &instances[0]["accepted"]),
        (1, &json!(4), &json!(3))
    );
    let boots = found["boots"].as_array().unwrap();
    let numbers = |boot: &Value| (boot["lowest"].clone(), boot["highest"].clone(), boot["missing"].clone());
    assert_eq!((boots.len(), numbers(&boots[0])), (1, (json!(0), json!(2), json!(0))));
    assert_eq!(found["findings"], json!([]));
    let told = out(&run(&mut rig.audit(), 0));
    assert!(told.starts_with("SIMULATED NOTHING WRONG  ") && found["simulated"] == true, "{told}");
    for line in ["  4 records, ", "  3 receipts, ", "rejected (report_data): 1, at ", "numbers 0 to 2, none"]
    {
        assert!(told.contains(line), "{line:?} in {told}");
    }
    // The file of records is one as every other.
    run(confide().arg("replay").arg(rig.records().join(APPRAISALS)), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_says_by_which_policies_and_of_which_models_and_takes_one_policy_alone() {
    let rig = Rig::recorded().await;
    let agreed = rig.path("agreed.toml");
    std::fs::copy(rig.path("danger-test.toml"), &agreed).unwrap();
    let text = std::fs::read_to_string(&agreed).unwrap();
    let name = rig.entries::<Record>(APPRAISALS)[0].policy.clone();
    assert_eq!(name, text);
    let policy = ["--policy", agreed.to_str().unwrap()];
    assert_eq!(rig.codes(&policy, 0), Vec::<String>::new());
    let found = report(&mut rig.audit(), 0);
    let hash = sha256(text.as_bytes()).to_string();
    let [by] = found["policies"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!((&by["sha256"], &by["accepted"], &by["count"]), (&json!(hash), &json!(3), &json!(4)));
    let [model] = found["models"].as_array().unwrap().as_slice() else { panic!("{found}") };
    let manifest = receipts(&rig)[0].receipt.manifest.to_string();
    assert_eq!((&model["manifest"], &model["accepted"]), (&json!(manifest), &json!(3)));
    let told = out(&run(&mut rig.audit(), 0));
    let named = format!("  policy {}, SHA-256 {hash}: 3 accepted of 4, ", by["name"].as_str().unwrap());
    assert!(
        told.contains(&named) && told.contains(&format!("  model manifest {manifest}: 3 accepted")),
        "{told}"
    );

    // One more verdict, by a policy that differs by a comment.
    std::fs::write(rig.path("danger-test.toml"), format!("{text}\n# another\n")).unwrap();
    run(rig.chat().arg("--record").arg(rig.records()).arg("four"), 0);
    let found = report(rig.audit().args(policy), 10);
    assert_eq!(found["policies"].as_array().unwrap().len(), 2);
    let finding = json!([found["findings"][0]["code"], found["findings"][0]["where"]]);
    assert_eq!((finding, &found["findings"][1]), (json!(["record_policy", "record 4"]), &Value::Null));
    assert_eq!(rig.codes(&[], 0), Vec::<String>::new());
    let told = err(&run(rig.audit().args(["--policy", "/nonexistent"]), 1));
    assert!(told.contains("[file_unreadable]"), "{told}");
}

type Damage = fn(&Rig);

fn edit_policy(rig: &Rig) {
    let mut records: Vec<Record> = rig.entries(APPRAISALS);
    records[0].policy.push_str("\n# edited\n");
    rig.write(APPRAISALS, &records);
}

fn edit_outcome(rig: &Rig) {
    let mut records: Vec<Record> = rig.entries(APPRAISALS);
    let last = records[3].outcome.take().unwrap();
    records[3].outcome = Some(last.replacen("accepted", "rejected", 1));
    rig.write(APPRAISALS, &records);
}

fn remove_record(rig: &Rig) {
    let mut records: Vec<Record> = rig.entries(APPRAISALS);
    records.remove(1);
    rig.write(APPRAISALS, &records);
}

fn exchange_records(rig: &Rig) {
    let mut records: Vec<Record> = rig.entries(APPRAISALS);
    records.swap(1, 2);
    rig.write(APPRAISALS, &records);
}

fn write_over(rig: &Rig) {
    let path = rig.records().join(APPRAISALS);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] = 0xff;
    std::fs::write(path, bytes).unwrap();
}

/// Makes the quote of the first document longer than the file: one bit, and the entries that follow stand as they were.
fn lengthen(rig: &Rig) {
    let path = rig.records().join(APPRAISALS);
    let mut bytes = std::fs::read(&path).unwrap();
    // A byte string with a length of two bytes becomes one with a length of eight.
    let long = |at: &usize| {
        bytes[*at] == 0x59 && bytes.len() > 3000 && {
            let mut changed = bytes.clone();
            changed[*at] = 0x5b;
            Entries::<_, Record>::new(changed.as_slice())
                .next()
                .unwrap()
                .is_err_and(|error| error.to_string().contains("ends behind the end of the file"))
        }
    };
    let at = (0..bytes.len()).find(long).unwrap();
    bytes[at] = 0x5b;
    std::fs::write(path, bytes).unwrap();
}

fn receipts(rig: &Rig) -> Vec<KeptReceipt> {
    rig.entries(RECEIPTS)
}

fn edit_receipt(rig: &Rig) {
    let mut kept = receipts(rig);
    kept[0].receipt.usage.completion_tokens += 1;
    rig.write(RECEIPTS, &kept);
}

fn remove_receipt(rig: &Rig) {
    let mut kept = receipts(rig);
    kept.remove(1);
    rig.write(RECEIPTS, &kept);
}

fn exchange_receipts(rig: &Rig) {
    let mut kept = receipts(rig);
    kept.swap(1, 2);
    rig.write(RECEIPTS, &kept);
}

/// The changes that follow compute all hashes anew.
fn other_answer(rig: &Rig) {
    let mut kept = receipts(rig);
    kept[1].response = kept[0].response;
    rig.write_chained(kept);
}

fn other_boot(rig: &Rig) {
    let mut kept = receipts(rig);
    kept[1].receipt.boot_id = Bytes([0; 16]);
    rig.write_chained(kept);
}

fn other_key(rig: &Rig) {
    let mut kept = receipts(rig);
    let key = Ed25519KeyPair::generate().unwrap();
    let signature = key.sign(&kept[2].receipt.signing_input(&kept[2].request, &kept[2].response));
    kept[2].receipt.signature = Bytes::try_from(signature.as_ref()).unwrap();
    rig.write_chained(kept);
}

fn repeat(rig: &Rig) {
    let mut kept = receipts(rig);
    kept.push(kept[0].clone());
    rig.write_chained(kept);
}

fn named_record(rig: &Rig, record: Digest) {
    let mut kept = receipts(rig);
    kept[0].record = record;
    rig.write_chained(kept);
}

fn of_no_record(rig: &Rig) {
    named_record(rig, Bytes([7; 32]));
}

fn of_a_refused_one(rig: &Rig) {
    named_record(rig, rig.entries::<Record>(APPRAISALS)[2].hash());
}

fn sent_after_the_verdict(rig: &Rig) {
    let mut kept = receipts(rig);
    kept[0].sent += 86_400;
    rig.write_chained(kept);
}

fn sent_before_the_verdict(rig: &Rig) {
    let mut kept = receipts(rig);
    kept[0].sent -= 86_400;
    rig.write_chained(kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_in_a_folder_is_found() {
    let cases: [(&str, Damage, i32, &str); 18] = [
        ("an edited policy", edit_policy, 10, "record_chain"),
        ("an edited outcome of the last record", edit_outcome, 10, "replay_mismatch"),
        ("a removed record", remove_record, 10, "record_chain"),
        ("exchanged records", exchange_records, 10, "record_chain"),
        ("a record that was written over", write_over, 30, "record_malformed"),
        ("a length that passes the end of the file", lengthen, 30, "record_malformed"),
        ("an edited receipt", edit_receipt, 10, "receipt_invalid"),
        ("a removed receipt", remove_receipt, 10, "record_chain"),
        ("exchanged receipts", exchange_receipts, 10, "record_chain"),
        ("a receipt about another answer", other_answer, 10, "receipt_invalid"),
        ("a receipt of another boot", other_boot, 10, "receipt_invalid"),
        ("a receipt under another key", other_key, 10, "receipt_invalid"),
        ("a receipt that is there twice", repeat, 10, "receipt_repeated"),
        ("a receipt that names no record", of_no_record, 10, "receipt_unvouched"),
        ("a receipt that names a refusal", of_a_refused_one, 10, "receipt_unvouched"),
        ("a request after its verdict", sent_after_the_verdict, 10, "receipt_unvouched"),
        ("a request before its verdict", sent_before_the_verdict, 10, "receipt_unvouched"),
        (
            "an answer without its file of records",
            |rig| rig.write::<Record>(APPRAISALS, &[]),
            10,
            "receipt_unvouched",
        ),
    ];
    let rig = Rig::recorded().await;
    let whole = [APPRAISALS, RECEIPTS].map(|file| std::fs::read(rig.records().join(file)).unwrap());
    assert_eq!(rig.codes(&[], 0), Vec::<String>::new(), "the control");
    for (what, damage, status, code) in cases {
        for (file, bytes) in [APPRAISALS, RECEIPTS].into_iter().zip(&whole) {
            std::fs::write(rig.records().join(file), bytes).unwrap();
        }
        damage(&rig);
        let codes = rig.codes(&[], status);
        assert!(codes.iter().any(|found| found == code), "{what}: {codes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn truncation_and_rewriting_show_against_a_signed_head_alone() {
    let rig = Rig::recorded().await;
    let (private, public) = rig.keys("auditor");
    let head = rig.path("folder.head");
    run(rig.audit().arg("--sign-head").arg(&private).arg("--out").arg(&head), 0);
    let against = ["--head", head.to_str().unwrap(), "--head-key", public.to_str().unwrap()];
    assert_eq!(rig.codes(&against, 0), Vec::<String>::new());
    let (records, kept) = (rig.entries::<Record>(APPRAISALS), receipts(&rig));

    // What is appended later leaves the head valid.
    run(rig.chat().arg("--record").arg(rig.records()).arg("four"), 0);
    let found = report(rig.audit().args(against), 0);
    assert_eq!((&found["receipts"]["count"], &found["head"]["receipts"]), (&json!(4), &json!(3)));
    assert!(out(&run(rig.audit().args(against), 0)).contains(": 4 records, 3 receipts\n"));

    rig.write(RECEIPTS, &kept[..2]);
    assert_eq!((rig.codes(&[], 0), rig.codes(&against, 10)), (vec![], vec!["head_truncated".to_owned()]));
    std::fs::remove_file(rig.records().join(RECEIPTS)).unwrap();
    assert_eq!((rig.codes(&[], 0), rig.codes(&against, 10)), (vec![], vec!["head_truncated".to_owned()]));
    rig.write_chained(vec![kept[1].clone(), kept[0].clone(), kept[2].clone()]);
    assert_eq!((rig.codes(&[], 0), rig.codes(&against, 10)), (vec![], vec!["head_rewritten".to_owned()]));
    // A receipt that is left out, with one more at the end.
    rig.write_chained(vec![kept[0].clone(), kept[2].clone(), kept[1].clone()]);
    assert_eq!((rig.codes(&[], 0), rig.codes(&against, 10)), (vec![], vec!["head_rewritten".to_owned()]));
    rig.write(RECEIPTS, &kept);
    let mut fewer = records;
    fewer.truncate(3);
    rig.write(APPRAISALS, &fewer);
    assert!(rig.codes(&against, 10).contains(&"head_truncated".to_owned()));
}

/// `replay` takes the head of `audit`, and without a key the hash of the last record.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_held_against_the_same_signed_head() {
    let rig = Rig::recorded().await;
    let ((private, public), (_, stranger)) = (rig.keys("auditor"), rig.keys("stranger"));
    let head = rig.path("folder.head");
    run(rig.audit().arg("--sign-head").arg(&private).arg("--out").arg(&head), 0);
    let replay = |words: &[&std::ffi::OsStr], status: i32| {
        err(&run(confide().arg("replay").arg(rig.records().join(APPRAISALS)).args(words), status))
    };
    let against = ["--head".as_ref(), head.as_os_str(), "--head-key".as_ref(), public.as_os_str()];
    replay(&against, 0);
    assert!(replay(&[&against[..3], &[stranger.as_os_str()]].concat(), 10).contains("[head_signature]"));
    assert!(replay(&against[..2], 2).contains("[head_key_missing]"));
    let records = rig.entries::<Record>(APPRAISALS);
    let last = records.last().unwrap().hash().to_string();
    let by_hash = ["--head".as_ref(), last.as_ref()];
    replay(&by_hash, 0);
    // A key says that it is a file, whatever its name.
    assert!(replay(&[&by_hash[..], &against[2..]].concat(), 1).contains("[file_unreadable]"));

    // What is appended later leaves the head valid, which is of the beginning.
    run(rig.chat().arg("--record").arg(rig.records()).arg("four"), 0);
    replay(&against, 0);
    assert!(replay(&by_hash, 10).contains("[replay_head]"));
    rig.write(APPRAISALS, &records[..records.len() - 1]);
    assert!(replay(&against, 10).contains("[head_truncated]"));
    // The last two in another order, with all hashes computed anew.
    let mut other = records.clone();
    let (at, mut prev) = (other.len() - 2, FIRST);
    other.swap(at, at + 1);
    for record in &mut other {
        record.prev = prev;
        prev = record.hash();
    }
    rig.write(APPRAISALS, &other);
    assert!(replay(&against, 10).contains("[head_rewritten]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_signed_over_a_sound_folder_and_taken_from_its_key_alone() {
    let rig = Rig::recorded().await;
    let (private, public) = rig.keys("auditor");
    let (_, stranger) = rig.keys("stranger");
    let head = rig.path("folder.head");
    let sign = |key: &Path| {
        let mut command = rig.audit();
        command.arg("--sign-head").arg(key).arg("--out").arg(&head);
        command
    };
    assert!(err(&run(&mut sign(&public), 30)).contains("[signing_key]"));
    let told = err(&run(&mut sign(&private), 0));
    assert!(told.contains("the signed head is in ") && told.contains(head.to_str().unwrap()), "{told}");
    let written = std::fs::read(&head).unwrap();
    let told = err(&run(&mut sign(&private), 1));
    assert!(told.contains("is there already") && told.contains("[file_unwritable]"), "{told}");
    assert_eq!(std::fs::read(&head).unwrap(), written);
    let against = |head: &Path, key: &Path| {
        let mut command = rig.audit();
        command.arg("--head").arg(head).arg("--head-key").arg(key);
        command
    };
    run(&mut against(&head, &public), 0);
    assert!(err(&run(&mut against(&head, &stranger), 10)).contains("[head_signature]"));
    assert!(err(&run(&mut against(&head, &private), 30)).contains("[head_key]"));
    let bytes = std::fs::read(&head).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        std::fs::write(rig.path("changed.head"), &changed).unwrap();
        let output = against(&rig.path("changed.head"), &public).output().unwrap();
        assert!(matches!(output.status.code(), Some(10 | 30)), "byte {at}");
    }
    std::fs::remove_file(&head).unwrap();
    remove_receipt(&rig);
    run(&mut sign(&private), 10);
    assert!(!head.exists());
    assert!(err(&run(confide().args(["audit", "/nonexistent"]), 1)).contains("[file_unreadable]"));
    run(rig.audit().arg("--head").arg(&head), 2);
    run(rig.audit().arg("--sign-head").arg(&private), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_is_its_users_alone() {
    let rig = Rig::new(Receipts::Honest).await;
    run(rig.chat().arg("--record").arg(rig.new_records()).arg("x"), 0);
    run(rig.chat().arg("--record").arg(rig.path("one.cbor")).arg("x"), 0);
    let (appraisals, kept) = (rig.records().join(APPRAISALS), rig.records().join(RECEIPTS));
    let expected =
        [(rig.records(), 0o700), (appraisals, 0o600), (kept, 0o600), (rig.path("one.cbor"), 0o600)];
    for (path, mode) in expected {
        let found = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}: {found:o}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_passes_the_end_of_the_file_cuts_nothing_off() {
    let rig = Rig::recorded().await;
    lengthen(&rig);
    let changed = std::fs::read(rig.records().join(APPRAISALS)).unwrap();
    let told = err(&run(rig.chat().arg("--record").arg(rig.records()).arg("x"), 30));
    assert!(told.contains("[record_malformed]") && told.contains("another entry begins"), "{told}");
    assert_eq!(std::fs::read(rig.records().join(APPRAISALS)).unwrap(), changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_amid_an_append_leaves_a_folder_that_can_be_audited_and_written_to() {
    let rig = Rig::recorded().await;
    for file in [APPRAISALS, RECEIPTS] {
        let path = rig.records().join(file);
        let whole = std::fs::read(&path).unwrap();
        for part in [&whole[..1], &whole[..whole.len() / 9], &[0; 400]] {
            std::fs::write(&path, [&whole, part].concat()).unwrap();
            let found = report(&mut rig.audit(), 0);
            let torn = [&found["records"]["torn_bytes"], &found["receipts"]["torn_bytes"]];
            assert!(torn.contains(&&json!(part.len())), "{torn:?}");
        }
        assert!(
            out(&run(&mut rig.audit(), 0))
                .contains("; 400 bytes behind the last: an entry that was never written to")
        );
        let (private, _) = rig.keys("auditor");
        let mut sign = rig.audit();
        sign.arg("--sign-head").arg(private).arg("--out").arg(rig.path("torn.head"));
        assert!(err(&run(&mut sign, 10)).contains("[head_torn]") && !rig.path("torn.head").exists());
        let told = err(&run(rig.chat().arg("--record").arg(rig.records()).arg("again"), 0));
        assert!(told.contains("note: moved 400 bytes") && told.contains(&format!("{file}.torn-")), "{told}");
        let names = std::fs::read_dir(rig.records()).unwrap().map(|entry| entry.unwrap());
        let aside =
            names.filter(|entry| entry.file_name().to_str().unwrap().starts_with(&format!("{file}.torn-")));
        let aside: Vec<_> = aside.map(|entry| std::fs::read(entry.path()).unwrap()).collect();
        assert_eq!(aside, [[0; 400]]);
        let found = report(&mut rig.audit(), 0);
        assert_eq!(
            (&found["records"]["torn_bytes"], &found["receipts"]["torn_bytes"]),
            (&json!(0), &json!(0))
        );
    }
    assert_eq!(receipts(&rig).len(), 5);
}

/// A running proxy; it ends when dropped.
struct Proxy {
    child: Child,
    listen: String,
}

impl Proxy {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self { child, listen: ready["listen"].as_str().unwrap().to_owned() }
    }

    fn ask(&self, stream: bool) -> String {
        let body = json!({ "model": MODEL, "messages": [], "stream": stream }).to_string();
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\n", self.listen);
        let length = body.len();
        let mut stream = TcpStream::connect(&self.listen).unwrap();
        let request = format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_keeps_receipts_and_holds_its_folder_for_itself() {
    let rig = Rig::new(Receipts::Honest).await;
    let mut command = rig.command("proxy", "--upstream");
    command.args(["--listen", "127.0.0.1:0", "--receipts", "required", "--record"]).arg(rig.new_records());
    let proxy = Proxy::start(&mut command);
    assert!(proxy.ask(false).contains(&WORDS.concat()));
    assert!(proxy.ask(true).contains("data: [DONE]\n\n"));
    // While it runs, and after it was killed.
    let told = err(&run(rig.chat().arg("--record").arg(rig.records()).arg("x"), 1));
    assert!(told.contains("[record_folder_in_use]"), "{told}");
    assert_eq!(report(&mut rig.audit(), 0)["receipts"]["count"], 2);
    drop(proxy);
    let kept: Vec<Receipt> = receipts(&rig).into_iter().map(|kept| kept.receipt).collect();
    assert_eq!(kept.iter().map(|receipt| receipt.sequence).collect::<Vec<_>>(), [0, 1]);
    run(rig.chat().arg("--record").arg(rig.records()).arg("x"), 0);
    assert_eq!(report(&mut rig.audit(), 0)["receipts"]["count"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_receipts_are_refused_where_they_are_required() {
    let rig = Rig::new(Receipts::None).await;
    run(rig.chat().arg("x"), 0);
    let told = err(&run(rig.chat().args(["--receipts", "required", "x"]), 10));
    assert!(told.contains("[receipt_missing]"), "{told}");
    let told = out(&run(rig.chat().args(["--receipts", "required", "--json", "x"]), 10));
    assert!(told.contains("\"receipt_missing\"") && !told.contains(WORDS[0]), "{told}");
    let mut command = rig.command("proxy", "--upstream");
    let proxy = Proxy::start(command.args(["--listen", "127.0.0.1:0", "--receipts", "required"]));
    let answer = proxy.ask(false);
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("\"receipt_missing\""), "{answer}");
    // One that comes and does not hold is refused in any case.
    let _ = rig.guest.guest.clone().signing(Receipts::OtherKey);
    assert!(err(&run(rig.chat().arg("x"), 10)).contains("[receipt_invalid]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_of_appraisals_is_named_and_beside_receipts_a_finding() {
    let rig = Rig::recorded().await;
    std::fs::remove_file(rig.records().join(APPRAISALS)).unwrap();
    let mut expected = vec!["record_chain"];
    expected.extend(["receipt_unvouched"; 3]);
    assert_eq!(rig.codes(&[], 10), expected);
    let told = out(&run(&mut rig.audit(), 10));
    assert!(told.contains("receipts.cbor is there and appraisals.cbor is missing [record_chain]"), "{told}");
    std::fs::write(rig.records().join(RECEIPTS), b"").unwrap();
    assert_eq!(rig.codes(&[], 10), ["record_chain"]);
    std::fs::remove_file(rig.records().join(RECEIPTS)).unwrap();
    let told = err(&run(&mut rig.audit(), 1));
    assert!(told.contains("appraisals.cbor: ") && told.contains("[file_unreadable]"), "{told}");
}
