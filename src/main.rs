//! The `weir` binary: see [`weir::cli`].

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
