use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::*;

const WRITE: WriteId = WriteId(7);
const CALLER: CallerId = CallerId([1; 16]);

fn sealer() -> Sealer {
    Sealer::from_secret(&[b's'; 32]).unwrap()
}

fn credential() -> Credential {
    let (token, api_key) = ("a.token.here".to_owned(), Some("sb_publishable_x".to_owned()));
    Credential { token, api_key, expires: Some(Micros(5)) }
}

#[test]
fn what_is_sealed_opens_for_its_write_and_caller_alone() {
    let sealed = sealer().seal(&credential(), WRITE, CALLER).unwrap();
    assert_eq!(sealer().open(&sealed, WRITE, CALLER), Ok(credential()));
    assert_eq!(sealer().open(&sealed, WriteId(8), CALLER), Err(SealError::Damaged));
    assert_eq!(sealer().open(&sealed, WRITE, CallerId([2; 16])), Err(SealError::Damaged));
    let other = Sealer::from_secret(&[b't'; 32]).unwrap();
    assert_eq!(other.open(&sealed, WRITE, CALLER), Err(SealError::OtherKey));
    let again = sealer().seal(&credential(), WRITE, CALLER).unwrap();
    assert!(sealed != again, "each has a nonce of its own");
    let without = Credential { api_key: None, expires: None, ..credential() };
    let sealed = sealer().seal(&without, WRITE, CALLER).unwrap();
    assert_eq!(sealer().open(&sealed, WRITE, CALLER), Ok(without));
}

#[test]
fn a_changed_byte_is_found_out() {
    let sealed = sealer().seal(&credential(), WRITE, CALLER).unwrap();
    for at in 0..sealed.0.len() {
        let mut changed = sealed.clone();
        changed.0[at] ^= 1;
        assert!(sealer().open(&changed, WRITE, CALLER).is_err(), "byte {at}");
        changed.0.truncate(at);
        assert!(sealer().open(&changed, WRITE, CALLER).is_err(), "the first {at} bytes");
    }
}

#[test]
fn secrets_have_a_least_length() {
    assert_eq!(Sealer::from_secret(&[0; 31]).unwrap_err(), SealError::ShortSecret(31));
    assert!(Sealer::from_secret(&[0; 1000]).is_ok());
}

#[test]
fn nothing_is_shown() {
    let sealed = sealer().seal(&credential(), WRITE, CALLER).unwrap();
    let shown = format!("{:?} {:?} {sealed:?}", sealer(), credential());
    assert_eq!(shown, "Sealer(..) Credential(..) Sealed(..)");
    let written = serde_json::to_string(&sealed).unwrap();
    assert!(!written.contains("token") && !written.contains("publishable"), "{written}");
    assert!(serde_json::from_str::<Sealed>(&written).unwrap() == sealed);
    assert!(serde_json::from_str::<Sealed>("\"!\"").is_err());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn a_key_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.key");
    let sealed = Sealer::generated(&path).unwrap().seal(&credential(), WRITE, CALLER).unwrap();
    assert_eq!(mode(&path), 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.len() == 65 && text.ends_with('\n'));
    assert_eq!(Sealer::generated(&path).unwrap().open(&sealed, WRITE, CALLER), Ok(credential()));
    let other = folder.path().join("other.key");
    assert_eq!(Sealer::generated(&other).unwrap().open(&sealed, WRITE, CALLER), Err(SealError::OtherKey));
}

#[test]
fn a_key_file_that_was_made_and_not_written_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.key");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Sealer::generated(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap().len(), 65);
}

#[test]
fn key_files_that_are_no_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.key");
    let said = || Sealer::generated(&path).unwrap_err().to_string();
    let written = |text: &[u8], mode: u32| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let (good, odd) = ([b'a'; 64], [b'g'; 64]);
    for mode in [0o640, 0o604, 0o660, 0o601] {
        written(&good, mode);
        assert!(
            said().contains(&format!("is open to others than its owner (mode {mode:03o}); run `chmod 600`"))
        );
    }
    for text in [&good[..63], &odd[..], b"\n", b"0", &[b'a'; 128]] {
        written(text, 0o600);
        assert!(said().contains("holds no key; restore it, or remove it"), "{text:?}");
        assert_eq!(fs::read(&path).unwrap(), text, "it is left alone");
    }
    written(&good, 0o400);
    assert!(Sealer::generated(&path).is_ok(), "a file that isn't to be written to");
    let nowhere = folder.path().join("no/such/folder/secret.key");
    let error = Sealer::generated(&nowhere).unwrap_err();
    assert!(matches!(error, KeyFileError::Unusable { .. }), "{error}");
}
