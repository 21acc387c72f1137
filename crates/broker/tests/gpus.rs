//! Guests with GPUs: appraised with what the broker's folder has of NVIDIA, which they are given with their keys.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests")]

mod support;

use std::path::Path;

use confide_broker::{Broker, DangerPolicies};
use confide_release::{Profile, ReleaseAnswer, ReleaseRequest};
use confide_simulator::{OcspOptions, SimulatedGpu};
use support::*;

/// The simulator's policy, which asks for all that NVIDIA says of a GPU.
fn strict() -> String {
    let text = policy();
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some((field @ ("rim" | "revocation"), _)) => format!("{field} = \"required\""),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A home with the volume `model` under that policy, and the table that names its folder `gpus`.
async fn home() -> (Home, String) {
    let home = Home::new();
    home.owner().await.add(&id("model"), Profile::Model, &model_image(1), &strict()).await.unwrap();
    std::fs::create_dir(home.path("gpus")).unwrap();
    let table = format!("[gpu_endorsements]\nfolder = \"{}\"", home.path("gpus").display());
    (home, table)
}

/// Writes what endorses the GPU of [`Guest`]: manifests, and an answer for each certificate.
fn endorse(folder: &Path) -> (usize, usize) {
    let now = confide_endorser::now().as_secs();
    // The first GPU of the machine with seed 7.
    let gpu = SimulatedGpu::new(7 * 256).unwrap();
    let manifests = gpu.rims(now);
    let chains = manifests.iter().map(|manifest| manifest.certificates().unwrap());
    let chains = chains.chain([gpu.certificates().to_vec()]);
    let answers: Vec<Vec<u8>> =
        chains.flat_map(|chain| OcspOptions::good(now).answers(&chain).unwrap()).collect();
    for (place, manifest) in manifests.iter().enumerate() {
        std::fs::write(folder.join(format!("{place}.xml")), manifest.encode().unwrap()).unwrap();
    }
    for (place, answer) in answers.iter().enumerate() {
        std::fs::write(folder.join(format!("{place}.ocsp")), answer).unwrap();
    }
    (manifests.len(), answers.len())
}

async fn asked(broker: &Broker, guest: &Guest) -> Result<(ReleaseRequest, ReleaseAnswer), (u16, String)> {
    let nonce = broker.challenge(PEER).await.unwrap().nonce;
    let request = guest.request(&nonce, &["model"]);
    match broker.release(&request.encode(), PEER).await {
        Ok(answer) => Ok((request, ReleaseAnswer::decode(&answer).unwrap())),
        Err(denial) => Err((denial.status.as_u16(), code(&denial).to_owned())),
    }
}

#[tokio::test]
async fn gpus_are_appraised_with_the_folder_and_its_files_are_released() {
    let (home, table) = home().await;
    let guest = Guest::new(&home.identity());
    let refused = || Err((403, "device_rim".to_owned()));
    assert_eq!(asked(&home.broker().await, &guest).await.map(|_| ()), refused(), "without the table");
    let broker = home.broker_with(&table).await;
    assert_eq!(asked(&broker, &guest).await.map(|_| ()), refused(), "from an empty folder");
    // The folder is read each time.
    let (manifests, answers) = endorse(&home.path("gpus"));
    let (request, answer) = asked(&broker, &guest).await.unwrap();
    let verified = answer.verify(home.identity().public(), &request, &guest.recipient).unwrap();
    let given = verified.endorsements().unwrap();
    assert_eq!((given.rims.len(), given.ocsp.len(), given.crls.len()), (manifests, answers, 0));
    // The record of the appraisal has them, so that it can be made again.
    confide_broker::audit::verify(&home.store().await, None).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_staples_its_own_is_appraised_with_that_and_given_nothing() {
    let (home, table) = home().await;
    endorse(&home.path("gpus"));
    let (guest, broker) = (Guest::new(&home.identity()), home.broker_with(&table).await);
    let nonce = broker.challenge(PEER).await.unwrap().nonce;
    let mut document = guest.evidence(&nonce);
    let given = confide_endorser::gpu_endorsements(&home.path("gpus")).unwrap();
    document.endorsements.get_or_insert_default().nvidia = Some(given);
    let document = document.encode().unwrap().into();
    let request = ReleaseRequest { nonce, volumes: vec![id("model")], document };
    let answer = broker.release(&request.encode(), PEER).await.unwrap();
    assert_eq!(ReleaseAnswer::decode(&answer).unwrap().endorsements, None);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_told_at_the_start_and_later_to_who_needs_it() {
    let (home, table) = home().await;
    let broker = home.broker_with(&table).await;
    std::fs::write(home.path("gpus/page.xml"), "<html></html>").unwrap();
    let opened = Broker::open(&home.config(&table), DangerPolicies::Taken).await.map(|_| ());
    assert_eq!(opened.unwrap_err().code(), "gpu_endorsements_invalid");
    let guest = Guest::new(&home.identity());
    let refused = Err((502, "endorsements_failed".to_owned()));
    assert_eq!(asked(&broker, &guest).await.map(|_| ()), refused);
    std::fs::write(home.path("gpus/page.xml"), vec![b' '; confide_endorser::MAX_GPU_STAPLE + 1]).unwrap();
    let opened = Broker::open(&home.config(&table), DangerPolicies::Taken).await.map(|_| ());
    assert_eq!(opened.unwrap_err().code(), "gpu_endorsements_too_large");
    let missing = table.replace("/gpus\"", "/none\"");
    let opened = Broker::open(&home.config(&missing), DangerPolicies::Taken).await.map(|_| ());
    assert_eq!(opened.unwrap_err().code(), "gpu_endorsements_unreadable");
}
