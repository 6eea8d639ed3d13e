//! Reads a TOML table key by key, so that every mistake in it is reported, each at its place.
//!
//! Serde's derived readers stop at the first; here a bad value is reported, taken for absent, and
//! reading goes on. What was never asked for is unknown, and unknown is an error (FC11).

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Findings, Source};
use super::schema::{Probe, SHOWN, Shape, place_of};

/// A file and where to say what is wrong with it.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    pub source: &'a Source,
    pub found: &'a Findings,
}

impl<'a> File<'a> {
    pub fn error(&self, offset: usize, what: impl Display, fix: impl Display) {
        self.found.error(self.source.problem(offset, what, fix));
    }

    pub fn warning(&self, offset: usize, what: impl Display, fix: impl Display) {
        self.found.warning(self.source.problem(offset, what, fix));
    }

    /// Reads the file's text as TOML; `read` gets the top-level table.
    ///
    /// Where the text is not TOML, what could be made out of it is still read, so that other files are
    /// judged beside it, but nothing more is said of it: that would be guesses.
    pub fn parse<T>(&self, read: impl for<'t> FnOnce(File<'t>, Fields<'t>) -> T) -> T {
        let (table, errors) = DeTable::parse_recoverable(&self.source.text);
        let guesses = Findings::default();
        let file = File { source: self.source, found: if errors.is_empty() { self.found } else { &guesses } };
        for error in errors {
            let offset = error.span().map_or(0, |span| span.start);
            self.error(offset, error.message(), "write it as TOML: key = \"value\"");
        }
        read(file, Fields { file, name: String::new(), path: String::new(), offset: 0, table: table.get_ref(), known: BTreeSet::new() })
    }
}

/// One table. Every reader below names a key; [`Fields::finish`] reports the others.
pub(super) struct Fields<'a> {
    file: File<'a>,
    /// `people.alice`, or nothing at the top.
    name: String,
    /// Where the schema has it: `/people/*`; kept only while one is made.
    path: String,
    pub offset: usize,
    table: &'a DeTable<'a>,
    known: BTreeSet<&'static str>,
}

impl<'a> Fields<'a> {
    /// `[people.alice]`, or the file itself.
    fn title(&self) -> String {
        if self.name.is_empty() { "the file".into() } else { format!("[{}]", self.name) }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.note(key, Shape::Any);
        self.known.insert(key);
        self.table.get(key)
    }

