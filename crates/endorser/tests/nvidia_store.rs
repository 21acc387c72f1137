//! RIMs, OCSP answers and revocation lists in a folder: imported, carried on, never trusted for being there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, dead_code, missing_docs, reason = "tests")]

use confide_endorser::{
    Change, Imported, Kept, KeptKind, MAX_IMPORT_FILES, NvidiaStore, Prune, RimId, StoreError, now,
};
use confide_evidence::hash::sha256;
use confide_evidence::{hex, pem};
use confide_simulator::{RimOptions, SimulatedGpu, SimulatedNode, SimulatedSwitch};
use confide_testkit::gpu::GpuEvidence;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const DAY: u64 = 86_400;

/// An encoding of DER.
type Encode = fn(&[u8]) -> Vec<u8>;
/// What is done to a file, given another id.
type Damage = fn(&Path, &str);

/// RIM files of the corpus that NVIDIA signed or changed.
const RECORDED: usize = 37;

struct Rig {
    folder: TempDir,
}

impl Rig {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn store(&self) -> NvidiaStore {
        NvidiaStore::at(self.path("store"))
    }

    /// Imports one file.
    fn import(&self, path: &Path) -> Result<(Kept, Change), StoreError> {
        self.store().import(path).unwrap().pop().unwrap().outcome
    }

    fn imported(&self, path: &Path) -> Kept {
        self.import(path).unwrap().0
    }
}

fn code(result: &Result<(Kept, Change), StoreError>) -> &'static str {
    result.as_ref().map_or_else(StoreError::code, |_| "ok")
}

fn rims() -> [RimOptions; 2] {
    SimulatedGpu::new(0).unwrap().rims(now().as_secs())
}

/// Evidence of a machine, and its manifests under their names.
fn machine() -> (GpuEvidence, Vec<(String, Vec<u8>)>) {
    let (node, time) = (SimulatedNode::ppcie(1, 1).unwrap(), now().as_secs());
    let options = node.gpus[0].rims(time).into_iter().chain([node.switches[0].rim(time)]);
    let rims = options.map(|options| (options.id.clone(), options.encode().unwrap())).collect();
    (GpuEvidence::of(&node, [1; 32], time).unwrap(), rims)
}

#[test]
fn manifests_are_taken_under_the_names_of_files() {
    let rig = Rig::new();
    let [driver, vbios] = rims();
    let switch = SimulatedSwitch::new(0).unwrap().rim(now().as_secs());
    let board = vbios.id.strip_prefix("NV_GPU_VBIOS_").unwrap();
    let (driver_document, vbios_document) = (driver.encode().unwrap(), vbios.encode().unwrap());
    for (name, document, id) in [
        (format!("{}.xml", driver.id), &driver_document, &driver.id),
        (format!("{}.swidtag", driver.id), &driver_document, &driver.id),
        ("driver rim.xml".to_owned(), &driver_document, &driver.id),
        (format!("{}.xml", vbios.id), &vbios_document, &vbios.id),
        (format!("{}_PROD.swidtag", board.to_lowercase()), &vbios_document, &vbios.id),
        (format!("{}/anything.xml", vbios.id), &vbios_document, &vbios.id),
        ("switch.xml".to_owned(), &switch.encode().unwrap(), &switch.id),
    ] {
        let kept = rig.imported(&rig.file(&name, document));
        let KeptKind::Rim { id: found, .. } = &kept.kind else { panic!("{name}") };
        assert_eq!(found.as_str(), *id, "{name}");
        let expected = format!("rim/{id}/{}.swidtag", hex::encode(&sha256(document).0));
        assert_eq!(kept.path, rig.store().folder().join(expected));
        assert!(fs::read(&kept.path).unwrap() == *document, "{name}");
        assert_eq!(kept.fetched, None);
    }
    assert_eq!(rig.store().entries().unwrap().len(), 3);
}

