//! Which masters a Cluster has.

use redis::{Cmd, Value};

use super::Master;
use crate::config::HostPort;
use crate::store::error::StoreError;

/// No slot has this number or a higher one.
const SLOTS: i64 = 16_384;

/// The question for the masters.
pub(super) fn question() -> Cmd {
    let mut question = redis::cmd("CLUSTER");
    question.arg("SLOTS");
    question
}

/// The masters that the node at `asked` named, each once, with a slot named for
/// it: not the lowest, which are the first to move away.
///
/// # Errors
///
/// [`StoreError::Broken`] where it named none.
pub(super) fn read(asked: &HostPort, answer: &Value) -> Result<Vec<Master>, StoreError> {
    let mut masters: Vec<Master> = Vec::new();
    for range in answer.as_sequence().unwrap_or_default() {
        let Some((slot, address)) = owner(asked, range) else { continue };
        if masters.iter().all(|master| master.address != address) {
            masters.push(Master { address, probe_slot: Some(slot) });
        }
    }
    if masters.is_empty() {
        return Err(StoreError::Broken("the node knows no master with a slot".into()));
    }
    Ok(masters)
}

/// The middle slot of a range, and its master: the first node after its two ends.
fn owner(asked: &HostPort, range: &Value) -> Option<(u16, HostPort)> {
    let [Value::Int(first), Value::Int(last), master, ..] = range.as_sequence()? else { return None };
    let slots = (0..SLOTS).contains(first) && (*first..SLOTS).contains(last);
    let slot = u16::try_from(i64::midpoint(*first, *last)).ok().filter(|_| slots)?;
    let [host, Value::Int(port), ..] = master.as_sequence()? else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        // It doesn't know the name that it is reached by.
        Value::Nil => "",
        _ => return None,
    };
    let host = match host {
        "?" => return None,
        "" | "0.0.0.0" | "::" => &asked.host,
        known => known,
    };
    let port = u16::try_from(*port).ok().filter(|port| *port != 0)?;
    Some((slot, HostPort { host: host.to_owned(), port }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> HostPort {
        HostPort { host: "seed".into(), port: 7000 }
    }

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())])
    }

    fn range(first: i64, nodes: &[Value]) -> Value {
        let mut range = vec![Value::Int(first), Value::Int(first + 10)];
        range.extend_from_slice(nodes);
        Value::Array(range)
    }

    fn named(host: &str, port: i64) -> Value {
        node(Value::BulkString(host.as_bytes().to_vec()), port)
    }

    fn read_all(ranges: Vec<Value>) -> Vec<(String, Option<u16>)> {
        let masters = read(&asked(), &Value::Array(ranges)).unwrap_or_default();
        masters.into_iter().map(|master| (master.address.to_string(), master.probe_slot)).collect()
    }

    #[test]
    fn each_master_once_and_no_replica() {
        let replica = named("10.0.0.9", 6379);
        let ranges = vec![
            range(0, &[named("10.0.0.1", 6379), replica.clone()]),
            range(5000, &[named("10.0.0.2", 6379), replica]),
            range(9000, &[named("10.0.0.1", 6379)]),
        ];
        let masters = [("10.0.0.1:6379".to_owned(), Some(5)), ("10.0.0.2:6379".to_owned(), Some(5005))];
        assert_eq!(read_all(ranges), masters);
    }

    #[test]
    fn a_node_without_a_name_is_the_one_that_was_asked() {
        for host in [Value::Nil, Value::BulkString(vec![]), Value::BulkString(b"0.0.0.0".to_vec())] {
            assert_eq!(read_all(vec![range(7, &[node(host, 7001)])]), [("seed:7001".to_owned(), Some(12))]);
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let odd = [
            Value::Nil,
            Value::Array(vec![]),
            range(0, &[]),
            range(16_384, &[named("10.0.0.1", 6379)]),
            range(-1, &[named("10.0.0.1", 6379)]),
            range(0, &[named("10.0.0.1", 0)]),
            range(0, &[named("10.0.0.1", 65_536)]),
            range(0, &[named("?", 6379)]),
            range(0, &[node(Value::Int(1), 6379)]),
        ];
        for range in odd {
            let text = format!("{range:?}");
            assert!(read(&asked(), &Value::Array(vec![range])).is_err(), "{text}");
        }
        assert!(read(&asked(), &Value::Okay).is_err());
    }
}
