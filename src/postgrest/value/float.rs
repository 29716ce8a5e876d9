//! `real` and `double precision`.
//!
//! PostgreSQL prints the shortest digits that read back as the same value; of
//! two that are equally near, the even ones. `serde_json` chooses the same,
//! where Rust itself takes the greater ones. The two differ in magnitudes that
//! are not vouched for here: PostgreSQL writes an exponent earlier, and chooses
//! other digits where the shortest lie exactly halfway between two values.

use std::str::FromStr;

use serde::Serialize;

/// How PostgreSQL prints a JSON number that a `real` is set to. `None`: it
/// isn't certain.
pub(super) fn real(json: &str) -> Option<String> {
    printed::<f32>(json, 1e-4, 1e6)
}

/// How PostgreSQL prints a JSON number that a `double precision` is set to.
/// `None`: it isn't certain.
pub(super) fn double(json: &str) -> Option<String> {
    printed::<f64>(json, 1e-4, 1e15)
}

/// The value of a JSON number, if it is finite.
pub(super) fn parsed<F: Float>(json: &str) -> Option<F> {
    if !json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    json.parse().ok().filter(|value: &F| value.is_finite())
}

/// Magnitudes from `least` to below `limit` are printed without an exponent.
fn printed<F: Float>(json: &str, least: F, limit: F) -> Option<String> {
    let value: F = parsed(json)?;
    let magnitude = value.abs();
    let is_plain = magnitude >= least && magnitude < limit;
    // PostgreSQL refuses a number that is too small for anything but zero.
    let is_zero = !json.bytes().any(|byte| matches!(byte, b'1'..=b'9' | b'e' | b'E'));
    let text = serde_json::to_string(&value).ok().filter(|_| is_plain || is_zero)?;
    Some(text.strip_suffix(".0").unwrap_or(&text).to_owned())
}

/// What `f32` and `f64` have in common.
pub(super) trait Float: FromStr + Serialize + PartialOrd + Copy {
    /// The magnitude.
    fn abs(self) -> Self;
    /// Whether it is neither infinite nor not a number.
    fn is_finite(self) -> bool;
}

impl Float for f32 {
    fn abs(self) -> Self {
        self.abs()
    }

    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

impl Float for f64 {
    fn abs(self) -> Self {
        self.abs()
    }

    fn is_finite(self) -> bool {
        self.is_finite()
    }
}
