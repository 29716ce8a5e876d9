//! Numbers as headers have them. By hand, since every hit has several.

/// A number in decimal digits.
pub(super) struct Decimal {
    digits: [u8; 20],
    begin: usize,
}

impl Decimal {
    pub(super) fn of(mut number: u64) -> Self {
        let (mut digits, mut begin) = ([b'0'; 20], 20);
        loop {
            begin -= 1;
            digits[begin] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { digits, begin };
            }
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.digits[self.begin..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_print() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX - 1, u64::MAX] {
            assert_eq!(Decimal::of(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