    fn probe(&self) -> Option<&'a Probe> {
        self.file.found.probe.as_ref()
    }

    fn note(&self, key: &'static str, shape: Shape) {
        if let Some(probe) = self.probe() {
            probe.note(&self.path, key, shape);
        }
    }

    /// What a probe says of every key: that it is there, or not.
    fn pretended(&self) -> Option<bool> {
        self.probe().and_then(Probe::pretends)
    }

    /// A table that is nowhere: what a probe gives to readers.
    fn pretend(&self, key: &str, path: String) -> Fields<'a> {
        Fields { file: self.file, name: key.to_owned(), path, offset: 0, table: self.table, known: BTreeSet::new() }
    }

    pub fn has(&mut self, key: &'static str) -> bool {
        let is = self.value(key).is_some();
        self.pretended().unwrap_or(is)
    }

    pub fn is_list(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_array())
    }

    /// Whether a list is absent or written as empty; one of bad items only has been reported already.
    pub fn lacks(&mut self, key: &'static str) -> bool {
        if let Some(has) = self.pretended() {
            return !has;
        }
        self.value(key).is_none_or(|value| value.get_ref().as_array().is_some_and(|items| items.is_empty()))
    }

    /// Where a key's value stands, or else the table.
    pub fn place(&self, key: &str) -> usize {
        self.table.get(key).map_or(self.offset, |value| value.span().start)
    }

    /// Reports a key that has to be there and is not; one with a bad value has been reported already.
    pub fn required<T>(&mut self, key: &'static str, read: Option<T>, example: &str) -> Option<T> {
        if let Some(probe) = self.probe() {
            probe.require(&self.path, key);
        }
        if read.is_none() && !self.has(key) {
            self.file.error(self.offset, format!("{} has no {key}", self.title()), format!("add {key} = {example}"));
        }
        read
    }

    pub fn string(&mut self, key: &'static str) -> Option<Spanned<&'a str>> {
        self.note(key, Shape::Text);
        let value = self.value(key)?;
        self.text(key, value)
    }

    fn text(&self, key: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Spanned<&'a str>> {
        match value.get_ref() {
            DeValue::String(text) => Some(Spanned::new(value.span(), text.as_ref())),
            other => {
                self.wrong_type(key, value.span().start, other, "a string", &format!("{key} = \"…\""));
                None
            }
        }
    }

    fn wrong_type(&self, key: &str, offset: usize, is: &DeValue<'_>, wanted: &str, example: &str) {
        self.file.error(offset, format!("{key} is {} {}, not {wanted}", article(is.type_str()), is.type_str()), format!("write {example}"));
    }

    /// A list of strings; absent is empty.
    pub fn strings(&mut self, key: &'static str) -> Vec<Spanned<&'a str>> {
        self.note(key, Shape::Texts);
        let Some(value) = self.value(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(|item| self.text(key, item)).collect(),
            other => {
                self.wrong_type(key, value.span().start, other, "a list of strings", &format!("{key} = [\"…\"]"));
                Vec::new()
            }
        }
    }

    /// Something that a string can be read as.
    pub fn word<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Option<Spanned<T>> {
        let text = self.string(key)?;
        self.parse_word(key, &text)
    }

    fn parse_word<T: FromStr<Err: Display>>(&self, key: &str, text: &Spanned<&str>) -> Option<Spanned<T>> {
        match text.get_ref().parse() {
            Ok(word) => Some(Spanned::new(text.span(), word)),
            Err(why) => {
                let why = why.to_string();
                let given = format!("{:?}", text.get_ref());
                let what = if why.starts_with('"') { why } else { format!("{given}: {why}") };
                self.file.error(text.span().start, what, format!("correct it in {key}"));
                None
            }
        }
    }

    /// A list of such things, each once.
    pub fn words<T: FromStr<Err: Display> + Ord + Clone>(&mut self, key: &'static str) -> Vec<Spanned<T>> {
        let mut seen = BTreeSet::new();
        let mut words: Vec<Spanned<T>> = Vec::new();
        for text in self.strings(key) {
            let Some(word) = self.parse_word::<T>(key, &text) else { continue };
            if seen.insert(word.get_ref().clone()) {
                words.push(word);
            } else {
                self.file.error(text.span().start, format!("{:?} stands twice in {key}", text.get_ref()), "remove one of them");
            }
        }
        words
    }

    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.note(key, Shape::Duration(None));
        let text = self.string(key)?;
        match crate::time::parse_duration(text.get_ref()) {
            Ok(duration) => Some(duration),
            Err(why) => {
                self.file.error(text.span().start, format!("{key}: {why}"), format!("write {key} = \"30m\""));
                None
            }
        }
    }

    /// A duration within bounds: a slip of the unit is seen when it is written, not when it is needed.
    pub fn duration_within(&mut self, key: &'static str, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        self.note(key, Shape::Duration(Some((*bounds.start(), *bounds.end()))));
        let duration = self.duration(key)?;
        if bounds.contains(&duration) {
            return Some(duration);
        }
        let what = format!("{key} = {} is out of range", humantime::format_duration(duration));
        let (least, most) = (crate::time::short(*bounds.start()), crate::time::short(*bounds.end()));
        self.file.error(self.place(key), what, format!("use {least} to {most}"));
        None
    }

    /// A whole number within bounds.
    pub fn count(&mut self, key: &'static str, bounds: RangeInclusive<usize>) -> Option<usize> {
        self.note(key, Shape::Count(*bounds.start(), *bounds.end()));
        let value = self.value(key)?;
        let DeValue::Integer(number) = value.get_ref() else {
            self.wrong_type(key, value.span().start, value.get_ref(), "a whole number", &format!("{key} = {}", bounds.start()));
            return None;
        };
        let parsed = usize::from_str_radix(number.as_str(), number.radix()).ok().filter(|number| bounds.contains(number));
        if parsed.is_none() {
            let what = format!("{key} = {number} is out of range");
            self.file.error(value.span().start, what, format!("use {} to {}", bounds.start(), bounds.end()));
        }
        parsed
    }

    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.note(key, Shape::Boolean);
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(is) => Some(*is),
            other => {
                self.wrong_type(key, value.span().start, other, "true or false", &format!("{key} = true"));
                None
            }
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, of: &[(&str, T)]) -> Option<T> {
        self.note(key, Shape::Choice(of.iter().map(|(word, _)| (*word).to_owned()).collect()));
        let text = self.string(key)?;
        let chosen = of.iter().find(|(word, _)| word == text.get_ref()).map(|(_, value)| *value);
        if chosen.is_none() {
            let words: Vec<&str> = of.iter().map(|(word, _)| *word).collect();
            self.file.error(text.span().start, format!("{key} cannot be {:?}", text.get_ref()), format!("use {}", words.join(" or ")));
        }
        chosen
    }

    pub fn table(&mut self, key: &'static str) -> Option<Fields<'a>> {
        self.note(key, Shape::Table);
        if self.pretended().is_some() {
            return Some(self.pretend(key, format!("{}/{key}", self.path)));
        }
        let value = self.value(key)?;
        self.inner(key, key, value.span().start, value)
    }

    /// The tables below a key, by name: `[people.alice]`, `[people.bob]`, …
    pub fn tables(&mut self, key: &'static str) -> Vec<(Spanned<&'a str>, Fields<'a>)> {
        self.note(key, Shape::Tables);
        let path = format!("{}/{key}", self.path);
        if self.pretended().is_some() {
            let shown = |(name, place)| (Spanned::new(0..0, name), self.pretend(key, format!("{path}/{place}")));
            return SHOWN.map(shown).into();
        }
        let Some(Fields { table, name, file, .. }) = self.table(key) else { return Vec::new() };
        let outer = Fields { file, name, path, offset: 0, table, known: BTreeSet::new() };
        let inner = |(name, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name: Spanned<&'a str> = Spanned::new(name.span(), AsRef::<str>::as_ref(name.get_ref()));
            outer.inner(name.get_ref(), place_of(name.get_ref()), name.span().start, value).map(|fields| (name, fields))
        };
        table.iter().filter_map(inner).collect()
    }

    /// The strings below a key, by name: `carol = "…"`.
    pub fn texts(&mut self, key: &'static str) -> Vec<(Spanned<&'a str>, Spanned<&'a str>)> {
        self.note(key, Shape::NamedTexts);
        if self.pretended().is_some() {
            return Vec::new();
        }
        let Some(inner) = self.table(key) else { return Vec::new() };
        let text = |(name, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name: Spanned<&'a str> = Spanned::new(name.span(), AsRef::<str>::as_ref(name.get_ref()));
            inner.text(name.get_ref(), value).map(|text| (name, text))
        };
        inner.table.iter().filter_map(text).collect()
    }

    /// The lists of strings below a key, by name: `office = ["…"]`.
    pub fn lists(&mut self, key: &'static str) -> Vec<(Spanned<&'a str>, Vec<Spanned<&'a str>>)> {
        self.note(key, Shape::NamedLists);
        if self.pretended().is_some() {
            return Vec::new();
        }
        let Some(inner) = self.table(key) else { return Vec::new() };
        let list = |(name, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name: Spanned<&'a str> = Spanned::new(name.span(), AsRef::<str>::as_ref(name.get_ref()));
            let key = *name.get_ref();
            match value.get_ref() {
                DeValue::Array(items) => Some((name, items.iter().filter_map(|item| inner.text(key, item)).collect())),
                other => {
                    inner.wrong_type(key, value.span().start, other, "a list of strings", &format!("{key} = [\"…\"]"));
                    None
                }
            }
        };
        inner.table.iter().filter_map(list).collect()
    }

    /// The tables of `[[key]]`.
    pub fn list_of_tables(&mut self, key: &'static str) -> Vec<Fields<'a>> {
        self.note(key, Shape::ListOfTables);
        if self.pretended().is_some() {
            return vec![self.pretend(key, format!("{}/{key}/*", self.path))];
        }
        let Some(value) = self.value(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) => {
                let path = format!("{key}/*");
                items.iter().filter_map(|item| self.inner(key, &path, item.span().start, item)).collect()
            }
            other => {
                self.wrong_type(key, value.span().start, other, "a list of tables", &format!("[[{key}]]"));
                Vec::new()
            }
        }
    }

    fn inner(&self, key: &str, below: &str, offset: usize, value: &'a Spanned<DeValue<'a>>) -> Option<Fields<'a>> {
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        match value.get_ref() {
            DeValue::Table(table) => {
                let path = self.probe().map(|_| format!("{}/{below}", self.path)).unwrap_or_default();
                Some(Fields { file: self.file, name, path, offset, table, known: BTreeSet::new() })
            }
            other => {
                self.wrong_type(key, value.span().start, other, "a table", &format!("[{name}]"));
                None
            }
        }
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        let known: Vec<&str> = self.known.iter().copied().collect();
        for key in self.table.keys().filter(|key| !self.known.contains(key.get_ref().as_ref())) {
            let what = format!("{} has no key {:?}", self.title(), key.get_ref());
            self.file.error(key.span().start, what, format!("known are {}", known.join(", ")));
        }
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'i']) { "an" } else { "a" }
}
