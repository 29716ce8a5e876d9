//! Which certificates upstream may present: those that the machine's roots
//! vouch for, and those of an extra root from the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pingora::protocols::tls::CaType;
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why the roots could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file can't be read, or is no PEM.
    #[error("Could not read certificates from {path}: {reason}. upstream.ca_file must be a PEM file.")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds no certificate.
    #[error("There is no certificate in {path}. upstream.ca_file must be a PEM file with at least one.")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A certificate can't be a root.
    #[error("Certificate {number} in {path} can't be used as a root: {reason}.")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Which certificate of the file, from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// rustls refuses its own provider.
    #[error("Could not set up TLS: {0}.")]
    Tls(#[from] rustls::Error),
}

/// The roots that upstream's certificate is checked against.
#[derive(Clone)]
pub struct Trust {
    client: Arc<ClientConfig>,
    /// Native and extra roots, where there are extra ones.
    bundle: Option<Arc<CaType>>,
}

impl Trust {
    /// Loads the machine's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` count)
    /// and those of `ca_file`. Reads files: not for a thread of the runtime
    /// once requests are served.
    ///
    /// # Errors
    ///
    /// [`TrustError`] where `ca_file` is of no use. Native roots that can't
    /// be read are left out: upstream may be plain HTTP.
    pub fn load(ca_file: Option<&Path>) -> Result<Self, TrustError> {
        let extra = ca_file.map(read_ca_file).transpose()?.unwrap_or_default();
        let mut roots = RootCertStore::empty();
        let mut accepted = Vec::new();
        for certificate in rustls_native_certs::load_native_certs().certs {
            if roots.add(certificate.clone()).is_ok() {
                accepted.push(certificate);
            }
        }
        for (index, certificate) in extra.iter().enumerate() {
            roots.add(certificate.clone()).map_err(|error| TrustError::Unusable {
                path: ca_file.map(Path::to_path_buf).unwrap_or_default(),
                number: index + 1,
                reason: error.to_string(),
            })?;
        }
        // Pingora loads the native roots itself; a list of our own replaces them, for each new connection anew.
        let bundle = (!extra.is_empty()).then(|| accepted.iter().chain(&extra).filter_map(wrapped).collect());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { client: Arc::new(client), bundle })
    }

    /// The settings of a TLS client that trusts these roots.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// All roots for the `ca` option of a Pingora peer; `None` where there
    /// are only the machine's, which Pingora uses anyway.
    pub fn pingora_ca(&self) -> Option<Arc<CaType>> {
        self.bundle.clone()
    }
}

fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let unreadable = |reason: String| TrustError::Unreadable { path: path.to_path_buf(), reason };
    let pem = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(TrustError::Empty { path: path.to_path_buf() });
    }
    Ok(certificates)
}

/// The certificate in Pingora's type, whose parser panics on what it can't
/// read; such a root is left out for forwarded requests.
fn wrapped(certificate: &CertificateDer<'_>) -> Option<WrappedX509> {
    let der = certificate.to_vec();
    std::panic::catch_unwind(|| WrappedX509::new(der, parse_x509)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn an_extra_root_joins_the_native_ones() {
        let file = written(CERTIFICATE);
        let trust = Trust::load(Some(file.path())).unwrap();
        let bundle = trust.pingora_ca().unwrap();
        let native = rustls_native_certs::load_native_certs().certs.len();
        assert!(!bundle.is_empty() && bundle.len() <= native + 1);
        let last = CertificateDer::from(bundle.last().unwrap());
        assert_eq!(last, CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap());
    }

    #[test]
    fn one_file_may_hold_several() {
        let file = written(&format!("# comment\n{CERTIFICATE}\n{CERTIFICATE}"));
        assert_eq!(read_ca_file(file.path()).unwrap().len(), 2);
    }

    #[test]
    fn without_extra_roots_pingora_uses_its_own() {
        assert!(Trust::load(None).unwrap().pingora_ca().is_none());
    }

    #[test]
    fn useless_files_are_refused() {
        assert!(matches!(
            Trust::load(Some(Path::new("/nowhere/ca.pem"))),
            Err(TrustError::Unreadable { .. })
        ));
        assert!(matches!(Trust::load(Some(written("hello").path())), Err(TrustError::Empty { .. })));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            Trust::load(Some(written(broken).path())),
            Err(TrustError::Unusable { number: 1, .. })
        ));
    }

    #[test]
    fn what_pingora_cannot_parse_is_left_out() {
        assert!(wrapped(&CertificateDer::from(vec![0, 1, 2])).is_none());
    }

    /// A self-signed authority made for these tests; its key was thrown away.
    const CERTIFICATE: &str = include_str!("tls/ca.pem");
}
