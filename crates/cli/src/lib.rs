//! The commands of yard that talk to a server.
