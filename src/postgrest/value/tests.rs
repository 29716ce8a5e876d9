use proptest::prelude::*;

use super::*;

fn declared(format: &str) -> ColumnType {
    ColumnType::declared(format, None, None)
}

fn value(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn canonical(column: &ColumnType, json: &str) -> Option<String> {
    column.canonical(&value(json)).map(|value| value.get().to_owned())
}

#[track_caller]
fn prints(format: &str, cases: &[(&str, &str)]) {
    for (json, expected) in cases {
        assert_eq!(canonical(&declared(format), json).as_deref(), Some(*expected), "{format} {json}");
    }
}

#[track_caller]
fn refuses(format: &str, cases: &[&str]) {
    for json in cases {
        assert_eq!(canonical(&declared(format), json), None, "{format} {json}");
    }
}

#[test]
fn null_is_a_value_of_every_type() {
    for format in ["uuid", "numeric", "jsonb", "text[]", "citext", ""] {
        prints(format, &[("null", "null")]);
    }
    assert_eq!(canonical(&ColumnType::Enum(vec![]), "null").as_deref(), Some("null"));
}

#[test]
fn unknown_types_hold_nothing_else() {
    for format in
        ["character", "bytea", "interval", "citext", "public.mood", "public.mood[]", "time without time zone"]
    {
        assert_eq!(declared(format), ColumnType::Unknown, "{format}");
        refuses(format, &["1", r#""a""#, "true", "[]", "{}"]);
    }
    for format in ["character varying[]", "numeric[]", "json[]", "jsonb[]", "text[][]"] {
        assert_eq!(declared(format), ColumnType::Unknown, "{format}");
    }
}

#[test]
fn a_numeric_may_be_rounded() {
    refuses("numeric", &["0", "1.5", "1e3", r#""NaN""#, r#""1""#]);
}

#[test]
fn uuids() {
    let uuid = r#""abcdefab-0000-1111-2222-333344445555""#;
    prints(
        "uuid",
        &[
            (r#""ABCDEFAB-0000-1111-2222-333344445555""#, uuid),
            (r#""{abcdefab000011112222333344445555}""#, uuid),
        ],
    );
    refuses("uuid", &[r#""""#, r#""abcdefab""#, "1", "true", r#"["abcdefab-0000-1111-2222-333344445555"]"#]);
}

#[test]
fn integers() {
    prints(
        "integer",
        &[("5", "5"), ("-0", "0"), ("-2147483648", "-2147483648"), (r#""05""#, "5"), (r#"" +5""#, "5")],
    );
    prints("bigint", &[("9223372036854775807", "9223372036854775807")]);
    refuses(
        "integer",
        &["5.0", "5e0", "2147483648", "-2147483649", "true", r#""""#, r#""5.0""#, r#""0x5""#, "[5]", "{}"],
    );
    refuses("smallint", &["32768", "-32769"]);
    refuses("bigint", &["9223372036854775808", "123456789012345678901234567890"]);
}

#[test]
fn floats() {
    prints(
        "double precision",
        &[
            ("1.50", "1.5"),
            ("-3", "-3"),
            ("0", "0"),
            ("0.000", "0"),
            ("-0", "-0"),
            ("0.1000000000000000055511151231257827", "0.1"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("0.0001", "0.0001"),
            ("999999999999999.9", "999999999999999.9"),
            ("1e3", "1000"),
            ("149367069019279.625", "149367069019279.62"),
            ("-149367069019279.375", "-149367069019279.38"),
        ],
    );
    prints(
        "real",
        &[
            ("0.1", "0.1"),
            ("16777.217", "16777.217"),
            ("3.14159265", "3.1415927"),
            ("999999.9", "999999.9"),
            ("515801.625", "515801.62"),
            ("-131287.375", "-131287.38"),
        ],
    );
    let tiny = format!("0.{}1", "0".repeat(400));
    refuses(
        "double precision",
        &["1e15", "1000000000000000", "0.00009", "1e400", &tiny, "0e5", r#""1.5""#, r#""NaN""#, "true"],
    );
    refuses("real", &["1000000", "0.00009", "1e39"]);
}

#[test]
fn booleans() {
    prints("boolean", &[("true", "true"), ("false", "false")]);
    refuses("boolean", &["1", "0", r#""true""#, r#""t""#, "[true]"]);
}

#[test]
fn texts() {
    prints(
        "text",
        &[
            (r#""""#, r#""""#),
            (r#"" \u00fc\/\ud83d\ude00 ""#, r#"" ü/😀 ""#),
            (r#""\u0008\u0009\u000a\u000c\u000d\u0022\u005c""#, r#""\b\t\n\f\r\"\\""#),
            (r#""\u001F\u007f\u2028""#, "\"\\u001f\u{7f}\u{2028}\""),
        ],
    );
    refuses("text", &[r#""a\u0000b""#, r#""\ud83d""#, r#""\ude00\ud83d""#, "5", "true", "[]", "{}"]);
    let short = ColumnType::declared("character varying", Some(2), None);
    assert_eq!(canonical(&short, r#""é\ud83d\ude00""#).as_deref(), Some(r#""é😀""#));
    assert_eq!(canonical(&short, r#""abc""#), None);
    assert_eq!(canonical(&short, r#""ab ""#), None);
    prints("character varying", &[(r#""abc""#, r#""abc""#)]);
}

#[test]
fn timestamps_and_dates() {
    let moment = r#""2026-02-01T12:30:00.12+00:00""#;
    prints(
        "timestamp with time zone",
        &[(r#""2026-02-01T12:30:00.120Z""#, moment), (r#""2026-02-01 14:30:00.12+02:00""#, moment)],
    );
    refuses(
        "timestamp with time zone",
        &[
            r#""2026-02-01T12:30:00""#,
            r#""2026-02-01T12:30:00.1234567Z""#,
            r#""infinity""#,
            r#""now""#,
            "1769904000",
        ],
    );
    prints(
        "timestamp without time zone",
        &[
            (r#""2026-02-01T12:30:00.000Z""#, r#""2026-02-01T12:30:00""#),
            (r#""2026-02-01 12:30:00""#, r#""2026-02-01T12:30:00""#),
        ],
    );
    prints("date", &[(r#""2024-02-29""#, r#""2024-02-29""#)]);
    refuses("date", &[r#""2023-02-29""#, r#""2024-02-29T00:00:00Z""#, r#""today""#, "20240229"]);
}

#[test]
fn json_is_kept_as_it_is() {
    prints(
        "json",
        &[
            (r#"{"b": 1.50,"a":[1e400 , -0],"a":{}}"#, r#"{"b": 1.50,"a":[1e400 , -0],"a":{}}"#),
            (r#"["\u00fc"]"#, r#"["\u00fc"]"#),
            (r#""\u00fc\/""#, r#""ü/""#),
            ("1e5", "1e5"),
        ],
    );
    refuses("json", &[r#"{"a":"\u0000"}"#, r#"["\ud800"]"#, r#"{"\u0000":1}"#, r#""\u0000""#]);
}

#[test]
fn jsonb_is_normalised() {
    prints(
        "jsonb",
        &[
            (r#"{"bb":1,"a":2,"ü":3,"c":4}"#, r#"{"a": 2, "c": 4, "bb": 1, "ü": 3}"#),
            (r#"{"a":1,"b":{},"a":[]}"#, r#"{"a": [], "b": {}}"#),
            ("[1.50,-0,-0.0,true,null]", "[1.50, 0, 0.0, true, null]"),
            (r#"{"a":{"d":[{"c":"\u00fc\n"}]}}"#, r#"{"a": {"d": [{"c": "ü\n"}]}}"#),
            ("12345678901234567890.10", "12345678901234567890.10"),
            (r#""text""#, r#""text""#),
            ("false", "false"),
        ],
    );
    refuses("jsonb", &["1e2", r#"{"a":[1E-2]}"#, r#"{"a":"\u0000"}"#, r#"{"\u0000":1}"#, r#"["\udead"]"#]);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(canonical(&ColumnType::Jsonb, &nested(64)).is_some());
    assert_eq!(canonical(&ColumnType::Jsonb, &nested(65)), None);
    assert_eq!(canonical(&ColumnType::Jsonb, &nested(100_000)), None);
}

#[test]
fn enumerations() {
    let mood = ColumnType::declared("public.mood", None, Some(&["sad".into(), "it's \"ok\"".into()]));
    assert_eq!(canonical(&mood, r#""\u0073ad""#).as_deref(), Some(r#""sad""#));
    assert_eq!(canonical(&mood, r#""it's \"ok\"""#).as_deref(), Some(r#""it's \"ok\"""#));
    for other in [r#""Sad""#, r#""""#, "1", "[]"] {
        assert_eq!(canonical(&mood, other), None, "{other}");
    }
}

#[test]
fn arrays() {
    prints("integer[]", &[("[]", "[]"), (r#"[ 1, null , "02" ]"#, "[1,null,2]")]);
    prints("text[]", &[(r#"["a, {b}", "null", "\u00fc"]"#, r#"["a, {b}","null","ü"]"#)]);
    prints(
        "timestamp with time zone[]",
        &[(r#"["2026-02-01T00:00:00Z"]"#, r#"["2026-02-01T00:00:00+00:00"]"#)],
    );
    refuses("integer[]", &["[1.5]", "[[1]]", "1", r#""{1}""#, "{}", "[true]"]);
    refuses("text[]", &[r#"["\u0000"]"#, "[1]", r#""{a}""#]);
}

#[test]
fn equal_by_type() {
    for (format, one, other, equal) in [
        (
            "uuid",
            r#""ABCDEFAB-0000-1111-2222-333344445555""#,
            r#""abcdefab-0000-1111-2222-333344445555""#,
            true,
        ),
        ("integer", r#""05""#, "5", true),
        ("integer", "5", "6", false),
        ("bigint", "9007199254740993", "9007199254740992", false),
        ("numeric", "1.5", "1.500", true),
        ("numeric", "0.1", "0.10000000000000001", false),
        ("numeric", r#""NaN""#, r#""NaN""#, true),
        ("double precision", "0.1", "0.1000000000000000055511151231257827", true),
        ("double precision", "1e20", "100000000000000000000", true),
        ("double precision", "0.1", "0.2", false),
        ("double precision", r#""Infinity""#, r#""-Infinity""#, false),
        ("real", "0.1", "0.10000000149011612", true),
        ("text", r#""\u0061""#, r#""a""#, true),
        ("text", r#""1""#, "1", false),
        ("timestamp with time zone", r#""2026-02-01T00:00:00Z""#, r#""2026-02-01T02:00:00.000+02:00""#, true),
        ("timestamp with time zone", r#""2026-02-01T00:00:00Z""#, r#""2026-02-01T00:00:00.000001Z""#, false),
        ("timestamp with time zone", r#""infinity""#, r#""infinity""#, true),
        ("timestamp without time zone", r#""2026-02-01T00:00:00Z""#, r#""2026-02-01T00:00:00""#, true),
        ("json", r#"{"a":1,"b":2}"#, r#"{ "b":2.0, "a":1 }"#, true),
        ("jsonb", r#"{"a":1.50,"b":[1,2]}"#, r#"{"b": [1, 2], "a": 1.5}"#, true),
        ("jsonb", r#"{"a":0,"a":1}"#, r#"{"a": 1}"#, true),
        ("jsonb", "[1,2]", "[2,1]", false),
        ("jsonb", r#"{"a":null}"#, "{}", false),
        ("integer[]", "[1,2]", r#"[1, "2"]"#, true),
        ("integer[]", "[1]", "[1,1]", false),
        ("real[]", "[0.1,null]", "[0.10000000149011612,null]", true),
        ("public.mood[]", r#"["a"]"#, r#"[ "a" ]"#, true),
        ("citext", "1.0", "1", true),
        ("citext", r#""a""#, r#""A""#, false),
        ("integer", "null", "null", true),
        ("integer", "null", "0", false),
        ("timestamp with time zone", "null", r#""2026-02-01T00:00:00Z""#, false),
        ("boolean", "true", "false", false),
    ] {
        let (column, one, other) = (declared(format), value(one), value(other));
        assert_eq!(column.equal(&one, &other), equal, "{format} {one} {other}");
        assert_eq!(column.equal(&other, &one), equal, "{format} {other} {one}");
    }
}

#[test]
fn key_values_in_filters() {
    for (format, json, expected) in [
        ("uuid", r#""ABCDEFAB-0000-1111-2222-333344445555""#, Some("abcdefab-0000-1111-2222-333344445555")),
        ("integer", r#""05""#, Some("5")),
        ("bigint", "-7", Some("-7")),
        ("text", r#""a, \"b\"""#, Some("a, \"b\"")),
        ("text", "null", None),
        ("text", "5", None),
        ("integer", "5.0", None),
        ("numeric", "5", None),
        ("boolean", "true", None),
        ("date", r#""2024-02-29""#, None),
    ] {
        assert_eq!(declared(format).key_text(&value(json)).as_deref(), expected, "{format} {json}");
    }
}

const FORMATS: [&str; 16] = [
    "uuid",
    "smallint",
    "bigint",
    "numeric",
    "real",
    "double precision",
    "boolean",
    "text",
    "timestamp with time zone",
    "timestamp without time zone",
    "date",
    "json",
    "jsonb",
    "text[]",
    "double precision[]",
    "citext",
];

/// JSON of any kind, spelt in unusual ways.
fn json() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        "[ -~\\u{0}\\u{fc}]{0,6}",
        "[0-9]{1,4}",
        "[0-9]{4}-0[1-9]-0[1-9]T0[0-9]:00:00(\\.[0-9]{1,7})?(Z|\\+01:00)?",
        "[0-9a-fA-F]{32}",
    ];
    let text = text.prop_map(|text| serde_json::to_string(&text).unwrap());
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?",
        text.clone(),
        Just(r#""\ud800""#.to_owned()),
    ];
    scalar.prop_recursive(3, 16, 4, move |inner| {
        let members = prop::collection::vec((text.clone(), inner.clone()), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|values| format!("[ {} ]", values.join(" ,"))),
            members.prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("{name} :{value}")).collect();
                format!("{{{} }}", members.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_canonical_and_the_same_value(json in json()) {
        for format in FORMATS {
            let column = declared(format);
            let sent = value(&json);
            if let Some(printed) = column.canonical(&sent) {
                prop_assert!(column.equal(&sent, &printed), "{} {} {}", format, sent, printed);
                let again = column.canonical(&printed).map(|value| value.get().to_owned());
                prop_assert_eq!(again.as_deref(), Some(printed.get()), "{}", format);
            }
        }
    }

    #[test]
    fn a_value_equals_itself(json in json()) {
        for format in FORMATS {
            let value = value(&json);
            prop_assert!(declared(format).equal(&value, &value), "{} {}", format, value);
        }
    }

    #[test]
    fn floats_keep_their_value(number in any::<f64>().prop_filter("finite", |number| number.is_finite())) {
        let json = serde_json::to_string(&number).unwrap();
        if let Some(printed) = canonical(&ColumnType::Double, &json) {
            prop_assert_eq!(printed.parse::<f64>().unwrap().to_bits(), number.to_bits());
        }
    }
}
