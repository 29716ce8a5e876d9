//! What the front knows ends at once with what it was learned from: rows, tokens, settings, entries.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::support::backend;
use crate::support::faulty::{Answer, Faulty};
use crate::support::front::{Client, FrontHits, indexed, never_the_fronts};
use crate::support::http::Request;
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::{SECRET_KEY, alice, anon_key, bob, now, service_key};
use crate::support::{eventually, redis, unique};

const OWN: &str = "/rest/v1/profiles?order=id";

fn real() -> Setup {
    Setup::new(&backend::shared().url())
}

fn new_user() -> u64 {
    let id = unique();
    let row = format!("({id}, 'own{id}@x.org', 'before')");
    backend::shared().sql(&format!("insert into users (id, email, name) values {row}"));
    id
}

fn user(sluice: &Sluice, id: u64) -> Request {
    sluice.get(&format!("/rest/v1/users?id=eq.{id}")).anonymous()
}

/// The write that gives a user another name.
fn rename(sluice: &Sluice, id: u64, name: &str) -> Request {
    let target = format!("/rest/v1/users?id=eq.{id}");
    sluice.request("PATCH", &target).anonymous().json(&json!({ "name": name }))
}

#[track_caller]
fn write(client: &mut Client<TcpStream>, request: &Request) {
    client.write(&request.encode());
    client.read("PATCH").expect(204);
}

#[test]
fn the_next_read_on_any_connection_shows_a_write() {
    let sluice = real().with_schema().start();
    let (id, mut writer, mut reader) =
        (new_user(), Client::open(sluice.address()), Client::open(sluice.address()));
    let list = sluice.get(&format!("/rest/v1/users?id=in.({id},{})&order=id", id + 1)).anonymous();
    let head = sluice.request("HEAD", &format!("/rest/v1/users?id=eq.{id}")).anonymous();
    for round in 0..15 {
        let old = indexed(&sluice, &mut reader, &user(&sluice, id)).joined("etag");
        indexed(&sluice, &mut reader, &list);
        let condition = user(&sluice, id).header("If-None-Match", old);
        for _ in 0..3 {
            assert_eq!(reader.get(&condition).status(), 304);
            reader.write(&head.encode());
            reader.read("HEAD").expect(200).expect_hit();
        }
        let name = format!("name {round}");
        write(&mut writer, &rename(&sluice, id, &name));
        match round % 4 {
            0 => assert!(reader.get(&user(&sluice, id)).expect(200).text().contains(&name)),
            1 => assert!(reader.get(&list).expect(200).text().contains(&name)),
            2 => assert!(reader.get(&condition).expect(200).text().contains(&name)),
            _ => {
                reader.write(&head.encode());
                assert!(!reader.read("HEAD").expect(200).is_hit());
            }
        }
    }
}

#[test]
fn a_write_between_two_pipelined_reads_shows_in_the_second() {
    let sluice = real().start();
    let (id, mut client) = (new_user(), Client::open(sluice.address()));
    for round in 0..10 {
        indexed(&sluice, &mut client, &user(&sluice, id));
        let name = format!("name {round}");
        let read = user(&sluice, id).encode();
        client.write(&[&read, &rename(&sluice, id, &name).encode()[..], &read].concat());
        assert!(!client.read("GET").expect(200).expect_hit().text().contains(&name));
        client.read("PATCH").expect(204);
        assert!(client.read("GET").expect(200).text().contains(&name), "round {round}");
    }
}

#[test]
fn another_nodes_write_shows_within_a_second() {
    let [one, other] = real().redis(&redis::shared().url()).nodes();
    let (id, mut writer, mut reader) =
        (new_user(), Client::open(one.address()), Client::open(other.address()));
    for round in 0..3 {
        // A busy machine may keep a node from its store, which costs a hit.
        eventually("the read is a hit", || reader.get(&user(&other, id)).expect(200).is_hit());
        let name = format!("name {round}");
        write(&mut writer, &rename(&one, id, &name));
        let written = std::time::Instant::now();
        eventually("the write shows", || {
            let asked = written.elapsed();
            let shows = reader.get(&user(&other, id)).expect(200).text().contains(&name);
            assert!(shows || asked < Duration::from_secs(1), "not even after {asked:?}");
            shows
        });
    }
}

