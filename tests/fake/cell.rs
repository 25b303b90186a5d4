//! Values as the protocol has them: columns taken apart into one value a row, and put together
//! again in the layout that a version of the server uses.

use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::scalar_field::Data as Scalars;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{
    ArrayArray, BoolArray, BytesArray, DataType, DateArray, DoubleArray, FieldData, FieldSchema, FloatArray,
    GeometryArray, GeometryWktArray, IntArray, JsonArray, LongArray, MolArray, MolSmilesArray, ScalarField,
    SparseFloatArray, StringArray, StructArrayField, StructArrayFieldSchema, TimeArray, TimestamptzArray,
    VectorArray, VectorField,
};

/// One value of one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A list with exactly one value in it.
    Scalar(Scalars),
    /// One vector, or one list of vectors.
    Vector(Vectors),
    /// One value of each sub-field.
    Struct(Vec<Cell>),
}

/// Where a version says which rows are null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// In the column, beside its values: the only place before 3.0.
    Beside,
    /// Within the scalars or vectors, as the newest protocol has it.
    Within,
    /// In both, as servers do that have old clients.
    Both,
}

/// A column of the schema, declared or made up by the server.
#[derive(Debug, Clone)]
pub enum Declared {
    /// An ordinary field.
    Field(FieldSchema),
    /// A struct array.
    Struct(StructArrayFieldSchema),
}

impl Declared {
    pub fn name(&self) -> &str {
        match self {
            Declared::Field(field) => &field.name,
            Declared::Struct(structs) => &structs.name,
        }
    }

    pub fn nullable(&self) -> bool {
        match self {
            Declared::Field(field) => field.nullable,
            Declared::Struct(structs) => structs.nullable,
        }
    }
}

pub fn kind(field: &FieldSchema) -> DataType {
    DataType::try_from(field.data_type).unwrap_or(DataType::None)
}

pub fn element(field: &FieldSchema) -> DataType {
    DataType::try_from(field.element_type).unwrap_or(DataType::None)
}

pub fn param(field: &FieldSchema, key: &str) -> Option<usize> {
    field.type_params.iter().find(|kv| kv.key == key).and_then(|kv| kv.value.parse().ok())
}

pub fn is_vector(kind: DataType) -> bool {
    use DataType::*;
    matches!(
        kind,
        FloatVector
            | BinaryVector
            | Float16Vector
            | BFloat16Vector
            | Int8Vector
            | SparseFloatVector
            | ArrayOfVector
    )
}

/// Floats or bytes of one dense vector.
pub fn width(kind: DataType, dim: usize) -> usize {
    match kind {
        DataType::BinaryVector => dim / 8,
        DataType::Float16Vector | DataType::BFloat16Vector => dim * 2,
        _ => dim,
    }
}

macro_rules! scalar_lists {
    ($($variant:ident $array:ident),* $(,)?) => {
        /// The values of a list, each as a list of its own.
        pub fn split_scalars(data: Scalars) -> Vec<Scalars> {
            match data {
                $(Scalars::$variant(list) => {
                    list.data.into_iter().map(|value| Scalars::$variant($array { data: vec![value] })).collect()
                })*
                Scalars::ArrayData(lists) => {
                    let element_type = lists.element_type;
                    let one = |list| Scalars::ArrayData(ArrayArray { data: vec![list], element_type });
                    lists.data.into_iter().map(one).collect()
                }
            }
        }

        fn append_scalars(all: &mut Scalars, more: &Scalars) {
            match (all, more) {
                $((Scalars::$variant(all), Scalars::$variant(more)) => all.data.extend(more.data.iter().cloned()),)*
                (Scalars::ArrayData(all), Scalars::ArrayData(more)) => all.data.extend(more.data.iter().cloned()),
                (all, more) => panic!("{all:?} and {more:?} are not of one column"),
            }
        }

        /// How many values a list has.
        pub fn scalars_len(data: &Scalars) -> usize {
            match data {
                $(Scalars::$variant(list) => list.data.len(),)*
                Scalars::ArrayData(lists) => lists.data.len(),
            }
        }
    };
}

