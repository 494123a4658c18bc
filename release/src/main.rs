//! `release`: writes the documents of a release. `release/build.sh` calls it, and packs what it writes. Inputs are what `cargo metadata` and
//! `helm template` print, so that nothing is stated twice.

mod bundle;
mod chart_readme;
mod checksums;
mod csv;
mod krew;
mod provenance;
mod sbom;

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use serde_json::Value;

/// Write the documents of a release.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    document: Document,
}

#[derive(Subcommand)]
enum Document {
    /// Print a bill of materials in CycloneDX, from the output of `cargo metadata` on standard input.
    Sbom(sbom::SbomArgs),
    /// Write an OLM bundle, from the output of `helm template` on standard input.
    Bundle(bundle::BundleArgs),
    /// Print the krew manifest of the kubectl plugin, from the archives in a folder.
    Krew(krew::KrewArgs),
    /// Print a SLSA provenance statement about the files of a folder.
    Provenance(provenance::ProvenanceArgs),
    /// Print Chart.yaml as JSON, which is the configuration of a chart in a registry.
    ChartJson {
        /// Chart.yaml.
        chart: PathBuf,
    },
    /// Print the README of the chart, from its values and their comments.
    ChartReadme {
        /// Folder of the chart.
        chart: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().document {
        Document::Sbom(args) => print_json(&sbom::bill(&args, &serde_json::from_str(&input()?)?)?),
        Document::Bundle(args) => bundle::write(&args, &input()?),
        Document::Krew(args) => print_yaml(&krew::manifest(&args)?),
        Document::Provenance(args) => print_json(&provenance::statement(&args)?),
        Document::ChartJson { chart } => print_json(&yaml_serde::from_str(&read(&chart)?)?),
        Document::ChartReadme { chart } => {
            let [values, chart] = [read(&chart.join("values.yaml"))?, read(&chart.join("Chart.yaml"))?];
            print!("{}", chart_readme::page(&chart, &values)?);
            Ok(())
        }
    }
}

fn input() -> anyhow::Result<String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    Ok(text)
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn print_json(document: &Value) -> anyhow::Result<()> {
    println!("{document:#}");
    Ok(())
}

fn print_yaml(document: &Value) -> anyhow::Result<()> {
    print!("{}", yaml_serde::to_string(document)?);
    Ok(())
}
