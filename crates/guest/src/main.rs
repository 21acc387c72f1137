//! The `confide-guest` program. See the library for what it does.

fn main() -> std::process::ExitCode {
    confide_guest::run()
}
