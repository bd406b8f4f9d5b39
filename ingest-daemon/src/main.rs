//! The program; everything is in the library, so that the local stack can run it as itself.

fn main() -> std::process::ExitCode {
    ingest_daemon::main(std::env::args_os())
}
