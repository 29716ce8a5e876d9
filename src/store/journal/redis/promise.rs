//! Whether a server can keep what `store.ack` promises, and what has to be waited for.

use crate::config::{Ack, HostPort, Topology};
use crate::store::connect::Connector;
use crate::store::error::StoreError;
use crate::store::inspect::{self, Flush, Inspection, Persistence, lacking};

/// What comes between a script's answer and the word that its changes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// Nothing.
    None,
    /// `WAIT` for a replica.
    Replica,
    /// `WAITAOF` for the server's own disk.
    Disk,
}

/// What holds for all masters of a store.
///
/// # Errors
///
/// Why nothing may be deferred, and what to do; or why they can't be asked.
pub async fn judge(
    connector: &Connector,
    ack: Ack,
    topology: &Topology,
) -> Result<Result<Confirmation, String>, StoreError> {
    Ok(verdict(&inspect::inspect(connector).await?, ack, topology))
}

fn verdict(
    masters: &[(HostPort, Inspection)],
    ack: Ack,
    topology: &Topology,
) -> Result<Confirmation, String> {
    for (address, inspection) in masters {
        if let Some(lack) = lacking(inspection, ack, topology) {
            return Err(format!("{} at {address} can't keep \"{ack}\": {lack}", inspection.server));
        }
    }
    let flushes = |inspection: &Inspection| inspection.persistence == Persistence::Appends(Flush::Always);
    Ok(match ack {
        Ack::Memory => Confirmation::None,
        Ack::Replicated => Confirmation::Replica,
        Ack::Fsync if masters.iter().all(|(_, inspection)| flushes(inspection)) => Confirmation::None,
        Ack::Fsync => Confirmation::Disk,
    })
}
