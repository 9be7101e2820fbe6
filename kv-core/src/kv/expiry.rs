//! How a builder is told how long an entry lives: the same words on each of them.

/// The short forms of a builder's own `expiry`.
macro_rules! expiry_methods {
    () => {
        /// Lets the entry live for this long from the write on. Zero: it is absent at once.
        pub fn ttl(self, ttl: ::std::time::Duration) -> Self {
            self.expiry($crate::Expiry::After(ttl))
        }

        /// Lets the entry live for as long as the text says, such as `5m` or `1day 2h`.
        ///
        /// # Errors
        /// `Invalid` for text that is no duration.
        pub fn ttl_text(self, ttl: &str) -> $crate::Result<Self> {
            $crate::url::parse_ttl(ttl).map(|ttl| self.ttl(ttl))
        }

        /// Lets the entry live until this moment. In the past: it is absent at once.
        pub fn expires_at(self, moment: ::std::time::SystemTime) -> Self {
            self.expiry($crate::Expiry::At(moment))
        }

        /// Lets the entry live until it is deleted or overwritten, whatever the handle's default is.
        pub fn forever(self) -> Self {
            self.expiry($crate::Expiry::Never)
        }
    };
    (keep) => {
        $crate::kv::expiry::expiry_methods!();

        /// Keeps the deadline of the entry that is replaced; where there is none, the new one lives for ever.
        pub fn keep_ttl(self) -> Self {
            self.expiry($crate::Expiry::Keep)
        }
    };
}

pub(super) use expiry_methods;
