//! Kubernetes quantities such as `10Gi`, `500m` and `1e3`.

/// The value of `text` in its base unit (bytes or cores); `None` if it is not a quantity.
#[must_use]
pub fn parse(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|number| (number, *factor)))
        .unwrap_or((text, 1.0));
    let value: f64 = number.parse().ok()?;
    (value.is_finite() && number.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)))
        .then_some(value * factor)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn suffixes_are_powers_of_two_and_ten() {
        assert_eq!(parse("10Gi"), Some(10_737_418_240.0));
        assert_eq!(parse("500m"), Some(0.5));
        assert_eq!(parse("2G"), Some(2e9));
        assert_eq!(parse("1e3"), Some(1000.0));
    }

    #[test]
    fn words_are_not_quantities() {
        for text in ["", "ten", "10Gb", "inf", "Gi"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
