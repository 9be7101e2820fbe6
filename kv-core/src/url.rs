//! Store URLs, the schemes that adapters register, and the registry that opens stores.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::BoxFuture;
use crate::error::{Error, Operation, Result};
use crate::expiry::{Expiry, parse_ttl};
use crate::key::{Key, Namespace};
use crate::kv::Kv;
use crate::store::KvStore;
use crate::url_options;
use crate::verification::{TakeEntry, Verification};

/// The URL of a store: `scheme:rest?option=value&…`.
///
/// `Debug` and `Display` hide the user information and the values of all options, because both may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    scheme: String,
    rest: String,
    options: Vec<(String, String)>,
}

impl StoreUrl {
    /// The maximum number of options in a URL.
    pub const MAX_OPTIONS: usize = 64;

    /// Returns the part before the first colon, in lower case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns the part between the scheme's colon and the options, as written.
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// Returns the rest as a percent-decoded file path.
    ///
    /// # Errors
    /// `Invalid` if the rest is empty or does not decode to UTF-8.
    pub fn path(&self) -> Result<String> {
        let decoded = percent_decode_str(&self.rest).decode_utf8();
        match decoded {
            Ok(path) if !path.is_empty() => Ok(path.into_owned()),
            _ => Err(Error::invalid(format!("`{}:` needs a path in UTF-8 after the colon", self.scheme))),
        }
    }

    /// Deserializes the options into an adapter's configuration. The configuration type needs the attribute
    /// `#[serde(default, deny_unknown_fields)]`, so that the error for an unknown option lists the known options.
    ///
    /// # Errors
    /// `Invalid` for an option that is unknown, repeated or of the wrong type.
    pub fn options<C: DeserializeOwned>(&self) -> Result<C> {
        url_options::from_pairs(&self.options)
            .map_err(|error| Error::invalid(format!("bad option for `{}:`: {error}", self.scheme)))
    }

    /// Sets an option, in place of its earlier value.
    fn set(&mut self, name: &str, value: &str) {
        self.take(name);
        self.options.push((name.to_owned(), value.to_owned()));
    }

    /// Removes and returns an option that the registry handles itself.
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.options.iter().position(|(option, _)| option == name)?;
        Some(self.options.remove(at).1)
    }
}

impl FromStr for StoreUrl {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let shape =
            || Error::invalid("a store's URL is `scheme:rest?option=value`, such as `memory:` or `sled:./data`");
        let (scheme, rest) = url.split_once(':').ok_or_else(shape)?;
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            return Err(shape());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // Percent-decoding, not form-decoding, because passwords in such URLs contain plus signs.
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(Cow::into_owned).map_err(|_| shape());
        let option = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(value)?))
        };
        let pairs = || query.split('&').filter(|pair| !pair.is_empty());
        if pairs().nth(Self::MAX_OPTIONS).is_some() {
            return Err(Error::invalid(format!("a URL has at most {} options", Self::MAX_OPTIONS)));
        }
        let options: Vec<(String, String)> = pairs().map(option).collect::<Result<_>>()?;
        for (index, (name, _)) in options.iter().enumerate() {
            if options.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(Error::invalid("an option is given twice"));
            }
        }
        Ok(Self { scheme: scheme.to_ascii_lowercase(), rest: rest.to_owned(), options })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A `?` in a password ends the rest too early. Then an option contains an `@`, and the rest contains the start
        // of the password.
        let is_cut = self.options.iter().any(|(name, value)| name.contains('@') || value.contains('@'));
        let slashes = if self.rest.starts_with("//") { "//" } else { "" };
        match self.rest.rsplit_once('@') {
            _ if is_cut => write!(f, "{}:{slashes}***", self.scheme)?,
            Some((_, host)) => write!(f, "{}:{slashes}***@{host}", self.scheme)?,
            None => write!(f, "{}:{}", self.scheme, self.rest)?,
        }
        if is_cut {
            return f.write_str("?***");
        }
        self.options.iter().enumerate().try_for_each(|(index, (name, _))| {
            write!(f, "{}{}=***", if index == 0 { '?' } else { '&' }, if is_name(name) { name } else { "***" })
        })
    }
}

/// True for a valid option name. Any other text is hidden, because it may be a secret that was typed in the wrong
/// place.
fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// The future that opens a store.
pub type Opening = BoxFuture<'static, Result<Arc<dyn KvStore>>>;

/// The future that verifies a store.
pub type Verifying = BoxFuture<'static, Result<Verification>>;

/// A scheme of store URLs, and the function that opens its stores. Each adapter exports it as a constant.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Scheme {
    /// The part of the URL before the colon.
    pub name: &'static str,
    /// An example URL with the scheme's options, for help texts.
    pub usage: &'static str,
    /// Opens the store.
    pub open: fn(StoreUrl) -> Opening,
    /// Verifies everything that is stored; `None` if the adapter has nothing to verify.
    pub verify: Option<fn(StoreUrl, TakeEntry) -> Verifying>,
    /// True if the scheme has the option `create`, which forbids the creation of a missing store if it is `false`.
    pub has_create: bool,
}

