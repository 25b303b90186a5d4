//! What a server sends must come out of the other side equal to the bit, and what cannot be right
//! must be refused by name.

use super::*;
use crate::schema::{Column, ElementType, Field, FieldType};
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    ArrayArray, BoolArray, BytesArray, DataType as WireType, DateArray, DoubleArray, FieldData, FloatArray,
    GeometryWktArray, IntArray, JsonArray, LongArray, MolSmilesArray, ScalarField, SparseFloatArray,
    StringArray as WireStrings, StructArrayField, TimeArray, VectorArray, VectorField,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost::Message;

pub(crate) const KEY: &str = "the key";

// ---- building what a server sends ----

pub(crate) fn scalars(data: Scalars) -> WireField {
    WireField::Scalars(ScalarField { data: Some(data), valid_data: Vec::new() })
}

pub(crate) fn vectors(dim: u32, data: Vectors) -> WireField {
    WireField::Vectors(VectorField { dim: i64::from(dim), data: Some(data), valid_data: Vec::new() })
}

pub(crate) fn sparse_vectors(rows: &[Vec<(u32, f32)>]) -> WireField {
    let bytes = |pairs: &Vec<(u32, f32)>| {
        pairs.iter().flat_map(|(i, v)| [i.to_le_bytes(), v.to_le_bytes()]).flatten().collect()
    };
    let dim = rows.iter().flatten().map(|(index, _)| i64::from(*index) + 1).max().unwrap_or(0);
    let contents = rows.iter().map(bytes).collect();
    let data = Some(Vectors::SparseFloatVector(SparseFloatArray { contents, dim }));
    WireField::Vectors(VectorField { dim, data, valid_data: Vec::new() })
}

/// The protocol's numbers, written down once more: `wire_type` is under test.
fn type_number(kind: &FieldType) -> WireType {
    match kind {
        FieldType::Bool => WireType::Bool,
        FieldType::Int8 => WireType::Int8,
        FieldType::Int16 => WireType::Int16,
        FieldType::Int32 => WireType::Int32,
        FieldType::Int64 => WireType::Int64,
        FieldType::Float => WireType::Float,
        FieldType::Double => WireType::Double,
        FieldType::VarChar { .. } => WireType::VarChar,
        FieldType::Json => WireType::Json,
        FieldType::Array { .. } => WireType::Array,
        FieldType::FloatVector { .. } => WireType::FloatVector,
        FieldType::BinaryVector { .. } => WireType::BinaryVector,
        FieldType::Float16Vector { .. } => WireType::Float16Vector,
        FieldType::BFloat16Vector { .. } => WireType::BFloat16Vector,
        FieldType::SparseFloatVector => WireType::SparseFloatVector,
        FieldType::Text => WireType::Text,
        FieldType::Geometry => WireType::Geometry,
        FieldType::Timestamptz => WireType::Timestamptz,
        FieldType::Date => WireType::Date,
        FieldType::Time => WireType::Time,
        FieldType::Decimal => WireType::Decimal,
        FieldType::Uuid => WireType::Uuid,
        FieldType::Mol => WireType::Mol,
        FieldType::Int8Vector { .. } => WireType::Int8Vector,
        FieldType::VectorArray { .. } => WireType::ArrayOfVector,
        FieldType::StructArray { .. } => WireType::ArrayOfStruct,
    }
}

pub(crate) fn column(name: &str, kind: FieldType) -> Column {
    Column { name: name.to_string(), kind, nullable: false, dynamic: name == crate::schema::DYNAMIC_COLUMN }
}

pub(crate) fn array(element: ElementType) -> FieldType {
    FieldType::Array { element, element_nullable: false, max_capacity: 4 }
}

/// A field of a struct.
pub(crate) fn sub_field(name: &str, kind: FieldType) -> Field {
    Field {
        name: name.into(),
        kind,
        description: String::new(),
        primary_key: false,
        auto_id: false,
        partition_key: false,
        clustering_key: false,
        nullable: false,
        default: None,
        params: Default::default(),
    }
}

pub(crate) fn field(column: &Column, data: WireField) -> FieldData {
    FieldData {
        r#type: type_number(&column.kind) as i32,
        field_name: column.name.clone(),
        is_dynamic: column.dynamic,
        field: Some(data),
        ..Default::default()
    }
}

/// Messages with floats are compared as bytes: NaN is not equal to itself, its bits are.
pub(crate) fn bytes(fields: &[FieldData]) -> Vec<Vec<u8>> {
    fields.iter().map(Message::encode_to_vec).collect()
}

// ---- arbitrary columns and rows ----

fn any_f32() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => any::<u32>().prop_map(f32::from_bits),
        1 => prop::sample::select(vec![
            0.0, -0.0, f32::MIN_POSITIVE, 1e-45, -1e-45, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY,
            f32::from_bits(0x7fc0_0001), f32::from_bits(0xffc0_0000), f32::from_bits(0x7f80_0001), 0.1, 16_777_217.0, 7.038531e-26,
        ]),
    ]
}

fn finite_f32() -> impl Strategy<Value = f32> {
    any_f32().prop_map(|f| if f.is_finite() { f } else { f32::from_bits(f.to_bits() & 0x807f_ffff) })
}

fn any_f64() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => any::<u64>().prop_map(f64::from_bits),
        1 => prop::sample::select(vec![
            0.0, -0.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, f64::INFINITY, f64::NEG_INFINITY,
            f64::from_bits(0x7ff8_0000_0000_0001), f64::from_bits(0x7ff0_0000_0000_0001), 0.1 + 0.2,
        ]),
    ]
}

/// Any Unicode text, among it what escapes, quotes or ends strings elsewhere.
fn any_text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        2 => any::<char>(),
        1 => prop::sample::select("\0\u{1}\u{7f}\u{85}\u{9b}\"'\\\n\r\t\u{202e}\u{feff}\u{fffd}\u{10ffff} ".chars().collect::<Vec<_>>()),
    ];
    vec(character, 0..8).prop_map(String::from_iter)
}

