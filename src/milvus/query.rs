//! Reading rows: keyset pages in key order, each after the last key of the one before.

use super::call::{Failure, Repeat, RpcError};
use super::connect::{Client, ServerKind};
use super::load::LoadState;
use crate::error::Result;
use crate::schema::{CollectionName, Key};
use bytes::Bytes;
use milvus::proto::common::{ConsistencyLevel, KeyValuePair};
use milvus::proto::milvus as api;
use milvus::proto::schema::FieldData;
use prost::Message;
use std::time::{Duration, Instant};

/// The first release of Milvus that reads at a timestamp which it gave out before.
const FIRST_TO_PIN: (u32, u32, u32) = (2, 5, 0);

/// How long a server may take to load again what was loaded before it was started again.
const LOADING_AGAIN: Duration = Duration::from_secs(1800);

/// What to read: rows of a key range of one partition (or all), and which fields of them.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The collection.
    pub collection: CollectionName,
    /// The server's id of the collection: guards against a name that moves to another one.
    pub collection_id: i64,
    /// One partition, or all at once.
    pub partition: Option<String>,
    /// The primary key field.
    pub key_field: String,
    /// Only rows with at most this key.
    pub up_to: Option<Key>,
    /// Only rows with these keys, unless it is empty. They all stand in every request.
    pub among: Vec<Key>,
    /// Every field by name; `*` silently drops fields on some versions.
    pub fields: Vec<String>,
    /// As of when.
    pub view: View,
}

/// As of when rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// All that is acknowledged when the request comes in. Servers that collect their writes in
    /// ticks wait for the next one, some 200 ms, at every request.
    Latest,
    /// At least all that was acknowledged at a server timestamp: waits at most once.
    Since(u64),
    /// Exactly as of a server timestamp, on servers that can pin.
    Pinned(u64),
    /// What the server has at hand, which may lack the newest writes: waits for nothing. For
    /// estimates only.
    AtHand,
}

impl View {
    pub(super) fn timestamp(self) -> u64 {
        match self {
            View::Latest => 0,
            View::Since(timestamp) | View::Pinned(timestamp) => timestamp,
            // Earlier than all data, and not 0, which would mean the latest.
            View::AtHand => 1,
        }
    }

    pub(super) fn consistency_level(self) -> ConsistencyLevel {
        match self {
            View::Latest => ConsistencyLevel::Strong,
            View::Since(_) | View::Pinned(_) => ConsistencyLevel::Customized,
            View::AtHand => ConsistencyLevel::Eventually,
        }
    }

    /// A view for estimates about the same rows.
    pub fn for_estimates(self) -> View {
        match self {
            View::Since(_) => View::AtHand,
            view => view,
        }
    }

    /// Servers pin iterators only: without this a count would be one of now. There must be no limit.
    pub(super) fn count_params(self) -> Vec<KeyValuePair> {
        let iterator = KeyValuePair { key: "iterator".into(), value: "True".into() };
        if matches!(self, View::Pinned(_)) { vec![iterator] } else { Vec::new() }
    }
}

/// One page as the server sent it.
pub struct Page {
    /// One column a field.
    pub fields: Vec<FieldData>,
    /// Bytes of the reply.
    pub bytes: usize,
}

impl Client {
    /// The next at most `limit` rows of `scan` with keys greater than `after`, in key order. The
    /// scan has ended only when a page is empty: a short page is normal.
    pub async fn page(
        &self,
        scan: &Scan,
        after: Option<&Key>,
        limit: u32,
    ) -> std::result::Result<Page, RpcError> {
        let request = api::QueryRequest {
            db_name: scan.collection.database.clone(),
            collection_name: scan.collection.name.clone(),
            expr: self.filter(scan, after),
            output_fields: scan.fields.clone(),
            partition_names: scan.partition.clone().into_iter().collect(),
            guarantee_timestamp: scan.view.timestamp(),
            query_params: params(scan.collection_id, limit),
            consistency_level: scan.view.consistency_level() as i32,
            skip_rls: true,
            ..Default::default()
        };
        let (reply, bytes) = self.query(&request).await?;
        Ok(Page { fields: reply.fields_data, bytes: bytes.len() })
    }

