//! How large a target has to be: Zilliz Cloud CUs, or memory of a self-hosted cluster. Pure.
//!
//! The figures are estimates and say so; their sources stand beside them.

use crate::schema::{FieldType, Schema};

/// Raw float32 vector bytes that one query CU serves, from Zilliz' table of vectors per CU:
/// dims x vectors is about constant from 256 dims up (1.152, 3.84 and 15.36 thousand million).
const PERFORMANCE_BYTES_PER_CU: f64 = 1.152e9 * 4.0;
const CAPACITY_BYTES_PER_CU: f64 = 3.84e9 * 4.0;
const TIERED_BYTES_PER_CU: f64 = 15.36e9 * 4.0;

/// The tiered type starts at this many CUs.
const TIERED_MIN_CUS: u64 = 8;

/// Room for growth, segments in flight and uneven shards.
const HEADROOM: f64 = 1.3;

/// Memory of an HNSW index (what AUTOINDEX builds on self-hosted Milvus) over its raw vectors:
/// links of 2 x M = 60 neighbours of 4 bytes add to each vector; taken as a quarter at 256 dims.
const HNSW_LINK_BYTES_PER_VECTOR: f64 = 2.0 * 30.0 * 4.0;

/// What a load needs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Raw bytes of all vectors.
    pub vector_bytes: u64,
    /// Number of vectors.
    pub vectors: u64,
    /// Bytes of everything else.
    pub scalar_bytes: u64,
}

/// An estimate of what a target needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Zilliz Cloud, performance-optimized.
    pub performance_cus: u64,
    /// Zilliz Cloud, capacity-optimized.
    pub capacity_cus: u64,
    /// Zilliz Cloud, tiered storage.
    pub tiered_cus: u64,
    /// Memory of all query nodes of a self-hosted cluster with one replica.
    pub query_node_bytes: u64,
}

/// What the numbers rest on, for people.
pub const ASSUMPTIONS: &[&str] = &[
    "one replica, everything loaded, 30% headroom",
    "Zilliz CUs from the published vectors-per-CU table (about 4.6, 15.4 and 61 GB of raw float32 per CU); float16, bfloat16, binary and sparse vectors are counted by their bytes, which is a guess",
    "self-hosted: raw vectors plus HNSW links (240 bytes a vector) plus scalars",
];

impl Load {
    /// The load of `rows` rows of `schema` whose parts have `part_bytes`: vectors are counted
    /// exactly, the rest is what remains, at the size it has in Parquet times two.
    pub fn of(schema: &Schema, rows: u64, part_bytes: u64) -> Self {
        let per_row = |kind: &FieldType| match kind {
            FieldType::SparseFloatVector | FieldType::VectorArray { .. } => kind.typical_bytes() as u64,
            dense => dense.vector_bytes().unwrap_or(0) as u64,
        };
        let vector_bytes =
            schema.vectors().iter().map(|(_, kind)| per_row(kind)).sum::<u64>().saturating_mul(rows);
        Load {
            vector_bytes,
            vectors: rows.saturating_mul(schema.vectors().len() as u64),
            scalar_bytes: part_bytes.saturating_sub(vector_bytes).saturating_mul(2),
        }
    }

    /// Both together.
    pub fn plus(self, other: Load) -> Load {
        Load {
            vector_bytes: self.vector_bytes.saturating_add(other.vector_bytes),
            vectors: self.vectors.saturating_add(other.vectors),
            scalar_bytes: self.scalar_bytes.saturating_add(other.scalar_bytes),
        }
    }

    /// What a target needs for it.
    pub fn estimate(self) -> Estimate {
        let bytes = (self.vector_bytes as f64 + self.scalar_bytes as f64) * HEADROOM;
        let cus = |per_cu: f64| ((bytes / per_cu).ceil() as u64).max(1);
        let links = self.vectors as f64 * HNSW_LINK_BYTES_PER_VECTOR * HEADROOM;
        Estimate {
            performance_cus: cus(PERFORMANCE_BYTES_PER_CU),
            capacity_cus: cus(CAPACITY_BYTES_PER_CU),
            tiered_cus: cus(TIERED_BYTES_PER_CU).max(TIERED_MIN_CUS),
            query_node_bytes: (bytes + links) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_table_without_headroom() {
        // 1.5 million vectors of 768 dims are one performance CU, 5 million one capacity CU.
        let load = |vectors: u64| Load {
            vector_bytes: (vectors as f64 * 768.0 * 4.0 / HEADROOM) as u64,
            vectors,
            scalar_bytes: 0,
        };
        assert_eq!(load(1_500_000).estimate().performance_cus, 1);
        assert_eq!(load(1_600_000).estimate().performance_cus, 2);
        assert_eq!(load(5_000_000).estimate().capacity_cus, 1);
        assert_eq!(load(1).estimate().tiered_cus, 8);
    }
}
