//! Collections and fields in the terms Milvus users know. Pure: no wire types, no I/O.
//!
//! Owns: what a field is, which of a collection's columns travel in a snapshot, names of
//! collections and the keys of rows. Does not own: how a server spells a schema
//! (`milvus::wire_schema`), how a manifest does (`snapshot`), or how values are laid out
//! (`columns`).

use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::fmt;

/// The hidden column that holds a dynamic collection's undeclared keys, one JSON object a row.
pub const DYNAMIC_COLUMN: &str = "$meta";

/// The database every server has.
pub const DEFAULT_DATABASE: &str = "default";

/// Most dimensions of a vector; Milvus' own limit is 32,768 (and eight times that for bits).
const MAX_DIM: u32 = 1 << 17;

/// A collection's full name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CollectionName {
    /// Database; `default` on servers without databases.
    pub database: String,
    /// Collection.
    pub name: String,
}

impl CollectionName {
    /// `database.name`.
    pub fn new(database: impl Into<String>, name: impl Into<String>) -> Self {
        CollectionName { database: database.into(), name: name.into() }
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.name)
    }
}

/// The type of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// `true` or `false`.
    Bool,
    /// 8-bit signed.
    Int8,
    /// 16-bit signed.
    Int16,
    /// 32-bit signed.
    Int32,
    /// 64-bit signed.
    Int64,
    /// IEEE 754 single.
    Float,
    /// IEEE 754 double.
    Double,
    /// UTF-8 text.
    VarChar,
}

/// The type of a field, with the parameters that decide its layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldType {
    /// `true` or `false`.
    Bool,
    /// 8-bit signed.
    Int8,
    /// 16-bit signed.
    Int16,
    /// 32-bit signed.
    Int32,
    /// 64-bit signed.
    Int64,
    /// IEEE 754 single.
    Float,
    /// IEEE 754 double.
    Double,
    /// UTF-8 text of at most `max_length` bytes.
    VarChar {
        /// Bytes.
        max_length: u32,
    },
    /// One JSON value a row, kept as the server's bytes.
    Json,
    /// A list of scalars.
    Array {
        /// What it holds.
        element: ElementType,
        /// Whether elements may be null.
        element_nullable: bool,
        /// Largest number of elements.
        max_capacity: u32,
    },
    /// Text without a length limit.
    Text,
    /// A shape as well-known text (WKT).
    Geometry,
    /// A moment as ISO 8601 text.
    Timestamptz,
    /// A day, counted from 1970-01-01.
    Date,
    /// A time of day, as the number that the protocol has.
    Time,
    /// A decimal number, as the signed unscaled integer that the protocol has.
    Decimal,
    /// A UUID.
    Uuid,
    /// A molecule as SMILES text.
    Mol,
    /// `dim` IEEE 754 singles.
    FloatVector {
        /// Dimensions.
        dim: u32,
    },
    /// `dim` bits, eight to a byte.
    BinaryVector {
        /// Dimensions, a multiple of eight.
        dim: u32,
    },
    /// `dim` IEEE 754 halves, little-endian.
    Float16Vector {
        /// Dimensions.
        dim: u32,
    },
    /// `dim` bfloat16, little-endian.
    BFloat16Vector {
        /// Dimensions.
        dim: u32,
    },
    /// Pairs of index and value, ascending by index.
    SparseFloatVector,
    /// `dim` 8-bit signed integers.
    Int8Vector {
        /// Dimensions.
        dim: u32,
    },
    /// A list of dense vectors; only within a struct array.
    VectorArray {
        /// The vectors' type.
        element: Box<FieldType>,
        /// Largest number of vectors.
        max_capacity: u32,
    },
    /// A list of structs: every sub-field is an array of the same length.
    StructArray {
        /// Arrays and vector arrays.
        fields: Vec<Field>,
    },
}

impl ElementType {
    /// The name in Milvus' own spelling.
    pub fn name(self) -> &'static str {
        match self {
            ElementType::Bool => "Bool",
            ElementType::Int8 => "Int8",
            ElementType::Int16 => "Int16",
            ElementType::Int32 => "Int32",
            ElementType::Int64 => "Int64",
            ElementType::Float => "Float",
            ElementType::Double => "Double",
            ElementType::VarChar => "VarChar",
        }
    }

    /// Every element type.
    pub const ALL: [ElementType; 8] = [
        ElementType::Bool,
        ElementType::Int8,
        ElementType::Int16,
        ElementType::Int32,
        ElementType::Int64,
        ElementType::Float,
        ElementType::Double,
        ElementType::VarChar,
    ];
}

