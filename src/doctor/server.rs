//! A server: from its name to its quotas. Stops where nothing beyond can be asked.

use super::{About, Checks};
use crate::error::{Code, Error, ErrorKind, Result};
use crate::loaded::{self, Reads};
use crate::milvus::{Client, Endpoint, Grants, Missing, ServerKind, View};
use crate::schema::CollectionName;
use crate::select::Renames;
use crate::snapshot::Manifest;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// How long a name or a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Collections that are looked at one by one.
const MAX_COLLECTIONS: usize = 200;

/// Names that are taken of which so many are listed.
const NAMED: usize = 20;

/// Before this release nothing here was tried.
const OLDEST: (u32, u32, u32) = (2, 3, 0);

/// Looks at the server that `endpoint` names. Gives it, if it can be asked for more.
pub(super) async fn check(about: About, endpoint: &Endpoint, checks: &mut Checks) -> Option<Client> {
    if !reachable(about, endpoint, checks).await {
        return None;
    }
    let server = connected(about, endpoint, checks).await?;
    version(about, &server, checks);
    let Seen { collections, makes_database } = visible(about, &server, checks).await?;
    match about {
        About::Source => readable(about, &server, &collections, checks).await,
        About::Target | About::Snapshot => grants(about, &server, makes_database, checks).await,
    }
    quotas(about, &server, checks).await;
    Some(server)
}

/// Whether the names that an import of this snapshot would make are free on the target. Renames and
/// selections are the import's own, so one that is taken need not be in its way.
pub(super) async fn names(target: &Client, manifest: &Manifest, checks: &mut Checks) {
    let sources: Vec<_> = manifest.collections.iter().map(|c| c.meta.name.clone()).collect();
    // Two that come to one name are the import's to refuse.
    let Ok(targets) = Renames::default().apply(&sources, target.database.as_deref()) else { return };
    let mut taken = Vec::new();
    for (collection, name) in manifest.collections.iter().zip(&targets).take(MAX_COLLECTIONS) {
        let aliases = collection.meta.aliases.iter();
        let aliases = aliases.map(|alias| (CollectionName::new(&name.database, alias), "alias "));
        for (name, what) in std::iter::once((name.clone(), "")).chain(aliases) {
            match target.describe(&name).await {
                Ok(None) => {}
                Ok(Some(_)) => taken.push(format!("{what}{name}")),
                Err(error) => {
                    checks.note(About::Target, "names", format!("not told: {error}"), "");
                    return;
                }
            }
        }
    }
    if taken.is_empty() {
        let count = targets.len().min(MAX_COLLECTIONS);
        let says = format!("free for what the snapshot has: {}", counted(count, "collection"));
        checks.good(About::Target, "names", says);
    } else {
        let fix = "import under other names with `--rename`, leave collections out by naming the others with `-c`, or \
                   aliases with `--no-aliases`, or drop what is there; an interrupted import goes on with what it has \
                   made itself";
        let more = taken.len().saturating_sub(NAMED);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        taken.truncate(NAMED);
        let error = Error::new(Code::TargetTaken, format!("taken already: {}{rest}", taken.join(", ")));
        checks.bad(About::Target, "names", &error.hint(fix));
    }
}

/// Name and network: whether anything answers there at all.
async fn reachable(about: About, endpoint: &Endpoint, checks: &mut Checks) -> bool {
    let (host, port) = endpoint.host_and_port();
    let unreachable = |what: String| Error::new(Code::Unreachable, what);
    let found = match timeout(PATIENCE, lookup_host((host.as_str(), port))).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(e)) => {
            let error = unreachable(format!("{host} is not known here")).because(e);
            let fix = "check the spelling, and the DNS of this very machine (VPN, private zones)";
            checks.bad(about, "name", &error.hint(fix));
            return false;
        }
        Err(_) => {
            let error = unreachable(format!("{host}: no answer from the DNS in time"));
            checks.bad(about, "name", &error.hint("check the DNS of this machine"));
            return false;
        }
    };
    let listed: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
    checks.good(about, "name", format!("{host} is {}", listed.join(", ")));
    let mut why = "it has no address".to_string();
    for address in found {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                checks.good(about, "network", format!("{address} takes connections"));
                return true;
            }
            Ok(Err(e)) => why = format!("{address}: {e}"),
            Err(_) => why = format!("{address}: no answer in {} s", PATIENCE.as_secs()),
        }
    }
    let fix = "check the port, that the server runs, and firewalls and allow lists between here and there";
    checks.bad(about, "network", &unreachable(why).hint(fix));
    false
}

