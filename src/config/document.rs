//! YAML as a tree whose every node knows its place. Repeated keys are found here, and what a
//! configuration has no use for (anchors, aliases, tags, several documents) is refused.

use std::fmt::Write as _;

use super::builder::Builder;
use super::fault::{Findings, Mark, Severity};

/// The largest configuration file, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;
/// How much of a key is quoted.
const MAX_QUOTED: usize = 60;

/// Names a node of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(pub(super) u32);

impl NodeId {
    pub(super) const ROOT: Self = Self(0);
}

/// The tree. Its nodes are in one list, so that dropping it does not recurse.
pub(super) struct Document {
    pub(super) nodes: Vec<Node>,
}

pub(super) struct Node {
    pub(super) mark: Mark,
    /// Where its key stands.
    pub(super) key_mark: Option<Mark>,
    pub(super) parent: Option<NodeId>,
    pub(super) segment: Segment,
    pub(super) kind: Kind,
}

/// What leads from a collection to a node in it.
pub(super) enum Segment {
    /// The root, or what can't be reached from it.
    None,
    Key(String),
    Index(usize),
}

/// What stands at a node.
pub(super) enum Kind {
    Scalar {
        text: String,
        is_plain: bool,
    },
    Sequence(Vec<NodeId>),
    Mapping(Vec<NodeId>),
    /// Something that was reported already.
    Refused,
}

/// What a scalar is by the YAML core schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    Text(&'a str),
    Switch(bool),
    Natural(u64),
    /// A number that is negative, broken or too large.
    Number,
    Nothing,
}

impl Kind {
    /// A quoted scalar is text; what a plain one is, the YAML library says.
    pub(super) fn scalar(&self) -> Option<Scalar<'_>> {
        use serde_yaml::Value;
        match self {
            Self::Scalar { text, is_plain: false } => Some(Scalar::Text(text)),
            Self::Scalar { text, is_plain: true } => Some(match serde_yaml::from_str(text) {
                Ok(Value::Null) => Scalar::Nothing,
                Ok(Value::Bool(value)) => Scalar::Switch(value),
                Ok(Value::Number(number)) => {
                    number.as_u64().map_or(Scalar::Number, Scalar::Natural)
                }
                Ok(
                    Value::String(_) | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_),
                )
                | Err(_) => Scalar::Text(text),
            }),
            Self::Sequence(_) | Self::Mapping(_) | Self::Refused => None,
        }
    }
}

impl Document {
    pub(super) fn kind(&self, node: NodeId) -> &Kind {
        self.nodes.get(node.0 as usize).map_or(&Kind::Refused, |node| &node.kind)
    }

    /// The key under which a node stands.
    pub(super) fn key(&self, node: NodeId) -> Option<&str> {
        match &self.nodes.get(node.0 as usize)?.segment {
            Segment::Key(key) => Some(key),
            Segment::Index(_) | Segment::None => None,
        }
    }

    /// Where a node's key stands, or the node itself where it has none.
    pub(super) fn key_mark(&self, node: NodeId) -> Mark {
        self.nodes
            .get(node.0 as usize)
            .map_or(Mark::START, |node| node.key_mark.unwrap_or(node.mark))
    }

    /// The place to name for a node: a scalar's own; a collection's key, since the collection may
    /// begin lines below it.
    pub(super) fn mark(&self, node: NodeId) -> Mark {
        match self.nodes.get(node.0 as usize) {
            Some(Node { mark, kind: Kind::Scalar { text, is_plain }, .. })
                if !text.is_empty() || !is_plain =>
            {
                *mark
            }
            _ => self.key_mark(node),
        }
    }

    /// Such as `applications[0].client_id`.
    pub(super) fn path(&self, node: NodeId) -> String {
        let mut segments = Vec::new();
        let mut next = self.nodes.get(node.0 as usize);
        while let Some(Node { parent, segment, .. }) = next {
            segments.push(segment);
            next = parent.and_then(|parent| self.nodes.get(parent.0 as usize));
        }
        let mut path = String::new();
        for segment in segments.into_iter().rev() {
            match segment {
                Segment::None => {}
                Segment::Index(index) => drop(write!(path, "[{index}]")),
                Segment::Key(key) => {
                    let dot = if path.is_empty() { "" } else { "." };
                    let _ = write!(path, "{dot}{}", quotable(key));
                }
            }
        }
        path
    }

    /// Reads a text. `None` where no tree can be made of it; what is wrong is in the findings.
    pub(super) fn parse(text: &[u8], findings: &Findings) -> Option<Self> {
        let fault = |mark, message: &str| {
            findings.add(Severity::Fault, mark, String::new(), message.to_owned());
        };
        if text.len() > MAX_BYTES {
            let message = "the file is larger than 1 MiB, which no configuration needs";
            fault(Mark::START, message);
            return None;
        }
        let text = match std::str::from_utf8(text) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => {
                let readable = text.get(..error.valid_up_to()).unwrap_or_default();
                let mark = end_of(&String::from_utf8_lossy(readable));
                fault(mark, "the file is not UTF-8 from here on: save it as UTF-8");
                return None;
            }
        };
        // YAML 1.2.2 §5.1, without the exceptions that nobody writes by hand.
        let forbidden = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        if let Some(at) = text.find(forbidden) {
            let mark = end_of(text.get(..at).unwrap_or_default());
            fault(mark, "a control character stands here, such as NUL: remove it");
            return None;
        }
        Builder::new(findings).build(text)
    }
}

/// The place behind a text. A carriage return alone ends a line, too (YAML 1.2.2 §5.4).
fn end_of(text: &str) -> Mark {
    let text = text.replace("\r\n", "\n");
    let last = text.rsplit(['\n', '\r']).next().unwrap_or_default();
    Mark { line: text.matches(['\n', '\r']).count() + 1, column: last.chars().count() + 1 }
}

/// A key such that it can't garble what is printed.
pub(super) fn quotable(key: &str) -> String {
    let mut quoted: String = key.chars().take(MAX_QUOTED).flat_map(char::escape_debug).collect();
    if key.chars().nth(MAX_QUOTED).is_some() {
        quoted.push('…');
    }
    quoted
}
