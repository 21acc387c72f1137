//! The `confide` program. See the library for what it does.

fn main() -> std::process::ExitCode {
    confide::run()
}
