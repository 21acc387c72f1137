//! The `confide-broker` program. See the library for what it does.

fn main() -> std::process::ExitCode {
    confide_broker::run()
}
