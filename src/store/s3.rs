//! A prefix in an S3 bucket.
//!
//! Owns: one client per snapshot, create-only puts whose outcome is known, reads that survive a
//! broken connection, and what an S3 error means for the user. Does not own: finding out what a
//! bucket silently does not do (the callers probe that and record it), or comparing digests with
//! what a manifest says.
//!
//! Why puts do not use the SDK's retries: after a lost reply the SDK would send the put again,
//! the bucket would answer that the object exists, and nobody could tell whether it is ours. The
//! loop here knows whether an earlier try may have arrived, and if so reads the object back and
//! compares it. Only when that fails too is the outcome unknown.
//!
//! Settings come from the usual AWS variables and profiles. What differs: the region is not asked
//! from EC2 (it would take seconds everywhere else), tries default to 5 and are set by
//! `AWS_MAX_ATTEMPTS` only, a profile that is named and does not exist is refused, a private
//! certificate authority is named by `SSL_CERT_FILE` (not `AWS_CA_BUNDLE`), and proxies are not used.

use super::credentials::{self, Profile};
use super::replies::Replies;
use super::{Body, CopySource, Entry, Head, LockMode, Put, Settings, Store, check_key, printable, too_large};
use crate::digest::{Hasher, Sha256};
use crate::error::{Code, Error, ErrorKind, Result};
use async_trait::async_trait;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds::client::error::ImdsError;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    ConfigBag, Intercept, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
    SharedHttpClient,
};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::primitives::{ByteStream, ByteStreamError, Length};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, Object, ObjectLockMode, RequestPayer, ServerSideEncryption,
};
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_types::date_time::{DateTime, Format};
use aws_types::service_config::ServiceConfigKey;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::iter;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::NamedTempFile;

/// Tries of one request, unless `AWS_MAX_ATTEMPTS` says otherwise.
const ATTEMPTS: u32 = 5;

/// How long a connection may take to be made, unless the settings say otherwise.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a reply's head may take, apart from the time that the body of a put needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The slowest upload that is waited for, in bytes per second. Uploads that stand still are given
/// up much sooner by the SDK's own protection; this only bounds the whole.
const SLOWEST_UPLOAD: u64 = 64 * 1024;

/// Up to this size a put is settled by reading the object back, above it by the digest that the
/// bucket returns, if it does.
const READ_BACK: u64 = 8 << 20;

/// A download that breaks off again and again must bring so many bytes in between to be gone on with.
const HEADWAY: u64 = 64 * 1024;

/// Objects that a listing names before it is taken for one without an end: a snapshot has fewer.
const MOST_OBJECTS: u64 = 10_000_000;

/// Pages of a listing without an object that are followed. Some servers send one or two, where
/// objects were just removed.
const EMPTY_PAGES: u32 = 100;

/// What a key cannot hold as it is in the header that names the source of a copy.
const COPY_SOURCE_ESCAPES: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Questions about places above a snapshot that are asked at the same time.
const ABOVE_AT_ONCE: usize = 8;

/// How much of the spooled file is read at once for an upload.
const UPLOAD_BUFFER: usize = 256 * 1024;

/// A store in S3.
pub(super) struct S3(Arc<Place>);

/// Credentials and an endpoint for one bucket, told apart from those of this process's environment.
/// What is not given is taken from there.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The S3 server.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// A profile of the AWS configuration, for credentials and region.
    pub profile: Option<String>,
    /// Credentials.
    pub keys: Option<Keys>,
}

/// An access key of S3.
#[derive(Clone)]
pub struct Keys {
    /// Its public half.
    pub id: String,
    /// Its secret half.
    pub secret: String,
    /// The token of a session, if it is one of a session.
    pub token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Access {
    /// Whether the credentials are not those of the environment.
    fn own_credentials(&self) -> bool {
        self.profile.is_some() || self.keys.is_some()
    }
}

/// The key by which this process's environment reaches buckets, resolved now.
pub async fn own_keys() -> Result<Keys> {
    let missing = |what: &str| {
        Error::new(Code::BucketCredentials, what)
            .hint("give the service a key of its own with `--cloud-key FILE`, or see that `aws sts get-caller-identity` works here")
    };
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client()).load().await;
    let provider = config.credentials_provider().ok_or_else(|| missing("no AWS credentials were found"))?;
    // What the provider says of the failure may name files, and holds no key.
    let found = provider.provide_credentials().await;
    let found = found.map_err(|e| missing("the AWS credentials could not be loaded").because(e))?;
    Ok(Keys {
        id: found.access_key_id().to_string(),
        secret: found.secret_access_key().to_string(),
        token: found.session_token().map(str::to_string),
    })
}

struct Place {
    client: Client,
    /// The same client without retries, for puts.
    once: Client,
    bucket: String,
    prefix: String,
    region: String,
    endpoint: Option<String>,
    retry: RetryConfig,
    patience: Duration,
    /// Whether some answer proved that the bucket exists.
    seen: AtomicBool,
    settings: Settings,
    /// The versions of what was put, by key in the snapshot.
    versions: Mutex<BTreeMap<String, String>>,
    /// What its replies say of its clock.
    clock: Clock,
    /// Whether the bucket is known to ignore `If-None-Match`, so that puts must look first.
    ignores_conditions: AtomicBool,
    /// Whether the credentials are for this bucket alone.
    own_credentials: bool,
    /// The profile that was named.
    profile: Option<Profile>,
}

impl S3 {
    /// Opens a prefix with the settings of this process's environment. Sends nothing to the
    /// bucket; credentials are resolved at the first request.
    pub(super) async fn open(bucket: &str, prefix: &str, settings: &Settings) -> Result<Self> {
        S3::open_as(bucket, prefix, &Access::default(), settings).await
    }

