//! The command line.

mod check;
mod explain;
mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError};

/// Where the configuration is looked for when nobody names it.
const DEFAULT_FILES: [&str; 2] = ["config/sluice.toml", "/etc/sluice/sluice.toml"];

/// A transparent caching reverse proxy in front of Supabase.
#[derive(Debug, Parser)]
#[command(name = "sluice", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy.
    Serve(Source),
    /// Check the configuration.
    Check(check::Arguments),
    /// Show what would be done with a request: route, partition, key, tags.
    Explain(explain::Arguments),
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
struct Source {
    /// A TOML file, or a folder whose *.toml files are read in name order.
    #[arg(short = 'c', long = "config", env = "SLUICE_CONFIG", value_name = "FILE|DIR")]
    config: Option<PathBuf>,
    /// The Supabase project's URL; takes the place of `upstream.url`.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
}

/// How a command ended.
#[derive(Debug)]
enum Failure {
    /// The configuration or the arguments are wrong: exit code 2.
    Usage(String),
    /// It failed: exit code 1.
    Failed(String),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        // `Debug` of a report is its rendering: file, line, column, the line and the remedy.
        Failure::Usage(format!("{:?}", miette::Report::new(error)))
    }
}

impl Source {
    /// The file that applies; `None` means `--upstream` alone.
    fn file(&self) -> Option<&Path> {
        self.config.as_deref().or_else(|| DEFAULT_FILES.iter().map(Path::new).find(|path| path.exists()))
    }

    fn load(&self) -> Result<Config, Failure> {
        match (self.file(), &self.upstream) {
            (Some(path), upstream) => Ok(Config::load(path, upstream.as_deref())?),
            (None, Some(upstream)) => Ok(Config::without_file(upstream)?),
            (None, None) => Err(Failure::Usage(format!(
                "No configuration: neither {} is there. Name a file with -c FILE, or the project with \
                 --upstream https://REF.supabase.co.",
                DEFAULT_FILES.join(" nor ")
            ))),
        }
    }

    /// Reads the configuration again; what is wrong with it is said in one line, for the log.
    fn reload(&self) -> Result<Config, String> {
        let read = match (self.file(), &self.upstream) {
            (Some(path), upstream) => Config::load(path, upstream.as_deref()),
            (None, Some(upstream)) => Config::without_file(upstream),
            (None, None) => return Err("the configuration file is gone".into()),
        };
        read.map_err(|error| {
            let problems: Vec<_> = error.problems().iter().map(|problem| format!("{problem:#}")).collect();
            problems.join("; ")
        })
    }
}

/// Runs the command that the arguments name.
///
/// Exit codes: 0; 1 it failed; 2 wrong usage or configuration.
pub fn run() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Serve(source) => serve::run(&source),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => {
            eprintln!("sluice: {why}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(why)) => {
            eprintln!("sluice: {why}");
            ExitCode::from(2)
        }
    }
}

/// A runtime for the short commands.
fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(future))
        .map_err(|error| Failure::Failed(format!("Can't start the runtime: {error}.")))
}
