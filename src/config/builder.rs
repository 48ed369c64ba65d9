//! From the YAML parser's events to a [`Document`].

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::document::{Document, Kind, Node, NodeId, Segment, quotable};
use super::fault::{Findings, Mark, Severity};

/// How deep collections may lie in one another.
const MAX_DEPTH: usize = 32;

fn mark_of(marker: &Marker) -> Mark {
    Mark { line: marker.line().max(1), column: marker.col() + 1 }
}

/// The parser ends a last line that does not end itself, and may then complain of the next one: what
/// is told stands at the end of what there is.
fn within(text: &str, mark: Mark) -> Mark {
    let text = text.replace("\r\n", "\n");
    let lines: Vec<&str> = text.split(['\n', '\r']).collect();
    let end = lines.last().map_or(0, |line| line.chars().count());
    if mark.line <= lines.len() { mark } else { Mark { line: lines.len(), column: end + 1 } }
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

pub(super) struct Builder<'f> {
    document: Document,
    open: Vec<Open>,
    findings: &'f Findings,
}

impl<'f> Builder<'f> {
    pub(super) fn new(findings: &'f Findings) -> Self {
        Self { document: Document { nodes: Vec::new() }, open: Vec::new(), findings }
    }

    pub(super) fn build(mut self, text: &str) -> Option<Document> {
        let mut documents = 0;
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let message = format!("the YAML can't be read from here on: {}", error.info());
                    self.fault(within(text, mark_of(error.marker())), message);
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
