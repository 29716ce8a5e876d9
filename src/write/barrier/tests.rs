use std::collections::BTreeMap;

use super::*;
use crate::postgrest::schema::Schema;
use crate::postgrest::timestamp::Micros;
use crate::store::journal::WriteId;

const DESCRIPTION: &str = r#"{"swagger":"2.0","paths":{},"definitions":{
"users":{"required":["id"],"properties":{"id":{"format":"integer","description":"Note:\nThis is a Primary Key.<pk/>"}}},
"shown":{"properties":{"id":{"format":"integer","description":"Note:\nThis is a Primary Key.<pk/>"}}}}}"#;

const ME: CallerId = CallerId([1; 16]);
const OTHER: CallerId = CallerId([2; 16]);

fn bytes(text: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

fn table_id(relation: &Relation) -> TableId {
    TableId(bytes(&relation.name))
}

fn row_id(relation: &Relation, key: &[KeyPair]) -> RowId {
    RowId(bytes(&format!("{} {}", relation.name, key[0].1)))
}

/// A queued write of `<table> <key>`, by its author.
fn queued(seq: u64, caller: CallerId, row: &str) -> Pending {
    let (table, _) = row.split_once(' ').unwrap();
    Pending {
        seq: Seq(seq),
        id: WriteId(seq.into()),
        caller,
        table: TableId(bytes(table)),
        row: RowId(bytes(row)),
        is_insert: false,
        updated_at: Micros(0),
        accepted_at: Micros(0),
        lane_is_stuck: false,
    }
}

fn insert(seq: u64, caller: CallerId, row: &str) -> Pending {
    Pending { is_insert: true, ..queued(seq, caller, row) }
}

fn stuck(pending: Pending) -> Pending {
    Pending { lane_is_stuck: true, ..pending }
}

fn users() -> Relation {
    Relation::new("public", "users")
}

fn row(id: &str) -> Tag {
    Tag::Row(users(), vec![("id".to_owned(), id.to_owned())])
}

/// A request, and what it touches.
struct Case<'a> {
    method: Method,
    target: Option<Target>,
    touched: &'a [Tag],
    writes: Option<&'a [Relation]>,
    depends_on: Option<&'a [Relation]>,
}

impl Case<'_> {
    fn barrier(&self) -> Barrier {
        let schemas: Schemas =
            BTreeMap::from([("public".to_owned(), Schema::from_openapi(DESCRIPTION.as_bytes()).unwrap())])
                .into_iter()
                .collect();
        let request = Forwarded {
            method: &self.method,
            target: self.target.as_ref(),
            touched: self.touched,
            writes: self.writes,
            depends_on: self.depends_on,
            schemas: &schemas,
            caller: Some(ME),
        };
        Barrier::of(&request, Names { table: &table_id, row: &row_id })
    }
}

fn case<'a>(
    method: Method,
    target: Option<Target>,
    touched: &'a [Tag],
    writes: Option<&'a [Relation]>,
    depends_on: Option<&'a [Relation]>,
    expected: &'a [u64],
) -> (Case<'a>, &'a [u64]) {
    (Case { method, target, touched, writes, depends_on }, expected)
}

