//! Says why a value cannot be carried, where, and what to do about it.

use std::fmt::{self, Display};

/// A value could not be encoded or decoded. One fragment a person understands.
#[derive(Debug)]
pub(crate) struct CodecError(Box<Fault>);

#[derive(Debug)]
struct Fault {
    text: String,
    place: Place,
}

/// The innermost type that is known, which is where the cure is.
#[derive(Debug)]
enum Place {
    Unknown,
    /// The text names it.
    InText,
    Within(String),
}

/// How a mismatch between writing and reading is usually cured.
const AGREE: &str = "make its `Serialize` and `Deserialize` agree or return another type";

fn fields(count: usize) -> String {
    format!("{count} field{}", if count == 1 { "" } else { "s" })
}

impl CodecError {
    #[cold]
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(Box::new(Fault { text: text.into(), place: Place::Unknown }))
    }

    /// An error whose text names the type.
    #[cold]
    fn named(text: String) -> Self {
        Self(Box::new(Fault { text, place: Place::InText }))
    }

    /// Adds the type in which it happened, unless a type further in is already known.
    #[cold]
    pub(super) fn within(mut self, type_name: impl Display) -> Self {
        if let Place::Unknown = self.0.place {
            self.0.place = Place::Within(type_name.to_string());
        }
        self
    }

    #[cold]
    pub(super) fn field_left_out(field: &str, owner: impl Display) -> Self {
        Self::named(format!(
            "field `{field}` of `{owner}` was left out (`skip_serializing_if`), which this encoding cannot carry; \
             remove the attribute or return another type"
        ))
    }

    #[cold]
    pub(super) fn other_count_written(owner: impl Display, announced: usize, written: usize) -> Self {
        Self::named(format!("`{owner}` announces {} and writes {written}; correct its `Serialize`", fields(announced)))
    }

    #[cold]
    pub(super) fn other_count_read(owner: impl Display, written: usize, read: impl Display) -> Self {
        Self::named(format!(
            "`{owner}` writes {} and reads {read} (`skip_serializing`, `skip_deserializing` or a hand-written impl); \
             {AGREE}",
            fields(written)
        ))
    }

    #[cold]
    pub(super) fn other_fields_read(owner: impl Display) -> Self {
        Self::named(format!(
            "`{owner}` reads its fields under other names or in another order than it writes them (`rename`, \
             `skip_serializing`, `skip_deserializing` or a hand-written impl); {AGREE}"
        ))
    }

    #[cold]
    pub(super) fn other_variant_read(variant: impl Display, owner: impl Display) -> Self {
        Self::named(format!(
            "variant `{variant}` of `{owner}` is written but not read back under this name (`rename`, \
             `skip_deserializing` or a hand-written impl); {AGREE}"
        ))
    }

    #[cold]
    pub(super) fn other_style_read(owner: impl Display) -> Self {
        Self::named(format!(
            "`{owner}` does not read what it writes (`skip_serializing` or `skip_deserializing` on its field, or a \
             hand-written impl); {AGREE}"
        ))
    }

    #[cold]
    pub(super) fn elements_not_read(what: &str) -> Self {
        Self::new(format!("not every part of {what} was read, or not in turn; {AGREE}"))
    }

    #[cold]
    pub(super) fn reads_other_than_written() -> Self {
        Self::new(format!(
            "the type reads other kinds of values than it writes (`serialize_with` without its counterpart, or a \
             hand-written impl); {AGREE}"
        ))
    }

    #[cold]
    pub(super) fn self_describing() -> Self {
        Self::new(
            "the type must be told what the bytes hold (an `untagged` or `tag = …` enum, `flatten`, \
             `serde_json::Value` or the like), which this encoding does not record; return a plain struct or enum, or \
             the value as text (`serde_json::to_string`)",
        )
    }

    #[cold]
    pub(super) fn map_without_length() -> Self {
        Self::new(
            "a map does not know its length (`flatten`, or a hand-written impl), which this encoding needs; remove the \
             attribute or return another type",
        )
    }

    #[cold]
    pub(super) fn too_deep() -> Self {
        Self::new(format!(
            "the value is nested more than {} levels deep; return it flat, as a `Vec` of nodes",
            super::MAX_DEPTH
        ))
    }

    #[cold]
    pub(super) fn too_many_empty_elements(count: u64) -> Self {
        Self::new(format!("a sequence of {count} elements that take no bytes is too long; return its length instead"))
    }

    #[cold]
    pub(super) fn cut_short() -> Self {
        Self::new(format!("the bytes end before the value does: the type reads more than it writes; {AGREE}"))
    }

    #[cold]
    pub(super) fn left_over(count: usize) -> Self {
        Self::new(format!(
            "the value ends {count} bytes before the bytes do: the type reads less than it writes; {AGREE}"
        ))
    }
}

impl Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)?;
        match &self.0.place {
            Place::Within(type_name) => write!(f, " (in `{type_name}`)"),
            Place::Unknown | Place::InText => Ok(()),
        }
    }
}

/// A tuple, a struct or a variant, as errors name it.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    pub(super) name: &'static str,
    pub(super) variant: Option<&'static str>,
}

impl Owner {
    pub(super) const TUPLE: Self = Self::named("tuple");

    pub(super) const fn named(name: &'static str) -> Self {
        Self { name, variant: None }
    }
}

impl Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.variant {
            Some(variant) => write!(f, "{}::{variant}", self.name),
            None => f.write_str(self.name),
        }
    }
}

impl std::error::Error for CodecError {}

impl serde::ser::Error for CodecError {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}

impl serde::de::Error for CodecError {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}
