//! The secret that a client presents to a server on TCP.

use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use kv_core::{Error, Result, Version};
use serde::{Deserialize, Serialize};

use crate::private_file;

/// The token of a server: 16 to 256 printable ASCII characters without spaces. `Debug` omits the text, and a comparison
/// takes the same time for all tokens of the same length.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

impl Token {
    const MIN_BYTES: usize = 16;
    const MAX_BYTES: usize = 256;
    /// The maximum number of bytes that are read from a token file.
    const MAX_FILE_BYTES: u64 = 4 << 10;

    /// Generates a token of 256 random bits, in hex.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{}{}", Version::random(), Version::random()))
    }

    /// Reads the token from a file. Ignores white space around the token.
    ///
    /// # Errors
    /// The errors of reading, `PermissionDenied` if users outside of the file's group can read the file or other users
    /// than its owner can change it, and `InvalidData` if the file does not hold a token.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::open(path)?;
        private_file::check(&file)?;
        let mut text = Vec::new();
        // A device or a large file must not exhaust the memory.
        file.take(Self::MAX_FILE_BYTES).read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        text.trim().parse().map_err(|error: Error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Reads the token from a file. Creates a missing file, readable by its owner only, with a random token.
    ///
    /// # Errors
    /// The errors of [`Token::read`], and the errors of creating the file.
    pub fn read_or_create(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        match private_file::create_new(path) {
            Ok(mut file) => {
                let token = Self::random();
                writeln!(file, "{}", token.reveal())?;
                Ok(token)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read(path),
            Err(error) => Err(error),
        }
    }

    /// Returns the secret text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_valid = (Self::MIN_BYTES..=Self::MAX_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_valid {
            return Err(Error::invalid("a token has 16 to 256 printable ASCII characters and no spaces"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Token {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0
    }
}

/// Compares in a time that does not depend on the position of the first difference.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (self.0.as_bytes(), other.0.as_bytes());
        let difference = one.iter().zip(other).fold(0, |sum, (one, other)| black_box(sum | (one ^ other)));
        one.len() == other.len() && difference == 0
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_equals_only_itself_and_debug_omits_it() {
        let token = Token::random();
        assert_eq!(token.reveal().len(), 64);
        assert!(token == token.reveal().parse().unwrap() && token != Token::random());
        let longer: Token = format!("{}0", token.reveal()).parse().unwrap();
        assert!(token != longer);
        assert!(!format!("{token:?}").contains(token.reveal()));
    }

    #[test]
    fn short_long_and_unprintable_tokens_are_rejected() {
        for bad in ["", "short", "0123456789abcde f", "0123456789abcdef\n", &"x".repeat(257)] {
            assert!(bad.parse::<Token>().is_err(), "{bad:?}");
        }
    }
    #[cfg(unix)]
    #[test]
    fn only_a_short_private_file_holds_a_token() {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt;

        assert_eq!(Token::read("/dev/zero").unwrap_err().kind(), io::ErrorKind::InvalidData);
        let path = std::env::temp_dir().join(format!("kv-lines-{}", Version::random()));
        let token = Token::read_or_create(&path).unwrap();
        for (mode, is_private) in [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o660, false)] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match Token::read_or_create(&path) {
                Ok(read) => assert!(is_private && read == token, "{mode:o}"),
                Err(error) => assert!(!is_private && error.kind() == io::ErrorKind::PermissionDenied, "{mode:o}"),
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
}
