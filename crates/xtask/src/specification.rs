//! `docs/specification.md` names tests; each of them must exist.

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::cargo;

    /// The `FILE::TEST` references of a text: between backquotes, with a file's extension before the colons.
    fn references(text: &str) -> Vec<(&str, &str)> {
        let quoted = text.split('`').skip(1).step_by(2);
        quoted.filter_map(|one| one.split_once("::")).filter(|(file, _)| file.contains('/')).collect()
    }

    fn is_there(root: &Path, (file, test): (&str, &str)) -> bool {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        text.contains(&format!("fn {test}(")) || text.contains(&format!("def {test}("))
    }

    #[test]
    fn every_test_that_the_specification_names_exists() {
        let root = cargo::root();
        let text = std::fs::read_to_string(root.join("docs/specification.md")).unwrap();
        let references = references(&text);
        assert!(references.len() > 40, "only {} references were read", references.len());
        let missing: Vec<_> = references.into_iter().filter(|one| !is_there(&root, *one)).collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn a_test_that_does_not_exist_is_missed() {
        let text =
            "| promise | `crates/xtask/src/specification.rs::nobody_wrote_this`, and `cargo xtask test` |";
        assert_eq!(references(text), [("crates/xtask/src/specification.rs", "nobody_wrote_this")]);
        let root = cargo::root();
        assert!(!is_there(&root, ("crates/xtask/src/layers.rs", "nobody_wrote_this")));
        assert!(is_there(
            &root,
            ("crates/xtask/src/specification.rs", "a_test_that_does_not_exist_is_missed")
        ));
    }
}
