//! Numbers of one to ten bytes, least significant bits first.

use super::error::FormatError;

pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        // Truncated: the lower seven bits.
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Small negative numbers take little space too.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the functions above wrote.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn number(&mut self) -> Result<u64, FormatError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(FormatError::Truncated)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(FormatError::TooLarge)
    }

    pub(crate) fn size(&mut self) -> Result<usize, FormatError> {
        usize::try_from(self.number()?).map_err(|_| FormatError::TooLarge)
    }

    pub(crate) fn count(&mut self) -> Result<i64, FormatError> {
        i64::try_from(self.number()?).map_err(|_| FormatError::TooLarge)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, FormatError> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(FormatError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], FormatError> {
        let length = self.size()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_survive(number in any::<u64>(), signed in any::<i64>(), bytes in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            put(&mut out, number);
            put_signed(&mut out, signed);
            put_bytes(&mut out, &bytes);
            let mut input = Input(&out);
            prop_assert_eq!((input.number().unwrap(), input.signed().unwrap()), (number, signed));
            prop_assert_eq!((input.bytes().unwrap(), input.0.len()), (bytes.as_slice(), 0));
        }
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        assert!(matches!(Input(&[0x80]).number(), Err(FormatError::Truncated)));
        assert!(matches!(Input(&[0xff; 11]).number(), Err(FormatError::TooLarge)));
        assert!(matches!(Input(&[5, 1]).bytes(), Err(FormatError::Truncated)));
    }
}
