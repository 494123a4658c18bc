use super::*;

const DEPTH_OF_CACHE: u32 = 4;

fn rule(negative_when: &str, positive_when: &str) -> StatusRule {
    StatusRule { negative_when: negative_when.parse().unwrap(), positive_when: positive_when.parse().unwrap() }
}

fn count<'a>(
    counts: &CrossingCounts,
    rule: &StatusRule,
    events: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Crossings {
    let mut changes = Changes::default();
    for (source, kind) in events {
        changes.add(source, kind, 0);
    }
    counts.count(rule, DEPTH_OF_CACHE, &changes)
}

fn place(source: &str) -> (Node, usize) {
    Node::with_part(source, DEPTH_OF_CACHE, LEVELS)
}

/// Sources of the node of `a`, of other parts than that of `a` and than each other's.
fn others() -> Vec<String> {
    let (node, part) = place("a");
    let mut parts = BTreeSet::from([part]);
    let names = (0..10_000).map(|number| format!("source-{number}"));
    names.filter(|name| place(name).0 == node && parts.insert(place(name).1)).collect()
}

#[test]
fn a_node_is_held_for_each_interval_of_events_of_a_part() {
    let (rule, counts) = (rule("failed=1", "succeeded=1000"), CrossingCounts::default());
    for round in 1..=375 {
        let crossings = count(&counts, &rule, [("a", "succeeded"), ("a", "other")]);
        assert!(crossings.are_counted);
        let expected = if round % 125 == 0 { vec![NodeHold::dropping(place("a").0)] } else { Vec::new() };
        assert_eq!(crossings.nodes, expected, "{round}");
    }
    assert!(!count(&counts, &rule, [("a", "other")]).are_counted);
}

#[test]
fn parts_are_counted_apart_until_their_node_is_dropped() {
    let (rule, counts, others) = (rule("failed=1", "succeeded=1000"), CrossingCounts::default(), others());
    assert_eq!(others.len(), 31);
    let all = || others.iter().map(String::as_str).chain(["a"]);
    for _ in 0..124 {
        assert_eq!(count(&counts, &rule, all().map(|source| (source, "succeeded"))).nodes, []);
    }
    let node = place("a").0;
    // What is cached from now on has the events of all parts.
    assert_eq!(count(&counts, &rule, [("a", "succeeded")]).nodes, [NodeHold::dropping(node)]);
    for _ in 0..124 {
        assert_eq!(count(&counts, &rule, all().map(|source| (source, "succeeded"))).nodes, []);
    }
    // Statuses that may stay do not begin a new count.
    let failed = [NodeHold { node, unless: vec![Unless::Negative("a".into())] }];
    assert_eq!(count(&counts, &rule, [("a", "failed")]).nodes, failed);
    assert_eq!(count(&counts, &rule, [("a", "succeeded")]).nodes, [NodeHold::dropping(node)]);
}

#[test]
fn a_small_threshold_holds_a_node_unless_its_source_has_reached_it() {
    let (rule, counts) = (rule("failed=3", "succeeded=14"), CrossingCounts::default());
    let events = [("a", "failed"), ("a", "failed"), ("a", "succeeded"), ("b", "succeeded")];
    let (a, b) = (place("a").0, place("b").0);
    assert_ne!(a, b);
    let nodes = count(&counts, &rule, events).nodes;
    let of_a = vec![Unless::Negative("a".into()), Unless::Decided("a".into())];
    for expected in
        [NodeHold { node: a, unless: of_a }, NodeHold { node: b, unless: vec![Unless::Decided("b".into())] }]
    {
        assert!(nodes.contains(&expected), "{nodes:?}");
    }
    assert_eq!(nodes.len(), 2);
}

#[test]
fn a_revocation_drops_the_statuses_of_its_node() {
    let (rule, counts) = (rule("failed=1", "succeeded=1000"), CrossingCounts::default());
    for events in [["failed", "~revoked:failed:1"], ["~revoked:failed:1", "failed"]] {
        let nodes = count(&counts, &rule, events.map(|kind| ("a", kind))).nodes;
        assert_eq!(nodes, [NodeHold::dropping(place("a").0)]);
    }
}

#[test]
fn too_many_conditions_drop_the_statuses() {
    let (rule, counts, others) = (rule("failed=1", "succeeded=1000"), CrossingCounts::default(), others());
    let failed = |sources: usize| count(&counts, &rule, others[..sources].iter().map(|source| (&**source, "failed")));
    assert_eq!(failed(MAX_CONDITIONS).nodes[0].unless.len(), MAX_CONDITIONS);
    assert_eq!(failed(MAX_CONDITIONS + 1).nodes, [NodeHold::dropping(place("a").0)]);
    assert_eq!(failed(MAX_CONDITIONS + 2).nodes, [NodeHold::dropping(place("a").0)]);
}

#[test]
fn an_event_of_one_kind_counts_for_both_thresholds() {
    let (rule, counts) = (rule("failed=1", "failed=1000"), CrossingCounts::default());
    let conditional = NodeHold { node: place("a").0, unless: vec![Unless::Negative("a".into())] };
    for round in 1..=250 {
        let expected = if round % 125 == 0 { NodeHold::dropping(place("a").0) } else { conditional.clone() };
        assert_eq!(count(&counts, &rule, [("a", "failed")]).nodes, [expected], "{round}");
    }
}
