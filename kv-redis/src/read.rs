//! Reads of keys that are named.

use kv_core::{Entry, Error, Key, Result};
use redis::{Cmd, Value};

use crate::batch::by_bucket;
use crate::error::{Failure, read};
use crate::request::Request;
use crate::store::Shared;

/// How many keys one command reads: the server does nothing else meanwhile.
const AT_ONCE: usize = 1_000;

impl Shared {
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let answer = self.call(&self.get_request(key)).await.map_err(read)?;
        self.format.decode(key, answer)
    }

    fn get_request(&self, key: &Key) -> Request {
        let place = self.layout.place(key);
        let cmd = if self.is_plain() {
            self.scripts.get.call([place.physical.as_slice()])
        } else {
            let mut cmd = Cmd::with_capacity(2, place.physical.len() + 3);
            cmd.arg("GET").arg(&place.physical);
            cmd
        };
        Request::new(place.slot, cmd)
    }

    pub(crate) async fn contains(&self, key: &Key) -> Result<bool> {
        let place = self.layout.place(key);
        // Where other programs write too, a key may be of a type that is no value of ours.
        let mut cmd = redis::cmd(if self.is_plain() { "TYPE" } else { "EXISTS" });
        cmd.arg(&place.physical);
        match self.call(&Request::new(place.slot, cmd)).await.map_err(read)? {
            Value::Int(count) => Ok(count == 1),
            Value::SimpleString(kind) if kind == "none" => Ok(false),
            Value::SimpleString(kind) if kind == "string" => Ok(true),
            Value::SimpleString(_) => Err(Error::corrupt("another type is stored under the key, which is not ours")),
            _ => Err(read(Failure::Strange)),
        }
    }

    pub(crate) async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        if self.is_plain() {
            let requests: Vec<_> = keys.iter().map(|key| self.get_request(key)).collect();
            let answers = self.call_many(&requests).await;
            return answers.into_iter().zip(keys).map(|(answer, key)| self.read_one(key, answer)).collect();
        }
        let groups = by_bucket(keys.iter().map(|key| self.layout.place(key)).enumerate(), AT_ONCE);
        let requests: Vec<_> = groups
            .iter()
            .map(|group| {
                let mut cmd = redis::cmd("MGET");
                group.members.iter().for_each(|(_, place)| {
                    cmd.arg(&place.physical);
                });
                Request::new(group.slot, cmd)
            })
            .collect();
        let mut answers: Vec<Option<Result<Option<Entry>>>> = Vec::new();
        answers.resize_with(keys.len(), || None);
        for (group, answer) in groups.iter().zip(self.call_many(&requests).await) {
            let mut found = match answer {
                Ok(Value::Array(values)) if values.len() == group.members.len() => Ok(values.into_iter()),
                Ok(_) => Err(Failure::Strange),
                Err(failure) => Err(failure),
            };
            for (number, _) in &group.members {
                let (Some(key), Some(place)) = (keys.get(*number), answers.get_mut(*number)) else { continue };
                *place = Some(match &mut found {
                    Ok(values) => self.format.decode(key, values.next().unwrap_or_default()),
                    Err(failure) => Err(read(failure.clone())),
                });
            }
        }
        self.look_behind_nothing(keys, &mut answers).await;
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(read(Failure::Strange)))).collect()
    }

    /// `MGET` gives nothing for a key of another type, which is not the same as no key. One more round trip tells, and only
    /// where something is missing: mostly nothing is there.
    async fn look_behind_nothing(&self, keys: &[Key], answers: &mut [Option<Result<Option<Entry>>>]) {
        let missing = answers.iter().zip(keys).enumerate().filter(|(_, (answer, _))| matches!(answer, Some(Ok(None))));
        let missing = missing.map(|(number, (_, key))| ((number, key), self.layout.place(key)));
        let groups = by_bucket(missing, AT_ONCE);
        let requests: Vec<_> = groups
            .iter()
            .map(|group| {
                let mut cmd = redis::cmd("EXISTS");
                group.members.iter().for_each(|(_, place)| {
                    cmd.arg(&place.physical);
                });
                Request::new(group.slot, cmd)
            })
            .collect();
        let exist = self.call_many(&requests).await;
        // Where that could not be asked, what is known stays.
        let suspect = groups.iter().zip(exist).filter(|(_, count)| matches!(count, Ok(Value::Int(1..))));
        let suspect: Vec<_> = suspect.flat_map(|(group, _)| &group.members).map(|(named, _)| *named).collect();
        let requests: Vec<_> = suspect.iter().map(|(_, key)| self.get_request(key)).collect();
        for ((number, key), answer) in suspect.into_iter().zip(self.call_many(&requests).await) {
            if let Some(place) = answers.get_mut(number) {
                *place = Some(self.read_one(key, answer));
            }
        }
    }

    fn read_one(&self, key: &Key, answer: Result<Value, Failure>) -> Result<Option<Entry>> {
        self.format.decode(key, answer.map_err(read)?)
    }
}