#[test]
fn an_upload_shows_at_once() {
    let upstream = Faulty::start();
    let image = |body: &str| Answer::new(200, body).header("Content-Type", "image/png").act();
    let object = "/storage/v1/object/public/avatars/one.png";
    upstream.always("PUT /storage/v1/object/avatars/one.png", Answer::json("{}").act());
    let routes = "[[route]]\nname = \"public\"\npath = '^/storage/v1/object/public/'\n[route.read]\nttl = \"1h\"\nscope = \"public\"\n";
    let sluice = Setup::new(&upstream.url()).routes(routes).start();
    let mut client = Client::open(sluice.address());
    for body in ["first", "second", "third"] {
        upstream.always(object, image(body));
        sluice
            .request("PUT", "/storage/v1/object/avatars/one.png")
            .signed_in(alice().sign())
            .body(body)
            .send()
            .expect(200);
        assert_eq!(client.get(&sluice.get(object)).text(), body);
        assert_eq!(indexed(&sluice, &mut client, &sluice.get(object)).text(), body);
    }
}

#[test]
fn a_token_is_not_answered_once_it_has_expired() {
    let sluice = real().section("auth", "leeway = \"0s\"").start();
    let mut client = Client::open(sluice.address());
    indexed(&sluice, &mut client, &sluice.get(OWN).signed_in(alice().sign()));
    // The same user's: what is stored is his with each of his tokens.
    let counted = FrontHits::from_now(&sluice);
    let expires = now() + 3;
    let request = sluice.get(OWN).signed_in(alice().claim("exp", expires).sign());
    let (mut hits, mut others) = (0, 0);
    while others < 20 {
        let asked = now();
        let is_hit = client.get(&request).expect(200).is_hit();
        assert!(!is_hit || asked < expires, "a hit {} s after the token's end", asked - expires);
        *if is_hit { &mut hits } else { &mut others } += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(hits > 2, "only {hits} hits");
    counted.expect(1, "the token while it held");
    // The entry is still there for a newer token.
    client.get(&sluice.get(OWN).signed_in(alice().sign())).expect(200).expect_hit();
}

#[test]
fn a_token_that_differs_in_one_letter_is_another() {
    let sluice = real().start();
    let mut client = Client::open(sluice.address());
    let token = alice().sign();
    indexed(&sluice, &mut client, &sluice.get(OWN).signed_in(&token));
    let signature = token.rfind('.').unwrap() + 1;
    for at in [signature, signature + 20, signature - 3, 3] {
        let mut forged = token.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        for _ in 0..3 {
            let answer = client.get(&sluice.get(OWN).signed_in(&forged)).expect(401);
            assert!(!answer.is_hit());
        }
    }
    client.get(&sluice.get(OWN).signed_in(&token)).expect(200).expect_hit();
}

#[test]
fn users_of_one_connection_are_told_apart() {
    let sluice = real().start();
    let mut client = Client::open(sluice.address());
    let callers = [(alice().sign(), "of alice"), (bob().sign(), "of bob"), (anon_key(), "[]")];
    for (token, own) in &callers {
        let answer = indexed(&sluice, &mut client, &sluice.get(OWN).signed_in(token));
        assert!(answer.text().contains(own), "{}", answer.text());
    }
    let order = [0, 1, 2, 1, 0, 0, 2, 1, 2, 0];
    let counted = FrontHits::from_now(&sluice);
    client.write(&order.map(|n: usize| sluice.get(OWN).signed_in(&callers[n].0).encode()).concat());
    for n in order {
        let text = client.read("GET").expect(200).expect_hit().text();
        let seen: Vec<_> =
            callers.iter().filter(|(_, own)| text.contains(own)).map(|(_, own)| *own).collect();
        assert_eq!(seen, [callers[n].1]);
    }
    counted.expect(10, "ten hits in one write");
}

#[test]
fn privileged_keys_are_never_answered_by_the_front() {
    let sluice = real().start();
    let mut client = Client::open(sluice.address());
    let anonymous = sluice.get(OWN).anonymous();
    assert_eq!(indexed(&sluice, &mut client, &anonymous).text(), "[]");
    let alices = alice().sign();
    let requests = [
        sluice.get(OWN).signed_in(service_key()),
        sluice.get(OWN).apikey(service_key()).bearer(service_key()),
        sluice.get(OWN).apikey(service_key()),
        sluice.get(OWN).bearer(service_key()),
        sluice.get(OWN).apikey(SECRET_KEY),
        sluice.get(OWN).apikey(SECRET_KEY).bearer(SECRET_KEY),
        sluice.get(OWN).apikey(SECRET_KEY).bearer(&alices),
        sluice.get(OWN).apikey(service_key()).bearer(&alices),
        sluice.get(&format!("{OWN}&apikey={SECRET_KEY}")).bearer(&alices),
        sluice.get(&format!("{OWN}&apikey={}", service_key())),
    ];
    let counted = FrontHits::from_now(&sluice);
    for request in &requests {
        client.write(&[request.encode().repeat(4), anonymous.encode()].concat());
        for _ in 0..4 {
            assert!(!client.read("GET").is_hit(), "{}", String::from_utf8_lossy(&request.encode()));
        }
        assert_eq!(client.read("GET").expect_hit().text(), "[]");
    }
    counted.expect(requests.len() as u64, "the anonymous reads between");
    assert_eq!(counted.count(), requests.len() as u64);
}

#[test]
fn an_entry_is_not_answered_once_it_is_stale() {
    let sluice = real().read("ttl = \"1s\"").start();
    let mut client = Client::open(sluice.address());
    let request = user(&sluice, new_user());
    for _ in 0..2 {
        let stored = std::time::Instant::now();
        client.get(&request).expect(200);
        let (mut hits, mut fresh) = (0, true);
        while fresh {
            let asked = stored.elapsed();
            fresh = client.get(&request).expect(200).is_hit();
            hits += u32::from(fresh);
            // It was stored after `stored`, by no more than the fill took.
            assert!(!fresh || asked < Duration::from_millis(1_900), "a hit after {asked:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(hits > 2, "only {hits} hits");
        let (fronts, proxys) = (client.get(&request), client.get(&never_the_fronts(&request)));
        assert_eq!(fronts.body, proxys.body);
    }
}

#[test]
fn what_was_evicted_is_fetched_again() {
    let upstream = Faulty::start();
    let routes = "[[route]]\nname = \"public\"\npath = '^/storage/v1/object/public/'\n[route.read]\nttl = \"1h\"\nscope = \"public\"\n";
    let sluice = Setup::new(&upstream.url()).routes(routes).section("store", "memory = \"1MiB\"").start();
    let target = |n: u64| format!("/storage/v1/object/public/many/{n}");
    let body = |n: u64| format!("{n} ").repeat(5_000);
    for n in 0..150 {
        upstream.always(&target(n), Answer::new(200, body(n)).header("Content-Type", "image/png").act());
    }
    let mut client = Client::open(sluice.address());
    let mut random = crate::support::Random::new(crate::support::story::seed());
    let mut hits = 0;
    for _ in 0..1_000 {
        // Some are asked for more often, and stay.
        let n = if random.chance(50) { random.below(10) } else { random.below(150) };
        let answer = client.get(&sluice.get(&target(n))).expect(200);
        assert!(answer.text() == body(n), "{n}: another object's body");
        hits += u32::from(answer.is_hit());
    }
    assert!((100..900).contains(&hits), "{hits} hits: nothing was evicted, or everything");
}
