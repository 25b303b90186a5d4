//! Step 2: which collections, and everything about them that a target needs.

use crate::error::{Code, Context, Error, ErrorKind, Result};
use crate::milvus::Client;
use crate::schema::CollectionName;
use crate::select::{Selection, is_alias};
use crate::snapshot::{CollectionMeta, Database, keys};
use std::collections::BTreeSet;

/// Describes the selected collections. What cannot be copied is refused here, all of it at once
/// and by name.
pub async fn collections(source: &Client, selection: &Selection) -> Result<Vec<CollectionMeta>> {
    let mut known = Vec::new();
    let databases = source.databases().await.context(|| "listing databases")?;
    let (concerned, others): (Vec<_>, Vec<_>) =
        databases.iter().partition(|database| selection.concerns_database(database));
    for database in concerned {
        known.extend(collections_of(source, database).await?);
    }
    known.sort();
    if let Some(database) = source.database.as_ref().filter(|d| !databases.contains(d)) {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no database {database:?}"))
            .hint("check the database in the address"));
    }
    if selection.pick(&known, |name| name).is_err() {
        // What was meant may be elsewhere: the refusal says so if these users may see it.
        for database in others {
            known.extend(collections_of(source, database).await.unwrap_or_default());
        }
        for name in selection.unknown(&known) {
            if let Ok(Some(meant)) = source.alias_of(&name).await {
                return Err(is_alias(&name, &meant));
            }
        }
    }
    let mut metas = Vec::new();
    let mut refusals = Vec::new();
    for name in selection.pick(&known, |name| name)? {
        let gone = || Error::new(Code::NoCollection, format!("{name} was dropped a moment ago"));
        let described = source.describe(name).await?.ok_or_else(gone)?;
        let schema = match described.schema {
            Ok(schema) => schema,
            Err(reasons) => {
                refusals.extend(reasons.into_iter().map(|reason| format!("{name}, {reason}")));
                continue;
            }
        };
        let context = || format!("describing {name}");
        let mut aliases = described.aliases;
        if aliases.is_empty() {
            aliases = source.aliases(name).await.context(context)?;
        }
        aliases.sort();
        let partitions = source.partitions(name).await.context(context)?;
        // Readers refuse such names; the Lites take any.
        let names = [("database", &name.database), ("collection", &name.name)].into_iter();
        let names = names.chain(partitions.iter().map(|partition| ("partition", partition)));
        let names = names.chain(aliases.iter().map(|alias| ("alias", alias)));
        refusals.extend(
            names
                .filter_map(|(what, text)| keys::check_name(what, text).err())
                .map(|e| format!("{name}, {e}")),
        );
        metas.push(CollectionMeta {
            name: name.clone(),
            schema,
            described: described.raw,
            collection_id: described.id,
            shards: described.shards,
            partitions,
            indexes: source.indexes(name).await.context(context)?,
            aliases,
            properties: described.properties,
            pin: None,
        });
    }
    if refusals.is_empty() {
        return Ok(metas);
    }
    Err(Error::new(ErrorKind::Unsupported, format!("cannot be copied exactly: {}", refusals.join("; ")))
        .hint("leave these collections out with `--exclude`"))
}

async fn collections_of(source: &Client, database: &str) -> Result<Vec<CollectionName>> {
    let names = source.collections(database).await?;
    Ok(names.into_iter().map(|name| CollectionName::new(database, name)).collect())
}

/// The databases that the collections are in.
pub async fn databases(source: &Client, collections: &[CollectionMeta]) -> Result<Vec<Database>> {
    let names: BTreeSet<&str> = collections.iter().map(|meta| meta.name.database.as_str()).collect();
    let mut databases = Vec::new();
    for name in names {
        let properties =
            source.database_properties(name).await.context(|| format!("describing database {name}"))?;
        databases.push(Database { name: name.to_string(), properties });
    }
    Ok(databases)
}
