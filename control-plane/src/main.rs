//! The control plane's program.

fn main() -> std::process::ExitCode {
    control_plane::main(std::env::args_os())
}