scalar_lists!(
    BoolData BoolArray,
    IntData IntArray,
    LongData LongArray,
    FloatData FloatArray,
    DoubleData DoubleArray,
    StringData StringArray,
    BytesData BytesArray,
    JsonData JsonArray,
    GeometryData GeometryArray,
    TimestamptzData TimestamptzArray,
    GeometryWktData GeometryWktArray,
    MolData MolArray,
    MolSmilesData MolSmilesArray,
    DateData DateArray,
    TimeData TimeArray,
);

/// The list of a type without values in it.
fn no_scalars(kind: DataType, element_type: i32) -> Scalars {
    match kind {
        DataType::Bool => Scalars::BoolData(BoolArray::default()),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => Scalars::IntData(IntArray::default()),
        DataType::Int64 => Scalars::LongData(LongArray::default()),
        DataType::Float => Scalars::FloatData(FloatArray::default()),
        DataType::Double => Scalars::DoubleData(DoubleArray::default()),
        DataType::Json => Scalars::JsonData(JsonArray::default()),
        DataType::Array => Scalars::ArrayData(ArrayArray { element_type, ..Default::default() }),
        DataType::Geometry => Scalars::GeometryWktData(GeometryWktArray::default()),
        DataType::Mol => Scalars::MolSmilesData(MolSmilesArray::default()),
        DataType::Date => Scalars::DateData(DateArray::default()),
        DataType::Time => Scalars::TimeData(TimeArray::default()),
        DataType::Decimal | DataType::Uuid => Scalars::BytesData(BytesArray::default()),
        _ => Scalars::StringData(StringArray::default()),
    }
}

/// What stands in the place of a null where values are aligned.
fn placeholder(all: &mut Scalars) {
    match all {
        Scalars::BoolData(d) => d.data.push(false),
        Scalars::IntData(d) => d.data.push(0),
        Scalars::LongData(d) => d.data.push(0),
        Scalars::FloatData(d) => d.data.push(0.0),
        Scalars::DoubleData(d) => d.data.push(0.0),
        Scalars::StringData(d) => d.data.push(String::new()),
        Scalars::BytesData(d) => d.data.push(Vec::new()),
        Scalars::JsonData(d) => d.data.push(Vec::new()),
        Scalars::GeometryWktData(d) => d.data.push(String::new()),
        Scalars::MolSmilesData(d) => d.data.push(String::new()),
        Scalars::DateData(d) => d.data.push(0),
        Scalars::TimeData(d) => d.data.push(0),
        Scalars::ArrayData(d) => d.data.push(ScalarField::default()),
        other => panic!("servers do not hand out {other:?}"),
    }
}

/// The vectors of a column, one by one, each of `width` floats or bytes.
pub fn split_vectors(data: Vectors, width: usize) -> Result<Vec<Vectors>, String> {
    let bytes = |bytes: Vec<u8>, wrap: fn(Vec<u8>) -> Vectors| {
        if width == 0 || !bytes.len().is_multiple_of(width) {
            return Err(format!("{} bytes are not whole vectors of {width}", bytes.len()));
        }
        Ok(bytes.chunks(width).map(|one| wrap(one.to_vec())).collect())
    };
    match data {
        Vectors::FloatVector(floats) => {
            if width == 0 || !floats.data.len().is_multiple_of(width) {
                return Err(format!(
                    "the length({}) of float data should divide the dim({width})",
                    floats.data.len()
                ));
            }
            let one = |one: &[f32]| Vectors::FloatVector(FloatArray { data: one.to_vec() });
            Ok(floats.data.chunks(width).map(one).collect())
        }
        Vectors::BinaryVector(all) => bytes(all, Vectors::BinaryVector),
        Vectors::Float16Vector(all) => bytes(all, Vectors::Float16Vector),
        Vectors::Bfloat16Vector(all) => bytes(all, Vectors::Bfloat16Vector),
        Vectors::Int8Vector(all) => bytes(all, Vectors::Int8Vector),
        Vectors::SparseFloatVector(sparse) => {
            // The dimension is that of a batch, and says nothing of a row.
            let one = |one| Vectors::SparseFloatVector(SparseFloatArray { contents: vec![one], dim: 0 });
            Ok(sparse.contents.into_iter().map(one).collect())
        }
        Vectors::VectorArray(lists) => {
            let (dim, element_type) = (lists.dim, lists.element_type);
            let one = |list| Vectors::VectorArray(VectorArray { dim, data: vec![list], element_type });
            Ok(lists.data.into_iter().map(one).collect())
        }
    }
}