    /// [`S3::open`] with what `access` gives instead.
    pub(super) async fn open_as(
        bucket: &str,
        prefix: &str,
        access: &Access,
        settings: &Settings,
    ) -> Result<Self> {
        let named = match &access.keys {
            Some(_) => None,
            None => Profile::named(access.profile.as_deref()),
        };
        if let Some(named) = &named {
            named.refuse_unknown().await?;
        }
        let mut profile = ProfileFileRegionProvider::builder();
        if let Some(name) = &access.profile {
            profile = profile.profile_name(name);
        }
        // A profile that is named for this bucket goes before variables that are not.
        let first = access.region.clone().map(Region::new);
        let region = match &access.profile {
            Some(_) => RegionProviderChain::first_try(first)
                .or_else(profile.build())
                .or_else(EnvironmentVariableRegionProvider::new()),
            None => RegionProviderChain::first_try(first)
                .or_else(EnvironmentVariableRegionProvider::new())
                .or_else(profile.build()),
        };
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(region)
            .http_client(http_client())
            .retry_config(RetryConfig::standard().with_max_attempts(max_attempts()?));
        if let Some(endpoint) = &access.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some(name) = &access.profile {
            let credentials = ProfileFileCredentialsProvider::builder().profile_name(name).build();
            loader = loader.profile_name(name).credentials_provider(credentials);
        }
        if let Some(Keys { id, secret, token }) = &access.keys {
            let source = "milvus-handoff";
            loader = loader.credentials_provider(Credentials::new(id, secret, token.clone(), None, source));
        }
        let mut place = S3::place_with(bucket, prefix, &loader.load().await, settings)?;
        place.own_credentials = access.own_credentials();
        place.profile = named;
        Ok(S3(Arc::new(place)))
    }

    /// Opens a prefix with given settings; what they leave open is filled in here.
    pub(super) fn with_config(
        bucket: &str,
        prefix: &str,
        config: &SdkConfig,
        settings: &Settings,
    ) -> Result<Self> {
        Ok(S3(Arc::new(S3::place_with(bucket, prefix, config, settings)?)))
    }

    fn place_with(bucket: &str, prefix: &str, config: &SdkConfig, settings: &Settings) -> Result<Place> {
        let endpoint = endpoint_of(config)?;
        let region = match (config.region(), &endpoint) {
            (Some(region), _) => region.clone(),
            // Most S3-compatible servers do not care, and this is what they assume.
            (None, Some(_)) => Region::from_static("us-east-1"),
            (None, None) => {
                let message = format!("no AWS region is set for s3://{bucket}");
                return Err(Error::new(Code::Region, message).hint(
                    "set AWS_REGION (or a profile with a region), \
                     or AWS_ENDPOINT_URL_S3 for a server that is not AWS",
                ));
            }
        };
        let retry = match config.retry_config() {
            Some(retry) => retry.clone(),
            None => RetryConfig::standard().with_max_attempts(ATTEMPTS),
        };
        let ours =
            TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(PATIENCE).build();
        let mut timeouts = config.timeout_config().cloned().unwrap_or_else(|| ours.clone());
        timeouts.take_defaults_from(&ours);
        let patience = timeouts.operation_attempt_timeout().unwrap_or(PATIENCE);
        let stalls = config.stalled_stream_protection();
        let stalls = stalls.unwrap_or_else(|| StalledStreamProtectionConfig::enabled().build());

        let mut builder = aws_sdk_s3::config::Builder::from(config)
            .behavior_version(BehaviorVersion::latest())
            .region(region.clone())
            .force_path_style(endpoint.is_some())
            .timeout_config(timeouts)
            .stalled_stream_protection(stalls)
            // Puts carry the digest that the manifest records; a second checksum by the SDK would
            // cost time and, as a trailer, break on servers that do not know chunked signing.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        builder.set_endpoint_url(endpoint.clone());
        let clock = Clock::default();
        builder = builder.interceptor(clock.clone()).interceptor(Replies);
        if config.http_client().is_none() {
            builder.set_http_client(Some(http_client()));
        }
        let once = builder.clone().retry_config(RetryConfig::disabled()).build();
        let client = builder.retry_config(retry.clone()).build();
        Ok(Place {
            client: Client::from_conf(client),
            once: Client::from_conf(once),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region: region.to_string(),
            endpoint,
            retry,
            patience,
            seen: AtomicBool::new(false),
            settings: settings.clone(),
            versions: Mutex::default(),
            clock,
            ignores_conditions: AtomicBool::new(false),
            own_credentials: false,
            profile: None,
        })
    }
}

#[async_trait]
impl Store for S3 {
    fn place(&self) -> String {
        self.0.to_string()
    }

    fn spool(&self) -> Result<NamedTempFile> {
        tempfile::Builder::new().prefix("milvus-handoff-").tempfile().map_err(|error| {
            let folder = std::env::temp_dir();
            let folder = printable(&folder.to_string_lossy());
            Error::new(Code::Disk, format!("cannot create a spool file in {folder}"))
                .because(error)
                .hint("set TMPDIR to a writable folder with room for several parts")
        })
    }

    async fn put_new(&self, key: &str, body: Body, sha256: Sha256) -> Result<Put> {
        self.0.put_new(key, Upload::new(body)?, sha256).await
    }

    async fn get(&self, key: &str, max_bytes: u64) -> Result<Option<Bytes>> {
        let Some(mut download) = Download::open(&self.0, key).await? else { return Ok(None) };
        if download.size.is_some_and(|size| size > max_bytes) {
            return Err(too_large(key, &self.0, download.size, max_bytes));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = download.next().await? {
            // The size was a claim, and a server that streams makes none.
            if (bytes.len() + chunk.len()) as u64 > max_bytes {
                return Err(too_large(key, &self.0, None, max_bytes));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes.into()))
    }

    async fn read(&self, key: &str) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let Some(download) = Download::open(&self.0, key).await? else { return Ok(None) };
        let chunks = stream::try_unfold(download, |mut download| async move {
            Ok(download.next().await?.map(|chunk| (chunk, download)))
        });
        Ok(Some(chunks.boxed()))
    }

    async fn head(&self, key: &str) -> Result<Option<Head>> {
        self.0.head(key).await
    }

    async fn above(&self, names: &[&'static str]) -> Result<Option<(String, &'static str)>> {
        self.0.above(names).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key).await
    }

    fn endpoint(&self) -> Option<String> {
        self.0.endpoint.clone()
    }

