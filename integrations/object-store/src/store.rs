//! An `ObjectStore` over any `KvStore`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use kv_core::{DeleteOptions, DeleteOutcome, Entry, Key, KeyPrefix, KvStore, ListQuery, SetOptions, SetOutcome, When};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, Extensions, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use crate::head::Head;
use crate::pieces::{self, PIECE_BYTES};
use crate::upload::Upload;

pub(crate) type Result<T> = object_store::Result<T>;

/// KvObjectStore in a store: a path is a key, an `ETag` is a version.
#[derive(Debug, Clone)]
pub struct KvObjectStore {
    store: Arc<dyn KvStore>,
}

/// An error that no caller can do much about.
pub(crate) fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "anykv", source: source.into() }
}

/// The store failed.
pub(crate) fn failed(error: kv_core::Error) -> Error {
    generic(error)
}

fn missing(location: &Path) -> Error {
    Error::NotFound { path: location.to_string(), source: "there is no such object".into() }
}

fn key(location: &Path) -> Result<Key> {
    let segments = std::iter::once("objects".to_owned()).chain(location.parts().map(|part| part.as_ref().to_owned()));
    Key::new(segments).map_err(generic)
}

fn location(key: &Key) -> Result<Path> {
    let segments: Vec<_> = key.segments().skip(1).collect();
    Path::parse(segments.join("/")).map_err(generic)
}

impl KvObjectStore {
    /// KvObjectStore in this store, beside nothing else.
    pub fn new(store: Arc<dyn KvStore>) -> Self {
        Self { store }
    }

    async fn entry(&self, location: &Path) -> Result<Entry> {
        self.store.get(&key(location)?).await.map_err(failed)?.ok_or_else(|| missing(location))
    }

    pub(crate) async fn write(
        &self,
        location: &Path,
        data: Bytes,
        attributes: &Attributes,
        mode: PutMode,
    ) -> Result<PutResult> {
        let pieces = if data.len() > PIECE_BYTES { Some(pieces::write(&self.store, &data).await?) } else { None };
        let inline = if pieces.is_some() { Bytes::new() } else { data.clone() };
        let head = Head::new(data.len(), attributes, pieces);
        let when = match &mode {
            PutMode::Overwrite => When::Always,
            PutMode::Create => When::Absent,
            PutMode::Update(update) => {
                let tag =
                    update.e_tag.as_deref().ok_or_else(|| generic("an update needs the tag of what it updates"))?;
                When::Version(tag.parse().map_err(failed)?)
            }
        };
        let options = SetOptions::default().with_when(when).with_previous();
        match self.store.set(&key(location)?, head.encode(&inline)?, &options).await.map_err(failed)? {
            SetOutcome::Stored { version, previous } => {
                self.forget(previous.as_ref()).await?;
                Ok(PutResult {
                    e_tag: version.map(|version| version.to_string()),
                    version: None,
                    extensions: Extensions::default(),
                })
            }
            SetOutcome::Refused { .. } => {
                if let Some(pieces) = &head.pieces {
                    pieces::remove(&self.store, pieces).await?;
                }
                let path = location.to_string();
                Err(match mode {
                    PutMode::Create => Error::AlreadyExists { path, source: "the object is there".into() },
                    _ => Error::Precondition { path, source: "the object is another".into() },
                })
            }
        }
    }

    /// Removes the pieces of what was replaced or deleted.
    async fn forget(&self, entry: Option<&Entry>) -> Result<()> {
        let Some(entry) = entry else { return Ok(()) };
        match Head::decode(&entry.value)?.0.pieces {
            Some(pieces) => pieces::remove(&self.store, &pieces).await,
            None => Ok(()),
        }
    }

    async fn read(&self, location: &Path) -> Result<(Entry, Head, Bytes)> {
        let entry = self.entry(location).await?;
        let (head, inline) = Head::decode(&entry.value)?;
        let data = match &head.pieces {
            Some(pieces) => pieces::read(&self.store, pieces).await?,
            None => inline,
        };
        Ok((entry, head, data))
    }

    async fn delete(&self, location: &Path) -> Result<()> {
        let options = DeleteOptions::default().with_previous();
        match self.store.delete(&key(location)?, &options).await.map_err(failed)? {
            DeleteOutcome::Deleted { previous } => self.forget(previous.as_ref()).await,
            _ => Ok(()),
        }
    }

    /// Every object below a directory, and not the one that is called like it.
    async fn below(&self, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let own = key(&prefix.cloned().unwrap_or_default())?;
        let mut query = ListQuery::new(KeyPrefix::from(&own)).with_after(own);
        let mut found = Vec::new();
        loop {
            let page = self.store.list(&query).await.map_err(failed)?;
            for item in page.items {
                let entry = item.entry.ok_or_else(|| generic("a list with values has an item without one"))?;
                found.push(Head::decode(&entry.value)?.0.meta(&location(&item.key)?, &entry)?);
            }
            match page.next {
                Some(next) => query = query.resume(next),
                None => return Ok(found),
            }
        }
    }
}

impl fmt::Display for KvObjectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KvObjectStore({})", self.store.info().name)
    }
}

#[async_trait]
impl ObjectStore for KvObjectStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.write(location, payload.into(), &options.attributes, options.mode).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (objects, location) = (self.clone(), location.clone());
        Ok(Box::new(Upload { objects, location, attributes: options.attributes, parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (entry, head, data) = self.read(location).await?;
        let meta = head.meta(location, &entry)?;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(|error| generic(error.to_string()))?,
            None => 0..meta.size,
        };
        let place = |at: u64| usize::try_from(at).map_err(generic);
        let data = data.slice(place(range.start)?..place(range.end)?);
        let payload = GetResultPayload::Stream(stream::once(async move { Ok(data) }).boxed());
        Ok(GetResult { payload, attributes: head.attributes()?, meta, range, extensions: Extensions::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let objects = self.clone();
        let deleted = locations.and_then(move |location| {
            let objects = objects.clone();
            async move {
                objects.delete(&location).await?;
                Ok(location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (objects, prefix) = (self.clone(), prefix.cloned());
        let found = async move { objects.below(prefix.as_ref()).await.map(|found| stream::iter(found).map(Ok)) };
        stream::once(found).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let own = prefix.cloned().unwrap_or_default();
        let (mut objects, mut directories) = (Vec::new(), BTreeSet::new());
        for meta in self.below(prefix).await? {
            let mut rest = meta.location.prefix_match(&own).into_iter().flatten();
            match (rest.next(), rest.next()) {
                (Some(directory), Some(_)) => {
                    directories.insert(own.clone().join(directory));
                }
                _ => objects.push(meta.clone()),
            }
        }
        let common_prefixes = directories.into_iter().collect();
        Ok(ListResult { objects, common_prefixes, extensions: Extensions::default() })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (_, head, data) = self.read(from).await?;
        let mode = match options.mode {
            CopyMode::Create => PutMode::Create,
            CopyMode::Overwrite => PutMode::Overwrite,
        };
        self.write(to, data, &head.attributes()?, mode).await.map(drop)
    }
}
