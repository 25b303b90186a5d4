//! Which collections are meant: patterns as users write them, and names as they come out.
//!
//! Owns: `-c`, `--exclude`, `--rename` and `--auto-id`. Pure. Does not own: asking servers or manifests which
//! collections there are.

use crate::error::{Code, Error, ErrorKind, Result};
use crate::schema::{CollectionName, DEFAULT_DATABASE};
use std::collections::BTreeMap;

/// `[database.]collection`, both with `*`, `?` and `[...]`.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    database: glob::Pattern,
    name: glob::Pattern,
    literal: bool,
}

impl Pattern {
    /// Parses a pattern; without a dot it is one of collections in `database`.
    pub fn parse(text: &str, database: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::Usage, format!("{text:?} is not a collection pattern: {why}")).hint(
                "a pattern is `collection` or `database.collection`; both may contain `*`, `?` and `[...]`",
            )
        };
        let (database, name) = text.split_once('.').unwrap_or((database, text));
        if database.is_empty() || name.is_empty() {
            return Err(wrong("a name is empty"));
        }
        let glob = |text: &str| glob::Pattern::new(text).map_err(|e| wrong(e.msg));
        Ok(Pattern {
            text: format!("{database}.{name}"),
            database: glob(database)?,
            name: glob(name)?,
            literal: !format!("{database}{name}").contains(['*', '?', '[']),
        })
    }

    /// Whether `name` is meant.
    pub fn matches(&self, name: &CollectionName) -> bool {
        self.database.matches(&name.database) && self.name.matches(&name.name)
    }

    /// Whether collections of `database` can be meant.
    pub fn matches_database(&self, database: &str) -> bool {
        self.database.matches(database)
    }

    /// As `database.collection`.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What to take: everything that an include matches (or everything, if there are none) and no
/// exclude does.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Patterns of what to take.
    pub include: Vec<Pattern>,
    /// Patterns of what to leave.
    pub exclude: Vec<Pattern>,
}

impl Selection {
    /// Parses `-c` and `--exclude` values.
    pub fn parse(include: &[String], exclude: &[String], database: Option<&str>) -> Result<Self> {
        let home = database.unwrap_or(DEFAULT_DATABASE);
        let all =
            |texts: &[String]| texts.iter().map(|t| Pattern::parse(t, home)).collect::<Result<Vec<_>>>();
        let mut selection = Selection { include: all(include)?, exclude: all(exclude)? };
        // An address that names a database means that database unless patterns say otherwise.
        if let (true, Some(database)) = (selection.include.is_empty(), database) {
            selection.include.push(Pattern::parse("*", database)?);
        }
        Ok(selection)
    }

    /// Whether collections of `database` can be meant.
    pub fn concerns_database(&self, database: &str) -> bool {
        self.include.is_empty() || self.include.iter().any(|p| p.matches_database(database))
    }

    /// Picks from `known`, in its order. A pattern that matches nothing is an error, since a
    /// typing mistake must not look like success, and not hand out what was to stay.
    pub fn pick<'a, T>(&self, known: &'a [T], name: impl Fn(&T) -> &CollectionName) -> Result<Vec<&'a T>> {
        for pattern in self.include.iter().chain(&self.exclude) {
            if !known.iter().any(|item| pattern.matches(name(item))) {
                let what = if pattern.literal { "there is no collection" } else { "no collection matches" };
                let error = Error::new(Code::NoCollection, format!("{what} {}", pattern.text));
                return Err(match nearest(&pattern.text, known.iter().map(&name)) {
                    Some(near) => error.hint(format!("did you mean {near}?")),
                    None => error.hint("list the collections with `--plan` and without `-c` and `--exclude`"),
                });
            }
        }
        let wanted = |n: &CollectionName| {
            (self.include.is_empty() || self.include.iter().any(|p| p.matches(n)))
                && !self.exclude.iter().any(|p| p.matches(n))
        };
        let picked: Vec<_> = known.iter().filter(|item| wanted(name(item))).collect();
        if picked.is_empty() {
            return Err(Error::new(Code::NoCollection, "no collection is selected")
                .hint("check `-c`, `--exclude`, the database in the address, and what the user may see"));
        }
        Ok(picked)
    }
}