/// JSON whose bytes any parser in between would change.
fn any_json() -> impl Strategy<Value = Vec<u8>> {
    let stubborn = [
        r#"{"z":1,"a":2,"z":3}"#,
        r#"{"big":123456789012345678901234567890,"exp":1E+400,"neg":-0,"frac":1.000000000000000000001}"#,
        "  {\n\t\"spaced\" :\r [ 1 , 2.50 , 1e2 ]  }  ",
        r#""\u0041\ud83d\ude00\/""#,
        "{}",
        "[]",
        "null",
        "0.10",
        "",
    ];
    prop_oneof![
        prop::sample::select(stubborn.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        any_text().prop_map(|text| serde_json::json!({ text: 1 }).to_string().into_bytes()),
    ]
}

fn any_sparse() -> impl Strategy<Value = Vec<(u32, f32)>> {
    let index =
        prop_oneof![3 => 0..u32::MAX, 1 => prop::sample::select(vec![0, 1, u32::MAX - 2, u32::MAX - 1])];
    btree_map(index, finite_f32(), 0..6).prop_map(|pairs| pairs.into_iter().collect())
}

fn any_dense() -> impl Strategy<Value = FieldType> {
    prop_oneof![
        (1u32..5).prop_map(|dim| FieldType::FloatVector { dim }),
        (1u32..4).prop_map(|bytes| FieldType::BinaryVector { dim: bytes * 8 }),
        (1u32..5).prop_map(|dim| FieldType::Float16Vector { dim }),
        (1u32..5).prop_map(|dim| FieldType::BFloat16Vector { dim }),
        (1u32..5).prop_map(|dim| FieldType::Int8Vector { dim }),
    ]
}

fn any_array() -> impl Strategy<Value = FieldType> {
    let elements = (prop::sample::select(ElementType::ALL.to_vec()), any::<bool>());
    elements.prop_map(|(element, element_nullable)| FieldType::Array {
        element,
        element_nullable,
        max_capacity: 4,
    })
}

fn any_struct() -> impl Strategy<Value = FieldType> {
    let vectors = any_dense()
        .prop_map(|element| FieldType::VectorArray { element: Box::new(element), max_capacity: 4 });
    vec(prop_oneof![any_array(), vectors], 1..4).prop_map(|kinds| {
        let fields = kinds.into_iter().enumerate().map(|(i, kind)| sub_field(&format!("sub {i}"), kind));
        FieldType::StructArray { fields: fields.collect() }
    })
}

fn any_kind() -> impl Strategy<Value = FieldType> {
    let plain = vec![
        FieldType::Bool,
        FieldType::Int8,
        FieldType::Int16,
        FieldType::Int32,
        FieldType::Int64,
        FieldType::Float,
        FieldType::Double,
        FieldType::VarChar { max_length: 64 },
        FieldType::Json,
        FieldType::Text,
        FieldType::Geometry,
        FieldType::Timestamptz,
        FieldType::Date,
        FieldType::Time,
        FieldType::Decimal,
        FieldType::Uuid,
        FieldType::Mol,
        FieldType::SparseFloatVector,
    ];
    prop_oneof![6 => prop::sample::select(plain), 2 => any_array(), 2 => any_dense(), 1 => any_struct()]
}

type Count = prop::collection::SizeRange;

fn any_elements(element: ElementType, count: impl Into<Count>) -> BoxedStrategy<Scalars> {
    let count = count.into();
    let ints = |values: Vec<i32>| Scalars::IntData(IntArray { data: values });
    match element {
        ElementType::Bool => {
            vec(any::<bool>(), count).prop_map(|data| Scalars::BoolData(BoolArray { data })).boxed()
        }
        ElementType::Int8 => vec(any::<i8>().prop_map(i32::from), count).prop_map(ints).boxed(),
        ElementType::Int16 => vec(any::<i16>().prop_map(i32::from), count).prop_map(ints).boxed(),
        ElementType::Int32 => vec(any::<i32>(), count).prop_map(ints).boxed(),
        ElementType::Int64 => {
            vec(any::<i64>(), count).prop_map(|data| Scalars::LongData(LongArray { data })).boxed()
        }
        ElementType::Float => {
            vec(any_f32(), count).prop_map(|data| Scalars::FloatData(FloatArray { data })).boxed()
        }
        ElementType::Double => {
            vec(any_f64(), count).prop_map(|data| Scalars::DoubleData(DoubleArray { data })).boxed()
        }
        ElementType::VarChar => {
            vec(any_text(), count).prop_map(|data| Scalars::StringData(WireStrings { data })).boxed()
        }
    }
}

fn any_vectors(kind: &FieldType, count: usize) -> BoxedStrategy<Vectors> {
    if let FieldType::FloatVector { dim } = kind {
        let floats = vec(any_f32(), count * *dim as usize);
        return floats.prop_map(|data| Vectors::FloatVector(FloatArray { data })).boxed();
    }
    let wrap = match kind {
        FieldType::BinaryVector { .. } => Vectors::BinaryVector,
        FieldType::Float16Vector { .. } => Vectors::Float16Vector,
        FieldType::BFloat16Vector { .. } => Vectors::Bfloat16Vector,
        FieldType::Int8Vector { .. } => Vectors::Int8Vector as fn(Vec<u8>) -> Vectors,
        other => panic!("{other} is no dense vector"),
    };
    vec(any::<u8>(), count * kind.vector_bytes().unwrap()).prop_map(wrap).boxed()
}

/// Arrays of the given lengths; where elements may be null, some are, and their values are left
/// out.
fn any_lists(element: ElementType, nullable: bool, lengths: &[usize]) -> BoxedStrategy<WireField> {
    let list = |length: &usize| {
        let validity = if nullable { vec(any::<bool>(), *length).boxed() } else { Just(vec![]).boxed() };
        let length = *length;
        validity.prop_flat_map(move |valid_data| {
            let present = if nullable { valid_data.iter().filter(|valid| **valid).count() } else { length };
            any_elements(element, present)
                .prop_map(move |data| ScalarField { data: Some(data), valid_data: valid_data.clone() })
        })
    };
    let element_type = type_number(&element_kind(element)) as i32;
    let lists: Vec<_> = lengths.iter().map(list).collect();
    lists.prop_map(move |data| scalars(Scalars::ArrayData(ArrayArray { data, element_type }))).boxed()
}

fn any_vector_lists(element: &FieldType, lengths: &[usize]) -> BoxedStrategy<WireField> {
    let dim = element.dim().unwrap();
    let element_type = type_number(element) as i32;
    let list = |length: &usize| {
        any_vectors(element, *length).prop_map(move |data| VectorField {
            dim: i64::from(dim),
            data: Some(data),
            valid_data: Vec::new(),
        })
    };
    let lists: Vec<_> = lengths.iter().map(list).collect();
    let wrap = move |data| Vectors::VectorArray(VectorArray { dim: i64::from(dim), data, element_type });
    lists.prop_map(move |data| vectors(dim, wrap(data))).boxed()
}

/// Arbitrary values for `rows` rows of which none is null.
pub(crate) fn any_values(kind: &FieldType, rows: usize) -> BoxedStrategy<WireField> {
    let elements = |element| any_elements(element, rows).prop_map(scalars).boxed();
    let text = |wrap: fn(Vec<String>) -> Scalars| {
        vec(any_text(), rows).prop_map(move |data| scalars(wrap(data))).boxed()
    };
    let bytes = |length: usize| {
        vec(vec(any::<u8>(), length), rows)
            .prop_map(|data| scalars(Scalars::BytesData(BytesArray { data })))
            .boxed()
    };
    let lengths = || vec(0usize..5, rows);
    match kind.clone() {
        FieldType::Bool => elements(ElementType::Bool),
        FieldType::Int8 => elements(ElementType::Int8),
        FieldType::Int16 => elements(ElementType::Int16),
        FieldType::Int32 => elements(ElementType::Int32),
        FieldType::Int64 => elements(ElementType::Int64),
        FieldType::Float => elements(ElementType::Float),
        FieldType::Double => elements(ElementType::Double),
        FieldType::VarChar { .. } | FieldType::Text | FieldType::Timestamptz => {
            elements(ElementType::VarChar)
        }
        FieldType::Geometry => text(|data| Scalars::GeometryWktData(GeometryWktArray { data })),
        FieldType::Mol => text(|data| Scalars::MolSmilesData(MolSmilesArray { data })),
        FieldType::Date => {
            vec(any::<i32>(), rows).prop_map(|data| scalars(Scalars::DateData(DateArray { data }))).boxed()
        }
        FieldType::Time => {
            vec(any::<i64>(), rows).prop_map(|data| scalars(Scalars::TimeData(TimeArray { data }))).boxed()
        }
        FieldType::Decimal => bytes(8),
        FieldType::Uuid => bytes(16),
        FieldType::Json => {
            vec(any_json(), rows).prop_map(|data| scalars(Scalars::JsonData(JsonArray { data }))).boxed()
        }
        FieldType::Array { element, element_nullable, .. } => {
            lengths().prop_flat_map(move |lengths| any_lists(element, element_nullable, &lengths)).boxed()
        }
        FieldType::SparseFloatVector => {
            vec(any_sparse(), rows).prop_map(|rows| sparse_vectors(&rows)).boxed()
        }
        FieldType::VectorArray { element, .. } => {
            lengths().prop_flat_map(move |lengths| any_vector_lists(&element, &lengths)).boxed()
        }
        FieldType::StructArray { fields } => lengths()
            .prop_flat_map(move |lengths| {
                let sub = |sub: &Field| {
                    let lists = match &sub.kind {
                        FieldType::Array { element, element_nullable, .. } => {
                            any_lists(*element, *element_nullable, &lengths)
                        }
                        FieldType::VectorArray { element, .. } => any_vector_lists(element, &lengths),
                        other => panic!("{other} is no field of a struct"),
                    };
                    let column = column(&sub.name, sub.kind.clone());
                    lists.prop_map(move |data| field(&column, data))
                };
                let subs: Vec<_> = fields.iter().map(sub).collect();
                subs.prop_map(|fields| WireField::StructArrays(StructArrayField { fields }))
            })
            .boxed(),
        dense => {
            let dim = dense.dim().unwrap();
            any_vectors(&dense, rows).prop_map(move |data| vectors(dim, data)).boxed()
        }
    }
}

fn element_kind(element: ElementType) -> FieldType {
    match element {
        ElementType::Bool => FieldType::Bool,
        ElementType::Int8 => FieldType::Int8,
        ElementType::Int16 => FieldType::Int16,
        ElementType::Int32 => FieldType::Int32,
        ElementType::Int64 => FieldType::Int64,
        ElementType::Float => FieldType::Float,
        ElementType::Double => FieldType::Double,
        ElementType::VarChar => FieldType::VarChar { max_length: 64 },
    }
}

/// A column as an insert carries it: both validities, and the values of rows that are not null.
pub(crate) fn with_validity(column: &Column, valid: Vec<bool>, mut data: WireField) -> FieldData {
    match &mut data {
        WireField::Scalars(scalars) => scalars.valid_data.clone_from(&valid),
        WireField::Vectors(vectors) => vectors.valid_data.clone_from(&valid),
        // A struct is null as a whole, and its sub-fields say so.
        WireField::StructArrays(structs) => {
            for sub in &mut structs.fields {
                match sub.field.as_mut().unwrap() {
                    WireField::Scalars(scalars) => scalars.valid_data.clone_from(&valid),
                    WireField::Vectors(vectors) => vectors.valid_data.clone_from(&valid),
                    WireField::StructArrays(_) => panic!("structs are not within structs"),
                }
                sub.valid_data.clone_from(&valid);
            }
            return field(column, data);
        }
    }
    FieldData { valid_data: valid, ..field(column, data) }
}

/// Columns, the key somewhere among them, sometimes `$meta` at the end; and rows for them, as an
/// insert would carry them.
pub(crate) fn any_table() -> impl Strategy<Value = (Vec<Column>, Vec<FieldData>)> {
    let key = prop_oneof![Just(FieldType::Int64), Just(FieldType::VarChar { max_length: 64 })];
    let kinds = (vec((any_kind(), any::<bool>()), 0..6), key, any::<prop::sample::Index>(), any::<bool>());
    let columns = kinds.prop_map(|(kinds, key, place, dynamic)| {
        let one = |(i, (kind, nullable))| Column { nullable, ..column(&format!("field {i}"), kind) };
        let mut columns: Vec<_> = kinds.into_iter().enumerate().map(one).collect();
        columns.insert(place.index(columns.len() + 1), column(KEY, key));
        columns.extend(dynamic.then(|| column(crate::schema::DYNAMIC_COLUMN, FieldType::Json)));
        columns
    });
    (columns, 0usize..9).prop_flat_map(|(columns, rows)| {
        let values = |column: &Column| {
            let column = column.clone();
            let validity =
                if column.nullable { vec(any::<bool>(), rows).boxed() } else { Just(vec![]).boxed() };
            validity.prop_flat_map(move |valid| {
                let present =
                    if column.nullable { valid.iter().filter(|valid| **valid).count() } else { rows };
                let column = column.clone();
                any_values(&column.kind, present)
                    .prop_map(move |data| with_validity(&column, valid.clone(), data))
            })
        };
        let fields: Vec<_> = columns.iter().map(values).collect();
        (Just(columns), fields)
    })
}

/// The ways in which servers say the same: what differs from an insert request and must not
/// matter.
pub(crate) fn as_servers_say_it(column: &Column, mut data: FieldData, id: i64, choices: u16) -> FieldData {
    let choice = |bit: u16| choices & (1 << bit) != 0;
    data.field_id = id;
    if column.dynamic && choice(0) {
        data.field_name = String::new();
        data.is_dynamic = true;
    }
    // Values of null rows are left out, or something stands there.
    let fill = |data: &mut FieldData, kind: &FieldType| {
        if !data.valid_data.is_empty() {
            let valid = data.valid_data.clone();
            fill_in(data.field.as_mut().unwrap(), kind, &valid, choice(6));
        }
    };
    if let Some(WireField::StructArrays(structs)) = &mut data.field {
        let valid = structs.fields[0].valid_data.clone();
        for (place, sub) in structs.fields.iter_mut().enumerate() {
            // Scalars aligned and vectors compacted, the other way round, or all alike.
            if choice(5) ^ (choice(9) && place % 2 == 1) {
                fill(sub, &FieldType::Bool);
            }
            if choice(1) {
                sub.field_name = format!("{}[{}]", column.name, sub.field_name);
            }
            let inside = say_it_otherwise(sub.field.as_mut().unwrap(), choices);
            place_validity(&mut sub.valid_data, inside, choices);
            if choice(10) && place > 0 {
                // Said once is enough.
                sub.valid_data.clear();
                inside_of(sub).clear();
            }
        }
        if choice(11) {
            data.valid_data = valid;
        }
        if choice(2) {
            structs.fields.reverse();
        }
        return data;
    }
    if choice(5) {
        fill(&mut data, &column.kind);
    }
    let inside = say_it_otherwise(data.field.as_mut().unwrap(), choices);
    place_validity(&mut data.valid_data, inside, choices);
    data
}

/// Validity beside the values, within them, or both; and none at all if nothing is null.
fn place_validity(beside: &mut Vec<bool>, inside: &mut Vec<bool>, choices: u16) {
    match (choices & (1 << 7) != 0, choices & (1 << 8) != 0) {
        (true, false) => beside.clear(),
        (false, true) => inside.clear(),
        (true, true) if beside.iter().all(|valid| *valid) => {
            beside.clear();
            inside.clear();
        }
        _ => {}
    }
}

fn inside_of(data: &mut FieldData) -> &mut Vec<bool> {
    match data.field.as_mut().unwrap() {
        WireField::Scalars(field) => &mut field.valid_data,
        WireField::Vectors(field) => &mut field.valid_data,
        WireField::StructArrays(_) => panic!("structs are not within structs"),
    }
}

/// The validity of a column as an insert carries it.
fn validity_of(data: &FieldData) -> &[bool] {
    match &data.field {
        Some(WireField::StructArrays(structs)) => &structs.fields[0].valid_data,
        _ => &data.valid_data,
    }
}

/// Other spellings of the same values; gives the validity inside of them.
fn say_it_otherwise(values: &mut WireField, choices: u16) -> &mut Vec<bool> {
    let choice = |bit: u16| choices & (1 << bit) != 0;
    match values {
        WireField::Scalars(field) => {
            match &mut field.data {
                Some(Scalars::JsonData(json)) if choice(1) => {
                    field.data =
                        Some(Scalars::BytesData(BytesArray { data: std::mem::take(&mut json.data) }));
                }
                Some(Scalars::GeometryWktData(wkt)) if choice(1) => {
                    field.data =
                        Some(Scalars::StringData(WireStrings { data: std::mem::take(&mut wkt.data) }));
                }
                Some(Scalars::ArrayData(lists)) => {
                    if choice(1) {
                        lists.element_type = 0;
                    }
                    for list in &mut lists.data {
                        // A tag and a length of zero.
                        let empty = list.data.as_ref().is_some_and(|data| data.encoded_len() == 2);
                        match (empty, choice(2), choice(3)) {
                            (true, true, true) => list.data = None,
                            (true, true, false) => {
                                list.data = Some(Scalars::DoubleData(DoubleArray::default()));
                            }
                            _ => {}
                        }
                        if choice(4) && list.valid_data.iter().all(|valid| *valid) {
                            list.valid_data.clear();
                        }
                    }
                }
                _ => {}
            }
            &mut field.valid_data
        }
        WireField::Vectors(field) => {
            match &mut field.data {
                Some(Vectors::SparseFloatVector(sparse)) if choice(1) => (field.dim, sparse.dim) = (7, 9),
                Some(Vectors::VectorArray(lists)) => {
                    for list in &mut lists.data {
                        let nothing = |data: &Vectors| data.encoded_len() == 2 || data.encoded_len() == 0;
                        if choice(2) && list.data.as_ref().is_some_and(nothing) {
                            list.data = None;
                        }
                        list.dim *= i64::from(choice(3));
                    }
                }
                _ => {}
            }
            if choice(2) {
                field.dim = 0;
            }
            &mut field.valid_data
        }
        WireField::StructArrays(_) => panic!("structs are not within structs"),
    }
}

/// Puts something where a null row's value would be.
fn fill_in(values: &mut WireField, kind: &FieldType, valid: &[bool], zeros: bool) {
    fn spread<T: Clone>(data: &mut Vec<T>, valid: &[bool], filler: &[T]) {
        let width = filler.len();
        let mut present = std::mem::take(data).into_iter();
        for valid in valid {
            match valid {
                true => data.extend(present.by_ref().take(width)),
                false => data.extend_from_slice(filler),
            }
        }
    }
    let width = match kind {
        FieldType::FloatVector { dim } => *dim as usize,
        other => other.vector_bytes().unwrap_or(1),
    };
    let bytes = || match kind {
        FieldType::Decimal if zeros => vec![vec![0; 8]],
        FieldType::Uuid if zeros => vec![vec![0; 16]],
        _ => vec![vec![]],
    };
    match values {
        WireField::Scalars(field) => match field.data.as_mut().unwrap() {
            Scalars::BoolData(d) => spread(&mut d.data, valid, &[zeros]),
            Scalars::IntData(d) => spread(&mut d.data, valid, &[7]),
            Scalars::LongData(d) => spread(&mut d.data, valid, &[7]),
            Scalars::FloatData(d) => spread(&mut d.data, valid, &[f32::NAN]),
            Scalars::DoubleData(d) => spread(&mut d.data, valid, &[f64::NAN]),
            Scalars::StringData(d) => spread(&mut d.data, valid, &["filler".into()]),
            Scalars::GeometryWktData(d) => spread(&mut d.data, valid, &[String::new()]),
            Scalars::MolSmilesData(d) => spread(&mut d.data, valid, &[String::new()]),
            Scalars::DateData(d) => spread(&mut d.data, valid, &[7]),
            Scalars::TimeData(d) => spread(&mut d.data, valid, &[7]),
            Scalars::BytesData(d) => spread(&mut d.data, valid, &bytes()),
            Scalars::JsonData(d) => spread(&mut d.data, valid, &[vec![]]),
            Scalars::ArrayData(d) => spread(&mut d.data, valid, &[ScalarField::default()]),
            other => panic!("{other:?} is not a column"),
        },
        WireField::Vectors(field) => match field.data.as_mut().unwrap() {
            Vectors::FloatVector(d) => spread(&mut d.data, valid, &vec![0.0; width]),
            Vectors::BinaryVector(d)
            | Vectors::Float16Vector(d)
            | Vectors::Bfloat16Vector(d)
            | Vectors::Int8Vector(d) => spread(d, valid, &vec![0; width]),
            Vectors::SparseFloatVector(d) => spread(&mut d.contents, valid, &[vec![]]),
            Vectors::VectorArray(d) => spread(&mut d.data, valid, &[VectorField::default()]),
        },
        WireField::StructArrays(_) => panic!("sub-fields are filled in one by one"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_survives_to_the_bit(
        (columns, sent) in any_table(),
        choices in any::<[u16; 8]>(),
        extras in vec((any_kind(), 0usize..4), 0..3),
        order in any::<u64>(),
    ) {
        let rows = sent.len();
        let mut reply: Vec<_> = columns.iter().zip(&sent).zip(choices.iter().cycle()).enumerate()
            .map(|(id, ((column, data), choices))| as_servers_say_it(column, data.clone(), id as i64, *choices))
            .collect();
        // What was not asked for, even with another number of rows, is not looked at.
        for (i, (kind, rows)) in extras.into_iter().enumerate() {
            let lists = Scalars::LongData(LongArray { data: vec![0; rows] });
            reply.push(field(&column(&format!("extra {i}"), kind), scalars(lists)));
        }
        let mut places: Vec<_> = (0..reply.len()).collect();
        places.sort_by_key(|place| (*place as u64 + 1).wrapping_mul(order | 1));
        let shuffled = places.into_iter().map(|place| reply[place].clone()).collect();

        let batch = decode(&columns, KEY, shuffled).unwrap();
        prop_assert_eq!(batch.schema(), arrow_schema(&columns));
        for (array, data) in batch.columns().iter().zip(&sent) {
            prop_assert_eq!(array.null_count(), validity_of(data).iter().filter(|valid| !**valid).count());
        }
        let again = encode(&columns, &batch).unwrap();
        prop_assert_eq!(again.len(), rows);
        prop_assert_eq!(bytes(&again), bytes(&sent));

        // Slices are what large batches are inserted in.
        let cut = batch.num_rows() / 2;
        for part in [batch.slice(0, cut), batch.slice(cut, batch.num_rows() - cut)] {
            let again = decode(&columns, KEY, encode(&columns, &part).unwrap()).unwrap();
            prop_assert_eq!(again, part);
        }
    }

    #[test]
    fn sparse_text_reads_back_to_the_same_bits_by_every_reader(pairs in any_sparse()) {
        let mut wire = Vec::new();
        for (index, value) in &pairs {
            wire.extend_from_slice(&index.to_le_bytes());
            wire.extend_from_slice(&value.to_le_bytes());
        }
        let mut text = String::new();
        sparse::to_json(&wire, &mut text).unwrap();
        prop_assert_eq!(sparse::from_json(&text).unwrap(), wire);

        // It is JSON, with nothing but the pairs in it; and a reader that knows only doubles, as
        // most JSON readers do, narrows them to the same bits.
        let parsed: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(parsed.len(), pairs.len());
        for (index, value) in &pairs {
            let double = parsed[&index.to_string()].as_f64().unwrap();
            prop_assert_eq!((double as f32).to_bits(), value.to_bits(), "{} in {}", value, text);
        }
    }

    #[test]
    fn no_text_makes_the_sparse_reader_panic(text in any_text()) {
        let _ = sparse::from_json(&text);
        let _ = sparse::from_json(&format!("{{{text}}}"));
        let _ = sparse::from_json(&format!("{{\"{text}\":1}}"));
    }
}

// ---- the table, value by value ----

pub(crate) fn longs(data: Vec<i64>) -> WireField {
    scalars(Scalars::LongData(LongArray { data }))
}

pub(crate) fn ints(data: Vec<i32>) -> WireField {
    scalars(Scalars::IntData(IntArray { data }))
}

pub(crate) fn texts(data: &[&str]) -> WireField {
    scalars(Scalars::StringData(WireStrings { data: data.iter().map(ToString::to_string).collect() }))
}

pub(crate) fn jsons(data: &[&[u8]]) -> WireField {
    scalars(Scalars::JsonData(JsonArray { data: data.iter().map(|json| json.to_vec()).collect() }))
}

pub(crate) fn arrays(rows: Vec<Option<Scalars>>) -> WireField {
    let data = rows.into_iter().map(|data| ScalarField { data, valid_data: Vec::new() }).collect();
    scalars(Scalars::ArrayData(ArrayArray { data, element_type: 0 }))
}

/// Both directions could be wrong alike, so the middle is looked at once for every type.
#[test]
fn every_type_has_its_place_in_arrow() {
    let floats = |data: &[f32]| Vectors::FloatVector(FloatArray { data: data.to_vec() });
    let some_ints = |data: &[i32]| Some(Scalars::IntData(IntArray { data: data.to_vec() }));
    #[rustfmt::skip]
    let table: Vec<(FieldType, WireField, &str, &str)> = vec![
        (FieldType::Bool, scalars(Scalars::BoolData(BoolArray { data: vec![true, false] })), "Boolean", "true|false"),
        (FieldType::Int8, ints(vec![-128, 127]), "Int8", "-128|127"),
        (FieldType::Int16, ints(vec![-32768, 32767]), "Int16", "-32768|32767"),
        (FieldType::Int32, ints(vec![i32::MIN, i32::MAX]), "Int32", "-2147483648|2147483647"),
        (FieldType::Int64, longs(vec![i64::MIN, i64::MAX]), "Int64", "-9223372036854775808|9223372036854775807"),
        (FieldType::Float, scalars(Scalars::FloatData(FloatArray { data: vec![-0.0, 0.1] })), "Float32", "-0.0|0.1"),
        (FieldType::Double, scalars(Scalars::DoubleData(DoubleArray { data: vec![-0.0, 0.1] })), "Float64", "-0.0|0.1"),
        (FieldType::VarChar { max_length: 9 }, texts(&["", "a\0\"ü"]), "Utf8", "|a\0\"ü"),
        (FieldType::Json, jsons(&[b"{\"b\": 1e2,\"a\":0.10}", b"null"]), "Utf8", "{\"b\": 1e2,\"a\":0.10}|null"),
        (array(ElementType::Int8), arrays(vec![some_ints(&[1, -1]), None]), "List(non-null Int8, field: 'element')", "[1, -1]|[]"),
        (FieldType::FloatVector { dim: 2 }, vectors(2, floats(&[1.0, -0.0, 0.5, 2.0])), "List(non-null Float32, field: 'element')", "[1.0, -0.0]|[0.5, 2.0]"),
        (FieldType::BinaryVector { dim: 16 }, vectors(16, Vectors::BinaryVector(vec![1, 2, 3, 255])), "List(non-null UInt8, field: 'element')", "[1, 2]|[3, 255]"),
        (FieldType::Float16Vector { dim: 1 }, vectors(1, Vectors::Float16Vector(vec![0, 60, 0, 188])), "List(non-null UInt8, field: 'element')", "[0, 60]|[0, 188]"),
        (FieldType::BFloat16Vector { dim: 1 }, vectors(1, Vectors::Bfloat16Vector(vec![128, 63, 0, 0])), "List(non-null UInt8, field: 'element')", "[128, 63]|[0, 0]"),
        (FieldType::SparseFloatVector, sparse_vectors(&[vec![], vec![(0, -0.0), (4_294_967_294, 1e-45)]]), "Utf8", "{}|{\"0\":-0.0,\"4294967294\":1e-45}"),
    ];
    for (kind, sent, arrow, values) in table {
        let columns = [column("x", kind.clone())];
        let batch = decode(&columns, KEY, vec![field(&columns[0], sent)]).unwrap();
        assert_eq!(batch.schema().field(0).data_type().to_string(), arrow, "{kind}");
        assert!(!batch.schema().field(0).is_nullable());
        assert_eq!(two_values(batch.column(0)), values, "{kind}");
    }
}

/// The two values of a column as text, by Rust's own formatting.
fn two_values(array: &arrow_array::ArrayRef) -> String {
    use arrow_array::types::*;
    fn one(array: &arrow_array::ArrayRef, row: usize) -> String {
        match array.data_type() {
            DataType::Boolean => format!("{}", array.as_boolean().value(row)),
            DataType::Int8 => format!("{}", array.as_primitive::<Int8Type>().value(row)),
            DataType::Int16 => format!("{}", array.as_primitive::<Int16Type>().value(row)),
            DataType::Int32 => format!("{}", array.as_primitive::<Int32Type>().value(row)),
            DataType::Int64 => format!("{}", array.as_primitive::<Int64Type>().value(row)),
            DataType::UInt8 => format!("{}", array.as_primitive::<UInt8Type>().value(row)),
            DataType::Float32 => format!("{:?}", array.as_primitive::<Float32Type>().value(row)),
            DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => array.as_string::<i32>().value(row).to_string(),
            DataType::List(_) => {
                let list = array.as_list::<i32>().value(row);
                let items: Vec<_> = (0..list.len()).map(|item| one(&list, item)).collect();
                format!("[{}]", items.join(", "))
            }
            other => panic!("{other} has no place in a part"),
        }
    }
    format!("{}|{}", one(array, 0), one(array, 1))
}

#[test]
fn no_rows_and_no_data_are_empty_columns() {
    let kinds =
        [FieldType::Int64, FieldType::Json, FieldType::FloatVector { dim: 4 }, FieldType::SparseFloatVector];
    let columns: Vec<_> = kinds.iter().map(|kind| column(kind.name(), kind.clone())).collect();
    // A server's last page has no columns at all, or columns without anything in them.
    let bare = |c: &Column| FieldData { field: None, ..field(c, longs(vec![])) };
    let no_data = |c: &Column| match c.kind.is_vector() {
        true => field(c, WireField::Vectors(VectorField::default())),
        false => field(c, WireField::Scalars(ScalarField::default())),
    };
    for reply in [Vec::new(), columns.iter().map(bare).collect(), columns.iter().map(no_data).collect()] {
        let batch = decode(&columns, "Int64", reply).unwrap();
        assert_eq!((batch.num_rows(), batch.schema()), (0, arrow_schema(&columns)));
    }
    // With rows, a column without data is not one of empty values.
    for missing in [bare, no_data] {
        let reply = columns.iter().map(|c| match &c.kind {
            FieldType::Int64 => field(c, longs(vec![1])),
            FieldType::Json => missing(c),
            FieldType::FloatVector { .. } => {
                field(c, vectors(4, Vectors::FloatVector(FloatArray { data: vec![0.0; 4] })))
            }
            _ => field(c, sparse_vectors(&[vec![]])),
        });
        let error = decode(&columns, "Int64", reply.collect()).unwrap_err();
        assert_eq!(error.to_string(), "field \"JSON\" (JSON): 0 values for 1 rows");
    }
}

// ---- refusals ----

/// The refusal of one bad column beside a good key column. The key stands behind a column that
/// could be mistaken for it, and the bad column behind both.
fn refusal(kind: FieldType, sent: WireField) -> String {
    refusal_of(kind.clone(), |c| field(c, sent.clone()))
}

fn refusal_of(kind: FieldType, sent: impl Fn(&Column) -> FieldData) -> String {
    let columns = [
        column("decoy", FieldType::Int64),
        column(KEY, FieldType::VarChar { max_length: 9 }),
        column("bad", kind),
        column("after", FieldType::Bool),
    ];
    let reply = vec![
        field(&columns[0], longs(vec![10, 20, 30])),
        field(&columns[1], texts(&["k1", "k2", "k3"])),
        sent(&columns[2]),
        field(&columns[3], scalars(Scalars::BoolData(BoolArray { data: vec![true; 3] }))),
    ];
    let error = decode(&columns, KEY, reply).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    error.to_string()
}

#[test]
fn integers_that_do_not_fit_are_named() {
    for (kind, name, limits) in
        [(FieldType::Int8, "Int8", [128, -129]), (FieldType::Int16, "Int16", [32_768, -32_769])]
    {
        for value in limits {
            let expected = format!("field \"bad\" ({name}): {value} does not fit, row with key \"k2\"");
            assert_eq!(refusal(kind.clone(), ints(vec![0, value, 0])), expected);
        }
    }
    let lists = arrays(vec![
        Some(Scalars::IntData(IntArray { data: vec![1, 2] })),
        None,
        Some(Scalars::IntData(IntArray { data: vec![127, 128] })),
    ]);
    assert_eq!(
        refusal(array(ElementType::Int8), lists),
        "field \"bad\" (Array<Int8>(4)): element 128 does not fit, row with key \"k3\""
    );
    let lists = arrays(vec![Some(Scalars::IntData(IntArray { data: vec![40_000] })), None, None]);
    assert_eq!(
        refusal(array(ElementType::Int16), lists),
        "field \"bad\" (Array<Int16>(4)): element 40000 does not fit, row with key \"k1\""
    );
}

#[test]
fn integer_keys_name_rows_too() {
    let columns = [
        column("decoy", FieldType::VarChar { max_length: 9 }),
        column(KEY, FieldType::Int64),
        column("bad", FieldType::Int8),
    ];
    let reply = vec![
        field(&columns[0], texts(&["x", "y"])),
        field(&columns[1], longs(vec![-7, i64::MAX])),
        field(&columns[2], ints(vec![0, 1000])),
    ];
    let error = decode(&columns, KEY, reply).unwrap_err();
    assert_eq!(
        error.to_string(),
        "field \"bad\" (Int8): 1000 does not fit, row with key 9223372036854775807"
    );
}

#[test]
fn every_column_has_a_value_for_every_row() {
    for count in [0, 2, 4] {
        assert_eq!(
            refusal(FieldType::Int64, longs(vec![0; count])),
            format!("field \"bad\" (Int64): {count} values for 3 rows")
        );
        assert_eq!(
            refusal(FieldType::SparseFloatVector, sparse_vectors(&vec![vec![]; count])),
            format!("field \"bad\" (SparseFloatVector): {count} values for 3 rows")
        );
        let kind = array(ElementType::Bool);
        assert_eq!(
            refusal(kind, arrays(vec![None; count])),
            format!("field \"bad\" (Array<Bool>(4)): {count} values for 3 rows")
        );
    }
}

#[test]
fn vectors_have_their_length() {
    for values in [0, 3, 11, 13, 16] {
        let sent = vectors(4, Vectors::FloatVector(FloatArray { data: vec![0.0; values] }));
        assert_eq!(
            refusal(FieldType::FloatVector { dim: 4 }, sent),
            format!("field \"bad\" (FloatVector(4)): {values} values are not 3 vectors of 4")
        );
    }
    for (kind, wrap) in [
        (FieldType::BinaryVector { dim: 16 }, Vectors::BinaryVector as fn(Vec<u8>) -> Vectors),
        (FieldType::Float16Vector { dim: 1 }, Vectors::Float16Vector),
        (FieldType::BFloat16Vector { dim: 1 }, Vectors::Bfloat16Vector),
    ] {
        for count in [5, 7, 8] {
            assert_eq!(
                refusal(kind.clone(), vectors(kind.dim().unwrap(), wrap(vec![0; count]))),
                format!("field \"bad\" ({kind}): {count} values are not 3 vectors of 2")
            );
        }
    }
    // Alone, without a key to count by.
    let columns = [column("v", FieldType::FloatVector { dim: 4 })];
    let sent = vectors(4, Vectors::FloatVector(FloatArray { data: vec![0.0; 7] }));
    let error = decode(&columns, KEY, vec![field(&columns[0], sent)]).unwrap_err();
    assert_eq!(error.to_string(), "field \"v\" (FloatVector(4)): 7 values are not whole vectors of 4");
}

#[test]
fn sparse_vectors_are_checked_pair_by_pair() {
    let contents = |second: Vec<u8>| {
        let data =
            Vectors::SparseFloatVector(SparseFloatArray { contents: vec![vec![], second, vec![]], dim: 0 });
        vectors(0, data)
    };
    let pairs = |pairs: &[(u32, f32)]| {
        pairs.iter().flat_map(|(i, v)| [i.to_le_bytes(), v.to_le_bytes()].concat()).collect::<Vec<_>>()
    };
    for (bytes, what) in [
        (vec![0; 7], "7 bytes are not whole pairs of index and value"),
        (vec![0; 12], "12 bytes are not whole pairs of index and value"),
        (pairs(&[(5, 1.0), (4, 1.0)]), "index 4 does not ascend"),
        (pairs(&[(5, 1.0), (5, 1.0)]), "index 5 does not ascend"),
        (pairs(&[(u32::MAX, 1.0)]), "index 4294967295 is too large"),
        (pairs(&[(1, 0.0), (2, f32::NAN)]), "the value NaN at index 2 is not finite"),
        (pairs(&[(1, f32::INFINITY)]), "the value inf at index 1 is not finite"),
        (pairs(&[(1, f32::NEG_INFINITY)]), "the value -inf at index 1 is not finite"),
    ] {
        let expected = format!("field \"bad\" (SparseFloatVector): {what}, row with key \"k2\"");
        assert_eq!(refusal(FieldType::SparseFloatVector, contents(bytes)), expected);
    }
}

/// Every other float was tried once and is right.
#[test]
fn the_one_float_that_rounds_twice_is_written_as_a_double() {
    for (value, text) in
        [(7.038531e-26f32, "7.038530691851209e-26"), (-7.038531e-26, "-7.038530691851209e-26")]
    {
        let wire = [7u32.to_le_bytes(), value.to_le_bytes()].concat();
        let mut json = String::new();
        sparse::to_json(&wire, &mut json).unwrap();
        assert_eq!(json, format!("{{\"7\":{text}}}"));
        assert_eq!(sparse::from_json(&json).unwrap(), wire);
        assert_eq!(text.parse::<f64>().unwrap() as f32, value);
        assert_ne!("7.038531e-26".parse::<f64>().unwrap() as f32, value.abs(), "else nothing is proved");
    }
}

#[test]
fn json_is_text() {
    let error = refusal(FieldType::Json, jsons(&[b"{}", b"{}", b"\"\xff\""]));
    assert!(error.starts_with("field \"bad\" (JSON): invalid UTF-8, row with key \"k3\": "), "{error}");
    // What JSON text says is not judged: the server let it in, and its bytes are what is kept.
    let columns = [column("j", FieldType::Json)];
    let sent = vec![field(&columns[0], jsons(&[b"", b"not json"]))];
    assert_eq!(encode(&columns, &decode(&columns, KEY, sent.clone()).unwrap()).unwrap(), sent);
}

#[test]
fn nulls_are_refused_wherever_servers_say_them() {
    let null = "null in a field that cannot be null, row with key \"k2\"";
    // Until 2.5 beside the values, later within them; during a rolling upgrade both.
    let places: [(&[bool], &[bool]); 3] =
        [(&[true, false, true], &[]), (&[], &[true, false, true]), (&[true; 3], &[true, false, true])];
    for (outer, inner) in places {
        let (valid_data, nested) = (outer.to_vec(), inner.to_vec());
        let scalar = refusal_of(FieldType::Int64, |c| FieldData {
            valid_data: valid_data.clone(),
            field: Some(WireField::Scalars(ScalarField {
                data: Some(Scalars::LongData(LongArray { data: vec![1, 0, 3] })),
                valid_data: nested.clone(),
            })),
            ..field(c, longs(vec![]))
        });
        assert_eq!(scalar, format!("field \"bad\" (Int64): {null}"));
        let vector = refusal_of(FieldType::FloatVector { dim: 1 }, |c| FieldData {
            valid_data: valid_data.clone(),
            field: Some(WireField::Vectors(VectorField {
                dim: 1,
                // Servers leave out the values of null vectors.
                data: Some(Vectors::FloatVector(FloatArray { data: vec![1.0, 3.0] })),
                valid_data: nested.clone(),
            })),
            ..field(c, longs(vec![]))
        });
        assert_eq!(vector, format!("field \"bad\" (FloatVector(1)): {null}"));
    }
    let list = ScalarField {
        data: Some(Scalars::LongData(LongArray { data: vec![1, 0] })),
        valid_data: vec![true, false],
    };
    let lists = vec![ScalarField::default(), ScalarField::default(), list];
    assert_eq!(
        refusal(
            array(ElementType::Int64),
            scalars(Scalars::ArrayData(ArrayArray { data: lists, element_type: 0 }))
        ),
        "field \"bad\" (Array<Int64>(4)): null among the elements, row with key \"k3\""
    );
}

#[test]
fn another_type_than_declared_is_refused() {
    for (number, kind) in [
        (WireType::Int64 as i32, FieldType::Int32),
        (WireType::Double as i32, FieldType::Float),
        (WireType::String as i32, FieldType::VarChar { max_length: 9 }),
        (WireType::Float16Vector as i32, FieldType::BFloat16Vector { dim: 1 }),
        (WireType::None as i32, FieldType::Bool),
        (9_999, FieldType::Json),
        (-1, FieldType::SparseFloatVector),
    ] {
        let error = refusal_of(kind.clone(), |c| FieldData { r#type: number, ..field(c, longs(vec![0; 3])) });
        assert_eq!(error, format!("field \"bad\" ({kind}): the server sent type number {number}"));
    }
    // The number is right and the values are not.
    let floats = || Scalars::FloatData(FloatArray { data: vec![0.0; 3] });
    let bytes = || Vectors::Float16Vector(vec![0; 6]);
    let longs_array = array(ElementType::Int64);
    let mixed = arrays(vec![Some(Scalars::LongData(LongArray { data: vec![1] })), Some(floats()), None]);
    for (kind, sent) in [
        (FieldType::Int64, scalars(floats())),
        (FieldType::Bool, ints(vec![0; 3])),
        (FieldType::Double, scalars(floats())),
        (FieldType::VarChar { max_length: 9 }, jsons(&[b"", b"", b""])),
        (FieldType::Json, texts(&["", "", ""])),
        (FieldType::Int64, vectors(1, bytes())),
        (FieldType::FloatVector { dim: 1 }, scalars(floats())),
        (FieldType::FloatVector { dim: 1 }, vectors(1, bytes())),
        (FieldType::BFloat16Vector { dim: 1 }, vectors(1, bytes())),
        (FieldType::SparseFloatVector, vectors(1, bytes())),
        (longs_array.clone(), longs(vec![0; 3])),
        (longs_array.clone(), arrays(vec![Some(floats()), None, None])),
        (longs_array, mixed),
    ] {
        let error = refusal(kind.clone(), sent);
        assert_eq!(error, format!("field \"bad\" ({kind}): the server sent values of another type"));
    }
    let structs = WireField::StructArrays(StructArrayField::default());
    assert_eq!(
        refusal(FieldType::Int64, structs),
        "field \"bad\" (Int64): the server sent values of another type"
    );
}

#[test]
fn a_missing_column_is_named() {
    let columns =
        [column(KEY, FieldType::Int64), column("gone", FieldType::Bool), column("$meta", FieldType::Json)];
    let sent = vec![field(&columns[0], longs(vec![1])), field(&columns[2], jsons(&[b"{}"]))];
    let error = decode(&columns, KEY, sent.clone()).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Integrity, "field \"gone\" (Bool): the server's reply does not have it".into())
    );
    let error = decode(&columns[..1], KEY, sent[1..].to_vec()).unwrap_err();
    assert_eq!(error.to_string(), "field \"the key\" (Int64): the server's reply does not have it");
    let error = decode(
        &columns[1..],
        KEY,
        vec![field(&columns[1], scalars(Scalars::BoolData(BoolArray { data: vec![true] })))],
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "field \"$meta\" (JSON): the server's reply does not have it");
}

#[test]
fn a_part_that_does_not_fit_its_fields_is_not_sent() {
    use arrow_array::{ArrayRef, Float32Array, ListArray};
    let refused = |kind: FieldType, array: ArrayRef| {
        let columns = [column("bad", kind)];
        let fields = vec![ArrowField::new("bad", array.data_type().clone(), true)];
        let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), vec![array]).unwrap();
        let error = encode(&columns, &batch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
        error.to_string()
    };
    let lists = |lengths: &[usize]| {
        let values = Float32Array::from(vec![0.5; lengths.iter().sum()]);
        let offsets = arrow_buffer::OffsetBuffer::from_lengths(lengths.iter().copied());
        Arc::new(ListArray::new(list_field(DataType::Float32, false), offsets, Arc::new(values), None))
    };
    assert_eq!(
        refused(FieldType::FloatVector { dim: 3 }, lists(&[3, 2, 4])),
        "field \"bad\" (FloatVector(3)): a vector of 2 values instead of 3 in row 1 of a batch"
    );
    assert_eq!(
        refused(FieldType::Int64, Arc::new(arrow_array::Int64Array::from(vec![Some(1), None]))),
        "field \"bad\" (Int64): null in a field that cannot be null"
    );
    for text in [
        "",
        "{",
        "}",
        "[]",
        "null",
        "{1:2}",
        "{\"1\":2,}",
        "{\"1\":\"2\"}",
        "{\"1\":2}x",
        "{\"-1\":2}",
        "{\"1.0\":2}",
        "{\"4294967295\":1}",
        "{\"99999999999\":1}",
        "{\"2\":1,\"1\":1}",
        "{\"1\":1,\"1\":2}",
        "{\"1\":NaN}",
        "{\"1\":inf}",
        "{\"1\":1e39}",
        "{\"1\":{}}",
        "{\"indices\":[1],\"values\":[2]}",
    ] {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["{}", text]));
        let error = refused(FieldType::SparseFloatVector, text);
        assert!(error.starts_with("field \"bad\" (SparseFloatVector): "), "{error}");
    }
}

