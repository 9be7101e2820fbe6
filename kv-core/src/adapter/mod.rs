//! Helpers for adapters, so that every store reports errors the same way.

mod context;
mod effect;

pub use self::context::ErrorContext;
pub use self::effect::Effect;