impl Selection {
    /// What is named outright and is not among `known`.
    pub fn unknown(&self, known: &[CollectionName]) -> Vec<CollectionName> {
        let named = self.include.iter().chain(&self.exclude).filter(|pattern| pattern.literal);
        let names = named.filter_map(|pattern| pattern.text.split_once('.'));
        let names = names.map(|(database, name)| CollectionName::new(database, name));
        names.filter(|name| !known.contains(name)).collect()
    }
}

/// Where a name that is not one of a collection is an alias, says of which collection.
pub fn is_alias(alias: &CollectionName, collection: &CollectionName) -> Error {
    Error::new(Code::NoCollection, format!("{alias} is an alias of {collection}, and no collection"))
        .hint(format!("name the collection: `{collection}`; it brings its aliases along"))
}

/// [`Selection::pick`] from what a snapshot has: a name with its aliases.
pub fn pick_known<'a, T>(
    selection: &Selection,
    known: &'a [T],
    name: impl Fn(&T) -> &CollectionName,
    aliases: impl Fn(&T) -> &[String],
) -> Result<Vec<&'a T>> {
    selection.pick(known, &name).map_err(|error| {
        let names: Vec<_> = known.iter().map(|item| name(item).clone()).collect();
        let meant = selection.unknown(&names).into_iter().find_map(|unknown| {
            let of =
                |item: &&T| name(item).database == unknown.database && aliases(item).contains(&unknown.name);
            known.iter().find(of).map(|item| is_alias(&unknown, name(item)))
        });
        meant.unwrap_or(error)
    })
}

/// The known name that a mistyped one is probably meant to be: one that is spelled nearly so, or
/// the same one in another database.
pub fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a CollectionName>) -> Option<String> {
    let wanted = text.to_lowercase();
    let bare = wanted.split_once('.').map_or(wanted.as_str(), |(_, name)| name);
    known
        .filter_map(|name| {
            let bearable = 1 + name.name.chars().count() / 4;
            let whole = (false, distance(&wanted, &name.to_string().to_lowercase()));
            let elsewhere = (true, distance(bare, &name.name.to_lowercase()));
            let rank = [whole, elsewhere].into_iter().find(|(_, distance)| *distance <= bearable)?;
            Some((rank, name))
        })
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, name)| name.to_string())
}

/// Levenshtein distance in characters.
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// One `--rename`: a collection, or every collection of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rename {
    One { from: CollectionName, to: CollectionName },
    Database { from: String, to: String },
}

/// All `--rename` values.
#[derive(Debug, Clone, Default)]
pub struct Renames(Vec<Rename>);

impl Renames {
    /// Parses `a=b`, `db1.a=db2.b` and `db1.*=db2.*`. A target without a database stays in
    /// `database`, or in the source's own when that is not given.
    pub fn parse(texts: &[String], database: Option<&str>) -> Result<Self> {
        let renames: Vec<_> = texts.iter().map(|text| parse_rename(text, database)).collect::<Result<_>>()?;
        for (second, rename) in renames.iter().enumerate() {
            if let Some(first) = renames[..second].iter().position(|first| first.renames_what(rename)) {
                let (first, second) = (&texts[first], &texts[second]);
                let what = format!("`--rename {first}` and `--rename {second}` rename the same thing");
                return Err(Error::new(ErrorKind::Usage, what).hint("give one of them"));
            }
        }
        Ok(Renames(renames))
    }

    /// Where every one of `names` goes; `home`, if given, is the database that takes those of
    /// the default database. Two on one place, and a rename of nothing, are errors.
    pub fn apply(&self, names: &[CollectionName], home: Option<&str>) -> Result<Vec<CollectionName>> {
        let mut used = vec![false; self.0.len()];
        let mut taken: BTreeMap<CollectionName, &CollectionName> = BTreeMap::new();
        let mut targets = Vec::new();
        for name in names {
            let target = self.target(name, home, &mut used);
            if let Some(first) = taken.insert(target.clone(), name) {
                return Err(Error::new(
                    ErrorKind::Exists,
                    format!("{first} and {name} would both become {target}"),
                )
                .hint("give one of them another name with `--rename`"));
            }
            targets.push(target);
        }
        if let Some(unused) = used.iter().position(|used| !used) {
            let (from, near) = match &self.0[unused] {
                Rename::One { from, .. } => {
                    let from = from.to_string();
                    let near = nearest(&from, names.iter());
                    (from, near)
                }
                Rename::Database { from, .. } => (format!("{from}.*"), None),
            };
            let what = format!("--rename names {from}, which is not among the selected collections");
            return Err(Error::new(Code::NoCollection, what).hint(match near {
                Some(near) => format!("did you mean {near}?"),
                None => "see `milvus-handoff inspect` for the names in the snapshot".into(),
            }));
        }
        Ok(targets)
    }