#[test]
fn the_size_of_an_insert_is_known_beforehand() {
    let columns = [
        column(KEY, FieldType::Int64),
        column("v", FieldType::FloatVector { dim: 512 }),
        column("t", FieldType::VarChar { max_length: 9 }),
    ];
    let rows = 300;
    let sent = vec![
        field(&columns[0], longs((0..rows).collect())),
        field(
            &columns[1],
            vectors(512, Vectors::FloatVector(FloatArray { data: vec![0.5; 512 * rows as usize] })),
        ),
        field(&columns[2], texts(&vec!["some text"; rows as usize])),
    ];
    let real: usize = sent.iter().map(Message::encoded_len).sum();
    let batch = decode(&columns, KEY, sent).unwrap();
    let guess = wire_bytes(&batch);
    assert!(guess.abs_diff(real) < real / 100, "{guess} for {real}");
    // A slice shares its buffers with the whole and must not be taken for it.
    let slice = wire_bytes(&batch.slice(100, 30));
    assert!(slice.abs_diff(guess / 10) < guess / 100, "{slice} of {guess}");
}

// ---- keys ----

#[test]
fn keys_out_of_order_are_found() {
    let ints = |values: &[i64]| decode_keys_of(FieldType::Int64, longs(values.to_vec()));
    let text = |values: &[&str]| decode_keys_of(FieldType::VarChar { max_length: 9 }, texts(values));
    let broken = |batch: &RecordBatch, after: Option<Key>| {
        Keys::of(batch, KEY).unwrap().first_out_of_order(after.as_ref())
    };
    assert_eq!(broken(&ints(&[]), Some(Key::Int(5))), None);
    assert_eq!(broken(&ints(&[6, 7, 8]), Some(Key::Int(5))), None);
    assert_eq!(broken(&ints(&[5, 7]), Some(Key::Int(5))), Some(0), "the key of the page before");
    assert_eq!(broken(&ints(&[1, 2, 2]), None), Some(2));
    assert_eq!(broken(&ints(&[i64::MIN, i64::MAX, 0]), None), Some(2));
    assert_eq!(
        broken(&text(&["", "\0", "a", "b\u{ffff}", "b\u{10000}"]), None),
        None,
        "by bytes, not by UTF-16"
    );
    assert_eq!(broken(&text(&["a", "B"]), None), Some(1));
    assert_eq!(broken(&text(&["b"]), Some(Key::Text("b".into()))), Some(0));
}

