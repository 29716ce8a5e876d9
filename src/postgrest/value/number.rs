//! JSON numbers of any size, by their digits.

/// The most digits of a number whose printed form is vouched for. `numeric`
/// itself holds 131,072 before and 16,383 after the point.
const MAX_DIGITS: usize = 1000;

/// A JSON number as it was written. Two are equal if their values are.
#[derive(Clone, Debug)]
pub(super) struct Number(String);

/// `0.<digits> * 10^exponent`, the digits without zeros at either end.
#[derive(PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    /// `json` is a JSON number.
    pub(super) fn new(json: &str) -> Self {
        Self(json.to_owned())
    }

    /// How PostgreSQL prints it as a `numeric` without a declared scale: digit
    /// by digit, but for the sign of a zero. `None`: it has an exponent, or
    /// more than 1000 digits.
    pub(super) fn numeric(&self) -> Option<&str> {
        let text = self.0.as_str();
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.contains(['e', 'E']) || digits.len() > MAX_DIGITS {
            return None;
        }
        let is_zero = digits.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        Some(if is_zero { digits } else { text })
    }

    /// `None`: the exponent is out of all bounds.
    fn decimal(&self) -> Option<Decimal> {
        let text = self.0.as_str();
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse().ok()?),
            None => (text, 0_i64),
        };
        let magnitude = mantissa.strip_prefix('-').unwrap_or(mantissa);
        let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_start_matches('0');
        let leading_zeros = digits.len() - significant.len();
        let significant = significant.trim_end_matches('0');
        if significant.is_empty() {
            return Some(Decimal { is_negative: false, digits: String::new(), exponent: 0 });
        }
        let point = i64::try_from(whole.len()).ok()? - i64::try_from(leading_zeros).ok()?;
        Some(Decimal {
            is_negative: mantissa.len() > magnitude.len(),
            digits: significant.to_owned(),
            exponent: exponent.checked_add(point)?,
        })
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        match (self.decimal(), other.decimal()) {
            (Some(one), Some(other)) => one == other,
            _ => self.0 == other.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_by_value() {
        for (one, other, equal) in [
            ("1", "1.000", true),
            ("100", "1e2", true),
            ("0.012", "1.2E-2", true),
            ("-0", "0.00e5", true),
            ("120e-1", "12", true),
            ("1e+2", "100", true),
            ("1", "-1", false),
            ("1", "10", false),
            ("0.1", "0.01", false),
            ("10000000000000000000001", "10000000000000000000000", false),
            ("0.1", "0.1000000000000000055511151231257827", false),
            ("1e99999999999999999999", "1e99999999999999999999", true),
            ("1e99999999999999999999", "1e99999999999999999998", false),
            ("1e9223372036854775807", "1e-9223372036854775808", false),
        ] {
            assert_eq!(Number::new(one) == Number::new(other), equal, "{one} {other}");
        }
    }

    #[test]
    fn printed_digit_by_digit() {
        for (json, expected) in [
            ("0", Some("0")),
            ("-0", Some("0")),
            ("-0.00", Some("0.00")),
            ("-1.50", Some("-1.50")),
            ("0.10", Some("0.10")),
            ("12345678901234567890.123456789", Some("12345678901234567890.123456789")),
            ("1e2", None),
            ("1E-2", None),
        ] {
            assert_eq!(Number::new(json).numeric(), expected, "{json}");
        }
        assert!(Number::new(&"9".repeat(MAX_DIGITS)).numeric().is_some());
        assert_eq!(Number::new(&"9".repeat(MAX_DIGITS + 1)).numeric(), None);
    }

    proptest! {
        #[test]
        fn moving_the_point_and_adding_zeros_is_no_difference(
            digits in "-?[1-9][0-9]{0,20}", shift in 0_usize..20, zeros in 0_usize..4
        ) {
            let zeros = "0".repeat(zeros);
            let shifted = Number::new(&format!("{digits}{}.{zeros}e-{shift}", "0".repeat(shift)));
            prop_assert_eq!(&shifted, &Number::new(&digits));
            prop_assert_ne!(shifted, Number::new(&format!("{digits}.{zeros}1")));
        }
    }
}
