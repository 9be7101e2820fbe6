//! TLS: the encryption of connections, and the verification of the server's certificate.

use std::path::Path;
use std::sync::Arc;

use kv_core::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

/// The value of `sslmode`. tokio-postgres supports only the first three values, and defaults to `prefer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslMode {
    /// Plain text.
    Disable,
    /// Encrypted if the server offers TLS. The certificate is not verified.
    Prefer,
    /// Encrypted. The certificate is verified only if a root certificate is configured.
    Require,
    /// Encrypted. The certificate must come from a known authority.
    VerifyCa,
    /// Encrypted. The certificate must come from a known authority and name the host.
    VerifyFull,
}

impl SslMode {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(Error::invalid(
                    "`sslmode` must be one of `disable`, `prefer`, `require`, `verify-ca` and `verify-full`",
                ));
            }
        })
    }

    /// Returns the default mode: plain text if all hosts are this machine, otherwise encryption and full verification.
    pub(crate) fn default_for(hosts: &[Host]) -> Self {
        let is_local = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        };
        if hosts.iter().all(is_local) { Self::Disable } else { Self::VerifyFull }
    }

    pub(crate) fn to_driver(self) -> tokio_postgres::config::SslMode {
        match self {
            Self::Disable => tokio_postgres::config::SslMode::Disable,
            Self::Prefer => tokio_postgres::config::SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => tokio_postgres::config::SslMode::Require,
        }
    }
}

/// The paths of the files that TLS may need.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    pub(crate) root: Option<String>,
    pub(crate) certificate: Option<String>,
    pub(crate) key: Option<String>,
}

/// Builds the TLS connector of a store.
///
/// # Errors
/// `Invalid` for a file that cannot be read or contains nothing usable.
pub(crate) fn connector(mode: SslMode, files: &Files) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(mode, files, &provider)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::invalid("TLS cannot be set up").with_source(error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(Path::new(key)).map_err(|error| unreadable("sslkey", error))?;
            config
                .with_client_auth_cert(certificates("sslcert", certificate)?, key)
                .map_err(|error| Error::invalid("`sslkey` is not the key of `sslcert`").with_source(error))?
        }
        (None, None) => config.with_no_client_auth(),
        _ => return Err(Error::invalid("`sslcert` and `sslkey` must be given together")),
    };
    // The server requires this ALPN protocol if a connection begins with TLS (`sslnegotiation=direct`).
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

fn verifier(mode: SslMode, files: &Files, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    let algorithms = provider.signature_verification_algorithms;
    let is_verified = match mode {
        SslMode::Disable | SslMode::Prefer => false,
        SslMode::Require => files.root.is_some(),
        SslMode::VerifyCa | SslMode::VerifyFull => true,
    };
    if !is_verified {
        return Ok(Arc::new(Lenient { authority: None, algorithms }));
    }
    let mut roots = RootCertStore::empty();
    match &files.root {
        Some(path) => {
            for certificate in certificates("sslrootcert", path)? {
                let added = roots.add(certificate);
                added
                    .map_err(|error| Error::invalid("`sslrootcert` contains no root certificate").with_source(error))?;
            }
        }
        None => {
            // The system's store may contain certificates that cannot be parsed. Such certificates are ignored.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(Error::invalid(
            "the system has no root certificates: set `sslrootcert` to a file with root certificates",
        ));
    }
    let strict = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| Error::invalid("the root certificates cannot be used").with_source(error))?;
    Ok(match mode {
        SslMode::VerifyFull => strict,
        _ => Arc::new(Lenient { authority: Some(strict), algorithms }),
    })
}

fn certificates(option: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(Path::new(path)).and_then(Iterator::collect);
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::invalid(format!("the file of `{option}` contains no certificate"))),
        Err(error) => Err(unreadable(option, error)),
    }
}

fn unreadable(option: &str, error: rustls::pki_types::pem::Error) -> Error {
    Error::invalid(format!("the file of `{option}` cannot be read as PEM")).with_source(error)
}

/// A verifier that does not check the name of the host. The verifier accepts any certificate of a known authority, or
/// any certificate at all if no authority is configured. Only an explicit `sslmode` makes a connection use this
/// verifier.
#[derive(Debug)]
struct Lenient {
    authority: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        // The verifier checks the name last. Therefore everything else is valid if the verifier returns this error.
        match authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
