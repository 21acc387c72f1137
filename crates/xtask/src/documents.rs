//! Sources and documents name documents; each of them must exist.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use crate::cargo;

    /// Where a name may stand: everything that is committed as text, the folder of what was built aside.
    const READ: [&str; 6] = ["crates", "docs", "deploy", "fixtures", "policies", "tests"];
    const ENDINGS: [&str; 6] = ["cddl", "md", "py", "rs", "sh", "toml"];
    /// A name that is no document's: it belongs to the tests of this file.
    const MADE_UP: &str = concat!("docs/", "nobody-wrote-this.md");

    /// The paths of documents below `docs` in a text.
    fn documents(text: &str) -> BTreeSet<&str> {
        let starts = text.match_indices("docs/").map(|(at, _)| &text[at..]);
        starts.filter_map(named).collect()
    }

    /// The path at the beginning of a text.
    fn named(rest: &str) -> Option<&str> {
        let of_a_path = |one: char| one.is_ascii_alphanumeric() || "/_-.".contains(one);
        let path = rest.split(|one| !of_a_path(one)).next()?.trim_end_matches('.');
        // Files of runs are named for their day: what stands for it in a text names no file.
        (path.ends_with(".md") && !path.contains("DATE")).then_some(path)
    }

    fn texts(root: &Path) -> Vec<PathBuf> {
        let mut open: Vec<PathBuf> = READ.iter().map(|name| root.join(name)).collect();
        let mut found: Vec<PathBuf> = files(root);
        while let Some(folder) = open.pop() {
            found.extend(files(&folder));
            let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
            open.extend(
                entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()),
            );
        }
        found
    }

    /// The texts directly in a folder.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let text = |path: &PathBuf| {
            path.extension().and_then(|ending| ending.to_str()).is_some_and(|one| ENDINGS.contains(&one))
        };
        entries.filter(|path| path.is_file() && text(path)).collect()
    }

    #[test]
    fn every_document_that_is_named_exists() {
        let root = cargo::root();
        let (mut named, mut missing) = (0, Vec::new());
        for path in texts(&root) {
            let text = std::fs::read_to_string(&path).unwrap();
            for document in documents(&text) {
                named += 1;
                if !root.join(document).is_file() {
                    missing.push(format!("{}: {document}", path.strip_prefix(&root).unwrap().display()));
                }
            }
        }
        assert!(named > 20, "only {named} names were found");
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn a_document_that_does_not_exist_is_missed() {
        let text =
            format!("See [`{MADE_UP}`]({MADE_UP}), docs/policy.md. And docs/a.json, docs/runs/DATE.md.");
        assert_eq!(documents(&text), BTreeSet::from([MADE_UP, "docs/policy.md"]));
        assert!(!cargo::root().join(MADE_UP).is_file() && cargo::root().join("docs/policy.md").is_file());
        assert!(texts(&cargo::root()).iter().any(|path| path.ends_with("crates/verifier/src/ear.rs")));
    }
}
