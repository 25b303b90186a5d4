//! What differs: findings of bounded number, totals that are always exact. Pure.

use crate::schema::Key;

/// Findings of one kind in one collection that are kept whatever else was found.
pub const SHOWN_PER_KIND: usize = 20;

/// Findings that a result lists altogether.
pub const LISTED: usize = 1_000;

/// In what respect something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A field, a partition, or another part of the schema.
    Schema,
    /// A number of rows.
    Count,
    /// A row of the snapshot that the server does not have.
    Missing,
    /// A row of the server that the snapshot does not have.
    Extra,
    /// A field of a row that both have.
    Changed,
}

impl Kind {
    /// Every kind, in the order of reports.
    pub const ALL: [Kind; 5] = [Kind::Schema, Kind::Count, Kind::Missing, Kind::Extra, Kind::Changed];

    /// The stable name used in JSON documents.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Schema => "schema",
            Kind::Count => "count",
            Kind::Missing => "missing-row",
            Kind::Extra => "extra-row",
            Kind::Changed => "changed-field",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Something of the schema.
    Schema {
        /// What, such as `field "title"`.
        subject: String,
        /// How it is in the snapshot.
        snapshot: String,
        /// How it is on the server.
        server: String,
    },
    /// Rows of a collection or of one of its partitions.
    Count {
        /// The partition; `None`: the whole collection.
        partition: Option<String>,
        /// Rows in the snapshot.
        snapshot: u64,
        /// The server's `count(*)`.
        server: u64,
    },
    /// A row of the snapshot that the server does not have.
    Missing {
        /// Its partition, where rows are attributed to partitions.
        partition: Option<String>,
        /// Its primary key.
        key: Key,
    },
    /// A row of the server that the snapshot does not have.
    Extra {
        /// Its partition, where rows are attributed to partitions.
        partition: Option<String>,
        /// Its primary key.
        key: Key,
    },
    /// A field of a row that both have.
    Changed {
        /// The row's partition, where rows are attributed to partitions.
        partition: Option<String>,
        /// The row's primary key.
        key: Key,
        /// The field.
        field: String,
        /// Its value in the snapshot, shortened.
        snapshot: String,
        /// Its value on the server, shortened.
        server: String,
    },
}

impl Finding {
    /// In what respect it differs.
    pub fn kind(&self) -> Kind {
        match self {
            Finding::Schema { .. } => Kind::Schema,
            Finding::Count { .. } => Kind::Count,
            Finding::Missing { .. } => Kind::Missing,
            Finding::Extra { .. } => Kind::Extra,
            Finding::Changed { .. } => Kind::Changed,
        }
    }
}

/// All that was found in a collection, or in a range of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    totals: [u64; Kind::ALL.len()],
    kept: [Vec<Finding>; Kind::ALL.len()],
    /// Rows in which at least one field differs.
    pub changed_rows: u64,
}

impl Found {
    /// How many there are of `kind`.
    pub fn total(&self, kind: Kind) -> u64 {
        self.totals[kind as usize]
    }

    /// How many there are of all kinds.
    pub fn all(&self) -> u64 {
        self.totals.iter().sum()
    }

    /// Those of `kind` that were kept, the first ones in key order.
    pub fn kept(&self, kind: Kind) -> &[Finding] {
        &self.kept[kind as usize]
    }

    /// Counts one of `kind`, and keeps it while there is room; `make` is called only then.
    pub(super) fn add(&mut self, kind: Kind, make: impl FnOnce() -> Finding) {
        self.totals[kind as usize] += 1;
        let kept = &mut self.kept[kind as usize];
        if kept.len() < LISTED {
            kept.push(make());
        }
    }

    /// Adds one that is already made.
    pub(super) fn push(&mut self, finding: Finding) {
        self.add(finding.kind(), || finding);
    }

