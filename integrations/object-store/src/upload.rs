//! Multipart uploads.

use std::mem;

use async_trait::async_trait;
use bytes::BytesMut;
use object_store::path::Path;
use object_store::{Attributes, MultipartUpload, PutMode, PutPayload, PutResult, UploadPart};

use crate::error::Result;
use crate::store::KvObjectStore;

/// The parts of an object. The parts are kept in memory until the upload completes.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) objects: KvObjectStore,
    pub(crate) location: Path,
    pub(crate) attributes: Attributes,
    pub(crate) parts: Vec<PutPayload>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        self.parts.push(part);
        Box::pin(async { Ok(()) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let mut data = BytesMut::new();
        for part in mem::take(&mut self.parts).iter().flatten() {
            data.extend_from_slice(part);
        }
        let attributes = mem::take(&mut self.attributes);
        self.objects.write(&self.location, data.freeze(), &attributes, PutMode::Overwrite).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}