    /// A rename of the collection itself wins over one of its database.
    fn target(&self, name: &CollectionName, home: Option<&str>, used: &mut [bool]) -> CollectionName {
        for (index, rename) in self.0.iter().enumerate() {
            if let Rename::One { from, to } = rename
                && from == name
            {
                used[index] = true;
                return to.clone();
            }
        }
        for (index, rename) in self.0.iter().enumerate() {
            if let Rename::Database { from, to } = rename
                && *from == name.database
            {
                used[index] = true;
                return CollectionName::new(to, &name.name);
            }
        }
        match home {
            Some(home) if name.database == DEFAULT_DATABASE => CollectionName::new(home, &name.name),
            _ => name.clone(),
        }
    }
}

impl Rename {
    /// Whether both say where the same thing goes.
    fn renames_what(&self, other: &Rename) -> bool {
        match (self, other) {
            (Rename::One { from: a, .. }, Rename::One { from: b, .. }) => a == b,
            (Rename::Database { from: a, .. }, Rename::Database { from: b, .. }) => a == b,
            _ => false,
        }
    }
}

fn parse_rename(text: &str, database: Option<&str>) -> Result<Rename> {
    let wrong = || {
        Error::new(ErrorKind::Usage, format!("{text:?} is not a rename"))
            .hint("a rename is `a=b`, `db1.a=db2.b` or `db1.*=db2.*`")
    };
    let (from, to) = text.split_once('=').ok_or_else(wrong)?;
    let from = from.split_once('.').unwrap_or((DEFAULT_DATABASE, from));
    let to = to.split_once('.').unwrap_or((database.unwrap_or(from.0), to));
    if [from.0, from.1, to.0, to.1].iter().any(|part| part.is_empty()) {
        return Err(wrong());
    }
    let plain = |part: &str| !part.contains(['*', '?', '[', '=']);
    match (from.1, to.1) {
        ("*", "*") if plain(from.0) && plain(to.0) => {
            Ok(Rename::Database { from: from.0.to_string(), to: to.0.to_string() })
        }
        _ if [from.0, from.1, to.0, to.1].into_iter().all(plain) => {
            Ok(Rename::One { from: CollectionName::new(from.0, from.1), to: CollectionName::new(to.0, to.1) })
        }
        _ => Err(wrong()),
    }
}

/// What becomes of the keys of collections whose server makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoId {
    /// Rows keep their keys, and the target goes on making keys for new rows.
    Preserve,
    /// The target makes new keys; the old ones are lost.
    Regenerate,
    /// Rows keep their keys; new rows must bring theirs.
    AsField,
}

impl AutoId {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            AutoId::Preserve => "preserve",
            AutoId::Regenerate => "regenerate",
            AutoId::AsField => "as-field",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<CollectionName> {
        texts.iter().map(|t| t.split_once('.').map(|(d, n)| CollectionName::new(d, n)).unwrap()).collect()
    }

    fn pick(include: &[&str], exclude: &[&str], database: Option<&str>) -> Result<Vec<String>> {
        let strings = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
        let known = names(&["default.docs", "default.logs", "books.docs", "books.pages"]);
        let selection = Selection::parse(&strings(include), &strings(exclude), database)?;
        Ok(selection.pick(&known, |n| n)?.into_iter().map(|n| n.to_string()).collect())
    }

