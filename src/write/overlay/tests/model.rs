//! A small model of PostgREST: what is corrected is what upstream would say
//! once it had taken the writes.

use std::cmp::Ordering;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The columns of `users` that the model has, and the table's order.
const COLUMNS: [&str; 7] = ["id", "name", "score", "team", "boss", "email", "updated_at"];
/// Those that writes change.
const CHANGED: [&str; 3] = ["name", "score", "email"];

type Row = BTreeMap<&'static str, Value>;

/// A queued write: of which row, whether an insert, and the new values.
type Write = (i64, bool, BTreeMap<&'static str, Value>);

/// A column of the answer: its name there, the column, and whether it is cast.
type Selected = (Option<&'static str>, &'static str, bool);

#[derive(Debug, Clone)]
struct Request {
    /// `None`: no `select`.
    select: Option<Vec<Selected>>,
    counts: bool,
    /// Column, operator and operand.
    filters: Vec<(&'static str, &'static str, String)>,
    /// Filters of which one has to hold.
    either: Vec<(&'static str, &'static str, String)>,
    order: Vec<(&'static str, bool)>,
    limit: Option<usize>,
    offset: Option<usize>,
    head: bool,
}

impl Request {
    fn target(&self) -> String {
        let mut parameters = Vec::new();
        let select = self.select.iter().flatten().map(|(alias, column, is_cast)| {
            let alias = alias.map_or(String::new(), |alias| format!("{alias}:"));
            format!("{alias}{column}{}", if *is_cast { "::text" } else { "" })
        });
        let select: Vec<String> = select.chain(self.counts.then(|| "count()".to_owned())).collect();
        if !select.is_empty() {
            parameters.push(format!("select={}", select.join(",")));
        }
        let spelt =
            |(column, operator, operand): &(&str, &str, String)| format!("{column}.{operator}.{operand}");
        parameters.extend(
            self.filters.iter().map(|(column, operator, operand)| format!("{column}={operator}.{operand}")),
        );
        if !self.either.is_empty() {
            parameters.push(format!("or=({})", self.either.iter().map(spelt).collect::<Vec<_>>().join(",")));
        }
        if !self.order.is_empty() {
            let terms = self.order.iter();
            let terms = terms.map(|(column, down)| format!("{column}{}", if *down { ".desc" } else { "" }));
            parameters.push(format!("order={}", terms.collect::<Vec<_>>().join(",")));
        }
        parameters.extend(self.limit.map(|limit| format!("limit={limit}")));
        parameters.extend(self.offset.map(|offset| format!("offset={offset}")));
        format!("users?{}", parameters.join("&"))
    }

    /// What upstream answers.
    fn answer(&self, rows: &BTreeMap<i64, Row>) -> Vec<String> {
        let fits = |row: &&Row| {
            self.filters.iter().all(|filter| holds(row, filter))
                && (self.either.is_empty() || self.either.iter().any(|filter| holds(row, filter)))
        };
        let mut found: Vec<&Row> = rows.values().filter(fits).collect();
        found.sort_by(|one, other| {
            let compared = self.order.iter().map(|(column, down)| {
                let order = compare(&one[column], &other[column]);
                if *down { order.reverse() } else { order }
            });
            compared.fold(Ordering::Equal, Ordering::then)
        });
        if self.counts {
            return self.groups(&found);
        }
        let page = found.into_iter().skip(self.offset.unwrap_or(0)).take(self.limit.unwrap_or(usize::MAX));
        page.map(|row| format!("{{{}}}", self.fields(row).join(","))).collect()
    }

    fn fields(&self, row: &Row) -> Vec<String> {
        let all: Vec<Selected> = COLUMNS.map(|column| (None, column, false)).to_vec();
        let selected = self.select.as_ref().unwrap_or(&all).iter();
        selected
            .map(|(alias, column, is_cast)| {
                let value = match &row[column] {
                    Value::Number(number) if *is_cast => json!(number.to_string()),
                    value => value.clone(),
                };
                format!("{}:{value}", json!(alias.unwrap_or(column)))
            })
            .collect()
    }

    fn groups(&self, found: &[&Row]) -> Vec<String> {
        let mut groups: Vec<(Vec<String>, usize)> = Vec::new();
        for row in found {
            let fields = if self.select.is_some() { self.fields(row) } else { Vec::new() };
            match groups.iter_mut().find(|(other, _)| *other == fields) {
                Some((_, count)) => *count += 1,
                None => groups.push((fields, 1)),
            }
        }
        let counted = |(fields, count): (Vec<String>, usize)| {
            let fields = fields.into_iter().chain([format!("\"count\":{count}")]);
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        };
        groups.into_iter().map(counted).collect()
    }
}

fn array(rows: &[String]) -> String {
    format!("[{}]", rows.join(", \n "))
}

/// `null` comes last.
fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Greater,
        (_, Value::Null) => Ordering::Less,
        (Value::Number(one), Value::Number(other)) => one.as_i64().cmp(&other.as_i64()),
        (one, other) => one.to_string().cmp(&other.to_string()),
    }
}

