//! Files that cases name, below one folder.

use super::case::{Blob, malformed};
use crate::input;
use crate::status::Failure;
use std::path::{Component, Path, PathBuf};

/// The folder that a run's files lie in.
#[derive(Debug)]
pub(super) struct Files {
    base: PathBuf,
}

impl Files {
    pub(super) fn under(base: PathBuf) -> Self {
        Self { base }
    }

    /// The path of a file that a case names.
    ///
    /// # Errors
    /// `case_malformed` for what leads out of the folder.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = Path::new(name);
        let inside = path.components().all(|component| matches!(component, Component::Normal(_)));
        if name.is_empty() || !inside {
            return Err(malformed(format!("{name:?} is not a path below the base folder")));
        }
        Ok(self.base.join(path))
    }

    /// The bytes of a blob; of a file at most one byte more than `limit`, for the parser to name the size.
    ///
    /// # Errors
    /// A path that leads elsewhere, a file that cannot be read.
    pub(super) fn bytes(&self, blob: &Blob, limit: usize) -> Result<Vec<u8>, Failure> {
        match blob {
            Blob::Hex(hex) => Ok(hex.0.clone()),
            Blob::Base64(base64) => Ok(base64.0.clone()),
            Blob::Text(text) => Ok(text.clone().into_bytes()),
            Blob::Json(value) => Ok(compact(value.get())),
            Blob::File(name) => input::read(&self.path(name)?, limit).map_err(|failure| {
                failure.hint(format!(
                    "files of cases lie below {}; --base names another folder",
                    self.base.display()
                ))
            }),
        }
    }
}

/// JSON without the white space between its tokens (RFC 8259 section 2).
fn compact(json: &str) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    let kept = json.bytes().filter(|byte| {
        let stays = in_string || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
        stays
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_between_tokens_goes_and_in_strings_stays() {
        let read: Blob =
            serde_json::from_str("{ \"json\": {\n\t\"a b\" : [ 1,\r\n \"\\\" c\\\\\" ],  \"d\":\" \" } }")
                .unwrap();
        let bytes = Files::under(PathBuf::new()).bytes(&read, 0).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "{\"a b\":[1,\"\\\" c\\\\\"],\"d\":\" \"}");
    }

    #[test]
    fn files_lie_below_the_base_folder() {
        let files = Files::under(PathBuf::from("/base"));
        assert_eq!(files.path("a/b.bin").unwrap(), Path::new("/base/a/b.bin"));
        for outside in ["", "/etc/passwd", "../a", "a/../../b", "./a"] {
            assert_eq!(files.path(outside).unwrap_err().code(), "case_malformed", "{outside:?}");
        }
    }
}
