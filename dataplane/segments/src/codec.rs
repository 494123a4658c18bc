//! The bytes of a segment: a version, the length of the content, and the content, compressed with zstd.
//!
//! The content has a table of kinds, then the sources in order, each with the number of its bytes that it shares with the previous one and
//! its number of rows, then the values of all rows. Names and values are apart because each compresses better alone.

use std::{cell::RefCell, collections::HashMap, io};

use ping_core::{Span, Window};
use zstd::bulk::{Compressor, Decompressor};

use super::{
    error::{FormatError, VERSION},
    place::{Family, Place, Segment},
    row::Row,
    varint::{Input, put, put_bytes, put_signed},
};

/// Level 1 compresses sorted counts about as well as higher levels, at 0.05 µs per row.
const LEVEL: i32 = 1;
/// Maximum length of the content. Segments are split long before; this only refuses nonsense.
const MAX_CONTENT: usize = 1 << 30;
/// A table of so many kinds is searched by hash.
const FEW_KINDS: usize = 32;

/// Encodes segments. It keeps the compressor's tables, which take longer to set up than a segment to compress.
pub(crate) struct Encoder(Compressor<'static>);

impl Encoder {
    pub(crate) fn new() -> Result<Self, FormatError> {
        Ok(Self(Compressor::new(LEVEL)?))
    }

    /// Encodes `rows`, which are sorted and summed.
    pub(crate) fn encode(&mut self, place: Place, rows: &[Row<'_>]) -> Result<Segment, FormatError> {
        let (mut kinds, mut names, mut values) = (KindTable::default(), Vec::new(), Vec::new());
        let mut previous = "";
        let mut groups = 0;
        for group in rows.chunk_by(|a, b| a.source == b.source) {
            let source = group[0].source;
            let shared = source.bytes().zip(previous.bytes()).take_while(|(a, b)| a == b).count();
            put(&mut names, shared as u64);
            put_bytes(&mut names, &source.as_bytes()[shared..]);
            put(&mut names, group.len() as u64);
            (previous, groups) = (source, groups + 1);
        }
        let mut last_first = 0;
        for row in rows {
            put_value(&mut values, place, row, &mut kinds, &mut last_first);
        }
        let mut content = Vec::with_capacity(names.len() + values.len() + 64);
        put(&mut content, kinds.kinds.len() as u64);
        for kind in &kinds.kinds {
            put_bytes(&mut content, kind.as_bytes());
        }
        put(&mut content, groups);
        put_bytes(&mut content, &names);
        content.extend_from_slice(&values);
        let mut data = vec![VERSION];
        put(&mut data, content.len() as u64);
        data.extend(self.0.compress(&content)?);
        let events = rows.iter().fold(0, |sum: i64, row| sum.saturating_add(row.span.count));
        Ok(Segment { place, rows: rows.len(), events, data })
    }
}

/// The kinds of a segment, which its rows refer to by number.
#[derive(Default)]
struct KindTable<'a> {
    kinds: Vec<&'a str>,
    /// Their numbers, from [`FEW_KINDS`] on: a caller may invent many.
    numbers: HashMap<&'a str, usize>,
}

impl<'a> KindTable<'a> {
    fn number(&mut self, kind: &'a str) -> u64 {
        // Rows of a source are sorted by kind, and most sources have few: the search starts where it is likely to end.
        let found = match self.numbers.is_empty() {
            true => self.kinds.iter().position(|known| *known == kind),
            false => self.numbers.get(kind).copied(),
        };
        found.unwrap_or_else(|| self.add(kind)) as u64
    }

    fn add(&mut self, kind: &'a str) -> usize {
        self.kinds.push(kind);
        let number = self.kinds.len() - 1;
        match self.numbers.is_empty() {
            false => drop(self.numbers.insert(kind, number)),
            true if self.kinds.len() >= FEW_KINDS => {
                self.numbers = self.kinds.iter().enumerate().map(|(number, kind)| (*kind, number)).collect();
            }
            true => {}
        }
        number
    }
}

fn put_value<'a>(out: &mut Vec<u8>, place: Place, row: &Row<'a>, kinds: &mut KindTable<'a>, last_first: &mut i64) {
    let Span { count, first, last } = row.span;
    match place.family {
        Family::Kinds => {
            put(out, kinds.number(row.kind));
            put(out, count.cast_unsigned());
            put_signed(out, first.wrapping_sub(*last_first));
            put(out, last.wrapping_sub(first).cast_unsigned());
            *last_first = first;
        }
        Family::Windows => {
            put_signed(out, row.window - place.period * Window::PER_DAY);
            put(out, count.cast_unsigned());
            put_signed(out, first - Window(row.window).start());
            put(out, last.wrapping_sub(first).cast_unsigned());
        }
        Family::Days => put(out, count.cast_unsigned()),
        Family::Minutes => {}
    }
}

