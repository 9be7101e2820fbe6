//! Certificates: an authority of its own, and a server that it vouches for.

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::process::Account;

/// The files of a server that speaks TLS as `localhost` and `127.0.0.1`.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Tls {
    pub(crate) fn create(folder: &Path, account: Option<&Account>) -> io::Result<Self> {
        // Authorities of two servers must not be taken for each other: each has the name of its folder.
        let (authority, certificate, key) = make(&folder.to_string_lossy()).map_err(io::Error::other)?;
        let put = |name: &str, text: String| -> io::Result<PathBuf> {
            let path = folder.join(name);
            std::fs::write(&path, text)?;
            account.map_or(Ok(()), |account| account.give(&path))?;
            Ok(path)
        };
        let files = Self {
            authority: put("ca.pem", authority)?,
            certificate: put("server.pem", certificate)?,
            key: put("server.key", key)?,
        };
        Ok(files)
    }
}

fn make(name: &str) -> Result<(String, String, String), rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    authority.distinguished_name.push(DnType::CommonName, name);
    let authority_key = KeyPair::generate()?;
    let authority_text = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    server.distinguished_name.push(DnType::CommonName, "localhost");
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?.pem();
    Ok((authority_text, certificate, key.serialize_pem()))
}
