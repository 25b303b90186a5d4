//! What replies of a bucket may be, before the SDK reads them.
//!
//! The SDK reads all replies but the bodies of objects into memory, however long they are, and its
//! XML reader takes the end of the bytes for the end of the document. A bucket must not be able to
//! take all memory, and a listing that was cut must not pass for a short one.

use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A page of a listing has at most a thousand keys of a kilobyte, each byte of which may be escaped
/// as six; all other replies are much smaller.
const MOST_BYTES: u64 = 16 << 20;

/// How every listing ends, whatever its namespace is called. White space may follow.
const END_OF_LISTING: &[u8] = b"ListBucketResult>";

/// Bounds replies, and holds listings to their end.
#[derive(Debug)]
pub(super) struct Replies;

#[dyn_dispatch_hint]
impl Intercept for Replies {
    fn name(&self) -> &'static str {
        "Replies"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map(Metadata::name).unwrap_or_default();
        let reply = context.response_mut();
        let success = reply.status().is_success();
        // An object's bytes are handed on as they come.
        if operation == "GetObject" && success {
            return Ok(());
        }
        let end = (operation == "ListObjectsV2" && success).then_some(END_OF_LISTING);
        let body = std::mem::replace(reply.body_mut(), SdkBody::taken());
        *reply.body_mut() = SdkBody::from_body_1_x(Bounded { body, left: MOST_BYTES, end, tail: Vec::new() });
        Ok(())
    }
}

/// A body of which only so much is read, and which must end as it should.
struct Bounded {
    body: SdkBody,
    left: u64,
    end: Option<&'static [u8]>,
    /// The last bytes, as many as `end` has, without white space behind them.
    tail: Vec<u8>,
}

impl Bounded {
    fn pass(&mut self, data: &Bytes) -> Result<(), BoxError> {
        let Some(left) = self.left.checked_sub(data.len() as u64) else {
            return Err(format!("it is longer than {} MiB", MOST_BYTES >> 20).into());
        };
        self.left = left;
        if let Some(end) = self.end {
            let trimmed = data.trim_ascii_end();
            self.tail.extend_from_slice(&trimmed[trimmed.len().saturating_sub(end.len())..]);
            self.tail.drain(..self.tail.len().saturating_sub(end.len()));
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.end.is_none_or(|end| self.tail == end)
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let passed = frame.data_ref().map_or(Ok(()), |data| self.pass(data));
                Some(passed.map(|()| frame))
            }
            None if !self.is_whole() => {
                self.end = None; // Said once.
                Some(Err("it is a listing without an end".into()))
            }
            other => other,
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};

    async fn read(end: Option<&'static [u8]>, chunks: &[&'static [u8]]) -> Result<usize, BoxError> {
        let frames: Vec<Result<_, BoxError>> =
            chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk)))).collect();
        let body = SdkBody::from_body_1_x(StreamBody::new(futures::stream::iter(frames)));
        let bounded = Bounded { body, left: 30, end, tail: Vec::new() };
        bounded.collect().await.map(|all| all.to_bytes().len())
    }

    #[tokio::test]
    async fn replies_are_bounded_and_listings_end() {
        let end = Some(&b"Result>"[..]);
        assert_eq!(read(None, &[b"0123456789", b"0123456789", b"0123456789"]).await.unwrap(), 30);
        assert!(read(None, &[b"0123456789", b"0123456789", b"0123456789", b"0"]).await.is_err());
        assert_eq!(read(end, &[b"<Result>", b"</Res", b"ult>", b"\n"]).await.unwrap(), 18);
        for cut in ["", "<Result><a>", "</Result", "</Result>x"] {
            assert!(read(end, &[cut.as_bytes()]).await.is_err(), "{cut:?}");
        }
    }
}
