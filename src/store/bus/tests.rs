use super::*;

#[test]
fn every_slot_has_a_probe_key() {
    let names = Names::new("ns");
    for slot in (0..16_384).step_by(97).chain([16_383]) {
        let key = probe_key(&names, Some(slot));
        assert_eq!(Slot::for_key(&key), Slot::new(slot).unwrap(), "{slot}");
    }
    assert_eq!(probe_key(&names, None), b"ns:bus:{0}");
}

#[test]
fn an_answer_begins_with_the_replication_id() {
    let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    let hex = "0123456789abcdef0123456789abcdef01234567";
    let id = ReplicationId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    assert_eq!(replication_id(&[text(hex), text("more")]), Ok(id));
    for answer in [vec![], vec![Value::Nil], vec![text("no id")], vec![Value::Int(1), text(hex)]] {
        assert!(replication_id(&answer).is_err(), "{answer:?}");
    }
}