fn holds(row: &Row, (column, operator, operand): &(&str, &str, String)) -> bool {
    let value = &row[column];
    let text = match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let compared = match value {
        Value::Number(number) => number.as_i64().cmp(&operand.parse().ok()),
        _ => text.as_str().cmp(operand),
    };
    match *operator {
        "is" => value.is_null(),
        _ if value.is_null() => false,
        "eq" => compared.is_eq(),
        _ => compared.is_gt(),
    }
}

/// What upstream makes of a write, as far as it takes it.
fn apply(rows: &mut BTreeMap<i64, Row>, seq: u64, (id, is_insert, changes): &Write) {
    let stamp = json!(stamp(seq).text(TimestampKind::WithZone));
    if *is_insert && !rows.contains_key(id) {
        // What the body doesn't give is upstream's to say.
        let mut row: Row = COLUMNS.map(|column| (column, json!("by default"))).into();
        row.insert("id", json!(id));
        rows.insert(*id, row);
    } else if *is_insert {
        return;
    }
    if let Some(row) = rows.get_mut(id) {
        row.extend(changes.clone());
        row.insert("updated_at", stamp);
    }
}

fn pending(writes: &[Write]) -> Vec<PendingWrite> {
    let write = |(seq, (id, is_insert, changes)): (u64, &Write)| {
        let (key, changes) = (format!("id={id}"), json!(changes).to_string());
        if *is_insert { insert(seq, "users", &key, &changes) } else { patch(seq, "users", &key, &changes) }
    };
    (1..).zip(writes).map(write).collect()
}

fn value_of(column: &'static str) -> BoxedStrategy<Value> {
    match column {
        "score" => (0_i64..3).prop_map(|score| json!(score)).boxed(),
        _ => prop_oneof![Just(Value::Null), "[abc]".prop_map(|text| json!(text))].boxed(),
    }
}

fn changes() -> impl Strategy<Value = BTreeMap<&'static str, Value>> {
    let changed = prop::sample::subsequence(CHANGED.to_vec(), 1..=2);
    changed.prop_flat_map(|columns| {
        let values: Vec<_> = columns.into_iter().map(|column| (Just(column), value_of(column))).collect();
        values.prop_map(|values| values.into_iter().collect())
    })
}

fn rows() -> impl Strategy<Value = BTreeMap<i64, Row>> {
    let row = (value_of("name"), value_of("score"), value_of("email"), 0_i64..3);
    prop::collection::btree_map(1_i64..6, row, 0..5).prop_map(|rows| {
        let row = |(id, (name, score, email, team)): (i64, (Value, Value, Value, i64))| {
            let columns = [
                ("id", json!(id)),
                ("name", name),
                ("score", score),
                ("team", json!(team)),
                ("boss", Value::Null),
                ("email", email),
                ("updated_at", json!("2020-01-01T00:00:00+00:00")),
            ];
            (id, Row::from(columns))
        };
        rows.into_iter().map(row).collect()
    })
}

