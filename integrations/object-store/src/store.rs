//! An `ObjectStore` over a `KvStore`.

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

use crate::chunks::{self, CHUNK_BYTES};
use crate::error::{Result, failed, generic};
use crate::header::Header;
use crate::upload::Upload;

/// Objects in a [`KvStore`]: a path is a key, an `ETag` is a version.
#[derive(Debug, Clone)]
pub struct KvObjectStore {
    store: Arc<dyn KvStore>,
}

fn missing(location: &Path) -> Error {
    Error::NotFound { path: location.to_string(), source: "no object has this path".into() }
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
    /// Stores objects in `store`, under the keys `objects` and `pieces`. The store must not be used for anything else.
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
        let chunks = if data.len() > CHUNK_BYTES { Some(chunks::write(&self.store, &data).await?) } else { None };
        let inline = if chunks.is_some() { Bytes::new() } else { data.clone() };
        let header = Header::new(data.len(), attributes, chunks);
        let when = match &mode {
            PutMode::Overwrite => When::Always,
            PutMode::Create => When::Absent,
            PutMode::Update(update) => {
                let tag = update.e_tag.as_deref().ok_or_else(|| generic("an update needs the tag of the object"))?;
                When::Version(tag.parse().map_err(failed)?)
            }
        };
        let options = SetOptions::default().with_when(when).with_previous();
        match self.store.set(&key(location)?, header.encode(&inline)?, &options).await.map_err(failed)? {
            SetOutcome::Stored { version, previous } => {
                self.remove_chunks(previous.as_ref()).await?;
                Ok(PutResult {
                    e_tag: version.map(|version| version.to_string()),
                    version: None,
                    extensions: Extensions::default(),
                })
            }
            SetOutcome::Refused { .. } => {
                if let Some(chunks) = &header.chunks {
                    chunks::remove(&self.store, chunks).await?;
                }
                let path = location.to_string();
                Err(match mode {
                    PutMode::Create => Error::AlreadyExists { path, source: "the object exists".into() },
                    _ => Error::Precondition { path, source: "the object has another version".into() },
                })
            }
        }
    }

    /// Removes the chunks of a replaced or deleted object.
    async fn remove_chunks(&self, entry: Option<&Entry>) -> Result<()> {
        let Some(entry) = entry else { return Ok(()) };
        match Header::decode(&entry.value)?.0.chunks {
            Some(chunks) => chunks::remove(&self.store, &chunks).await,
            None => Ok(()),
        }
    }

    async fn read(&self, location: &Path) -> Result<(Entry, Header, Bytes)> {
        let entry = self.entry(location).await?;
        let (header, inline) = Header::decode(&entry.value)?;
        let data = match &header.chunks {
            Some(chunks) => chunks::read(&self.store, chunks).await?,
            None => inline,
        };
        Ok((entry, header, data))
    }

    async fn delete(&self, location: &Path) -> Result<()> {
        let options = DeleteOptions::default().with_previous();
        match self.store.delete(&key(location)?, &options).await.map_err(failed)? {
            DeleteOutcome::Deleted { previous } => self.remove_chunks(previous.as_ref()).await,
            _ => Ok(()),
        }
    }

    /// Lists the objects below a directory, without an object at the path of the directory itself.
    async fn list_below(&self, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let own = key(&prefix.cloned().unwrap_or_default())?;
        let mut query = ListQuery::new(KeyPrefix::from(&own)).with_after(own);
        let mut found = Vec::new();
        loop {
            let page = self.store.list(&query).await.map_err(failed)?;
            for item in page.items {
                let entry = item.entry.ok_or_else(|| generic("an item of a list has no value"))?;
                found.push(Header::decode(&entry.value)?.0.meta(&location(&item.key)?, &entry)?);
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
        let (entry, header, data) = self.read(location).await?;
        let meta = header.meta(location, &entry)?;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(|error| generic(error.to_string()))?,
            None => 0..meta.size,
        };
        let index = |offset: u64| usize::try_from(offset).map_err(generic);
        let data = data.slice(index(range.start)?..index(range.end)?);
        let payload = GetResultPayload::Stream(stream::once(async move { Ok(data) }).boxed());
        Ok(GetResult { payload, attributes: header.attributes()?, meta, range, extensions: Extensions::default() })
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
        let found = async move { objects.list_below(prefix.as_ref()).await.map(|found| stream::iter(found).map(Ok)) };
        stream::once(found).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let own = prefix.cloned().unwrap_or_default();
        let (mut objects, mut directories) = (Vec::new(), BTreeSet::new());
        for meta in self.list_below(prefix).await? {
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
        let (_, header, data) = self.read(from).await?;
        let mode = match options.mode {
            CopyMode::Create => PutMode::Create,
            CopyMode::Overwrite => PutMode::Overwrite,
        };
        self.write(to, data, &header.attributes()?, mode).await.map(drop)
    }
}