    fn url_elsewhere(&self) -> Result<String> {
        let place = &self.0;
        let host = place.endpoint.as_deref().map(::url::Url::parse).transpose().ok().flatten();
        let host = host.as_ref().and_then(::url::Url::host_str).unwrap_or_default();
        let scheme = match (&place.endpoint, host) {
            (None, _) => "s3",
            (Some(_), host)
                if [".amazonaws.com", ".amazonaws.com.cn"].iter().any(|end| host.ends_with(end)) =>
            {
                "s3"
            }
            (Some(_), "storage.googleapis.com") => "gs",
            (Some(endpoint), _) => {
                let what = format!(
                    "no service elsewhere can be expected to reach s3://{} at {endpoint}: that is an S3 server of your own",
                    place.bucket
                );
                return Err(Error::new(Code::Address, what));
            }
        };
        Ok(format!("{scheme}://{}/{}", place.bucket, place.prefix))
    }

    fn copy_source(&self, key: &str) -> Result<Option<CopySource>> {
        let place = &self.0;
        Ok((!place.own_credentials).then_some(CopySource {
            server: place.server(),
            bucket: place.bucket.clone(),
            key: place.key(key)?,
        }))
    }

    async fn copy_from(&self, source: &CopySource, key: &str) -> Result<bool> {
        self.0.copy_from(source, key).await
    }

    async fn keeps_existing(&self) -> Result<bool> {
        self.0.keeps_existing().await
    }

    fn look_before_put(&self) {
        self.0.ignores_conditions.store(true, Ordering::Relaxed);
    }

    fn versions(&self) -> BTreeMap<String, String> {
        self.0.versions().clone()
    }

    fn clock_ahead(&self) -> Option<i64> {
        self.0.clock.ahead()
    }

    fn list(&self) -> BoxStream<'_, Result<Entry>> {
        let place = &self.0;
        stream::try_unfold(Page::First, move |page| async move {
            Ok::<_, Error>(place.list_page(page).await?.map(|(entries, next)| (stream::iter(entries), next)))
        })
        .try_flatten()
        .boxed()
    }
}

/// Where a listing stands.
enum Page {
    First,
    After(Listed),
    Done,
}

/// What a listing has brought so far.
#[derive(Default)]
struct Listed {
    token: Option<String>,
    objects: u64,
    empty_pages: u32,
    /// The first key of the last page that had one.
    first: Option<String>,
}

impl Listed {
    /// Goes to the next page; `Err` says why there can be none.
    fn then(mut self, reply: &ListObjectsV2Output) -> std::result::Result<Page, &'static str> {
        if reply.is_truncated() != Some(true) {
            return Ok(Page::Done);
        }
        match reply.next_continuation_token() {
            Some(next) if Some(next) != self.token.as_deref() => self.token = Some(next.to_owned()),
            _ => return Err("the server says there is more but not how to go on"),
        }
        match reply.contents().first() {
            None => self.empty_pages += 1,
            Some(object) if object.key() == self.first.as_deref() => {
                return Err("the server sends the same page again and again");
            }
            Some(object) => self.first = object.key().map(str::to_owned),
        }
        self.objects += reply.contents().len() as u64;
        if self.empty_pages > EMPTY_PAGES || self.objects > MOST_OBJECTS {
            return Err("it does not come to an end");
        }
        Ok(Page::After(self))
    }
}

/// What is uploaded, from its start again at every try.
enum Upload {
    Bytes(Bytes),
    File(NamedTempFile, u64),
}

impl Upload {
    fn new(body: Body) -> Result<Self> {
        match body {
            Body::Bytes(bytes) => Ok(Upload::Bytes(bytes)),
            Body::File(file) => match file.as_file().metadata() {
                Ok(about) => Ok(Upload::File(file, about.len())),
                Err(error) => Err(Upload::unreadable(error)),
            },
        }
    }

    fn size(&self) -> u64 {
        match self {
            Upload::Bytes(bytes) => bytes.len() as u64,
            Upload::File(_, size) => *size,
        }
    }

    async fn stream(&self) -> Result<ByteStream> {
        match self {
            Upload::Bytes(bytes) => Ok(ByteStream::from(bytes.clone())),
            Upload::File(file, size) => ByteStream::read_from()
                .path(file.path())
                .length(Length::Exact(*size))
                .buffer_size(UPLOAD_BUFFER)
                .build()
                .await
                .map_err(Upload::unreadable),
        }
    }

    fn unreadable(error: impl Into<BoxError>) -> Error {
        Error::new(Code::Disk, "cannot read the spooled part")
            .because(error)
            .hint("something cleaned the folder for temporary files; run the same command again")
    }
}

/// Signs a put with the digest that is known already, so that the SDK neither hashes the body
/// once more nor leaves it out of the signature. A server that knows no checksum headers still
/// checks this one.
#[derive(Debug)]
struct SignWith(Sha256);

#[dyn_dispatch_hint]
impl Intercept for SignWith {
    fn name(&self) -> &'static str {
        "SignWith"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.0.to_string()));
        Ok(())
    }
}

/// By how many seconds the bucket's clock is ahead of ours, from the last reply that had a date.
#[derive(Debug, Clone)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    const UNKNOWN: i64 = i64::MIN;

    fn ahead(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ahead| *ahead != Clock::UNKNOWN)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock(Arc::new(AtomicI64::new(Clock::UNKNOWN)))
    }
}

