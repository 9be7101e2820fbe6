//! The expiry methods that all builders share.

/// Defines methods that call the builder's own method `expiry`. With `keep`, the macro also defines `keep_ttl`.
macro_rules! expiry_methods {
    () => {
        /// Lets the entry live for this long after the write. If `ttl` is zero, the entry is absent at once.
        pub fn ttl(self, ttl: ::std::time::Duration) -> Self {
            self.expiry($crate::Expiry::After(ttl))
        }

        /// Lets the entry live for the duration in the text, such as `5m` or `1day 2h`.
        ///
        /// # Errors
        /// `Invalid` if the text is not a duration.
        pub fn ttl_text(self, ttl: &str) -> $crate::Result<Self> {
            $crate::expiry::parse_ttl(ttl).map(|ttl| self.ttl(ttl))
        }

        /// Lets the entry live until this time. If the time has passed, the entry is absent at once.
        pub fn expires_at(self, moment: ::std::time::SystemTime) -> Self {
            self.expiry($crate::Expiry::At(moment))
        }

        /// Lets the entry live until it is deleted or overwritten, regardless of the handle's default.
        pub fn forever(self) -> Self {
            self.expiry($crate::Expiry::Never)
        }
    };
    (keep) => {
        $crate::kv::expiry::expiry_methods!();

        /// Keeps the deadline of the replaced entry. If there is no such entry, the new entry never expires.
        pub fn keep_ttl(self) -> Self {
            self.expiry($crate::Expiry::Keep)
        }
    };
}

pub(super) use expiry_methods;
