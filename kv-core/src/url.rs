//! Stores by URL: what a URL says, and which adapters know its scheme.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::BoxFuture;
use crate::error::{Error, Operation, Result};
use crate::expiry::Expiry;
use crate::key::{Key, Namespace};
use crate::kv::Kv;
use crate::store::KvStore;
use crate::verification::{TakeEntry, Verification};

/// The address of a store: `scheme:rest?option=value&…`.
///
/// `Debug` and `Display` hide what may be a secret: the user information and the values of all options.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    scheme: String,
    rest: String,
    options: Vec<(String, String)>,
}

impl StoreUrl {
    /// The part before the first colon, in lower case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The part between the scheme's colon and the options, as it was written.
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// The rest as the path of a file, percent-decoded.
    ///
    /// # Errors
    /// `Invalid` where it does not decode to UTF-8, or is empty.
    pub fn path(&self) -> Result<String> {
        let decoded = percent_decode_str(&self.rest).decode_utf8();
        match decoded {
            Ok(path) if !path.is_empty() => Ok(path.into_owned()),
            _ => Err(Error::invalid(format!("`{}:` needs a path in UTF-8 behind the colon", self.scheme))),
        }
    }

    /// The options as an adapter's configuration. Give it `#[serde(default, deny_unknown_fields)]`, so that an unknown
    /// option is refused by an error that names the known ones.
    ///
    /// # Errors
    /// `Invalid` for an option that is unknown, given twice or not of its type.
    pub fn options<C: DeserializeOwned>(&self) -> Result<C> {
        let bad = |error: &dyn fmt::Display| Error::invalid(format!("bad option for `{}:`: {error}", self.scheme));
        if self.options.iter().any(|(name, _)| !is_name(name)) {
            // It is not shown: it may be a secret that was typed in the wrong place.
            return Err(bad(&"a name has letters, digits, `_` and `-` only"));
        }
        let query = serde_html_form::to_string(&self.options).map_err(|error| bad(&error))?;
        serde_html_form::from_str(&query).map_err(|error| bad(&error))
    }

    /// Takes out an option that is not the adapter's.
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
        // Not as a form: a plus sign is one, as in the passwords that stand in such URLs.
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(Cow::into_owned).map_err(|_| shape());
        let option = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(value)?))
        };
        let options: Vec<(String, String)> =
            query.split('&').filter(|pair| !pair.is_empty()).map(option).collect::<Result<_>>()?;
        for (place, (name, _)) in options.iter().enumerate() {
            if options.iter().take(place).any(|(earlier, _)| earlier == name) {
                let name = if is_name(name) { name } else { "***" };
                return Err(Error::invalid(format!("the option `{name}` is given twice")));
            }
        }
        Ok(Self { scheme: scheme.to_ascii_lowercase(), rest: rest.to_owned(), options })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match self.rest.rsplit_once('@') {
            Some((user, host)) => format!("{}***@{host}", if user.starts_with("//") { "//" } else { "" }),
            None => self.rest.clone(),
        };
        write!(f, "{}:{shown}", self.scheme)?;
        self.options.iter().enumerate().try_for_each(|(place, (name, _))| {
            write!(f, "{}{}=***", if place == 0 { '?' } else { '&' }, if is_name(name) { name } else { "***" })
        })
    }
}

/// What is no name of an option may be a secret that was typed in the wrong place.
fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// A store that is being opened.
pub type Opening = BoxFuture<'static, Result<Arc<dyn KvStore>>>;

/// A store that is being checked.
pub type Verifying = BoxFuture<'static, Result<Verification>>;

/// A scheme of store URLs and how it is opened; each adapter has one as a constant.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Scheme {
    /// The part of the URL before the colon.
    pub name: &'static str,
    /// A URL of this scheme with its options, for help texts.
    pub usage: &'static str,
    /// Opens the store.
    pub open: fn(StoreUrl) -> Opening,
    /// Checks all that is stored, where the store keeps something that can be checked.
    pub verify: Option<fn(StoreUrl, TakeEntry) -> Verifying>,
}

impl Scheme {
    /// A scheme that opens stores.
    pub const fn new(name: &'static str, usage: &'static str, open: fn(StoreUrl) -> Opening) -> Self {
        Self { name, usage, open, verify: None }
    }

