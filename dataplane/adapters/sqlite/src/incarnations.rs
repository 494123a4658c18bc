//! The last change of an incarnation, beside the result of the last audit.

use async_trait::async_trait;

use super::{SqliteStore, failed};
use ping_core::Millis;
use ping_ports::{Incarnation, Incarnations, SAME_CHANGE, StoreError};

/// $1: the incarnation, $2: phantoms, $3: the time, $4: after this, it is the same change.
const NOTE: &str = "UPDATE source_audit SET
    change_noticed_ms = CASE WHEN changed_incarnation = $1 AND change_noted_ms > $4 THEN change_noticed_ms ELSE $3 END,
    phantom_events = $2 + CASE WHEN changed_incarnation = $1 AND change_noted_ms > $4 THEN phantom_events ELSE 0 END,
    changed_incarnation = $1, change_noted_ms = $3";

#[async_trait]
impl Incarnations for SqliteStore {
    async fn note_change(&self, of: Incarnation, phantoms: i64, at: Millis) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let note = sqlx::query(NOTE).bind(of.code()).bind(phantoms).bind(at).bind(at - SAME_CHANGE);
        note.execute(&mut *writer).await.map_err(failed)?;
        Ok(())
    }
}