impl Scheme {
    /// Creates a scheme that opens stores.
    pub const fn new(name: &'static str, usage: &'static str, open: fn(StoreUrl) -> Opening) -> Self {
        Self { name, usage, open, verify: None, has_create: false }
    }

    /// Declares that the scheme has the option `create`. With `create=false`, opening a missing store is `Invalid`, and
    /// nothing is created. A scheme whose opening can create files, tables or records should have this option, because
    /// [`Registry::open_existing`] uses it.
    #[must_use]
    pub const fn with_create(mut self) -> Self {
        self.has_create = true;
        self
    }

    /// Adds a function that verifies everything that is stored. The function does not create a missing store, and it
    /// also reads files that are too damaged to be opened as a store.
    #[must_use]
    pub const fn with_verify(mut self, verify: fn(StoreUrl, TakeEntry) -> Verifying) -> Self {
        self.verify = Some(verify);
        self
    }
}

/// The schemes that a program can open.
///
/// # Examples
/// ```
/// use kv_core::Registry;
///
/// # let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # rt.block_on(async {
/// let error = Registry::new().open("memroy:").await.unwrap_err();
/// assert!(error.to_string().contains("no store knows `memroy:`"));
/// # });
/// ```
#[derive(Debug, Clone, Default)]
pub struct Registry {
    schemes: Vec<Scheme>,
}

impl Registry {
    /// Creates a registry without schemes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a scheme. The new scheme replaces an earlier scheme of the same name.
    #[must_use]
    pub fn with(mut self, scheme: Scheme) -> Self {
        self.schemes.retain(|known| known.name != scheme.name);
        self.schemes.push(scheme);
        self
    }

    /// Returns the schemes in the order in which they were added.
    pub fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    /// Opens the store of a URL and returns a handle. The registry handles two options itself: `prefix`, a namespace as
    /// canonical key text, and `ttl`, the default time to live as humantime text. All other options go to the adapter.
    ///
    /// # Errors
    /// `Invalid` for a URL that no adapter accepts, and the error of opening the store.
    pub async fn open(&self, url: &str) -> Result<Kv> {
        self.open_parsed(url.parse()?).await
    }

    /// Opens the store of a URL as [`Registry::open`] does, but does not create a missing store. A mistyped path, table or
    /// namespace is an error and not an empty store. This method sets the option `create` of schemes that have it.
    ///
    /// # Errors
    /// `Invalid` if the store does not exist, and the errors of [`Registry::open`].
    pub async fn open_existing(&self, url: &str) -> Result<Kv> {
        let mut url: StoreUrl = url.parse()?;
        self.forbid_creation(&mut url)?;
        self.open_parsed(url).await
    }

    async fn open_parsed(&self, mut url: StoreUrl) -> Result<Kv> {
        let namespace = match url.take("prefix") {
            Some(text) => Some(Namespace::try_from(Key::parse(&text)?)?),
            None => None,
        };
        let ttl = match url.take("ttl") {
            Some(text) => Some(parse_ttl(&text)?),
            None => None,
        };
        let mut kv = Kv::new(self.open_store(url).await?);
        if let Some(ttl) = ttl {
            kv = kv.with_default_expiry(Expiry::After(ttl));
        }
        match namespace {
            Some(namespace) => kv.in_namespace(&namespace),
            None => Ok(kv),
        }
    }

    /// Opens the store of a URL whose options are all for the adapter.
    ///
    /// # Errors
    /// The errors of [`Registry::open`].
    pub async fn open_store(&self, url: StoreUrl) -> Result<Arc<dyn KvStore>> {
        let scheme = self.scheme(&url)?;
        (scheme.open)(url).await.map_err(|error| error.with_operation(Operation::Open).with_backend(scheme.name))
    }

    /// Verifies everything that the store of a URL holds, and passes every sound entry to `take`. No other process
    /// should have the store open during the verification. A store whose files belong to one process cannot be verified
    /// while it is open.
    ///
    /// # Errors
    /// `Invalid` for a URL that no adapter accepts, for a URL with a `prefix` (only whole stores can be verified), and
    /// for a store that has nothing to verify. Otherwise the error that prevents reading, or the first error that
    /// `take` returns. Damage is not an error unless nothing at all can be read.
    pub async fn verify(&self, url: &str, take: TakeEntry) -> Result<Verification> {
        let mut url: StoreUrl = url.parse()?;
        if url.take("prefix").is_some() {
            return Err(Error::invalid("only a whole store can be verified: leave out `prefix`"));
        }
        url.take("ttl");
        let scheme = self.forbid_creation(&mut url)?;
        let Some(verify) = scheme.verify else {
            return Err(Error::invalid(format!("`{}:` keeps no files that can be verified", scheme.name)));
        };
        verify(url, take).await.map_err(|error| error.with_operation(Operation::Verify).with_backend(scheme.name))
    }

