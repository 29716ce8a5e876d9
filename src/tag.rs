//! Tags: the names of what an answer was made from.
//!
//! An entry remembers the generation of each of its tags as it was before the
//! fetch began; an invalidation moves the generations of the tags it names.
//! Which tags a read carries and which ones a write moves is decided in
//! [`crate::postgrest`] and [`crate::storage_api`]; the generations live in
//! [`crate::cache`].

use std::fmt;

/// A schema-qualified relation or function name, as PostgREST sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Relation {
    /// The schema, `public` for instance.
    pub schema: String,
    /// The table, view or function in it.
    pub name: String,
}

impl Relation {
    /// Names `name` in `schema`.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// What an entry may depend on and a write may change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tag {
    /// Carried by every entry whatever its route says; moved by a purge alone.
    All,
    /// Every answer of `/rest/v1/` and `/graphql/v1`; moved by writes that may
    /// have touched any table.
    Every,
    /// Answers whose tables are not all known; moved by any write in the schema.
    Schema(String),
    /// Everything of a table.
    Table(Relation),
    /// What is no single row's: lists, counts, empty point reads.
    List(Relation),
    /// One row, its whole primary key as canonical `(column, value)` pairs in
    /// column order.
    Row(Relation, Vec<(String, String)>),
    /// One storage object.
    Object {
        /// The bucket's id.
        bucket: String,
        /// The object's decoded name.
        name: String,
    },
    /// Every object of a bucket.
    Bucket(String),
    /// Every object of every bucket.
    Storage,
    /// What a path gives that is neither PostgREST's nor Storage's, whatever
    /// the query; moved by unsafe requests to it (RFC 9111, section 4.4).
    Path(String),
    /// Everything that a route filled by its present rules.
    Route {
        /// The route's name.
        name: String,
        /// A fingerprint of its rules.
        rules: u64,
    },
}

/// A tag's fingerprint, optionally inside one partition (routes with
/// `invalidate = "writer"`). Two tags that share one are invalidated together,
/// which costs a fill and is never wrong.
///
/// Its upper 16 bits are its [group](TagId::group), the rest is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagId(pub u64);

impl TagId {
    /// What the tags of one table have in common, and those of one bucket, and
    /// all others: a store that is spread over machines keeps a group together.
    pub fn group(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

impl Tag {
    /// The tag's fingerprint for every reader.
    pub fn id(&self) -> TagId {
        self.fingerprint(&[])
    }

    /// The tag's fingerprint for the readers of one partition.
    pub fn id_within(&self, partition: &[u8]) -> TagId {
        self.fingerprint(partition)
    }

    fn fingerprint(&self, partition: &[u8]) -> TagId {
        let mut parts = Parts::default();
        parts.add(partition);
        match self {
            Tag::All => parts.add(b"all"),
            Tag::Every => parts.add(b"every"),
            Tag::Schema(schema) => parts.add(b"schema").add(schema.as_bytes()),
            Tag::Table(relation) => parts.add(b"table").relation(relation),
            Tag::List(relation) => parts.add(b"list").relation(relation),
            Tag::Row(relation, key) => {
                parts.add(b"row").relation(relation);
                for (column, value) in key {
                    parts.add(column.as_bytes()).add(value.as_bytes());
                }
                &mut parts
            }
            Tag::Object { bucket, name } => parts.add(b"object").add(bucket.as_bytes()).add(name.as_bytes()),
            Tag::Bucket(bucket) => parts.add(b"bucket").add(bucket.as_bytes()),
            Tag::Storage => parts.add(b"storage"),
            Tag::Path(path) => parts.add(b"path").add(path.as_bytes()),
            Tag::Route { name, rules } => parts.add(b"route").add(name.as_bytes()).add(&rules.to_le_bytes()),
        };
        TagId((u64::from(self.group()) << 48) | (parts.finish() >> 16))
    }

    fn group(&self) -> u16 {
        let mut parts = Parts::default();
        match self {
            Tag::Table(relation) | Tag::List(relation) | Tag::Row(relation, _) => {
                parts.add(b"table").relation(relation)
            }
            Tag::Object { bucket, .. } | Tag::Bucket(bucket) => parts.add(b"bucket").add(bucket.as_bytes()),
            Tag::All | Tag::Every | Tag::Schema(_) | Tag::Storage | Tag::Path(_) | Tag::Route { .. } => {
                &parts
            }
        };
        (parts.finish() >> 48) as u16
    }
}

/// Hashes a sequence of parts, each after its length.
#[derive(Default)]
struct Parts(blake3::Hasher);

impl Parts {
    fn add(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    fn relation(&mut self, relation: &Relation) -> &mut Self {
        self.add(relation.schema.as_bytes()).add(relation.name.as_bytes())
    }

    fn finish(&self) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0.finalize().as_bytes()[..8]);
        u64::from_le_bytes(word)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tag::All => write!(f, "all"),
            Tag::Every => write!(f, "every"),
            Tag::Schema(schema) => write!(f, "schema:{schema}"),
            Tag::Table(relation) => write!(f, "table:{relation}"),
            Tag::List(relation) => write!(f, "list:{relation}"),
            Tag::Row(relation, key) => {
                write!(f, "row:{relation}")?;
                for (column, value) in key {
                    write!(f, ":{column}={value}")?;
                }
                Ok(())
            }
            Tag::Object { bucket, name } => write!(f, "object:{bucket}/{name}"),
            Tag::Bucket(bucket) => write!(f, "bucket:{bucket}"),
            Tag::Storage => write!(f, "storage"),
            Tag::Path(path) => write!(f, "path:{path}"),
            Tag::Route { name, .. } => write!(f, "route:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_tags_have_different_ids() {
        let users = Relation::new("public", "users");
        let tags = [
            Tag::All,
            Tag::Every,
            Tag::Schema("public".into()),
            Tag::Table(users.clone()),
            Tag::List(users.clone()),
            Tag::Row(users.clone(), vec![("id".into(), "5".into())]),
            Tag::Row(users.clone(), vec![("id".into(), "50".into())]),
            Tag::Table(Relation::new("publicu", "sers")),
        ];
        for (index, one) in tags.iter().enumerate() {
            for other in &tags[index + 1..] {
                assert_ne!(one.id(), other.id(), "{one} and {other}");
            }
        }
        assert_ne!(tags[3].id(), tags[3].id_within(b"p"));
    }

    #[test]
    fn fingerprints_are_as_nodes_of_other_versions_know_them() {
        let users = Relation::new("public", "users");
        let row = Tag::Row(users.clone(), vec![("id".into(), "5".into())]);
        let ids = [Tag::All, Tag::Every, Tag::Table(users), row].map(|tag| tag.id().0);
        assert_eq!(
            ids,
            [12007146365985707321, 12006939944363752633, 4671756477321325899, 4671664021402627654]
        );
    }

    #[test]
    fn the_tags_of_a_table_are_one_group() {
        let users = Relation::new("public", "users");
        let row = Tag::Row(users.clone(), vec![("id".into(), "5".into())]);
        let group = Tag::Table(users.clone()).id().group();
        assert_eq!(Tag::List(users.clone()).id().group(), group);
        assert_eq!(row.id().group(), group);
        assert_eq!(row.id_within(b"p").group(), group);
        assert_ne!(Tag::Table(Relation::new("public", "orders")).id().group(), group);
        assert_eq!(Tag::All.id().group(), Tag::Route { name: "rest".into(), rules: 1 }.id().group());
    }
}
