//! The shim on its own, for this crate's tests. The product has it as `yard process-shim`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(target) = std::env::args_os().nth(1) else {
        eprintln!("usage: yard-process-shim FOLDER");
        return ExitCode::from(2);
    };
    ExitCode::from(u8::try_from(yard_driver_process::shim_main(&target)).unwrap_or(1))
}
