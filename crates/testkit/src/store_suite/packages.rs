//! Uploaded packages, kept once by content; jobs that the Ray Jobs API shows.

use std::time::Duration;

use yard_ports::packages::PackageRow;

use super::World;
use super::world::{eventually, undated};

const DAY: Duration = Duration::from_hours(24);

fn package(name: &str, object: &str, content: u8) -> PackageRow {
    PackageRow { uri: format!("gcs://{name}"), object: object.to_owned(), sha256: [content; 32], bytes: 7 }
}

/// The second upload of the same content is dropped, whatever it is called.
pub async fn content_is_kept_once(w: &World) {
    let first = w.store.keep_package(&package("a.zip", "o1", 1), DAY).await.unwrap();
    assert_eq!((first.object.as_str(), first.dropped.len()), ("o1", 0));
    let again = w.store.keep_package(&package("a.zip", "o2", 1), DAY).await.unwrap();
    assert_eq!((again.object.as_str(), again.dropped), ("o1", vec!["o2".to_owned()]));
    let other = w.store.keep_package(&package("b.zip", "o3", 1), DAY).await.unwrap();
    assert_eq!((other.object.as_str(), other.dropped), ("o1", vec!["o3".to_owned()]));
    let found = w.store.use_package("gcs://b.zip", DAY).await.unwrap().unwrap();
    assert_eq!(found, package("b.zip", "o1", 1));
    assert_eq!(w.store.use_package("gcs://c.zip", DAY).await.unwrap(), None);
    // Other content under the same name: what it had is dropped once no name has it.
    let replaced = w.store.keep_package(&package("a.zip", "o4", 2), DAY).await.unwrap();
    assert_eq!((replaced.object.as_str(), replaced.dropped.len()), ("o4", 0));
    let last = w.store.keep_package(&package("b.zip", "o5", 2), DAY).await.unwrap();
    assert_eq!((last.object.as_str(), last.dropped), ("o4", vec!["o1".to_owned(), "o5".to_owned()]));
    let asked = ["o1", "o4", "o5"].map(str::to_owned);
    assert_eq!(w.store.named_objects(&asked).await.unwrap(), ["o4"]);
}

/// Uploads of one package at once: one content, and nothing of it dropped.
pub async fn uploads_at_once_keep_one_content(w: &World) {
    let upload =
        async |i: u8| w.store.keep_package(&package("a.zip", &format!("o{i}"), 1), DAY).await.unwrap();
    let kept = futures::future::join_all((0..8).map(upload)).await;
    assert!(kept.iter().all(|k| k.object == kept[0].object && !k.dropped.contains(&kept[0].object)));
    assert_eq!(kept.iter().map(|k| k.dropped.len()).sum::<usize>(), 7);
}

/// What nobody uses for its time goes, with its content unless another name has that.
pub async fn packages_expire_unless_used(w: &World) {
    w.store.keep_package(&package("old.zip", "o1", 1), Duration::ZERO).await.unwrap();
    w.store.keep_package(&package("twin.zip", "o2", 1), DAY).await.unwrap();
    w.store.keep_package(&package("lone.zip", "o3", 3), Duration::ZERO).await.unwrap();
    w.store.keep_package(&package("used.zip", "o4", 4), Duration::ZERO).await.unwrap();
    w.store.use_package("gcs://used.zip", DAY).await.unwrap().unwrap();
    // A shorter use later does not take from a longer one.
    w.store.use_package("gcs://used.zip", Duration::ZERO).await.unwrap().unwrap();
    let mut gone = Vec::new();
    eventually("they have expired", async || {
        gone.extend(w.store.expire_packages(10).await.unwrap());
        (!gone.is_empty()).then_some(())
    })
    .await;
    gone.extend(w.store.expire_packages(10).await.unwrap());
    assert_eq!(gone, ["o3"]);
    assert_eq!(w.store.use_package("gcs://old.zip", DAY).await.unwrap(), None);
    assert!(w.store.use_package("gcs://twin.zip", DAY).await.unwrap().is_some());
    assert!(w.store.use_package("gcs://used.zip", DAY).await.unwrap().is_some());
}

/// A job that waits keeps what it names, whatever door it came through; one that is refused keeps nothing.
pub async fn waiting_jobs_keep_their_packages(w: &World) {
    for (i, name) in (1..).zip(["dir.zip", "module.zip", "other.zip"]) {
        w.store.keep_package(&package(name, &format!("o{i}"), i), Duration::ZERO).await.unwrap();
    }
    let env = |text: &str| serde_json::from_str(text).unwrap();
    w.accept_with("ads", 2, |i, job| {
        job.spec.runtime_env = match i {
            0 => env(r#"{"working_dir": "gcs://dir.zip", "py_modules": ["gcs://module.zip", "gcs://nowhere.zip"]}"#),
            _ => env(r#"{"working_dir": "gcs://dir.zip"}"#),
        };
    })
    .await;
    let mut gone = Vec::new();
    eventually("the other has expired", async || {
        gone.extend(w.store.expire_packages(10).await.unwrap());
        (!gone.is_empty()).then_some(())
    })
    .await;
    gone.extend(w.store.expire_packages(10).await.unwrap());
    assert_eq!(gone, ["o3"]);
    let asked = ["o1", "o2", "o3"].map(str::to_owned);
    assert_eq!(w.store.named_objects(&asked).await.unwrap().len(), 2);
}

/// Jobs are found by key over teams until they are hidden; everything else about them stays.
pub async fn hidden_jobs_are_not_shown(w: &World) {
    let (ads, ml) = (w.accept("ads", 2).await, w.accept("ml", 1).await);
    let key = w.view(ads[0]).await.key;
    let teams = ["ads".parse().unwrap(), "ml".parse().unwrap()];
    assert_eq!(w.store.shown_jobs_of_key(&key, &teams).await.unwrap(), [ads[0]]);
    assert!(w.store.shown_jobs_of_key(&key, &teams[1..]).await.unwrap().is_empty());
    assert!(w.store.shown_jobs_of_key("no-such", &teams).await.unwrap().is_empty());
    let shown = w.store.shown_jobs(None, 10).await.unwrap();
    assert_eq!(shown.iter().map(|v| v.lifecycle.id).collect::<Vec<_>>(), [ml[0], ads[1], ads[0]]);
    assert_eq!(undated(shown[2].clone()), w.view(ads[0]).await);
    for _ in 0..2 {
        w.store.hide_job(ads[0]).await.unwrap();
    }
    assert!(w.store.shown_jobs_of_key(&key, &teams).await.unwrap().is_empty());
    assert!(w.store.shown_jobs(Some(&[]), 10).await.unwrap().is_empty());
    let shown = w.store.shown_jobs(Some(&teams[..]), 10).await.unwrap();
    assert_eq!(shown.iter().map(|v| v.lifecycle.id).collect::<Vec<_>>(), [ml[0], ads[1]]);
    let shown = w.store.shown_jobs(Some(&teams[..1]), 10).await.unwrap();
    assert_eq!(shown.iter().map(|v| v.lifecycle.id).collect::<Vec<_>>(), [ads[1]]);
    assert_eq!(w.store.shown_jobs(None, 1).await.unwrap().len(), 1);
    assert_eq!(w.view(ads[0]).await.key, key);
}
