//! The bulk import of the Milvus in memory: jobs of one Parquet file each, which it reads from this
//! machine's folders when the job is first looked at.
//!
//! Owns: jobs, and what goes wrong with them and with the requests for them. Does not own: types
//! other than Int64 and float vectors, which the real server is there for.

use super::{Done, Fake, Refused, State, missing, pair};
use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use milvus::proto::common::ImportState;
use milvus::proto::milvus as api;
use milvus::proto::schema::field_data::Field as WireField;
use milvus::proto::schema::vector_field::Data as Vectors;
use milvus::proto::schema::{DataType, FieldData, FloatArray, VectorField};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use tonic::Status;

/// What goes wrong with jobs. Requests are counted from 0.
#[derive(Clone, Default)]
pub struct BulkHabits {
    /// Requests whose job is made, and whose reply is lost. Milvus before 2.4 runs such a job twice.
    pub loses_replies: Range<usize>,
    /// Requests whose job is made, and that are answered as if it was not.
    pub denies: Range<usize>,
    /// Requests that are lost on their way.
    pub loses_requests: Range<usize>,
    /// Requests whose reply is lost, and whose job is made after so many further lists of jobs.
    pub comes_late: Option<(usize, usize)>,
    /// Requests that find as many jobs as the server takes.
    pub is_full: Range<usize>,
    /// Jobs that fail although their file is whole.
    pub fails: Range<usize>,
    /// Neither the list nor a job tells files.
    pub hides_files: bool,
    /// Nor numbers.
    pub hides_numbers: bool,
    /// It has forgotten every job that it had.
    pub forgets: bool,
    /// It has forgotten the first so many jobs as soon as there is another one.
    pub forgets_first: usize,
    /// Jobs stay on their way.
    pub stands_still: bool,
    /// A job says that it is complete, and has loaded a row less.
    pub loses_a_row: bool,
}

/// One job.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: i64,
    pub number: usize,
    pub request: api::ImportRequest,
    collection: i64,
    pub state: ImportState,
    reason: String,
    rows: i64,
    runs: usize,
}

/// All jobs of a server.
#[derive(Default)]
pub struct Jobs {
    pub all: Vec<Job>,
    pub requests: usize,
    /// Requests on their way, and the lists until they arrive.
    late: Vec<(api::ImportRequest, usize)>,
}

impl Jobs {
    fn forgotten(&self, habits: &BulkHabits) -> usize {
        if self.all.len() > habits.forgets_first { habits.forgets_first } else { 0 }
    }
}

impl Fake {
    pub(super) fn import(&self, request: api::ImportRequest) -> Result<Done<api::ImportResponse>, Status> {
        let habits = self.habits().bulk;
        let lost = || Err(Status::unknown("connection reset by peer"));
        let mut state = self.state();
        let number = state.jobs.requests;
        state.jobs.requests += 1;
        if habits.loses_requests.contains(&number) {
            return lost();
        }
        if habits.is_full.contains(&number) {
            let what = "The number of jobs has reached the limit, please try again later";
            return Ok(Err(Refused(2100, what.into(), false)));
        }
        if let Some((_, lists)) = habits.comes_late.filter(|(late, _)| *late == number) {
            state.jobs.late.push((request, lists));
            return lost();
        }
        let made = state.make_job(request, number);
        match made {
            Ok(_) if habits.loses_replies.contains(&number) => {
                if let Some(job) = state.jobs.all.last_mut() {
                    job.runs = if self.tag.starts_with("v2.3") { 2 } else { 1 };
                }
                lost()
            }
            Ok(_) if habits.denies.contains(&number) => {
                Ok(Err(Refused(65535, "context deadline exceeded".into(), false)))
            }
            Ok(id) => Ok(Ok(api::ImportResponse { tasks: vec![id], ..Default::default() })),
            Err(error) => Ok(Err(error)),
        }
    }

    pub(super) fn import_state(&self, id: i64) -> Done<api::GetImportStateResponse> {
        let habits = self.habits().bulk;
        let forgotten = self.state().jobs.forgotten(&habits);
        let position = self.state().jobs.all.iter().skip(forgotten).position(|job| job.id == id);
        let position = position.map(|position| position + forgotten);
        let Some(position) = position.filter(|_| !habits.forgets) else {
            return Err(Refused(65535, format!("failed to get import task ID {id}"), false));
        };
        let state = self.state().jobs.all[position].state;
        match state {
            ImportState::ImportPending => self.state().jobs.all[position].state = ImportState::ImportStarted,
            ImportState::ImportStarted if !habits.stands_still => self.run(position),
            _ => {}
        }
        Ok(self.told(&self.state().jobs.all[position]))
    }

    pub(super) fn import_list(&self, database: &str, name: &str) -> Done<api::ListImportTasksResponse> {
        let habits = self.habits().bulk;
        let mut state = self.state();
        let id = state.get(database, name)?.id;
        let remembered = state.jobs.all.iter().skip(state.jobs.forgotten(&habits));
        let of_it = remembered.filter(|job| job.collection == id && !habits.forgets);
        let tasks = of_it.map(|job| self.told(job)).collect();
        let arrived: Vec<_> = state.jobs.late.iter().filter(|(_, lists)| *lists <= 1).cloned().collect();
        state.jobs.late.retain(|(_, lists)| *lists > 1);
        state.jobs.late.iter_mut().for_each(|(_, lists)| *lists -= 1);
        for (request, _) in arrived {
            // Nobody hears of a refusal.
            let _ = state.make_job(request, usize::MAX);
        }
        Ok(api::ListImportTasksResponse { tasks, ..Default::default() })
    }

