//! What a caller gets who cannot get an answer: a status and JSON that says why and what would be right.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Seconds after which a caller who was told to come back should.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
/// What the server's paths can be asked with.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// A request that gets no answer.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    #[serde(skip)]
    status: StatusCode,
    /// What is wrong, as a sentence.
    error: String,
    /// The parameter that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The paths there are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<&'static str>,
}

impl Refusal {
    /// A refusal that gives its reason only.
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Refusal { status, error: error.into(), parameter: None, hint: None, paths: Vec::new() }
    }

    /// Names the parameter that is wrong.
    pub(super) fn parameter(mut self, name: impl Into<String>) -> Self {
        self.parameter = Some(name.into());
        self
    }

    /// Says what would be right.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Lists the paths there are.
    pub(super) fn paths(mut self, paths: Vec<&'static str>) -> Self {
        self.paths = paths;
        self
    }
}

impl Refusal {
    /// The refusal as Go's profile handlers give theirs: plain text, and a header that `go tool pprof` looks for
    /// before it shows the text to its user.
    pub(super) fn into_go(self) -> Response {
        let hint = self.hint.as_ref().map(|hint| format!("{hint}\n")).unwrap_or_default();
        let text = format!("{}\n{hint}", self.error);
        let mut response = self.into_response();
        *response.body_mut() = Body::from(text);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(HeaderName::from_static("x-go-pprof"), HeaderValue::from_static("1"));
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = serde_json::to_vec_pretty(&self).expect("refusals hold nothing that JSON cannot");
        body.push(b'\n');
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(crate::views::JSON));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, METHODS);
        }
        response
    }
}