    #[test]
    fn patterns_pick_what_they_say() {
        assert_eq!(pick(&[], &[], None).unwrap().len(), 4);
        assert_eq!(pick(&["docs"], &[], None).unwrap(), ["default.docs"]);
        assert_eq!(pick(&["*.docs"], &[], None).unwrap(), ["default.docs", "books.docs"]);
        assert_eq!(pick(&["books.*"], &["*.pag?s"], None).unwrap(), ["books.docs"]);
        assert_eq!(pick(&[], &[], Some("books")).unwrap(), ["books.docs", "books.pages"]);
        assert_eq!(pick(&["pages"], &[], Some("books")).unwrap(), ["books.pages"]);
        assert_eq!(pick(&["*.*"], &["*.*"], None).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(pick(&["a["], &[], None).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(pick(&[".a"], &[], None).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn a_doubled_rename_is_refused_by_both_its_texts() {
        let parse = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
            Renames::parse(&texts, None)
        };
        for texts in [["a=x", "a=y"], ["a=x", "default.a=x"], ["b.*=x.*", "b.*=y.*"]] {
            let error = parse(&texts).unwrap_err();
            assert_eq!(error.code(), Code::Usage);
            assert!(texts.iter().all(|text| error.message().contains(text)), "{error}");
        }
        parse(&["a=x", "b=y", "default.*=z.*"]).unwrap();
    }

    #[test]
    fn a_pattern_of_nothing_is_an_error_with_a_guess() {
        let error = pick(&["default.dosc"], &[], None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.hint_text(), Some("did you mean default.docs?"));
        let error = pick(&[], &["default.dosc"], None).unwrap_err();
        assert_eq!(error.hint_text(), Some("did you mean default.docs?"));
        let guess = |wanted: &str| pick(&[wanted], &[], None).unwrap_err().hint_text().map(str::to_string);
        assert_eq!(guess("pages").unwrap(), "did you mean books.pages?", "in another database");
        assert_eq!(guess("DOCS").unwrap(), "did you mean default.docs?");
        assert_eq!(guess("book.pages").unwrap(), "did you mean books.pages?");
        assert!(guess("entirely_else").unwrap().starts_with("list the collections"));
        assert_eq!(pick(&["docs", "zzz*"], &[], None).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn an_alias_is_said_to_be_one() {
        let known = [("default.docs", vec!["live".to_string()]), ("books.docs", vec!["old".to_string()])];
        let known: Vec<_> = known.map(|(name, aliases)| (names(&[name]).remove(0), aliases)).into();
        let pick = |pattern: &str| {
            let selection = Selection::parse(&[pattern.to_string()], &[], None).unwrap();
            pick_known(&selection, &known, |(name, _)| name, |(_, aliases)| aliases).map(|found| found.len())
        };
        assert_eq!(pick("docs").unwrap(), 1);
        let error = pick("live").unwrap_err();
        assert_eq!(error.to_string(), "default.live is an alias of default.docs, and no collection");
        assert!(error.hint_text().unwrap().contains("`default.docs`"));
        assert!(pick("books.old").unwrap_err().to_string().contains("an alias of books.docs"));
        for other in ["books.live", "l*e", "liev"] {
            assert!(!pick(other).unwrap_err().to_string().contains("alias"), "{other}");
        }
    }

    fn rename(renames: &[&str], of: &[&str], home: Option<&str>) -> Result<Vec<String>> {
        let texts: Vec<_> = renames.iter().map(|t| t.to_string()).collect();
        let targets = Renames::parse(&texts, home)?.apply(&names(of), home)?;
        Ok(targets.into_iter().map(|n| n.to_string()).collect())
    }

    #[test]
    fn renames_move_collections_and_databases() {
        assert_eq!(rename(&["a=b"], &["default.a", "db.a"], None).unwrap(), ["default.b", "db.a"]);
        assert_eq!(rename(&["db.a=x.b"], &["default.a", "db.a"], None).unwrap(), ["default.a", "x.b"]);
        assert_eq!(rename(&["db.a=b"], &["db.a"], None).unwrap(), ["db.b"]);
        assert_eq!(rename(&["db.*=x.*", "db.a=y.z"], &["db.a", "db.b"], None).unwrap(), ["y.z", "x.b"]);
        assert_eq!(rename(&[], &["default.a", "db.a"], Some("home")).unwrap(), ["home.a", "db.a"]);
    }

    #[test]
    fn renames_that_collide_or_miss_are_errors() {
        assert_eq!(
            rename(&["a=b"], &["default.a", "default.b"], None).unwrap_err().kind(),
            ErrorKind::Exists
        );
        assert_eq!(
            rename(&["db.*=default.*"], &["default.a", "db.a"], None).unwrap_err().kind(),
            ErrorKind::Exists
        );
        assert_eq!(rename(&["c=b"], &["default.a"], None).unwrap_err().kind(), ErrorKind::NotFound);
        let mistyped = rename(&["dosc=b"], &["default.docs"], None).unwrap_err();
        assert_eq!(mistyped.hint_text(), Some("did you mean default.docs?"));
        for wrong in ["a", "a=", "=b", "a*=b", "db.*=x.y", "a=b=c"] {
            assert_eq!(
                rename(&[wrong], &["default.a"], None).unwrap_err().kind(),
                ErrorKind::Usage,
                "{wrong}"
            );
        }
    }
}
