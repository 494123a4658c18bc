//! Images that pipelines may use. A pipeline's owner chooses what runs in its pods, which hold passwords for Postgres and Kafka.

use ping_api::{crd::PingPipelineSpec, reason::Reason};

use super::invalid::Invalid;
use crate::cluster_state::ClusterState;

/// Rejects an image that is neither the default nor on the administrator's list.
pub(super) fn images(spec: &PingPipelineSpec, state: &ClusterState) -> Result<(), Invalid> {
    let cluster = spec.postgres.cluster.as_ref();
    let dragonfly = spec.cache.dragonfly.as_ref();
    let named = [
        ("server.image", spec.server.pod.image.as_ref()),
        ("processor.image", spec.processor.pod.image.as_ref()),
        ("postgres.cluster.image", cluster.and_then(|cluster| cluster.image.as_ref())),
        ("cache.dragonfly.image", dragonfly.and_then(|dragonfly| dragonfly.image.as_ref())),
    ];
    let allowed = &state.platform.allowed_images;
    for (field, image) in named {
        let Some(image) = image else { continue };
        // Someone else is asked to run a command with it.
        if !image.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte)) {
            return Err(Invalid::Conflicting(format!(
                "spec.{field} is not the name of an image. Use the form registry/repository:tag"
            )));
        }
        if *image != state.image && !allowed.iter().any(|pattern| matches(pattern, image)) {
            let list = match allowed.is_empty() {
                true => "no other images".into(),
                false => allowed.join(", "),
            };
            return Err(Invalid::Refused(
                Reason::ImageNotAllowed,
                format!(
                    "spec.{field} is \"{image}\", but this operator allows only its default {} and {list}. Remove the field, or \
                     have the operator's administrator add a pattern: helm upgrade … --set 'allowedImages={{{image}}}'",
                    state.image
                ),
            ));
        }
    }
    Ok(())
}

/// True if `image` is `pattern`, in which `*` stands for any characters except `/`.
fn matches(pattern: &str, image: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == image };
    let Some(tail) = image.strip_prefix(start) else { return false };
    let end = tail.find('/').unwrap_or(tail.len());
    (0..=end).filter(|at| tail.is_char_boundary(*at)).any(|at| matches(rest, &tail[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_but_a_slash() {
        for (pattern, image) in [
            ("team/pingd:1.0", "team/pingd:1.0"),
            ("team/pingd:*", "team/pingd:1.0@sha256:0a"),
            ("team/*", "team/pingd:1"),
            ("*/pingd:*", "team/pingd:1"),
            ("registry.test:5000/*/pingd:1.*", "registry.test:5000/team/pingd:1.2"),
            ("pingd*", "pingd"),
        ] {
            assert!(matches(pattern, image), "{pattern} {image}");
        }
        for (pattern, image) in [
            ("team/pingd:1.0", "team/pingd:1.01"),
            ("team/pingd:*", "evil.test/team/pingd:1"),
            ("team/*", "team/evil/pingd:1"),
            ("*", "team/pingd:1"),
            ("*pingd:1", "evil/pingd:1"),
            ("", "pingd"),
            ("team/pingd:*", "team/pingd"),
        ] {
            assert!(!matches(pattern, image), "{pattern} {image}");
        }
    }
}
