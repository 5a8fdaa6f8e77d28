//! Why a verb did not do what was asked, in words for the user, and the exit code for scripts.

use crate::capture::CaptureError;
use crate::client::ClientError;
use std::process::ExitCode;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something went wrong.
    #[error("{0}")]
    Failed(String),
    /// Arguments that cannot be carried out.
    #[error("{0}")]
    Usage(String),
    /// The user may not do this.
    #[error("{0}")]
    Privilege(String),
    /// The kernel cannot do this.
    #[error("{0}")]
    Unsupported(String),
    /// Data are missing and `--strict` was given.
    #[error("{0}")]
    Incomplete(String),
}

impl Failure {
    /// The exit code that tells scripts which it was.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Privilege(_) => 3,
            Failure::Unsupported(_) => 4,
            Failure::Incomplete(_) => 5,
        })
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Failed(error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            // What an agent calls a bad question was one on the command line.
            ClientError::NoAddress(_) | ClientError::Refused { status: 400, .. } => {
                Failure::Usage(error.to_string())
            }
            _ => Failure::Failed(error.to_string()),
        }
    }
}

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        Failure::Failed(error.to_string())
    }
}