#[dyn_dispatch_hint]
impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "Clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let theirs = context.response().headers().get("date");
        let theirs = theirs.and_then(|text| DateTime::from_str(text, Format::HttpDate).ok());
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        if let (Some(theirs), Some(ours)) = (theirs, ours) {
            self.0.store(theirs.secs() - ours.as_secs() as i64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What became of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It never left this machine; another try may.
    Unsent,
    /// The bucket turned it away for now.
    Refused,
    /// It may have taken effect or not; another try may tell.
    Unclear,
    /// A condition did not hold: on a put, the object exists.
    Taken,
    /// There is no such object.
    Missing,
    /// It had no effect, and trying again would not change that.
    Final,
}

struct Failure {
    fate: Fate,
    error: Error,
}

impl Failure {
    fn new(fate: Fate, code: Code, message: String, hint: impl Into<String>) -> Self {
        Failure { fate, error: Error::new(code, message).hint(hint) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, printable(&self.prefix))
    }
}

impl Place {
    /// The object's key in the bucket.
    fn key(&self, key: &str) -> Result<String> {
        check_key(key)?;
        let whole = format!("{}/{key}", self.prefix);
        if whole.len() > super::MAX_KEY_BYTES {
            let message = format!("the key of {} in {self} is longer than S3 allows", printable(key));
            return Err(Error::new(Code::Address, message).hint("give the snapshot a shorter prefix"));
        }
        Ok(whole)
    }

    fn owner(&self) -> Option<String> {
        self.settings.owner.clone()
    }

    fn payer(&self) -> Option<RequestPayer> {
        self.settings.requester_pays.then_some(RequestPayer::Requester)
    }

    fn versions(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // Nothing that holds it can panic.
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server that copies between its buckets.
    fn server(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| "AWS".to_owned())
    }

    /// Waits before another try: exponential, with half of it at random so that many workers
    /// that failed together do not come back together.
    async fn pause(&self, failures: u32) {
        let doublings = failures.saturating_sub(1).min(16);
        let full = self.retry.initial_backoff().saturating_mul(1 << doublings).min(self.retry.max_backoff());
        let share = f64::from(uuid::Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX);
        tokio::time::sleep(full.mul_f64(0.5 + share / 2.0)).await;
    }

    // Puts.

    async fn put_new(self: &Arc<Self>, key: &str, upload: Upload, sha256: Sha256) -> Result<Put> {
        let whole = self.key(key)?;
        // Whether an earlier try may have reached the bucket, and whether one may have stayed.
        let (mut arrived, mut unclear) = (false, false);
        let mut tries = 0;
        let failure = loop {
            tries += 1;
            let failure = match self.put_once(key, &whole, &upload, sha256).await? {
                None => return Ok(Put::Created),
                Some(failure) => failure,
            };
            match failure.fate {
                Fate::Taken if !arrived => return Ok(Put::Exists),
                Fate::Unsent => {}
                Fate::Refused => arrived = true,
                Fate::Unclear => (arrived, unclear) = (true, true),
                Fate::Taken => {
                    unclear = true;
                    break failure;
                }
                Fate::Missing | Fate::Final => break failure,
            }
            if tries >= self.retry.max_attempts() {
                break failure;
            }
            tracing::debug!(key, tries, error = %failure.error, "trying a put again");
            self.pause(tries).await;
        };
        if !unclear {
            return Err(failure.error);
        }
        match self.holds(key, upload.size(), sha256).await {
            Ok(Some(true)) => Ok(Put::Created),
            Ok(Some(false)) => Ok(Put::Exists),
            Ok(None) => Err(failure.error),
            Err(unread) => {
                let message =
                    format!("{}; reading it back to settle that failed too: {unread}", failure.error);
                Err(Error::new(ErrorKind::OutcomeUnknown, message).hint(
                    "nothing was deleted; run the same command again, it finds out what is there and goes on",
                ))
            }
        }
    }

    /// Puts the empty object that stands for the prefix as a folder, twice. Consoles make such
    /// objects, all of them are alike, and readers of snapshots ignore them.
    async fn keeps_existing(self: &Arc<Self>) -> Result<bool> {
        let folder = format!("{}/", self.prefix);
        let empty = Upload::Bytes(Bytes::new());
        for _ in 0..2 {
            let mut tries = 0;
            loop {
                tries += 1;
                let Some(failure) = self.put_once("", &folder, &empty, Sha256::of(b"")).await? else { break };
                match failure.fate {
                    Fate::Taken => return Ok(true),
                    Fate::Unsent | Fate::Refused | Fate::Unclear if tries < self.retry.max_attempts() => {
                        self.pause(tries).await;
                    }
                    _ => return Err(failure.error),
                }
            }
        }
        Ok(false)
    }

    /// One try. `None` says that the object is stored; an outer error, that there was nothing to try.
    async fn put_once(
        &self,
        key: &str,
        whole: &str,
        upload: &Upload,
        sha256: Sha256,
    ) -> Result<Option<Failure>> {
        // Before every try: while an earlier one was made to wait, another export may have come.
        if self.ignores_conditions.load(Ordering::Relaxed) && self.head(key).await?.is_some() {
            let what = format!("cannot put {} in {self}: it is there already", printable(key));
            let hint = "something else wrote this object; use another prefix";
            return Ok(Some(Failure::new(Fate::Taken, Code::PrefixTaken, what, hint)));
        }
        let size = upload.size();
        let patience = self.patience + Duration::from_secs(size / SLOWEST_UPLOAD);
        let patience = TimeoutConfig::builder().operation_attempt_timeout(patience).build();
        let (lock, kms_key) = (self.settings.lock, self.settings.kms_key.clone());
        let sent = self
            .once
            .put_object()
            .bucket(&self.bucket)
            .key(whole)
            .if_none_match("*")
            // With the value given, naming the algorithm adds a header that some servers want to
            // see before they keep the value, and nothing else.
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(sha256.to_base64())
            .content_length(i64::try_from(size).unwrap_or(i64::MAX))
            .set_object_lock_mode(lock.map(|lock| match lock.mode {
                LockMode::Governance => ObjectLockMode::Governance,
                LockMode::Compliance => ObjectLockMode::Compliance,
            }))
            .set_object_lock_retain_until_date(lock.map(|lock| DateTime::from(lock.until)))
            .set_server_side_encryption(kms_key.as_ref().map(|_| ServerSideEncryption::AwsKms))
            .set_ssekms_key_id(kms_key)
            .set_expected_bucket_owner(self.owner())
            .set_request_payer(self.payer())
            .body(upload.stream().await?)
            .customize()
            .config_override(aws_sdk_s3::config::Builder::new().timeout_config(patience))
            .interceptor(SignWith(sha256))
            .send()
            .await;
        match sent {
            Ok(stored) => {
                self.seen.store(true, Ordering::Relaxed);
                if let Some(version) = stored.version_id() {
                    self.versions().insert(key.to_owned(), version.to_owned());
                }
                Ok(None)
            }
            Err(error) => Ok(Some(self.judge_put(key, &error))),
        }
    }

    fn judge_put(&self, key: &str, error: &SdkError<PutObjectError>) -> Failure {
        let name = if key.is_empty() { "an empty object".to_owned() } else { printable(key) };
        let locks = self.settings.lock.is_some();
        let needs = if locks { "s3:PutObject and s3:PutObjectRetention" } else { "s3:PutObject" };
        let mut failure = self.judge(format!("cannot put {name} in {self}"), needs, error);
        // "Bucket is missing Object Lock Configuration" (AWS), "... ObjectLockConfiguration" (others).
        let said = error.message().unwrap_or_default().to_ascii_lowercase().replace(' ', "");
        if locks && error.code() == Some("InvalidRequest") && said.contains("objectlock") {
            return Failure::new(
                Fate::Final,
                Code::BucketCannot,
                failure.error.message(),
                "the bucket has no object lock: have it switched on there (it needs versioning), use a bucket that was made \
                 with it, or leave out `--object-lock` and `--retain-until`",
            );
        }
        let status = error.raw_response().map(|reply| reply.status().as_u16());
        if status == Some(501) {
            failure.error = Error::new(Code::BucketCannot, failure.error.message()).hint(
                "this server does not take create-only puts (`If-None-Match: *`) with a SHA-256, which \
                 protect snapshots from being overwritten; use a bucket on a server that does",
            );
        }
        failure
    }

    /// Whether the object's bytes are the ones with this size and digest; `None` if there is none.
    async fn holds(self: &Arc<Self>, key: &str, size: u64, sha256: Sha256) -> Result<Option<bool>> {
        if size > READ_BACK {
            match self.head(key).await? {
                None => return Ok(None),
                Some(head) if head.size != size => return Ok(Some(false)),
                Some(Head { sha256: Some(theirs), .. }) if theirs == sha256 => return Ok(Some(true)),
                // Some buckets return digests that are wrong, so only the bytes can say no.
                Some(_) => {}
            }
        }
        let Some(mut download) = Download::open(self, key).await? else { return Ok(None) };
        if download.size.is_some_and(|theirs| theirs != size) {
            return Ok(Some(false));
        }
        let mut hasher = Hasher::default();
        let mut read = 0;
        while let Some(chunk) = download.next().await? {
            read += chunk.len() as u64;
            if read > size {
                return Ok(Some(false));
            }
            hasher.update(&chunk);
        }
        Ok(Some(hasher.finish() == sha256))
    }

    // Reads.

    /// Asks for an object, or for what follows its first `from` bytes if it is still the one
    /// with `etag`.
    async fn fetch(
        &self,
        key: &str,
        range: Option<String>,
        etag: Option<&str>,
    ) -> Result<std::result::Result<GetObjectOutput, Failure>> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.key(key)?);
        let request = request.set_expected_bucket_owner(self.owner()).set_request_payer(self.payer());
        let reply = request.set_range(range).set_if_match(etag.map(str::to_owned)).send().await;
        Ok(match reply {
            Ok(object) => {
                self.seen.store(true, Ordering::Relaxed);
                Ok(object)
            }
            Err(error) => {
                let what = format!("cannot read {} in {self}", printable(key));
                let failure = self.judge(what, "s3:GetObject and s3:ListBucket", &error);
                if failure.fate == Fate::Missing {
                    self.seen.store(true, Ordering::Relaxed);
                }
                Err(failure)
            }
        })
    }

    async fn head(&self, key: &str) -> Result<Option<Head>> {
        let request = self.client.head_object().bucket(&self.bucket).key(self.key(key)?);
        let request = request.set_expected_bucket_owner(self.owner()).set_request_payer(self.payer());
        let reply = match request.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(reply) => reply,
            Err(error) => {
                let what = format!("cannot read {} in {self}", printable(key));
                let failure = self.judge(what, "s3:GetObject and s3:ListBucket", &error);
                if failure.fate == Fate::Missing && self.seen.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                if error.as_service_error().is_none() || matches!(failure.fate, Fate::Refused | Fate::Unclear)
                {
                    return Err(failure.error);
                }
                // A HEAD reply has no body and so no reason: a bucket that does not exist looks
                // like an object that does not. One byte by GET brings the reason.
                return match self.fetch(key, Some("bytes=0-0".to_owned()), None).await? {
                    Ok(_) => Err(failure.error),
                    Err(told) if told.fate == Fate::Missing => Ok(None),
                    Err(told) => Err(told.error),
                };
            }
        };
        self.seen.store(true, Ordering::Relaxed);
        let Some(size) = reply.content_length().and_then(|size| u64::try_from(size).ok()) else {
            let message = format!("{self} does not tell the size of {}", printable(key));
            return Err(Error::new(Code::BucketCannot, message).hint("use a bucket on a server that does"));
        };
        // A composite digest is one over the digests of an upload's pieces, not over its bytes.
        let whole = reply.checksum_type() != Some(&ChecksumType::Composite);
        let sha256 = reply.checksum_sha256().filter(|_| whole).and_then(Sha256::from_base64);
        Ok(Some(Head { size, sha256 }))
    }

    /// [`Store::above`]: one HEAD for every name in every prefix above, without the bucket's root,
    /// where no snapshot can be.
    async fn above(&self, names: &[&'static str]) -> Result<Option<(String, &'static str)>> {
        let prefixes = self.prefix.rmatch_indices('/').map(|(end, _)| &self.prefix[..end]);
        let asked = prefixes.flat_map(|prefix| names.iter().map(move |name| (prefix, *name)));
        // All are made before the first is sent: a stream that borrows from a closure is not `Send`.
        let asked: Vec<_> = asked.map(|(prefix, name)| self.is_above(prefix, name)).collect();
        let mut asked = stream::iter(asked).buffered(ABOVE_AT_ONCE);
        while let Some(found) = asked.next().await {
            if let Some(found) = found? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn is_above(&self, prefix: &str, name: &'static str) -> Result<Option<(String, &'static str)>> {
        let request = self.client.head_object().bucket(&self.bucket).key(format!("{prefix}/{name}"));
        let request = request.set_expected_bucket_owner(self.owner()).set_request_payer(self.payer());
        let place = format!("s3://{}/{}", self.bucket, printable(prefix));
        match request.send().await {
            Ok(_) => Ok(Some((place, name))),
            Err(error) => {
                let what = format!("cannot see whether {place} is a snapshot");
                // Nothing is there, or this may not be asked: whoever may only write, or only below this
                // prefix, need not see what is above. A refusal of another sort (a reply to HEAD does not
                // say why) meets the requests of the export itself, which are told the reason.
                let status = error.raw_response().map(|reply| reply.status().as_u16());
                if error.as_service_error().is_some()
                    && status.is_some_and(|status| (400..500).contains(&status))
                {
                    return Ok(None);
                }
                Err(self.judge(what, "s3:GetObject", &error).error)
            }
        }
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let request = self.client.delete_object().bucket(&self.bucket).key(self.key(key)?);
        let request = request.set_expected_bucket_owner(self.owner()).set_request_payer(self.payer());
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let what = format!("cannot remove {} in {self}", printable(key));
                let failure = self.judge(what, "s3:DeleteObject", &error);
                if failure.fate == Fate::Missing { Ok(()) } else { Err(failure.error) }
            }
        }
    }

    /// Any refusal is for the caller to get around: it has the same from sending the object itself,
    /// or that works.
    async fn copy_from(&self, source: &CopySource, key: &str) -> Result<bool> {
        if self.own_credentials || source.server != self.server() {
            return Ok(false);
        }
        let from = utf8_percent_encode(&source.key, COPY_SOURCE_ESCAPES);
        let request = self.client.copy_object().bucket(&self.bucket).key(self.key(key)?);
        let reply = request.copy_source(format!("{}/{from}", source.bucket)).send().await;
        if let Err(error) = &reply {
            let what = format!("cannot copy to {} in {self}", printable(key));
            let failure = self.judge(what, "s3:GetObject and s3:PutObject", error);
            tracing::debug!(key, error = %failure.error, "sending the object instead");
        }
        Ok(reply.is_ok())
    }

    #[allow(clippy::type_complexity)] // taken apart at once
    async fn list_page(&self, page: Page) -> Result<Option<(Vec<Result<Entry>>, Page)>> {
        let below = format!("{}/", self.prefix);
        let so_far = match page {
            Page::Done => return Ok(None),
            Page::First => Listed::default(),
            Page::After(so_far) => so_far,
        };
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&below);
        let request = request.set_expected_bucket_owner(self.owner()).set_request_payer(self.payer());
        let reply = request.set_continuation_token(so_far.token.clone()).send().await;
        let reply = reply.map_err(|error| {
            let what = format!("cannot list {self}");
            self.judge(what, "s3:ListBucket", &error).error
        })?;
        self.seen.store(true, Ordering::Relaxed);
        let next = so_far.then(&reply).map_err(|why| {
            Error::new(Code::BucketCannot, format!("cannot list {self}: {why}"))
                .hint("use a bucket on a server that lists all")
        })?;
        let entries = reply.contents().iter().filter_map(|object| self.entry(&below, object).transpose());
        Ok(Some((entries.collect(), next)))
    }

    fn entry(&self, below: &str, object: &Object) -> Result<Option<Entry>> {
        let strange = |problem: String| {
            Error::new(ErrorKind::Integrity, format!("listing {self}: {problem}"))
                .hint("something else writes here, or the server is broken; do not trust this snapshot")
        };
        let whole = object.key().unwrap_or_default();
        let size = object.size().and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| strange(format!("no size for {}", printable(whole))))?;
        let Some(key) = whole.strip_prefix(below) else {
            return Err(strange(format!("it returned {}, which is outside", printable(whole))));
        };
        // Consoles make such empty objects to show folders. They hold nothing.
        if size == 0 && whole.ends_with('/') {
            return Ok(None);
        }
        check_key(key).map_err(|error| error.context(format!("listing {self}")))?;
        Ok(Some(Entry { key: key.to_owned(), size }))
    }

    // Failures.

    /// Says what a failed request means. `what` fits before a colon; `needs` names the permission.
    fn judge<E>(&self, what: String, needs: &str, error: &SdkError<E>) -> Failure
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        if let Some(reply) = error.raw_response()
            && error.as_service_error().is_some()
        {
            let region = reply.headers().get("x-amz-bucket-region").map(str::to_owned);
            return self.judge_reply(what, needs, reply.status().as_u16(), region, error);
        }
        let server = self.endpoint.clone().unwrap_or_else(|| format!("S3 in {}", self.region));
        let root = printable(&root_cause(error));
        let again = "check the network and AWS_ENDPOINT_URL_S3, then run the same command again";
        if let Some(credentials) = find::<CredentialsError>(error) {
            // The last place that is asked; a machine that is not in a cloud may answer as it likes.
            let machine = match find::<ImdsError>(credentials) {
                Some(ImdsError::ErrorResponse(reply)) => {
                    Some(format!("HTTP status {}", reply.response().status()))
                }
                Some(_) => Some(root.clone()),
                None => None,
            };
            let missing = matches!(credentials, CredentialsError::CredentialsNotLoaded(_));
            let error = match (missing, machine) {
                (true, None) => credentials::missing(&what, self.profile.as_ref()),
                (_, Some(reply)) => credentials::machine_gives_none(&what, &reply),
                (false, None) => credentials::not_loaded(&what, self.profile.as_ref(), &root),
            };
            return Failure { fate: Fate::Final, error };
        }
        match error {
            SdkError::DispatchFailure(_)
                if find::<hyper_util::client::legacy::Error>(error).is_some_and(|e| e.is_connect()) =>
            {
                if chain(error).any(is_tls) {
                    let message = format!("{what}: no trusted TLS connection to {server}: {root}");
                    let hint = "check that the endpoint speaks https; \
                                for a private certificate authority set SSL_CERT_FILE";
                    return Failure::new(Fate::Final, Code::Tls, message, hint);
                }
                Failure::new(
                    Fate::Unsent,
                    Code::Unreachable,
                    format!("{what}: cannot connect to {server}: {root}"),
                    again,
                )
            }
            SdkError::DispatchFailure(_) => {
                let message = format!("{what}: the connection to {server} failed: {root}");
                Failure::new(Fate::Unclear, Code::Unreachable, message, again)
            }
            SdkError::TimeoutError(_) => {
                let message = format!("{what}: {server} did not answer in time");
                Failure::new(Fate::Unclear, Code::Unreachable, message, again)
            }
            SdkError::ResponseError(_) => {
                let message = format!("{what}: {server} sent an answer that is not S3's: {root}");
                Failure::new(Fate::Unclear, Code::Unreachable, message, again)
            }
            _ => {
                let error = Error::internal(format!("{what}: the request could not be made: {root}"));
                Failure { fate: Fate::Final, error }
            }
        }
    }

    fn judge_reply<E: ProvideErrorMetadata>(
        &self,
        what: String,
        needs: &str,
        status: u16,
        region: Option<String>,
        error: &SdkError<E>,
    ) -> Failure {
        let code = error.code().unwrap_or_default();
        let text = error.message().unwrap_or_default();
        let mut said = if code.is_empty() { format!("HTTP status {status}") } else { code.to_owned() };
        if !text.is_empty() {
            said = format!("{said}: {text}");
        }
        // A server may say as much as it likes; a line or two of it will do.
        said = said.chars().take(300).collect();
        if let Some(id) = error.request_id() {
            said = format!("{said} (request {})", id.chars().take(100).collect::<String>());
        }
        let message = format!("{what}: {}", printable(&said));
        let failure = |fate, kind, hint: &str| Failure::new(fate, kind, message.clone(), hint);
        let again = "run the same command again";
        use Code::*;
        match (code, status) {
            ("PreconditionFailed", _) | (_, 412) => {
                failure(Fate::Taken, PrefixTaken, "something else wrote this object; use another prefix")
            }
            ("NoSuchBucket", _) => failure(
                Fate::Final,
                NoBucket,
                &format!("check the URL and AWS_ENDPOINT_URL_S3, or create the bucket {} first", self.bucket),
            ),
            ("NoSuchKey", _) | (_, 404) => failure(Fate::Missing, NotFound, "check the snapshot's URL"),
            ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired", _) => failure(
                Fate::Final,
                Expired,
                "the session of these AWS credentials has expired: renew AWS_SESSION_TOKEN and its keys, or log in again for \
                 AWS_PROFILE, then run the same command again: it goes on from here",
            ),
            ("RequestTimeTooSkewed", _) => {
                failure(Fate::Final, Clock, "set this machine's clock and run the same command again")
            }
            ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "InvalidSecurity", _)
            | (_, 401) => failure(
                Fate::Final,
                BucketCredentials,
                "check that AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN (or AWS_PROFILE) \
                 belong to this endpoint",
            ),
            (
                "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
                _,
            )
            | (_, 300..=399) => {
                let plain = |region: &String| region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
                let hint = match region.filter(plain) {
                    Some(region) => format!("the bucket is in another region: set AWS_REGION={region}"),
                    None => {
                        format!("the bucket seems not to be in {}: set AWS_REGION to its region", self.region)
                    }
                };
                failure(Fate::Final, Region, &hint)
            }
            ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, 403) => {
                failure(Fate::Final, BucketDenied, &format!("the credentials need {needs} on {self}/*"))
            }
            (
                "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch",
                _,
            ) => failure(
                Fate::Final,
                Integrity,
                "the bytes changed between here and the bucket; check this machine's disk and memory, \
                 then run the same command again",
            ),
            ("InvalidRequest", _) if text.to_ascii_lowercase().contains("checksum") => failure(
                Fate::Final,
                Integrity,
                "the bucket did not accept the SHA-256 of these bytes; run the command with another prefix",
            ),
            ("ConditionalRequestConflict" | "OperationAborted", _) => {
                failure(Fate::Refused, Temporary, again)
            }
            (_, 409) => failure(
                Fate::Final,
                PrefixTaken,
                "something else at this prefix is in the way; use another prefix",
            ),
            (
                "SlowDown"
                | "ServiceUnavailable"
                | "Throttling"
                | "ThrottlingException"
                | "RequestLimitExceeded",
                _,
            )
            | (_, 429 | 503) => failure(
                Fate::Refused,
                Temporary,
                "the bucket asks to slow down; run the same command again, with a lower -j",
            ),
            ("IncompleteBody" | "RequestTimeout", _) => failure(Fate::Unclear, Temporary, again),
            ("InvalidBucketName", _) => failure(Fate::Final, Address, "check the bucket's name in the URL"),
            ("NotImplemented", _) | (_, 405 | 501) => {
                failure(Fate::Final, BucketCannot, "use a bucket on a server that supports this request")
            }
            (_, 507) => {
                failure(Fate::Refused, Temporary, "make room in the bucket and run the same command again")
            }
            (_, 500..) => failure(Fate::Unclear, Temporary, again),
            _ => failure(
                Fate::Final,
                BucketCannot,
                "the server refused the request for the reason above: check the bucket's policy and settings",
            ),
        }
    }
}

