//! Deferred writes: from a request to its end.
//!
//! ```text
//! request → admission     may it be deferred? pure
//!         → record        what its replay needs, the token sealed (seal)
//!         → store/journal durable, in order; then the client has his 202 (representation)
//!
//! his reads → overlay     as if upstream had it already, for him alone
//! others' writes, his deletes → barrier    what must not be overtaken
//!
//! journal → replay        what upstream is asked, what its answers mean; a token that holds (wallet, remint)
//!         → applied, superseded or rejected; or later again (pause)
//! ```

pub mod admission;
pub mod barrier;
pub mod events;
pub mod overlay;
pub mod pause;
pub mod queue;
pub mod record;
pub mod remint;
pub mod replay;
pub mod representation;
pub mod seal;
pub mod wallet;
