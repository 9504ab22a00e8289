// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user's service as hyper calls it: each request gets its limits and its connection's facts.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use hyper::{Request, Response, StatusCode, Version};
use netpoll::BoxError;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::activity::{Activity, RequestGuard};
use crate::body::{Body, BodyVerdict};
use crate::conn_info::ConnInfo;
use crate::response_body::ResponseBody;
use crate::settings::Settings;

/// The service of one connection.
pub(crate) struct RequestService<S> {
    pub(crate) service: S,
    pub(crate) info: ConnInfo,
    pub(crate) settings: Settings,
    pub(crate) activity: Rc<Activity>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for RequestService<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = BoxError;
    type Future = Answer<S>;

    fn call(&self, request: Request<Incoming>) -> Answer<S> {
        let guard = self.activity.begin();
        let version = request.version();
        let is_too_large = self.settings.max_body.is_some_and(|max| {
            let length = request.headers().get(CONTENT_LENGTH);
            let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
            length.is_some_and(|length| length > max)
        });
        let (parts, incoming) = request.into_parts();
        let (body, verdict) = Body::new(incoming, &self.settings);
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(self.info.clone());
        let state = match is_too_large {
            true => AnswerState::Rejected,
            false => AnswerState::NotReady {
                service: self.service.clone(),
                request: Some(request),
            },
        };
        Answer {
            state,
            guard: Some(guard),
            activity: Rc::clone(&self.activity),
            verdict,
            version,
        }
    }
}

pin_project! {
    /// The future of an answer.
    pub(crate) struct Answer<S: Service<Request<Body>>> {
        #[pin]
        state: AnswerState<S>,
        // Dropped with the future, or with the body of the answer.
        guard: Option<RequestGuard>,
        activity: Rc<Activity>,
        verdict: Option<Arc<BodyVerdict>>,
        version: Version,
    }
}

pin_project! {
    #[project = AnswerStep]
    enum AnswerState<S: Service<Request<Body>>> {
        // The service may have no capacity.
        NotReady { service: S, request: Option<Request<Body>> },
        Called { #[pin] future: S::Future },
        // The announced body is too large: the service is not called.
        Rejected,
    }
}

impl<S, B> Future for Answer<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let answered = ready!(this.state.as_mut().poll_service(context));
        let rejected = match answered {
            None => Some(StatusCode::PAYLOAD_TOO_LARGE),
            Some(_) => this.verdict.as_ref().and_then(|verdict| verdict.status()),
        };
        let mut response = match (rejected, answered) {
            (None, Some(answered)) => answered?.map(Some),
            (status, _) => {
                let mut response = Response::new(None);
                *response.status_mut() = status.unwrap_or(StatusCode::PAYLOAD_TOO_LARGE);
                response
            }
        };
        // The rest of a rejected body is not read. HTTP/2 has frames for both.
        if *this.version < Version::HTTP_2 && (rejected.is_some() || this.activity.is_closing()) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        let guard = this
            .guard
            .take()
            .expect("a future is not polled after its end");
        Poll::Ready(Ok(response.map(|body| ResponseBody::new(body, guard))))
    }
}

impl<S> AnswerState<S>
where
    S: Service<Request<Body>>,
    S::Error: Into<BoxError>,
{
    /// Polls the service. `None` if it is not called for this request.
    fn poll_service(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<S::Response, BoxError>>> {
        loop {
            let future = match self.as_mut().project() {
                AnswerStep::Rejected => return Poll::Ready(None),
                AnswerStep::Called { future } => {
                    return future.poll(context).map_err(Into::into).map(Some);
                }
                AnswerStep::NotReady { service, request } => {
                    if let Err(error) = ready!(service.poll_ready(context)) {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    service.call(request.take().expect("a request is called once"))
                }
            };
            self.set(Self::Called { future });
        }
    }
}
