//! Scripts of random steps, run on a store and on a model beside it, and shrunk where they part.

mod answer;
mod code;
mod compare;
mod menu;
mod model;
mod play;
mod search;
mod step;

pub(crate) use self::compare::compare;
pub(crate) use self::menu::Menu;
pub(crate) use self::search::search;