/// Encryption and credentials, as far as connecting shows them.
async fn connected(about: About, endpoint: &Endpoint, checks: &mut Checks) -> Option<Client> {
    let server = match Client::connect(&endpoint.clone().impatient()).await {
        Ok(server) => server,
        Err(error) => {
            let name = match error.kind() {
                ErrorKind::Denied => "credentials",
                _ if error.code() == Code::Tls => "encryption",
                _ => "server",
            };
            checks.bad(about, name, &error);
            return None;
        }
    };
    if endpoint.address.starts_with("https://") {
        checks.good(about, "encryption", "TLS, with a certificate that is trusted");
    } else {
        let says = "none: the token and all rows can be read on the way";
        checks.note(about, "encryption", says, "use https:// unless the network between is trusted");
    }
    Some(server)
}

fn version(about: About, server: &Client, checks: &mut Checks) {
    let info = &server.info;
    match (info.kind, info.release()) {
        (ServerKind::Milvus, Some(release)) if release < OLDEST => {
            let error = Error::new(Code::Unsupported, format!("{info} is older than 2.3"));
            checks.bad(about, "version", &error.hint("upgrade the server to 2.3 or newer"));
        }
        (ServerKind::Milvus, Some(release)) if about == About::Source && release < (2, 5, 0) => {
            let says = format!("{info}: it cannot be read as of one moment, so keys are read twice");
            checks.note(about, "version", says, "pause writes during the export");
        }
        (ServerKind::Unknown, _) => checks.note(about, "version", info.to_string(), ""),
        _ => checks.good(about, "version", info.to_string()),
    }
}

/// What the user sees.
struct Seen {
    collections: Vec<CollectionName>,
    /// Whether the database in the address is not there yet.
    makes_database: bool,
}

/// Which collections the user sees, in all databases that are meant.
async fn visible(about: About, server: &Client, checks: &mut Checks) -> Option<Seen> {
    let listing = async {
        let databases = server.databases().await?;
        let missing = server.database.as_ref().filter(|wanted| !databases.contains(wanted));
        let meant: Vec<_> = match &server.database {
            Some(wanted) => databases.into_iter().filter(|database| database == wanted).collect(),
            None => databases,
        };
        let mut found = Vec::new();
        for database in &meant {
            let names = server.collections(database).await?;
            found.extend(names.into_iter().map(|name| CollectionName::new(database, name)));
        }
        Ok::<_, Error>((meant.len(), missing.cloned(), found))
    };
    let (databases, missing, found) = match listing.await {
        Ok(listed) => listed,
        // Who is not known is turned away when connecting, where the server looks at it then.
        Err(error) => {
            match Client::lacks(&error) {
                Some(first) => {
                    let mut missing = BTreeSet::from([first]);
                    let grants = match about {
                        About::Source => server.export_grants(None).await,
                        About::Target | About::Snapshot => server.import_grants(false).await,
                    };
                    missing.extend(grants.map(|grants| grants.missing).unwrap_or_default());
                    lacking(about, &missing, checks);
                }
                None if error.kind() == ErrorKind::Denied => checks.bad(about, "credentials", &error),
                None => checks.bad(about, "server", &error),
            }
            return None;
        }
    };
    if !server.has_token() {
        checks.good(about, "credentials", "none were given, and none are asked for");
    } else {
        match server.checks_tokens().await {
            Some(true) => checks.good(about, "credentials", "accepted; without any the server refuses"),
            Some(false) => checks.note(
                about,
                "credentials",
                "a token was given, but the server answers without one too: whether this one is right was not tested",
                "",
            ),
            None => checks.note(
                about,
                "credentials",
                "a token was given, and the server did not refuse it; whether it looks at tokens was not tested",
                "",
            ),
        }
    }
    let makes_database = missing.is_some();
    match missing {
        Some(database) if about == About::Source => {
            let error = Error::new(Code::NotFound, format!("there is no database {database:?}"));
            checks.bad(about, "collections", &error.hint("check the database in the address"));
            return None;
        }
        Some(database) => {
            checks.good(about, "collections", format!("the database {database:?} will be created"));
        }
        None => {
            let says = format!(
                "{} in {} can be seen",
                counted(found.len(), "collection"),
                counted(databases, "database")
            );
            match found.is_empty() && about == About::Source {
                true => checks.note(about, "collections", says, "an export would have nothing to do"),
                false => checks.good(about, "collections", says),
            }
        }
    }
    Some(Seen { collections: found, makes_database })
}

