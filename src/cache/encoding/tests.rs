use super::*;
use std::io::Read;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(*name, HeaderValue::from_static(value));
        map
    })
}

#[test]
fn the_heaviest_coding_wins() {
    use Coding::{Brotli, Gzip, Zstd};
    let cases = [
        ("gzip", Some(Gzip)),
        ("x-gzip", Some(Gzip)),
        ("GZIP", Some(Gzip)),
        ("gzip, deflate, br, zstd", Some(Brotli)),
        ("gzip, zstd", Some(Zstd)),
        ("gzip;q=1.0, br;q=0.5", Some(Gzip)),
        ("br;q=0, gzip", Some(Gzip)),
        ("*", Some(Brotli)),
        ("*;q=0.5, gzip", Some(Gzip)),
        ("br;q=0, *;q=0.1", Some(Zstd)),
        ("gzip;q=0", None),
        ("*;q=0", None),
        ("identity;q=0, gzip;q=0.1", Some(Gzip)),
        ("identity, gzip;q=0.5", None),
        ("identity", None),
        ("deflate", None),
        ("", None),
        ("gzip;q=2", None),
        ("gzip;q=nan", None),
        ("gzip;x=1", None),
    ];
    for (sent, expected) in cases {
        assert_eq!(preferred(&headers(&[("accept-encoding", sent)])), expected, "{sent}");
    }
}

#[test]
fn only_plain_text_of_a_fair_size_is_compressed() {
    let json = ("content-type", "application/vnd.pgrst.object+json; charset=utf-8");
    let negotiated = |lines: &[_], len| is_compressible(StatusCode::OK, &headers(lines), len);
    assert!(negotiated(&[json], MIN_BODY));
    assert!(!negotiated(&[json], MIN_BODY - 1));
    assert!(!negotiated(&[json], MAX_BODY + 1));
    for (content_type, compressed) in [
        ("text/csv", true),
        ("image/svg+xml", true),
        ("Application/JSON", true),
        ("application/javascript", true),
        ("image/png", false),
        ("application/octet-stream", false),
    ] {
        assert_eq!(negotiated(&[("content-type", content_type)], 2000), compressed, "{content_type}");
    }
    assert!(!negotiated(&[], 2000));
    assert!(!negotiated(&[json, ("content-encoding", "gzip")], 2000));
    assert!(!negotiated(&[json, ("cache-control", "max-age=5, no-transform")], 2000));
    assert!(!negotiated(&[json, ("content-digest", "sha-256=:x:")], 2000));
    let ranged = headers(&[("accept-encoding", "gzip"), ("range", "bytes=0-1")]);
    assert_eq!(negotiate(&ranged), None);
    assert_eq!(negotiate(&headers(&[("accept-encoding", "gzip")])), Some(Coding::Gzip));
    let in_bytes = headers(&[json, ("content-range", "bytes 0-1999/9000")]);
    assert!(!is_compressible(StatusCode::PARTIAL_CONTENT, &in_bytes, 2000));
    let in_rows = headers(&[json, ("content-range", "0-9/90")]);
    assert!(is_compressible(StatusCode::PARTIAL_CONTENT, &in_rows, 2000));
}

#[test]
fn what_was_compressed_comes_back() {
    let body: Vec<u8> = (0..5000_u32).flat_map(|number| number.to_string().into_bytes()).collect();
    for coding in Coding::ALL {
        let compressed = coding.compress(&body).unwrap();
        assert!(compressed.len() < body.len() / 2, "{coding:?}");
        let mut plain = Vec::new();
        match coding {
            Coding::Gzip => {
                flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut plain).unwrap();
            }
            Coding::Brotli => brotli::BrotliDecompress(&mut &compressed[..], &mut plain).unwrap(),
            Coding::Zstd => plain = zstd::bulk::decompress(&compressed, body.len()).unwrap(),
        }
        assert_eq!(plain, body, "{coding:?}");
    }
}
