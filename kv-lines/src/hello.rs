//! The first line of a session, with the version of the protocol and the token of the server.

use kv_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::token::Token;

/// The version of the protocol.
pub(crate) const VERSION: u32 = 1;

/// The maximum length of the first line in bytes.
pub(crate) const MAX_HELLO_BYTES: usize = 4 << 10;

/// The first line of a session.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hello {
    #[serde(default)]
    id: Value,
    op: HelloOp,
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum HelloOp {
    Hello,
}

/// The result of the first line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    version: u32,
}

impl Hello {
    pub(crate) fn new(token: Option<Token>) -> Self {
        Self { id: Value::from(0), op: HelloOp::Hello, version: VERSION, token }
    }

    /// Checks the first line of a session. Returns its id and the result.
    pub(crate) fn check(line: &[u8], token: Option<&Token>) -> (Value, Result<Welcome>) {
        // serde would also decode an array of the fields as a `Hello`.
        let hello = if line.first() == Some(&b'{') { serde_json::from_slice::<Self>(line).ok() } else { None };
        let Some(hello) = hello else {
            let error = "the first line of a session is the request `hello` with the version of the protocol";
            return (Value::Null, Err(Error::denied(error)));
        };
        let result = if token.is_some_and(|token| hello.token.as_ref() != Some(token)) {
            Err(Error::denied("`hello` does not have the token of this server"))
        } else if hello.version == VERSION {
            Ok(Welcome { version: VERSION })
        } else {
            Err(Error::invalid(format!("the version of the protocol is {VERSION}, not {}", hello.version)))
        };
        (hello.id, result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_version_and_token_are_welcome() {
        let token = Token::random();
        let line = |hello: &Hello| serde_json::to_vec(hello).unwrap();
        let right = line(&Hello::new(Some(token.clone())));
        assert!(Hello::check(&right, Some(&token)).1.is_ok() && Hello::check(&right, None).1.is_ok());
        for wrong in [
            line(&Hello::new(None)),
            line(&Hello::new(Some(Token::random()))),
            line(&Hello { version: 2, ..Hello::new(Some(token.clone())) }),
            b"POST / HTTP/1.1\r".to_vec(),
            br#"[0,"hello",1]"#.to_vec(),
            br#"{"op":"set","key":["x"],"value":"1"}"#.to_vec(),
            Vec::new(),
        ] {
            assert!(Hello::check(&wrong, Some(&token)).1.is_err(), "{}", String::from_utf8_lossy(&wrong));
        }
    }
}
