//! The same scripts on several stores, and their answers beside each other.

use kv_core::{Namespace, Namespaced};

use super::code;
use super::menu::Menu;
use super::play::Player;
use super::search::{Parting, script};
use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// Plays the same scripts on each of these stores, with what all of them can do, and fails where two answer differently. The
/// names are for the failure.
pub(crate) async fn compare(stores: &[(String, Context)]) -> Verdict {
    let Some(((first_name, first), others)) = stores.split_first() else { return Ok(()) };
    let moves_clock = stores.iter().all(|(_, cx)| cx.moves_clock());
    let menu = stores.iter().fold(Menu::ALL, |menu, (_, cx)| menu.within(&cx.capabilities(), moves_clock));
    for nth in 1..=first.scripts() {
        let script = script(menu, first.seed(), nth)?;
        let place = || Namespace::new(["compared", &nth.to_string()]);
        let mut reference = Player::new(first, Namespaced::new(first.store().clone(), place()?));
        let mut players = Vec::new();
        for (name, cx) in others {
            players.push((name, Player::new(cx, Namespaced::new(cx.store().clone(), place()?))));
        }
        for (at, step) in script.iter().enumerate() {
            let expected = reference.step(step).await;
            for (name, player) in &mut players {
                let found = player.step(step).await;
                if found != expected {
                    let script = script.get(..=at).unwrap_or(&script);
                    let parting = Parting { at, expected: format!("{expected:?}"), found: format!("{found:?}") };
                    return Err(Failure::new(format!(
                        "{first_name} and {name} part at step {} of script {nth}:\n{}",
                        at + 1,
                        code::test(script, &parting)
                    )));
                }
            }
        }
    }
    Ok(())
}