fn decode_keys_of(kind: FieldType, sent: WireField) -> RecordBatch {
    let columns = [column(KEY, kind)];
    decode(&columns, KEY, vec![field(&columns[0], sent)]).unwrap()
}

#[test]
fn the_digest_of_keys_follows_the_format() {
    let digest = |batches: &[RecordBatch]| {
        let mut hasher = Hasher::default();
        batches.iter().for_each(|batch| Keys::of(batch, KEY).unwrap().hash_into(&mut hasher));
        hasher.finish()
    };
    let by_hand = crate::digest::Sha256::of;
    let ints = |values: &[i64]| decode_keys_of(FieldType::Int64, longs(values.to_vec()));
    assert_eq!(
        digest(&[ints(&[1, -2])]),
        by_hand(&[1, 0, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255, 255, 255, 255, 255])
    );
    assert_eq!(
        digest(&[ints(&[1]), ints(&[]), ints(&[-2])]),
        digest(&[ints(&[1, -2])]),
        "pages do not matter"
    );
    let text = |values: &[&str]| decode_keys_of(FieldType::VarChar { max_length: 9 }, texts(values));
    assert_eq!(digest(&[text(&["", "ü"])]), by_hand(b"\0\0\0\0\x02\0\0\0\xc3\xbc"));
    assert_ne!(digest(&[text(&["ab", "c"])]), digest(&[text(&["a", "bc"])]));
}

