//! Against real servers: `redis-server`, or what `REDIS_SERVER` names.

mod model;
mod nodes;
mod pace;
mod rules;
mod server;
