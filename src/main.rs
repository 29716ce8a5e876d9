//! Arguments, runtime and exit code; everything else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice::cli::run()
}