/// An object on its way, resumed where it stopped when a connection breaks.
struct Download {
    place: Arc<Place>,
    key: String,
    size: Option<u64>,
    etag: Option<String>,
    read: u64,
    /// How much had been read when it last broke off.
    read_before: u64,
    failures: u32,
    body: ByteStream,
}

impl Download {
    async fn open(place: &Arc<Place>, key: &str) -> Result<Option<Self>> {
        let object = match place.fetch(key, None, None).await? {
            Ok(object) => object,
            Err(failure) if failure.fate == Fate::Missing => return Ok(None),
            Err(failure) => return Err(failure.error),
        };
        Ok(Some(Download {
            place: Arc::clone(place),
            key: key.to_owned(),
            size: object.content_length().and_then(|size| u64::try_from(size).ok()),
            etag: object.e_tag().map(str::to_owned),
            read: 0,
            read_before: 0,
            failures: 0,
            body: object.body,
        }))
    }

    /// The next bytes, `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let broke = match self.body.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) => {
                    self.read += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                None if self.size.is_none_or(|size| size == self.read) => return Ok(None),
                None => "the server ended it early".to_owned(),
                Some(Err(error)) => broken(&error),
            };
            if self.read - self.read_before >= HEADWAY {
                self.failures = 0;
            }
            self.read_before = self.read;
            self.failures += 1;
            if self.failures >= self.place.retry.max_attempts() || self.etag.is_none() {
                return Err(self.failed(ErrorKind::Temporary, &broke).hint("run the same command again"));
            }
            tracing::debug!(key = self.key, read = self.read, broke, "resuming a download");
            self.place.pause(self.failures).await;
            self.resume().await?;
        }
    }

    async fn resume(&mut self) -> Result<()> {
        let range = (self.read > 0).then(|| format!("bytes={}-", self.read));
        let changed =
            "milvus-handoff never rewrites an object; find out what did, and do not trust this snapshot";
        let object = match self.place.fetch(&self.key, range, self.etag.as_deref()).await? {
            Ok(object) => object,
            Err(Failure { fate: Fate::Taken | Fate::Missing, .. }) => {
                return Err(self.failed(ErrorKind::Integrity, "it was replaced meanwhile").hint(changed));
            }
            Err(failure) => return Err(failure.error),
        };
        let expected = format!("bytes {}-", self.read);
        if self.read > 0 && !object.content_range().is_some_and(|range| range.starts_with(&expected)) {
            let error =
                self.failed(ErrorKind::Temporary, "the connection broke and the server cannot resume");
            return Err(error.hint("run the same command again"));
        }
        self.body = object.body;
        Ok(())
    }

    fn failed(&self, kind: ErrorKind, why: &str) -> Error {
        let message = format!(
            "cannot read {} in {} after {} bytes: {why}",
            printable(&self.key),
            self.place,
            self.read
        );
        Error::new(kind, message)
    }
}

