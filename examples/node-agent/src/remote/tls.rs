//! TLS as the files say that are there at this moment: a certificate that was renewed counts with the next connection.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The largest file of certificates: what a host trusts for the web has a quarter of it.
const MOST_BYTES: u64 = 1 << 20;

/// Certificates or a key in PEM.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// A file that holds them.
    File(PathBuf),
    /// Themselves, and what they are called.
    Text {
        /// What they are called in words.
        name: &'static str,
        /// The PEM.
        bytes: Arc<[u8]>,
    },
}

/// What makes a connection a TLS one: whom this node trusts, and its certificate and key.
///
/// # Errors
/// A sentence that names the file, and nothing of what is in it.
pub(crate) fn connector(
    roots: Option<&Pem>,
    identity: Option<(&Pem, &Pem)>,
) -> Result<TlsConnector, String> {
    let mut store = RootCertStore::empty();
    if let Some(pem) = roots {
        for certificate in certificates(pem)? {
            let added = store.add(certificate);
            added.map_err(|error| told(pem, "a certificate is not usable", &error))?;
        }
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(store);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key_pem)) => {
            let key = PrivateKeyDer::from_pem_slice(&key_pem.read()?)
                .map_err(|_| format!("{key_pem} holds no private key in PEM that can be read"))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key)
                .map_err(|error| told(certificate, "not usable with its key", &error))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.read()?).collect();
    let all = all.map_err(|error| told(pem, "is not PEM", &error))?;
    match all.is_empty() {
        true => Err(format!("{pem} holds no certificate")),
        false => Ok(all),
    }
}

impl Pem {
    fn read(&self) -> Result<Arc<[u8]>, String> {
        match self {
            Self::Text { bytes, .. } => Ok(Arc::clone(bytes)),
            Self::File(path) => {
                let unread = |error: &dyn fmt::Display| told(self, "cannot be read", error);
                let length = fs::metadata(path).map_err(|error| unread(&error))?.len();
                if length > MOST_BYTES {
                    return Err(unread(&"it is too large"));
                }
                Ok(fs::read(path).map_err(|error| unread(&error))?.into())
            }
        }
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Text { name, .. } => f.write_str(name),
        }
    }
}

impl fmt::Debug for Pem {
    /// Not what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn told(pem: &Pem, what: &str, error: &dyn fmt::Display) -> String {
    format!("{pem}: {what}: {error}")
}
