//! Removes confidential values from an object. Pure.

use serde_json::{Value, json};

const HIDDEN: &str = "REDACTED";

/// `object` without values of Secrets, values of environment variables that users set, credentials in URLs, and bookkeeping fields.
pub(crate) fn redact(mut object: Value) -> Value {
    let is_secret = object["kind"] == "Secret";
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        // A copy of the whole object, including confidential values.
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    for part in ["data", "stringData"] {
        if let Some(values) = object[part].as_object_mut().filter(|_| is_secret) {
            values.values_mut().for_each(|value| *value = json!(HIDDEN));
        }
    }
    walk(&mut object);
    object
}

fn walk(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                match field.as_array_mut().filter(|_| name == "env") {
                    Some(variables) => variables.iter_mut().for_each(hide_variable),
                    None => walk(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(walk),
        Value::String(text) => hide_credentials(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The operator never sets passwords as plain values, but users may.
fn hide_variable(variable: &mut Value) {
    let ours = variable["name"].as_str().is_some_and(ping_api::env::is_reserved);
    match variable.get_mut("value") {
        Some(value) if !ours => *value = json!(HIDDEN),
        _ => walk(variable),
    }
}

/// Removes the credentials from `scheme://user:password@host`.
fn hide_credentials(text: &mut String) {
    let mut from = 0;
    while let Some(scheme) = text[from..].find("://").map(|at| from + at + 3) {
        let rest = &text[scheme..];
        let authority = &rest[..rest.find(['/', ' ', '"', '\n', '?']).unwrap_or(rest.len())];
        from = scheme;
        if let Some(at) = authority.rfind('@') {
            text.replace_range(scheme..scheme + at, HIDDEN);
            from = scheme + HIDDEN.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_removed() {
        let object = json!({
            "kind": "Secret", "metadata": {
                "name": "demo-postgres-app", "managedFields": [{ "manager": "a" }],
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "hunter2", "kept": "yes" },
            },
            "data": { "uri": "aHVudGVyMg==" }, "stringData": { "password": "hunter2" },
        });
        let left = redact(object);
        assert_eq!(left["data"]["uri"], HIDDEN);
        assert_eq!(left["metadata"]["annotations"], json!({ "kept": "yes" }));
        assert!(!left.to_string().contains("hunter2") && left["metadata"].get("managedFields").is_none());
    }

    #[test]
    fn values_of_user_variables_and_credentials_in_urls_are_hidden() {
        let env = json!([
            { "name": "API_KEY", "value": "hunter2" },
            { "name": "PING_LISTEN", "value": "0.0.0.0:8080" },
            { "name": "FROM", "valueFrom": { "secretKeyRef": { "name": "a", "key": "b" } } },
        ]);
        let left = redact(json!({ "kind": "Deployment", "spec": { "env": env } }));
        assert_eq!(left["spec"]["env"][0]["value"], HIDDEN);
        assert_eq!(left["spec"]["env"][1]["value"], "0.0.0.0:8080");
        assert_eq!(left["spec"]["env"][2]["valueFrom"]["secretKeyRef"]["name"], "a");
        let message =
            "cannot reach postgres://pings:hunter2@db:5432/pings, nor http://cache:6379/ nor redis://:hunter2@cache";
        let left = redact(json!({ "status": { "message": message } }));
        let expected =
            "cannot reach postgres://REDACTED@db:5432/pings, nor http://cache:6379/ nor redis://REDACTED@cache";
        assert_eq!(left["status"]["message"], expected);
    }
}