fn column() -> impl Strategy<Value = &'static str> + Clone {
    prop::sample::select(COLUMNS.to_vec())
}

fn filter() -> impl Strategy<Value = (&'static str, &'static str, String)> {
    column().prop_flat_map(|column| {
        let operand = match column {
            "id" | "score" | "team" | "boss" => "[0-5]",
            _ => "[abc]",
        };
        let compared = (prop::sample::select(vec!["eq", "gt"]), operand);
        let operator = prop_oneof![4 => compared, 1 => Just(("is", "null".to_owned()))];
        operator.prop_map(move |(operator, operand)| (column, operator, operand))
    })
}

fn request() -> impl Strategy<Value = Request> {
    let alias =
        prop_oneof![5 => Just(None), 1 => prop::sample::select(vec!["called", "name", "id"]).prop_map(Some)];
    let selected = (alias, column(), prop::bool::weighted(0.1));
    let select = prop_oneof![
        2 => Just(None),
        3 => prop::collection::vec(selected.clone(), 1..4).prop_map(Some),
        3 => prop::collection::vec(selected, 1..4).prop_map(|mut columns| {
            columns.insert(0, (None, "id", false));
            Some(columns)
        }),
    ];
    let by_key = prop_oneof![(1_i64..7).prop_map(|id| vec![("id", "eq", id.to_string())]), Just(Vec::new())];
    let filters = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(filter(), 1..3)];
    let either = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(filter(), 1..3)];
    let order =
        prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec((column(), any::<bool>()), 1..3)];
    let window = (prop::option::weighted(0.2, 0_usize..3), prop::option::weighted(0.2, 0_usize..3));
    (select, prop::bool::weighted(0.25), by_key, filters, either, order, window, prop::bool::weighted(0.2))
        .prop_map(|(select, counts, by_key, filters, either, order, (limit, offset), head)| {
            let filters = by_key.into_iter().chain(filters).collect();
            // A group has no order of its own.
            let (order, limit, offset) =
                if counts { (Vec::new(), None, None) } else { (order, limit, offset) };
            Request { select, counts, filters, either, order, limit, offset, head }
        })
}

proptest! {
    #[test]
    fn what_is_corrected_is_what_upstream_will_say(
        rows in rows(),
        writes in prop::collection::vec((1_i64..7, prop::bool::weighted(0.2), changes()), 1..4),
        request in request(),
    ) {
        let mut afterwards = rows.clone();
        (1..).zip(&writes).for_each(|(seq, write)| apply(&mut afterwards, seq, write));
        let (now, then) = (request.answer(&rows), request.answer(&afterwards));
        let read = Read::of(&request.target());
        let read = if request.head { read.head() } else { read };
        match read.correction(&pending(&writes)) {
            Correction::Nothing if request.head => prop_assert_eq!(now.len(), then.len(), "{}", read.query),
            Correction::Nothing => prop_assert_eq!(now, then, "{}", read.query),
            Correction::List(list) => {
                // Two columns of one name make rows that can't be corrected.
                if let Some(corrected) = corrected(&list, &array(&now)) {
                    prop_assert_eq!(corrected, array(&then), "{}", read.query);
                } else {
                    prop_assert!(request.select.as_ref().is_some_and(|select| select.len() > 1));
                }
            }
            Correction::Point(point) => {
                let id: i64 = point.key()[0].value.parse().unwrap();
                let whole = Request { select: None, filters: vec![("id", "eq", id.to_string())], ..request.clone() };
                let base = whole.answer(&rows).first().map(|row| object(row));
                match point.answer(base.as_ref()) {
                    PointAnswer::Absent => prop_assert!(then.is_empty()),
                    answer => prop_assert_eq!(body(answer), Some(array(&then)), "{}", read.query),
                }
            }
            Correction::Wait(seqs) => prop_assert!(!seqs.is_empty()),
        }
    }
}