thread_local! {
    /// One per thread: to set one up takes longer than to decode a small segment, because zstd asks the processor what it can do, and a
    /// hypervisor has to answer.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompress(data: &[u8], length: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|held| {
        let decompressor = match held {
            Some(decompressor) => decompressor,
            None => held.insert(Decompressor::new()?),
        };
        decompressor.decompress(data, length)
    })
}

/// A decoded segment, which owns the names in its rows.
pub(crate) struct Decoded {
    names: String,
    kinds: Vec<Box<str>>,
    rows: Vec<Value>,
}

/// A row without its names.
struct Value {
    /// Where the name of the source starts, and its length.
    source: (usize, usize),
    kind: usize,
    window: i64,
    span: Span,
}

impl Decoded {
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|row| Row {
            source: &self.names[row.source.0..][..row.source.1],
            kind: self.kinds.get(row.kind).map_or("", |kind| kind),
            window: row.window,
            span: row.span,
        })
    }
}

/// Decodes a segment.
pub(crate) fn decode(place: Place, data: &[u8]) -> Result<Decoded, FormatError> {
    let mut input = Input(data);
    match input.take(1)? {
        [VERSION] => {}
        other => return Err(FormatError::Version(other[0])),
    }
    let length = input.size()?;
    if length > MAX_CONTENT {
        return Err(FormatError::TooLarge);
    }
    decode_content(place, Input(&decompress(input.0, length)?))
}

fn text(bytes: &[u8]) -> Result<&str, FormatError> {
    std::str::from_utf8(bytes).map_err(|_| FormatError::Name)
}

fn decode_content(place: Place, mut content: Input<'_>) -> Result<Decoded, FormatError> {
    let kinds = content.size()?;
    let kinds =
        (0..kinds).map(|_| Ok(text(content.bytes()?)?.into())).collect::<Result<Vec<Box<str>>, FormatError>>()?;
    let groups = content.size()?;
    let mut input = Input(content.bytes()?);
    let (mut names, mut rows) = (Vec::new(), Vec::new());
    let mut previous = (0, 0);
    let mut last_first = 0;
    for _ in 0..groups {
        let shared = input.size()?;
        let suffix = input.bytes()?;
        if shared > previous.1 {
            return Err(FormatError::TooLarge);
        }
        let start = names.len();
        names.extend_from_within(previous.0..previous.0 + shared);
        names.extend_from_slice(suffix);
        previous = (start, names.len() - start);
        text(&names[start..])?;
        let count = input.size()?;
        // Rows of the other families take space in the content, which bounds them.
        if count != 1 && matches!(place.family, Family::Days | Family::Minutes) {
            return Err(FormatError::TooLarge);
        }
        for _ in 0..count {
            let (kind, window, span) = value(place, &mut content, &mut last_first)?;
            if kind >= kinds.len() && place.family == Family::Kinds {
                return Err(FormatError::TooLarge);
            }
            rows.push(Value { source: previous, kind, window, span });
        }
    }
    let names = String::from_utf8(names).map_err(|_| FormatError::Name)?;
    Ok(Decoded { names, kinds, rows })
}

/// The kind, the window and the counts of the next row.
fn value(place: Place, input: &mut Input<'_>, last_first: &mut i64) -> Result<(usize, i64, Span), FormatError> {
    let none = |count| Span { count, first: 0, last: 0 };
    Ok(match place.family {
        Family::Kinds => {
            let (kind, count) = (input.size()?, input.count()?);
            let first = last_first.wrapping_add(input.signed()?);
            *last_first = first;
            (kind, 0, Span { count, first, last: first.wrapping_add(input.count()?) })
        }
        Family::Windows => {
            let window = (place.period * Window::PER_DAY).wrapping_add(input.signed()?);
            let count = input.count()?;
            let first = Window(window).start().wrapping_add(input.signed()?);
            (0, window, Span { count, first, last: first.wrapping_add(input.count()?) })
        }
        Family::Days => (0, 0, none(input.count()?)),
        Family::Minutes => (0, 0, none(1)),
    })
}
