//! The migrations of a store, from files that are compiled in.

use std::borrow::Cow;

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// A migrator for `files`: version, description and SQL of each, in ascending order.
///
/// It ignores versions in the database that it does not know, so that a program can be rolled back. The macro of sqlx would do the
/// same, but compiles the drivers a second time, for the compiler.
#[must_use]
pub fn migrator(files: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |(version, description, sql): &(i64, &'static str, &'static str)| {
        Migration::new(*version, Cow::Borrowed(*description), MigrationType::Simple, (*sql).into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(files.iter().map(migration).collect());
    migrator.set_ignore_missing(true);
    migrator
}
