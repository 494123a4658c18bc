//! What one version writes, the next one reads, and the other way round during a rolling update. `formats/VERSION.txt` has what a version wrote.
//!
//! A format that changed fails here until the workspace has another version. `UPDATE=1` then writes the file of that version.
#![cfg(test)]

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use ping_core::{Event, Retention, Span, Token, WriterId};
use ping_proto::log;
use ping_segments::{Changes, Family, Segment, StoredSegment, kinds_of};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(0x018f_4e3c_7b1a_7cc0_8000_3a5b_1c2d_4e5f);
const TIME: i64 = 1_728_926_331_000;
const SOURCE: &str = "example.com";
const KIND: &str = "delivered";

/// Formats by name, as text: bytes as hexadecimal digits.
type Formats = BTreeMap<String, String>;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("formats")
}

fn read(version: &str) -> Formats {
    let text = std::fs::read_to_string(folder().join(format!("{version}.txt"))).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(' ')).map(|(name, value)| (name.into(), value.into())).collect()
}

fn versions() -> Vec<String> {
    let names = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| Some(name.strip_suffix(".txt")?.to_owned())).collect()
}

fn event() -> Event {
    let (source, kind) = (SOURCE.into(), KIND.into());
    Event { id: ID, timestamp_ms: TIME, timestamp_assumed: false, source, kind }
}

fn token() -> Token {
    Token { writer: WriterId(7), partition: 3, seq: 9 }
}

/// The segment of the kinds of one event.
fn segment() -> Segment {
    let mut changes = Changes::default();
    changes.add(SOURCE, KIND, TIME);
    let mut segments = changes.segments(Retention::default().at(TIME)).map(Result::unwrap);
    segments.find(|segment| segment.place.family == Family::Kinds).unwrap()
}

/// The migrations of the two databases, each with the hash of its text.
fn migrations() -> Formats {
    let adapters = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../adapters");
    let mut found = Formats::new();
    for database in ["postgres", "sqlite"] {
        for entry in std::fs::read_dir(adapters.join(database).join("migrations")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            found.insert(format!("{database}/{name}"), hex(&Sha256::digest(std::fs::read(&path).unwrap())));
        }
    }
    found
}

/// What this version writes.
fn written() -> Formats {
    let record = log::Event {
        id: ID.as_bytes().to_vec(),
        timestamp_ms: TIME,
        source: SOURCE.into(),
        kind: KIND.into(),
        writer: 7,
        seq: 9,
    };
    let mut formats = migrations();
    formats.insert("record".into(), hex(&record.encode_to_vec()));
    formats.insert("outbox".into(), hex(&ping_sql::outbox_payload::encode(&[event()])));
    formats.insert("token".into(), token().to_string());
    formats.insert("segment".into(), hex(&segment().data));
    formats
}

#[test]
fn a_format_changes_only_with_the_version() {
    let version = env!("CARGO_PKG_VERSION");
    let written = written();
    let file = folder().join(format!("{version}.txt"));
    if std::env::var_os("UPDATE").is_some() && !file.exists() {
        let lines = written.iter().map(|(name, value)| format!("{name} {value}\n"));
        std::fs::write(&file, lines.collect::<String>()).unwrap();
    }
    let before = read(version);
    assert!(!before.is_empty(), "version {version} has no formats: run this test with UPDATE=1, and commit the file");
    for (name, value) in &before {
        // Another version of the compressor may write other bytes for the same content; the first byte is the version of the format.
        let digits = if name == "segment" { 2 } else { value.len() };
        let now = written.get(name).map(|now| &now[..digits.min(now.len())]);
        assert_eq!(
            now,
            Some(&value[..digits]),
            "{name} is not what version {version} wrote, so programs of that version do not understand it. Change it in a way that they do, or \
             raise the version of the workspace and run this test with UPDATE=1"
        );
    }
}

#[test]
fn every_released_format_is_read() {
    let migrations = migrations();
    for version in versions() {
        let formats = read(&version);
        let record = ping_kafka::decode_record(&bytes(&formats["record"])).unwrap();
        assert_eq!((record.writer, record.seq, record.timestamp_ms), (WriterId(7), 9, TIME), "{version}");
        assert_eq!((&*record.source, &*record.kind), (SOURCE, KIND), "{version}");
        assert_eq!(ping_sql::outbox_payload::decode(&bytes(&formats["outbox"])).unwrap(), [event()], "{version}");
        assert_eq!(formats["token"].parse(), Ok(token()), "{version}");
        let place = segment().place;
        let stored = StoredSegment { id: 1, place, data: bytes(&formats["segment"]) };
        let kinds = kinds_of(SOURCE, &[stored]).unwrap();
        assert_eq!(kinds[KIND], Span { count: 1, first: TIME, last: TIME }, "{version}");
        for (name, hash) in formats.iter().filter(|(name, _)| name.contains('/')) {
            assert_eq!(
                migrations.get(name),
                Some(hash),
                "{name} was released with {version}: add a migration instead of changing it"
            );
        }
    }
}

#[test]
fn what_a_later_version_wrote_is_refused_in_words() {
    let mut data = segment().data;
    data[0] += 1;
    let stored = StoredSegment { id: 1, place: segment().place, data };
    let error = kinds_of(SOURCE, &[stored]).unwrap_err().to_string();
    assert!(error.contains("version"), "{error}");
    assert!(ping_kafka::decode_record(&[0xff; 4]).is_err());
    assert!(ping_sql::outbox_payload::decode(&[0xff; 4]).is_err());
}