    /// Sends a query; also gives the bytes of the reply. A server that was started again loads by
    /// itself what was loaded before, and refuses queries meanwhile: it is waited for.
    pub(super) async fn query(
        &self,
        request: &api::QueryRequest,
    ) -> std::result::Result<(api::QueryResults, Bytes), RpcError> {
        let encoded: Bytes = request.encode_to_vec().into();
        let start = Instant::now();
        loop {
            let sent = self.call_bytes("Query", &request.db_name, encoded.clone(), Repeat::Freely).await;
            match sent {
                Err(e) if e.failure == Failure::NotLoaded && self.loads_again(request, start).await => {
                    tracing::debug!(reason = e.reason, "waiting until it is loaded again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                done => return done,
            }
        }
    }

    /// Whether what a query was refused for is being loaded. "Loaded" is believed for as long as a
    /// restart takes: the nodes that answer queries may not know it yet.
    async fn loads_again(&self, request: &api::QueryRequest, since: Instant) -> bool {
        let name = CollectionName::new(&request.db_name, &request.collection_name);
        match self.load_state(&name, request.partition_names.first().map(String::as_str)).await {
            Ok(LoadState::Loading) => since.elapsed() < LOADING_AGAIN,
            Ok(LoadState::Loaded) => since.elapsed() < self.patience.restart,
            Ok(LoadState::NotLoaded) | Err(_) => false,
        }
    }

    /// A view of all that is acknowledged now, which later requests share without waiting again
    /// where the server gives out timestamps.
    pub async fn view_of_now(&self) -> Result<View> {
        let request = api::AllocTimestampRequest::default();
        match self.call::<api::AllocTimestampResponse>("AllocTimestamp", "", &request, Repeat::Freely).await {
            Ok(reply) if reply.timestamp > 0 => Ok(View::Since(reply.timestamp)),
            Ok(_) => Ok(View::Latest),
            // Also where the user may not: it is only faster with it.
            Err(e) if matches!(e.failure, Failure::Unimplemented | Failure::Refused | Failure::Denied) => {
                Ok(View::Latest)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// A timestamp that all later pages can be read at, or `None` on servers that cannot pin
    /// (before 2.5, and the Lites).
    pub async fn pin(&self, collection: &CollectionName, collection_id: i64) -> Result<Option<u64>> {
        // The probe is strongly consistent and so waits for the server's time tick.
        let known = self.info.release().filter(|_| self.info.kind == ServerKind::Milvus);
        if known.is_some_and(|release| release < FIRST_TO_PIN) {
            return Ok(None);
        }
        let request = api::QueryRequest {
            db_name: collection.database.clone(),
            collection_name: collection.name.clone(),
            query_params: params(collection_id, 1),
            consistency_level: ConsistencyLevel::Strong as i32,
            skip_rls: true,
            ..Default::default()
        };
        match self.query(&request).await {
            Ok((reply, _)) => Ok((reply.session_ts > 0).then_some(reply.session_ts)),
            Err(e) if e.failure == Failure::Refused => {
                tracing::debug!(reason = e.reason, "no pin: the probe is refused");
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// `reduce_stop_for_best=True` because `False` could skip rows before 2.5.
fn params(collection_id: i64, limit: u32) -> Vec<KeyValuePair> {
    let pair = |key: &str, value: String| KeyValuePair { key: key.to_string(), value };
    vec![
        pair("iterator", "True".into()),
        pair("collection_id", collection_id.to_string()),
        pair("limit", limit.to_string()),
        pair("offset", "0".into()),
        pair("reduce_stop_for_best", "True".into()),
        pair("timezone", "UTC".into()),
    ]
}

impl Client {
    fn filter(&self, scan: &Scan, after: Option<&Key>) -> String {
        let range = self.range_filter(&scan.key_field, after, scan.up_to.as_ref());
        if scan.among.is_empty() {
            return range;
        }
        let list = self.list_filter(&scan.key_field, &scan.among);
        if range.is_empty() { list } else { format!("({list}) && {range}") }
    }

    /// A filter for keys in `(after, up_to]`; empty when both ends are open, which servers accept
    /// together with a limit.
    pub fn range_filter(&self, field: &str, after: Option<&Key>, up_to: Option<&Key>) -> String {
        range_filter(field, after, up_to, Newlines::of(self.info.kind))
    }

    /// A filter for the keys of a list.
    pub fn list_filter(&self, field: &str, keys: &[Key]) -> String {
        list_filter(field, keys, Newlines::of(self.info.kind))
    }
}

/// How a line break stands in a text literal. Every engine takes `\"` and `\\` and all other
/// characters as they are; a bare line break is a syntax error everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newlines {
    /// `\n` and `\r`.
    Named,
    /// A backslash and the line break itself (LF or CR LF): Lite 2.5, which reads `\n` as two
    /// characters. A carriage return alone cannot be written there; the server refuses it.
    Backslashed,
}

impl Newlines {
    fn of(kind: ServerKind) -> Self {
        // Lite 2.5 is the engine that does not say what it is.
        if kind == ServerKind::Unknown { Newlines::Backslashed } else { Newlines::Named }
    }
}

fn range_filter(field: &str, after: Option<&Key>, up_to: Option<&Key>, newlines: Newlines) -> String {
    let lower = after.map(|key| match key {
        // The literal i64::MIN cannot be written before 2.6.
        Key::Int(i64::MIN) => format!("{field} >= {}", i64::MIN + 1),
        key => format!("{field} > {}", literal(key, newlines)),
    });
    let upper = up_to.map(|key| match key {
        Key::Int(i64::MIN) => format!("{field} < {}", i64::MIN + 1),
        key => format!("{field} <= {}", literal(key, newlines)),
    });
    [lower, upper].into_iter().flatten().collect::<Vec<_>>().join(" && ")
}

fn list_filter(field: &str, keys: &[Key], newlines: Newlines) -> String {
    let listed = |key: &&Key| **key != Key::Int(i64::MIN);
    let literals: Vec<_> = keys.iter().filter(listed).map(|key| literal(key, newlines)).collect();
    let list = format!("{field} in [{}]", literals.join(", "));
    if literals.len() == keys.len() {
        return list;
    }
    // The literal i64::MIN cannot be written before 2.6.
    let smallest = format!("{field} < {}", i64::MIN + 1);
    if literals.is_empty() { smallest } else { format!("{list} || {smallest}") }
}

fn literal(key: &Key, newlines: Newlines) -> String {
    let text = match key {
        Key::Int(value) => return value.to_string(),
        Key::Text(text) => text,
    };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    let mut previous = ' ';
    for c in text.chars() {
        match (c, newlines) {
            ('\n', Newlines::Named) => quoted.push_str("\\n"),
            ('\r', Newlines::Named) => quoted.push_str("\\r"),
            // The backslash before the carriage return stands for both.
            ('\n', Newlines::Backslashed) if previous == '\r' => quoted.push(c),
            ('"' | '\\' | '\n' | '\r', _) => quoted.extend(['\\', c]),
            _ => quoted.push(c),
        }
        previous = c;
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_name_half_open_ranges() {
        let filter =
            |after: Option<&Key>, up_to: Option<&Key>| range_filter("id", after, up_to, Newlines::Named);
        let int = |v| Some(Key::Int(v));
        assert_eq!(filter(None, None), "");
        assert_eq!(filter(int(5).as_ref(), int(9).as_ref()), "id > 5 && id <= 9");
        assert_eq!(filter(int(i64::MIN).as_ref(), None), "id >= -9223372036854775807");
        assert_eq!(filter(None, int(i64::MIN).as_ref()), "id < -9223372036854775807");
    }

    #[test]
    fn filters_name_lists_of_keys() {
        let filter = |keys: &[i64]| {
            let keys: Vec<_> = keys.iter().copied().map(Key::Int).collect();
            list_filter("id", &keys, Newlines::Named)
        };
        assert_eq!(filter(&[5, -1]), "id in [5, -1]");
        assert_eq!(filter(&[i64::MIN, 5]), "id in [5] || id < -9223372036854775807");
        assert_eq!(filter(&[i64::MIN]), "id < -9223372036854775807");
        let text = list_filter("id", &[Key::Text("a\n".into())], Newlines::Named);
        assert_eq!(text, "id in [\"a\\n\"]");
    }

    #[test]
    fn text_literals_escape_what_the_engine_needs() {
        let text = Key::Text("a\"b\\c\nd\r\n\te\u{1}é'".into());
        assert_eq!(literal(&text, Newlines::Named), "\"a\\\"b\\\\c\\nd\\r\\n\te\u{1}é'\"");
        assert_eq!(literal(&text, Newlines::Backslashed), "\"a\\\"b\\\\c\\\nd\\\r\n\te\u{1}é'\"");
        assert_eq!(literal(&Key::Int(-7), Newlines::Named), "-7");
    }
}
