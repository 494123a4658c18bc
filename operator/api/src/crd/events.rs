//! `spec.events`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest number of days that `spec.events.retentionDays` may have.
pub const MAX_RETENTION_DAYS: i32 = 3650;

/// How long raw events are kept. Totals, counts per minute and day, and the counts per source remain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct EventsSpec {
    /// Days that raw events are kept, not counting today; 0 keeps them indefinitely. Default 0; 0 to 3650. Older events are deleted from
    /// Postgres, a day at a time: their counts remain, time ranges before that have a resolution of a minute, and an event whose id is older is
    /// refused. A lower value deletes older events; a higher value does not restore deleted ones.
    #[schemars(range(min = 0, max = 3650))]
    pub retention_days: i32,
}