/// Privileges without which it fails, all at once.
fn lacking(about: About, missing: &BTreeSet<Missing>, checks: &mut Checks) {
    let error = Error::new(Code::Denied, format!("missing: {}", listed(missing)));
    checks.bad(about, "privileges", &error.hint(GRANT));
}

/// What to do about privileges.
const GRANT: &str = "grant them to the user's role by these names, on the type of object in brackets";

fn listed(missing: &BTreeSet<Missing>) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn at_times(about: About, missing: &BTreeSet<Missing>, checks: &mut Checks) {
    if !missing.is_empty() {
        checks.note(about, "privileges", format!("needed at times, and missing: {}", listed(missing)), GRANT);
    }
}

fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// What an export asks of every collection: descriptions, load states, and one count. Goes on after a
/// refusal, so that all that is missing is named at once.
async fn readable(about: About, server: &Client, collections: &[CollectionName], checks: &mut Checks) {
    let (mut reads, mut failed, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
    let mut grants = Grants::default();
    let looked_at = &collections[..collections.len().min(MAX_COLLECTIONS)];
    if server.info.kind == ServerKind::Milvus && server.has_token() {
        for name in std::iter::once(None).chain(looked_at.iter().map(Some)) {
            match server.export_grants(name).await {
                Ok(found) if name.is_some() || looked_at.is_empty() => grants.missing.extend(found.missing),
                // Privileges may be for collections by name: only what is asked of those that exist counts.
                Ok(found) => grants.at_times.extend(found.at_times),
                Err(error) => failed.push(error),
            }
        }
    }
    for name in looked_at {
        match described(server, name).await {
            Ok(Ok(read)) => reads.push((name, read)),
            Ok(Err(reasons)) => foreign.push(format!("{name} ({reasons})")),
            Err(error) => failed.push(error.context(name.to_string())),
        }
    }
    let (mut unloaded, mut asked) = (Vec::new(), 0);
    for (name, read) in &reads {
        match loaded::unloaded(server, std::slice::from_ref(read)).await {
            Ok(found) if found.is_empty() => {
                asked += 1;
                if let Err(error) = server.count(name, None, "", View::AtHand).await {
                    failed.push(Error::from(error).context(name.to_string()));
                }
            }
            Ok(found) => {
                asked += 1;
                unloaded.extend(found);
            }
            Err(error) => failed.push(error),
        }
    }
    if !grants.missing.is_empty() {
        lacking(about, &grants.missing, checks);
        // What is missing makes requests fail too; anything else is said beside it.
        failed.retain(|error| error.kind() != ErrorKind::Denied);
    }
    match failed.first() {
        Some(first) => checks.bad(about, "privileges", first),
        None if !grants.missing.is_empty() => {}
        None => checks.good(
            about,
            "privileges",
            format!("{} can be described and read", counted(reads.len(), "collection")),
        ),
    }
    at_times(about, &grants.at_times, checks);
    if !foreign.is_empty() {
        let error =
            Error::new(Code::Unsupported, format!("cannot be copied exactly: {}", foreign.join("; ")));
        checks.bad(about, "types", &error.hint("leave these collections out with `--exclude`"));
    }
    let names: Vec<_> = unloaded.iter().map(ToString::to_string).collect();
    if names.is_empty() && asked == collections.len() {
        let says = if asked == 0 { "there is nothing to be loaded" } else { "everything is loaded" };
        checks.good(about, "load states", says);
    } else if names.is_empty() {
        let of = counted(collections.len(), "collection");
        let says = format!("asked of {asked} of {of}: those are loaded; the others could not be asked");
        let says = if asked == 0 { format!("could not be asked: {of}") } else { says };
        checks.note(about, "load states", says, "");
    } else {
        let error = Error::new(Code::NotLoaded, format!("not loaded: {}", names.join("; ")));
        let fix = "load them, leave them out with `--exclude`, or give the export `--load-source`";
        checks.bad(about, "load states", &error.hint(fix));
    }
    if collections.len() > MAX_COLLECTIONS {
        let says = format!("only the first {MAX_COLLECTIONS} of {} collections", collections.len());
        checks.note(about, "looked at", says, "");
    }
}

type Foreign = String;

async fn described(server: &Client, name: &CollectionName) -> Result<std::result::Result<Reads, Foreign>> {
    let gone = || Error::new(Code::NoCollection, "it was dropped a moment ago");
    let described = server.describe(name).await?.ok_or_else(gone)?;
    let schema = match described.schema {
        Ok(schema) => schema,
        Err(reasons) => {
            let listed: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            return Ok(Err(listed.join(", ")));
        }
    };
    let partitions = server.partitions(name).await?;
    server.indexes(name).await?;
    server.statistics_rows(name).await?;
    server.aliases(name).await?;
    Ok(Ok(Reads::new(name, &schema, &partitions)))
}

/// What an import asks for, tried with requests that name nothing and so can do nothing: a server
/// looks at the privilege first.
async fn grants(about: About, server: &Client, makes_database: bool, checks: &mut Checks) {
    if server.info.kind != ServerKind::Milvus || !server.has_token() {
        checks.note(about, "privileges", "this server has no users, or was not given one", "");
        return;
    }
    match server.import_grants(makes_database).await {
        Ok(Grants { missing, at_times: sometimes, tried }) => {
            if missing.is_empty() {
                let says = match sometimes.is_empty() {
                    true => format!("all {tried} requests that an import uses are allowed"),
                    false => "all requests that every import uses are allowed".to_string(),
                };
                checks.good(about, "privileges", says);
            } else {
                lacking(about, &missing, checks);
            }
            at_times(about, &sometimes, checks);
        }
        Err(error) => checks.bad(about, "privileges", &error),
    }
}

/// What the server tells of its own limits.
async fn quotas(about: About, server: &Client, checks: &mut Checks) {
    match server.health().await {
        Ok(None) => checks.note(about, "quotas", "this server does not tell", ""),
        Ok(Some(health)) => {
            let what = match about {
                About::Source => health.reading,
                About::Target | About::Snapshot => health.writing,
            };
            if let Some(switched_off) = what.denied {
                let error = Error::new(Code::SwitchedOff, switched_off);
                checks.bad(
                    about,
                    "quotas",
                    &error.hint("have it switched on, or give the server what it lacks"),
                );
            } else if let Some(limited) = what.limited {
                checks.note(about, "quotas", limited, "it will take longer");
            } else {
                checks.good(about, "quotas", "nothing is limited at present");
            }
            if !health.reasons.is_empty() {
                let says = format!("the server calls itself not healthy: {}", health.reasons.join("; "));
                checks.note(about, "health", says, "see its own logs");
            }
        }
        // Only some users may ask, and nothing depends on it.
        Err(error) => checks.note(about, "quotas", format!("not told: {error}"), ""),
    }
}