impl FieldType {
    /// The name in Milvus' own spelling, without parameters.
    pub fn name(&self) -> &'static str {
        match self {
            FieldType::Bool => "Bool",
            FieldType::Int8 => "Int8",
            FieldType::Int16 => "Int16",
            FieldType::Int32 => "Int32",
            FieldType::Int64 => "Int64",
            FieldType::Float => "Float",
            FieldType::Double => "Double",
            FieldType::VarChar { .. } => "VarChar",
            FieldType::Json => "JSON",
            FieldType::Array { .. } => "Array",
            FieldType::FloatVector { .. } => "FloatVector",
            FieldType::BinaryVector { .. } => "BinaryVector",
            FieldType::Float16Vector { .. } => "Float16Vector",
            FieldType::BFloat16Vector { .. } => "BFloat16Vector",
            FieldType::SparseFloatVector => "SparseFloatVector",
            FieldType::Text => "Text",
            FieldType::Geometry => "Geometry",
            FieldType::Timestamptz => "Timestamptz",
            FieldType::Date => "Date",
            FieldType::Time => "Time",
            FieldType::Decimal => "Decimal",
            FieldType::Uuid => "UUID",
            FieldType::Mol => "Mol",
            FieldType::Int8Vector { .. } => "Int8Vector",
            FieldType::VectorArray { .. } => "ArrayOfVector",
            FieldType::StructArray { .. } => "ArrayOfStruct",
        }
    }

    /// Whether it needs a vector index before the collection can be loaded.
    pub fn is_vector(&self) -> bool {
        matches!(
            self,
            FieldType::FloatVector { .. }
                | FieldType::BinaryVector { .. }
                | FieldType::Float16Vector { .. }
                | FieldType::BFloat16Vector { .. }
                | FieldType::SparseFloatVector
                | FieldType::Int8Vector { .. }
                | FieldType::VectorArray { .. }
        )
    }

    /// Dimensions of a dense vector.
    pub fn dim(&self) -> Option<u32> {
        match self {
            FieldType::FloatVector { dim }
            | FieldType::BinaryVector { dim }
            | FieldType::Float16Vector { dim }
            | FieldType::BFloat16Vector { dim }
            | FieldType::Int8Vector { dim } => Some(*dim),
            _ => None,
        }
    }

    /// Bytes of one dense vector on the wire; `None` for every other type.
    pub fn vector_bytes(&self) -> Option<usize> {
        match self {
            FieldType::FloatVector { dim } => Some(*dim as usize * 4),
            FieldType::BinaryVector { dim } => Some(*dim as usize / 8),
            FieldType::Float16Vector { dim } | FieldType::BFloat16Vector { dim } => Some(*dim as usize * 2),
            FieldType::Int8Vector { dim } => Some(*dim as usize),
            _ => None,
        }
    }

    /// Refuses parameters that no server has: they come out of files that may be hostile, and
    /// sizes are computed from them.
    fn check(&self) -> Result<()> {
        let ok = match self {
            FieldType::BinaryVector { dim } => dim % 8 == 0 && (8..=MAX_DIM * 8).contains(dim),
            FieldType::VectorArray { element, .. } => {
                element.vector_bytes().is_some() && element.check().is_ok()
            }
            FieldType::StructArray { fields } => {
                let listed =
                    |f: &Field| matches!(f.kind, FieldType::Array { .. } | FieldType::VectorArray { .. });
                !fields.is_empty() && fields.iter().all(|f| listed(f) && f.kind.check().is_ok())
            }
            other => other.dim().is_none_or(|dim| (1..=MAX_DIM).contains(&dim)),
        };
        if ok {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Integrity, format!("{self} is not a possible type")))
        }
    }

    /// A guess at the bytes of one value, for the first page size and for estimates before any
    /// row was seen. Exact for fixed-size types.
    pub fn typical_bytes(&self) -> usize {
        match self {
            FieldType::Bool | FieldType::Int8 => 1,
            FieldType::Int16 => 2,
            FieldType::Int32 | FieldType::Float => 4,
            FieldType::Date => 4,
            FieldType::Int64 | FieldType::Double | FieldType::Time | FieldType::Decimal => 8,
            FieldType::Timestamptz => 24,
            FieldType::Uuid => 36,
            FieldType::Text | FieldType::Geometry | FieldType::Mol => 128,
            FieldType::VectorArray { element, .. } => 4 * element.typical_bytes(),
            FieldType::StructArray { fields } => fields.iter().map(|f| f.kind.typical_bytes()).sum(),
            FieldType::VarChar { max_length } => (*max_length as usize).min(128),
            FieldType::Json => 256,
            FieldType::Array { max_capacity, .. } => (*max_capacity as usize).min(16) * 8,
            FieldType::SparseFloatVector => 100 * 8,
            dense => dense.vector_bytes().unwrap_or(8),
        }
    }

    /// Bytes that a value takes on the wire at most, or nearly so.
    pub fn largest_bytes(&self) -> usize {
        /// What servers allow for a JSON document and for other text.
        const TEXT: usize = 64 << 10;
        match self {
            FieldType::VarChar { max_length } => *max_length as usize,
            FieldType::Json | FieldType::Text | FieldType::Geometry | FieldType::Mol => TEXT,
            FieldType::Array { element: ElementType::VarChar, .. } => TEXT,
            FieldType::Array { max_capacity, .. } => *max_capacity as usize * 8,
            FieldType::VectorArray { element, max_capacity } => {
                *max_capacity as usize * element.typical_bytes()
            }
            FieldType::StructArray { fields } => fields.iter().map(|f| f.kind.largest_bytes()).sum(),
            FieldType::SparseFloatVector => TEXT,
            fixed => fixed.typical_bytes(),
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldType::VarChar { max_length } => write!(f, "VarChar({max_length})"),
            FieldType::Array { element, element_nullable, max_capacity } => {
                write!(
                    f,
                    "Array<{}{}>({max_capacity})",
                    element.name(),
                    if *element_nullable { "?" } else { "" }
                )
            }
            FieldType::VectorArray { element, max_capacity } => write!(f, "Array<{element}>({max_capacity})"),
            FieldType::StructArray { fields } => {
                let inner: Vec<_> = fields.iter().map(|f| format!("{} {}", f.name, f.kind)).collect();
                write!(f, "ArrayOfStruct<{}>", inner.join(", "))
            }
            other => match other.dim() {
                Some(dim) => write!(f, "{}({dim})", other.name()),
                None => f.write_str(other.name()),
            },
        }
    }
}

