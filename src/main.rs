//! The program: an outcome becomes an exit code, and nothing else happens here.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    hearken::cli::main(std::env::args_os())
}
