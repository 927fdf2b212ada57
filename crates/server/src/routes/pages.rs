//! `GET /`: a live overview for people, and `GET /docs`: the API's description for people. Files inside the binary; nothing is loaded from elsewhere.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::state::AppState;

/// Only our own script and style run on the page, whatever a job's name says.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", include_str!("../ui/index.html"))))
        .route("/docs", get(async || file("text/html; charset=utf-8", include_str!("../ui/docs.html"))))
        .route(
            "/ui/docs.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("../ui/docs.js"))),
        )
        .route("/ui/docs.css", get(async || file("text/css; charset=utf-8", include_str!("../ui/docs.css"))))
        .route(
            "/ui/app.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("../ui/app.js"))),
        )
        .route("/ui/app.css", get(async || file("text/css; charset=utf-8", include_str!("../ui/app.css"))))
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use crate::testing::World;

    #[tokio::test]
    async fn the_page_loads_nothing_from_elsewhere_and_makes_no_markup_of_data() {
        let world = World::new().await;
        for path in ["/", "/docs", "/ui/docs.js", "/ui/docs.css", "/ui/app.js", "/ui/app.css"] {
            let answer = world.get(path).await;
            assert_eq!(answer.status.as_u16(), 200, "{path}");
            let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
            let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
            for banned in [
                "http://",
                "https://",
                "//cdn",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
            ] {
                assert!(!text.contains(banned), "{path} has {banned}");
            }
        }
    }
}