fn append_vectors(all: &mut Vectors, more: &Vectors) {
    match (all, more) {
        (Vectors::FloatVector(all), Vectors::FloatVector(more)) => all.data.extend(&more.data),
        (Vectors::BinaryVector(all), Vectors::BinaryVector(more))
        | (Vectors::Float16Vector(all), Vectors::Float16Vector(more))
        | (Vectors::Bfloat16Vector(all), Vectors::Bfloat16Vector(more))
        | (Vectors::Int8Vector(all), Vectors::Int8Vector(more)) => all.extend(more),
        (Vectors::SparseFloatVector(all), Vectors::SparseFloatVector(more)) => {
            all.contents.extend(more.contents.iter().cloned());
        }
        (Vectors::VectorArray(all), Vectors::VectorArray(more)) => all.data.extend(more.data.iter().cloned()),
        (all, more) => panic!("{all:?} and {more:?} are not of one column"),
    }
}

fn no_vectors(kind: DataType, dim: i64, element_type: i32) -> Vectors {
    match kind {
        DataType::FloatVector => Vectors::FloatVector(FloatArray::default()),
        DataType::BinaryVector => Vectors::BinaryVector(Vec::new()),
        DataType::Float16Vector => Vectors::Float16Vector(Vec::new()),
        DataType::BFloat16Vector => Vectors::Bfloat16Vector(Vec::new()),
        DataType::Int8Vector => Vectors::Int8Vector(Vec::new()),
        DataType::SparseFloatVector => Vectors::SparseFloatVector(SparseFloatArray::default()),
        DataType::ArrayOfVector => Vectors::VectorArray(VectorArray { dim, data: Vec::new(), element_type }),
        other => panic!("{other:?} is no vector"),
    }
}

/// A column of a query result: scalars aligned, with something where a null is; vectors compacted;
/// lists of vectors aligned, with an empty one where a null is.
pub fn column(declared: &Declared, cells: &[Option<&Cell>], place: Validity) -> FieldData {
    match declared {
        Declared::Field(field) => field_column(field, cells, place),
        Declared::Struct(structs) => {
            // Null is the struct as a whole, and every sub-field says so.
            let sub = |(index, sub): (usize, &FieldSchema)| {
                let member = |cell: &Option<&'_ Cell>| match cell {
                    None => None,
                    Some(Cell::Struct(members)) => Some(members[index].clone()),
                    Some(other) => panic!("{other:?} in a struct array"),
                };
                let members: Vec<Option<Cell>> = cells.iter().map(member).collect();
                let members: Vec<Option<&Cell>> = members.iter().map(Option::as_ref).collect();
                field_column(&FieldSchema { nullable: structs.nullable, ..sub.clone() }, &members, place)
            };
            let fields = structs.fields.iter().enumerate().map(sub).collect();
            FieldData {
                r#type: DataType::ArrayOfStruct as i32,
                field_name: structs.name.clone(),
                field_id: structs.field_id,
                field: Some(WireField::StructArrays(StructArrayField { fields })),
                ..Default::default()
            }
        }
    }
}

