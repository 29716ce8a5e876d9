//! Which server sentinels name as the master.

use redis::{Cmd, Value, from_redis_value};

use crate::config::HostPort;
use crate::store::error::StoreError;

/// The question for the address of the master that they know as `name`.
pub(super) fn question(name: &str) -> Cmd {
    let mut question = redis::cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(name);
    question
}

/// The address that a sentinel named.
///
/// # Errors
///
/// [`StoreError::Broken`] where it knows no such master.
pub(super) fn read(name: &str, answer: Value) -> Result<HostPort, StoreError> {
    let named: Option<(String, u16)> =
        from_redis_value(answer).map_err(|_| StoreError::Broken("the sentinel named no address".into()))?;
    let (host, port) =
        named.ok_or_else(|| StoreError::Broken(format!("the sentinel knows no master {name:?}")))?;
    Ok(HostPort { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let address = HostPort { host: "10.0.0.1".into(), port: 6379 };
        let answer = Value::Array(vec![bulk("10.0.0.1"), bulk("6379")]);
        assert_eq!(read("main", answer), Ok(address));
    }

    #[test]
    fn anything_else_is_none() {
        let answers = [
            Value::Nil,
            Value::Okay,
            Value::Array(vec![]),
            Value::Array(vec![bulk("10.0.0.1")]),
            Value::Array(vec![bulk("10.0.0.1"), bulk("65536")]),
            Value::Array(vec![bulk("10.0.0.1"), bulk("port")]),
        ];
        for answer in answers {
            let text = format!("{answer:?}");
            assert!(matches!(read("main", answer), Err(StoreError::Broken(_))), "{text}");
        }
    }
}
