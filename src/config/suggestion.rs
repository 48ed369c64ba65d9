//! Which known name was probably meant.

/// The known name that is the fewest slips of the keyboard away, if that is near enough to be worth
/// naming. The last part of a URN stands for the whole of it.
fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 100;
    if written.len() > LONGEST {
        return None;
    }
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let written = plain(written);
    known
        .into_iter()
        .filter(|name| name.len() <= LONGEST)
        .map(|name| {
            let last = name.rsplit(':').next().unwrap_or(name);
            let apart = distance(&written, &plain(name)).min(distance(&written, &plain(last)));
            (apart, name)
        })
        .filter(|(apart, _)| *apart <= written.chars().count() / 3)
        .min_by_key(|(apart, _)| *apart)
        .map(|(_, name)| name)
}

/// `; did you mean …?`, or nothing.
pub(super) fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, known).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((j, b), above) in b.iter().enumerate().zip(row.windows(2)) {
            let [diagonal, upper] = *above else { continue };
            let left = next.get(j).copied().unwrap_or(usize::MAX - 1);
            next.push((diagonal + usize::from(a != *b)).min(upper + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_slips() {
        for (a, b, slips) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "abd", 1), ("ab", "abc", 1), ("", "xy", 2)]
        {
            assert_eq!(distance(a, b), slips, "{a} {b}");
            assert_eq!(distance(b, a), slips, "{b} {a}");
        }
    }

    #[test]
    fn near_names_are_named_and_far_ones_not() {
        let known = ["client_id", "client_secret", "type", "name"];
        assert_eq!(nearest("clientid", known), Some("client_id"));
        assert_eq!(nearest("client-secret", known), Some("client_secret"));
        assert_eq!(nearest("Type", known), Some("type"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"x".repeat(1000), known), None);
    }
}
