//! TLS as the files say that are there at this moment: a certificate that was renewed counts with the next connection.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::etcd::config::Access;

/// What makes a connection a TLS one.
///
/// # Errors
/// A sentence that names the file, and nothing of what is in it.
pub(crate) fn connector(access: &Access) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &access.ca {
        for certificate in certificates(path)? {
            let added = roots.add(certificate);
            added.map_err(|error| told(path, "a certificate is not usable", &error))?;
        }
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots);
    let config = match &access.certificate {
        None => builder.with_no_client_auth(),
        Some((path, key_path)) => {
            let key = PrivateKeyDer::from_pem_file(key_path).map_err(|_| {
                format!(
                    "{} holds no private key in PEM that can be read",
                    key_path.display()
                )
            })?;
            builder
                .with_client_auth_cert(certificates(path)?, key)
                .map_err(|error| told(path, "not usable with its key", &error))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| told(path, "cannot be read", &error))?
        .collect();
    let all = all.map_err(|error| told(path, "is not PEM", &error))?;
    match all.is_empty() {
        true => Err(format!("{} holds no certificate", path.display())),
        false => Ok(all),
    }
}

fn told(path: &Path, what: &str, error: &dyn std::fmt::Display) -> String {
    format!("{}: {what}: {error}", path.display())
}
