//! How an error and what caused it read on one line: of an error's own words, `Display` says what was done and
//! `source` says why.

/// `what was done: why: why that`
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
