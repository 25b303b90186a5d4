//! Reaching a server: address, credentials, TLS, and who it says it is.

use super::call::{Failure, Patience, Repeat};
use super::pace::Pace;
use crate::error::{Code, Context, Error, Result};
use milvus::proto::common::ClientInfo;
use milvus::proto::milvus as api;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

/// How long a TCP and TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP/2 receive windows: a page of rows should not wait for window updates.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// A secret: `user:password` or an API key. Never printed.
#[derive(Clone)]
pub struct Token {
    secret: String,
    /// Where it was given, such as the name of a variable.
    given: Option<String>,
}

impl Token {
    /// Takes the text as it is, without surrounding white space.
    pub fn new(text: &str) -> Self {
        Token { secret: text.trim().to_string(), given: None }
    }

    /// Says where it was given, for messages.
    pub fn given_in(self, place: impl Into<String>) -> Self {
        Token { given: Some(place.into()), ..self }
    }

    pub(super) fn expose(&self) -> &str {
        &self.secret
    }

    /// As messages call it.
    fn named(&self) -> String {
        self.given.as_ref().map_or_else(|| "the token".into(), |place| format!("the token in {place}"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Which of the two servers one is, as the command line calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Side {
    /// The one that is read.
    Source,
    /// The one that is written to, or compared with.
    #[default]
    Target,
}

impl Side {
    /// As flags begin and messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Target => "target",
        }
    }

    /// The variable that may hold its token.
    pub fn token_variable(self) -> &'static str {
        match self {
            Side::Source => "MILVUS_HANDOFF_SOURCE_TOKEN",
            Side::Target => "MILVUS_HANDOFF_TARGET_TOKEN",
        }
    }

    /// The flag that may name a file with its token.
    pub fn token_flag(self) -> &'static str {
        match self {
            Side::Source => "--source-token-file",
            Side::Target => "--target-token-file",
        }
    }
}

/// Certificates for `https://` addresses. Without a CA the system's roots are used.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM file of a certificate authority to trust.
    pub ca: Option<PathBuf>,
    /// PEM file of a client certificate.
    pub cert: Option<PathBuf>,
    /// PEM file of the client certificate's key.
    pub key: Option<PathBuf>,
}

/// Where a server is: `http://host:port` or `https://host:port`, with an optional `/database`.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Scheme, host and port.
    pub address: String,
    /// The database that unqualified names are in.
    pub database: Option<String>,
    /// Credentials.
    pub token: Option<Token>,
    /// Certificates.
    pub tls: Tls,
    /// How long it is waited for.
    pub patience: Patience,
    /// Which server it is.
    pub side: Side,
}

