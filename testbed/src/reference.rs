//! Pages of the documentation that are written from the source. A test compares each with its file, and writes it if `UPDATE` is set.

use std::{fmt::Write as _, fs, path::Path};

use clap::{Arg, Command};

/// The flags of a program as a page: a table for each of its commands.
pub fn flags(mut program: Command, introduction: &str) -> String {
    program.build();
    let mut page = format!("# Flags and environment of {}\n\n{introduction}\n", program.get_name());
    let commands: Vec<_> = program.get_subcommands().filter(|command| command.get_name() != "help").collect();
    for command in &commands {
        section(&mut page, &format!("{} {}", program.get_name(), command.get_name()), command);
    }
    if commands.is_empty() {
        section(&mut page, program.get_name(), &program);
    }
    page
}

fn section(page: &mut String, title: &str, command: &Command) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let arguments: Vec<_> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && arg.get_long().is_some_and(|long| long != "help" && long != "version"))
        .collect();
    let _ = write!(page, "\n## {title}\n\n{}.\n", about.trim_end_matches('.'));
    if arguments.is_empty() {
        page.push_str("\nIt has no flags.\n");
        return;
    }
    page.push_str("\n| flag | environment | default | meaning |\n| --- | --- | --- | --- |\n");
    for argument in arguments {
        page.push_str(&row(argument));
    }
}

fn row(argument: &Arg) -> String {
    let environment = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let values = if values.is_empty() || values == ["`true`", "`false`"] {
        String::new()
    } else {
        format!(". One of {}", values.join(", "))
    };
    let meaning = format!("{}{values}", help.trim_end_matches('.')).replace('\n', " ").replace('|', "\\|");
    let long = argument.get_long().unwrap_or_default();
    format!("| `--{long}` | {environment} | {} | {meaning} |\n", defaults.join(", "))
}

/// Compares `page` with the file at `path`, or writes the file if `UPDATE` is set.
///
/// # Errors
/// If the file differs or cannot be written.
pub fn is_current(path: &Path, page: &str) -> anyhow::Result<()> {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, page)?;
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    anyhow::ensure!(committed == page, "{} is stale: run `make reference`", path.display());
    Ok(())
}
