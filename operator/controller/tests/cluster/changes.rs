//! Each field of the spec, changed, reaches its object: the table is `changes.yaml`.

use ping_api::kinds::Kind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{
    TestNamespace,
    fake_operators::{api, set_allowed_secret},
    operator::{Operator, settings},
    until,
};

#[derive(Deserialize)]
struct Change {
    change: Value,
    /// Kind and name.
    r#in: String,
    /// A JSON pointer.
    at: String,
    is: Value,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_changed_field_reaches_its_object() {
    let changes: Vec<Change> = yaml_serde::from_str(include_str!("changes.yaml")).unwrap();
    let test = TestNamespace::new("changes").await;
    let mut settings = settings(&test, "http://127.0.0.1:9");
    settings.platform.allowed_images = vec!["mine:1".into()];
    let _operator = Operator::start(test.client.clone(), settings);
    set_allowed_secret(&test, "mine", json!({ "password": "mine" })).await;
    test.create("demo", json!({})).await;
    for Change { change, r#in, at, is } in changes {
        let (kind, name) = r#in.split_once(' ').unwrap();
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind).unwrap();
        test.change("demo", change.clone()).await.unwrap_or_else(|error| panic!("{change}: {error}"));
        until(&format!("{change} at {at} of {name}"), async || {
            let found = api(&test, kind, &test.namespace).get_opt(name).await.unwrap().ok_or("no object")?;
            let value = serde_json::to_value(found).unwrap();
            let now = value.pointer(&at).cloned().unwrap_or_default();
            if now == is { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
    }
}
