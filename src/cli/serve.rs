//! `sluice serve`

use super::{Failure, Source};
use crate::app::{self, AppError};
use crate::config::LogFormat;
use crate::telemetry::log;

pub(super) fn run(source: &Source) -> Result<(), Failure> {
    let config = source.load()?;
    let format = match config.log.format {
        LogFormat::Auto => log::Format::Auto,
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    log::init(&config.log.level, format).map_err(|error| Failure::Failed(error.to_string()))?;
    log::log_panics();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.workers > 0 {
        runtime.worker_threads(config.workers);
    }
    let runtime = runtime
        .enable_all()
        .thread_name("sluice")
        .build()
        .map_err(|error| Failure::Failed(format!("Can't start the runtime: {error}.")))?;
    let served = runtime.block_on(app::serve(config, || source.reload()));
    // What is left by now was given its time.
    runtime.shutdown_background();
    served.map_err(|error| match error {
        AppError::Settings(_) | AppError::Certificate(_) | AppError::Store(_) => {
            Failure::Usage(error.to_string())
        }
        AppError::Journal(_) | AppError::Key(_) | AppError::Secret(_) => Failure::Usage(error.to_string()),
        AppError::Bind(_) | AppError::Signal(_) => Failure::Failed(error.to_string()),
    })
}