fn broken(error: &ByteStreamError) -> String {
    printable(&root_cause(error))
}

/// `error` and what caused it, outermost first. Goes into what an [`io::Error`] carries, which
/// `source` steps over.
fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    iter::successors(Some(error), |error| match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
        None => error.source(),
    })
}

fn find<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The innermost cause. The layers of the SDK above it only say that something failed.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// TLS failures come as invalid data: a certificate that nobody vouches for, or no TLS at all.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

fn http_client() -> SharedHttpClient {
    let ring = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    aws_smithy_http_client::Builder::new().tls_provider(ring).build_https()
}

/// The tries that the environment asks for. The SDK would panic on a value that it cannot read.
fn max_attempts() -> Result<u32> {
    let Some(text) = std::env::var_os("AWS_MAX_ATTEMPTS") else { return Ok(ATTEMPTS) };
    match text.to_str().and_then(|text| text.trim().parse().ok()) {
        Some(attempts) if attempts > 0 => Ok(attempts),
        _ => Err(Error::new(ErrorKind::Usage, "AWS_MAX_ATTEMPTS is not a number above 0")
            .hint(format!("unset it, or set it to a number such as {ATTEMPTS}"))),
    }
}

/// The endpoint that the settings name, by the SDK's own rules: for S3 alone, then for all.
fn endpoint_of(config: &SdkConfig) -> Result<Option<String>> {
    let key =
        ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let key = key.map_err(|error| Error::internal("the name of a setting is incomplete").because(error))?;
    let own = match config.service_config() {
        Some(settings) if !config.get_origin("endpoint_url").is_client_config() => settings.load_config(key),
        _ => None,
    };
    let Some(endpoint) = own.or_else(|| config.endpoint_url().map(str::to_owned)) else { return Ok(None) };
    let fine = ::url::Url::parse(&endpoint).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
    });
    if fine {
        return Ok(Some(endpoint));
    }
    // The value is not repeated: a user and password may be in it.
    Err(Error::new(Code::Address, "the S3 endpoint is not a URL of the form http(s)://host[:port]")
        .hint("correct AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, or endpoint_url in the AWS profile"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(config: aws_config::SdkConfig) -> Result<S3> {
        S3::with_config("bucket", "some/prefix", &config, &Settings::default())
    }

    #[test]
    fn a_region_or_an_endpoint_is_needed() {
        let error = open(SdkConfig::builder().build()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.hint_text().unwrap().contains("AWS_REGION"));
        let there = open(SdkConfig::builder().endpoint_url("http://127.0.0.1:9").build()).unwrap();
        assert_eq!(there.0.region, "us-east-1");
        let here = open(SdkConfig::builder().region(Region::from_static("eu-west-1")).build()).unwrap();
        assert_eq!((here.0.region.as_str(), &here.0.endpoint), ("eu-west-1", &None));
    }

    #[test]
    fn services_elsewhere_know_the_public_clouds() {
        let url = |endpoint: Option<&str>| {
            let mut config = SdkConfig::builder().region(Region::from_static("eu-west-1"));
            config.set_endpoint_url(endpoint.map(str::to_string));
            open(config.build()).unwrap().url_elsewhere()
        };
        assert_eq!(url(None).unwrap(), "s3://bucket/some/prefix");
        assert_eq!(url(Some("https://s3.eu-west-1.amazonaws.com")).unwrap(), "s3://bucket/some/prefix");
        assert_eq!(url(Some("https://storage.googleapis.com")).unwrap(), "gs://bucket/some/prefix");
        for own in ["http://127.0.0.1:9", "https://minio.example.com", "https://notamazonaws.com"] {
            assert_eq!(url(Some(own)).unwrap_err().code(), Code::Address, "{own}");
        }
    }

    #[test]
    fn a_bad_endpoint_is_refused_without_repeating_it() {
        for endpoint in
            ["127.0.0.1:9000", "ftp://host", "https://user:secret@host", "http://", "http://host?key=secret"]
        {
            let error = open(SdkConfig::builder().endpoint_url(endpoint).build()).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Usage, "{endpoint}");
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn keys_are_bounded_with_their_prefix() {
        let store = open(SdkConfig::builder().endpoint_url("http://127.0.0.1:9").build()).unwrap();
        assert_eq!(store.0.key("units/u1.json").unwrap(), "some/prefix/units/u1.json");
        assert_eq!(store.0.key(&"x".repeat(1012)).unwrap().len(), 1024);
        assert_eq!(store.0.key(&"x".repeat(1013)).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(store.0.key("../x").unwrap_err().kind(), ErrorKind::Integrity);
    }

    #[test]
    fn causes_inside_io_errors_are_found() {
        let inner = io::Error::new(io::ErrorKind::InvalidData, "bad certificate");
        let outer = io::Error::other(inner);
        assert!(chain(&outer).any(is_tls));
        assert_eq!(root_cause(&outer), "bad certificate");
    }
}
