//! Reads of many keys as reads of one each. While a slot is moved its keys are on two servers, and either of them refuses a
//! command whose keys are on both (`TRYAGAIN`); each key alone is found on the one or the other.

use redis::{Arg, Cmd, Value};

use crate::error::Failure;
use crate::script::Scripts;

/// How many keys are asked for at once.
const AT_ONCE: usize = 16;

/// A read of many keys, taken apart.
pub(crate) struct Parts {
    /// What stands before and behind each key.
    before: Vec<Vec<u8>>,
    keys: std::vec::IntoIter<Vec<u8>>,
    behind: Vec<Vec<u8>>,
    /// How many bytes may still be read; the answer ends where there are none.
    room: usize,
    whole: Whole,
}

/// The answers so far, together.
enum Whole {
    Count(i64),
    List(Vec<Value>),
}

impl Parts {
    /// Takes a command apart that reads several keys; others have to be one step.
    pub(crate) fn of(cmd: &Cmd, scripts: &Scripts) -> Option<Self> {
        let mut words = cmd.args_iter().map(|argument| match argument {
            Arg::Simple(bytes) => bytes.to_vec(),
            _ => Vec::new(),
        });
        let name = words.next()?;
        let (before, keys, behind, room, whole) = match name.as_slice() {
            b"MGET" => (vec![name], words.collect(), Vec::new(), usize::MAX, Whole::List(Vec::new())),
            b"EXISTS" => (vec![name], words.collect(), Vec::new(), usize::MAX, Whole::Count(0)),
            b"EVALSHA" => {
                let digest = words.next().filter(|digest| scripts.page.is(digest))?;
                let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<usize>().ok();
                let count = number(&words.next()?)?;
                let keys: Vec<_> = words.by_ref().take(count).collect();
                let behind: Vec<_> = words.collect();
                let room = number(behind.first()?)?;
                (vec![name, digest, b"1".to_vec()], keys, behind, room, Whole::List(Vec::new()))
            }
            _ => return None,
        };
        (keys.len() > 1).then(|| Self { before, keys: keys.into_iter(), behind, room, whole })
    }

    /// The next commands, of one key each.
    pub(crate) fn next(&mut self) -> Option<Vec<Cmd>> {
        if self.room == 0 {
            return None;
        }
        let (before, behind) = (&self.before, &self.behind);
        let cmds: Vec<Cmd> = self
            .keys
            .by_ref()
            .take(AT_ONCE)
            .map(|key| {
                let mut cmd = Cmd::new();
                before.iter().chain([&key]).chain(behind).for_each(|word| {
                    cmd.arg(word);
                });
                cmd
            })
            .collect();
        (!cmds.is_empty()).then_some(cmds)
    }

    /// Takes the answer to the next of the commands.
    pub(crate) fn answered(&mut self, answer: Value) -> Result<(), Failure> {
        match (&mut self.whole, answer) {
            (Whole::Count(count), Value::Int(one)) => *count += one,
            (Whole::List(_), Value::Array(values)) if values.is_empty() => self.room = 0,
            (Whole::List(list), Value::Array(values)) if self.room > 0 => {
                self.room = self.room.saturating_sub(values.iter().map(length).sum());
                list.extend(values);
            }
            // It comes behind what ended the answer.
            (Whole::List(_), Value::Array(_)) => {}
            _ => return Err(Failure::Strange),
        }
        Ok(())
    }

    pub(crate) fn whole(self) -> Value {
        match self.whole {
            Whole::Count(count) => Value::Int(count),
            Whole::List(list) => Value::Array(list),
        }
    }
}

fn length(value: &Value) -> usize {
    match value {
        Value::BulkString(bytes) => bytes.len(),
        Value::Array(values) => values.iter().map(length).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Format;

    fn words(cmd: &Cmd) -> Vec<String> {
        let text = |argument| match argument {
            Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        cmd.args_iter().map(text).collect()
    }

    #[test]
    fn a_read_of_many_keys_is_one_of_each_and_its_answer_the_same() {
        let scripts = Scripts::new(Format::Entry);
        let mut parts = Parts::of(redis::cmd("MGET").arg("a").arg("b"), &scripts).unwrap();
        let cmds = parts.next().unwrap();
        assert_eq!(cmds.iter().map(words).collect::<Vec<_>>(), [["MGET", "a"], ["MGET", "b"]]);
        let value = Value::BulkString(b"v".to_vec());
        for answer in [Value::Nil, value.clone()] {
            parts.answered(Value::Array(vec![answer])).unwrap();
        }
        assert!(parts.next().is_none());
        assert_eq!(parts.whole(), Value::Array(vec![Value::Nil, value]));

        let mut parts = Parts::of(redis::cmd("EXISTS").arg("a").arg("b"), &scripts).unwrap();
        assert_eq!(parts.next().unwrap().len(), 2);
        for answer in [0, 1] {
            parts.answered(Value::Int(answer)).unwrap();
        }
        assert_eq!(parts.whole(), Value::Int(1));
    }

    #[test]
    fn a_page_ends_where_it_is_full() {
        let scripts = Scripts::new(Format::Entry);
        let mut call = scripts.page.call([b"a".as_ref(), b"b".as_ref(), b"c".as_ref()]);
        call.arg(2).arg(1);
        let mut parts = Parts::of(&call, &scripts).unwrap();
        let cmds = parts.next().unwrap();
        assert_eq!(words(&cmds[1])[2..], ["1", "b", "2", "1"]);
        let value = || Value::BulkString(b"v".to_vec());
        for _ in cmds {
            parts.answered(Value::Array(vec![value()])).unwrap();
        }
        assert_eq!(parts.whole(), Value::Array(vec![value(), value()]));
    }

    #[test]
    fn what_is_one_step_is_not_taken_apart() {
        let scripts = Scripts::new(Format::Entry);
        for cmd in [scripts.set.call([b"a".as_ref(), b"b".as_ref()]), redis::cmd("GET").arg("a").take()] {
            assert!(Parts::of(&cmd, &scripts).is_none());
        }
        assert!(Parts::of(redis::cmd("MGET").arg("a"), &scripts).is_none());
    }
}
