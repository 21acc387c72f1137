//! The clippy bans of the pure crates, checked as text: every call that would let a verdict depend on something
//! other than its arguments is listed in each crate's own `clippy.toml`. And that the client library keeps nothing between
//! its clients: what is global there is listed, with its reason.

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

    /// What a program links to have a client.
    const LIBRARY: [&str; 2] = ["client", "channel"];
    /// What is global in it: file, name, reason.
    const GLOBAL: &[(&str, &str, &str)] = &[
        (
            "crates/channel/src/tls.rs",
            "HTTP1",
            "a configuration of TLS that holds no key and no ticket, made once and never changed",
        ),
        ("crates/channel/src/tls.rs", "BOTH", "the same, for HTTP/2 as well"),
    ];
    /// What makes something global without the word `static`.
    const MACROS: [&str; 3] = ["thread_local!", "lazy_static!", "task_local!"];

    /// The names of what is global in a source, without its unit tests; what has none is named by its line.
    fn globals(source: &str) -> Vec<String> {
        let shipped = source.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = shipped.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        lines
            .filter_map(|line| {
                if MACROS.iter().any(|name| line.contains(name)) {
                    return Some(line.to_owned());
                }
                let (before, name) =
                    line.split_once("static ").filter(|(before, _)| !before.ends_with('\''))?;
                let visible = before.is_empty() || before.starts_with("pub") && before.ends_with(' ');
                let name = name.trim_start_matches("mut ").split(':').next().unwrap_or_default();
                visible.then(|| name.to_owned())
            })
            .collect()
    }

    fn sources(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn the_client_library_has_no_global_state_beside_what_is_listed() {
        let mut files = Vec::new();
        for name in LIBRARY {
            sources(&cargo::root().join("crates").join(name).join("src"), &mut files);
        }
        assert!(files.len() > 30, "{files:?}");
        let found: BTreeSet<(String, String)> = files
            .iter()
            .flat_map(|path| {
                let file = path.strip_prefix(cargo::root()).unwrap().display().to_string();
                globals(&std::fs::read_to_string(path).unwrap())
                    .into_iter()
                    .map(move |name| (file.clone(), name))
            })
            .collect();
        let listed = GLOBAL.iter().map(|(file, name, _)| ((*file).to_owned(), (*name).to_owned())).collect();
        assert_eq!(found, listed, "what is found, and what is listed with a reason");
        assert!(GLOBAL.iter().all(|(.., reason)| !reason.is_empty()));
    }

    #[test]
    fn global_state_is_found_however_it_is_written() {
        for (line, name) in [
            ("static COUNT: AtomicU64 = AtomicU64::new(0);", "COUNT"),
            ("    static mut LAST: u64 = 0;", "LAST"),
            ("pub(crate) static POOL: OnceLock<Pool> = OnceLock::new();", "POOL"),
            ("pub static POOL: LazyLock<Pool> = LazyLock::new(Pool::new);", "POOL"),
            ("thread_local! {", "thread_local! {"),
        ] {
            assert_eq!(globals(line), [name], "{line}");
        }
        for line in [
            "// static COUNT: AtomicU64 = AtomicU64::new(0);",
            "fn code(&self) -> &'static str {",
            "const NAME: &'static str = \"static x\";",
            "impl Future<Output = ()> + Send + 'static {",
            "const A: u8 = 1;\n#[cfg(test)]\nmod tests {\n    static COUNT: AtomicU64 = AtomicU64::new(0);\n}",
        ] {
            assert!(globals(line).is_empty(), "{line}");
        }
    }
}
