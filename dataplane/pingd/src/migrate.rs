//! `pingd migrate`: migrates the schema, imports an existing table, creates topics, then exits.

use crate::config::MigrateArgs;

pub(crate) async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let imported = args.postgres.store()?.migrate().await?;
    println!("the schema is up to date; imported {imported} rows of an existing table pings");
    if args.create_topics {
        let settings = args.kafka.settings();
        ping_kafka::ensure_topics(&settings, args.partitions, args.replication).await?;
        println!("the topics {} and {} exist", settings.topic, settings.dead_letter_topic);
    }
    Ok(())
}