#[test]
fn counts_are_read_and_nonsense_is_not() {
    let count =
        |field: WireField| decode_counts(vec![FieldData { field: Some(field), ..Default::default() }]);
    assert_eq!(count(longs(vec![7])).unwrap(), 7);
    for wrong in [longs(vec![]), longs(vec![-1]), ints(vec![7])] {
        assert_eq!(count(wrong).unwrap_err().kind(), ErrorKind::Integrity);
    }
    assert!(decode_counts(Vec::new()).is_err());
}

/// The placeholder of a null is not a value, and a value that is missing is not a null.
#[test]
fn only_nulls_have_placeholders() {
    for (kind, width) in [(FieldType::Uuid, 16), (FieldType::Decimal, 8)] {
        let nullable = Column { nullable: true, ..column("x", kind.clone()) };
        let columns = [column(KEY, FieldType::Int64), nullable];
        let decode_with = |valid: &[bool], data: &[usize]| {
            let data = data.iter().map(|width| vec![1; *width]).collect();
            let bytes = scalars(Scalars::BytesData(BytesArray { data }));
            let rows = vec![
                field(&columns[0], longs(vec![5, 6])),
                with_validity(&columns[1], valid.to_vec(), bytes),
            ];
            decode(&columns, KEY, rows)
        };
        for placeholder in [0, width] {
            let batch = decode_with(&[true, false], &[width, placeholder]).unwrap();
            assert_eq!((batch.column(1).is_null(0), batch.column(1).is_null(1)), (false, true));
        }
        assert!(decode_with(&[true, false], &[width]).is_ok(), "left out");
        for (valid, data) in [
            (&[][..], &[width, 0][..]),
            (&[true, true], &[width, 0]),
            (&[false, true], &[width, 0]),
            (&[false, true], &[0]),
            (&[true, true], &[width, width + 1]),
        ] {
            let error = decode_with(valid, data).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity);
            let what = format!(
                "field \"x\" ({kind}): {} bytes instead of {width}, row with key 6",
                data.last().unwrap()
            );
            assert!(error.to_string().starts_with(&what), "{error}");
        }
    }
}

