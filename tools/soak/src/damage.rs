//! Deliberate damage, which proves that the judgement finds damage.

use anykv::{Key, Kv};

use crate::args::Damage;
use crate::error::Result;
use crate::judge::Model;
use crate::operation::Value;
use crate::shared::{COUNTERS, GROUP, TOGETHER};

/// Damages the store as a defect of the store would.
pub(crate) async fn damage(kv: &Kv, model: &Model, damage: Damage) -> Result<()> {
    let (counter, part) = (Key::new([GROUP, COUNTERS[0]])?, Key::new([GROUP, TOGETHER[1]])?);
    match damage {
        Damage::Lost => {
            let found = model.groups.iter().find_map(|group| Some((group.name(), group.certain_key()?)));
            let (group, key) = found.ok_or("there is no entry to lose")?;
            kv.delete([group, key]).await?;
        }
        Damage::Torn => {
            let other = Value::Written { writer: 0, number: 0, size: 40 };
            kv.set_bytes(part, other.to_bytes()).await?;
        }
        Damage::Doubled => {
            let by = model.shared.last_addition(COUNTERS[0]).unwrap_or(1);
            kv.increment(counter, by).await?;
        }
    }
    Ok(())
}
