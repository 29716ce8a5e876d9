//! Arguments, runtime and exit code; everything else is the library's.

use std::process::ExitCode;

/// Requests allocate small things and free them on other threads, which costs less here than in the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice::cli::run()
}
