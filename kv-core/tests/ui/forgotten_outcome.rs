#![deny(unused_must_use)]

use kv_core::{Kv, Result};

async fn forgets(kv: &Kv) -> Result<()> {
    kv.set(["k"], "v").if_absent().await?;
    kv.delete(["k"]).if_value("v").await?;
    kv.transaction().delete(["k"]).commit().await?;
    kv.set_many([(["k"], "v")]).await;
    kv.delete_many([["k"]]).await;
    Ok(())
}

fn main() {}
