//! Rows as structs, by the names of their columns.

/// Implements `FromRow` for a struct from the listed columns. The derive macro of sqlx would do the same, but compiles the drivers a
/// second time, for the compiler.
#[macro_export]
macro_rules! from_row {
    ($row:ident of $source:ty { $($column:ident),* $(,)? }) => {
        impl ::sqlx::FromRow<'_, $source> for $row {
            fn from_row(row: &$source) -> Result<Self, ::sqlx::Error> {
                Ok(Self { $($column: ::sqlx::Row::try_get(row, stringify!($column))?),* })
            }
        }
    };
}
