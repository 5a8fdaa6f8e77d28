//! Why a run of hollow pods could not begin or end well, in words for the user.

use crate::failure::Failure;
use std::io;

/// Why flux did not do what was asked. Failures of single pods are no such error: they are counted in the report.
#[derive(Debug, thiserror::Error)]
pub enum FluxError {
    /// A configuration or an argument that cannot be used.
    #[error("{0}")]
    Config(String),
    /// The user may not make network namespaces or write where they must be.
    #[error("{0}")]
    Privilege(String),
    /// The machine refused something else.
    #[error("{0}")]
    System(String),
}

impl FluxError {
    /// An error of the machine while doing `what`; a refusal is told apart.
    pub fn during(what: &str, error: &io::Error) -> FluxError {
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                FluxError::Privilege(format!("{what}: {error}; hollow pods need root"))
            }
            _ => FluxError::System(format!("{what}: {error}")),
        }
    }
}

impl From<FluxError> for Failure {
    fn from(error: FluxError) -> Self {
        let text = error.to_string();
        match error {
            FluxError::Config(_) => Failure::Usage(text),
            FluxError::Privilege(_) => Failure::Privilege(text),
            FluxError::System(_) => Failure::Failed(text),
        }
    }
}