impl Endpoint {
    /// Parses an address as users give it. Credentials in it are refused: command lines are
    /// visible to others.
    pub fn parse(uri: &str, token: Option<Token>, tls: Tls) -> Result<Self> {
        let unusable =
            |what: &str| Error::new(Code::Address, format!("the server address is not usable: {what}"));
        let wrong = |what: &str| {
            unusable(what)
                .hint("an address is `http://host:port` or `https://host:port`, with an optional `/database`")
        };
        // What has a name and a password in it is not repeated.
        if !uri.contains("://") && !uri.contains('@') {
            return Err(wrong(&format!("{uri:?} has no scheme (`http://` or `https://`)")));
        }
        let url = url::Url::parse(uri).map_err(|e| wrong(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(&format!("the scheme {:?} is not http or https", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable("it contains credentials")
                .hint("give credentials in MILVUS_HANDOFF_SOURCE_TOKEN or MILVUS_HANDOFF_TARGET_TOKEN, or in a token file"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has a query or a fragment"));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it has no host"))?;
        let port = match (url.port(), url.scheme()) {
            (Some(port), _) => port,
            (None, "https") => 443,
            // Milvus' own port, which every client assumes.
            (None, _) => 19530,
        };
        let path = url.path().trim_matches('/');
        if path.contains('/') {
            return Err(wrong("its path is more than one database name"));
        }
        Ok(Endpoint {
            address: format!("{}://{host}:{port}", url.scheme()),
            database: (!path.is_empty()).then(|| path.to_string()),
            token,
            tls,
            patience: Patience::default(),
            side: Side::default(),
        })
    }

    /// As the server of this side.
    pub fn on(self, side: Side) -> Self {
        Endpoint { side, ..self }
    }
}

impl Endpoint {
    /// Where it listens; the host without the brackets of an IPv6 address.
    pub fn host_and_port(&self) -> (String, u16) {
        let rest = self.address.split_once("://").map_or(self.address.as_str(), |(_, rest)| rest);
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (host.to_string(), port.parse().unwrap_or_default())
    }

    /// Without waiting for a server that may come back: to find out how it is now.
    pub fn impatient(self) -> Self {
        let (reply, none) = (Duration::from_secs(15), Duration::ZERO);
        Endpoint { patience: Patience { reply, restart: none, memory: none }, ..self }
    }
}

/// Which engine a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// A Milvus server or Zilliz Cloud.
    Milvus,
    /// Milvus Lite, the embedded engine.
    Lite,
    /// It does not say.
    Unknown,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Which engine.
    pub kind: ServerKind,
    /// Its own words; empty if it says nothing.
    pub version: String,
}

impl ServerInfo {
    /// What a snapshot recorded of a server.
    pub fn recorded(kind: &str, version: &str) -> Self {
        let kinds = [ServerKind::Milvus, ServerKind::Lite];
        let kind = kinds.into_iter().find(|known| known.name() == kind).unwrap_or(ServerKind::Unknown);
        ServerInfo { kind, version: version.to_string() }
    }

    fn of(build_tag: &str, version: &str) -> Self {
        let text = if version.is_empty() { build_tag } else { version };
        // The embedded full server calls itself "v2.3.5-lite"; the other engine "milvus_lite-3.2.2".
        let kind = if text.contains("milvus_lite") || build_tag.contains("milvus_lite") {
            ServerKind::Lite
        } else if text.is_empty() {
            ServerKind::Unknown
        } else {
            ServerKind::Milvus
        };
        ServerInfo { kind, version: text.to_string() }
    }

    /// `(major, minor, patch)` where the version can be read.
    pub fn release(&self) -> Option<(u32, u32, u32)> {
        let digits = self.version.find(|c: char| c.is_ascii_digit())?;
        let mut numbers = self.version[digits..].split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().ok());
        Some((numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
    }
}

impl ServerKind {
    /// The engine's name as snapshots record it.
    pub fn name(self) -> &'static str {
        match self {
            ServerKind::Milvus => "milvus",
            ServerKind::Lite => "milvus-lite",
            ServerKind::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ServerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.version.is_empty()) {
            (_, true) => f.write_str("a server that does not say its version"),
            (ServerKind::Lite, false) => write!(f, "Milvus Lite ({})", self.version),
            (_, false) => write!(f, "Milvus {}", self.version),
        }
    }
}

/// A connection to one server. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Client {
    pub(super) channel: Channel,
    pub(super) token: Option<Token>,
    pub(super) pace: Arc<Pace>,
    pub(super) patience: Patience,
    pub(super) side: Side,
    /// Requests that must not be given up midway and are not answered yet.
    pub(super) unanswered: Arc<AtomicUsize>,
    /// What the server says of itself.
    pub info: ServerInfo,
    /// The database that unqualified names are in.
    pub database: Option<String>,
}

impl Client {
    /// Connects and asks who is there. Fails fast: an address that does not answer now is an
    /// error now.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self> {
        let doing = || format!("connecting to {}", endpoint.address);
        let mut client = Client {
            channel: channel(endpoint).context(doing)?,
            token: endpoint.token.clone(),
            pace: Arc::default(),
            patience: endpoint.patience,
            side: endpoint.side,
            unanswered: Arc::default(),
            info: ServerInfo::of("", ""),
            database: endpoint.database.clone(),
        };
        client.info = client.ask_who(endpoint.address.starts_with("https://")).await.context(doing)?;
        tracing::info!(server = %client.info, "connected to {}", endpoint.address);
        Ok(client)
    }

    /// How many requests may be on their way, while the server has asked for fewer than there are to send.
    pub fn slowed_to(&self) -> Option<usize> {
        self.pace.slowed_to()
    }

    /// What to do where the server refuses the user: it depends on whether it knows one, and which.
    pub(super) fn where_denied(&self, reason: &str) -> String {
        let side = self.side.name();
        let Some(token) = &self.token else {
            return format!(
                "no token was given for the {side}: set {} to `user:password` or to an API key, or give {} FILE",
                self.side.token_variable(),
                self.side.token_flag()
            );
        };
        let token = token.named();
        match refused_privilege(reason) {
            Some(privilege) => format!(
                "the {side} knows the user of {token}, whose roles lack the privilege {privilege}: have it granted there, or take \
                 another user"
            ),
            None => format!(
                "the {side} refuses {token}: check that it is `user:password` or an API key of this very server, and \
                 that the user has the privilege"
            ),
        }
    }