fn field_column(field: &FieldSchema, cells: &[Option<&Cell>], place: Validity) -> FieldData {
    let kind = kind(field);
    let valid: Vec<bool> =
        if field.nullable { cells.iter().map(Option::is_some).collect() } else { Vec::new() };
    let (within, beside) = match place {
        Validity::Beside => (Vec::new(), valid),
        Validity::Within => (valid, Vec::new()),
        Validity::Both => (valid.clone(), valid),
    };
    let values = if is_vector(kind) {
        let dim = param(field, "dim").unwrap_or(0) as i64;
        let mut all = no_vectors(kind, dim, field.element_type);
        for cell in cells {
            match (cell, &mut all) {
                (Some(Cell::Vector(one)), all) => append_vectors(all, one),
                (None, Vectors::VectorArray(lists)) => lists.data.push(VectorField::default()),
                (None, _) => {}
                (Some(other), _) => panic!("{other:?} in a column of vectors"),
            }
        }
        WireField::Vectors(VectorField { dim, data: Some(all), valid_data: within })
    } else {
        let mut all = no_scalars(kind, field.element_type);
        for cell in cells {
            match cell {
                Some(Cell::Scalar(one)) => append_scalars(&mut all, one),
                None => placeholder(&mut all),
                Some(other) => panic!("{other:?} in a column of scalars"),
            }
        }
        WireField::Scalars(ScalarField { data: Some(all), valid_data: within })
    };
    FieldData {
        r#type: field.data_type,
        field_name: field.name.clone(),
        field_id: field.field_id,
        is_dynamic: field.is_dynamic,
        field: Some(values),
        valid_data: beside,
    }
}

/// A column of an insert request: only the values that are not null, and both validities.
pub fn insert_column(declared: &Declared, cells: &[Option<Cell>]) -> FieldData {
    let present: Vec<_> = cells.iter().filter(|cell| cell.is_some()).map(Option::as_ref).collect();
    let required = match declared.clone() {
        Declared::Field(field) => Declared::Field(FieldSchema { nullable: false, ..field }),
        Declared::Struct(structs) => Declared::Struct(StructArrayFieldSchema { nullable: false, ..structs }),
    };
    let mut data = column(&required, &present, Validity::Beside);
    if declared.nullable() {
        let valid: Vec<_> = cells.iter().map(Option::is_some).collect();
        match &mut data.field {
            Some(WireField::StructArrays(subs)) => subs.fields.iter_mut().for_each(|sub| mark(sub, &valid)),
            _ => mark(&mut data, &valid),
        }
    }
    data
}

fn mark(data: &mut FieldData, valid: &[bool]) {
    data.valid_data = valid.to_vec();
    match &mut data.field {
        Some(WireField::Scalars(scalars)) => scalars.valid_data = valid.to_vec(),
        Some(WireField::Vectors(vectors)) => vectors.valid_data = valid.to_vec(),
        other => panic!("{other:?} has no validity"),
    }
}

/// The value that a default stands for.
pub fn default_cell(field: &FieldSchema) -> Option<Cell> {
    use milvus::proto::schema::value_field::Data;
    let data = field.default_value.as_ref()?.data.clone()?;
    Some(Cell::Scalar(match (kind(field), data) {
        (DataType::Bool, Data::BoolData(value)) => Scalars::BoolData(BoolArray { data: vec![value] }),
        (DataType::Int8 | DataType::Int16 | DataType::Int32, Data::IntData(value)) => {
            Scalars::IntData(IntArray { data: vec![value] })
        }
        (DataType::Int64, Data::LongData(value)) => Scalars::LongData(LongArray { data: vec![value] }),
        (DataType::Float, Data::FloatData(value)) => Scalars::FloatData(FloatArray { data: vec![value] }),
        (DataType::Double, Data::DoubleData(value)) => Scalars::DoubleData(DoubleArray { data: vec![value] }),
        (DataType::VarChar | DataType::Text | DataType::Timestamptz, Data::StringData(value)) => {
            Scalars::StringData(StringArray { data: vec![value] })
        }
        (DataType::Json, Data::BytesData(value)) => Scalars::JsonData(JsonArray { data: vec![value] }),
        (DataType::Geometry, Data::StringData(value)) => {
            Scalars::GeometryWktData(GeometryWktArray { data: vec![value] })
        }
        // Such a default is refused when the collection is created.
        _ => return None,
    }))
}