#[test]
fn what_a_file_is_not_is_told() {
    let rig = Rig::new();
    let [driver, vbios] = rims();
    let document = driver.encode().unwrap();
    let other = format!("{}.xml", driver.id.replace(&driver.colloquial_version, "550.90.07"));
    for (name, bytes, expected) in [
        ("vbios.xml", vbios.encode().unwrap(), "store_rim_unnamed"),
        (&other, document.clone(), "endorsement_other_object"),
        ("NV_GPU_DRIVER_GB100_580.95.05.xml", document.clone(), "endorsement_other_object"),
        (&format!("{}.xml", vbios.id), document.clone(), "endorsement_other_object"),
        ("a.xml", b"<a/>".to_vec(), "endorsement_malformed"),
        ("b.xml", document[..document.len() - 9].to_vec(), "endorsement_malformed"),
        ("c.xml", [document, vec![b'\n'; 200_000]].concat(), "endorsement_malformed"),
        ("d.crl", b"neither".to_vec(), "store_file_unknown"),
        ("e.ocsp", Vec::new(), "store_file_unknown"),
        ("f.der", vec![0x30, 0], "store_file_unknown"),
        ("g.ocsp", vec![0x30, 3, 0x0a, 1, 6], "store_file_unknown"),
    ] {
        let found = rig.import(&rig.file(name, &bytes));
        assert_eq!(code(&found), expected, "{name}: {found:?}");
        assert!(found.unwrap_err().to_string().contains(name));
    }
    assert_eq!(code(&rig.import(&rig.path("missing.xml"))), "store_failed");
    assert!(rig.store().entries().unwrap().is_empty());
}

#[test]
fn answers_and_lists_are_known_by_their_content_in_any_encoding() {
    let rig = Rig::new();
    let (evidence, _) = machine();
    let encodings: [Encode; 3] =
        [<[u8]>::to_vec, |der| hex::encode(der).into_bytes(), |der| pem::base64_text(der).into_bytes()];
    for der in evidence.answers.iter().chain(&evidence.lists) {
        for (number, encode) in encodings.iter().enumerate() {
            let kept = rig.imported(&rig.file(&format!("{number}.dat"), &encode(der)));
            assert_eq!(fs::read(&kept.path).unwrap(), *der);
            assert!(!matches!(kept.kind, KeptKind::Rim { .. }));
        }
    }
    let entries = rig.store().entries().unwrap();
    assert_eq!(entries.len(), evidence.answers.len() + evidence.lists.len());
}

#[test]
fn a_store_is_carried_on_with_its_dates() {
    let rig = Rig::new();
    let (evidence, rims) = machine();
    for (id, document) in &rims {
        rig.file(&format!("from nvidia/{id}.xml"), document);
    }
    for (number, answer) in evidence.answers.iter().enumerate() {
        rig.file(&format!("from nvidia/answers/{number}.ocsp"), answer);
    }
    for (number, list) in evidence.lists.iter().enumerate() {
        rig.file(&format!("from nvidia/lists/{number}.crl"), list);
    }
    rig.file("from nvidia/README.md", b"left alone");
    let taken = rig.store().import(&rig.path("from nvidia")).unwrap();
    let objects = rims.len() + evidence.answers.len() + evidence.lists.len();
    assert_eq!(taken.len(), objects);
    assert!(taken.iter().all(|found| matches!(found.outcome, Ok((_, Change::Added)))), "{taken:?}");
    let entries = rig.store().entries().unwrap();
    let one = &entries[0];
    fs::write(one.path.with_extension("json"), r#"{"fetched":1769763911,"from":"rim.example:443"}"#).unwrap();
    let carried = NvidiaStore::at(rig.path("carried"));
    let taken = carried.import(rig.store().folder()).unwrap();
    assert!(taken.iter().all(|found| matches!(found.outcome, Ok((_, Change::Added)))), "{taken:?}");
    let again = carried.import(rig.store().folder()).unwrap();
    assert!(again.iter().all(|found| matches!(found.outcome, Ok((_, Change::Known)))), "{again:?}");
    let (before, after) = (rig.store().entries().unwrap(), carried.entries().unwrap());
    assert_eq!(after.len(), objects);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(
            (before.sha256, &before.kind, &before.fetched),
            (after.sha256, &after.kind, &after.fetched)
        );
    }
    assert_eq!(after[0].fetched, Some((1_769_763_911, "rim.example:443".to_owned())));
}

