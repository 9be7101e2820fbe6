//! TLS certificates. Each server has its own certificate authority.

use std::io;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};

use crate::folder::Folder;

/// The kind of a server's certificate: valid, or invalid in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Certificate {
    /// Valid for `localhost` and `127.0.0.1`.
    #[default]
    Good,
    /// For `localhost` and `127.0.0.1`, but expired.
    Expired,
    /// Only for `elsewhere.example`.
    OtherName,
}

/// The PEM files of a server with TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Tls {
    pub(crate) fn create(kind: Certificate, folder: &Folder) -> io::Result<Self> {
        // Clients identify an authority by its name, so each authority is named after its folder.
        let (authority, certificate, key) = make(kind, &folder.path().to_string_lossy()).map_err(io::Error::other)?;
        Ok(Self {
            authority: folder.write("ca.pem", &authority)?,
            certificate: folder.write("server.pem", &certificate)?,
            key: folder.write("server.key", &key)?,
        })
    }
}

fn make(kind: Certificate, name: &str) -> Result<(String, String, String), rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    authority.distinguished_name.push(DnType::CommonName, name);
    let authority_key = KeyPair::generate()?;
    let authority_text = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let names: &[&str] = match kind {
        Certificate::Good | Certificate::Expired => &["localhost", "127.0.0.1"],
        Certificate::OtherName => &["elsewhere.example"],
    };
    let mut server = CertificateParams::new(names.iter().copied().map(str::to_owned).collect::<Vec<_>>())?;
    server.distinguished_name.push(DnType::CommonName, "server");
    if kind == Certificate::Expired {
        server.not_after = date_time_ymd(2020, 1, 1);
    }
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?.pem();
    Ok((authority_text, certificate, key.serialize_pem()))
}