#[test]
fn values_that_fit_neither_layout_of_nulls_are_refused() {
    let columns = [column(KEY, FieldType::Int64), Column { nullable: true, ..column("x", FieldType::Int64) }];
    for (valid, values, what) in [
        (vec![true, false, true], 1, "1 values for 3 rows of which 2 are not null"),
        (vec![true, false, true], 4, "4 values for 3 rows of which 2 are not null"),
        (vec![true, false], 2, "2 values for 3 rows"),
        (vec![true, false, true, true], 3, "4 values for 3 rows"),
        (vec![], 2, "2 values for 3 rows"),
    ] {
        let data = with_validity(&columns[1], valid, longs(vec![7; values]));
        let error = decode(&columns, KEY, vec![field(&columns[0], longs(vec![1, 2, 3])), data]).unwrap_err();
        assert_eq!(error.to_string(), format!("field \"x\" (Int64): {what}"));
    }
}

#[test]
fn structs_are_checked_array_by_array() {
    let fields = vec![
        sub_field("tags", array(ElementType::Int8)),
        sub_field(
            "vectors",
            FieldType::VectorArray { element: Box::new(FieldType::FloatVector { dim: 2 }), max_capacity: 4 },
        ),
    ];
    let columns =
        [column(KEY, FieldType::Int64), column("chunks", FieldType::StructArray { fields: fields.clone() })];
    let tags = |rows: &[&[i32]]| {
        let row = |values: &&[i32]| Some(Scalars::IntData(IntArray { data: values.to_vec() }));
        field(&column("tags", fields[0].kind.clone()), arrays(rows.iter().map(row).collect()))
    };
    let vector_lists = |rows: &[usize]| {
        let row = |floats: &usize| {
            let data = Vectors::FloatVector(FloatArray { data: vec![0.5; *floats] });
            VectorField { dim: 2, data: Some(data), valid_data: Vec::new() }
        };
        let array = VectorArray { dim: 2, data: rows.iter().map(row).collect(), element_type: 0 };
        field(&column("vectors", fields[1].kind.clone()), vectors(2, Vectors::VectorArray(array)))
    };
    let decode_with = |subs: Vec<FieldData>| {
        let structs = WireField::StructArrays(StructArrayField { fields: subs });
        let rows = vec![field(&columns[0], longs(vec![8, 9])), field(&columns[1], structs)];
        decode(&columns, KEY, rows).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
            error.to_string()
        })
    };
    assert_eq!(decode_with(vec![tags(&[&[1], &[2, 3]]), vector_lists(&[2, 4])]).unwrap().num_rows(), 2);
    for (subs, what) in [
        (
            vec![tags(&[&[1], &[2]]), vector_lists(&[2, 4])],
            "field \"chunks.vectors\" (Array<FloatVector(2)>(4)): its arrays have other lengths",
        ),
        (
            vec![tags(&[&[1], &[2, 3]])],
            "field \"chunks.vectors\" (Array<FloatVector(2)>(4)): the server's reply does not have it",
        ),
        (
            vec![tags(&[&[1], &[2, 300]]), vector_lists(&[2, 4])],
            "field \"chunks.tags\" (Array<Int8>(4)): element 300 does not fit, row with key 9",
        ),
        (
            vec![tags(&[&[1], &[2]]), vector_lists(&[2, 3])],
            "field \"chunks.vectors\" (Array<FloatVector(2)>(4)): 3 values are not whole vectors of 2, row with key 9",
        ),
        (
            vec![tags(&[&[1]]), vector_lists(&[2])],
            "field \"chunks\" (ArrayOfStruct<tags Array<Int8>(4), vectors Array<FloatVector(2)>(4)>): 1 values for 2 rows",
        ),
        (vec![], "field \"chunks.tags\" (Array<Int8>(4)): the server's reply does not have it"),
    ] {
        let error = decode_with(subs).unwrap_err();
        assert!(error.starts_with(what), "{error}");
    }
}
