//! The file against the model of all journals, over crashes.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::model::{self, Bench};
use super::tests::options;
use super::*;

struct File {
    folder: TempDir,
    clock: Arc<AtomicI64>,
    journal: Option<Embedded>,
}

impl File {
    fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicI64::new(1_000_000)));
        let mut file = Self { folder, clock, journal: None };
        file.open();
        file
    }

    fn open(&mut self) {
        let clock = self.clock.clone();
        let now =
            move || SystemTime::UNIX_EPOCH + Duration::from_micros(clock.load(Ordering::Relaxed) as u64);
        let options = Options { limits: model::LIMITS, ..options(self.folder.path()) };
        self.journal = Some(Embedded::open_with_clock(&options, Box::new(now)).unwrap());
    }
}

#[async_trait]
impl Bench for File {
    fn nodes(&self) -> Vec<&dyn Journal> {
        vec![self.journal.as_ref().expect("it is open between steps")]
    }

    async fn agree(&self) {}

    async fn restart(&mut self, _: usize) {
        self.journal = None;
        self.open();
    }

    /// What is on disk is opened.
    async fn crash(&mut self, _: usize) {
        let after = tempfile::tempdir().unwrap();
        let file = "journal.redb";
        std::fs::copy(self.folder.path().join(file), after.path().join(file)).unwrap();
        self.journal = None;
        self.folder = after;
        self.open();
    }

    fn now(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn turn_clock(&mut self, by: i64) {
        self.clock.fetch_add(by, Ordering::Relaxed);
    }
}

proptest! {
    #![proptest_config(model::cases())]

    #[test]
    fn the_journal_does_what_the_model_does(steps in model::steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(model::run(File::new(), steps));
    }
}
