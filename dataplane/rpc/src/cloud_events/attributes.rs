//! One CloudEvent: its attributes, and what the event service makes of them.

use std::{borrow::Cow, fmt, marker::PhantomData};

use jiff::Timestamp;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use uuid::{Builder, Uuid};

/// The attributes that are used. `data`, extensions and the rest are skipped without being stored.
#[derive(Deserialize)]
pub(super) struct CloudEvent<'a> {
    #[serde(rename = "specversion", deserialize_with = "version")]
    _version: (),
    #[serde(borrow, deserialize_with = "text")]
    id: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "text")]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type", deserialize_with = "text")]
    kind: Cow<'a, str>,
    /// Milliseconds since the Unix epoch; 0 means now.
    #[serde(default, rename = "time", deserialize_with = "time")]
    timestamp_ms: i64,
}

impl CloudEvent<'_> {
    /// Writes the event as `RecordRequest` has it.
    pub(super) fn write_record(&self, records: &mut Vec<u8>) -> serde_json::Result<()> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Record<'a> {
            event_id: Uuid,
            source: &'a str,
            kind: &'a str,
            timestamp_ms: i64,
        }
        let Self { id, source, kind, timestamp_ms, .. } = self;
        let event_id = event_id(source, id);
        serde_json::to_writer(records, &Record { event_id, source, kind, timestamp_ms: *timestamp_ms })
    }
}

/// The id itself if it is a UUID. Any other is unique only together with its source: then it is the UUID of version 5 whose name is the
/// id, in the namespace that is the UUID of version 5 of the source as a URL. All clients can compute it.
fn event_id(source: &str, id: &str) -> Uuid {
    Uuid::try_parse(id).unwrap_or_else(|_| name_based(name_based(Uuid::NAMESPACE_URL, source), id))
}

/// The UUID of version 5 of a name.
fn name_based(namespace: Uuid, name: &str) -> Uuid {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(namespace.as_bytes());
    hash.update(name.as_bytes());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash.finish().as_ref()).for_each(|(byte, hashed)| *byte = *hashed);
    Builder::from_sha1_bytes(bytes).into_uuid()
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    let version = Cow::<str>::deserialize(deserializer)?;
    if version == "1.0" { Ok(()) } else { Err(D::Error::custom("the version of CloudEvents must be \"1.0\"")) }
}

fn text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'a, str>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let Text(text) = Text::deserialize(deserializer)?;
    if text.is_empty() { Err(D::Error::custom("CloudEvents must not leave it empty")) } else { Ok(text) }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let Some(text) = Option::<Cow<'_, str>>::deserialize(deserializer)? else { return Ok(0) };
    let time = text.parse::<Timestamp>().map(Timestamp::as_millisecond);
    // 0 would mean now.
    let time = time.ok().filter(|millis| *millis != 0);
    time.ok_or_else(|| {
        D::Error::custom("not a time of RFC 3339 since the year 2000; send one like 2026-01-31T09:00:00Z")
    })
}

/// A CloudEvent that is an object: an array would be read as its attributes, in order.
pub(super) struct Object<'a>(pub(super) CloudEvent<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ObjectVisitor<'a> {
    type Value = Object<'a>;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, attributes: A) -> Result<Object<'a>, A::Error> {
        CloudEvent::deserialize(MapAccessDeserializer::new(attributes)).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected ids are what Python computes: `uuid5(uuid5(NAMESPACE_URL, source), id)`.
    #[test]
    fn an_id_that_is_not_a_uuid_is_unique_within_its_source() {
        let id = |source: &str, id: &str| event_id(source, id).to_string();
        assert_eq!(id("/shops/7", "7"), "d9e2b94f-41c3-5656-9237-18847df47431");
        assert_eq!(id("https://example.com/ü", "A234-1234"), "b2d539c5-50c9-57e7-8ddc-1b492ab64a64");
        assert_ne!(id("/shops/7", "7"), id("/shops/8", "7"));
        assert_ne!(id("/shops/7", "78"), id("/shops/77", "8"));
    }
}