/// One declared field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Unique within the collection.
    pub name: String,
    /// Type and layout.
    pub kind: FieldType,
    /// Free text.
    pub description: String,
    /// Whether it is the primary key.
    pub primary_key: bool,
    /// Whether the server makes up its values.
    pub auto_id: bool,
    /// Whether rows are spread over partitions by it.
    pub partition_key: bool,
    /// Whether segments are clustered by it.
    pub clustering_key: bool,
    /// Whether values may be null.
    pub nullable: bool,
    /// What a missing value becomes.
    pub default: Option<DefaultValue>,
    /// Type parameters as the server spells them (`dim`, `max_length`, `mmap.enabled`, ...).
    pub params: BTreeMap<String, String>,
}

/// What a missing value of a field becomes, as the server says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultValue {
    /// Of a Bool field.
    Bool(bool),
    /// Of an integer field, and of dates and times as numbers.
    Int(i64),
    /// Of a Float field, by its bits.
    Float(u32),
    /// Of a Double field, by its bits.
    Double(u64),
    /// Of text fields, and timestamps as text.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl fmt::Display for DefaultValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DefaultValue::Bool(value) => write!(f, "{value}"),
            DefaultValue::Int(value) => write!(f, "{value}"),
            DefaultValue::Float(bits) => write!(f, "{}", f32::from_bits(*bits)),
            DefaultValue::Double(bits) => write!(f, "{}", f64::from_bits(*bits)),
            DefaultValue::Text(value) => write!(f, "{value:?}"),
            DefaultValue::Bytes(value) => write!(f, "{} bytes", value.len()),
        }
    }
}

