//! What an attested connection costs while nobody uses it.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use confide_client::{Client, PolicyText};

use crate::resident;

/// Connections that are opened before the first look, and between both.
const BEFORE: usize = 50;
const MORE: usize = 400;

pub(crate) async fn measure(guest: SocketAddr, policy: PolicyText, process: u32) -> Result<()> {
    let client = Client::builder(&format!("https://{guest}"), policy)?.build();
    let mut open = Vec::new();
    let mut look = [(0, 0); 2];
    for (count, look) in [BEFORE, MORE].into_iter().zip(&mut look) {
        for _ in 0..count {
            open.push(client.lease().await.context("the guest was refused")?);
        }
        *look = (resident("self")?, resident(&process.to_string())?);
    }
    let [(ours, theirs), (ours_then, theirs_then)] = look;
    let each = |before: u64, then: u64| then.saturating_sub(before) as f64 / MORE as f64;
    println!("client\t{:.1}", each(ours, ours_then));
    println!("guest\t{:.1}", each(theirs, theirs_then));
    Ok(())
}
