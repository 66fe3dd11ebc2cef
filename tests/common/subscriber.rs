//! A `tracing` subscriber that keeps what it is told, and tells a pipe in which process it was called.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{
    Event, Id, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};

use super::Mark;

/// One span or event.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) target: String,
    pub(crate) level: Level,
    pub(crate) is_span: bool,
    pub(crate) is_closed: bool,
    /// The number of the span it stands in; 0 for none.
    pub(crate) within: u64,
    /// Its fields, with the message of an event under `message`.
    pub(crate) fields: Fields,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(BTreeMap<&'static str, String>);

impl Fields {
    /// A field as text; empty if it has no value.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |text| text)
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or_else(|_| panic!("{name} is no number in {self:?}"))
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

/// What has been told, in order; the number of a span is its place, counted from 1.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) entries: Vec<Entry>,
    /// The spans that are entered, of one thread.
    entered: Vec<u64>,
}

/// Does something in the subscriber when it is told of a span or an event.
type OnEntry = Box<dyn Fn(&Entry) + Send + Sync>;

/// A subscriber that writes a book.
pub(crate) struct Writer {
    most: Level,
    book: Arc<Mutex<Book>>,
    called: Arc<Mark>,
    on_entry: OnEntry,
}

/// What a test keeps of a [`Writer`].
pub(crate) struct Reader {
    book: Arc<Mutex<Book>>,
    /// Hears the number of the process, at every call of the subscriber.
    pub(crate) called: Arc<Mark>,
}

impl Reader {
    /// Locks the book, so that the subscriber waits.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Book> {
        // A subscriber that panicked on purpose has not spoilt it.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what has been told so far.
    pub(crate) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.lock().entries)
    }

    /// Whether every call of the subscriber so far was made in this process, and there was one.
    pub(crate) fn was_called_here_only(&self) -> bool {
        let pids = self.called.hear_all();
        !pids.is_empty() && pids.iter().all(|pid| *pid == u64::from(process::id()))
    }
}

/// A subscriber that takes everything up to the level `most`, and calls `on_entry` when it has written an entry.
pub(crate) fn subscriber(most: Level, on_entry: impl Fn(&Entry) + Send + Sync + 'static) -> (Writer, Reader) {
    let (book, called) = (Arc::<Mutex<Book>>::default(), Arc::new(Mark::new()));
    let writer = Writer { most, book: book.clone(), called: called.clone(), on_entry: Box::new(on_entry) };
    (writer, Reader { book, called })
}

impl Writer {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.called.tell(process::id().into());
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, metadata: &'static Metadata<'static>, fields: Fields) -> u64 {
        let mut book = self.lock();
        let entry = Entry {
            name: metadata.name(),
            target: metadata.target().to_owned(),
            level: *metadata.level(),
            is_span: metadata.is_span(),
            is_closed: false,
            within: book.entered.last().copied().unwrap_or(0),
            fields,
        };
        book.entries.push(entry.clone());
        let number = book.entries.len();
        drop(book);
        (self.on_entry)(&entry);
        number as u64
    }

    fn at(&self, span: &Id, change: impl FnOnce(&mut Entry)) {
        // A span whose entry has been taken is of no interest any more.
        self.lock().entries.get_mut(span.into_u64() as usize - 1).map(change);
    }
}

impl Subscriber for Writer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        Id::from_u64(self.write(span.metadata(), fields))
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.at(span, |entry| values.record(&mut entry.fields));
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.write(event.metadata(), fields);
    }

    fn enter(&self, span: &Id) {
        self.lock().entered.push(span.into_u64());
    }

    fn exit(&self, _span: &Id) {
        self.lock().entered.pop();
    }

    fn try_close(&self, span: Id) -> bool {
        self.at(&span, |entry| entry.is_closed = true);
        true
    }
}
