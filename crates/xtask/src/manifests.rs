//! What the manifests name is used, and what they share is the same.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use crate::cargo;

    const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    /// Packages whose library has another name.
    const RENAMED: [(&str, &str); 1] = [("rustls-webpki", "webpki")];
    /// Development dependencies of files that lie in another package and are included by their path.
    const BY_PATH: [(&str, &str, &str); 2] = [
        ("guest", "rand", "crates/engine/tests/support/mod.rs"),
        ("guest", "safetensors", "crates/engine/tests/support/mod.rs"),
    ];

    /// Packages that call or play a vendor's C library, make calls of the kernel that have no safe form, or use vector
    /// instructions: `unsafe` needs an exception of its module and a SAFETY comment.
    const WITH_UNSAFE: [&str; 5] = ["attester", "egress", "engine", "nvidia-emulator", "volume"];

    /// Packages that read no bytes of strangers: what plays devices and attackers, makes fixtures or runs tasks.
    const WITHOUT_STRANGERS: [&str; 5] = ["fuzz", "nvidia-emulator", "simulator", "testkit", "xtask"];
    /// What a package that reads them is held to beyond the lints of the workspace.
    const PARSING: [&str; 3] = ["indexing_slicing", "arithmetic_side_effects", "as_conversions"];

    fn manifest(path: &Path) -> toml::Table {
        std::fs::read_to_string(path).unwrap().parse().unwrap()
    }

    /// The name of each package's folder, and its manifest.
    fn packages() -> Vec<(String, toml::Table)> {
        let entries = std::fs::read_dir(cargo::root().join("crates")).unwrap().map(|entry| entry.unwrap());
        let read = |entry: std::fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), manifest(&entry.path().join("Cargo.toml")))
        };
        entries.filter(|entry| entry.path().join("Cargo.toml").is_file()).map(read).collect()
    }

    /// The names in one kind of table, also of those for one platform.
    fn names<'a>(package: &'a toml::Table, kind: &str) -> BTreeSet<&'a str> {
        let platforms = package.get("target").and_then(toml::Value::as_table);
        let of_platforms =
            platforms.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table);
        let tables =
            std::iter::once(package).chain(of_platforms).filter_map(|table| table.get(kind)?.as_table());
        tables.flat_map(toml::Table::keys).map(String::as_str).collect()
    }

    /// Every Rust source below a folder, in one text.
    fn sources(folder: &Path) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                text.push_str(&sources(&entry));
            } else if entry.extension().is_some_and(|ending| ending == "rs") {
                text.push_str(&std::fs::read_to_string(entry).unwrap());
            }
        }
        text
    }

    /// The modules below a folder of sources whose files have all of these words, as `PACKAGE::MODULE`.
    fn modules_with(folder: &Path, module: &str, words: &[&str]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_stem().unwrap().to_str().unwrap();
            if path.is_dir() {
                found.append(&mut modules_with(&path, &format!("{module}::{name}"), words));
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let inner = text.lines().skip_while(|line| !line.starts_with("#![expect("));
                let exception: String = inner.take_while(|line| !line.is_empty()).collect();
                if words.iter().all(|word| exception.contains(word)) {
                    found.insert(if name == "mod" { module.to_owned() } else { format!("{module}::{name}") });
                }
            }
        }
        found
    }

    /// The names in backticks of the one line of `ARCHITECTURE.md` that begins so.
    fn listed(begin: &str) -> BTreeSet<String> {
        let text = std::fs::read_to_string(cargo::root().join("ARCHITECTURE.md")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(begin)).unwrap();
        line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    fn mentions(text: &str, package: &str) -> bool {
        let library =
            RENAMED.iter().find(|(name, _)| *name == package).map_or(package, |(_, library)| library);
        let library = library.replace('-', "_");
        let of_a_word = |one: char| one.is_alphanumeric() || one == '_';
        text.split(|one| !of_a_word(one)).any(|word| word == library)
    }

    #[test]
    fn every_workspace_dependency_is_used_by_some_crate() {
        let root = manifest(&cargo::root().join("Cargo.toml"));
        let packages = packages();
        let used: BTreeSet<&str> = packages
            .iter()
            .flat_map(|(_, package)| TABLES.map(|kind| names(package, kind)))
            .flatten()
            .collect();
        let known = root["workspace"]["dependencies"].as_table().unwrap();
        let unused: Vec<_> = known.keys().filter(|name| !used.contains(name.as_str())).collect();
        assert!(known.len() > 40 && unused.is_empty(), "{unused:?}");
    }

    #[test]
    fn every_dependency_of_a_crate_is_named_in_its_sources() {
        let root = cargo::root();
        let (mut seen, mut unused) = (0, Vec::new());
        for (folder, package) in packages() {
            let mut text = sources(&root.join("crates").join(&folder));
            if folder == "confide" {
                text.push_str(&sources(&root.join("tests")));
            }
            for name in TABLES.iter().flat_map(|kind| names(&package, kind)) {
                seen += 1;
                let by_path = BY_PATH.iter().find(|(crate_, one, _)| *crate_ == folder && *one == name);
                let found = match by_path {
                    Some((_, _, path)) => mentions(&std::fs::read_to_string(root.join(path)).unwrap(), name),
                    None => mentions(&text, name),
                };
                if !found {
                    unused.push(format!("{folder}: {name}"));
                }
            }
        }
        assert!(seen > 100 && unused.is_empty(), "{seen} dependencies: {unused:#?}");
    }

    #[test]
    fn unsafe_code_is_forbidden_but_where_c_libraries_the_kernel_or_vector_instructions_are_called() {
        let root = manifest(&cargo::root().join("Cargo.toml"));
        let lints = root["workspace"]["lints"].as_table().unwrap();
        assert_eq!(lints["rust"]["unsafe_code"].as_str(), Some("forbid"));
        let mut denied = lints.clone();
        denied["rust"].as_table_mut().unwrap().insert("unsafe_code".into(), "deny".into());
        denied["clippy"].as_table_mut().unwrap().insert("undocumented_unsafe_blocks".into(), "deny".into());
        for (folder, package) in packages() {
            let own = package["lints"].as_table().unwrap();
            if WITH_UNSAFE.contains(&folder.as_str()) {
                assert_eq!(own, &denied, "crates/{folder} has other lints than the workspace");
            } else {
                let inherited = own.get("workspace").and_then(toml::Value::as_bool);
                assert_eq!(inherited, Some(true), "crates/{folder} has lints of its own");
            }
        }
    }

    #[test]
    fn what_reads_bytes_of_strangers_neither_indexes_nor_overflows() {
        let (mut held, mut exceptions) = (BTreeSet::new(), BTreeSet::new());
        for (folder, _) in packages() {
            let sources = cargo::root().join("crates").join(&folder).join("src");
            if WITHOUT_STRANGERS.contains(&folder.as_str()) {
                continue;
            }
            let root = std::fs::read_to_string(sources.join("lib.rs")).unwrap();
            let lints = PARSING.map(|lint| format!("clippy::{lint}")).join(", ");
            assert!(root.contains(&format!("not(test),\n    warn({lints})")), "crates/{folder}: {lints}");
            for lint in PARSING {
                exceptions.append(&mut modules_with(&sources, &folder, &[lint]));
            }
            held.insert(folder);
        }
        assert_eq!(listed("- Whole crates: "), held);
        assert_eq!(listed("- Modules that are an exception: "), exceptions);
    }

    #[test]
    fn the_modules_with_unsafe_code_are_those_of_the_map() {
        let mut found = BTreeSet::new();
        for folder in WITH_UNSAFE {
            let sources = cargo::root().join("crates").join(folder).join("src");
            found.append(&mut modules_with(&sources, folder, &["unsafe_code"]));
        }
        assert_eq!(listed("- `unsafe` stands in "), found);
    }

    #[test]
    fn a_name_within_another_is_no_mention() {
        assert!(
            mentions("use serde_json::Value;", "serde-json") && !mentions("use serde_json::Value;", "serde")
        );
        assert!(mentions("webpki::aws_lc_rs", "rustls-webpki") && !mentions("", "anyhow"));
    }
}