/// What a function computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionKind {
    /// Full text to a sparse vector; the output cannot be read.
    Bm25,
    /// Text to a vector, by a model that the server calls.
    TextEmbedding,
    /// Reorders results; has no output field.
    Rerank,
    /// Text to a binary signature.
    MinHash,
    /// A molecule to a binary vector.
    MolFingerprint,
}

impl FunctionKind {
    /// The name in Milvus' own spelling.
    pub fn name(self) -> &'static str {
        match self {
            FunctionKind::Bm25 => "BM25",
            FunctionKind::TextEmbedding => "TextEmbedding",
            FunctionKind::Rerank => "Rerank",
            FunctionKind::MinHash => "MinHash",
            FunctionKind::MolFingerprint => "MolFingerprint",
        }
    }

    /// Every kind.
    pub const ALL: [FunctionKind; 5] = [
        FunctionKind::Bm25,
        FunctionKind::TextEmbedding,
        FunctionKind::Rerank,
        FunctionKind::MinHash,
        FunctionKind::MolFingerprint,
    ];

    /// Whether a target computes the outputs anew from the inputs, to the same values: then they
    /// do not travel. Embeddings are different: calling the model again costs, and drifts.
    pub fn is_regenerated(self) -> bool {
        self != FunctionKind::TextEmbedding
    }
}

/// A function of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Unique within the collection.
    pub name: String,
    /// What it computes.
    pub kind: FunctionKind,
    /// Free text.
    pub description: String,
    /// Names of the fields it reads.
    pub inputs: Vec<String>,
    /// Names of the fields it fills.
    pub outputs: Vec<String>,
    /// In the server's spelling.
    pub params: BTreeMap<String, String>,
}

/// What a collection is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Free text.
    pub description: String,
    /// In declaration order, struct arrays last; exactly one primary key.
    pub fields: Vec<Field>,
    /// What the server computes.
    pub functions: Vec<Function>,
    /// Whether rows may carry undeclared keys.
    pub dynamic: bool,
}

/// One column of rows as it travels: an insertable field, or `$meta`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The field's name, or `$meta`.
    pub name: String,
    /// Type and layout.
    pub kind: FieldType,
    /// Whether values may be null.
    pub nullable: bool,
    /// Whether it is the `$meta` column.
    pub dynamic: bool,
}

impl Column {
    /// The column of a field.
    pub fn of(field: &Field) -> Self {
        Column {
            name: field.name.clone(),
            kind: field.kind.clone(),
            nullable: field.nullable,
            dynamic: false,
        }
    }
}

impl Schema {
    /// A schema with exactly one primary key of a type that can be one, and unique names.
    pub fn new(
        description: String,
        fields: Vec<Field>,
        functions: Vec<Function>,
        dynamic: bool,
    ) -> Result<Self> {
        let mut keys = fields.iter().filter(|f| f.primary_key);
        let key =
            keys.next().ok_or_else(|| Error::new(ErrorKind::Integrity, "the schema has no primary key"))?;
        if let Some(second) = keys.next() {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!("the schema has two primary keys, {:?} and {:?}", key.name, second.name),
            ));
        }
        if !matches!(key.kind, FieldType::Int64 | FieldType::VarChar { .. }) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("primary key {:?} has type {}; only Int64 and VarChar are known", key.name, key.kind),
            ));
        }
        let mut names = std::collections::HashSet::new();
        for field in &fields {
            field.kind.check().map_err(|e| e.context(format!("field {:?}", field.name)))?;
            if !names.insert(field.name.as_str()) || field.name == DYNAMIC_COLUMN {
                return Err(Error::new(
                    ErrorKind::Integrity,
                    format!("field name {:?} is taken twice", field.name),
                ));
            }
        }
        Ok(Schema { description, fields, functions, dynamic })
    }

    /// The primary key field.
    pub fn primary_key(&self) -> &Field {
        // `new` made sure that there is one; the first field is a harmless stand-in.
        self.fields.iter().find(|f| f.primary_key).unwrap_or(&self.fields[0])
    }

    /// The columns that travel, in schema order, `$meta` last. What the target computes anew is
    /// left out.
    pub fn columns(&self) -> Vec<Column> {
        let declared = self.fields.iter().filter(|f| !self.is_regenerated(&f.name)).map(Column::of);
        let meta = self.dynamic.then(|| Column {
            name: DYNAMIC_COLUMN.to_string(),
            kind: FieldType::Json,
            nullable: false,
            dynamic: true,
        });
        declared.chain(meta).collect()
    }

    /// Whether a field is the output of a function that the target computes anew.
    pub fn is_regenerated(&self, field: &str) -> bool {
        self.functions.iter().any(|f| f.kind.is_regenerated() && f.outputs.iter().any(|o| o == field))
    }

    /// Everything that needs a vector index, in schema order: vector fields, and the vectors
    /// within struct arrays as `struct[field]`, which is how servers name them.
    pub fn vectors(&self) -> Vec<(String, &FieldType)> {
        let mut vectors = Vec::new();
        for field in &self.fields {
            match &field.kind {
                FieldType::StructArray { fields } => {
                    let inner = fields.iter().filter(|sub| sub.kind.is_vector());
                    vectors.extend(inner.map(|sub| (format!("{}[{}]", field.name, sub.name), &sub.kind)));
                }
                kind if kind.is_vector() => vectors.push((field.name.clone(), kind)),
                _ => {}
            }
        }
        vectors
    }

    /// Whether rows are placed by a partition key: then partitions cannot be named in requests.
    pub fn has_partition_key(&self) -> bool {
        self.fields.iter().any(|f| f.partition_key)
    }
}

