//! `countersign`: everything is in the library; see `cli/mod.rs`.

fn main() -> std::process::ExitCode {
    countersign::cli::main(std::env::args_os())
}
