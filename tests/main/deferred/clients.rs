//! An unmodified supabase-js takes a 202 as a success like any other.

use serde_json::{Value, json};

use super::{Scene, card, held, new_id, sql, told_to_wait};
use crate::support::faulty::{Act, Gate};
use crate::support::http::Request;
use crate::support::token::{alice, anon_key};
use crate::support::{backend, eventually, script};

fn application(url: &str) -> (Value, [u64; 8]) {
    let ids = [card("before"), new_id(), new_id(), card("before"), new_id(), new_id(), new_id(), new_id()];
    sql(&format!(
        "insert into other.cards (id, title, updated_at) values ({}, 'before', '2026-01-01')",
        ids[0]
    ));
    let input = json!({ "url": url, "key": anon_key(), "token": alice().sign(), "ids": ids });
    (script::run("deferred-writes.mjs", &input), ids)
}

/// What an application gets, its ids and times taken out: one that is answered 202 must not tell the difference.
fn shown(steps: &Value, ids: &[u64]) -> Value {
    let mut text = steps.to_string();
    for (index, id) in ids.iter().enumerate() {
        text = text.replace(&id.to_string(), &format!("\"id {index}\""));
    }
    let mut steps: Value = serde_json::from_str(&text).unwrap();
    for step in steps.as_object_mut().unwrap().values_mut() {
        let step = step.as_object_mut().unwrap();
        for name in ["write", "location", "status"] {
            step.remove(name);
        }
        if let Some(row) = step["data"].as_object_mut() {
            row.remove("updated_at");
        }
        for row in step["data"].as_array_mut().into_iter().flatten() {
            row.as_object_mut().unwrap().remove("updated_at");
        }
    }
    steps
}

#[test]
fn an_application_gets_what_it_would_get_without_sluice() {
    let scene = Scene::new();
    let (through, ids) = application(&scene.sluice.url());
    let (past, twins) = application(&backend::shared().url());
    assert_eq!(shown(&through, &ids), shown(&past, &twins));
    let deferred = [
        "update",
        "update, select",
        "update, single",
        "update, maybeSingle",
        "insert",
        "insert, single",
        "upsert",
        "upsert, single",
        "other schema",
    ];
    for name in deferred {
        let step = &through[name];
        assert_eq!(step["status"], 202, "{name}: {step}");
        assert!(step["write"].as_str().is_some_and(|said| said.starts_with("queued; id=")), "{name}: {step}");
        assert!(step["location"].as_str().unwrap().starts_with("/sluice/v1/writes/"), "{name}: {step}");
    }
    for name in ["insert of several", "update of several", "missing row", "unknown column"] {
        let step = &through[name];
        assert!(
            step["write"].as_str().is_some_and(|said| said.starts_with("forwarded; reason=")),
            "{name}: {step}"
        );
        assert_eq!(step["status"], past[name]["status"], "{name}: {step}");
    }
    assert_eq!(through["read own"]["data"]["title"], "updated");
    assert_eq!(through["read deleted"]["data"], Value::Null);
    eventually("all has reached upstream", || scene.sluice.metric("sluice_queue_depth") == 0.0);
    let titles = |ids: &[u64]| ids.iter().map(|id| held("cards", *id)["title"].clone()).collect::<Vec<_>>();
    assert_eq!(titles(&ids), titles(&twins));
}

#[test]
fn an_application_works_while_upstream_takes_no_writes() {
    let scene = Scene::queueing("drain_wait = \"100ms\"");
    let gate = Gate::new();
    for kind in ["PATCH", "POST"] {
        scene
            .upstream
            .always(&format!("{kind} /rest/v1/cards"), Act::Hold(gate.clone(), Box::new(Act::Pass)));
    }
    let id = card("before");
    let read = || {
        let request: Request = scene.sluice.get(&super::point("cards", id)).signed_in(alice().sign());
        request.header("Accept", "application/vnd.pgrst.object+json").send().expect(200).json()["title"]
            .clone()
    };
    let mut writes = Vec::new();
    for title in ["one", "two", "three"] {
        writes.push(scene.patch(&alice(), "cards", id, &json!({ "title": title })));
        assert_eq!(read(), title);
    }
    told_to_wait(scene.sluice.request("DELETE", &super::point("cards", id)).signed_in(alice().sign()).send());
    assert_eq!(read(), "three");
    gate.open();
    writes.iter().for_each(|write| scene.applied(&alice(), write));
    assert_eq!(held("cards", id)["title"], "three");
}
