//! The commands, and what is said about a file that is wrong.

use std::process::Output;

use crate::support::backend;
use crate::support::sluice::{Setup, run, write_file};
use crate::support::token::{alice, anon_key};

fn check(toml: &str) -> (Option<i32>, String) {
    let file = write_file(toml);
    let output = run(&["check", "-c", file.to_str().unwrap()]);
    (output.status.code(), said(&output))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_right_file_is_0_and_a_wrong_one_2() {
    let (code, text) = check(&Setup::new("https://abc.supabase.co").toml());
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check("listen = 1\n");
    assert_eq!(code, Some(2), "{text}");
    assert_eq!(run(&["check", "-c", "/nowhere/at/all.toml"]).status.code(), Some(2));
    assert_eq!(run(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

#[test]
fn an_error_shows_the_place_the_line_and_the_remedy() {
    let good = "[upstream]\nurl = \"https://abc.supabase.co\"\n";
    let route = "[[route]]\nname = \"r\"\ntable = \"users\"\n[route.read]\n";
    // The text, the line that is wrong, what must be said about it.
    let cases = [
        (format!("{good}settel = \"1s\"\n"), 3, "settel"),
        (format!("{good}{route}ttl = \"5 minutes\"\n"), 7, "5 minutes"),
        (format!("{good}{route}ttl = 5\n"), 7, "ttl = 5"),
        (format!("{good}{route}scope = \"everybody\"\n"), 7, "everybody"),
        (format!("{good}{route}max_body = \"1 elephant\"\n"), 7, "elephant"),
        (format!("{good}[[route]]\nname = \"r\"\npath = '('\n"), 5, "path"),
        (format!("{good}{route}[[route]]\nname = \"r\"\ntable = \"x\"\n"), 8, "\"r\""),
        (format!("{good}[[route]]\nname = \"r\"\n"), 3, "table"),
        (format!("{good}host = \"${{NO_SUCH_VARIABLE}}\"\n"), 3, "NO_SUCH_VARIABLE"),
        (format!("{good}host = \"${{file:/no/such/file}}\"\n"), 3, "/no/such/file"),
        ("[upstream]\nurl = \"abc.supabase.co\"\n".to_owned(), 2, "abc.supabase.co"),
        (format!("listen = \"nowhere\"\n{good}"), 1, "nowhere"),
        (format!("listen = [\n{good}"), 2, "upstream"),
    ];
    for (text, line, mention) in cases {
        let (code, said) = check(&text);
        assert_eq!(code, Some(2), "{text}\n{said}");
        assert!(said.contains(mention), "{mention} isn't mentioned for\n{text}\n{said}");
        assert!(said.contains(&format!(".toml:{line}:")), "line {line} isn't shown for\n{text}\n{said}");
    }
}

#[test]
fn all_errors_are_shown_at_once() {
    let (_, said) = check("lsten = \"x\"\n[upstream]\nurl = \"https://abc.supabase.co\"\nsettel = \"1s\"\n");
    assert!(said.contains("lsten") && said.contains("settel"), "{said}");
}

#[test]
fn what_is_not_built_yet_is_refused_and_not_ignored() {
    let good = "[upstream]\nurl = \"https://abc.supabase.co\"\n";
    let route = "[[route]]\nname = \"r\"\ntable = \"users\"\n";
    for text in [
        format!("mode = \"observe\"\n{good}"),
        format!("hook_secret = \"x\"\n{good}"),
        format!("{good}[store]\nobjects = {{ path = \"x\" }}\n"),
        format!("{good}[database]\nurl = \"postgres://x\"\n"),
        format!("{good}{route}[route.read]\nverify = 0.5\n"),
        format!("{good}[store]\nkind = \"redis\"\n{route}[route.write]\ndefer = [\"PATCH\"]\n"),
        format!("{good}[[upload]]\nbucket = \"a\"\nobject = 'x'\ntable = \"users\"\n"),
    ] {
        let (code, said) = check(&text);
        assert_eq!(code, Some(2), "{text}\n{said}");
        assert!(said.contains("not available"), "{text}\n{said}");
    }
}

#[test]
fn a_route_that_defers_says_what_it_does_and_lacks() {
    let upstream = "[upstream]\nurl = \"https://abc.supabase.co\"\n";
    let route = "[[route]]\nname = \"deferring\"\ntable = \"users\"\n[route.write]\ndefer = [\"PATCH\"]\n";
    let (code, said) = check(&format!("{upstream}{route}"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("route: deferring, defers PATCH") && said.contains("journal: "), "{said}");
}

#[test]
fn an_admin_port_for_all_wants_a_token() {
    let text = Setup::new("https://abc.supabase.co")
        .toml()
        .replace("admin_listen = \"127.0.0.1:0\"", "admin_listen = \"0.0.0.0:0\"");
    let (code, said) = check(&text);
    assert_eq!(code, Some(2));
    assert!(said.contains("admin_token"), "{said}");
    let (code, said) = check(&format!("admin_token = \"t\"\n{text}"));
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_secret_is_never_shown() {
    let (_, said) = check(
        "[upstream]\nurl = \"https://abc.supabase.co\"\nschema_key = \"TOPSECRET\"\n[auth]\njwt_secret = \"TOPSECRET\"\n",
    );
    assert!(!said.contains("TOPSECRET"), "{said}");
}

#[test]
fn a_folder_is_read_in_name_order() {
    let folder = crate::support::process::directory(&format!("folder-{}", crate::support::unique()));
    std::fs::write(folder.join("10-base.toml"), Setup::new("https://abc.supabase.co").routes("").toml())
        .unwrap();
    std::fs::write(
        folder.join("20-routes.toml"),
        "[[route]]\nname = \"r\"\ntable = \"users\"\n[route.read]\nttl = \"1s\"\n",
    )
    .unwrap();
    std::fs::write(folder.join("README"), "no toml").unwrap();
    let output = run(&["check", "-c", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    std::fs::write(folder.join("30-again.toml"), "[upstream]\nurl = \"https://other.supabase.co\"\n")
        .unwrap();
    let output = run(&["check", "-c", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("30-again.toml") && said(&output).contains("10-base.toml"),
        "{}",
        said(&output)
    );
}

#[test]
fn explain_says_route_key_and_tags() {
    let file = write_file(&Setup::new(&backend::shared().url()).toml());
    let token = alice().sign();
    let explain = |method: &str, url: &str, headers: &[&str]| {
        let mut arguments = vec!["explain", "-c", file.to_str().unwrap(), method, url];
        headers.iter().for_each(|header| arguments.extend(["-H", header]));
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        said(&output)
    };
    let bearer = format!("Authorization: Bearer {token}");
    let apikey = format!("apikey: {}", anon_key());
    let read = explain("GET", "/rest/v1/users?id=eq.1&select=*,posts(title)", &[&bearer, &apikey]);
    for part in ["rest", "public.users", "key"] {
        assert!(read.contains(part), "{part} is missing:\n{read}");
    }
    assert!(!read.contains(&token));
    let odd = explain("GET", "http://localhost:8000/rest/v1/users", &[&bearer, &apikey, "X-Odd: 1"]);
    assert!(odd.contains("x-odd"), "the reason for the bypass is missing:\n{odd}");
    let write = explain("PATCH", "/rest/v1/users?id=eq.1", &[&bearer, &apikey]);
    assert!(write.contains("public.users"), "{write}");
}
