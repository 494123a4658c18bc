//! Checks that several parts of the policy need.

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 63;

/// Why a policy is invalid.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not YAML, or a field is unknown, missing or of another type. The cause names it.
    #[error("{0}")]
    Yaml(#[from] yaml_serde::Error),
    /// A value is invalid.
    #[error("{at}: {problem}")]
    Invalid {
        /// The entry, such as `rules[2].sources`.
        at: String,
        /// What is wrong, and what to write.
        problem: String,
    },
}

/// The default of `sources` and `kinds`.
pub(super) fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

pub(super) fn invalid<T>(at: impl Into<String>, problem: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError::Invalid { at: at.into(), problem: problem.into() })
}

pub(super) fn check_name(at: &str, name: &str) -> Result<(), PolicyError> {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(valid) {
        return Ok(());
    }
    invalid(at, format!("\"{name}\" is not a name; use up to {MAX_NAME_BYTES} of a-z, 0-9, \"-\" and \".\""))
}

/// Checks the names of callers; `others` are those without a colon that are allowed besides patterns.
pub(super) fn check_callers(at: &str, callers: &[String], others: &[&str]) -> Result<(), PolicyError> {
    let valid = |caller: &String| caller.contains([':', '*']) || others.contains(&caller.as_str());
    let Some(place) = callers.iter().position(|caller| !valid(caller)) else { return Ok(()) };
    let others: String = others.iter().map(|other| format!("{other}, ")).collect();
    let caller = &callers[place];
    let forms = format!("token:NAME, cert:NAME, ISSUER:SUBJECT, group:ISSUER:GROUP, {others}or *")
        .replace("GROUP, or", "GROUP or");
    invalid(format!("{at}[{place}]"), format!("\"{caller}\" is not a caller; write {forms}"))
}
