//! The key of a node that shares its journal with nobody: made once, kept beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

use super::{SealError, Sealer};

/// Why there is no key file to work with.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It can't be read or made.
    #[error("The key file {path} can't be used: {error}; check the folder, and who may write to it")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others than its owner have rights to it.
    #[error(
        "The key file {path} is open to others than its owner (mode {mode:03o}); run `chmod 600` on it, or remove it \
         if somebody may have read it"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It doesn't hold what was written.
    #[error(
        "The key file {path} holds no key; restore it, or remove it, and queued writes wait for newer tokens of \
         their callers"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The key can't be made or used.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A key in bytes, and as it is written: hexadecimal digits and a line's end.
const KEY: usize = 32;
const WRITTEN: usize = 2 * KEY + 1;

impl Sealer {
    /// The sealer whose key is in the file at `path`, which is made if it isn't
    /// there; its folder has to be.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] where it can't be made or read, is open to others, or
    /// holds something else.
    pub fn generated(path: &Path) -> Result<Self, KeyFileError> {
        let unusable = |error| KeyFileError::Unusable { path: path.to_owned(), error };
        match OpenOptions::new().read(true).open(path) {
            Ok(file) => match read(file, path)? {
                Some(key) => Ok(Self::from_secret(&key)?),
                // Made, and never written to: the machine went down in between.
                None => write(OpenOptions::new().write(true).open(path).map_err(unusable)?, path),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut options = OpenOptions::new();
                write(options.write(true).create_new(true).mode(0o600).open(path).map_err(unusable)?, path)
            }
            Err(error) => Err(unusable(error)),
        }
    }
}

/// The key in a file. `None` where the file is empty.
fn read(file: File, path: &Path) -> Result<Option<[u8; KEY]>, KeyFileError> {
    let unusable = |error| KeyFileError::Unusable { path: path.to_owned(), error };
    let mode = file.metadata().map_err(unusable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.to_owned(), mode });
    }
    let mut written = Vec::new();
    file.take(WRITTEN as u64 + 1).read_to_end(&mut written).map_err(unusable)?;
    if written.is_empty() {
        return Ok(None);
    }
    decode(&written).map(Some).ok_or_else(|| KeyFileError::Damaged { path: path.to_owned() })
}

/// Writes a new key, durably: what is sealed with it lies in the journal for long.
fn write(mut file: File, path: &Path) -> Result<Sealer, KeyFileError> {
    let unusable = |error| KeyFileError::Unusable { path: path.to_owned(), error };
    let mut key = [0; KEY];
    SystemRandom::new().fill(&mut key).map_err(|_| SealError::Cryptography)?;
    file.write_all(&encode(&key)).map_err(unusable)?;
    file.sync_all().map_err(unusable)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unusable)?;
    Ok(Sealer::from_secret(&key)?)
}

fn encode(key: &[u8; KEY]) -> Vec<u8> {
    let mut written: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    written.push('\n');
    written.into_bytes()
}

fn decode(written: &[u8]) -> Option<[u8; KEY]> {
    let digits = written.strip_suffix(b"\n").unwrap_or(written);
    if digits.len() != 2 * KEY {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut key = [0; KEY];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(key)
}
