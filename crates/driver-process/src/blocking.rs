//! File operations, and what their failures mean to a dispatcher.

use std::io;

use yard_ports::DriverError;

/// Runs file operations off the async threads. Whatever fails here has had no effect: every change to a
/// folder that others could see is one rename.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, DriverError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(unreachable),
        Err(error) => Err(DriverError::Unreachable(error.to_string())),
    }
}

/// The failure of one, to a dispatcher.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn unreachable(error: io::Error) -> DriverError {
    match error.kind() {
        // Only a package is ever found wrong in itself: the same again would be wrong again.
        io::ErrorKind::InvalidData => DriverError::Refused(format!("runtime_env: {error}")),
        _ => DriverError::Unreachable(error.to_string()),
    }
}
