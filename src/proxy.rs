//! The proxy: from a client's connection to its answer.
//!
//! [`front`] owns connections and hands requests to Pingora, whose callbacks
//! are in [`phases`]. What a request meets on its way is in [`exchange`]; reads
//! that the cache may answer go through [`read`], [`lookup`], [`claim`] and [`fill`], everything else
//! is forwarded as [`origin`] says, and [`invalidate`] sees to what it touched.

pub mod body;
pub mod chunk;
pub mod claim;
pub mod defer;
pub mod endpoint;
pub mod exchange;
pub mod fill;
pub mod front;
pub mod gateway;
pub mod head;
pub mod invalidate;
pub mod known;
pub mod listener;
pub mod lookup;
pub mod order;
pub mod origin;
pub mod pending;
pub mod phases;
pub mod preflight;
pub mod proxy_protocol;
pub mod read;
pub mod respond;
pub mod synth;
pub mod tls;
pub mod wire;
