//! Zilliz Cloud as what reads the snapshot: by URLs into its bucket, or by paths in a volume.
//!
//! Owns: what the service calls a part, and with whose key it reads it. Does not own: requests
//! (`milvus`), or the jobs (`bulk`).

use crate::error::{Code, Error, Result};
use crate::milvus::{BucketKey, CloudEndpoint, Deployment, Endpoint};
use crate::snapshot::Part;
use crate::store::{self, Store};
use std::time::Duration;

/// The service, and how it reads.
#[derive(Debug, Clone)]
pub struct Service {
    /// Where it is, and which cluster is meant.
    pub endpoint: CloudEndpoint,
    /// From where it reads.
    pub reads: Reads,
}

/// From where the service reads.
#[derive(Debug, Clone)]
pub enum Reads {
    /// From a bucket.
    Objects {
        /// The snapshot as the service reaches it; `None`: by the snapshot's own URL.
        url: Option<String>,
        /// The key that the service is given.
        key: Key,
    },
    /// From a volume of its own, which has the snapshot in this folder (empty: at its root).
    Volume {
        /// Without a slash at either end.
        folder: String,
    },
}

impl Service {
    /// Refuses another cluster than the target, where the target's name tells which it is: the service
    /// would load the rows there, into a collection of that name that may be somebody's.
    pub fn is_of(&self, target: &Endpoint) -> Result<()> {
        let Deployment::Cluster(cluster) = &self.endpoint.deployment else { return Ok(()) };
        let host = target.address.split_once("://").map_or(&*target.address, |(_, host)| host);
        let first = host.split(['.', ':', '/']).next().unwrap_or_default();
        let like_an_id = first.starts_with("in")
            && first
                .as_bytes()
                .get(2..5)
                .is_some_and(|b| b[0].is_ascii_digit() && b[1].is_ascii_digit() && b[2] == b'-');
        let same = first == cluster || first.starts_with(&format!("{cluster}-"));
        if !like_an_id || same {
            return Ok(());
        }
        let what = format!("--cloud-cluster {cluster} is not the cluster of --target, which is {first}");
        Err(Error::new(Code::Usage, what)
            .hint("name the cluster of `--target`: the service loads the rows into the one that is named"))
    }

    /// What people should know of the way by which it reads.
    pub fn warning(&self) -> Option<String> {
        let elsewhere = match &self.reads {
            Reads::Objects { url: None, .. } => return None,
            Reads::Objects { url: Some(url), .. } => url.clone(),
            Reads::Volume { .. } => format!("volume {}", self.endpoint.volume.as_deref().unwrap_or_default()),
        };
        Some(format!(
            "the service reads the parts from {elsewhere}; that they are those of the snapshot is not proven by digests \
             there, but by counts now and by `compare --level full` afterwards"
        ))
    }
}

/// The key of a bucket that a service is given.
#[derive(Debug, Clone)]
pub enum Key {
    /// That by which this process reaches the snapshot, as it is at each request.
    OfThisProcess,
    /// This one.
    Given(BucketKey),
}

/// What the service calls the parts.
pub struct Files {
    prefix: String,
    key: Option<Key>,
    settle: Duration,
}

impl Files {
    /// How `service` finds the snapshot in `store`.
    pub fn of(service: &Service, store: &dyn Store) -> Result<Self> {
        let folder = |folder: &str| match folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        let (prefix, key) = match &service.reads {
            Reads::Objects { url: Some(url), key } => (folder(url), Some(key.clone())),
            Reads::Objects { url: None, key } => {
                let url = store.url_elsewhere().map_err(|e| {
                    e.hint("give a snapshot in a bucket that the service can reach, or name the way there: `--cloud-objects URL`, or `--cloud-volume`")
                })?;
                (folder(&url), Some(key.clone()))
            }
            Reads::Volume { folder: name } => (folder(name), None),
        };
        Ok(Files { prefix, key, settle: service.endpoint.settle })
    }

    /// How long a request whose reply was lost may still be on its way.
    pub fn settle(&self) -> Duration {
        self.settle
    }

    /// What the service calls a part. Keys have percent signs, which are themselves in s3:// and gs://
    /// URLs and in paths of volumes.
    pub fn name(&self, part: &Part) -> String {
        match self.prefix.starts_with("https://") {
            true => format!("{}{}", self.prefix, part.key.replace('%', "%25")),
            false => format!("{}{}", self.prefix, part.key),
        }
    }

    /// What a request for a job has to hand over.
    pub async fn key(&self) -> Result<Option<BucketKey>> {
        match &self.key {
            None => Ok(None),
            Some(Key::Given(key)) => Ok(Some(key.clone())),
            Some(Key::OfThisProcess) => {
                let store::Keys { id, secret, token } = store::own_keys().await?;
                Ok(Some(BucketKey { id, secret, token }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::milvus::{Tls, Token};

    #[test]
    fn only_the_cluster_of_the_target_is_loaded_into() {
        let service = |deployment| Service {
            endpoint: CloudEndpoint::parse("https://x.y", Token::new("key"), deployment, None).unwrap(),
            reads: Reads::Volume { folder: String::new() },
        };
        let one = service(Deployment::Cluster("in01-0123".into()));
        let target = |address: &str| Endpoint::parse(address, None, Tls::default()).unwrap();
        for fits in [
            "https://in01-0123.aws-us-west-2.vectordb.zillizcloud.com:19530",
            "https://in01-0123-privatelink.aws-us-west-2.vectordb.zillizcloud.com:19530",
            "https://milvus.example.com:19530",
            "http://127.0.0.1:19530",
        ] {
            one.is_of(&target(fits)).unwrap();
        }
        let other = target("https://in01-01234.aws-us-west-2.vectordb.zillizcloud.com:19530");
        let error = one.is_of(&other).unwrap_err();
        assert!(error.to_string().contains("in01-01234"), "{error}");
        let project = Deployment::Project { project: "p".into(), region: "r".into() };
        service(project).is_of(&other).unwrap();
    }
}
