//! What Sluice vouches for in a deferred write is what upstream then prints,
//! byte for byte.

use serde_json::value::RawValue;
use sluice::postgrest::schema::Schema;

use crate::support::backend::{self, Stack};
use crate::support::http::{Connection, Request};
use crate::support::{Random, token};

#[test]
fn canonical_values_are_what_upstream_prints() {
    let mut samples = Samples::new("values_listed");
    let nested = format!("{}1{}", "[".repeat(60), "]".repeat(60));
    let cases: [(&str, &[&str]); 21] = [
        ("a_uuid", &[r#""ABCDEFAB-0000-1111-2222-333344445555""#, r#""{abcdefab000011112222333344445555}""#]),
        ("a_smallint", &["-32768", "-0"]),
        ("an_integer", &["2147483647", r#""05""#, r#"" +5\t""#, "null"]),
        ("a_bigint", &["9223372036854775807", "-9223372036854775808"]),
        ("a_real", &["-0.0", "3.14159265", "999999.9", "0.0001", "515801.625", "-131287.375", "16777.217"]),
        ("a_double", &["-0", "1.50", "1e3", "0.0001", "999999999999999.9", "149367069019279.625"]),
        ("a_boolean", &["true", "false"]),
        ("a_text", &[r#""""#, r#""\u0001\b\f\n\r\t\"\\\/\u007f\u2028\ud83d\ude00""#, "\"\u{7f}\u{ffff} ü\""]),
        ("a_varchar", &[r#""é😀é😀é""#]),
        ("a_short", &[r#""abcde""#]),
        (
            "a_timestamptz",
            &[
                r#""2026-02-01T12:30:00.120Z""#,
                r#""9999-12-31T23:59:59.999999Z""#,
                r#""0001-01-01 00:00:00-15:59:59""#,
            ],
        ),
        ("a_timestamp", &[r#""2026-02-01T12:30:00.000Z""#, r#""2026-02-01 12:30:00.5+02:00""#]),
        ("a_date", &[r#""0001-01-01""#, r#""2024-02-29""#, r#""9999-12-31""#]),
        (
            "a_json",
            &[
                r#"{"b": 1.50,"a":[1e400 , -0],"a":"\u00fc"}"#,
                r#""\u00fc\/""#,
                "1e99999999999999999999",
                &nested,
            ],
        ),
        (
            "a_jsonb",
            &[
                r#"{"bb":1,"a":[-0.0,12345678901234567890.10],"ü":{},"c":"\u0001\/","a":[-0]}"#,
                r#""a""#,
                &nested,
            ],
        ),
        ("a_mood", &[r#""\u0073ad""#, r#""it's \"ok\"""#]),
        ("texts", &[r#"["a","null","NULL","a,b","{x}","\"q\"","\\",""," a ",null,"\u00fc"]"#, "[]"]),
        ("integers", &[r#"[ 1, null , "02" ]"#]),
        ("doubles", &["[1.50,-0,0.1]"]),
        ("moments", &[r#"["2026-02-01T00:00:00Z"]"#]),
        ("id", &["1"]),
    ];
    for (column, values) in cases {
        for json in values {
            assert!(samples.is_vouched_for(column, json), "{column} {json}");
        }
    }
    for (column, json) in [
        ("a_numeric", "1.005"),
        ("a_char", r#""a""#),
        ("moods", r#"["sad"]"#),
        ("varchars", r#"["a"]"#),
        ("a_varchar", r#""abcde ""#),
        ("integers", "[[1]]"),
    ] {
        assert!(!samples.is_vouched_for(column, json), "{column} {json}");
    }
}

#[test]
fn so_are_random_numbers_and_moments() {
    let mut samples = Samples::new("values_random");
    let mut random = Random::new(7);
    let mut vouched_for = 0;
    for _ in 0..300 {
        let sixteenths = random.below(16_000_000);
        let digits = random.below(1_000_000_000_000_000_000);
        let fraction = digits >> random.below(60);
        let (year, month, day) = (1 + random.below(9999), 1 + random.below(12), 1 + random.below(28));
        let moment = format!(
            r#""{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}{}{:02}:{:02}""#,
            random.below(24),
            random.below(60),
            random.below(60),
            random.below(1_000_000),
            random.pick(&["+", "-"]),
            random.below(16),
            random.below(60),
        );
        for (column, json) in [
            ("a_real", format!("{}.{:04}", sixteenths / 16, sixteenths % 16 * 625)),
            ("a_real", format!("0.{digits:018}")),
            ("a_double", format!("{}.{fraction}", digits >> random.below(60))),
            ("a_double", format!("{}.{:03}", digits / 10_000, random.below(8) * 125)),
            ("a_timestamptz", moment.clone()),
            ("a_timestamp", moment),
        ] {
            vouched_for += usize::from(samples.is_vouched_for(column, &json));
        }
    }
    assert!(vouched_for > 1_200, "only {vouched_for} values of 1800 were compared");
}

/// A row of upstream's, and what its description says of it.
struct Samples {
    stack: Stack,
    schema: Schema,
    connection: Connection,
}

impl Samples {
    fn new(database: &str) -> Self {
        let stack = backend::shared().stack(database, "values.sql");
        let description = Request::new(&stack.address(), "GET", "/rest/v1/").apikey(token::anon_key()).send();
        let schema = Schema::from_openapi(&description.expect(200).body).unwrap();
        let connection = Connection::open(&stack.address()).unwrap();
        Self { stack, schema, connection }
    }

    /// Whether Sluice says how the value is printed; panics if upstream prints it otherwise.
    #[track_caller]
    fn is_vouched_for(&mut self, column: &str, json: &str) -> bool {
        let column_type = &self.schema.table("samples").unwrap().column(column).unwrap().column_type;
        let Some(expected) = column_type.canonical(&RawValue::from_string(json.to_owned()).unwrap()) else {
            return false;
        };
        let target = format!("/rest/v1/samples?id=eq.1&select={column}");
        let request = Request::new(&self.stack.address(), "PATCH", &target)
            .apikey(token::anon_key())
            .header("content-type", "application/json")
            .header("prefer", "return=representation")
            .body(format!("{{\"{column}\":{json}}}"));
        let printed = request.send_over(&mut self.connection).expect(200).text();
        assert_eq!(printed, format!("[{{\"{column}\":{expected}}}]"), "{column} {json}");
        true
    }
}
