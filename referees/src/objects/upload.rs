//! Uploads in parts.

use std::mem;

use async_trait::async_trait;
use bytes::BytesMut;
use object_store::path::Path;
use object_store::{Attributes, MultipartUpload, PutMode, PutPayload, PutResult, UploadPart};

use super::store::{Objects, Result};

/// The parts of an object, in memory until it is complete.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) objects: Objects,
    pub(super) location: Path,
    pub(super) attributes: Attributes,
    pub(super) parts: Vec<PutPayload>,
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
