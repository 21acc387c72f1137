//! The clippy bans of the pure crates, checked as text: every call that would let a verdict depend on something
//! other than its arguments is listed in each crate's own `clippy.toml`.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::cargo;

    const PURE: [&str; 3] = ["evidence", "policy", "verifier"];

    /// A clock, a file, a socket, the environment, a process, a thread, a random draw: one of each at least.
    const METHODS: &[&str] = &[
        "std::time::SystemTime::now",
        "std::time::Instant::now",
        "rustls_pki_types::UnixTime::now",
        "std::fs::read",
        "std::fs::read_to_string",
        "std::fs::write",
        "std::fs::metadata",
        "std::path::Path::exists",
        "std::net::ToSocketAddrs::to_socket_addrs",
        "std::env::var",
        "std::env::var_os",
        "std::env::args",
        "std::env::current_dir",
        "std::process::exit",
        "std::io::stdin",
        "std::io::stdout",
        "std::thread::spawn",
        "std::thread::sleep",
        "rand::random",
        "getrandom::fill",
    ];
    const TYPES: &[&str] = &[
        "std::time::SystemTime",
        "std::time::Instant",
        "std::fs::File",
        "std::fs::OpenOptions",
        "std::net::TcpStream",
        "std::net::TcpListener",
        "std::net::UdpSocket",
        "std::os::unix::net::UnixStream",
        "std::process::Command",
        "std::hash::RandomState",
        "std::collections::HashMap",
        "rand::rngs::OsRng",
    ];

    fn configuration(directory: &str) -> toml::Table {
        let path = cargo::root().join(directory).join("clippy.toml");
        std::fs::read_to_string(path).unwrap().parse().unwrap()
    }

    fn banned(configuration: &toml::Table, list: &str) -> BTreeSet<String> {
        let entries = configuration[list].as_array().unwrap();
        for entry in entries {
            assert!(!entry["reason"].as_str().unwrap().is_empty(), "{entry:?}: a ban without a reason");
        }
        entries.iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_pure_crate_bans_every_impure_call() {
        for name in PURE {
            let configuration = configuration(&format!("crates/{name}"));
            let methods = banned(&configuration, "disallowed-methods");
            let types = banned(&configuration, "disallowed-types");
            assert!(METHODS.iter().all(|path| methods.contains(*path)), "{name}: {methods:?}");
            assert!(TYPES.iter().all(|path| types.contains(*path)), "{name}: {types:?}");
        }
    }

    #[test]
    fn the_pure_crates_share_one_text_that_keeps_the_root_settings() {
        let root = configuration("");
        let first = configuration("crates/evidence");
        for name in PURE {
            assert_eq!(configuration(&format!("crates/{name}")), first, "{name}");
        }
        for (key, value) in &root {
            assert_eq!(first.get(key), Some(value), "{key}");
        }
    }
}
