//! Which namespaces the operator watches.

use std::{collections::BTreeSet, fmt::Debug};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, ObjectMeta},
    core::DynamicResourceScope,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use ping_api::{crd::PingPipeline, kinds::Kind};

/// Which PingPipelines this operator manages, and what it may read besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All in the cluster.
    Cluster,
    /// Those in some namespaces.
    Namespaces {
        /// Namespaces of PingPipelines and of everything that belongs to them.
        watched: BTreeSet<String>,
        /// Namespaces with Kafka clusters that these pipelines may use, if a grant there allows it.
        referenced: BTreeSet<String>,
    },
}

impl Scope {
    /// One namespace.
    #[must_use]
    pub fn namespace(name: impl Into<String>) -> Self {
        Self::Namespaces { watched: [name.into()].into(), referenced: BTreeSet::new() }
    }

    /// The APIs to watch for objects of `kind`: one for the cluster, or one per namespace.
    #[must_use]
    pub fn apis<K>(&self, kind: Kind, client: &Client) -> Vec<Api<K>>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        let resource = kind.api_resource();
        match self {
            Self::Cluster => vec![Api::all_with(client.clone(), &resource)],
            Self::Namespaces { watched, referenced } => {
                let referenced = referenced.iter().filter(|name| kind.is_shared() && !watched.contains(*name));
                let all = watched.iter().chain(referenced);
                all.map(|name| Api::namespaced_with(client.clone(), name, &resource)).collect()
            }
        }
    }

    /// Watches the PingPipelines. One store can be filled from the stream, however many namespaces there are.
    #[must_use]
    pub fn pipelines(&self, client: &Client) -> BoxStream<'static, watcher::Result<Event<PingPipeline>>> {
        match self {
            Self::Cluster => watch(Api::all(client.clone())).boxed(),
            Self::Namespaces { watched, .. } => {
                let watches = watched.iter().map(|name| watch(Api::namespaced(client.clone(), name)));
                merge(watches.collect()).boxed()
            }
        }
    }
}

/// Watches the PingPipelines of `api`, without their managed fields: nothing reads them, and they need more memory than all the rest.
fn watch(api: Api<PingPipeline>) -> impl Stream<Item = watcher::Result<Event<PingPipeline>>> + Send + 'static {
    watcher(api, watcher::Config::default()).default_backoff().modify(|pipeline| pipeline.managed_fields_mut().clear())
}

/// Merges watches of different namespaces. Each starts with a list, and starts over after an error. A store would take such a list for the
/// whole cluster and drop the objects of other namespaces, so it becomes one event per object that changed or is gone.
fn merge<K, S>(watches: Vec<S>) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource<DynamicType: Default> + Default + Debug + Send + 'static,
    S: Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
{
    let watches: SelectAll<BoxStream<'static, watcher::Result<Event<K>>>> =
        watches.into_iter().map(|watch| increments(watch).boxed()).collect();
    // A store is ready after the first list.
    stream::iter([Ok(Event::Init), Ok(Event::InitDone)]).chain(watches)
}

/// The events of one namespace without its lists.
fn increments<K, S>(watch: S) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource<DynamicType: Default> + Default + Send + 'static,
    S: Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
{
    let mut known = Known::default();
    watch.flat_map(move |event| {
        let events = match event {
            Ok(event) => known.apply(event).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(events)
    })
}

/// Namespace and name of an object.
type ObjectName = (Option<String>, String);

/// The objects of one namespace that a store was given, by name: a copy of each would need as much memory as the store.
#[derive(Default)]
struct Known {
    objects: BTreeSet<ObjectName>,
    listed: BTreeSet<ObjectName>,
}

impl Known {
    fn apply<K: Resource + Default>(&mut self, event: Event<K>) -> Vec<Event<K>> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                let name = object_name(&object);
                self.listed.insert(name.clone());
                // Also in a list that is cut off.
                self.objects.insert(name);
                vec![Event::Apply(object)]
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone = self.objects.difference(&listed).cloned().map(|name| Event::Delete(named(name))).collect();
                self.objects = listed;
                gone
            }
            Event::Apply(object) => {
                self.objects.insert(object_name(&object));
                vec![Event::Apply(object)]
            }
            Event::Delete(object) => {
                self.objects.remove(&object_name(&object));
                vec![Event::Delete(object)]
            }
        }
    }
}

fn object_name<K: Resource>(object: &K) -> ObjectName {
    let metadata = object.meta();
    (metadata.namespace.clone(), metadata.name.clone().unwrap_or_default())
}

/// An object that is gone. A store needs no more of it than its name.
fn named<K: Resource + Default>((namespace, name): ObjectName) -> K {
    let mut object = K::default();
    *object.meta_mut() = ObjectMeta { namespace, name: Some(name), ..ObjectMeta::default() };
    object
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::reflector;

    use super::*;

    fn object(namespace: &str, name: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some(namespace.into());
        object.metadata.name = Some(name.into());
        object
    }

    #[tokio::test]
    async fn a_list_of_one_namespace_does_not_remove_the_objects_of_another() {
        let list = |objects: Vec<ConfigMap>| {
            let applied = objects.into_iter().map(Event::InitApply);
            [Event::Init].into_iter().chain(applied).chain([Event::InitDone]).collect::<Vec<_>>()
        };
        let mut first = list(vec![object("a", "one"), object("a", "two")]);
        first.extend(list(vec![object("a", "two"), object("a", "three")]));
        let second = list(vec![object("b", "one")]);
        let (store, writer) = reflector::store();
        let merged = merge([first, second].map(|events| stream::iter(events.into_iter().map(Ok))).into());
        let _: Vec<_> = merged.reflect(writer).collect().await;
        store.wait_until_ready().await.unwrap();
        let mut left: Vec<String> = store
            .state()
            .iter()
            .map(|object| format!("{}/{}", object.namespace().unwrap(), object.name_any()))
            .collect();
        left.sort();
        assert_eq!(left, ["a/three", "a/two", "b/one"]);
    }
}
