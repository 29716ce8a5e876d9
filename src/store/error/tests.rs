use redis::parse_redis_value;

use super::*;

/// As the client library reports what a server wrote.
fn reported(line: &str) -> RedisError {
    let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
    value.extract_error().unwrap_err()
}

/// What Redis 7.0 writes, unless it says otherwise.
const LINES: &[(&str, &str)] = &[
    ("OOM command not allowed when used memory > 'maxmemory'.", "full"),
    ("OOM command not allowed when used memory > 'maxmemory'. script: 1f8f, on @user_script:1.", "full"),
    ("READONLY You can't write against a read only replica.", "read_only"),
    ("READONLY You can't write against a read only replica. script: 7192, on @user_script:1.", "read_only"),
    ("READONLY not a master", "read_only"),
    ("NOREPLICAS Not enough good replicas to write. script: 7192, on @user_script:1.", "read_only"),
    ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist", "read_only"),
    ("NOAUTH Authentication required.", "refused"),
    ("WRONGPASS invalid username-password pair or user is disabled.", "refused"),
    ("NOPERM this user has no permissions to run the 'subscribe' command", "refused"),
    (
        "ERR The user executing the script can't run this command or subcommand script: a8e0, on @user_script:1.",
        "refused",
    ),
    ("LOADING Redis is loading the dataset in memory", "unavailable"),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", "unavailable"),
    ("CLUSTERDOWN The cluster is down", "unavailable"),
    ("TRYAGAIN Multiple keys request during rehashing of slot", "unavailable"),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "unavailable"),
    ("MOVED 3999 127.0.0.1:6381", "broken"),
    ("ERR user_script:1: boom script: 8290, on @user_script:1.", "broken"),
    ("ERR This instance has cluster support disabled", "broken"),
    // Redis 6.2.
    (
        "ERR Error running script (call to f_71): @user_script:1: @user_script: 1: -OOM command not allowed",
        "full",
    ),
    (
        "ERR Error running script (call to f_71): @user_script:1: -READONLY You can't write against a replica.",
        "read_only",
    ),
    ("ERR Error running script (call to f_71): @user_script:1: user_script:1: boom", "broken"),
];

#[test]
fn what_servers_write_is_sorted() {
    for (line, kind) in LINES {
        assert_eq!(StoreError::of(&reported(line)).kind(), *kind, "{line}");
    }
}

#[test]
fn what_happens_to_connections_is_sorted() {
    use std::io::{Error, ErrorKind::*};
    for (error, kind) in [(TimedOut, "timeout"), (ConnectionRefused, "broken"), (UnexpectedEof, "broken")] {
        assert_eq!(StoreError::of(&RedisError::from(Error::from(error))).kind(), kind);
    }
    let refused = RedisError::from((ErrorKind::AuthenticationFailed, "Password authentication failed"));
    assert_eq!(StoreError::of(&refused).kind(), "refused");
}

#[test]
fn the_text_says_what_the_server_said() {
    let error = StoreError::of(&reported("WRONGPASS invalid username-password pair or user is disabled."));
    let text = "Redis refused: WRONGPASS invalid username-password pair or user is disabled.";
    assert_eq!(error.to_string(), text);
}

#[test]
fn credentials_that_a_server_repeats_are_not_shown() {
    let lines = [
        "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'hunter2' ",
        "ERR unknown command `AUTH`, with args beginning with: `hunter2`, ",
    ];
    for line in lines {
        let error = StoreError::of(&reported(line));
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{line}");
    }
}

#[test]
fn the_text_is_short_and_has_no_control_characters() {
    let StoreError::Broken(text) = StoreError::of(&reported(&format!("ERR \u{1b}[31m{}", "x".repeat(9999))))
    else {
        panic!("the kind of an unknown error");
    };
    assert_eq!(text.chars().count(), MAX_TEXT);
    assert!(!text.contains('\u{1b}'));
}
