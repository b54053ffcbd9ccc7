//! Wires the process; everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::service::main("order_service", order_service::start)
}