#[test]
fn what_could_be_overtaken() {
    let all = [
        queued(1, ME, "users 5"),
        queued(2, OTHER, "users 5"),
        queued(3, OTHER, "users 6"),
        queued(4, ME, "posts 1"),
        insert(5, ME, "tags 1"),
        insert(6, OTHER, "tags 2"),
        queued(7, OTHER, "posts 2"),
    ];
    let (table, list) = (Tag::Table(users()), Tag::List(users()));
    let to_users = || Some(Target::Table(users()));
    let to = |name| Some(Target::Table(Relation::new("public", name)));
    let function = || Some(Target::Function(Relation::new("public", "f")));
    let posts = [Relation::new("public", "posts")];
    let none: &[Tag] = &[];
    let (named, unnamed, whole) = (&[list.clone(), row("5")], &[list], &[table]);
    let cases = [
        case(Method::PATCH, to_users(), named, None, None, &[1, 2, 5]),
        case(Method::DELETE, to_users(), named, None, None, &[1, 2, 5]),
        case(Method::PATCH, to_users(), whole, None, None, &[1, 2, 3, 5]),
        case(Method::PATCH, to_users(), &[Tag::All], None, None, &[1, 2, 3, 5]),
        // An insert without a key gets a new one.
        case(Method::POST, to_users(), unnamed, None, None, &[5]),
        // A trigger writes elsewhere.
        case(Method::PUT, to_users(), named, Some(&posts), None, &[1, 2, 4, 5, 7]),
        // Behind a view.
        case(Method::PATCH, to("shown"), none, Some(&posts), None, &[4, 5, 7]),
        case(Method::PATCH, to("shown"), none, None, Some(&posts), &[4, 5, 7]),
        case(Method::PATCH, to("shown"), none, None, None, &[1, 4, 5]),
        case(Method::POST, function(), none, Some(&posts), None, &[4, 5, 7]),
        case(Method::POST, function(), none, Some(&[]), None, &[]),
        case(Method::POST, function(), none, None, None, &[1, 4, 5]),
        case(Method::POST, Some(Target::GraphQl), none, None, None, &[1, 4, 5]),
        case(Method::POST, None, &[Tag::All], None, None, &[1, 4, 5]),
        case(Method::POST, Some(Target::Storage), none, None, None, &[]),
        case(Method::POST, Some(Target::Other), none, Some(&posts), None, &[4, 5, 7]),
    ];
    for (case, expected) in cases {
        let barrier = case.barrier();
        let seqs: Vec<u64> = barrier.hold(&all).seqs().iter().map(|seq| seq.0).collect();
        assert_eq!(seqs, expected, "{} {:?} {:?}", case.method, case.target, case.touched);
        assert_eq!(barrier.is_empty(), expected.is_empty());
    }
    let read = Case { method: Method::GET, target: function(), touched: &[], writes: None, depends_on: None };
    assert!(read.barrier().is_empty());
}

#[test]
fn how_long_is_waited() {
    let barrier = Case {
        method: Method::DELETE,
        target: Some(Target::Table(users())),
        touched: &[row("5")],
        writes: None,
        depends_on: None,
    }
    .barrier();
    let (mine, theirs, new) =
        (queued(1, ME, "users 5"), queued(2, OTHER, "users 5"), insert(3, ME, "posts 1"));
    let hold = barrier.hold([&mine, &theirs, &new]);
    let blocking = |seqs: &[u64], tables: &[&str]| Blocking {
        seqs: seqs.iter().copied().map(Seq).collect(),
        tables: tables.iter().map(|table| TableId(bytes(table))).collect(),
    };
    // What was accepted after the request came.
    let later = stuck(queued(9, ME, "users 5"));
    for (queued, expected) in [
        (
            vec![mine.clone(), theirs.clone(), new.clone()],
            Judgement::WaitFor(blocking(&[1, 2, 3], &["users", "posts"])),
        ),
        (vec![theirs.clone(), later.clone()], Judgement::WaitFor(blocking(&[2], &["users"]))),
        (vec![mine.clone(), stuck(theirs.clone())], Judgement::WaitFor(blocking(&[1], &["users"]))),
        (vec![stuck(theirs.clone())], Judgement::Clear),
        (vec![later], Judgement::Clear),
        (vec![], Judgement::Clear),
        (vec![stuck(mine), theirs.clone()], Judgement::OnWaitNow(blocking(&[1, 2], &["users"]))),
        (vec![theirs, stuck(new)], Judgement::OnWaitNow(blocking(&[2, 3], &["users", "posts"]))),
    ] {
        assert_eq!(hold.judge(&queued), expected, "{queued:?}");
    }
}

#[test]
fn on_wait_is_that_of_the_tables_that_are_waited_for() {
    let [users, posts, tags] = ["users", "posts", "tags"].map(|name| TableId(bytes(name)));
    let of = |table: TableId| {
        let known = [(users, OnWait::Forward), (posts, OnWait::Reject)];
        known.into_iter().find(|(other, _)| *other == table).map(|(_, on_wait)| on_wait)
    };
    for (tables, expected) in [
        (vec![users], OnWait::Forward),
        (vec![posts], OnWait::Reject),
        (vec![users, posts], OnWait::Reject),
        (vec![users, tags], OnWait::Reject),
    ] {
        let blocking = Blocking { seqs: BTreeSet::new(), tables: tables.into_iter().collect() };
        assert_eq!(blocking.on_wait(of), expected);
    }
}
