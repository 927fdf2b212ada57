//! The driver for this host: child processes that outlive a restart of yard.
