//! Secrets that the operator issues, and copies of Kafka's Secrets if Kafka is in another namespace.

use k8s_openapi::api::core::v1::Secret;
use ping_api::kinds::Kind;

use super::metadata::metadata;
use crate::{desired::Desired, pipeline::Pipeline};

pub(super) fn build(pipeline: &Pipeline, desired: &mut Desired) {
    for issued in pipeline.issued.iter().chain(&pipeline.security.files) {
        let secret = Secret {
            metadata: metadata(pipeline, &issued.name, issued.component),
            type_: Some(issued.type_.into()),
            data: Some(issued.data.clone()),
            ..Secret::default()
        };
        desired.push(Kind::Secret, &pipeline.names.namespace, &issued.name, secret);
    }
    for copy in &pipeline.copies {
        let key = pipeline.names.key(Kind::Secret, &copy.name);
        match &copy.data {
            None => desired.keep(key),
            Some(data) => {
                let secret = Secret {
                    metadata: metadata(pipeline, &copy.name, "kafka"),
                    data: Some(data.clone()),
                    ..Secret::default()
                };
                desired.push(Kind::Secret, &key.namespace, &key.name, secret);
            }
        }
    }
}
