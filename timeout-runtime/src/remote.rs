//! An error that crossed from another process: its texts, its sources, and every `io::Error` among them as itself.
//!
//! The types of other errors stay behind, so a downcast finds an `io::Error` and nothing else.

mod links;

use std::{error::Error, fmt, io};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use links::Link;

/// What another process told of an error: its `Display` and `Debug` texts, and the chain of its sources.
///
/// Each [`io::Error`] in the chain is one again, with its kind and its OS code; every other error is a `RemoteError`. A
/// chain of more than 128 errors is cut there, and says so.
///
/// It stands in for errors that have no serde: see [`PortableError`](crate::PortableError), whose usual
/// [`Wire`](crate::PortableError::Wire) it is. It has serde itself, for fields of types that have, too.
///
/// # Examples
/// ```
/// use std::{error::Error, io};
/// use timeout_runtime::RemoteError;
///
/// let missing = io::Error::from_raw_os_error(2);
/// let text = missing.to_string();
/// let remote = RemoteError::of(&missing);
/// assert_eq!(remote.to_string(), text);
/// assert_eq!(io::Error::from(remote).raw_os_error(), Some(2));
/// ```
pub struct RemoteError(Form);

enum Form {
    Io(io::Error),
    Text { display: String, debug: String, source: Option<Box<dyn Error + Send + Sync>> },
}

impl RemoteError {
    /// Makes a copy of `error` that can cross.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> RemoteError {
        let told = links::assemble(links::of(error));
        // What `of` gives can be put together again; if not, the text of the error is still true.
        told.unwrap_or_else(|_| RemoteError::text(error.to_string(), format!("{error:?}"), None))
    }

    /// Gives it as a boxed error: an [`io::Error`] if it was one, else as it is.
    #[must_use]
    pub fn into_boxed(self) -> Box<dyn Error + Send + Sync> {
        match self.0 {
            Form::Io(error) => Box::new(error),
            text @ Form::Text { .. } => Box::new(RemoteError(text)),
        }
    }

    fn text(display: String, debug: String, source: Option<RemoteError>) -> RemoteError {
        RemoteError(Form::Text { display, debug, source: source.map(RemoteError::into_boxed) })
    }

    /// The error as an `io::Error`, if it was one.
    fn io(&self) -> Option<&io::Error> {
        match &self.0 {
            Form::Io(error) => Some(error),
            Form::Text { .. } => None,
        }
    }
}

/// For errors that put a text around another error as they go, and are downcast through all of these.
#[cfg(any(feature = "anyhow", feature = "eyre"))]
impl RemoteError {
    /// Of an error whose own `Debug` text says more than that of what it stands for.
    pub(crate) fn with_debug(mut self, text: String) -> RemoteError {
        if let Form::Text { debug, .. } = &mut self.0 {
            *debug = text;
        }
        self
    }

    /// Takes the texts off that stand around the first `io::Error`, or else around the innermost error: `start` makes an
    /// error of that one, `around` puts one text after another around it again.
    pub(crate) fn rebuild<E>(
        self,
        from_io: impl FnOnce(io::Error) -> E,
        from_text: impl FnOnce(RemoteError) -> E,
        around: impl Fn(E, RemoteError) -> E,
    ) -> E {
        let mut texts = Vec::new();
        let mut next = self;
        let start = loop {
            match next.0 {
                Form::Io(error) => break from_io(error),
                Form::Text { display, debug, source: Some(source) } => {
                    texts.push(RemoteError::text(display, debug, None));
                    next = RemoteError::unboxed(source);
                }
                text @ Form::Text { source: None, .. } => break from_text(RemoteError(text)),
            }
        };
        texts.into_iter().rfold(start, around)
    }

    /// The reverse of [`into_boxed`](RemoteError::into_boxed).
    fn unboxed(error: Box<dyn Error + Send + Sync>) -> RemoteError {
        match error.downcast::<RemoteError>().map_err(|error| error.downcast::<io::Error>()) {
            Ok(error) => *error,
            Err(Ok(error)) => RemoteError(Form::Io(*error)),
            Err(Err(error)) => RemoteError::of(&*error),
        }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Io(error) => fmt::Display::fmt(error, f),
            Form::Text { display, .. } => f.pad(display),
        }
    }
}

/// The error's own `Debug` text; that of `{:?}`, also when asked for `{:#?}`.
impl fmt::Debug for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Io(error) => fmt::Debug::fmt(error, f),
            Form::Text { debug, .. } => f.write_str(debug),
        }
    }
}

impl Error for RemoteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Form::Io(error) => error.source(),
            Form::Text { source, .. } => source.as_deref().map(|source| source as &(dyn Error + 'static)),
        }
    }
}

impl From<RemoteError> for io::Error {
    /// Gives the `io::Error` that it was; of another error, one of the kind [`Other`](io::ErrorKind::Other) around it.
    fn from(error: RemoteError) -> io::Error {
        match error.0 {
            Form::Io(error) => error,
            text @ Form::Text { .. } => io::Error::other(RemoteError(text)),
        }
    }
}

impl Serialize for RemoteError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        links::of(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RemoteError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RemoteError, D::Error> {
        links::assemble(Vec::<Link>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Lets a type with serde have an [`io::Error`] in a field: `#[serde(with = "timeout_runtime::io_error")]`.
///
/// Its kind, OS code, texts and sources survive.
///
/// # Examples
/// ```
/// use std::{fs, io};
/// use serde::{Deserialize, Serialize};
/// use timeout_runtime::timeout;
///
/// #[derive(Debug, Serialize, Deserialize)]
/// enum LoadError {
///     Read(#[serde(with = "timeout_runtime::io_error")] io::Error),
///     Empty { path: String },
/// }
///
/// #[timeout(2)]
/// fn load(path: &str) -> Result<String, LoadError> {
///     let text = fs::read_to_string(path).map_err(LoadError::Read)?;
///     if text.is_empty() { Err(LoadError::Empty { path: path.to_owned() }) } else { Ok(text) }
/// }
///
/// let error = load("/no/such/file").unwrap().unwrap_err();
/// assert!(matches!(error, LoadError::Read(error) if error.kind() == io::ErrorKind::NotFound));
/// ```
pub mod io_error {
    use super::{Deserialize, Deserializer, RemoteError, Serialize, Serializer, io};

    /// Writes the error.
    ///
    /// # Errors
    /// When the serializer fails.
    pub fn serialize<S: Serializer>(error: &io::Error, serializer: S) -> Result<S::Ok, S::Error> {
        super::links::of(error).serialize(serializer)
    }

    /// Reads the error.
    ///
    /// # Errors
    /// When the deserializer fails, or what it reads is no error.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<io::Error, D::Error> {
        RemoteError::deserialize(deserializer).map(io::Error::from)
    }
}
