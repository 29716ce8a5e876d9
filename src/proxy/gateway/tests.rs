use super::*;
use crate::config::ProcessEnvironment;
use crate::postgrest::schema::Schema;

const CONFIG: &str = r#"
[upstream]
url = "http://127.0.0.1:9"
[[route]]
name = "users"
table = "users"
  [route.read]
  ttl = "1h"
"#;

const KEYS: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "alg": "EdDSA", "use": "sig",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// Settings that name an upstream which isn't there.
pub(in crate::proxy) fn settings() -> Settings {
    let config = Config::parse("t", CONFIG, &ProcessEnvironment).unwrap();
    Settings::new(config).unwrap()
}

fn schemas(tables: &str) -> Schemas {
    let description = format!(r#"{{"swagger": "2.0", "definitions": {{{tables}}}, "paths": {{}}}}"#);
    [("public".to_owned(), Schema::from_openapi(description.as_bytes()).unwrap())].into_iter().collect()
}

#[test]
fn an_edition_ends_with_what_requests_are_planned_by() {
    let settings = settings();
    let now = SystemTime::now();
    let mut last = settings.edition();
    let mut changes = |what: &str, change: &dyn Fn() -> bool| {
        let expected = change();
        let edition = settings.edition();
        assert_eq!(edition != last, expected, "{what}");
        last = edition;
    };
    let users = r#""users": {"properties": {"id": {"format": "bigint", "type": "integer"}}}"#;
    changes("a first description", &|| {
        settings.set_schemas(schemas(users));
        true
    });
    changes("the same", &|| {
        settings.set_schemas(schemas(users));
        false
    });
    changes("another one", &|| {
        settings.set_schemas(schemas(""));
        true
    });
    changes("a first key", &|| {
        assert_eq!(settings.set_jwks(0, KEYS.as_bytes(), now), Ok(1));
        true
    });
    changes("the same key", &|| {
        assert_eq!(settings.set_jwks(0, KEYS.as_bytes(), now), Ok(1));
        false
    });
    changes("what is no key set", &|| {
        assert!(settings.set_jwks(0, b"no", now).is_err());
        false
    });
    changes("no key any more", &|| {
        assert_eq!(settings.set_jwks(0, b"", now), Ok(0));
        true
    });
}

#[test]
fn no_two_settings_have_one_edition() {
    assert_ne!(settings().edition(), settings().edition());
}
