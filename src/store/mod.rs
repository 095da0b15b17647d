//! What must not be forgotten: events, and which of their messages the broker has yet to get, in an
//! SQLite database. An event is committed here before anybody is told of it.
//!
//! `schema` is the tables and their history, `database` a file that is opened, checked and, when it
//! is damaged, moved aside, `salvage` what can still be read there; `events`, `outbox` and `retention` are what is done with it; `folder` is the
//! place they share, `clips` are files beside the database.

mod clips;
mod database;
mod events;
mod folder;
mod outbox;
mod retention;
mod salvage;
mod schema;
pub mod settings;
#[cfg(test)]
mod tests;

pub use clips::{flac, limit_clips, write_clip};
pub use database::{Database, Opened, StoreError};
pub use events::{EventFilter, EventRow};
pub use folder::{FolderLock, LockError, found_folder, prepare_folder};
pub use outbox::Pending;
pub use salvage::salvaged_messages;
