//! YAML as a tree whose every node knows its place. Repeated keys are found here, and what a
//! configuration has no use for (anchors, aliases, tags, several documents) is refused.

use std::collections::HashMap;
use std::fmt::Write as _;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::fault::{Findings, Mark, Severity};

/// The largest configuration file, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;
/// How deep collections may lie in one another.
const MAX_DEPTH: usize = 32;
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
    nodes: Vec<Node>,
}

struct Node {
    mark: Mark,
    /// Where its key stands.
    key_mark: Option<Mark>,
    parent: Option<NodeId>,
    segment: Segment,
    kind: Kind,
}

enum Segment {
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

/// The place behind a text.
fn end_of(text: &str) -> Mark {
    let last = text.rsplit('\n').next().unwrap_or_default();
    Mark { line: text.matches('\n').count() + 1, column: last.chars().count() + 1 }
}

/// A key such that it can't garble what is printed.
pub(super) fn quotable(key: &str) -> String {
    let mut quoted: String = key.chars().take(MAX_QUOTED).flat_map(char::escape_debug).collect();
    if key.chars().nth(MAX_QUOTED).is_some() {
        quoted.push('…');
    }
    quoted
}

fn mark_of(marker: &Marker) -> Mark {
    Mark { line: marker.line().max(1), column: marker.col() + 1 }
}

/// A collection that has not ended yet.
enum Open {
    Sequence(NodeId),
    Mapping { node: NodeId, seen: HashMap<String, Mark>, next: Next },
}

/// What comes next in a mapping.
enum Next {
    Key,
    /// `None` where the key was refused, so that its value goes nowhere.
    Value(Option<(String, Mark)>),
}

struct Builder<'f> {
    document: Document,
    open: Vec<Open>,
    findings: &'f Findings,
}

impl<'f> Builder<'f> {
    fn new(findings: &'f Findings) -> Self {
        Self { document: Document { nodes: Vec::new() }, open: Vec::new(), findings }
    }

    fn build(mut self, text: &str) -> Option<Document> {
        let mut documents = 0;
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let message = format!("the YAML can't be read from here on: {}", error.info());
                    self.fault(mark_of(error.marker()), message);
                    return None;
                }
            };
            if let Event::DocumentStart(_) = event {
                documents += 1;
                if documents > 1 {
                    let message = "a second document begins here: a configuration is one document";
                    self.fault(mark_of(&span.start), message);
                    break;
                }
            }
            self.take(event, span)?;
        }
        if self.document.nodes.is_empty() {
            self.fault(Mark::START, "the file is empty: start from config/minimal.yaml");
            return None;
        }
        Some(self.document)
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let mark = mark_of(&span.start);
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
            Event::Alias(_) => {
                let node = self.place(Kind::Refused, mark);
                self.fault_at(node, mark, "aliases (`*name`) are not taken: write the value out");
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                let node = if let Some(mapping) = self.take_key(&text, mark) {
                    mapping
                } else {
                    self.place(Kind::Scalar { text: text.into_owned(), is_plain }, mark)
                };
                self.refuse_decoration(node, anchor, tag.is_some(), mark);
            }
            Event::SequenceStart(anchor, tag) => {
                let node = self.place(Kind::Sequence(Vec::new()), mark);
                self.refuse_decoration(node, anchor, tag.is_some(), mark);
                self.enter(Open::Sequence(node), mark)?;
            }
            Event::MappingStart(anchor, tag) => {
                let node = self.place(Kind::Mapping(Vec::new()), mark);
                self.refuse_decoration(node, anchor, tag.is_some(), mark);
                self.enter(Open::Mapping { node, seen: HashMap::new(), next: Next::Key }, mark)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
        }
        Some(())
    }

    fn enter(&mut self, open: Open, mark: Mark) -> Option<()> {
        if self.open.len() == MAX_DEPTH {
            self.fault(mark, "collections lie too deep in one another here: no setting does");
            return None;
        }
        self.open.push(open);
        Some(())
    }

    fn fault(&self, mark: Mark, message: impl Into<String>) {
        self.findings.add(Severity::Fault, mark, String::new(), message.into());
    }

    fn fault_at(&self, node: NodeId, mark: Mark, message: &str) {
        let path = self.document.path(node);
        self.findings.add(Severity::Fault, mark, path, message.to_owned());
    }

    fn refuse_decoration(&self, node: NodeId, anchor: usize, is_tagged: bool, mark: Mark) {
        if anchor > 0 {
            self.fault_at(node, mark, "anchors (`&name`) are not taken: remove it");
        }
        if is_tagged {
            self.fault_at(node, mark, "tags (`!name`) are not taken: remove it");
        }
    }

    /// Takes a scalar as a key where one is due, and says of which mapping.
    fn take_key(&mut self, text: &str, mark: Mark) -> Option<NodeId> {
        let Some(Open::Mapping { node, seen, next: next @ Next::Key }) = self.open.last_mut()
        else {
            return None;
        };
        let node = *node;
        let first = seen.get(text).copied();
        if let Some(Mark { line, .. }) = first {
            *next = Next::Value(None);
            let path = self.document.path(node);
            let key = quotable(text);
            let message =
                format!("the key `{key}` stands here again, first on line {line}: keep one");
            self.findings.add(Severity::Fault, mark, path, message);
        } else {
            seen.insert(text.to_owned(), mark);
            *next = Next::Value(Some((text.to_owned(), mark)));
        }
        Some(node)
    }

    /// Adds a node where the next one is due.
    fn place(&mut self, kind: Kind, mark: Mark) -> NodeId {
        // A file of 1 MiB has fewer nodes than that.
        let id = NodeId(u32::try_from(self.document.nodes.len()).unwrap_or(u32::MAX));
        let (mut parent, mut segment, mut key_mark) = (None, Segment::None, None);
        match self.open.last_mut() {
            None => {}
            Some(Open::Sequence(node)) => {
                if let Some(Node { kind: Kind::Sequence(items), .. }) =
                    self.document.nodes.get_mut(node.0 as usize)
                {
                    segment = Segment::Index(items.len());
                    items.push(id);
                }
                parent = Some(*node);
            }
            Some(Open::Mapping { node, next, .. }) => {
                parent = Some(*node);
                match std::mem::replace(next, Next::Key) {
                    Next::Key => {
                        *next = Next::Value(None);
                        let message = "a key must be a single word: write `key: value`";
                        self.findings.add(
                            Severity::Fault,
                            mark,
                            self.document.path(*node),
                            message.to_owned(),
                        );
                    }
                    Next::Value(None) => {}
                    Next::Value(Some((key, at))) => {
                        if let Some(Node { kind: Kind::Mapping(entries), .. }) =
                            self.document.nodes.get_mut(node.0 as usize)
                        {
                            entries.push(id);
                        }
                        (segment, key_mark) = (Segment::Key(key), Some(at));
                    }
                }
            }
        }
        self.document.nodes.push(Node { mark, key_mark, parent, segment, kind });
        id
    }
}