#[test]
fn the_later_of_two_dates_stays() {
    let rig = Rig::new();
    let [driver, _] = rims();
    let name = format!("{}.xml", driver.id);
    let document = driver.encode().unwrap();
    for (fetched, expected) in [(Some(5), 5), (Some(9), 9), (Some(7), 9), (None, 9)] {
        let dates = fetched.map(|fetched| format!(r#"{{"fetched":{fetched},"from":"a:443"}}"#));
        rig.file(&format!("{}.json", driver.id), dates.unwrap_or_default().as_bytes());
        let kept = rig.imported(&rig.file(&name, &document));
        assert_eq!(kept.fetched, Some((expected, "a:443".to_owned())));
        assert_eq!(rig.store().entries().unwrap()[0].fetched, kept.fetched);
    }
}

#[test]
fn damaged_and_misplaced_files_are_as_none() {
    let [driver, vbios] = rims();
    let document = driver.encode().unwrap();
    let id: RimId = driver.id.parse().unwrap();
    let damages: [(&str, Damage); 6] = [
        ("changed", |path, _| fs::write(path, b"<SoftwareIdentity/>").unwrap()),
        ("cut", |path, _| fs::write(path, &fs::read(path).unwrap()[1..]).unwrap()),
        ("renamed", |path, _| fs::rename(path, path.with_file_name("a.swidtag")).unwrap()),
        ("of another extension", |path, _| fs::rename(path, path.with_extension("xml")).unwrap()),
        ("linked", |path, _| {
            let target = path.with_extension("target");
            fs::rename(path, &target).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
        }),
        ("under another id", |path, other| {
            let folder = path.parent().unwrap().with_file_name(other);
            fs::rename(path.parent().unwrap(), folder).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let rig = Rig::new();
        let kept = rig.imported(&rig.file("driver.xml", &document));
        assert_eq!(rig.store().rims(&id).unwrap().len(), 1);
        damage(&kept.path, &vbios.id);
        assert!(rig.store().rims(&id).unwrap().is_empty(), "{what}");
        assert!(rig.store().entries().unwrap().is_empty(), "{what}");
        let (kept, change) = rig.import(&rig.path("driver.xml")).unwrap();
        assert_eq!(change, Change::Added, "{what}");
        assert!(fs::read(&kept.path).unwrap() == document, "{what}");
    }
}

#[test]
fn dates_that_cannot_be_read_are_none() {
    let rig = Rig::new();
    let [driver, _] = rims();
    let kept = rig.imported(&rig.file("driver.xml", &driver.encode().unwrap()));
    for text in ["", "{}", r#"{"fetched":"1","from":"a"}"#, r#"{"fetched":1,"from":"a","x":1}"#] {
        fs::write(kept.path.with_extension("json"), text).unwrap();
        assert_eq!(rig.store().entries().unwrap()[0].fetched, None, "{text}");
    }
}

#[test]
fn files_are_for_their_user_alone() {
    let rig = Rig::new();
    let [driver, _] = rims();
    let kept = rig.imported(&rig.file("driver.xml", &driver.encode().unwrap()));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&kept.path), 0o600);
    assert_eq!(mode(kept.path.parent().unwrap()), 0o700);
    assert_eq!(mode(rig.store().folder()), 0o700);
}

#[test]
fn those_who_write_at_the_same_time_write_the_same() {
    let rig = Rig::new();
    let (_, rims) = machine();
    for (id, document) in &rims {
        rig.file(&format!("in/{id}.xml"), document);
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for found in rig.store().import(&rig.path("in")).unwrap() {
                    found.outcome.unwrap();
                }
            });
        }
    });
    assert_eq!(rig.store().entries().unwrap().len(), rims.len());
    let all = fs::read_dir(rig.store().folder().join("rim")).unwrap();
    let files: usize = all.map(|group| fs::read_dir(group.unwrap().path()).unwrap().count()).sum();
    assert_eq!(files, rims.len(), "nothing was left behind");
}