    /// The same, with a way to check all that is stored. It makes no store where there is none, and opens files that no store
    /// opens any more.
    #[must_use]
    pub const fn with_verify(mut self, verify: fn(StoreUrl, TakeEntry) -> Verifying) -> Self {
        self.verify = Some(verify);
        self
    }
}

/// The schemes that a program knows.
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
    /// A registry without schemes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a scheme; the last of a name wins.
    #[must_use]
    pub fn with(mut self, scheme: Scheme) -> Self {
        self.schemes.retain(|known| known.name != scheme.name);
        self.schemes.push(scheme);
        self
    }

    /// The schemes, in the order in which they were added.
    pub fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    /// Opens a handle. Beside the adapter's own options it knows two: `prefix`, a namespace as canonical key text, and
    /// `ttl`, the default time to live as humantime text.
    ///
    /// # Errors
    /// `Invalid` for a URL that no adapter takes, and whatever opening the store gives.
    pub async fn open(&self, url: &str) -> Result<Kv> {
        let mut url: StoreUrl = url.parse()?;
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

    /// Opens a store, with the adapter's own options alone.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub async fn open_store(&self, url: StoreUrl) -> Result<Arc<dyn KvStore>> {
        let scheme = self.scheme(&url)?;
        (scheme.open)(url).await.map_err(|error| error.with_operation(Operation::Open).with_backend(scheme.name))
    }

    /// Checks all that is stored where the URL says, and gives every sound entry to `take`. Nobody else should have the
    /// store open meanwhile; a store in the files of one process cannot be checked while it is.
    ///
    /// # Errors
    /// `Invalid` for a URL that no adapter takes, for one with a `prefix`, as a whole store is checked, and for a store that
    /// keeps nothing that could be checked; whatever keeps the check from reading; the first error that `take` gives.
    /// Damage is no error, unless nothing can be read at all.
    pub async fn verify(&self, url: &str, take: TakeEntry) -> Result<Verification> {
        let mut url: StoreUrl = url.parse()?;
        if url.take("prefix").is_some() {
            return Err(Error::invalid("a whole store is checked: leave out `prefix`"));
        }
        url.take("ttl");
        let scheme = self.scheme(&url)?;
        let Some(verify) = scheme.verify else {
            return Err(Error::invalid(format!("`{}:` keeps no files that could be checked", scheme.name)));
        };
        verify(url, take).await.map_err(|error| error.with_operation(Operation::Open).with_backend(scheme.name))
    }

    fn scheme(&self, url: &StoreUrl) -> Result<Scheme> {
        self.schemes.iter().find(|scheme| scheme.name == url.scheme).copied().ok_or_else(|| {
            let known: Vec<_> = self.schemes.iter().map(|scheme| format!("`{}:`", scheme.name)).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Error::invalid(format!("no store knows `{}:`; known are {known}", url.scheme))
        })
    }
}

/// Reads a time to live such as `5m` or `7days 30min`.
pub(crate) fn parse_ttl(text: &str) -> Result<Duration> {
    humantime::parse_duration(text)
        .map_err(|error| Error::invalid(format!("`{text}` is no duration such as `5m` or `1day 2h`: {error}")))
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
    fn a_url_has_scheme_rest_and_options() {
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
    fn a_bad_option_is_named_beside_the_known_ones() {
        let error = |url: &str| url.parse::<StoreUrl>().unwrap().options::<Options>().unwrap_err().to_string();
        let unknown = error("memory:?sise=5");
        assert!(unknown.contains("sise") && unknown.contains("size") && unknown.contains("name"), "{unknown}");
        assert!(error("memory:?size=big").contains("memory"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let url: StoreUrl = "redis://ada:canary@host/0?password=canary".parse().unwrap();
        assert_eq!(format!("{url}"), "redis://***@host/0?password=***");
        assert!(!format!("{url:?}").contains("canary"));
        let url: StoreUrl = "redis://host?password:canary".parse().unwrap();
        assert_eq!(format!("{url}"), "redis://host?***=***");
        assert!(!url.options::<Options>().unwrap_err().to_string().contains("canary"));
        assert!(!"redis://host?p:canary&p:canary".parse::<StoreUrl>().unwrap_err().to_string().contains("canary"));
    }
}
