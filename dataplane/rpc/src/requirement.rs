//! What a call needs, by its path. The scope of what it may concern is checked after decoding.

use ping_identity::Permission;
use ping_proto::{
    EVENT_SERVICE_SERVICE_NAME, LIVE_SERVICE_SERVICE_NAME, PING_SERVICE_SERVICE_NAME, SOURCE_SERVICE_SERVICE_NAME,
    health::HEALTH_SERVICE_NAME,
};

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requirement {
    /// Nothing: probes have no credentials.
    Nothing,
    /// Valid credentials.
    Credentials,
    /// A permission for some source and kind.
    Permission(Permission),
}

/// What a call of the API at `path`, without its first slash, needs. A method that is not known here needs the most.
pub(super) fn of_method(path: &str, reflection_is_open: bool) -> Requirement {
    let Some((service, method)) = path.split_once('/') else { return Requirement::Permission(Permission::Admin) };
    match (service, method) {
        (PING_SERVICE_SERVICE_NAME, "PingCount") | (SOURCE_SERVICE_SERVICE_NAME | LIVE_SERVICE_SERVICE_NAME, _) => {
            Requirement::Permission(Permission::Read)
        }
        (PING_SERVICE_SERVICE_NAME, "Ping" | "StreamPings") | (EVENT_SERVICE_SERVICE_NAME, _) => {
            Requirement::Permission(Permission::Ingest)
        }
        (HEALTH_SERVICE_NAME, _) => Requirement::Nothing,
        (service, _) if service.starts_with("grpc.reflection.") => {
            if reflection_is_open {
                Requirement::Nothing
            } else {
                Requirement::Credentials
            }
        }
        _ => Requirement::Permission(Permission::Admin),
    }
}

/// What a request to the admin port needs.
pub(super) fn of_admin(path: &str) -> Requirement {
    match path {
        "/healthz" | "/readyz" => Requirement::Nothing,
        "/metrics" => Requirement::Permission(Permission::Metrics),
        _ => Requirement::Permission(Permission::Admin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_needs_its_permission_and_an_unknown_one_the_most() {
        use Permission::{Admin, Ingest, Metrics, Read};
        for (path, permission) in [
            ("ping.v1.PingService/Ping", Ingest),
            ("ping.v1.PingService/StreamPings", Ingest),
            ("ping.v1.PingService/PingCount", Read),
            ("ping.v1.PingService/NewMethod", Admin),
            ("ping.v1.EventService/Record", Ingest),
            ("ping.v1.EventService/RecordBatch", Ingest),
            ("ping.v1.EventService/RecordStream", Ingest),
            ("ping.v1.SourceService/GetStatus", Read),
            ("ping.v1.SourceService/Series", Read),
            ("ping.v1.LiveService/Watch", Read),
            ("ping.v1.AdminService/Verify", Admin),
            ("ping.v1.AdminService/RevokeStatus", Admin),
            ("ping.v1.AdminService/DeadLetters", Admin),
            ("new.v1.Service/Method", Admin),
            ("", Admin),
        ] {
            assert_eq!(of_method(path, true), Requirement::Permission(permission), "{path}");
        }
        assert_eq!(of_method("grpc.health.v1.Health/Check", false), Requirement::Nothing);
        let reflection = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert_eq!(of_method(reflection, true), Requirement::Nothing);
        assert_eq!(of_method(reflection, false), Requirement::Credentials);
        assert_eq!(of_admin("/readyz"), Requirement::Nothing);
        assert_eq!(of_admin("/metrics"), Requirement::Permission(Metrics));
        assert_eq!(of_admin("/ping.v1.AdminService/Verify"), Requirement::Permission(Admin));
    }
}