    fn told(&self, job: &Job) -> api::GetImportStateResponse {
        let habits = self.habits().bulk;
        let mut infos = vec![pair("failed_reason", &job.reason), pair("progress_percent", "50")];
        if !habits.hides_files {
            infos.push(pair("files", &job.request.files.join(",")));
        }
        let id = if habits.hides_numbers { 0 } else { job.id };
        api::GetImportStateResponse {
            state: job.state as i32,
            id,
            row_count: job.rows,
            infos,
            ..Default::default()
        }
    }

    /// Time passes, in which every job ends.
    pub fn ends_all_jobs(&self) {
        let ended = |job: &Job| matches!(job.state, ImportState::ImportCompleted | ImportState::ImportFailed);
        let open: Vec<usize> = (0..self.state().jobs.all.len()).collect();
        for position in open {
            let is_open = !ended(&self.state().jobs.all[position]);
            if is_open {
                self.run(position);
            }
        }
    }

    /// What a data node does: all or nothing.
    fn run(&self, position: usize) {
        let habits = self.habits().bulk;
        let job = self.state().jobs.all[position].clone();
        let done = match habits.fails.contains(&job.number) {
            true => Err("the data node is gone".to_string()),
            // The second time adds its rows in silence.
            false => (1..job.runs)
                .try_for_each(|_| self.load_file(&job, false).map(drop))
                .and_then(|()| self.load_file(&job, habits.loses_a_row)),
        };
        let mut state = self.state();
        let job = &mut state.jobs.all[position];
        match done {
            Ok(rows) => (job.state, job.rows) = (ImportState::ImportCompleted, rows),
            Err(reason) => (job.state, job.reason) = (ImportState::ImportFailed, reason),
        }
    }

    fn load_file(&self, job: &Job, one_less: bool) -> Result<i64, String> {
        let request = &job.request;
        let into = [&request.db_name, &request.collection_name, &request.partition_name].map(String::as_str);
        self.load_parquet(Path::new(&request.files[0]), into, one_less)
    }

    /// Inserts the rows of a file, but the last one if so wished, into a database's collection's
    /// partition.
    pub fn load_parquet(
        &self,
        file: &Path,
        [database, collection, partition]: [&str; 3],
        one_less: bool,
    ) -> Result<i64, String> {
        let file = File::open(file).map_err(|e| format!("The specified key does not exist: {e}"))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.build());
        let batches: Result<Vec<_>, _> = reader.map_err(|e| e.to_string())?.collect();
        let mut rows = 0;
        for mut batch in batches.map_err(|e| e.to_string())? {
            if one_less {
                batch = batch.slice(0, batch.num_rows() - 1);
            }
            let schema = batch.schema();
            let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
                if let Some(keys) = column.as_primitive_opt::<Int64Type>() {
                    return super::longs(field.name(), keys.values().to_vec());
                }
                let vectors = column.as_list::<i32>();
                let data: Vec<f32> = (0..vectors.len())
                    .flat_map(|row| vectors.value(row).as_primitive::<Float32Type>().values().to_vec())
                    .collect();
                let dim = data.len() / vectors.len();
                FieldData {
                    r#type: DataType::FloatVector as i32,
                    field_name: field.name().clone(),
                    field: Some(WireField::Vectors(VectorField {
                        dim: dim as i64,
                        data: Some(Vectors::FloatVector(FloatArray { data })),
                        ..Default::default()
                    })),
                    ..Default::default()
                }
            });
            let request = api::InsertRequest {
                db_name: database.into(),
                collection_name: collection.into(),
                partition_name: partition.into(),
                fields_data: columns.collect(),
                num_rows: batch.num_rows() as u32,
                ..Default::default()
            };
            rows += batch.num_rows() as i64;
            self.write(request, false).map_err(|Refused(_, text, _)| text)?;
        }
        Ok(rows)
    }
}

impl State {
    /// The collection that has the name when the request arrives.
    fn make_job(&mut self, request: api::ImportRequest, number: usize) -> Done<i64> {
        let collection = self.get(&request.db_name, &request.collection_name)?;
        let partition = &request.partition_name;
        if !partition.is_empty() && !collection.partitions.contains(partition) {
            return Err(missing("partition", partition, 200));
        }
        let [file] = request.files.as_slice() else {
            return Err("for JSON or parquet file, each task only accepts one file".to_string().into());
        };
        if !file.ends_with(".parquet") {
            return Err(format!("unsupported file type: '{file}'").into());
        }
        let collection = collection.id;
        let id = self.id();
        let (state, reason) = (ImportState::ImportPending, String::new());
        self.jobs.all.push(Job { id, number, request, collection, state, reason, rows: 0, runs: 1 });
        Ok(id)
    }
}
