//! TLS on the client's side.

use std::path::Path;
use std::sync::Arc;

use pingora::listeners::tls::Acceptor;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};

use crate::config::Tls;

/// Why a certificate or its key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read, or holds nothing of the kind.
    #[error("Can't read {what} from {path}: {source}. Name a PEM file in [tls].")]
    Unreadable {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: String,
        /// Why not.
        source: pem::Error,
    },
    /// They don't belong together, or are of a kind that TLS can't use.
    #[error("The certificate in {path} can't be used: {source}. Check that [tls].key_file is its key.")]
    Unusable {
        /// The certificate's file.
        path: String,
        /// Why not.
        source: rustls::Error,
    },
}

/// Reads certificate and key, and offers HTTP/2 and HTTP/1.1 by ALPN.
///
/// # Errors
///
/// [`CertificateError`], which names the file.
pub fn acceptor(tls: &Tls) -> Result<Acceptor, CertificateError> {
    let unreadable = |what: &'static str, path: &Path| {
        let path = path.display().to_string();
        move |source| CertificateError::Unreadable { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(&tls.cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable("a certificate", &tls.cert_file))?;
    let key =
        PrivateKeyDer::from_pem_file(&tls.key_file).map_err(unreadable("a private key", &tls.key_file))?;
    let unusable = |source| CertificateError::Unusable { path: tls.cert_file.display().to_string(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Acceptor::from_server_config(Arc::new(config)))
}
