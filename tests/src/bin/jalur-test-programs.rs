//! What the harness starts as its children: control planes, daemons and the guard. Cargo builds the binaries of a
//! package for its own integration tests and for no other's, which is why this one is here.

fn main() -> std::process::ExitCode {
    local::main(std::env::args_os())
}
