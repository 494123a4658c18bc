//! `pingd migrate`: schema, import and topics, then ends.

use crate::config::MigrateArgs;
use ping_postgres::{PostgresOptions, PostgresStore};

pub(crate) async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let store = PostgresStore::new(&args.postgres.postgres_url, &PostgresOptions::default())?;
    let imported = store.migrate().await?;
    println!("the schema is up to date; {imported} rows of an existing table pings taken over");
    if args.create_topics {
        let settings = args.kafka.settings();
        ping_kafka::ensure_topics(&settings, args.partitions, args.replication).await?;
        println!("the topics {} and {} are there", settings.topic, settings.dead_letter_topic);
    }
    Ok(())
}
