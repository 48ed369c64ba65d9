//! Media types as a header names them, in `typ` and `cty` (RFC 7515 §4.1.9, §4.1.10).

/// A media type whose `application/` may be left out, and whose case does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType(String);

impl MediaType {
    pub fn new(typ: &str) -> Self {
        let lower = typ.to_ascii_lowercase();
        let short = lower.strip_prefix("application/").filter(|short| !short.contains('/'));
        Self(short.unwrap_or(&lower).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_and_the_case_make_no_difference_and_all_else_does() {
        for same in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/at+jwt"] {
            assert_eq!(MediaType::new(same), MediaType::new("at+jwt"), "{same}");
        }
        for other in ["jwt", "at+jwt ", "application/application/at+jwt", "text/at+jwt", ""] {
            assert_ne!(MediaType::new(other), MediaType::new("at+jwt"), "{other}");
        }
    }
}
