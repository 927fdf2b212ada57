//! The loops: intake, placement, dispatch, sweep, retention; and the lifecycle of a process.
