//! Reading rows: keyset pages in key order, each after the last key of the one before.

use super::call::{Failure, Repeat, RpcError};
use super::connect::Client;
use crate::error::Result;
use crate::schema::{CollectionName, Key};
use milvus::proto::common::{ConsistencyLevel, KeyValuePair};
use milvus::proto::milvus as api;
use milvus::proto::schema::FieldData;

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
    /// Every field by name; `*` silently drops fields on some versions.
    pub fields: Vec<String>,
    /// The server timestamp to read at, where the server can pin.
    pub pin: Option<u64>,
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
            expr: range_filter(&scan.key_field, after, scan.up_to.as_ref()),
            output_fields: scan.fields.clone(),
            partition_names: scan.partition.clone().into_iter().collect(),
            guarantee_timestamp: scan.pin.unwrap_or(0),
            query_params: params(scan.collection_id, limit),
            consistency_level: ConsistencyLevel::Strong as i32,
            skip_rls: true,
            ..Default::default()
        };
        let encoded = prost::Message::encode_to_vec(&request).into();
        let (reply, bytes) = self
            .call_bytes::<api::QueryResults>("Query", &scan.collection.database, encoded, Repeat::Freely)
            .await?;
        Ok(Page { fields: reply.fields_data, bytes: bytes.len() })
    }

    /// A timestamp that all later pages can be read at, or `None` on servers that cannot pin
    /// (before 2.5, and the Lites).
    pub async fn pin(&self, collection: &CollectionName, collection_id: i64) -> Result<Option<u64>> {
        let request = api::QueryRequest {
            db_name: collection.database.clone(),
            collection_name: collection.name.clone(),
            query_params: params(collection_id, 1),
            consistency_level: ConsistencyLevel::Strong as i32,
            skip_rls: true,
            ..Default::default()
        };
        match self.call::<api::QueryResults>("Query", &collection.database, &request, Repeat::Freely).await {
            Ok(reply) => Ok((reply.session_ts > 0).then_some(reply.session_ts)),
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

/// A filter for keys in `(after, up_to]`; empty when both ends are open, which servers accept
/// together with a limit.
pub fn range_filter(field: &str, after: Option<&Key>, up_to: Option<&Key>) -> String {
    let lower = after.map(|key| match key {
        // The literal i64::MIN cannot be written before 2.6.
        Key::Int(i64::MIN) => format!("{field} >= {}", i64::MIN + 1),
        key => format!("{field} > {}", literal(key)),
    });
    let upper = up_to.map(|key| match key {
        Key::Int(i64::MIN) => format!("{field} < {}", i64::MIN + 1),
        key => format!("{field} <= {}", literal(key)),
    });
    [lower, upper].into_iter().flatten().collect::<Vec<_>>().join(" && ")
}

/// A key as a literal of the filter language, whose strings take the escapes of JSON.
pub fn literal(key: &Key) -> String {
    match key {
        Key::Int(value) => value.to_string(),
        Key::Text(value) => serde_json::Value::from(value.as_str()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_name_half_open_ranges() {
        let int = |v| Some(Key::Int(v));
        assert_eq!(range_filter("id", None, None), "");
        assert_eq!(range_filter("id", int(5).as_ref(), int(9).as_ref()), "id > 5 && id <= 9");
        assert_eq!(range_filter("id", int(i64::MIN).as_ref(), None), "id >= -9223372036854775807");
        assert_eq!(range_filter("id", None, int(i64::MIN).as_ref()), "id < -9223372036854775807");
        let text = Key::Text("a\"b\\c\nd\u{1}é".into());
        assert_eq!(range_filter("k", Some(&text), None), "k > \"a\\\"b\\\\c\\nd\\u0001é\"");
    }
}
