//! The store on SQLite: the embedded default on one machine.