#[test]
fn what_is_over_is_pruned_and_nothing_else() {
    let rig = Rig::new();
    let (evidence, rims) = machine();
    for (id, document) in &rims {
        rig.imported(&rig.file(&format!("{id}.xml"), document));
    }
    for der in evidence.answers.iter().chain(&evidence.lists) {
        rig.imported(&rig.file("other.dat", der));
    }
    let own = rig.file("store/rim/notes.txt", b"the user's");
    let damaged =
        rig.store().entries().unwrap()[0].path.with_file_name(format!("{}.swidtag", "0".repeat(64)));
    fs::write(&damaged, b"damaged").unwrap();
    let (answers, lists) = (evidence.answers.len(), evidence.lists.len());
    let at = |days: u64| i64::try_from(now().as_secs() + days * DAY).unwrap();
    let prune = |which| rig.store().prune(which).unwrap().objects;
    assert_eq!(prune(Prune::Expired(at(0))), 1, "the damaged one");
    assert_eq!(prune(Prune::Expired(at(2))), answers, "answers are good for a day");
    assert_eq!(prune(Prune::Expired(at(60))), lists, "lists for two months");
    assert_eq!(rig.store().entries().unwrap().len(), rims.len());
    assert_eq!(prune(Prune::Expired(at(366))), rims.len(), "signers for another year");
    rig.imported(&rig.file("other.dat", &evidence.lists[0]));
    assert_eq!(prune(Prune::All), 1);
    assert!(own.exists());
}

#[test]
fn a_folder_is_searched_to_a_depth_and_for_a_number_of_files() {
    let rig = Rig::new();
    let [driver, _] = rims();
    let document = driver.encode().unwrap();
    rig.file("in/1/2/3/4/driver.xml", &document);
    rig.file("in/1/2/3/4/5/driver.xml", &document);
    std::os::unix::fs::symlink(rig.path("in"), rig.path("in/loop")).unwrap();
    std::os::unix::fs::symlink(rig.path("in/1/2/3/4/driver.xml"), rig.path("in/link.xml")).unwrap();
    let taken = rig.store().import(&rig.path("in")).unwrap();
    assert_eq!(taken.len(), 1, "{taken:?}");
    for number in 0..=MAX_IMPORT_FILES {
        rig.file(&format!("many/{number}.crl"), b"");
    }
    let refused = rig.store().import(&rig.path("many")).unwrap_err();
    assert_eq!(refused.code(), "store_too_many_files");
}

#[test]
fn recorded_manifests_and_answers_are_taken() {
    let root = std::env::var_os("CONFIDE_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"), PathBuf::from);
    let corpus = root.join("nvidia");
    if !corpus.join("INDEX.md").is_file() {
        eprintln!("not run: {RECORDED} recorded RIMs: no corpus at {}", root.display());
        return;
    }
    let rig = Rig::new();
    let mut counts = std::collections::BTreeMap::new();
    for folder in [
        "nvidia-nvtrust/rim",
        "google-go-nvattest-tools/hopper-550.90.07-full",
        "nvidia-attestation-sdk/ls10-96.10.55.00.01",
        "nvidia-attestation-sdk/rim",
        "nvidia-attestation-sdk/negative",
    ] {
        for Imported { path, outcome: found } in rig.store().import(&corpus.join(folder)).unwrap() {
            *counts.entry(code(&found)).or_insert(0_usize) += 1;
            if let Ok((kept, _)) = &found {
                assert!(fs::read(&kept.path).unwrap() == fs::read(&path).unwrap(), "{}", path.display());
            }
        }
    }
    for entry in fs::read_dir(corpus.join("google-go-nvattest-tools/hopper-550.90.07-full/ocsp")).unwrap() {
        let kept = rig.imported(&entry.unwrap().path());
        assert!(matches!(kept.kind, KeptKind::Ocsp { .. }));
        *counts.entry("answers").or_insert(0) += 1;
    }
    eprintln!("recorded files: {counts:?}");
    let entries = rig.store().entries().unwrap();
    let ids: std::collections::BTreeSet<&str> = entries
        .iter()
        .filter_map(|kept| match &kept.kind {
            KeptKind::Rim { id, .. } => Some(id.as_str()),
            _ => None,
        })
        .collect();
    for id in [
        "NV_GPU_DRIVER_GH100_550.90.07",
        "NV_GPU_VBIOS_1010_0200_882_96009F0001",
        "NV_GPU_VBIOS_G520_0202_885_96006D0027",
        "NV_SWITCH_BIOS_5612_0002_890_9610550001",
    ] {
        assert!(ids.contains(id), "{id} among {ids:?}");
    }
    // The store does not judge: what is wrongly signed is taken as well. Three files of VBIOSes, which NVIDIA changed for its
    // own tests, are not named for an id.
    let expected = [("answers", 7), ("endorsement_malformed", 1), ("ok", 33), ("store_rim_unnamed", 3)];
    assert_eq!(counts, expected.into());
}