    /// Adds what was found in the next range.
    pub(super) fn append(&mut self, next: Found) {
        for (kind, findings) in Kind::ALL.into_iter().zip(next.kept) {
            self.totals[kind as usize] += next.totals[kind as usize];
            let kept = &mut self.kept[kind as usize];
            let room = LISTED - kept.len();
            kept.extend(findings.into_iter().take(room));
        }
        self.changed_rows += next.changed_rows;
    }

    /// Lets go of all but the first `first` of every kind.
    pub(super) fn keep_first(&mut self, first: usize) {
        self.kept.iter_mut().for_each(|kept| kept.truncate(first));
    }

    /// Lets go of all but the first [`SHOWN_PER_KIND`] of every kind and `spare` others; gives
    /// what is left of `spare` for the next collection.
    pub(super) fn trim(&mut self, mut spare: usize) -> usize {
        for kept in &mut self.kept {
            let others = kept.len().saturating_sub(SHOWN_PER_KIND).min(spare);
            kept.truncate(SHOWN_PER_KIND + others);
            spare -= others;
        }
        spare
    }
}

/// Which of the kept findings of several collections a result lists: the first of every kind and
/// collection before others, [`LISTED`] altogether. Gives the position of the collection with each.
pub fn listed<'a>(all: impl IntoIterator<Item = &'a Found>) -> Vec<(usize, &'a Finding)> {
    let groups: Vec<(usize, &[Finding])> = all
        .into_iter()
        .enumerate()
        .flat_map(|(index, found)| Kind::ALL.map(|kind| (index, found.kept(kind))))
        .collect();
    let first: usize = groups.iter().map(|(_, kept)| kept.len().min(SHOWN_PER_KIND)).sum();
    let mut spare = LISTED.saturating_sub(first);
    let mut list = Vec::new();
    for (index, kept) in groups {
        let others = kept.len().saturating_sub(SHOWN_PER_KIND).min(spare);
        spare -= others;
        list.extend(kept.iter().take(SHOWN_PER_KIND + others).map(|finding| (index, finding)));
    }
    list.truncate(LISTED);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(missing: i64, extra: i64) -> Found {
        let mut found = Found::default();
        for key in 0..missing {
            found.push(Finding::Missing { partition: None, key: Key::Int(key) });
        }
        for key in 0..extra {
            found.push(Finding::Extra { partition: None, key: Key::Int(key) });
        }
        found
    }

    #[test]
    fn totals_are_exact_and_lists_are_bounded() {
        let mut all = found(700, 0);
        all.append(found(2_500, 3));
        assert_eq!((all.total(Kind::Missing), all.total(Kind::Extra), all.all()), (3_200, 3, 3_203));
        assert_eq!((all.kept(Kind::Missing).len(), all.kept(Kind::Extra).len()), (LISTED, 3));
        assert_eq!(all.kept(Kind::Missing)[700], Finding::Missing { partition: None, key: Key::Int(0) });
        assert_eq!(all.trim(50), 0);
        assert_eq!((all.kept(Kind::Missing).len(), all.kept(Kind::Extra).len()), (SHOWN_PER_KIND + 50, 3));
        assert_eq!(all.all(), 3_203);
        assert_eq!(found(5, 5).trim(50), 50);
    }

    #[test]
    fn a_flood_of_one_kind_hides_no_other() {
        let collections = [found(5_000, 30), found(0, 1), found(40, 40)];
        let list = listed(&collections);
        assert_eq!(list.len(), LISTED);
        let of = |index: usize, kind: Kind| {
            list.iter().filter(|(i, finding)| *i == index && finding.kind() == kind).count()
        };
        assert_eq!((of(1, Kind::Extra), of(2, Kind::Missing), of(2, Kind::Extra)), (1, 20, 20));
        assert_eq!((of(0, Kind::Missing), of(0, Kind::Extra)), (LISTED - 61, 20));
        assert!(list.is_sorted_by_key(|(index, finding)| (*index, finding.kind())));
        assert!(listed(&[Found::default()]).is_empty());
    }
}
