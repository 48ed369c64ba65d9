//! The shapes that a value in a token can have: right, wrong, and broken.

/// What a value is, as far as any rule asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// The member is not there.
    Missing,
    /// A string that could name somebody, and is not the right one.
    Word,
    /// A string that can name nobody: empty, too long, with blanks at its ends or control characters.
    Nameless,
    /// A number that is a date long ago, or none that anybody lived to see.
    Past,
    /// A number beyond the year 9999.
    Beyond,
    /// A list of words.
    Words,
    /// A list of the right value alone.
    Listed,
    /// Any other value: null, a boolean, a list of something else, an object.
    Other,
    /// No JSON, or JSON that two parsers could read differently.
    Broken,
}

use Shape::{Beyond, Broken, Listed, Missing, Nameless, Other, Past, Word, Words};

/// Values as they are written into a token; `GOOD` stands for the right one.
const FIXED: [(Shape, &[&str]); 8] = [
    (Missing, &[""]),
    (
        Word,
        &[r#""x""#, r#""0""#, r#""true""#, r#""null""#, r#""1800000600""#, r#""ä""#, r#""a b""#],
    ),
    (
        Nameless,
        &[
            r#""""#,
            r#"" ""#,
            r#""\t""#,
            r#"" x""#,
            r#""x ""#,
            r#""x\n""#,
            r#""\u0000""#,
            r#""a\u0000b""#,
            r#""a\u001fb""#,
            r#""a\u007fb""#,
            r#""a\u0085b""#,
            r#""\u00a0x""#,
        ],
    ),
    (Past, &["0", "-0", "-0.0", "1", "-1", "1.5", "-1.5", "5e-324", "-1e18", "-1e300"]),
    (Beyond, &["253402300800", "1e18", "1e300", "18446744073709551615", "18446744073709551616"]),
    (Words, &["[]", r#"["x"]"#, r#"["x","y"]"#, r#"[""]"#]),
    (Listed, &["[GOOD]"]),
    (
        Other,
        &[
            "null",
            "true",
            "false",
            "{}",
            r#"{"x":GOOD}"#,
            r#"{"":[]}"#,
            "[null]",
            "[true]",
            "[1]",
            "[{}]",
            "[[]]",
            "[[GOOD]]",
            "[GOOD,null]",
            "[GOOD,1]",
            "[1,GOOD]",
        ],
    ),
];

/// What is no JSON, or not in one way alone.
const BROKEN: &[&str] = &[
    r#""\ud800""#,
    r#""\udc00""#,
    r#""\udc00\ud800""#,
    r#""\ud800x""#,
    "\"\n\"",
    "\"\0\"",
    "\"\t\"",
    r#""\x""#,
    r#""\u00g0""#,
    r#"""x""#,
    "'x'",
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "-",
    "+1",
    ".5",
    "1.",
    "1e",
    "0x10",
    "1e999",
    "-1e999",
    "1_000",
    "True",
    "nil",
    "undefined",
    "",
    "GOOD GOOD",
    "[GOOD",
    "[GOOD,]",
    r#"{"x":1,"x":1}"#,
    r#"{"x":1,"\u0078":1}"#,
    r#"{"x":{"y":[{"z":1,"z":2}]}}"#,
    r#"{"x":1,}"#,
    "{x:1}",
    "/* */ GOOD",
];

/// All of them, those that are long too.
pub fn shapes() -> Vec<(Shape, String)> {
    let mut all: Vec<_> = FIXED
        .into_iter()
        .flat_map(|(shape, values)| values.iter().map(move |value| (shape, (*value).to_owned())))
        .chain(BROKEN.iter().map(|value| (Broken, (*value).to_owned())))
        .collect();
    all.push((Word, format!("{:?}", "x".repeat(255))));
    all.push((Nameless, format!("{:?}", "x".repeat(256))));
    all.push((Nameless, format!("{:?}", "ä".repeat(128))));
    all.push((Broken, format!("{}1{}", "[".repeat(33), "]".repeat(33))));
    all
}
