//! `jalur`: what `cargo run` starts.

fn main() -> std::process::ExitCode {
    local::main(std::env::args_os())
}
