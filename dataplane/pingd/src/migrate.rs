//! `pingd migrate`: migrates the schema, imports an existing table, creates topics, then exits.

use crate::config::{MigrateArgs, PostgresArgs};
use ping_postgres::{MigrateError, PostgresOptions, PostgresStore};

pub(crate) async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let store = PostgresStore::new(&args.postgres.postgres_url, &PostgresOptions::default())?;
    let imported = migrate_schema(&store, &args.postgres).await?;
    println!("the schema is up to date; imported {imported} rows of an existing table pings");
    if args.create_topics {
        let settings = args.kafka.settings();
        ping_kafka::ensure_topics(&settings, args.partitions, args.replication).await?;
        println!("the topics {} and {} exist", settings.topic, settings.dead_letter_topic);
    }
    Ok(())
}

/// Migrates the schema and imports an existing table `pings`; returns the number of imported rows.
///
/// # Errors
/// When Postgres cannot be reached, with the address and the cause; or when the migration or the import fails.
pub(crate) async fn migrate_schema(store: &PostgresStore, postgres: &PostgresArgs) -> anyhow::Result<u64> {
    store.migrate().await.map_err(|error| match error {
        MigrateError::Connect(error) => {
            let address = postgres.address();
            // The errors above the innermost only repeat it.
            let error = anyhow::Error::from(error);
            anyhow::anyhow!("cannot connect to Postgres at {address}: {}; check --postgres-url", error.root_cause())
        }
        error => error.into(),
    })
}
