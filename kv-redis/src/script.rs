//! The scripts, each an atomic step on the server.

use redis::{Arg, Cmd};

use crate::codec::Format;

/// The scripts of one format.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) add: Script,
    pub(crate) set: Script,
    pub(crate) delete: Script,
    pub(crate) touch: Script,
    pub(crate) increment: Script,
    pub(crate) count: Script,
    pub(crate) commit: Script,
    pub(crate) fill: Script,
    pub(crate) remove: Script,
    pub(crate) prune: Script,
    pub(crate) adopt: Script,
    pub(crate) page: Script,
    pub(crate) get: Script,
}

/// A script and the digest by which the server knows it.
#[derive(Debug)]
pub(crate) struct Script {
    text: String,
    digest: String,
}

impl Scripts {
    pub(crate) fn new(format: Format) -> Self {
        let words = match format {
            Format::Entry => include_str!("lua/entry.lua"),
            Format::Plain => include_str!("lua/plain.lua"),
        };
        // The words are defined anew at each call, so only those bring them that use them.
        let script = |body| Script::new(format!("{words}\n{body}"));
        let bare = |body: &str| Script::new(body.to_owned());
        Self {
            add: bare(include_str!("lua/add.lua")),
            set: script(include_str!("lua/set.lua")),
            delete: script(include_str!("lua/delete.lua")),
            touch: script(include_str!("lua/touch.lua")),
            count: bare(include_str!("lua/count.lua")),
            increment: script(include_str!("lua/increment.lua")),
            commit: script(include_str!("lua/commit.lua")),
            fill: bare(include_str!("lua/fill.lua")),
            remove: bare(include_str!("lua/remove.lua")),
            prune: bare(include_str!("lua/prune.lua")),
            adopt: bare(include_str!("lua/adopt.lua")),
            page: script(include_str!("lua/page.lua")),
            get: script(include_str!("lua/get.lua")),
        }
    }

    fn all(&self) -> [&Script; 13] {
        let Self { add, set, delete, touch, increment, count, commit, fill, remove, prune, adopt, page, get } = self;
        [add, set, delete, touch, increment, count, commit, fill, remove, prune, adopt, page, get]
    }

    /// The same call with the script's text, for a server that does not know it, or not any more.
    pub(crate) fn spelled_out(&self, call: &Cmd) -> Option<Cmd> {
        let mut arguments = call.args_iter().map(|argument| match argument {
            Arg::Simple(bytes) => bytes,
            // None of our commands has a cursor of the driver's.
            _ => [].as_slice(),
        });
        let (name, digest) = (arguments.next()?, arguments.next()?);
        if name != b"EVALSHA" {
            return None;
        }
        let script = self.all().into_iter().find(|script| script.is(digest))?;
        let mut spelled = redis::cmd("EVAL");
        spelled.arg(&script.text);
        arguments.for_each(|argument| {
            spelled.arg(argument);
        });
        Some(spelled)
    }
}

impl Script {
    fn new(text: String) -> Self {
        let digest = redis::Script::new(&text).get_hash().to_owned();
        Self { text, digest }
    }

    /// Whether the server knows it by this digest.
    pub(crate) fn is(&self, digest: &[u8]) -> bool {
        self.digest.as_bytes() == digest
    }

    /// A call with these keys; the arguments come behind.
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
    fn a_call_is_spelled_out_with_the_text_of_its_script() {
        let scripts = Scripts::new(Format::Entry);
        let mut call = scripts.touch.call([b"k".as_ref(), b"i".as_ref()]);
        call.arg("never").arg(&[1_u8, 2][..]);
        let spelled = scripts.spelled_out(&call).unwrap();
        let text = |cmd: &Cmd| -> Vec<Vec<u8>> {
            cmd.args_iter().map(|arg| if let Arg::Simple(bytes) = arg { bytes.to_vec() } else { vec![] }).collect()
        };
        let (short, long) = (text(&call), text(&spelled));
        assert_eq!(long[0], b"EVAL");
        assert_eq!(long[1], scripts.touch.text.as_bytes());
        assert_eq!(long[2..], short[2..]);
        assert!(scripts.spelled_out(&redis::cmd("GET")).is_none());
    }
}
