//! TLS of both sides.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::rights::User;
use super::way::Tls;
use crate::etcd::Certificates;

/// What a client's certificate makes of it. Every certificate is taken in the handshake, as a real server does, and what it is
/// worth is said in the answers.
#[derive(Debug)]
pub(super) struct Clients {
    known: Arc<dyn ClientCertVerifier>,
}

/// A server with `server.pem`, to which `client.pem` is the agent's.
pub(super) fn acceptor(files: &Certificates) -> Tls {
    let roots = roots(&pem(&files.text("ca.pem")));
    let provider = Arc::new(ring::default_provider());
    let known = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .expect("a verifier");
    let clients = Arc::new(Clients { known });
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_client_cert_verifier(Arc::clone(&clients) as Arc<dyn ClientCertVerifier>)
        .with_single_cert(
            pem(&files.text("server.pem")),
            key(&files.text("server.key")),
        )
        .expect("a certificate and its key");
    Tls {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        clients,
    }
}

/// A client that trusts a certificate in PEM, and has one and its key.
pub(super) fn connector(ca: &str, own: Option<(&str, &str)>) -> TlsConnector {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots(&pem(ca)));
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, private)) => builder
            .with_client_auth_cert(pem(certificate), key(private))
            .expect("a certificate and its key"),
    };
    TlsConnector::from(Arc::new(config))
}

fn pem(text: &str) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_slice_iter(text.as_bytes());
    all.map(|one| one.expect("a certificate in PEM")).collect()
}

fn key(text: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).expect("a private key in PEM")
}

fn roots(all: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for one in all {
        roots.add(one.clone()).expect("a certificate");
    }
    roots
}

impl Clients {
    pub(super) fn user(&self, all: &[CertificateDer<'_>]) -> Result<User, ()> {
        let (first, rest) = all.split_first().ok_or(())?;
        let verified = self.known.verify_client_cert(first, rest, UnixTime::now());
        verified.map(|_| User::Agent).map_err(|_| ())
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.known
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.known
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_verify_schemes()
    }
}
