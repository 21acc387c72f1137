//! Log lines that say whether the guest is simulated.

use std::io::{self, Write};

use confide_attester::Nature;
use confide_service::logging::{self, Colours, Filter, Format, LogError};

/// Writes events to standard error from now on. Each line of a simulated guest says `SIMULATED`.
///
/// # Errors
/// When events are written elsewhere already.
pub(crate) fn install(format: Format, filter: Filter, nature: Nature) -> Result<(), LogError> {
    match nature {
        Nature::Hardware => logging::install(format, filter),
        Nature::Simulated => {
            let writer = move || Marked { format, out: io::stderr() };
            let subscriber = logging::subscriber(format, filter, Colours::Plain, writer);
            tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadyInstalled)?;
            logging::quiet_panics();
            Ok(())
        }
    }
}

/// Takes whole events, as the subscriber writes them, and marks each line.
struct Marked<W> {
    format: Format,
    out: W,
}

impl<W: Write> Write for Marked<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut marked = Vec::with_capacity(event.len().saturating_add(32));
        for line in event.split_inclusive(|byte| *byte == b'\n') {
            match (self.format, line.split_first()) {
                (Format::Json, Some((b'{', rest))) => {
                    marked.extend_from_slice(b"{\"platform\":\"SIMULATED\",");
                    marked.extend_from_slice(rest);
                }
                _ => {
                    marked.extend_from_slice(b"SIMULATED ");
                    marked.extend_from_slice(line);
                }
            }
        }
        self.out.write_all(&marked)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(format: Format, event: &str) -> String {
        let mut writer = Marked { format, out: Vec::new() };
        writer.write_all(event.as_bytes()).unwrap();
        String::from_utf8(writer.out).unwrap()
    }

    #[test]
    fn every_line_is_marked() {
        assert_eq!(marked(Format::Text, "one\ntwo\n"), "SIMULATED one\nSIMULATED two\n");
        let json = marked(Format::Json, "{\"level\":\"INFO\"}\n");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["platform"], &value["level"]), (&"SIMULATED".into(), &"INFO".into()));
    }
}
