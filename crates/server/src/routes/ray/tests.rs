use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use yard_domain::{RemoteName, Timestamp};

use crate::testing::{Answer, Log, World, package_links};

const MINUTE: Duration = Duration::from_mins(1);

fn text(answer: &Answer) -> String {
    assert!(answer.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/plain"));
    String::from_utf8(answer.bytes.to_vec()).unwrap()
}

fn job(id: &str) -> Value {
    json!({"entrypoint": "python x.py", "submission_id": id, "metadata": {"yard.team": "ads", "who": "me"},
        "runtime_env": {"env_vars": {"SECRET": "hunter2"}}, "entrypoint_num_cpus": 2})
}

async fn submit(world: &World, body: &Value) -> Answer {
    world.post("/api/jobs/", body).await
}

async fn of(world: &World, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_job_is_submitted_shown_stopped_and_deleted() {
    let world = World::new().await;
    assert_eq!(world.get("/api/version").await.json()["version"], "4");
    let made = submit(&world, &job("mine")).await;
    assert_eq!(
        (made.status, made.json()),
        (StatusCode::OK, json!({"job_id": "mine", "submission_id": "mine"}))
    );
    assert_eq!(world.nudged(), 1);
    let info = world.get("/api/jobs/mine").await.json();
    assert_eq!(
        (&info["type"], &info["status"], &info["entrypoint"], &info["metadata"]),
        (&json!("SUBMISSION"), &json!("PENDING"), &json!("python x.py"), &json!({"who": "me"}))
    );
    assert_eq!(info["message"], "no placement pass has come to it yet");
    assert_eq!(info["runtime_env"]["env_vars"]["SECRET"], "hunter2");
    let browser = of(&world, "GET", "/api/jobs/mine", &[("user-agent", "Mozilla/5.0")]).await.json();
    assert_eq!(browser["runtime_env"]["env_vars"]["SECRET"], "<redacted>");
    let native = world.get("/v1/jobs").await.json();
    assert_eq!((&native["jobs"][0]["key"], &native["jobs"][0]["team"]), (&json!("mine"), &json!("ads")));
    assert_eq!(native["jobs"][0]["resources"]["cpu"], 2.0);
    assert_eq!(world.get("/api/jobs/mine/logs").await.json(), json!({"logs": ""}));

    let early = of(&world, "DELETE", "/api/jobs/mine", &[]).await;
    assert_eq!(early.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        text(&early).contains("Attempted to delete job 'mine', but it is in a non-terminal state PENDING.")
    );
    assert_eq!(of(&world, "POST", "/api/jobs/mine/stop", &[]).await.json(), json!({"stopped": true}));
    assert_eq!(of(&world, "POST", "/api/jobs/mine/stop", &[]).await.json(), json!({"stopped": false}));
    let ended = world.get("/api/jobs/mine").await.json();
    assert_eq!(
        (&ended["status"], &ended["message"]),
        (&json!("STOPPED"), &json!("Job was intentionally stopped."))
    );
    assert_eq!(of(&world, "DELETE", "/api/jobs/mine", &[]).await.json(), json!({"deleted": true}));
    assert_eq!(text(&world.get("/api/jobs/mine").await), "Job mine does not exist");
    assert_eq!(world.get("/api/jobs/").await.json(), json!([]));
    // Our own record stays, and so does the id.
    assert_eq!(world.get("/v1/jobs").await.json()["jobs"][0]["state"], "stopped");
    assert_eq!(submit(&world, &job("mine")).await.status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn refusals_are_plain_text_as_ray_s() {
    let world = World::new().await;
    for (method, path) in [
        ("GET", "/api/jobs/none"),
        ("DELETE", "/api/jobs/none"),
        ("POST", "/api/jobs/none/stop"),
        ("GET", "/api/jobs/none/logs"),
    ] {
        let answer = of(&world, method, path, &[]).await;
        assert_eq!(
            (answer.status, text(&answer)),
            (StatusCode::NOT_FOUND, "Job none does not exist".to_owned())
        );
    }
    assert_eq!(submit(&world, &job("twice")).await.status, StatusCode::OK);
    for body in [
        job("twice"),
        json!({"entrypoint": "other", "submission_id": "twice", "metadata": {"yard.team": "ads"}}),
    ] {
        let twice = submit(&world, &body).await;
        assert_eq!(twice.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(
            text(&twice).contains(
                "Job with submission_id twice already exists. Please use a different submission_id."
            )
        );
    }
    let teamless = submit(&world, &json!({"entrypoint": "x"})).await;
    assert!(teamless.status == StatusCode::BAD_REQUEST && text(&teamless).contains("yard.team"));
    let labelled =
        submit(&world, &json!({"entrypoint": "x", "entrypoint_label_selector": {"zone": "a"}})).await;
    assert!(text(&labelled).contains("entrypoint_label_selector.zone: no cluster has this label"));
    let large = json!({"entrypoint": "x", "entrypoint_num_cpus": 99, "metadata": {"yard.team": "nobody"}});
    let large = submit(&world, &large).await;
    let said = text(&large);
    assert_eq!(large.status, StatusCode::BAD_REQUEST);
    assert!(
        said.contains("metadata.yard.team: there is no team") && said.contains("entrypoint_num_cpus: "),
        "{said}"
    );
}

#[tokio::test]
async fn an_id_of_two_teams_wants_to_know_which() {
    let world = World::new().await;
    for team in ["ads", "search"] {
        let body = json!({"entrypoint": team, "submission_id": "both", "metadata": {"yard.team": team}});
        assert_eq!(submit(&world, &body).await.status, StatusCode::OK);
    }
    let which = world.get("/api/jobs/both").await;
    assert_eq!(which.status, StatusCode::BAD_REQUEST);
    assert!(text(&which).contains("ads, search"), "{}", text(&which));
    let one = of(&world, "GET", "/api/jobs/both", &[("x-yard-team", "search")]).await.json();
    assert_eq!(one["entrypoint"], "search");
    let listed = of(&world, "GET", "/api/jobs/", &[("x-yard-team", "ads")]).await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn packages_are_uploaded_once() {
    let world = World::new().await;
    let path = "/api/packages/gcs/_ray_pkg_1.zip";
    let missing = world.get(path).await;
    assert_eq!(
        (missing.status, text(&missing)),
        (StatusCode::NOT_FOUND, "Package gcs://_ray_pkg_1.zip does not exist".to_owned())
    );
    let put = async |body: &'static str| {
        world.send(Request::put(path).body(Body::from(body)).unwrap()).await.status
    };
    assert_eq!(put("zip").await, StatusCode::OK);
    assert_eq!(world.get(path).await.status, StatusCode::OK);
    assert_eq!(put("larger than this world allows").await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(world.get("/api/packages/s3/x.zip").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_link_opens_one_package_and_says_why_it_opens_none() {
    let world = World::new().await;
    let links = package_links();
    let now = world.state.store.now().await.unwrap();
    let wheel = Request::put("/api/packages/gcs/m.whl").body(Body::from("wheel")).unwrap();
    assert_eq!(world.send(wheel).await.status, StatusCode::OK);
    let answer = world.get(&links.sign("m.whl", now, MINUTE)).await;
    assert_eq!((answer.status, &answer.bytes[..]), (StatusCode::OK, &b"wheel"[..]));
    assert_eq!(answer.headers["content-length"], "5");
    let gone = world.get(&links.sign("never.whl", now, MINUTE)).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert!(text(&gone).contains("not here"), "{}", text(&gone));
    let long_ago = Timestamp::from_micros(0);
    for (link, why) in [
        (links.sign("m.whl", long_ago, MINUTE), "has ended"),
        (links.sign("n.whl", now, MINUTE).replace("n.whl", "m.whl"), "not one of"),
        ("/api/packages/link/x/m.whl".to_owned(), "not one of"),
    ] {
        let refused = world.get(&link).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(text(&refused).contains(why), "{}", text(&refused));
    }
}

#[tokio::test]
async fn the_log_of_the_last_attempt_is_one_text() {
    let world = World::new().await;
    submit(&world, &job("mine")).await;
    let id = world.get("/v1/jobs").await.json()["jobs"][0]["id"].as_str().unwrap().to_owned();
    let job = id.parse().unwrap();
    let name = RemoteName::new(job, world.run(job, "east").await);
    assert_eq!(world.get("/api/jobs/mine/logs").await.json(), json!({"logs": ""}));
    world.driver.logs.lock().unwrap().insert(name.to_string(), Log::Text("hello\n"));
    assert_eq!(world.get("/api/jobs/mine/logs").await.json(), json!({"logs": "hello\n"}));
    let info = world.get("/api/jobs/mine").await.json();
    assert_eq!(info["message"], "Job is currently running. It is on east as attempt 1.");
}
