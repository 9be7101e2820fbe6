//! The TLS settings of the connections.

use std::path::Path;
use std::sync::Arc;

use kv_core::{Error, Result};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::config::RedisConfig;

/// Returns the TLS settings that follow from the options `ca`, `cert` and `key`. Without `ca`, the authorities of the
/// system are used.
///
/// # Errors
/// `Invalid` for a file that cannot be read or contains nothing usable, and if the system has no authorities.
pub(crate) fn connector(config: &RedisConfig) -> Result<TlsConnector> {
    let provider = CryptoProvider::get_default().map_or_else(|| Arc::new(ring::default_provider()), Arc::clone);
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::invalid("TLS cannot be set up").with_source(error))?
        .with_root_certificates(authorities(config.ca.as_deref())?);
    let tls = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("key", key, error))?;
            tls.with_client_auth_cert(certificates("cert", cert)?, private)
                .map_err(|error| Error::invalid("`key` is not the private key of `cert`").with_source(error))?
        }
        (None, None) => tls.with_no_client_auth(),
        _ => return Err(Error::invalid("`cert` and `key` must be set together")),
    };
    Ok(TlsConnector::from(Arc::new(tls)))
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = file {
        for certificate in certificates("ca", path)? {
            let added = roots.add(certificate);
            added.map_err(|error| Error::invalid("`ca` contains no root certificate").with_source(error))?;
        }
    } else {
        // The system's store may contain certificates that cannot be parsed. Such certificates are ignored.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Error::invalid("TLS needs root certificates, and the system has none: set `ca`"));
        }
    }
    Ok(roots)
}

fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    match CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>) {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::invalid(format!("the file of `{option}` contains no certificate"))),
        Err(error) => Err(unreadable(option, path, error)),
    }
}

fn unreadable(option: &str, path: &Path, error: pem::Error) -> Error {
    Error::invalid(format!("the file {} of `{option}` cannot be read as PEM", path.display())).with_source(error)
}
