//! The arguments of the command line.

use std::process::Command;

#[test]
fn secrets_in_flags_are_refused_and_the_error_names_the_variable() {
    for (flag, value, variable) in [
        ("--redis-password", "open-sesame", "REDIS_PASSWORD"),
        ("--redis-url", "redis://operator:open-sesame@localhost:1", "REDIS_URL"),
        ("--order-redis-url", "redis+unix:///x?user=a&pass=open-sesame", "ORDER_REDIS_URL"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderctl"));
        let output = command.args(["audit", flag, value]).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{said}");
        let set = format!("set the variable {variable}");
        for part in [variable, flag, &set, "REDIS_PASSWORD_FILE"] {
            assert!(said.contains(part), "{flag}: no {part:?} in {said}");
        }
        assert!(!said.contains("open-sesame"), "{said}");
    }
}
