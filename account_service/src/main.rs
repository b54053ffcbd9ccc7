//! Wires the process; everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::service::main("account_service", account_service::start)
}