    /// `Connect` carries the build tag on Milvus; `GetVersion` is what the Lites answer, or not.
    async fn ask_who(&self, encrypted: bool) -> Result<ServerInfo> {
        let request = api::ConnectRequest {
            client_info: Some(ClientInfo {
                sdk_type: "milvus-handoff".into(),
                sdk_version: env!("CARGO_PKG_VERSION").into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let tag = match self.call::<api::ConnectResponse>("Connect", "", &request, Repeat::Never).await {
            Ok(reply) => reply.server_info.map(|info| info.build_tags).unwrap_or_default(),
            Err(error) if error.failure == Failure::Unimplemented => String::new(),
            // With TLS 1.3 a server refuses a client's certificate after the client has begun to
            // send; then the reason is often lost, and only the closed connection is seen.
            Err(error)
                if encrypted && error.failure == Failure::NoReply && error.reason.contains("closed") =>
            {
                let what = format!("the server closes encrypted connections at once: {}", error.reason);
                let side = self.side.name();
                return Err(Error::new(Code::Tls, what).hint(format!(
                    "it probably wants a client certificate, or another one: give it with `--{side}-cert` and \
                     `--{side}-key`"
                )));
            }
            Err(error) if error.reason.contains("frame with invalid size") => {
                let what = format!("what answers there does not speak as Milvus does: {}", error.reason);
                return Err(Error::new(Code::Address, what)
                    .hint("check the port: 19530 is usual, and others, such as that of a web page, are not for clients"));
            }
            Err(error) => return Err(error.into()),
        };
        let request = api::GetVersionRequest {};
        let version = match self
            .call::<api::GetVersionResponse>("GetVersion", "", &request, Repeat::Freely)
            .await
        {
            Ok(reply) => reply.version,
            Err(error) if matches!(error.failure, Failure::Unimplemented | Failure::Refused) => String::new(),
            Err(error) => return Err(error.into()),
        };
        if tag.is_empty() && version.is_empty() {
            self.check_speaks_milvus().await?;
        }
        Ok(ServerInfo::of(&tag, &version))
    }

    /// Any HTTP server may answer "not known" to both questions; a Milvus lists collections.
    async fn check_speaks_milvus(&self) -> Result<()> {
        let request = api::ShowCollectionsRequest::default();
        match self.call::<api::ShowCollectionsResponse>("ShowCollections", "", &request, Repeat::Freely).await
        {
            Err(e) if e.failure == Failure::Unimplemented => {
                Err(Error::new(Code::Address, "what answers there is not a Milvus server")
                    .hint("check the address and the port: Milvus speaks gRPC, usually on port 19530"))
            }
            _ => Ok(()),
        }
    }
}

fn channel(endpoint: &Endpoint) -> Result<Channel> {
    let unusable = |e: tonic::transport::Error| {
        let tls = &endpoint.tls;
        let files =
            [&tls.ca, &tls.cert, &tls.key].into_iter().flatten().map(|file| file.display().to_string());
        let files: Vec<_> = files.collect();
        let what = match files.as_slice() {
            [] => "the address cannot be used".to_string(),
            files => format!("the address or its certificates ({}) cannot be used", files.join(", ")),
        };
        Error::new(Code::Tls, what).because(e)
    };
    let mut builder = Channel::from_shared(endpoint.address.clone())
        .map_err(|e| Error::new(Code::Address, "the server address is not usable").because(e))?
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // Not by HTTP/2 pings: both Lites close connections that ping every few seconds. A reply
        // that never comes meets the deadline of its RPC.
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .tcp_nodelay(true);
    let (tls, side) = (&endpoint.tls, endpoint.side.name());
    if endpoint.address.starts_with("https://") {
        let mut config = ClientTlsConfig::new();
        config = match &tls.ca {
            Some(ca) => {
                config.ca_certificate(Certificate::from_pem(read_pem(side, "ca", ca, "CERTIFICATE")?))
            }
            None => config.with_native_roots(),
        };
        config = match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => config.identity(Identity::from_pem(
                read_pem(side, "cert", cert, "CERTIFICATE")?,
                read_pem(side, "key", key, "PRIVATE KEY")?,
            )),
            (None, None) => config,
            _ => {
                return Err(Error::new(
                    Code::Tls,
                    "a client certificate needs its key, and the key its certificate",
                ));
            }
        };
        builder = builder.tls_config(config).map_err(unusable)?;
    } else if tls.ca.is_some() || tls.cert.is_some() || tls.key.is_some() {
        return Err(Error::new(Code::Tls, "certificates are given, but the address is http://")
            .hint("use https:// in the address"));
    }
    Ok(builder.connect_lazy())
}

/// The privilege that a server says is missing. Milvus: "PrivilegeQuery: permission deny to USER".
pub(super) fn refused_privilege(reason: &str) -> Option<String> {
    let (before, _) = reason.split_once(": permission deny to ")?;
    let named = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next()?;
    // It is granted without the first word that it is called by inside.
    let short = named.strip_prefix("Privilege").unwrap_or(named);
    (1..=64).contains(&short.len()).then(|| short.to_string())
}

/// The file of `--SIDE-WHAT`, which holds at least one PEM `label`, such as `CERTIFICATE`.
fn read_pem(side: &str, what: &str, path: &PathBuf, label: &str) -> Result<Vec<u8>> {
    let file = format!("the file of --{side}-{what}, {}", path.display());
    let bytes = std::fs::read(path).map_err(|e| {
        Error::new(Code::Tls, format!("cannot read {file}"))
            .because(e)
            .hint("check the path and who may read it")
    })?;
    let text = String::from_utf8_lossy(&bytes);
    if text.lines().any(|line| line.starts_with("-----BEGIN") && line.contains(label)) {
        return Ok(bytes);
    }
    let what = format!("{file}, is not a PEM file with a {}", label.to_lowercase());
    Err(Error::new(Code::Tls, what).hint("give a file in PEM form, which begins with `-----BEGIN`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn parse(uri: &str) -> Result<Endpoint> {
        Endpoint::parse(uri, None, Tls::default())
    }

    #[test]
    fn addresses() {
        let plain = parse("http://localhost:19531/books").unwrap();
        assert_eq!(
            (plain.address.as_str(), plain.database.as_deref()),
            ("http://localhost:19531", Some("books"))
        );
        assert_eq!(parse("http://h").unwrap().address, "http://h:19530");
        assert_eq!(parse("https://h/").unwrap().address, "https://h:443");
        assert_eq!(parse("http://[::1]:1").unwrap().address, "http://[::1]:1");
        assert_eq!(parse("http://[::1]:1").unwrap().host_and_port(), ("::1".into(), 1));
        assert_eq!(parse("https://h").unwrap().host_and_port(), ("h".into(), 443));
        for wrong in
            ["localhost:19530", "s3://b/p", "http://u:p@h:1", "http://h:1/a/b", "http://h?x=1", "http://"]
        {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{wrong}");
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
    }

    #[test]
    fn engines_are_told_apart() {
        let full = ServerInfo::of("v2.3.5-lite", "");
        assert_eq!((full.kind, full.release()), (ServerKind::Milvus, Some((2, 3, 5))));
        let lite = ServerInfo::of("milvus_lite", "milvus_lite-3.2.2");
        assert_eq!((lite.kind, lite.release()), (ServerKind::Lite, Some((3, 2, 2))));
        let silent = ServerInfo::of("", "");
        assert_eq!((silent.kind, silent.release()), (ServerKind::Unknown, None));
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = Token::new("root:secret").given_in("a file");
        assert_eq!(
            (format!("{token:?}"), token.named()),
            ("Token(hidden)".into(), "the token in a file".into())
        );
    }

    #[tokio::test]
    async fn a_denial_says_which_side_which_token_and_which_privilege() {
        let hint = |side: Side, token: Option<Token>, reason: &str| {
            let endpoint = Endpoint::parse("http://127.0.0.1:9", token, Tls::default()).unwrap().on(side);
            let client = Client {
                channel: channel(&endpoint).unwrap(),
                token: endpoint.token.clone(),
                pace: Arc::default(),
                patience: endpoint.patience,
                side,
                unanswered: Arc::default(),
                info: ServerInfo::of("", ""),
                database: None,
            };
            client.where_denied(reason)
        };
        let unknown = "auth check failure, please check username and password are correct";
        let lacking = "PrivilegeCreateCollection: permission deny to somebody";
        let token = || Some(Token::new("somebody:secret").given_in("MILVUS_HANDOFF_SOURCE_TOKEN"));
        let none = hint(Side::Target, None, unknown);
        assert!(
            none.starts_with("no token was given for the target: set MILVUS_HANDOFF_TARGET_TOKEN"),
            "{none}"
        );
        assert!(none.ends_with("or give --target-token-file FILE"), "{none}");
        let wrong = hint(Side::Source, token(), unknown);
        assert!(
            wrong.starts_with("the source refuses the token in MILVUS_HANDOFF_SOURCE_TOKEN: "),
            "{wrong}"
        );
        let lacks = hint(Side::Source, token(), lacking);
        assert!(lacks.contains("lack the privilege CreateCollection: have it granted"), "{lacks}");
        let newer = "PrivilegeQuery: permission deny to u in the `default` database";
        assert_eq!(refused_privilege(newer).as_deref(), Some("Query"));
        for other in ["", "permission deny to u", ": permission deny to u", unknown] {
            assert_eq!(refused_privilege(other), None, "{other}");
        }
    }
}
