//! The Lua scripts. The server runs no other command during a script.

use redis::{Arg, Cmd};

use crate::codec::Format;

/// Defines the scripts of one format from their names. The text of each script is in the file of its name. The scripts
/// in the first list use the functions of the format.
macro_rules! scripts {
    (with functions: $($using:ident)+; alone: $($alone:ident)+;) => {
        /// The scripts of one format.
        #[derive(Debug)]
        pub(crate) struct Scripts {
            $(pub(crate) $using: Script,)+
            $(pub(crate) $alone: Script,)+
        }

        impl Scripts {
            pub(crate) fn new(format: Format) -> Self {
                let functions = match format {
                    Format::Entry => include_str!("lua/format_entry.lua"),
                    Format::Plain => include_str!("lua/format_plain.lua"),
                };
                // Every call of a script defines these functions again, which takes time. Therefore only the scripts
                // that use these functions contain them.
                Self {
                    $($using: Script::new(
                        format!("{functions}\n{}", include_str!(concat!("lua/", stringify!($using), ".lua"))),
                    ),)+
                    $($alone: Script::new(
                        include_str!(concat!("lua/", stringify!($alone), ".lua")).to_owned(),
                    ),)+
                }
            }

            fn all(&self) -> impl Iterator<Item = &Script> {
                [$(&self.$using,)+ $(&self.$alone,)+].into_iter()
            }
        }
    };
}

scripts! {
    with functions: get set delete touch increment commit page;
    alone: get_unless set_new set_many delete_many increment_plain index_add index_prune;
}

/// A script, and its SHA-1 digest, with which `EVALSHA` refers to the script.
#[derive(Debug)]
pub(crate) struct Script {
    text: String,
    digest: String,
}

impl Scripts {
    /// Returns the `EVAL` command of an `EVALSHA` command: the same call, with the text of the script instead of the
    /// digest. Use this command for a server that does not have the script. Returns `None` for any other command.
    pub(crate) fn eval_of(&self, call: &Cmd) -> Option<Cmd> {
        let mut arguments = words(call);
        let (name, digest) = (arguments.next()?, arguments.next()?);
        if name != b"EVALSHA" {
            return None;
        }
        let script = self.all().find(|script| script.has_digest(digest))?;
        let mut eval = redis::cmd("EVAL");
        eval.arg(&script.text);
        arguments.for_each(|argument| {
            eval.arg(argument);
        });
        Some(eval)
    }
}

/// The commands of this crate that change nothing on the server.
const READS: [&[u8]; 12] =
    [b"CONFIG", b"EXISTS", b"GET", b"HELLO", b"INFO", b"MGET", b"PING", b"SCAN", b"TIME", b"TYPE", b"ZCARD", b"ZRANGE"];

impl Scripts {
    /// True if the command changes nothing on the server, so that it may be sent again.
    pub(crate) fn only_reads(&self, cmd: &Cmd) -> bool {
        let mut words = words(cmd);
        match words.next() {
            Some(b"EVALSHA") => words.next().is_some_and(|digest| {
                [&self.get, &self.get_unless, &self.page].into_iter().any(|script| script.has_digest(digest))
            }),
            Some(name) => READS.contains(&name),
            None => false,
        }
    }
}

/// The name and the arguments of a command.
pub(crate) fn words(cmd: &Cmd) -> impl Iterator<Item = &[u8]> {
    cmd.args_iter().map(|argument| match argument {
        Arg::Simple(bytes) => bytes,
        // The other kind of argument is a cursor of the driver, which no command of this crate has.
        _ => [].as_slice(),
    })
}

impl Script {
    fn new(text: String) -> Self {
        let digest = redis::Script::new(&text).get_hash().to_owned();
        Self { text, digest }
    }

    /// True if this is the digest of the script.
    pub(crate) fn has_digest(&self, digest: &[u8]) -> bool {
        self.digest.as_bytes() == digest
    }

    /// Returns an `EVALSHA` command with these `KEYS`. The caller appends the `ARGV`.
    pub(crate) fn call<'k>(&self, keys: impl IntoIterator<Item = &'k [u8], IntoIter: ExactSizeIterator>) -> Cmd {
        let keys = keys.into_iter();
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.digest).arg(keys.len());
        for key in keys {
            call.arg(key);
        }
        call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eval_of_a_call_has_the_text_of_its_script() {
        let scripts = Scripts::new(Format::Entry);
        let mut call = scripts.touch.call([b"k".as_ref(), b"i".as_ref()]);
        call.arg("never").arg(&[1_u8, 2][..]);
        let eval = scripts.eval_of(&call).unwrap();
        let text = |cmd: &Cmd| -> Vec<Vec<u8>> { words(cmd).map(<[u8]>::to_vec).collect() };
        let (short, long) = (text(&call), text(&eval));
        assert_eq!(long[0], b"EVAL");
        assert_eq!(long[1], scripts.touch.text.as_bytes());
        assert_eq!(long[2..], short[2..]);
        assert!(scripts.eval_of(&redis::cmd("GET")).is_none());
        assert!(!scripts.only_reads(&call) && !scripts.only_reads(redis::cmd("SET").arg("GET")));
        let get = scripts.get.call([b"k".as_ref()]);
        assert!(scripts.only_reads(&get) && scripts.only_reads(redis::cmd("GET").arg("SET")));
    }
}