/// The primary key of one row. Ordered as servers order pages: integers by value, text by bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Of an Int64 primary key.
    Int(i64),
    /// Of a VarChar primary key.
    Text(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Int(value) => write!(f, "{value}"),
            Key::Text(value) => write!(f, "{value:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, kind: FieldType, primary_key: bool) -> Field {
        Field {
            name: name.into(),
            kind,
            description: String::new(),
            primary_key,
            auto_id: false,
            partition_key: false,
            clustering_key: false,
            nullable: false,
            default: None,
            params: BTreeMap::new(),
        }
    }

    #[test]
    fn a_schema_has_one_primary_key_and_unique_names() {
        let id = field("id", FieldType::Int64, true);
        let vector = field("v", FieldType::FloatVector { dim: 4 }, false);
        let schema = Schema::new(String::new(), vec![id.clone(), vector.clone()], Vec::new(), true).unwrap();
        assert_eq!(schema.primary_key().name, "id");
        let names: Vec<_> = schema.columns().into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["id", "v", "$meta"]);

        let refused = |fields| Schema::new(String::new(), fields, Vec::new(), false).unwrap_err().kind();
        assert_eq!(refused(vec![vector.clone()]), ErrorKind::Integrity);
        assert_eq!(refused(vec![id.clone(), field("b", FieldType::Int64, true)]), ErrorKind::Integrity);
        assert_eq!(refused(vec![id.clone(), vector.clone(), vector.clone()]), ErrorKind::Integrity);
        assert_eq!(refused(vec![field("id", FieldType::Float, true)]), ErrorKind::Unsupported);
        assert_eq!(refused(vec![id, field("$meta", FieldType::Json, false)]), ErrorKind::Integrity);
    }

    #[test]
    fn types_read_as_users_know_them() {
        let array = FieldType::Array { element: ElementType::Int8, element_nullable: false, max_capacity: 7 };
        assert_eq!(array.to_string(), "Array<Int8>(7)");
        assert_eq!(FieldType::BinaryVector { dim: 64 }.to_string(), "BinaryVector(64)");
        assert_eq!(FieldType::BinaryVector { dim: 64 }.vector_bytes(), Some(8));
        assert_eq!(FieldType::SparseFloatVector.to_string(), "SparseFloatVector");
    }

    #[test]
    fn text_keys_order_by_bytes() {
        assert!(Key::Text("".into()) < Key::Text("\u{1}".into()));
        assert!(Key::Text("Z".into()) < Key::Text("a".into()));
        assert!(Key::Text("\u{ffff}".into()) < Key::Text("\u{10000}".into()));
        assert!(Key::Int(-1) < Key::Int(0));
    }
}