    /// Sets the option that forbids creating a missing store, if the URL's scheme has the option.
    fn forbid_creation(&self, url: &mut StoreUrl) -> Result<Scheme> {
        let scheme = self.scheme(url)?;
        if scheme.has_create {
            url.set("create", "false");
        }
        Ok(scheme)
    }

    fn scheme(&self, url: &StoreUrl) -> Result<Scheme> {
        self.schemes.iter().find(|scheme| scheme.name == url.scheme).copied().ok_or_else(|| {
            let known: Vec<_> = self.schemes.iter().map(|scheme| format!("`{}:`", scheme.name)).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Error::invalid(format!("no store knows `{}:`; known are {known}", url.scheme))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Options {
        size: u64,
        name: Option<String>,
    }

    #[test]
    fn a_url_has_a_scheme_a_rest_and_options() {
        let plus: StoreUrl = "a:?name=s3cret+%2b".parse().unwrap();
        assert_eq!(plus.options::<Options>().unwrap().name.as_deref(), Some("s3cret++"));
        let url: StoreUrl = "SLED:./my%20data?size=5&name=a%26b".parse().unwrap();
        assert_eq!((url.scheme(), url.path().unwrap().as_str()), ("sled", "./my data"));
        assert_eq!(url.options::<Options>().unwrap(), Options { size: 5, name: Some("a&b".into()) });
        for bad in ["", "memory", ":x", "a b:x", "a:?b=1&b=1"] {
            assert!(bad.parse::<StoreUrl>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_error_for_a_bad_option_lists_the_known_options() {
        let error = |url: &str| url.parse::<StoreUrl>().unwrap().options::<Options>().unwrap_err().to_string();
        let unknown = error("memory:?sise=5");
        assert!(unknown.contains("did you mean `size`?") && unknown.contains("`name`"), "{unknown}");
        assert!(!error("memory:?zzz=5").contains("did you mean"));
        let bad = error("memory:?size=big");
        assert!(bad.contains("memory") && bad.contains("`size`: expected u64"), "{bad}");
    }

    #[test]
    fn display_and_errors_hide_secrets() {
        let url: StoreUrl = "redis://ada:canary@host/0?password=canary".parse().unwrap();
        assert_eq!(format!("{url}"), "redis://***@host/0?password=***");
        assert!(!format!("{url:?}").contains("canary"));
        let url: StoreUrl = "redis://host?password:canary".parse().unwrap();
        assert_eq!(format!("{url}"), "redis://host?***=***");
        assert!(!url.options::<Options>().unwrap_err().to_string().contains("canary"));
        assert!(!"redis://host?p:canary&p:canary".parse::<StoreUrl>().unwrap_err().to_string().contains("canary"));
        // Mistyped in every way. No part of the password is shown.
        for url in [
            "redis://u:a?canary=1@h",
            "redis://u:a?canary@h",
            "redis://u:a&canary=1@h?x=1",
            "redis://u:canary?a@h",
            "redis://h?size=canary",
            "redis://h?canary=1",
            "redis://h?canary=1&canary=2",
            "redis:// u:canary@h",
        ] {
            let Ok(parsed) = url.parse::<StoreUrl>() else {
                assert!(!url.parse::<StoreUrl>().unwrap_err().to_string().contains("canary"), "{url}");
                continue;
            };
            let error = parsed.options::<Options>().err().map(|error| format!("{error:?} {error}"));
            assert!(!error.unwrap_or_default().contains("canary"), "{url}");
            assert!(url.contains("h?canary=1") || !format!("{parsed} {parsed:?}").contains("canary"), "{parsed}");
        }
    }

    #[test]
    fn opening_an_existing_store_sets_the_option_create_of_schemes_that_have_it() {
        /// Reports whether the URL forbids creation, as an error.
        fn open(url: StoreUrl) -> Opening {
            Box::pin(async move { Err(Error::invalid(format!("create is {:?}", url.clone().take("create")))) })
        }
        let registry = Registry::new().with(Scheme::new("a", "", open).with_create()).with(Scheme::new("b", "", open));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = |url| runtime.block_on(registry.open_existing(url)).unwrap_err().to_string();
        assert!(error("a:x?create=true").contains("Some(\"false\")"));
        assert!(error("b:x").contains("None"));
    }

    #[test]
    fn a_url_of_sixty_thousand_options_is_refused_at_once() {
        let options: Vec<_> = (0..60_000).map(|number| format!("o{number}=1")).collect();
        let url = format!("memory:?{}", options.join("&"));
        assert!(url.parse::<StoreUrl>().is_err());
    }
}
